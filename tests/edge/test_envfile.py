"""Variables out of files: who wins, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.envfile import read_env_files, read_settings
from edge.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    path.write_text("# a comment\nEDGE_APP=shop:app\nexport EDGE_QUEUE=5\nGREETING='hello ${EDGE_QUEUE}'\n\nEMPTY\n")
    return path


def test_file_gives_options_and_variables(file: Path) -> None:
    settings = read_settings({"env_file": [file]}, {})
    assert settings.application.target == "shop:app"
    assert settings.limits.queue == 5
    assert settings.variables == {"EDGE_APP": "shop:app", "EDGE_QUEUE": "5", "GREETING": "hello 5"}


def test_environment_is_stronger_than_the_file_and_flags_are_stronger_still(file: Path) -> None:
    environ = {"EDGE_ENV_FILE": str(file), "EDGE_QUEUE": "6"}
    assert read_settings({}, environ).limits.queue == 6
    assert read_settings({"queue": "7"}, environ).limits.queue == 7


def test_later_file_wins(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.env"
    other.write_text("EDGE_QUEUE=9\n")
    assert read_env_files([file, other])["EDGE_QUEUE"] == "9"
    assert read_env_files([other, file])["EDGE_QUEUE"] == "5"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file or directory; use a file of NAME=VALUE lines"),
        (b"\xff", "not UTF-8; use a file"),
        (b"A=1\n= 2\n", ":2: not an assignment; use NAME=VALUE, and # before a comment"),
    ],
)
def test_file_that_cannot_be_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "bad.env"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_env_files([path])
