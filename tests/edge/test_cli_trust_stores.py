"""`edge trust add --to` and `remove` as users type them: what they ask, refuse, show and do."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from edge import cli
from edge.cli_trust.targets import TARGETS
from edge_certs.files import write_private
from edge_certs.trust.anchors import fingerprint
from edge_certs.trust.installations import Installations
from edge_certs.trust.store import TrustStore
from edge_certs.trust.stores import targets
from tests.certs.forge import AUTHORITY, NOW, child_environment, forge
from tests.process.tls_proxy import Listener, answer_with

DATES = (NOW.replace(year=2020), NOW.replace(year=2100))
ROOT = forge(extensions=[AUTHORITY], dates=DATES)
LEAF = forge("www.corp.example", extensions=[x509.BasicConstraints(False, None)], dates=DATES)
SHA256 = fingerprint(ROOT.certificate)
NAME = f"edge-trust-{SHA256[:16]}"

needs_certutil = pytest.mark.skipif(shutil.which("certutil") is None, reason="needs certutil of libnss3-tools")
needs_debian = pytest.mark.skipif(
    not Path("/usr/sbin/update-ca-certificates").exists(), reason="needs update-ca-certificates of ca-certificates"
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("EDGE_", "SSL_CERT", "XDG_", "SUDO_")) or re.search("CERT|CA_BUNDLE|_CA|GRPC|CAFILE", name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("EDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Path("corp.pem").write_bytes(ROOT.pem)
    return tmp_path / "home"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["trust", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    return out


def refusal(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    found, out, err = run(capsys, *arguments)
    assert (found, out) == (code, "")
    assert re.fullmatch("edge: [^\n]+\n", err)
    return err.removeprefix("edge: ").rstrip("\n")


def test_targets_in_the_help_are_those_of_the_certificates_room() -> None:
    assert targets.TARGETS == TARGETS


def nickname(folder: Path) -> list[str]:
    done = subprocess.run(
        ["certutil", "-L", "-d", f"sql:{folder}"], check=True, capture_output=True, text=True, timeout=30
    )
    return [line.split()[0] for line in done.stdout.splitlines() if ",," in line]


@needs_certutil
def test_root_is_installed_listed_and_removed_from_everywhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    database = tmp_path / ".local/share/pki/nssdb"
    shown = output(capsys, "add", "corp.pem", "--to", "edge,nss")
    assert shown.splitlines()[-1] == f"installed: nss {database}; restart the browser"
    assert nickname(database) == [NAME]
    assert output(capsys, "add", "corp.pem", "--to", "nss").endswith(f"unchanged: nss {database}\n")
    header, row = output(capsys, "list").splitlines()
    assert "  trusted in  " in header
    assert "  edge, nss  " in row
    assert output(capsys, "remove", "corp").splitlines() == [
        f"removed CN=Shop.Example (label 'corp', sha256:{SHA256})",
        f"removed: nss {database}",
    ]
    assert nickname(database) == []
    assert output(capsys, "remove", "corp").startswith("unchanged: no root is called 'corp'")


@needs_certutil
def test_root_is_removed_from_one_store_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output(capsys, "add", "corp.pem", "--to", "nss")
    database = tmp_path / ".local/share/pki/nssdb"
    assert output(capsys, "remove", "corp", "--from", "nss") == f"removed: nss {database}\n"
    assert "  edge        " in output(capsys, "list")
    assert "unchanged: no root is called 'corp'" in output(capsys, "remove", "corp", "--from", "nss")


@needs_certutil
def test_root_stays_known_as_long_as_it_is_installed_elsewhere(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    output(capsys, "add", "corp.pem", "--to", "nss")
    message = refusal(capsys, 2, "remove", "corp", "--from", "edge")
    assert message == "--from edge: 'corp' is installed in nss, too; name all of them, or leave out --from"
    output(capsys, "remove", "corp", "--from", "edge,nss")
    assert TrustStore(home).anchors() == []


@needs_certutil
def test_root_that_somebody_took_out_is_listed_as_gone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output(capsys, "add", "corp.pem", "--to", "nss")
    database = tmp_path / ".local/share/pki/nssdb"
    subprocess.run(["certutil", "-D", "-d", f"sql:{database}", "-n", NAME], check=True, timeout=30)
    assert "  edge, nss (gone)  " in output(capsys, "list")
    [anchor] = json.loads(output(capsys, "list", "--json"))["anchors"]
    assert anchor["places"] == [{"target": "nss", "location": str(database), "by_edge": True, "trusted": False}]


@needs_certutil
def test_removal_leaves_what_somebody_else_installed_and_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    database = tmp_path / ".pki/nssdb"
    database.mkdir(parents=True)
    certutil = ["certutil", "-d", f"sql:{database}"]
    subprocess.run([*certutil, "-N", "--empty-password"], check=True, timeout=30)
    subprocess.run([*certutil, "-A", "-a", "-t", "C,,", "-n", "mine", "-i", "corp.pem"], check=True, timeout=30)
    shown = output(capsys, "add", "corp.pem", "--to", "nss")
    assert shown.endswith(f"there already, and not by edge: nss {database}\n")
    code, out, err = run(capsys, "remove", "corp")
    assert (code, out.count("\n")) == (0, 1)
    assert err == f"edge: nss {database} trusts it still; it was not installed there from here\n"
    assert nickname(database) == ["mine"]


@needs_certutil
def test_dry_run_shows_each_step_and_does_none(capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path) -> None:
    database = tmp_path / ".local/share/pki/nssdb"
    anchor = home / f"trust/anchors/{SHA256}.pem"
    shown = output(capsys, "add", "corp.pem", "--to", "nss", "--dry-run").splitlines()
    assert shown[-4:] == [
        f"would write {anchor}",
        f"would make folder {database}",
        f"would run certutil -N -d sql:{database} --empty-password",
        f"would run certutil -A -d sql:{database} -a -t C,, -n {NAME} -i {anchor}",
    ]
    assert not home.exists()
    assert not database.exists()
    output(capsys, "add", "corp.pem", "--to", "nss")
    assert output(capsys, "remove", "corp", "--dry-run").splitlines() == [
        f"would remove CN=Shop.Example (label 'corp', sha256:{SHA256})",
        f"would run certutil -D -d sql:{database} -n {NAME}",
    ]
    assert nickname(database) == [NAME]


@needs_certutil
def test_json_says_each_step_and_what_became_of_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    database = str(tmp_path / ".local/share/pki/nssdb")
    place = {"target": "nss", "location": database, "sha256": SHA256}
    [planned] = json.loads(output(capsys, "add", "corp.pem", "--to", "nss", "--json", "--dry-run"))["places"]
    assert {name: planned[name] for name in place} == place
    assert len(planned["steps"]) == 3
    assert json.loads(output(capsys, "add", "corp.pem", "--to", "nss", "--json"))["places"] == [
        {**place, "status": "installed"}
    ]
    assert json.loads(output(capsys, "remove", "corp", "--json"))["places"] == [{**place, "status": "removed"}]


def test_docker_wants_a_registry(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    location = "/etc/docker/certs.d/registry.corp.example:5000"
    add = ("add", "corp.pem", "--to", "docker", "--dry-run")
    shown = output(capsys, *add, "--registry", "registry.corp.example:5000")
    assert shown.splitlines()[-1] == f"would write {location}/{NAME}.crt"
    assert refusal(capsys, 2, *add, "--registry", "a/b").startswith("--registry 'a/b': neither HOST nor HOST:PORT; ")
    message = refusal(capsys, 2, "add", "corp.pem", "--registry", "a.example")
    assert message == "--registry: only for docker; add --to docker"
    assert not home.exists()


@needs_debian
def test_user_is_told_the_exact_line_and_nothing_is_changed(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["bin/edge"])
    add = ("add", "corp.pem", "--label", "the proxy", "--to", "system", "--yes")
    assert refusal(capsys, 3, *add) == (
        "system: only root may change it, nothing was changed; "
        f"run: sudo {tmp_path}/bin/edge trust add {tmp_path}/corp.pem --label 'the proxy' --to system, "
        f"and then for yourself: {tmp_path}/bin/edge trust add {tmp_path}/corp.pem --label 'the proxy'"
    )
    assert not home.exists()


def test_removal_that_needs_root_names_the_record_that_it_is_in(
    capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TrustStore(home).add([ROOT.certificate], "corp", NOW, "")
    entry = {"sha256": SHA256, "target": "docker", "kind": "docker", "location": "/etc/docker/certs.d/a.example"}
    row = {**entry, "at": NOW.isoformat(), "complete": True}
    write_private(home / "trust/installed.json", json.dumps({"version": 1, "installations": [row]}).encode())
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["/bin/edge"])
    assert refusal(capsys, 3, "remove", "corp", "--yes") == (
        "docker: only root may change it, nothing was changed; "
        f"run: sudo EDGE_HOME={home} /bin/edge trust remove corp --from docker"
    )
    assert [anchor.label for anchor in TrustStore(home).anchors()] == ["corp"]


@needs_debian
def test_line_names_the_interpreter_when_there_is_no_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["/somewhere/edge/__main__.py"])
    message = refusal(capsys, 3, "add", "corp.pem", "--to", "system", "--yes")
    assert f"run: sudo {sys.executable} -m edge trust add " in message


@needs_debian
@needs_certutil
def test_what_needs_no_root_comes_in_a_second_line(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["/bin/edge"])
    message = refusal(capsys, 3, "add", "corp.pem", "--to", "system,nss", "--yes")
    assert message.endswith(
        f"run: sudo /bin/edge trust add {tmp_path}/corp.pem --to system, "
        f"and then for yourself: /bin/edge trust add {tmp_path}/corp.pem --to nss"
    )
    assert not home.exists()


@needs_debian
def test_system_is_not_changed_unasked_where_nobody_can_be_asked(
    capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    message = refusal(capsys, 2, "add", "corp.pem", "--to", "system")
    assert message == "system: for all users of this machine, and there is nobody to ask; add --yes"
    assert not home.exists()


@needs_certutil
def test_users_own_store_is_not_changed_by_sudo(
    capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "alice")
    message = refusal(capsys, 2, "add", "corp.pem", "--to", "nss")
    assert message == "nss: the store of user 'alice', not of root; run it without sudo"
    assert not home.exists()


def test_all_passes_over_what_is_not_there(
    capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "alice")
    code, out, err = run(capsys, "add", "corp.pem", "--to", "all", "--dry-run")
    assert code == 0
    assert f"would write {home}/trust/anchors/{SHA256}.pem" in out
    assert "certutil" not in out
    assert "edge: passed over docker: no registry has a folder in /etc/docker/certs.d; " in err
    assert not home.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["add", "corp.pem", "--to", "chrome"],
            "--to 'chrome': not a target; use edge, system, nss, firefox, java, docker, all",
        ),
        (
            ["remove", "corp", "--from", ""],
            "--from '': not a target; use edge, system, nss, firefox, java, docker, all",
        ),
    ],
)
def test_target_that_is_none_is_a_wrong_command(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(capsys, 2, *arguments) == message


def make_profile(name: str, tmp_path: Path, password: str) -> Path:
    profile = tmp_path / ".mozilla/firefox" / name
    profile.mkdir(parents=True)
    (tmp_path / "password").write_text(password)
    certutil = ["certutil", "-N", "-d", f"sql:{profile}", "-f", str(tmp_path / "password")]
    subprocess.run(certutil, check=True, timeout=30)
    return profile


@needs_certutil
def test_store_that_fails_does_not_keep_the_others_from_being_changed(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path
) -> None:
    closed = make_profile("a.closed", tmp_path, "a primary password")
    opened = make_profile("b.opened", tmp_path, "")
    code, out, err = run(capsys, "add", "corp.pem", "--to", "firefox")
    assert (code, out.splitlines()[-1]) == (1, f"installed: firefox {opened}; restart Firefox")
    assert re.fullmatch(rf"edge: firefox {closed}: command 'certutil -A [^\n]*; run it by hand\n", err)
    assert [entry.location for entry in Installations(home).all()] == [str(opened)]
    code, out, _ = run(capsys, "add", "corp.pem", "--to", "firefox", "--json")
    failed, done = json.loads(out)["places"]
    assert (code, failed["status"], done["status"]) == (1, "failed", "unchanged")
    assert failed["error"].startswith(f"firefox {closed}: command 'certutil -A ")


@needs_certutil
def test_removal_that_fails_can_be_given_again(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output(capsys, "add", "corp.pem", "--to", "nss")
    with monkeypatch.context() as context:
        context.setenv("PATH", "/nosuch")
        message = refusal(capsys, 1, "remove", "corp")
    database = tmp_path / ".local/share/pki/nssdb"
    assert message.startswith(f"nss {database}: command 'certutil': not found; install it: libnss3-tools (Debian)")
    assert [anchor.label for anchor in TrustStore(home).anchors()] == ["corp"]
    assert output(capsys, "remove", "corp").endswith(f"removed: nss {database}\n")
    assert TrustStore(home).anchors() == []


@needs_certutil
@pytest.mark.parametrize("content", [b"garbage", b"", LEAF.pem, LEAF.key_pem], ids=["garbage", "empty", "leaf", "key"])
def test_what_is_refused_touches_no_store(
    content: bytes, capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path
) -> None:
    Path("bad.pem").write_bytes(content)
    refusal(capsys, 4, "add", "bad.pem", "--to", "nss")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pem", "corp.pem"]
    assert not home.exists()


@needs_certutil
def test_target_that_is_not_there_is_one_line_and_nothing_is_changed(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert refusal(capsys, 1, "add", "corp.pem", "--to", "firefox").startswith("firefox: no profile in any of its ")
    assert not home.exists()


def test_damaged_record_is_one_line(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    TrustStore(home).add([ROOT.certificate], "corp", NOW, "")
    write_private(home / "trust/installed.json", b"{")
    for command in (["list"], ["remove", "corp"]):
        assert "record of installations" in refusal(capsys, 1, *command)


def on_terminal(arguments: list[str], typed: bytes) -> tuple[int, str]:
    """Run it with a terminal on its standard input and error, type, and return the exit code and what it showed."""
    ours, theirs = os.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "edge", "trust", *arguments],
        env={**child_environment(), "HOME": os.environ["HOME"], "EDGE_HOME": os.environ["EDGE_HOME"], **path()},
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, typed)
    shown = b""
    # Linux's word for the end of what a terminal's other side has to say.
    with contextlib.suppress(OSError):
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    return child.wait(30), shown.decode().replace("\r\n", "\n")


def path() -> dict[str, str]:
    return {"PATH": os.environ["PATH"]}


@needs_certutil
@pytest.mark.parametrize(("typed", "code"), [(b"y\n", 0), (b"n\n", 1)])
def test_terminal_is_asked_with_each_step_in_sight(typed: bytes, code: int, home: Path, tmp_path: Path) -> None:
    database = tmp_path / ".local/share/pki/nssdb"
    found, shown = on_terminal(["add", "corp.pem", "--to", "nss"], typed)
    assert found == code
    assert f"would run certutil -N -d sql:{database} --empty-password\n" in shown
    assert "go on? [y/N]: " in shown
    assert ("edge: nothing was changed: the answer was no\n" in shown) == (code == 1)
    assert home.exists() == database.exists() == (code == 0)
    assert [entry.complete for entry in Installations(home).all()] == ([True] if code == 0 else [])


@needs_certutil
def test_terminal_is_not_asked_with_yes(home: Path) -> None:
    assert on_terminal(["add", "corp.pem", "--to", "nss", "--yes"], b"") == (0, "")
    assert [entry.complete for entry in Installations(home).all()] == [True]


@pytest.fixture
def url() -> Iterator[str]:
    with Listener(lambda connection: answer_with(connection, ROOT.pem)) as listener:
        yield f"http://127.0.0.1:{listener.port}/roots/corp%20root.pem"


def test_root_from_an_http_url_needs_its_fingerprint(url: str, capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert refusal(capsys, 1, "add", url).startswith(f"{url}: plain http, which anybody on the way can change; ")
    assert refusal(capsys, 4, "add", url, "--fingerprint", "0" * 64).startswith(f"{url}: its SHA-256 is {SHA256}, not")
    assert not home.exists()
    output(capsys, "add", url, "--fingerprint", SHA256)
    assert [anchor.label for anchor in TrustStore(home).anchors()] == ["corp root"]
