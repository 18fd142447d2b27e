"""`edge cert` for what needs no authority: inspect, import, export, dev, list."""

from __future__ import annotations

import io
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from edge import cli
from edge.cli_cert.files import FORMATS
from edge.cli_cert.output import show_left
from edge_certs import exports
from edge_certs.state import CertificateState, Issuance, Status
from edge_certs.storage import Storage
from edge_certs.trust.store import TrustStore
from tests.certs.forge import AUTHORITY, forge, ordinary_user
from tests.process.tls_proxy import site

NOW = datetime.now(UTC)
DATES = (NOW - timedelta(days=1), NOW + timedelta(days=60, hours=1))
ISSUER = forge(extensions=[AUTHORITY], dates=(DATES[0], NOW + timedelta(days=900)))
SHOP = forge("shop.example", "www.shop.example", issuer=ISSUER, dates=DATES)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith(("EDGE_", "SSL_CERT")) or re.search("CERT|CA_BUNDLE|_CA|GRPC|CAFILE", name):
            monkeypatch.delenv(name)
    monkeypatch.setenv("EDGE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    Path("shop.pem").write_bytes(SHOP.pem + ISSUER.pem)
    Path("shop.key").write_bytes(SHOP.key_pem)
    return tmp_path / "home"


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Shown:
    return Shown(capsys)


class Shown:
    """Runs a command and gives what it prints, when its exit code is the one that is expected."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        assert cli.main(["cert", *arguments]) == code
        out, err = self._capsys.readouterr()
        assert err == ""
        return out

    def refusal(self, code: int, *arguments: str) -> str:
        assert cli.main(["cert", *arguments]) == code
        out, err = self._capsys.readouterr()
        assert out == ""
        assert re.fullmatch("edge: [^\n]+\n", err)
        return err.removeprefix("edge: ").rstrip("\n")

    def both(self, *arguments: str, code: int) -> tuple[str, str]:
        assert cli.main(["cert", *arguments]) == code
        out, err = self._capsys.readouterr()
        return out, err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cert"]) == 2
    assert "inspect" in capsys.readouterr().err


# inspect


def test_inspect_explains_a_file(shown: Shown) -> None:
    lines = shown("inspect", "shop.pem", code=1).splitlines()
    assert lines[:3] == ["shop.pem", "1  CN=Shop.Example", "   names      shop.example, www.shop.example"]
    assert f"   valid      {DATES[0].date()} to {DATES[1].date()} (60 days left)" in lines
    assert lines[-1] == (
        "refused  ends in the root CN=Shop.Example, which is not trusted here; edge trust add FILE trusts a root"
    )


def test_inspect_says_what_is_trusted_after_edge_trust_add(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    Path("issuer.pem").write_bytes(ISSUER.pem)
    assert cli.main(["trust", "add", "issuer.pem"]) == 0
    capsys.readouterr()
    lines = shown("inspect", "shop.pem", "--name", "www.shop.example").splitlines()
    assert lines[-1] == "note     leads to CN=Shop.Example, added by edge trust"
    assert "refused  not for 'elsewhere.example' but for shop.example, www.shop.example; get one for that name" in (
        shown("inspect", "shop.pem", "--name", "elsewhere.example", code=1).splitlines()
    )


def test_inspect_sees_the_wrong_key(shown: Shown) -> None:
    Path("other.key").write_bytes(ISSUER.key_pem)
    found = json.loads(shown("inspect", "shop.pem", "--key", "other.key", "--json", code=1))
    assert "key" in [item["code"] for item in found["findings"] if item["severity"] == "refused"]
    found = json.loads(shown("inspect", "shop.pem", "--json", code=1))
    assert "key" not in [item["code"] for item in found["findings"]]
    assert found["target"] == "shop.pem"
    assert found["certificates"][0]["names"] == ["shop.example", "www.shop.example"]
    assert (
        found["certificates"][0]["sha256"]
        == SHOP.certificate.fingerprint(
            SHOP.certificate.signature_hash_algorithm  # type: ignore[arg-type]  # SHA-256
        ).hex()
    )


def test_inspect_needs_no_key(shown: Shown) -> None:
    Path("alone.pem").write_bytes(SHOP.pem)
    assert "which signed it, is missing; append it" in shown("inspect", "alone.pem", code=1)


def test_inspect_shows_dates_that_are_over(shown: Shown) -> None:
    old = forge("shop.example", dates=(NOW - timedelta(days=90), NOW - timedelta(days=3, hours=1)))
    Path("old.pem").write_bytes(old.pem)
    assert "(expired 3 days ago)" in shown("inspect", "old.pem", code=1)


def test_inspect_explains_a_server(shown: Shown) -> None:
    authority = trustme.CA()
    with site(authority, "localhost") as port:
        output = shown("inspect", f"localhost:{port}", code=1)
        assert output.splitlines()[0].startswith(f"localhost:{port}  TLSv1.3 TLS_")
        assert output.splitlines()[-1] == (
            "refused  OpenSSL with the roots of this machine says: unable to get local issuer certificate"
        )
        Path("root.pem").write_bytes(authority.cert_pem.bytes())
        assert cli.main(["trust", "add", "root.pem"]) == 0
        shown._capsys.readouterr()
        found = json.loads(shown("inspect", f"localhost:{port}", "--json"))
        assert (found["refused"], found["target"]) == (False, f"localhost:{port}")
        wrong = shown("inspect", f"localhost:{port}", "--name", "shop.example", code=1)
    assert "refused  not for 'shop.example' but for localhost; get one for that name" in wrong.splitlines()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "certificate bad.pem: the file is empty; write the PEM text into it"),
        (SHOP.pem[:300], "certificate bad.pem: line 1: 'CERTIFICATE' begins and never ends; copy the file again"),
        (SHOP.key_pem, "certificate bad.pem: no certificate in it, but 'PRIVATE KEY'; name the certificate with"),
        (b"<html>", "certificate bad.pem: not PEM: no line '-----BEGIN ...-----' in it; name another file"),
    ],
    ids=["empty", "half", "key", "html"],
)
def test_what_cannot_be_read_is_said_in_one_line(shown: Shown, content: bytes, message: str) -> None:
    Path("bad.pem").write_bytes(content)
    assert shown.refusal(2, "inspect", "bad.pem").startswith(message)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nosuch.pem"], 2, "certificate nosuch.pem: no such file; name a PEM file with the certificate"),
        (["localhost:99999"], 2, "'localhost:99999': no such port; use HOST:PORT with a port from 1 to 65535"),
        (["shop.pem", "--key", "no.key"], 2, "key no.key: no such file; name a PEM file with the key"),
    ],
)
def test_target_that_is_not_there_is_said_in_one_line(
    shown: Shown, arguments: list[str], code: int, message: str
) -> None:
    assert shown.refusal(code, "inspect", *arguments) == message


def test_names_that_would_steer_the_terminal_are_quoted(shown: Shown) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "\x1b[31mred")])
    builder = x509.CertificateBuilder(name, name, ISSUER.key.public_key()).serial_number(1)
    certificate = builder.not_valid_before(DATES[0]).not_valid_after(DATES[1]).sign(ISSUER.key, SHA256())
    from cryptography.hazmat.primitives.serialization import Encoding

    Path("evil.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    assert "\x1b" not in shown("inspect", "evil.pem", code=1)


# import, list, export


def test_import_copies_a_file_once(shown: Shown, home: Path) -> None:
    line = f"shop.example, www.shop.example from file, valid until {DATES[1].date()}\n"
    assert shown("import", "shop.pem", "--dry-run") == f"would import {line}"
    assert not home.exists()
    assert shown("import", "shop.pem") == f"imported {line}"
    assert shown("import", "shop.pem") == f"unchanged {line}"
    found = json.loads(shown("import", "shop.pem", "--json"))
    assert found["certificates"][0] | {"not_after": "", "names": []} == {
        "name": "shop.example",
        "names": [],
        "program": "file",
        "file": "shop.pem",
        "result": "unchanged",
        "problem": "",
        "not_after": "",
    }


def test_import_says_what_it_refuses_and_takes_the_rest(shown: Shown, home: Path) -> None:
    for name, key in (("a.example", SHOP.key_pem), ("shop.example", SHOP.key_pem)):
        live = Path("live", name)
        live.mkdir(parents=True)
        leaf = SHOP if name == "shop.example" else forge(name, dates=DATES)
        (live / "fullchain.pem").write_bytes(leaf.pem)
        (live / "privkey.pem").write_bytes(key)
    out, err = shown.both("import", ".", code=1)
    assert out.startswith("imported shop.example, www.shop.example from certbot, ")
    assert err.startswith("refused certificate live/a.example/fullchain.pem: the key in live/a.example/privkey.pem ")
    assert [item.name for item in Storage(home).lineages()] == ["shop.example"]


def test_import_of_mkcerts_folder_trusts_its_root_and_leaves_its_key(shown: Shown, home: Path) -> None:
    Path("mkcert").mkdir()
    Path("mkcert/rootCA.pem").write_bytes(ISSUER.pem)
    Path("mkcert/rootCA-key.pem").write_bytes(ISSUER.key_pem)
    assert shown("import", "mkcert", "--dry-run").startswith("would trust mkcert's root in what calls out (label ")
    assert TrustStore(home).anchors() == []
    assert shown("import", "mkcert").startswith("trusts mkcert's root in what calls out (label 'mkcert'); its key, ")
    assert [anchor.label for anchor in TrustStore(home).anchors()] == ["mkcert"]
    assert shown("import", "mkcert").startswith("unchanged: trusts mkcert's root")
    key = ISSUER.key_pem.splitlines()[1]
    assert not [path for path in home.rglob("*") if path.is_file() and key in path.read_bytes()]


def test_import_of_what_is_no_folder_of_theirs_is_refused(shown: Shown) -> None:
    Path("empty").mkdir()
    assert shown.refusal(2, "import", "empty").startswith("folder empty: no certificate of certbot, Caddy, mkcert or ")


def test_list_of_nothing_says_how_to_get_one(shown: Shown) -> None:
    assert shown("list") == (
        "no certificate in the storage; get one with: edge cert issue NAME, or: edge cert import FOLDER\n"
    )
    assert json.loads(shown("list", "--json")) == {"certificates": []}


def test_list_shows_what_was_imported(shown: Shown, home: Path) -> None:
    shown("import", "shop.pem")
    heading, row = shown("list").splitlines()
    assert heading.split() == ["name", "also", "for", "authority", "valid", "renewal", "why", "then", "problem"]
    assert row.split(maxsplit=6)[:6] == ["shop.example", "www.shop.example", "Shop.Example", "60", "days", "never"]
    [found] = json.loads(shown("list", "--json"))["certificates"]
    assert found["file"] == str(home / "live/shop.example/fullchain.pem")
    assert (found["name"], found["days_left"], found["renew_at"]) == ("shop.example", 60, None)


def test_renewal_of_all_does_not_end_with_one_that_is_damaged(shown: Shown, home: Path) -> None:
    storage = Storage(home)
    for name in ("a.example", "b.example", "c.example"):
        leaf = forge(name, dates=DATES)
        lineage = storage.lineage(name)
        lineage.install(leaf.pem, leaf.key_pem)
        issuance = Issuance((name,), "https://localhost:1/dir", ("http-01",))
        lineage.save_state(CertificateState(issuance, Status.VALID, 0.5))
    (home / "state/b.example.json").write_text("{")
    out, err = shown.both("renew", code=1)
    assert [line.split()[1] for line in out.splitlines() if line.startswith("unchanged")] == [
        "a.example,",
        "c.example,",
    ]
    assert re.fullmatch(r"edge: b\.example: state .*b\.example\.json: damaged; remove the file: [^\n]*\n", err)
    out, _ = shown.both("renew", "--dry-run", "--json", code=1)
    assert [plan["names"] for plan in json.loads(out)["certificates"]] == [["a.example"], ["c.example"]]


def test_export_writes_the_forms_of_other_programs(shown: Shown) -> None:
    shown("import", "shop.pem")
    assert "would write" in shown("export", "shop.example", "--out", "x", "--dry-run")
    assert not Path("x").exists()
    shown("export", "shop.example", "--out", "x")
    assert sorted(path.name for path in Path("x").iterdir()) == [
        "cert.pem",
        "chain.pem",
        "fullchain.pem",
        "privkey.pem",
    ]
    modes = {path.name: path.stat().st_mode & 0o777 for path in Path("x").iterdir()}
    assert (modes["privkey.pem"], modes["fullchain.pem"]) == (0o600, 0o644)
    found = json.loads(shown("export", "shop.pem", "--format", "kubernetes", "--out", "k", "--json"))
    assert found["files"] == [{"path": "k/tls.crt", "mode": "0644"}, {"path": "k/tls.key", "mode": "0600"}]
    shown("export", "shop.example", "--format", "secret", "--secret-name", "web")
    assert "name: web" in Path("web.yaml").read_text()


def test_export_as_pkcs12_takes_its_password_from_a_file_or_from_standard_input(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("pw").write_text("from a file\r\nmore\n")
    shown("export", "shop.pem", "--format", "pkcs12", "--password-file", "pw")
    assert load_pkcs12(Path("shop.example.p12").read_bytes(), b"from a file").key is not None
    monkeypatch.setattr("sys.stdin", io.StringIO("from stdin\n"))
    shown("export", "shop.pem", "--format", "pkcs12", "--password-file", "-")
    assert load_pkcs12(Path("shop.example.p12").read_bytes(), b"from stdin").key is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "pkcs12"], "--format pkcs12: no password; give it with --password-file FILE, or on a terminal"),
        (["--format", "pkcs12", "--password-file", "no"], "password no: no such file; name a PEM file with the passw"),
        (["--key", "no"], "key no: no such file; "),
    ],
)
def test_export_that_cannot_be_is_said_in_one_line(
    shown: Shown, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert shown.refusal(2, "export", "shop.pem", *arguments).startswith(message)


def test_export_of_what_is_not_there_says_where_to_look(shown: Shown) -> None:
    assert shown.refusal(2, "export", "other.example") == (
        "certificate 'other.example': neither in the storage nor a file; see edge cert list"
    )


def test_formats_in_the_help_are_those_of_the_certificates_room() -> None:
    assert FORMATS == exports.FORMATS


# dev


def test_dev_writes_files_and_then_leaves_them(shown: Shown, home: Path) -> None:
    first = shown("dev", "app.test", "10.0.0.1", "--out", "tls").splitlines()
    assert first == [
        "written tls/app.test.pem and tls/app.test.key",
        f"  for app.test, 10.0.0.1, 90 days left, signed by {home}/dev/root.pem",
    ]
    assert shown("dev", "app.test", "10.0.0.1", "--out", "tls").startswith("unchanged: tls/app.test.pem and ")
    found = json.loads(shown("dev", "app.test", "10.0.0.1", "--out", "tls", "--json"))
    assert (found["new"], found["names"]) == (False, ["app.test", "10.0.0.1"])


def test_dev_without_a_name_is_for_localhost(shown: Shown) -> None:
    assert "  for localhost, 127.0.0.1, ::1, " in shown("dev")
    assert Path("localhost.pem").exists()


def test_dry_run_of_dev_makes_neither_files_nor_a_root(shown: Shown, home: Path) -> None:
    assert shown("dev", "--dry-run").startswith("would write localhost.pem and localhost.key\n")
    assert not home.exists()
    assert not Path("localhost.pem").exists()


def test_dev_for_a_public_name_is_refused(shown: Shown) -> None:
    assert shown.refusal(2, "dev", "www.example.com").startswith(
        "name 'www.example.com': the local root may sign only for localhost, test, internal, home.arpa, "
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["list"], 1, r"home/state: permission denied; let user '\w+' come to it"),
        (["dev", "--out", "elsewhere"], 1, r"home/locks: permission denied; give this user the right to "),
        (
            ["export", "first/fullchain.pem", "--key", "first.key", "--out", "closed/x"],
            1,
            r"cannot make folder closed/x: ",
        ),
        (["revoke", "shop.example"], 2, r"permission denied; let user '\w+' "),
    ],
    ids=["list", "dev", "export", "revoke"],
)
def test_folder_without_permission_is_said_in_one_line(
    shown: Shown, home: Path, arguments: list[str], code: int, message: str
) -> None:
    # Everything is imported by then: this user may read no library either.
    shown("import", "shop.pem")
    shown("dev", "--out", "first")
    shown("list")
    shown("export", "shop.pem", "--out", "first")
    shown.refusal(2, "revoke", "none.example")
    Path("first.key").write_bytes(SHOP.key_pem)
    Path("closed").mkdir(mode=0o700)
    Path("shop.key").chmod(0o600)
    open_to_all(home.parent)
    Path("first").chmod(0o755)
    before = sorted(home.rglob("*"))
    with ordinary_user():
        line = shown.refusal(code, *arguments)
    assert re.search(message, line)
    assert sorted(home.rglob("*")) == before


def open_to_all(folder: Path) -> None:
    """Let everybody come as far as `folder`: what is closed is what lies in it."""
    for path in (folder, *folder.parents):
        if path.stat().st_uid == os.geteuid() and path.stat().st_mode & 0o055 != 0o055 and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (timedelta(days=2), "2 days"),
        (timedelta(hours=47), "47 hours"),
        (timedelta(minutes=119), "119 minutes"),
        (timedelta(0), "0 minutes"),
        (timedelta(days=-4), "expired 4 days ago"),
    ],
)
def test_time_left_is_shown_in_the_unit_that_matters(left: timedelta, expected: str) -> None:
    assert show_left(NOW + left, NOW) == expected
