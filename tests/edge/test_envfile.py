"""Variables out of files: who wins, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.envfile import enter_folder, read_env_files, read_settings, read_sources, with_file_here, without_secrets
from edge.errors import ConfigError
from edge.given import Given


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


TOML = """\
[application]
app = "shop:app"
env_file = "all.env"

[limits]
queue = 3
"""


def test_named_file_is_the_weakest_and_says_where_env_files_are(tmp_path: Path) -> None:
    (tmp_path / "all.env").write_text("EDGE_MAX_HEADERS=7\nEDGE_QUEUE=4\n")
    (tmp_path / "edge.toml").write_text(TOML + "max_headers = 5\n")
    settings = read_settings({"config": str(tmp_path / "edge.toml")}, {"EDGE_QUEUE": "6"})
    assert settings.application.env_files == (tmp_path / "all.env",)
    assert (settings.limits.queue, settings.limits.max_headers) == (6, 7)
    named = read_settings({}, {"EDGE_CONFIG": str(tmp_path / "edge.toml")})
    assert named.limits.queue == 4


def test_workers_of_a_route_have_its_own_env_files_besides(tmp_path: Path) -> None:
    (tmp_path / "all.env").write_text("A=all\nB=all\n")
    (tmp_path / "own.env").write_text("B=own\nEDGE_QUEUE=9\n")
    (tmp_path / "edge.toml").write_text(
        '[application]\nenv_file = "all.env"\n[[site]]\n'
        '[[site.route]]\napp = "shop:app"\nenv_file = ["all.env", "own.env"]\n'
        '[[site.route]]\npath = "/old"\nredirect = "/"\n'
    )
    settings = read_settings({"config": str(tmp_path / "edge.toml")}, {})
    assert settings.variables == {"A": "all", "B": "all"}
    (plan,) = settings.applications.values()
    # What is for one application's workers says nothing of the server.
    assert plan.variables == {"B": "own", "EDGE_QUEUE": "9"}
    assert settings.limits.queue == 1024


def test_sources_are_told_with_the_settings(tmp_path: Path) -> None:
    (tmp_path / "all.env").write_text("EDGE_MAX_HEADERS=7\n")
    (tmp_path / "edge.toml").write_text(TOML)
    flags = {"config": Given(str(tmp_path / "edge.toml"), "--config "), "max_body": Given("1", "--max-body ")}
    settings, given, text = read_sources(flags, {})
    assert settings.limits.max_headers == 7
    assert [given[key].source for key in ("max_body", "max_headers", "queue")] == ["flag", "environment", "file"]
    assert text.given["queue"].name == f"{tmp_path}/edge.toml:6: limits.queue"


def test_commands_find_the_file_of_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert with_file_here({}, {}) == {}
    (tmp_path / "edge.toml").write_text(TOML)
    assert with_file_here({}, {})["config"].value == "edge.toml"
    assert with_file_here({}, {"EDGE_CONFIG": "other.toml"}) == {}
    named = {"config": Given("other.toml", "--config ")}
    assert with_file_here(named, {}) == named


def test_directory_to_go_to_is_entered_before_a_file_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    enter_folder({}, {})
    assert Path.cwd() == tmp_path
    enter_folder({"chdir": "there"}, {})
    assert Path.cwd() == tmp_path / "there"
    with pytest.raises(ConfigError, match="chdir"):
        enter_folder({"chdir": "nosuch"}, {})


def test_wrong_value_of_what_is_read_first_is_refused_as_any_other() -> None:
    with pytest.raises(ConfigError, match=r"^config=7: not a path"):
        read_settings({"app": "shop:app", "config": 7}, {})


def test_secret_of_the_operator_stays_with_the_master() -> None:
    assert without_secrets({"EDGE_ACME_EAB_KEY": "a2V5", "PATH": "/bin"}) == {"PATH": "/bin"}
