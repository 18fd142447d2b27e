from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from edge_certs.ca import PERMITTED_HOSTS, LocalAuthority
from edge_certs.errors import CertificateError
from edge_certs.intermediate import ADVICE, INTERMEDIATE_LIFETIME, Intermediate
from edge_certs.x509 import parse_chain
from tests.certs.forge import AUTHORITY, DAY, NOW, Forged, forge
from tests.certs.handshake import handshake


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    LocalAuthority.open(home, NOW)
    return home


@pytest.fixture(scope="module")
def intermediate(home: Path) -> Intermediate:
    return LocalAuthority.open(home, NOW).delegate(NOW)


def test_it_signs_servers_only_and_for_the_roots_names(intermediate: Intermediate) -> None:
    certificate = intermediate.certificate
    extensions = certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    permitted = extensions.get_extension_for_class(x509.NameConstraints)
    root = intermediate.root.extensions.get_extension_for_class(x509.NameConstraints)
    assert (permitted.critical, permitted.value) == (True, root.value)
    hosts = [item.value for item in permitted.value.permitted_subtrees or () if isinstance(item, x509.DNSName)]
    assert tuple(hosts) == PERMITTED_HOSTS


def test_it_lives_for_a_month_and_never_longer_than_the_root(home: Path, intermediate: Intermediate) -> None:
    assert intermediate.certificate.not_valid_after_utc == NOW + timedelta(days=30) == NOW + INTERMEDIATE_LIFETIME
    late = intermediate.root.not_valid_after_utc - DAY
    certificate = LocalAuthority.open(home, late).delegate(late).certificate
    assert certificate.not_valid_after_utc == intermediate.root.not_valid_after_utc


def test_what_it_signs_is_accepted_by_who_trusts_the_root(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    authority = LocalAuthority.open(tmp_path, now)
    issued = authority.delegate(now).issue(["shop.internal", "127.0.0.1"], now)
    chain, key = tmp_path / "chain.pem", tmp_path / "chain.key"
    chain.write_bytes(issued.chain_pem)
    key.write_bytes(issued.key_pem)
    for name in ("shop.internal", "127.0.0.1"):
        handshake(authority.root_path, chain, key, name, strict=True)


def test_chain_is_the_servers_certificate_and_its_own(intermediate: Intermediate) -> None:
    issued = intermediate.issue(["localhost"], NOW)
    leaf, own = parse_chain(issued.chain_pem)
    leaf.verify_directly_issued_by(own)
    assert own == intermediate.certificate
    assert leaf.not_valid_after_utc == own.not_valid_after_utc


def test_name_of_the_internet_is_refused(intermediate: Intermediate) -> None:
    with pytest.raises(CertificateError, match=r"^name 'shop\.example': the local root may sign only for localhost, "):
        intermediate.issue(["shop.example"], NOW)


def test_as_a_file_it_comes_back(intermediate: Intermediate) -> None:
    again = Intermediate.parse(intermediate.encode(), NOW)
    assert again.encode() == intermediate.encode()
    assert again.issue(["localhost"], NOW).names == ("localhost",)


def test_its_key_is_in_no_repr(intermediate: Intermediate) -> None:
    assert "key" not in repr(intermediate).lower()


def refusal(content: bytes, now: datetime = NOW) -> str:
    with pytest.raises(CertificateError) as caught:
        Intermediate.parse(content, now)
    assert caught.value.advice == ADVICE
    return caught.value.found


@pytest.mark.parametrize(
    ("days", "found"),
    [
        (31, "expired at 2027-03-31T12:00Z, now is 2027-04-01T12:00Z"),
        (-1, "not valid before 2027-03-01T11:00Z, now is 2027-02-28T12:00Z"),
    ],
)
def test_outside_of_its_dates_it_says_how_to_get_another(intermediate: Intermediate, days: int, found: str) -> None:
    assert refusal(intermediate.encode(), NOW + days * DAY) == found
    with pytest.raises(CertificateError) as caught:
        intermediate.issue(["localhost"], NOW + days * DAY)
    assert str(caught.value) == f"intermediate of the local root: {found}; {ADVICE}"


def pem(*parts: Forged) -> bytes:
    return parts[0].key_pem + b"".join(part.pem for part in parts)


ROOT = forge(extensions=[AUTHORITY])
CONSTRAINTS = x509.NameConstraints([x509.DNSName("localhost")], None)


def constrained(issuer: Forged) -> Forged:
    builder = x509.CertificateBuilder(issuer.certificate.subject, ROOT.certificate.subject, ROOT.key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
    builder = builder.add_extension(AUTHORITY, critical=True).add_extension(CONSTRAINTS, critical=True)
    return Forged(builder.sign(issuer.key, forge().certificate.signature_hash_algorithm), ROOT.key)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(pem(ROOT), id="no root"),
        pytest.param(pem(ROOT, ROOT), id="no constraints"),
        pytest.param(pem(forge(issuer=ROOT), ROOT), id="no authority"),
        pytest.param(pem(constrained(forge(extensions=[AUTHORITY])), ROOT), id="another root"),
        pytest.param(
            forge().key_pem + constrained(ROOT).pem + ROOT.pem,
            id="another key",
        ),
    ],
)
def test_something_else_is_refused(content: bytes) -> None:
    assert refusal(content) == "not an intermediate of a local root, its key and the root's certificate"


def test_intermediate_that_edge_did_not_make_is_taken_when_all_of_it_is_right() -> None:
    assert Intermediate.parse(pem(constrained(ROOT), ROOT), NOW).root == ROOT.certificate


def test_no_intermediate_of_an_expired_root(home: Path) -> None:
    authority = LocalAuthority.open(home, NOW)
    with pytest.raises(CertificateError, match=r"^local authority: certificate .*root\.pem: expired at 2037-"):
        authority.delegate(NOW + 3700 * DAY)
