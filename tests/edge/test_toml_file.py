from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.toml_file import parse_document, read_document


def refusal(name: str, text: str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        read_document(name) if text is None else parse_document(name, text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_file_is_read_with_its_values_and_their_places(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_bytes(b'[limits]\r\nmax_body = "1MiB"\r\n')
    document = read_document(str(file))
    assert document.values == {"limits": {"max_body": "1MiB"}}
    assert document.place(("limits", "max_body")) == f"{file}:2"
    assert document.folder == str(tmp_path)


def test_folder_of_a_file_named_alone_is_the_current_directory() -> None:
    assert parse_document("edge.toml", "").folder == ""
    assert parse_document("conf/edge.toml", "").folder == "conf"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a = 1\nb 2\n", 2, "expected '=' after a key in a key/value pair"),
        ("a = 1\n\na = 2\n", 3, "cannot overwrite a value"),
        ('a = 1\nb = "open', 2, "unterminated string"),
        ("[a", 1, "expected ']' at the end of a table declaration"),
        ("a = 1\n\n[b", 3, "expected ']' at the end of a table declaration"),
    ],
)
def test_text_that_is_not_toml_is_refused_with_its_line(text: str, line: int, reason: str) -> None:
    assert refusal("edge.toml", text) == f"edge.toml:{line}: not TOML: {reason}; see https://toml.io"


def test_end_of_nothing_is_the_first_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal("edge.toml", "[").startswith("edge.toml:1: not TOML: ")


def test_nesting_without_end_is_refused() -> None:
    message = refusal("edge.toml", "a = " + "[" * 100_000)
    assert message == "edge.toml: lists and tables within one another too deep; use fewer levels"


def test_bytes_that_are_not_utf_8_are_refused_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_bytes(b"a = 1\nb = '\xe4'\n")
    assert refusal(str(file)) == f"{file}:2: not UTF-8; save it as UTF-8"


def test_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert refusal(f"{tmp_path}/no.toml") == f"{tmp_path}/no.toml: no such file or directory; use a file like edge.toml"
    assert refusal(str(tmp_path)) == f"{tmp_path}: is a directory; use a file like edge.toml"
