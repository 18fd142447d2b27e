"""The commands as users type them, each in a process of its own where it matters, else through `cli.main`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, pkcs12

from edge import cli
from edge.cli_trust.output import PIPE_WIDTH
from edge.cli_trust.variables import BASES, FORMATS
from edge_certs.files import MAX_FILE_SIZE
from edge_certs.trust import bundle, formats
from edge_certs.trust.anchors import fingerprint
from edge_certs.trust.bundle import encode_pem
from edge_certs.trust.store import TrustStore
from tests.certs.forge import AUTHORITY, NOW, Forged, forge, ordinary_user

ROOMS = os.pathsep.join(path for path in sys.path if path)
ROOT = forge(extensions=[AUTHORITY])
OTHER = forge(extensions=[AUTHORITY])
SHA256 = fingerprint(ROOT.certificate)
# Of the real clock: the commands have no other.
DATES = (NOW.replace(year=2020), NOW.replace(year=2100))
LONG = forge(extensions=[AUTHORITY], dates=DATES)
LEAF = forge("www.corp.example", extensions=[x509.BasicConstraints(False, None)], dates=DATES)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("EDGE_", "SSL_CERT")) or re.search("CERT|CA_BUNDLE|_CA|GRPC|CAFILE", name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("EDGE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("corp.pem").write_bytes(LONG.pem)
    return tmp_path / "home"


def trust(*arguments: str, stdin: bytes = b"", **environ: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "edge", "trust", *arguments],
        env={**os.environ, "PYTHONPATH": ROOMS, **environ},
        input=stdin,
        capture_output=True,
        timeout=30,
        check=False,
    )


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["trust", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refusal(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert cli.main(["trust", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch("edge: [^\n]+\n", err)
    return err.removeprefix("edge: ").rstrip("\n")


def labels(home: Path) -> list[str]:
    return [anchor.label for anchor in TrustStore(home).anchors()]


def test_choices_in_the_help_are_those_of_the_certificates_room() -> None:
    assert set(formats.FORMATS) == set(FORMATS)
    assert set(bundle.BASES) == set(BASES)


def test_add_shows_what_it_trusts_from_now_on(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    shown = output(capsys, "add", "corp.pem").splitlines()
    assert shown[:4] == [
        "added CN=Shop.Example (label 'corp')",
        "  issuer  CN=Shop.Example",
        "  valid   2020-03-01 to 2100-03-01",
        f"  sha256  {fingerprint(LONG.certificate)}",
    ]
    assert shown[4:] == [
        "  strict  basic constraints not marked critical: Python 3.13 and later refuse what it signed",
        "  strict  no key usage: Python 3.13 and later refuse what it signed",
        "  strict  no subject key identifier: Python 3.13 and later refuse what it signed",
    ]
    assert labels(home) == ["corp"]


def test_add_twice_is_unchanged(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    output(capsys, "add", "corp.pem")
    assert output(capsys, "add", "corp.pem", "--label", "again").startswith("unchanged: CN=Shop.Example (label 'corp')")
    assert labels(home) == ["corp"]


def test_dry_run_of_add_changes_nothing(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert output(capsys, "add", "corp.pem", "--dry-run").startswith("would add CN=Shop.Example")
    assert not home.exists()


def test_add_reads_standard_input(home: Path) -> None:
    done = trust("add", "-", stdin=LONG.pem)
    assert (done.returncode, done.stderr) == (0, b"")
    assert labels(home) == ["stdin"]


def test_label_is_what_was_given(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    output(capsys, "add", "corp.pem", "--label", "proxy")
    assert labels(home) == ["proxy"]


def test_add_with_its_fingerprint(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    output(capsys, "add", "corp.pem", "--fingerprint", f"SHA256:{fingerprint(LONG.certificate).upper()}")
    assert labels(home) == ["corp"]


def test_another_fingerprint_is_refused(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    message = refusal(capsys, 4, "add", "corp.pem", "--fingerprint", SHA256)
    assert message.startswith(f"corp.pem: its SHA-256 is {fingerprint(LONG.certificate)}, not the one of --fingerprint")
    assert not home.exists()


def test_file_with_more_than_the_certificate_of_the_fingerprint_is_refused(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    Path("two.pem").write_bytes(LONG.pem + OTHER.pem)
    refusal(capsys, 4, "add", "two.pem", "--fingerprint", fingerprint(LONG.certificate))
    assert not home.exists()


def test_fingerprint_that_is_none_is_a_wrong_command(capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(capsys, 2, "add", "corp.pem", "--fingerprint", "abc")
    assert message == "--fingerprint 'abc': not a SHA-256; give its 64 hexadecimal digits"


def pkcs12_of(root: Forged, password: bytes) -> bytes:
    protection = BestAvailableEncryption(password) if password else NoEncryption()
    return pkcs12.serialize_key_and_certificates(b"corp", None, None, [root.certificate], protection)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "the file is empty"),
        (b"garbage", "not PEM"),
        (LEAF.key_pem, "there is a private key in it"),
        (LEAF.pem, "'CN=Shop.Example': not an authority's certificate (CA:FALSE)"),
        (LONG.pem + LEAF.key_pem, "there is a private key in it"),
        (pkcs12_of(LONG, b"secret"), "PKCS#12, which is made for private keys; take the certificates out: "),
        (pkcs12_of(LONG, b""), "PKCS#12, which is made for private keys; take the certificates out: "),
    ],
)
def test_what_is_not_fit_is_refused_with_exit_code_4_and_nothing_is_changed(
    content: bytes, found: str, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    Path("bad.pem").write_bytes(content)
    assert refusal(capsys, 4, "add", "bad.pem").startswith(f"bad.pem: {found}")
    assert not home.exists()


def test_standard_input_is_named_when_it_is_refused() -> None:
    done = trust("add", "-", stdin=LEAF.key_pem)
    assert done.returncode == 4
    assert done.stderr.startswith(b"edge: standard input: there is a private key in it; ")


def test_refused_certificate_can_be_forced(capsys: pytest.CaptureFixture[str]) -> None:
    Path("leaf.pem").write_bytes(LEAF.pem)
    output(capsys, "add", "leaf.pem", "--force", "its firmware")
    [anchor] = json.loads(output(capsys, "list", "--json"))["anchors"]
    assert anchor["forced"] == "its firmware"
    assert {defect["severity"] for defect in anchor["defects"]} == {"refuses"}


def test_key_cannot_be_forced(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    Path("key.pem").write_bytes(LEAF.key_pem)
    refusal(capsys, 4, "add", "key.pem", "--force", "please")
    assert not home.exists()


def make_large(path: Path) -> None:
    path.write_bytes(b"x" * (10 * MAX_FILE_SIZE))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file; name a PEM file with the root certificate"),
        (lambda path: path.mkdir(), "a directory, not a file; name the root certificate's own file in it"),
        (make_large, f"more than {MAX_FILE_SIZE} bytes; give the root certificate alone"),
        (os.mkfifo, "not a regular file; pipe it into: edge trust add -"),
    ],
)
def test_file_that_cannot_be_read_is_a_wrong_command(
    make: object, message: str, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert callable(make)
    make(Path("bad"))
    assert refusal(capsys, 2, "add", "bad") == f"root certificate bad: {message}"
    assert not home.exists()


def test_file_of_another_user_is_a_wrong_command(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    path = Path("corp.pem")
    path.chmod(0)
    with ordinary_user():
        message = refusal(capsys, 2, "add", "corp.pem")
    assert re.fullmatch("root certificate corp.pem: permission denied; let user '[^']+' read it", message)
    assert not home.exists()


@pytest.mark.parametrize("arguments", [["bundle", "--base", "certifi"], ["env"], ["list"]], ids=" ".join)
def test_output_on_a_full_disk_is_one_line(arguments: list[str], home: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "edge", "trust", *arguments],
            env={**os.environ, "PYTHONPATH": ROOMS},
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    assert done.stderr == b"edge: standard output: no space left on device; make room, or write elsewhere\n"
    assert done.returncode == 1


def test_endless_standard_input_is_refused() -> None:
    done = trust("add", "-", stdin=b"x" * (MAX_FILE_SIZE + 1))
    assert done.returncode == 2
    assert done.stderr.startswith(f"edge: standard input: more than {MAX_FILE_SIZE} bytes; ".encode())


@pytest.mark.parametrize("is_named", [True, False])
def test_remove_names_the_operators_file_that_has_the_root_still(
    is_named: bool, capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "corp.pem")
    output(capsys, "add", "corp.pem")
    bundle = json.loads(output(capsys, "env", "--format", "json"))["SSL_CERT_FILE"]
    if not is_named:
        # From another shell; what that one merged is in its bundle.
        monkeypatch.delenv("SSL_CERT_FILE")
    assert cli.main(["trust", "remove", "corp"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("removed ")
    file = Path("corp.pem").absolute()
    assert err == f"edge: {file} has it, too, and stays merged in: a variable named it; see edge trust doctor\n"
    assert encode_pem(LONG.certificate.public_bytes(Encoding.DER)) in Path(bundle).read_text()


def test_remove_takes_exactly_what_is_named(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    output(capsys, "add", "corp.pem")
    TrustStore(home).add([OTHER.certificate], "other", NOW, "")
    sha256 = fingerprint(LONG.certificate)
    assert output(capsys, "remove", sha256, "--dry-run").startswith("would remove CN=Shop.Example")
    assert labels(home) == ["corp", "other"]
    expected = f"removed CN=Shop.Example (label 'corp', sha256:{sha256})\n"
    assert output(capsys, "remove", sha256) == expected
    assert labels(home) == ["other"]
    assert output(capsys, "remove", sha256) == f"unchanged: no root is called {sha256!r}; see edge trust list\n"


def test_bundle_that_a_shell_names_already_follows_add_and_remove(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    output(capsys, "env")
    path = home / "trust/bundle.pem"
    output(capsys, "add", "corp.pem")
    assert LONG.pem in path.read_bytes()
    output(capsys, "remove", "corp", "--dry-run")
    assert LONG.pem in path.read_bytes()
    output(capsys, "remove", "corp")
    assert LONG.pem not in path.read_bytes()


def test_list_without_roots_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "list") == "no root was added; add one with: edge trust add FILE\n"


def test_list_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    output(capsys, "add", "corp.pem", "--label", "[red]corp[/red]")
    header, row = output(capsys, "list").splitlines()
    assert header.split("  ")[0] == "label"
    assert row.startswith("[red]corp[/red]  CN=Shop.Example  ")
    assert fingerprint(LONG.certificate)[:16] in row
    assert "no-key-usage" in row
    assert len(row) <= PIPE_WIDTH


def test_json_of_each_command_says_what_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    planned = json.loads(output(capsys, "add", "corp.pem", "--json", "--dry-run"))
    added = json.loads(output(capsys, "add", "corp.pem", "--json"))
    again = json.loads(output(capsys, "add", "corp.pem", "--json"))
    listed = json.loads(output(capsys, "list", "--json"))
    removed = json.loads(output(capsys, "remove", "corp", "--json"))
    assert [item["anchors"][0]["added"] for item in (planned, added, again)] == [False, True, False]
    assert planned["dry_run"] is True
    [anchor] = listed["anchors"]
    assert anchor["sha256"] == fingerprint(LONG.certificate) == removed["removed"][0]["sha256"]
    assert anchor["days_left"] > 9999
    assert json.loads(output(capsys, "list", "--json")) == {"anchors": []}


def test_names_that_would_steer_the_terminal_are_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    output(capsys, "add", "corp.pem", "--label", "a\x1b[31mb")
    assert "\x1b" not in output(capsys, "list")


def test_bundle_goes_to_standard_output_or_into_a_file(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    output(capsys, "add", "corp.pem")
    printed = output(capsys, "bundle", "--base", "none")
    assert LONG.pem.decode() in printed
    assert output(capsys, "bundle", "--base", "none", "-o", "out.pem") == ""
    assert Path("out.pem").read_text() == printed


def test_bundle_that_cannot_be_written_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("folder").mkdir()
    assert refusal(capsys, 1, "bundle", "-o", "folder").startswith("cannot write folder: is a directory; ")


@pytest.mark.parametrize("kind", FORMATS)
def test_env_writes_the_bundle_that_it_names(kind: str, capsys: pytest.CaptureFixture[str], home: Path) -> None:
    output(capsys, "add", "corp.pem")
    assert "SSL_CERT_FILE" in output(capsys, "env", "--format", kind)
    assert LONG.pem in (home / "trust/bundle.pem").read_bytes()


def test_env_says_what_it_could_not_merge_beside_the_variables() -> None:
    done = trust("env", SSL_CERT_FILE="/nosuch.pem")
    assert done.returncode == 0
    assert done.stderr.startswith(b"edge: SSL_CERT_FILE is not merged: bundle /nosuch.pem: no such file; ")
    assert all(line.startswith(b"export ") for line in done.stdout.splitlines())


def test_run_gives_the_variables_the_arguments_and_the_exit_code(home: Path) -> None:
    program = "import os, sys; print(os.environ['SSL_CERT_FILE'], sys.argv[1:]); sys.exit(7)"
    done = trust("run", "--", sys.executable, "-c", program, "--base", "-x")
    assert (done.returncode, done.stderr) == (7, b"")
    assert done.stdout.decode() == f"{home}/trust/bundle.pem ['--base', '-x']\n"


def test_run_needs_no_dashes_before_its_command() -> None:
    assert trust("run", sys.executable, "-c", "import sys; sys.exit(3)").returncode == 3


@pytest.mark.parametrize(("name", "code"), [("./nosuch", 127), ("./corp.pem", 126)])
def test_run_of_what_is_no_command_has_the_exit_code_of_a_shell(name: str, code: int) -> None:
    done = trust("run", name)
    assert done.returncode == code
    assert re.fullmatch(rb"edge: command '\./[a-z.]+': [^\n]+\n", done.stderr)


def test_damaged_store_is_one_line(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    (home / "trust").mkdir(parents=True)
    (home / "trust/state.json").write_text("{")
    for command in (["list"], ["add", "corp.pem"], ["remove", "corp"], ["bundle"], ["env"], ["run", "true"]):
        assert "damaged; use the edge that wrote it" in refusal(capsys, 1, *command)


def test_trust_alone_shows_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trust"]) == 2
    assert "  bundle " in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["add", "remove", "list", "bundle", "env", "run", "check", "detect", "doctor", "refresh", "dockerfile"]
)
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, command, "--help").startswith(f"Usage: edge trust {command} [OPTIONS]")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add"], "missing argument 'FILE|URL|-'; see edge trust add --help"),
        (["frob"], "no such command 'frob'; see edge trust --help"),
        (["list", "--jsn"], "--jsn: unknown option; did you mean --json"),
        (["run"], "missing argument 'COMMAND...'; see edge trust run --help"),
    ],
)
def test_wrong_command_says_where_help_is(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(capsys, 2, *arguments) == message


def test_help_does_not_load_cryptography() -> None:
    code = (
        "import sys; from edge.cli import main; main(['trust', 'add', '-h']); sys.exit('cryptography' in sys.modules)"
    )
    environ = {"PYTHONPATH": ROOMS}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
