"""Each verdict is held to what OpenSSL does: by default, as strict as Python 3.13, and under a real python3.13."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_certs.trust.defects import Defect, Severity, find_defects
from tests.certs.handshake import handshake

HANDSHAKE = Path(__file__).parents[1] / "handshake.py"
YEAR = timedelta(days=365)
HOST = "intranet.corp.example"

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Root:
    """How a root is made; the default has nothing wrong with it."""

    ca: bool | None = True
    ca_critical: bool = True
    can_sign: bool | None = True
    has_identifier: bool = True
    purposes: Sequence[x509.ObjectIdentifier] = ()
    only_for: str = ""
    rsa_bits: int = 0
    curve: ec.EllipticCurve | None = None
    starts: timedelta = -YEAR
    ends: timedelta = YEAR

    def key(self) -> Key:
        if self.rsa_bits:
            return rsa.generate_private_key(65537, self.rsa_bits)
        return ec.generate_private_key(self.curve or ec.SECP256R1())

    def extensions(self, key: Key) -> list[tuple[x509.ExtensionType, bool]]:
        found: list[tuple[x509.ExtensionType, bool]] = []
        if self.ca is not None:
            found.append((x509.BasicConstraints(self.ca, None), self.ca_critical))
        if self.can_sign is not None:
            found.append((usage(self.can_sign), True))
        if self.has_identifier:
            found.append((x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False))
        if self.purposes:
            found.append((x509.ExtendedKeyUsage(self.purposes), False))
        if self.only_for:
            found.append((x509.NameConstraints([x509.DNSName(self.only_for)], None), True))
        return found


def usage(can_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(not can_sign, False, False, False, False, can_sign, can_sign, False, False)


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])


def sign(
    subject: str,
    issuer: str,
    keys: tuple[Key, Key],
    dates: tuple[timedelta, timedelta],
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
) -> x509.Certificate:
    """Sign the public half of the first key with the second one."""
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name(issuer), name(subject), keys[0].public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now + dates[0]).not_valid_after(now + dates[1])
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(keys[1], SHA256())


def make_root(root: Root, *, issuer: str = "Corp Root") -> tuple[x509.Certificate, Key]:
    key = root.key()
    signer = key if issuer == "Corp Root" else ec.generate_private_key(ec.SECP256R1())
    return sign("Corp Root", issuer, (key, signer), (root.starts, root.ends), root.extensions(key)), key


def make_site(root_key: Key) -> tuple[x509.Certificate, Key]:
    """A site's certificate with nothing wrong."""
    key = ec.generate_private_key(ec.SECP256R1())
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectAlternativeName([x509.DNSName(HOST)]), False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), False),
        (usage(False), True),
    ]
    return sign("Site", "Corp Root", (key, root_key), (-timedelta(days=1), timedelta(days=1)), extensions), key


def write_all(folder: Path, root: x509.Certificate, root_key: Key) -> tuple[Path, Path, Path]:
    site, key = make_site(root_key)
    paths = folder / "root.pem", folder / "site.pem", folder / "site.key"
    paths[0].write_bytes(root.public_bytes(Encoding.PEM))
    paths[1].write_bytes(site.public_bytes(Encoding.PEM))
    paths[2].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


def accepts(paths: tuple[Path, Path, Path], *, strict: bool) -> bool:
    try:
        handshake(*paths, HOST, strict=strict)
    except ssl.SSLCertVerificationError:
        return False
    return True


def defects(root: x509.Certificate) -> list[Defect]:
    return find_defects(root, datetime.now(UTC))


REFUSED = [
    ("not-an-authority", Root(ca=False, can_sign=None)),
    ("not-an-authority", Root(ca=False)),
    ("not-an-authority", Root(ca=None, can_sign=None, has_identifier=False)),
    ("cannot-sign", Root(can_sign=False)),
    ("wrong-purpose", Root(purposes=[ExtendedKeyUsageOID.CLIENT_AUTH])),
    ("wrong-purpose", Root(purposes=[ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])),
    ("expired", Root(ends=-timedelta(days=2))),
    ("not-yet-valid", Root(starts=timedelta(days=2))),
    ("short-key", Root(rsa_bits=1024)),
    ("short-key", Root(curve=ec.SECP192R1())),
]
STRICT = [
    ("basic-constraints-not-critical", Root(ca_critical=False)),
    ("no-basic-constraints", Root(ca=None)),
    ("no-key-usage", Root(can_sign=None)),
    ("no-subject-key-identifier", Root(has_identifier=False)),
]
HARMLESS = [
    (None, Root()),
    (None, Root(rsa_bits=2048)),
    (None, Root(purposes=[ExtendedKeyUsageOID.SERVER_AUTH])),
    ("name-constraints", Root(only_for="corp.example")),
]
CASES = [
    *((Severity.REFUSES, code, root) for code, root in REFUSED),
    *((Severity.STRICT, code, root) for code, root in STRICT),
    *((Severity.REMARK, code, root) for code, root in HARMLESS),
]
IDS = [f"{severity.value}-{code}-{number}" for number, (severity, code, _) in enumerate(CASES)]


@pytest.mark.parametrize(("severity", "code", "made"), CASES, ids=IDS)
def test_verdict_on_a_root_is_what_clients_do_with_it(
    severity: Severity, code: str | None, made: Root, tmp_path: Path
) -> None:
    root, key = make_root(made)
    found = defects(root)
    assert [(defect.severity, defect.code) for defect in found] == ([(severity, code)] if code else [])
    paths = write_all(tmp_path, root, key)
    assert accepts(paths, strict=False) is (severity is not Severity.REFUSES)
    assert accepts(paths, strict=True) is (severity is Severity.REMARK)


@cache
def python_313() -> str | None:
    found = shutil.which("python3.13")
    # A version manager's stand-in may be there without the version.
    works = found and subprocess.run([found, "-V"], capture_output=True, timeout=30, check=False).returncode == 0
    return found if works else None


@pytest.mark.skipif(not python_313(), reason="needs python3.13")
@pytest.mark.parametrize(("severity", "code", "made"), CASES, ids=IDS)
def test_verdict_on_a_root_is_what_python_313_does_with_it(
    severity: Severity, code: str | None, made: Root, tmp_path: Path
) -> None:
    paths = write_all(tmp_path, *make_root(made))
    done = subprocess.run(
        [str(python_313()), str(HANDSHAKE), *map(str, paths), HOST],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if severity is Severity.REMARK:
        assert done.stdout == "accepted\n", done.stderr
    else:
        assert "SSLCertVerificationError" in done.stderr, (severity, code, done.stdout)


def test_several_defects_come_worst_first() -> None:
    root, _ = make_root(Root(can_sign=None, ends=-timedelta(days=2), only_for="corp.example"))
    assert [defect.code for defect in defects(root)] == ["expired", "no-key-usage", "name-constraints"]


def test_certificate_below_a_root_is_told_that_the_root_is_wanted_too() -> None:
    root, _ = make_root(Root(), issuer="Another Root")
    assert [defect.code for defect in defects(root)] == ["no-authority-key-identifier", "not-a-root"]


def test_names_that_a_root_is_limited_to_are_shown() -> None:
    [defect] = defects(make_root(Root(only_for="corp.example"))[0])
    assert defect.text == "good only for corp.example and what is below them"


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["openssl", *arguments], cwd=folder, env={"PATH": os.environ["PATH"]}, check=True, capture_output=True
    )


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the tool openssl")
@pytest.mark.parametrize("algorithm", ["sha1", "md5"])
def test_weak_signature_on_a_root_is_remarked_and_harmless(algorithm: str, tmp_path: Path) -> None:
    openssl(tmp_path, *f"req -x509 -newkey rsa:2048 -nodes -keyout k -out c -{algorithm} -days 9 -subj /CN=R".split())
    root = x509.load_pem_x509_certificate((tmp_path / "c").read_bytes())
    assert "weak-signature" in [defect.code for defect in defects(root) if defect.severity is Severity.REMARK]


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the tool openssl")
def test_root_of_x509_version_1_works_until_python_313(tmp_path: Path) -> None:
    openssl(tmp_path, *["req", "-newkey", "rsa:2048", "-nodes", "-keyout", "k", "-out", "r", "-subj", "/CN=R"])
    openssl(tmp_path, *["x509", "-req", "-in", "r", "-signkey", "k", "-days", "9", "-out", "c"])
    root = x509.load_pem_x509_certificate((tmp_path / "c").read_bytes())
    assert root.version is x509.Version.v1
    assert {defect.severity for defect in defects(root)} == {Severity.STRICT}


def test_extension_that_cannot_be_read_refuses() -> None:
    der = make_root(Root())[0].public_bytes(Encoding.DER)
    # The BOOLEAN of CA:TRUE becomes one that DER does not have.
    broken = der.replace(b"\x30\x03\x01\x01\xff", b"\x30\x03\x01\x01\x07")
    assert broken != der
    [defect] = defects(x509.load_der_x509_certificate(broken))
    assert (defect.code, defect.severity) == ("damaged-extension", Severity.REFUSES)


@dataclass(frozen=True)
class Unknown:
    """A certificate with a key and a signature of kinds that `cryptography` does not know, and OpenSSL may."""

    known: x509.Certificate

    @property
    def signature_hash_algorithm(self) -> None:
        raise UnsupportedAlgorithm("OID 1.2.3")

    def public_key(self) -> None:
        raise UnsupportedAlgorithm("OID 1.2.3")

    def __getattr__(self, attribute: str) -> object:
        return getattr(self.known, attribute)


def test_kinds_of_keys_and_signatures_that_are_not_known_are_left_to_openssl() -> None:
    unknown = Unknown(make_root(Root())[0])
    assert find_defects(unknown, datetime.now(UTC)) == []  # type: ignore[arg-type]  # it is one, as far as is asked
