import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given as examples
from hypothesis import settings as rules
from hypothesis import strategies as st

from edge import cli
from edge.config import TABLES, build_settings, find_given
from edge.config_toml import FileText, read_text
from edge.given import Given
from edge.origins import Value, _toml, as_text, as_toml, list_sites, list_values
from edge.toml_file import parse_document
from tests.edge.test_config import APP, BASES, VALUES

FILE = """\
[limits]
max_body = "10MiB"
queue = 3

[[site]]
hosts = "a.example"
hsts = true
cert = "a.pem"

[[site.route]]
app = "shop:app"
env = { TOKEN = "hush", "A" = "\\"\\u007f\\n" }

[[site.route]]
path = "/api"
upstream = ["http://127.0.0.1:1", "unix:api.sock"]
"""


SECRETS = {"acme_eab_key", "key_password"}


def text_of(lines: str) -> FileText:
    return read_text(parse_document("edge.toml", lines), TABLES)


def values_of(values: Mapping[str, object], environ: Mapping[str, str], text: FileText) -> list[Value]:
    return list(list_values(build_settings(values, environ, text), find_given(values, environ, text)))


def test_each_value_has_the_origin_that_counts() -> None:
    flags = {"max_headers": Given("7", "--max-headers ")}
    values = {item.key: item for item in values_of(flags, {"EDGE_QUEUE": "5"}, text_of(FILE))}
    shown = {key: as_text(values[key]) for key in ("max_headers", "queue", "max_body", "header_timeout", "app_timeout")}
    assert shown == {
        "max_headers": ("limits.max_headers", "7", "--max-headers"),
        "queue": ("limits.queue", "5", "EDGE_QUEUE"),
        "max_body": ("limits.max_body", '"10MiB"', "edge.toml:2"),
        "header_timeout": ("timeouts.header_timeout", "10s", "default"),
        "app_timeout": ("timeouts.app_timeout", "none", "default"),
    }
    assert [values[key].source for key in shown] == ["flag", "environment", "file", "default", "default"]
    assert values["max_body"].encode() == {"value": 10 * 2**20, "source": "file", "place": "edge.toml:2"}


def test_every_key_of_every_table_is_listed_once() -> None:
    listed = [(value.table, value.key) for value in values_of(APP, {}, FileText())]
    assert listed == [(name, key) for name, table in TABLES.items() for key in table]


@pytest.mark.parametrize("key", [key for key in VALUES if any(key in table for table in TABLES.values())])
def test_file_made_of_a_value_says_the_same(key: str) -> None:
    base = {**APP, **next((base for prefix, base in BASES.items() if key.startswith(prefix)), {})}
    if key == "app":
        del base["app"]
    variables = {f"EDGE_{key.upper()}": str(VALUES[key][0])}
    lines = "\n".join(as_toml(values_of(base, variables, FileText()), []))
    if key in SECRETS:
        assert f"# {key}: a secret, from EDGE_{key.upper()}" in lines
    else:
        secrets = {name: base[name] for name in SECRETS & base.keys()}
        assert build_settings(secrets, {}, text_of(lines)) == build_settings(base, variables)


def test_sites_say_the_same_again() -> None:
    text = text_of(FILE)
    lines = "\n".join(as_toml(values_of({}, {}, text), list_sites(text)))
    assert build_settings({}, {}, text_of(lines)) == build_settings({}, {}, text)


def test_secrets_and_variables_of_workers_are_not_shown() -> None:
    values = values_of({"app": "shop:app", "key_password": "hush", "env": ["TOKEN=hush"]}, {}, FileText())
    rows = {value.key: as_text(value) for value in values}
    assert rows["key_password"] == ("tls.key_password", '"***"', "key_password")
    assert rows["env"] == ("application.env", '["TOKEN=***"]', "env")
    own, (route, _) = list_sites(text_of(FILE))[0]
    assert as_text(own[0], "site[1]") == ("site[1].hosts", '"a.example"', "edge.toml:6")
    assert as_text(route[1])[1] == '["TOKEN=***", "A=***"]'
    assert "hush" not in json.dumps([value.encode() for value in (*values, *own, *route)])


@examples(
    st.recursive(
        st.text(st.characters(exclude_categories=["Cs"])) | st.booleans() | st.integers(-(2**63), 2**63 - 1),
        lambda items: st.lists(items) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), items),
        max_leaves=6,
    )
)
@rules(deadline=None)
def test_values_are_written_as_toml_reads_them(value: object) -> None:
    assert tomllib.loads(f"v = {_toml(value)}") == {"v": value}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "edge.toml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_QUEUE", "5")
    return tmp_path


def test_command_shows_what_the_file_of_the_directory_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--max-headers", "7"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["limits.max_body", '"10MiB"', "edge.toml:2"] in rows
    assert ["limits.queue", "5", "EDGE_QUEUE"] in rows
    assert ["limits.max_headers", "7", "--max-headers"] in rows
    assert ["site[1].route[2].path", '"/api"', "edge.toml:15"] in rows


def test_command_gives_the_same_as_json_and_as_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["limits"]["queue"] == {"value": 5, "source": "environment", "place": "EDGE_QUEUE"}
    assert told["site"][0]["hosts"]["value"] == ["a.example"]
    assert told["site"][0]["route"][1]["upstream"]["value"] == ["http://127.0.0.1:1", "unix:api.sock"]
    assert cli.main(["config", "--format", "toml"]) == 0
    (folder / "again.toml").write_text(capsys.readouterr().out)
    assert cli.main(["config", "--json", "-c", "again.toml"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["limits"]["max_body"]["value"] == told["limits"]["max_body"]["value"]
    assert again["site"][0]["hosts"]["place"].startswith("again.toml:")


def test_command_refuses_what_serving_would_refuse(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "edge.toml").write_text("[limits]\nqueue = -1\nmax_body = 'x'\n")
    assert cli.main(["config"]) == 2
    assert [line.split(" = ")[0] for line in capsys.readouterr().err.splitlines()] == [
        "edge: edge.toml:3: limits.max_body"
    ]
