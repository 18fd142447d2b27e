"""What a file is, by its name."""

from __future__ import annotations

import pytest

from edge.static.mime import is_compressible, is_page, media_type


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("index.html", b"text/html; charset=utf-8"),
        ("INDEX.HTM", b"text/html; charset=utf-8"),
        ("app.js", b"text/javascript; charset=utf-8"),
        ("app.min.mjs", b"text/javascript; charset=utf-8"),
        ("style.css", b"text/css; charset=utf-8"),
        ("notes.txt", b"text/plain; charset=utf-8"),
        ("data.csv", b"text/csv; charset=utf-8"),
        ("data.json", b"application/json"),
        ("app.js.map", b"application/json"),
        ("site.webmanifest", b"application/manifest+json"),
        ("logo.svg", b"image/svg+xml"),
        ("photo.jpeg", b"image/jpeg"),
        ("photo.webp", b"image/webp"),
        ("font.woff2", b"font/woff2"),
        ("code.wasm", b"application/wasm"),
        ("film.mp4", b"video/mp4"),
        ("paper.pdf", b"application/pdf"),
        ("all.tar.gz", b"application/gzip"),
        ("thing.unheard-of", b"application/octet-stream"),
        ("README", b"application/octet-stream"),
        (".gz", b"application/octet-stream"),
        ("", b"application/octet-stream"),
    ],
)
def test_type(name: str, kind: bytes) -> None:
    assert media_type(name) == kind


def test_page_is_html() -> None:
    assert is_page(media_type("a.html"))
    assert not is_page(media_type("a.txt"))


@pytest.mark.parametrize(
    ("name", "may"), [("a.css", True), ("a.svg", True), ("a.json", True), ("a.png", False), ("a.woff2", False)]
)
def test_pictures_and_archives_are_not_compressed_again(name: str, may: bool) -> None:
    assert is_compressible(media_type(name)) is may
