from __future__ import annotations

import os
import pwd
import shutil
import socket
import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_certs.ca import LocalAuthority
from edge_certs.errors import CertificateError
from edge_certs.x509 import Certificate, parse_chain, parse_key
from tests.certs.forge import DAY, NOW, Forged, forge
from tests.certs.handshake import handshake

DEV_NAMES = ("localhost", "api.test", "127.0.0.1", "::1", "*.app.localhost")

ALLOWED = (
    "localhost, test, internal, home.arpa, 127.0.0.0/8, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, ::1/128, fc00::/7"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a root that was made now, by the real clock: handshakes have no other."""
    home = tmp_path_factory.mktemp("home")
    LocalAuthority.open(home, datetime.now(UTC))
    return home


@pytest.fixture
def authority(home: Path) -> LocalAuthority:
    return LocalAuthority.open(home, datetime.now(UTC))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def first(certificate: Certificate) -> x509.Certificate:
    return parse_chain(certificate.chain_pem)[0]


def write_pair(folder: Path, chain: bytes, key: bytes) -> tuple[Path, Path]:
    (folder / "chain.pem").write_bytes(chain)
    (folder / "chain.key").write_bytes(key)
    return folder / "chain.pem", folder / "chain.key"


def forge_from_the_root(home: Path, name: str) -> Forged:
    """Return what a thief of the root key would make."""
    root = parse_chain((home / "dev/root.pem").read_bytes())[0]
    key, _ = parse_key((home / "dev/root.key").read_bytes())
    now = datetime.now(UTC)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return forge(
        name,
        issuer=Forged(root, key),
        dates=(now - DAY, now + DAY),
        extensions=[key_id],
    )


# The root


def test_root_is_kept_where_only_this_user_may_look(home: Path) -> None:
    assert [mode(home / name) for name in ("dev/root.pem", "dev/root.key", "locks/dev.lock")] == [0o600] * 3
    assert [mode(home / name) for name in ("dev", "locks")] == [0o700] * 2
    assert sorted(entry.name for entry in (home / "dev").iterdir()) == ["root.key", "root.pem"]


def test_root_is_made_once(tmp_path: Path) -> None:
    made = LocalAuthority.open(tmp_path, NOW)
    content = made.root_path.read_bytes()
    assert made.root_path == tmp_path / "dev/root.pem"
    assert LocalAuthority.open(tmp_path, NOW + DAY).root_path.read_bytes() == content


def test_root_may_sign_only_for_names_that_no_public_authority_signs(home: Path) -> None:
    root = parse_chain((home / "dev/root.pem").read_bytes())[0]
    constraints = root.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert constraints.value.excluded_subtrees is None
    assert constraints.value.permitted_subtrees == [
        *(x509.DNSName(host) for host in ("localhost", "test", "internal", "home.arpa")),
        *(x509.IPAddress(ip_network(n)) for n in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),
        *(x509.IPAddress(ip_network(n)) for n in ("::1/128", "fc00::/7")),
    ]


def test_root_is_an_authority_of_ten_years_with_room_for_one_intermediate(tmp_path: Path) -> None:
    LocalAuthority.open(tmp_path, NOW)
    root = parse_chain((tmp_path / "dev/root.pem").read_bytes())[0]
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value) == (True, x509.BasicConstraints(ca=True, path_length=1))
    usage = root.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    assert root.not_valid_before_utc == NOW - timedelta(hours=1)
    assert root.not_valid_after_utc == NOW + timedelta(days=3652)


def test_root_says_on_which_machine_and_for_whom_it_was_made(home: Path) -> None:
    root = parse_chain((home / "dev/root.pem").read_bytes())[0]
    [common_name] = root.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert common_name.value == f"edge local root {pwd.getpwuid(os.geteuid()).pw_name}@{socket.gethostname()}"[:64]
    assert root.issuer == root.subject


def test_long_name_of_a_machine_is_cut_at_a_whole_character(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "\u00e9" * 64)
    LocalAuthority.open(tmp_path, NOW)
    root = parse_chain((tmp_path / "dev/root.pem").read_bytes())[0]
    [common_name] = root.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert str(common_name.value).endswith("\u00e9")
    assert len(str(common_name.value).encode()) in (63, 64)


def test_repr_of_an_authority_shows_only_its_place(tmp_path: Path) -> None:
    assert repr(LocalAuthority.open(tmp_path, NOW)) == f"LocalAuthority(root_path={tmp_path / 'dev/root.pem'!r})"


# Certificates from it


def test_certificate_is_for_a_server_of_the_asked_names(authority: LocalAuthority) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    issued = authority.issue(["LocalHost", "127.0.0.1", "api.test", "::1", "localhost"], now)
    assert issued.names == ("localhost", "api.test", "127.0.0.1", "::1")
    assert (issued.cert_path, issued.key_path, issued.key_type) == (None, None, "ecdsa")
    assert (issued.not_before, issued.not_after) == (now - timedelta(hours=1), now + 30 * DAY)
    extensions = first(issued).extensions
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_each_certificate_has_its_own_key_and_leaves_no_file(home: Path, authority: LocalAuthority) -> None:
    files = sorted(home.rglob("*"))
    one, two = (authority.issue(["localhost"], datetime.now(UTC)) for _ in range(2))
    assert one.key_pem != two.key_pem
    assert first(one).serial_number != first(two).serial_number
    assert parse_key(one.key_pem)[0].public_key() == first(one).public_key()
    assert sorted(home.rglob("*")) == files


def test_certificate_does_not_outlive_its_root(tmp_path: Path) -> None:
    authority = LocalAuthority.open(tmp_path, NOW)
    end = NOW + timedelta(days=3652)
    assert authority.issue(["localhost"], end - DAY).not_after == end


def test_no_name_is_refused(authority: LocalAuthority) -> None:
    with pytest.raises(CertificateError) as caught:
        authority.issue([], NOW)
    assert str(caught.value) == "no name to make a certificate for; name at least one, such as 'localhost'"


@pytest.mark.parametrize(
    "name",
    [
        "localhost",
        "a.localhost",
        "*.localhost",
        "a_b.test",
        "svc.internal",
        "nas.home.arpa",
        "10.1.2.3",
        "fd00::1",
        "x" * 63 + ".test",
    ],
)
def test_name_of_this_machine_or_network_is_signed(authority: LocalAuthority, name: str) -> None:
    assert authority.issue([name], datetime.now(UTC)).names == (name,)


@pytest.mark.parametrize(
    "name",
    [
        "www.example.com",
        "localhost.example.com",
        "notlocalhost",
        "mytest",
        "8.8.8.8",
        "172.32.0.1",
        "::2",
        "fe80::1",
    ],
)
def test_name_of_the_internet_is_refused(authority: LocalAuthority, name: str) -> None:
    with pytest.raises(CertificateError) as caught:
        authority.issue(["localhost", name], datetime.now(UTC))
    assert str(caught.value) == (
        f"name {name!r}: the local root may sign only for {ALLOWED} and what is below them; "
        "choose such a name, or pass a certificate from a public authority with --cert"
    )


@pytest.mark.parametrize(
    "name",
    [
        "",
        "https://localhost",
        "localhost:8443",
        "[::1]",
        "b\u00fccher.test",
        "-a.test",
        "a-.test",
        "a..test",
        "a b.test",
        "x" * 64 + ".test",
        ("x" * 50 + ".") * 5 + "test",
        "a.*.test",
        "*",
        "test.",
        "a.test\n",
    ],
)
def test_what_is_not_a_name_is_refused(authority: LocalAuthority, name: str) -> None:
    with pytest.raises(CertificateError) as caught:
        authority.issue([name], NOW)
    assert str(caught.value) == (
        f"name {name!r}: neither a host name in ASCII nor an IP address; write it without scheme, port or brackets"
    )


# Clients


@pytest.mark.parametrize("strict", [False, True], ids=["default", "strict as Python 3.13"])
@pytest.mark.parametrize("host", ["localhost", "api.test", "127.0.0.1", "::1", "web.app.localhost"])
def test_client_that_trusts_the_root_accepts(
    home: Path, authority: LocalAuthority, tmp_path: Path, host: str, strict: bool
) -> None:
    issued = authority.issue(DEV_NAMES, datetime.now(UTC))
    chain, key = write_pair(tmp_path, issued.chain_pem, issued.key_pem)
    handshake(home / "dev/root.pem", chain, key, host, strict=strict)


def test_client_accepts_a_certificate_for_addresses_alone(
    home: Path, authority: LocalAuthority, tmp_path: Path
) -> None:
    # OpenSSL would hold a common name such as 127.0.0.1 to the root's constraints for hosts.
    issued = authority.issue(["127.0.0.1"], datetime.now(UTC))
    chain, key = write_pair(tmp_path, issued.chain_pem, issued.key_pem)
    handshake(home / "dev/root.pem", chain, key, "127.0.0.1", strict=True)


def test_client_refuses_a_name_that_was_not_asked_for(home: Path, authority: LocalAuthority, tmp_path: Path) -> None:
    issued = authority.issue(["localhost"], datetime.now(UTC))
    chain, key = write_pair(tmp_path, issued.chain_pem, issued.key_pem)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(home / "dev/root.pem", chain, key, "api.test")


def test_client_with_another_root_refuses(authority: LocalAuthority, tmp_path: Path) -> None:
    issued = authority.issue(["localhost"], datetime.now(UTC))
    chain, key = write_pair(tmp_path, issued.chain_pem, issued.key_pem)
    other = LocalAuthority.open(tmp_path / "other", datetime.now(UTC))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(other.root_path, chain, key, "localhost")


@pytest.mark.parametrize("host", ["www.example.com", "8.8.8.8"])
def test_client_refuses_what_a_stolen_root_key_signs_for_the_internet(home: Path, tmp_path: Path, host: str) -> None:
    forged = forge_from_the_root(home, host)
    chain, key = write_pair(tmp_path, forged.pem, forged.key_pem)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        handshake(home / "dev/root.pem", chain, key, host)


def test_stolen_root_key_test_would_pass_for_a_permitted_name(home: Path, tmp_path: Path) -> None:
    forged = forge_from_the_root(home, "www.test")
    chain, key = write_pair(tmp_path, forged.pem, forged.key_pem)
    handshake(home / "dev/root.pem", chain, key, "www.test")


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the tool openssl")
@pytest.mark.parametrize(("host", "verdict"), [("www.test", "OK"), ("www.example.com", "permitted subtree violation")])
def test_openssl_refuses_what_a_stolen_root_key_signs(home: Path, tmp_path: Path, host: str, verdict: str) -> None:
    forged = forge_from_the_root(home, host)
    chain, _ = write_pair(tmp_path, forged.pem, forged.key_pem)
    done = subprocess.run(
        [
            "openssl",
            "verify",
            "-purpose",
            "sslserver",
            "-no-CApath",
            "-no-CAstore",
            "-CAfile",
            home / "dev/root.pem",
            chain,
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert verdict in done.stdout + done.stderr


def python_313() -> str | None:
    found = shutil.which("python3.13")
    # A version manager's stand-in may be there without the version.
    works = found and subprocess.run([found, "-V"], capture_output=True, timeout=30, check=False).returncode == 0
    return found if works else None


@pytest.mark.skipif(not python_313(), reason="needs python3.13")
def test_python_313_accepts_the_chain_as_its_strict_default(
    home: Path, authority: LocalAuthority, tmp_path: Path
) -> None:
    issued = authority.issue(DEV_NAMES, datetime.now(UTC))
    chain, key = write_pair(tmp_path, issued.chain_pem, issued.key_pem)
    program = Path(handshake.__code__.co_filename)
    done = subprocess.run(
        [str(python_313()), program, home / "dev/root.pem", chain, key, "localhost"],
        env={name: value for name, value in os.environ.items() if "CERT" not in name and "CA_" not in name},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("accepted\n", "")
