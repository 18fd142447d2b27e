from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_certs.errors import CertificateError
from edge_certs.trust.formats import FORMATS, encode_variables
from edge_certs.trust.variables import Trust

# What shells, systemd, compose and YAML each read as their own.
HARD = '/srv/it\'s "50%" $HOME \\n `id`;#/edge'
PLAIN = "/var/lib/edge"


def trust(folder: str, *, has_extra: bool = True) -> Trust:
    bundle, extra = Path(folder, "bundle.pem"), Path(folder, "extra.pem")
    variables = {"SSL_CERT_FILE": str(bundle), "EDGE_TRUST_MERGED": f"{folder}/own.pem"}
    if has_extra:
        variables["NODE_EXTRA_CA_CERTS"] = str(extra)
    return Trust(variables, bundle, extra if has_extra else None, ())


def lines(kind: str, folder: str) -> dict[str, str]:
    found = encode_variables(trust(folder), kind).splitlines()
    return {name: line for line in found for name in trust(folder).variables if name in line}


def evaluate(shell: str, code: str) -> str:
    command = shutil.which(shell)
    if command is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([command, "-c", code], env={"PATH": "/bin"}, capture_output=True, check=True, timeout=30)
    return done.stdout.decode()


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh"])
def test_shell_reads_what_was_meant(shell: str) -> None:
    code = encode_variables(trust(HARD), "sh") + '\nprintf %s "$SSL_CERT_FILE|$NODE_EXTRA_CA_CERTS"'
    assert evaluate(shell, code) == f"{HARD}/bundle.pem|{HARD}/extra.pem"


@pytest.mark.parametrize(("shell", "kind"), [("fish", "fish"), ("pwsh", "powershell")])
def test_other_shell_reads_what_was_meant(shell: str, kind: str) -> None:
    shown = 'printf %s "$SSL_CERT_FILE"' if shell == "fish" else "[Console]::Write($env:SSL_CERT_FILE)"
    assert evaluate(shell, encode_variables(trust(HARD), kind) + "\n" + shown) == f"{HARD}/bundle.pem"


@pytest.mark.parametrize(
    ("kind", "folder", "expected"),
    [
        ("sh", PLAIN, "export SSL_CERT_FILE=/var/lib/edge/bundle.pem"),
        ("fish", "/a'b\\c", "set -gx SSL_CERT_FILE '/a\\'b\\\\c/bundle.pem'"),
        ("powershell", "/a'b", "$env:SSL_CERT_FILE = '/a''b/bundle.pem'"),
        ("dotenv", PLAIN, "SSL_CERT_FILE=/var/lib/edge/bundle.pem"),
        ("dotenv", "/a $b", "SSL_CERT_FILE='/a $b/bundle.pem'"),
        ("dotenv", "/a'b", 'SSL_CERT_FILE="/a\'b/bundle.pem"'),
        ("systemd", PLAIN, 'Environment="SSL_CERT_FILE=/var/lib/edge/bundle.pem"'),
        ("systemd", '/5% "x\\', 'Environment="SSL_CERT_FILE=/5%% \\"x\\\\/bundle.pem"'),
        ("github", "/a $b", "SSL_CERT_FILE=/a $b/bundle.pem"),
        ("docker", PLAIN, "--env SSL_CERT_FILE=/etc/ssl/edge/bundle.pem"),
        ("compose", HARD, '    SSL_CERT_FILE: "/etc/ssl/edge/bundle.pem"'),
    ],
)
def test_variable_is_written_as_its_reader_wants_it(kind: str, folder: str, expected: str) -> None:
    assert lines(kind, folder)["SSL_CERT_FILE"] == expected


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_format_has_every_variable_once_and_no_line_end_at_its_end(kind: str) -> None:
    text = encode_variables(trust(PLAIN), kind)
    expected = {"SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"}
    # The operator's own file is not mounted into a container.
    expected |= {"EDGE_TRUST_MERGED"} if kind not in ("docker", "compose") else set()
    assert {name for name in trust(PLAIN).variables if text.count(name) == 1} == expected
    assert text == text.rstrip()


def test_json_is_the_variables() -> None:
    assert json.loads(encode_variables(trust(HARD), "json")) == trust(HARD).variables


def test_systemd_text_is_a_whole_drop_in() -> None:
    assert encode_variables(trust(PLAIN), "systemd").startswith("[Service]\nEnvironment=")


@pytest.mark.parametrize("has_extra", [False, True])
def test_container_gets_the_files_that_its_variables_name(has_extra: bool) -> None:
    found = encode_variables(trust(PLAIN, has_extra=has_extra), "docker").split()
    mounts = [word for option, word in itertools.pairwise(found) if option == "--mount"]
    names = ["bundle", "extra"] if has_extra else ["bundle"]
    assert mounts == [f"type=bind,src={PLAIN}/{name}.pem,dst=/etc/ssl/edge/{name}.pem,readonly" for name in names]
    assert ("/etc/ssl/edge/extra.pem" in " ".join(found)) is has_extra


def test_compose_fragment_is_yaml_with_dollars_doubled() -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    read = yaml.safe_load(encode_variables(trust(HARD), "compose"))["x-edge-trust"]
    assert read["environment"]["NODE_EXTRA_CA_CERTS"] == "/etc/ssl/edge/extra.pem"
    assert [volume["source"].replace("$$", "$") for volume in read["volumes"]] == [
        f"{HARD}/bundle.pem",
        f"{HARD}/extra.pem",
    ]


def test_path_that_docker_would_split_is_refused() -> None:
    with pytest.raises(CertificateError, match="no option of docker can name it without quotes; set EDGE_HOME"):
        encode_variables(trust("/a b"), "docker")


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_path_with_a_line_end_is_refused(kind: str) -> None:
    with pytest.raises(CertificateError, match="not printable; set EDGE_HOME to another folder"):
        encode_variables(trust("/a\nEVIL=1"), kind)
