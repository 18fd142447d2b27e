"""`edge trust doctor` on machines with one thing wrong each; and its command, typed in that very shell, mends it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.certs.forge import AUTHORITY, forge
from tests.process.server import DEADLINE, clean_environment, serving, wait_until

APPLICATION = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""
# Commands that are for the whole machine: no test types them outside of a throw-away one.
MACHINE = re.compile(r"pip config --(global|site)|git config --system|apt-get|update-ca|pip install")
NOTHING: Mapping[str, str] = {}
# A certifi that puts another module in its own place, as some lazy-import packages do.
STUBBORN = """
import sys, types
module = types.ModuleType("certifi")
module.where = lambda: "/elsewhere.pem"
sys.modules["certifi"] = module
"""


@dataclass(frozen=True)
class Shell:
    """A shell in `folder`, which has an `edge` on its path, a home for it, and the root of a company."""

    folder: Path
    environ: dict[str, str]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def type(self, script: str, *, environ: Mapping[str, str] = NOTHING, wrapper: tuple[str, ...] = ()) -> str:
        """Return what the commands print; what they say when they fail fails the test."""
        done = subprocess.run(
            [*wrapper, "bash", "-c", script],
            cwd=self.folder,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=3 * DEADLINE,
            check=False,
        )
        assert done.returncode in (0, 1), done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def doctor(self, *, environ: Mapping[str, str] = NOTHING) -> Any:
        return json.loads(self.type("edge trust doctor --json", environ=environ))

    def finding(self, code: str, *, environ: Mapping[str, str] = NOTHING) -> Any:
        """Return the one finding of that code."""
        report = self.doctor(environ=environ)
        [finding] = [item for item in report["findings"] if item["code"] == code]
        assert (report["broken"] > 0) or finding["weight"] == "warning"
        return finding

    def mend(self, *codes: str, environ: Mapping[str, str] = NOTHING) -> list[Any]:
        """Type the commands of the findings of these codes, and see that they are gone then, in the same shell."""
        findings = [item for item in self.doctor(environ=environ)["findings"] if item["code"] in codes]
        assert {item["code"] for item in findings} == set(codes)
        assert not [item["command"] for item in findings if MACHINE.search(item["command"])]
        commands = "".join(f"{{ {item['command']}; }} >&2 || exit 9\n" for item in findings)
        after = json.loads(self.type(f"{commands}edge trust doctor --json", environ=environ))
        assert not set(codes) & {item["code"] for item in after["findings"]}
        return findings


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    if shutil.which("bash") is None:
        pytest.skip("needs the tool bash")
    program = tmp_path / "bin/edge"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m edge "$@"\n')
    program.chmod(0o755)
    authority = trustme.CA(organization_name="Corp")
    authority.cert_pem.write_to_path(str(tmp_path / "corp.pem"))
    # Neither the machine's own settings of git nor those of pip.
    environ = clean_environment(EDGE_HOME=str(tmp_path / "home"), HOME=str(tmp_path), GIT_CONFIG_NOSYSTEM="1")
    environ["PIP_CONFIG_FILE"] = "/dev/null"
    return Shell(tmp_path, {**environ, "PATH": f"{program.parent}:{environ['PATH']}"})


def corp_der(shell: Shell) -> bytes:
    certificate = x509.load_pem_x509_certificate((shell.folder / "corp.pem").read_bytes())
    return certificate.public_bytes(Encoding.DER)


def test_machine_with_nothing_wrong_is_told_so_and_exits_with_0(shell: Shell) -> None:
    report = shell.doctor()
    assert report["broken"] == 0
    assert {"certifi"} <= {place["name"] for place in report["places"]} <= {"system", "certifi", "local"}
    [certifi] = [place for place in report["places"] if place["name"] == "certifi"]
    assert certifi["public"] > 50
    assert shell.type("edge trust doctor >/dev/null; echo $?") == "0\n"


def test_broken_machine_exits_with_1_and_each_command_stands_below_its_finding(shell: Shell) -> None:
    shown = shell.type("edge trust doctor; echo $?", environ={"PIP_CERT": "/nosuch.pem"}).splitlines()
    assert shown[-1] == "1"
    index = shown.index("broken: PIP_CERT: '/nosuch.pem': no such file")
    assert shown[index + 1] == "  unset PIP_CERT"
    [row] = [line for line in shown if line.startswith("PIP_CERT ")]
    assert row.split() == ["PIP_CERT", "/nosuch.pem", "no", "such", "file"]


def test_variables_that_are_wrong_are_mended_by_their_commands(shell: Shell) -> None:
    (shell.folder / "corp.der").write_bytes(corp_der(shell))
    (shell.folder / "empty.pem").touch()
    (shell.folder / "folder").mkdir()
    shutil.copy(shell.folder / "corp.pem", shell.folder / "folder")
    old = forge(extensions=[AUTHORITY], dates=(datetime(2019, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)))
    (shell.folder / "expired.pem").write_bytes(old.pem)
    wrong = {
        "missing": ("REQUESTS_CA_BUNDLE", "nosuch.pem"),
        "no-public-roots": ("SSL_CERT_FILE", "corp.pem"),
        "der": ("AWS_CA_BUNDLE", "corp.der"),
        "no-certificates": ("PIP_CERT", "empty.pem"),
        "names-a-folder": ("CURL_CA_BUNDLE", "folder"),
        "folder-not-hashed": ("SSL_CERT_DIR", "folder"),
        "verification-off": ("NODE_TLS_REJECT_UNAUTHORIZED", "0"),
        "merged-file-gone": ("EDGE_TRUST_MERGED", "/nosuch.pem"),
        "expired-root": ("NODE_EXTRA_CA_CERTS", "expired.pem"),
    }
    findings = shell.mend(*wrong, environ=dict(wrong.values()))
    assert {item["code"]: item["subject"] for item in findings} == {code: name for code, (name, _) in wrong.items()}
    [anchor] = json.loads(shell.type("edge trust list --json"))["anchors"]
    assert anchor["subject"].endswith("O=Corp")


def test_variable_that_lacks_what_was_added_is_mended_by_those_of_edge(shell: Shell) -> None:
    shell.type("edge trust bundle -o public.pem && edge trust add corp.pem")
    environ = dict.fromkeys(("SSL_CERT_FILE", "GIT_SSL_CAINFO"), str(shell.folder / "public.pem"))
    [finding] = shell.mend("lacks-added-roots", environ=environ)
    assert finding["subject"] == "SSL_CERT_FILE, GIT_SSL_CAINFO"


def test_edges_own_folder_is_mended_by_the_commands(shell: Shell) -> None:
    shell.type("edge trust add corp.pem && edge trust env")
    folder = shell.home / "trust"
    leftover, bundle = folder / ".state.json.abcdefgh.tmp", folder / "bundle.pem"
    leftover.touch()
    (folder / "anchors").chmod(0o777)
    content = bundle.read_bytes()
    bundle.write_bytes(content[: content.rindex(b"-----BEGIN")])
    shell.mend("leftover", "writable-by-others", "stale-bundle")
    assert not leftover.exists()
    assert (folder / "anchors").stat().st_mode & 0o777 == 0o755
    assert bundle.read_bytes() == content


def test_looking_changes_nothing(shell: Shell) -> None:
    shell.type("edge trust add corp.pem")
    before = {path: path.stat().st_mtime_ns for path in shell.home.rglob("*")}
    shell.doctor(environ={"SSL_CERT_FILE": "corp.pem"})
    assert {path: path.stat().st_mtime_ns for path in shell.home.rglob("*")} == before


@pytest.mark.parametrize("name", ["state.json", "installed.json"])
def test_damaged_store_is_set_aside_by_the_command(name: str, shell: Shell) -> None:
    shell.type("edge trust add corp.pem")
    (shell.home / "trust" / name).write_text("{")
    shell.mend("store-damaged")
    shutil.rmtree(shell.home / "trust", ignore_errors=True)
    assert shell.type("edge trust add corp.pem").startswith("added ")


def test_certifi_that_escapes_the_hook_is_found(shell: Shell) -> None:
    package = shell.folder / "rooms/certifi"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STUBBORN)
    environ = {"PYTHONPATH": f"{package.parent}:{shell.environ['PYTHONPATH']}"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(shell.home)],
        env={**shell.environ, **environ},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    assert json.loads(done.stdout) == ["certifi-hook-not-active"]


# Not by the command line, whose own process needs a certifi that works.
PROBE = """
import json, os, sys
from edge.cli_trust.doctor import _hook
from edge_certs.trust.doctor import diagnose_hook
print(json.dumps([item.code for item in diagnose_hook(_hook, os.environ, sys.argv[1])]))
"""


def test_truststore_that_is_injected_at_the_start_of_python_is_found(shell: Shell) -> None:
    room = shell.folder / "rooms"
    room.mkdir()
    (room / "sitecustomize.py").write_text("import truststore\ntruststore.inject_into_ssl()\n")
    environ = {"PYTHONPATH": f"{room}:{shell.environ['PYTHONPATH']}"}
    assert shell.finding("ssl-replaced", environ=environ)["text"].startswith("ssl.SSLContext is truststore")


def test_worker_from_before_a_root_was_added_is_recycled_by_the_command(shell: Shell) -> None:
    # In the shell's folder, whose home is that of the server too.
    with serving(shell.folder, APPLICATION) as server:
        [before] = server.workers()
        shell.type("edge trust add corp.pem && edge trust env")
        [finding] = shell.mend("worker-with-old-roots")
        assert finding["subject"] == f"worker {before}"
        wait_until(lambda: server.workers() and before not in server.workers(), "another worker")


def test_root_that_vanished_from_a_browsers_database_is_installed_again_by_the_command(shell: Shell) -> None:
    if shutil.which("certutil") is None:
        pytest.skip("needs the tool certutil (libnss3-tools)")
    shell.type("edge trust add corp.pem --to nss --yes")
    [database] = shell.folder.rglob("cert9.db")
    shutil.rmtree(database.parent)
    [finding] = shell.mend("installed-and-gone")
    assert finding["subject"] == "nss"
    assert [item["added"] for item in shell.doctor()["stores"] if item["target"] == "nss"] == [1]


def test_settings_of_git_and_pip_are_mended_by_their_commands(shell: Shell) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs the tool git")
    (shell.folder / ".gitconfig").write_text("[http]\n sslVerify = false\n sslCAInfo = nosuch.pem\n")
    configuration = shell.folder / ".config/pip/pip.conf"
    configuration.parent.mkdir(parents=True)
    configuration.write_text("[global]\ncert = corp.pem\ntimeout = 9\n[install]\ntrusted-host = a.example\n")
    del shell.environ["PIP_CONFIG_FILE"]
    found = {(item["code"], item["subject"]) for item in shell.doctor()["findings"]}
    assert found >= {
        ("verification-off", "git http.sslVerify"),
        ("missing", "git http.sslCAInfo"),
        ("no-public-roots", "pip cert"),
        ("verification-off", "pip trusted-host"),
    }
    shell.mend("verification-off", "missing", "no-public-roots")
    assert configuration.read_text().split() == ["[global]", "timeout", "=", "9"]
    assert "ssl" not in (shell.folder / ".gitconfig").read_text()


LOCAL = "/usr/local/share/ca-certificates"
THROW_AWAY = f"""
set -e
mount --bind local {LOCAL}
mount --bind certs /etc/ssl/certs
mount --bind hooks /etc/ca-certificates/update.d
update-ca-certificates >/dev/null 2>&1
cp corp.pem {LOCAL}/ignored.pem
cp corp.der {LOCAL}/der.crt
cat one.pem two.pem > {LOCAL}/several.crt
edge trust doctor --json > before.json || true
python3 -c '
import json
for item in json.load(open("before.json"))["findings"]:
    if item["code"].startswith("local-"):
        print(item["command"])
' > mend.sh
sh -e mend.sh >&2
edge trust doctor --json > after.json || true
cp /etc/ssl/certs/ca-certificates.crt bundle.pem
"""


def test_administrators_files_are_mended_by_their_commands_in_a_throw_away_store(shell: Shell) -> None:
    if shutil.which("unshare") is None or shutil.which("update-ca-certificates") is None or os.geteuid() != 0:
        pytest.skip("needs unshare and update-ca-certificates, as root")
    for name in ("local", "certs", "hooks"):
        (shell.folder / name).mkdir()
    (shell.folder / "corp.der").write_bytes(corp_der(shell))
    for name in ("one", "two"):
        trustme.CA().cert_pem.write_to_path(str(shell.folder / f"{name}.pem"))
    machine = Path("/etc/ssl/certs/ca-certificates.crt").read_bytes()
    shell.type(THROW_AWAY, wrapper=("unshare", "--mount", "--propagation", "private"))
    codes = [
        sorted(item["code"] for item in json.loads((shell.folder / name).read_text())["findings"] if _is_local(item))
        for name in ("before.json", "after.json")
    ]
    assert codes == [["local-der", "local-name-ignored", "local-several"], []]
    bundle = (shell.folder / "bundle.pem").read_text()
    for name in ("corp", "one", "two"):
        assert (shell.folder / f"{name}.pem").read_text().strip() in bundle
    assert Path("/etc/ssl/certs/ca-certificates.crt").read_bytes() == machine


def _is_local(item: Any) -> bool:
    return str(item["code"]).startswith("local-")
