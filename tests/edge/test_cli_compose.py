"""`edge compose init`, and the compose files of this project, against the schema of the Compose specification."""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from edge import cli
from edge.cli_compose import FILES, OVERRIDE
from edge_certs.ca import LocalAuthority
from edge_certs.intermediate import Intermediate
from edge_certs.x509 import parse_chain
from tests.process.server import ROOT

SCHEMA = json.loads((ROOT / "tests/compose/compose-spec.json").read_text())
FILES_HERE = [ROOT / "compose.yaml", ROOT / "examples/compose/compose.yaml"]


def check(content: object) -> None:
    jsonschema.Draft201909Validator(SCHEMA).validate(content)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("EDGE_", "SSL_CERT")) or re.search("CERT|CA_BUNDLE|_CA|GRPC|CAFILE", name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("EDGE_HOME", str(tmp_path / "home"))
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return tmp_path / "home"


def init(*arguments: str, code: int = 0) -> None:
    assert cli.main(["compose", "init", *arguments]) == code


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    init(*arguments, code=2)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch("edge: [^\n]+\n", err)
    return err.removeprefix("edge: ").rstrip("\n")


def test_schema_refuses_what_is_no_compose_file() -> None:
    with pytest.raises(jsonschema.ValidationError):
        check({"services": {"web": {"comand": "edge"}}})


@pytest.mark.parametrize("path", FILES_HERE, ids=lambda path: str(path.relative_to(ROOT)))
def test_compose_file_keeps_to_the_specification_and_so_does_its_override(path: Path) -> None:
    check(yaml.safe_load(path.read_text()))
    shutil.copy(path, "compose.yaml")
    init()
    check(yaml.safe_load(Path(OVERRIDE).read_text()))


@pytest.mark.parametrize("path", FILES_HERE, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_service_is_built_from_the_dockerfile_and_is_published_on_loopback_only(path: Path) -> None:
    for service in yaml.safe_load(path.read_text())["services"].values():
        assert (path.parent / service["build"] / "Dockerfile").resolve() == ROOT / "Dockerfile"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.parametrize("name", FILES)
def test_files_are_written_beside_the_compose_file_and_the_key_of_the_root_is_in_none(
    name: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(name).write_text(FILES_HERE[1].read_text())
    init()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "written .edge/authority.pem",
        "written .edge/bundle.pem",
        "written .edge/roots.pem",
        "written compose.override.yaml",
    ]
    assert "service stock is https://stock.internal for the others" in lines
    now = datetime.now(UTC)
    authority = Intermediate.parse(Path(".edge/authority.pem").read_bytes(), now)
    assert 29 <= (authority.certificate.not_valid_after_utc - now).days <= 30
    [root] = parse_chain((home / "dev/root.pem").read_bytes())
    assert parse_chain(Path(".edge/roots.pem").read_bytes()) == [root]
    assert Path(".edge/bundle.pem").read_text().count("BEGIN CERTIFICATE") > 100
    assert Path(".edge/authority.pem").stat().st_mode & 0o777 == 0o600
    assert Path(".edge/.gitignore").read_text() == "*\n"
    secret = (home / "dev/root.key").read_bytes().splitlines()[1]
    assert not [path for path in Path().rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_containers_never_run_as_root(home: Path) -> None:
    shutil.copy(FILES_HERE[1], "compose.yaml")
    init()
    for service in yaml.safe_load(Path(OVERRIDE).read_text())["services"].values():
        user = int(service["user"].split(":")[0])
        assert user != 0
        assert Path(".edge/authority.pem").stat().st_uid == user


def test_again_it_renews_the_intermediate_by_the_same_root(home: Path) -> None:
    shutil.copy(FILES_HERE[1], "compose.yaml")
    init()
    first, override = Path(".edge/authority.pem").read_bytes(), Path(OVERRIDE).read_text()
    init()
    assert Path(".edge/authority.pem").read_bytes() != first
    assert Path(OVERRIDE).read_text() == override
    assert parse_chain(Path(".edge/authority.pem").read_bytes())[1:] == parse_chain(first)[1:]


def test_dry_run_writes_nothing_and_json_is_for_programs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(FILES_HERE[1], "compose.yaml")
    init("--dry-run")
    assert capsys.readouterr().out.startswith("would write .edge/authority.pem\n")
    assert sorted(path.name for path in Path().iterdir()) == ["compose.yaml"]
    assert not home.exists()
    init("--json")
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["edges"] == {"shop": "shop.internal", "stock": "stock.internal"}
    assert datetime.fromisoformat(found["valid_until"]) > datetime.now(UTC)


def test_roots_that_were_added_are_trusted_in_containers_too(home: Path) -> None:
    from edge_certs.trust.store import TrustStore

    now = datetime.now(UTC)
    corporate = LocalAuthority.open(home.with_name("corporate"), now).root_path.read_bytes()
    TrustStore(home).add(parse_chain(corporate), "corp", now, "")
    shutil.copy(FILES_HERE[1], "compose.yaml")
    init()
    [certificate] = parse_chain(corporate)
    assert certificate in parse_chain(Path(".edge/roots.pem").read_bytes())


def test_tags_of_composes_own_are_passed_over() -> None:
    Path("compose.yaml").write_text(
        "services:\n  web:\n    command: edge serve app:app\n    ports: !override ['1:1']\n"
    )
    init()
    assert "web" in yaml.safe_load(Path(OVERRIDE).read_text())["services"]


def test_override_of_somebody_elses_stays(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(FILES_HERE[1], "compose.yaml")
    Path(OVERRIDE).write_text("services: {}\n")
    assert refusal(capsys) == (
        "compose.override.yaml: not made by edge compose init, so it stays; move it to a file of another name, and "
        "name that with docker compose -f"
    )
    assert Path(OVERRIDE).read_text() == "services: {}\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no compose.yaml here; run it where that is, or name the file with --file"),
        ("", "compose file compose.yaml: no services in it; name a compose file with --file"),
        ("a: [", "compose file compose.yaml: not YAML: "),
        (
            "services:\n  db: {}\n",
            "compose file compose.yaml: no service runs edge, by its command or a label edge.dev; ",
        ),
    ],
)
def test_file_that_cannot_be_used_is_said_in_one_line(
    content: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        Path("compose.yaml").write_text(content)
    assert refusal(capsys).startswith(message)


def test_file_that_is_named_has_to_be_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, "--file", "no.yaml") == "compose file no.yaml: no such file; correct --file"


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compose"]) == 2
    assert "init" in capsys.readouterr().err
