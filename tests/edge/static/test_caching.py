"""How long a file may be kept."""

from __future__ import annotations

import pytest

from edge.static.caching import IMMUTABLE, REVALIDATE, cache_control, is_hashed


@pytest.mark.parametrize(
    "name",
    [
        "app.3f2a9c1b.js",
        "main.3f2a9c1b.chunk.js",
        "main-3f2a9c1b.css",
        "runtime~main.0a1b2c3d4e5f.js",
        "2.3f2a9c1b.chunk.js",
        "base.5af66c1b1797.css",  # Django
        "logo.d41d8cd98f00b204e9800998ecf8427e.svg",
        "app.3f2a9c1b.js.map",
        "file_3f2a9c1b.pdf",
        "index-BX3k9_dQ.js",  # Vite
        "index-D1wrgTda.css",
        "vendor-Ck8-2xYz.mjs",
        "chunk-4WRXFKO2.js",  # esbuild
        "index-BX3k9_dQ.js.map",
        "inter-C1zNP0d9.woff2",
    ],
)
def test_hash_is_seen(name: str) -> None:
    assert is_hashed(name)


@pytest.mark.parametrize(
    "name",
    [
        "app.js",
        "jquery-3.7.1.min.js",
        "report.20261121.pdf",  # a date
        "backup-20261121.zip",
        "the.deadbeef.txt",  # a word
        "the.facade.js",
        "bootstrap-material.js",
        "my-DatePick.js",
        "my-Summary2.js",
        "my-RELEASE1.js",
        "my-version2.js",
        "my-my_Doc12.js",
        "report-Ab3dE5gH.pdf",  # no bundler writes that
        "x-Ab3dE5g.js",  # seven characters
        "3f2a9c1b.js",  # nothing before it
        "3f2a9c1b",
        "app.3f2a9c1b",
        "",
    ],
)
def test_what_may_be_a_word_or_a_number_is_no_hash(name: str) -> None:
    assert not is_hashed(name)


@pytest.mark.parametrize(
    ("name", "is_page", "max_age", "immutable", "value"),
    [
        ("app.3f2a9c1b.js", False, None, True, IMMUTABLE),
        ("app.3f2a9c1b.js", False, 60, True, IMMUTABLE),
        ("app.3f2a9c1b.js", False, 60, False, b"public, max-age=60"),
        ("app.js", False, None, True, REVALIDATE),
        ("app.js", False, 0, True, b"public, max-age=0"),
        ("index.html", True, 60, True, REVALIDATE),
        ("index.3f2a9c1b.html", True, None, True, REVALIDATE),
    ],
)
def test_value(name: str, is_page: bool, max_age: int | None, immutable: bool, value: bytes) -> None:
    assert cache_control(name, is_page=is_page, max_age=max_age, immutable=immutable) == value
