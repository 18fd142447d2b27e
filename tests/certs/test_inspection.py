from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ExtensionOID

from edge_certs.errors import CertificateError
from edge_certs.inspection import (
    MAX_PATH,
    PUBLIC,
    Inspection,
    Presented,
    Roots,
    Severity,
    describe_facts,
    describe_key,
    inspect_chain,
    matches_host,
)
from tests.certs.forge import AUTHORITY, DAY, NOW, Forged, forge

Certificate = x509.Certificate


def named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def make(
    subject: str,
    *extensions: x509.ExtensionType,
    issuer: Forged | None = None,
    names: tuple[str, ...] = (),
    days: tuple[int, int] = (-1, 30),
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    start: datetime = NOW,
) -> Forged:
    """Return a certificate with its own name, so that a path can be followed."""
    own = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(
        issuer.certificate.subject if issuer else named(subject), named(subject), own.public_key()
    )
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(start + days[0] * DAY).not_valid_after(start + days[1] * DAY)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
    for extension in extensions:
        builder = builder.add_extension(extension, isinstance(extension, x509.NameConstraints))
    return Forged(builder.sign(issuer.key if issuer else own, SHA256()), own)


ROOT = make("Root", AUTHORITY, days=(-100, 3000))
MIDDLE = make("Middle", AUTHORITY, issuer=ROOT, days=(-50, 1000))
KEY_ID = x509.AuthorityKeyIdentifier(b"id", None, None)
LEAF = make("leaf", KEY_ID, issuer=MIDDLE, names=("shop.example", "*.shop.example"))
TRUSTED = Roots([("added here", [ROOT.certificate])])
NOBODY = Roots([])


def look(
    *chain: Forged,
    roots: Roots = TRUSTED,
    host: str | None = None,
    key: Forged | None = None,
    now: datetime = NOW,
) -> Inspection:
    public = key.key.public_key() if key else None
    return inspect_chain(Presented(tuple(each.certificate for each in chain), host, public), roots, now)


def texts(inspection: Inspection, severity: Severity) -> list[str]:
    return [finding.text for finding in inspection.findings if finding.severity is severity]


def refusals(inspection: Inspection) -> list[str]:
    assert inspection.is_refused == bool(texts(inspection, Severity.REFUSED))
    return texts(inspection, Severity.REFUSED)


def test_good_chain_leads_to_its_root_and_nothing_is_wrong_with_it() -> None:
    inspection = look(LEAF, MIDDLE, host="shop.example", key=LEAF)
    assert inspection.path == ("CN=leaf", "CN=Middle", "CN=Root")
    assert [finding.text for finding in inspection.findings] == ["leads to CN=Root, added here"]
    assert not inspection.is_refused


def test_missing_intermediate_is_named_with_the_place_where_it_is() -> None:
    url = "http://ca.example/middle.der"
    place = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(url))
    ocsp = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier("http://o"))
    leaf = make("leaf", KEY_ID, x509.AuthorityInformationAccess([ocsp, place]), issuer=MIDDLE, names=("a.example",))
    assert refusals(look(leaf)) == [
        f"the certificate of CN=Middle, which signed it, is missing; append it: it is at {url}"
    ]
    assert refusals(look(LEAF)) == [
        "the certificate of CN=Middle, which signed it, is missing; append it: ask the authority for the full chain"
    ]


def test_wrong_order_is_said_with_the_place_of_the_servers_own() -> None:
    assert refusals(look(MIDDLE, LEAF)) == ["the server's own certificate is number 2 of 2; put it first"]


def test_intermediates_that_do_not_follow_each_other_are_a_warning() -> None:
    lower = make("Lower", AUTHORITY, issuer=MIDDLE)
    leaf = make("leaf", KEY_ID, issuer=lower, names=("a.example",))
    inspection = look(leaf, MIDDLE, lower)
    assert refusals(inspection) == []
    assert texts(inspection, Severity.WARNING) == [
        "the certificates do not follow each other; put each after the one that it signed"
    ]


def test_what_does_not_belong_into_a_chain_is_named() -> None:
    stranger = make("Stranger", AUTHORITY, issuer=ROOT)
    inspection = look(LEAF, MIDDLE, ROOT, stranger, MIDDLE)
    assert refusals(inspection) == []
    assert texts(inspection, Severity.WARNING) == [
        "a certificate is in it twice; remove one",
        "number 4 signed nothing in this chain; leave it out",
    ]
    assert texts(inspection, Severity.NOTE)[0] == "number 3 is a root: clients have their own; leave it out"


def test_key_of_another_certificate_is_refused() -> None:
    assert refusals(look(LEAF, MIDDLE, key=MIDDLE)) == [
        "the private key does not belong to it; name the key that it was made with by --key"
    ]


@pytest.mark.parametrize(
    ("host", "matches"),
    [
        ("shop.example", True),
        ("SHOP.example.", True),
        ("de.shop.example", True),
        ("a.de.shop.example", False),
        ("example", False),
        ("192.0.2.1", False),
    ],
)
def test_host_is_matched_as_clients_do(host: str, matches: bool) -> None:
    assert matches_host(LEAF.certificate, host) is matches
    expected = [] if matches else [f"not for {host!r} but for shop.example, *.shop.example; get one for that name"]
    assert refusals(look(LEAF, MIDDLE, host=host)) == expected


def test_address_is_matched_in_every_spelling() -> None:
    certificate = forge("2001:db8::1").certificate
    assert matches_host(certificate, "2001:0DB8:0::1")


def test_certificate_without_alternative_names_is_refused() -> None:
    leaf = make("shop.example", KEY_ID, issuer=ROOT)
    assert refusals(look(leaf, host="shop.example")) == [
        "no subject alternative name, and clients look at no other; get another one"
    ]


def test_certificate_for_clients_only_is_refused() -> None:
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    leaf = make("leaf", KEY_ID, usage, issuer=ROOT, names=("a.example",))
    assert refusals(look(leaf)) == ["not for servers by its extended key usage; get one for serverAuth"]
    for good in (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE):
        leaf = make("leaf", KEY_ID, x509.ExtendedKeyUsage([good]), issuer=ROOT, names=("a.example",))
        assert refusals(look(leaf)) == []


def test_must_staple_is_refused() -> None:
    staple = x509.TLSFeature([x509.TLSFeatureType.status_request])
    leaf = make("leaf", KEY_ID, staple, issuer=ROOT, names=("a.example",))
    assert refusals(look(leaf)) == ["must-staple: Firefox refuses it as nobody staples OCSP here; get one without it"]
    assert describe_facts(leaf.certificate).must_staple


def test_authority_as_a_server_and_a_missing_key_identifier_are_warnings() -> None:
    alone = make("alone", AUTHORITY, names=("a.example",))
    inspection = look(alone, roots=Roots([("added here", [alone.certificate])]))
    assert refusals(inspection) == []
    assert texts(inspection, Severity.WARNING) == [
        "it is an authority's certificate, not a server's; some clients refuse it",
        "no authority key identifier: Python 3.13 and later refuse it",
    ]
    assert inspection.path == ("CN=alone",)


def test_dates_are_looked_at_in_the_whole_path() -> None:
    short = make("Short", AUTHORITY, issuer=ROOT, days=(-9, 2))
    leaf = make("leaf", KEY_ID, issuer=short, names=("a.example",))
    assert refusals(look(leaf, short, now=NOW + 3 * DAY)) == ["CN=Short: expired at 2027-03-03T12:00Z; renew it"]
    assert refusals(look(leaf, short, now=NOW - 2 * DAY)) == [
        "CN=leaf: not valid before 2027-02-28T12:00Z; check the clock, or wait"
    ]


def test_weak_keys_and_signatures_are_refused() -> None:
    weak = make("weak", KEY_ID, issuer=ROOT, names=("a.example",), key=rsa.generate_private_key(65537, 1024))
    assert refusals(look(weak)) == ["CN=weak: its RSA key has 1024 bits, 2048 needed"]
    odd = make("odd", KEY_ID, issuer=ROOT, names=("a.example",), key=ec.generate_private_key(ec.SECP256K1()))
    assert refusals(look(odd)) == ["CN=odd: its curve secp256k1 is none of TLS 1.3's"]


def test_signature_by_way_of_sha1_is_refused() -> None:
    # `cryptography` signs nothing with SHA-1 any more: this one was made by `openssl x509 -req -sha1`.
    certificate = x509.load_pem_x509_certificate(SHA1_LEAF)
    assert isinstance(certificate.signature_hash_algorithm, SHA1)
    found = inspect_chain(Presented((certificate,)), NOBODY, NOW)
    assert "CN=sha1.example: signed by way of SHA1; get another one" in refusals(found)
    assert describe_facts(certificate).signature == "ecdsa-with-SHA1"


def test_self_signed_certificate_is_said_to_be_one() -> None:
    alone = make("alone", KEY_ID, names=("a.example",))
    assert refusals(look(alone)) == ["self-signed, which is not trusted here; edge trust add FILE trusts a root"]


def test_root_that_is_not_trusted_is_named() -> None:
    assert refusals(look(LEAF, MIDDLE, ROOT, roots=NOBODY)) == [
        "ends in the root CN=Root, which is not trusted here; edge trust add FILE trusts a root"
    ]


def test_name_outside_of_an_authoritys_constraints_is_refused() -> None:
    constraints = x509.NameConstraints([x509.DNSName("corp.example")], None)
    bound = make("Bound", AUTHORITY, constraints, issuer=ROOT)
    leaf = make("leaf", KEY_ID, issuer=bound, names=("a.corp.example", "www.example.org"))
    assert refusals(look(leaf, bound)) == ["CN=Bound may not sign for 'www.example.org'; use another name"]


PUBLIC_ROOTS = Roots([(PUBLIC, [ROOT.certificate])])


@pytest.mark.parametrize(
    ("start", "days", "refused"),
    [
        (datetime(2027, 1, 1, tzinfo=UTC), 201, False),
        (datetime(2027, 1, 1, tzinfo=UTC), 202, True),
        (datetime(2025, 1, 1, tzinfo=UTC), 399, False),
        (datetime(2025, 1, 1, tzinfo=UTC), 400, True),
        (datetime(2019, 1, 1, tzinfo=UTC), 800, False),
    ],
)
def test_lifetime_of_public_certificates_is_held_to_their_rules(start: datetime, days: int, refused: bool) -> None:
    leaf = make("leaf", KEY_ID, issuer=ROOT, names=("a.example",), start=start, days=(0, days))
    found = refusals(look(leaf, roots=PUBLIC_ROOTS, now=start + timedelta(hours=1)))
    assert any(f"lives for {days} days" in text for text in found) is refused
    assert found[-1 - refused] == ("no timestamps of certificate transparency (SCT) in it: Chrome and Safari refuse it")
    assert describe_facts(leaf.certificate).scts == 0


def test_rules_of_public_authorities_are_for_those_alone() -> None:
    leaf = make("leaf", KEY_ID, issuer=ROOT, names=("a.example",), days=(-1, 2000))
    assert refusals(look(leaf)) == []


def test_path_that_never_ends_is_given_up() -> None:
    issuers = [ROOT]
    for number in range(MAX_PATH + 2):
        issuers.append(make(f"Authority {number}", AUTHORITY, issuer=issuers[-1]))
    leaf = make("leaf", KEY_ID, issuer=issuers[-1], names=("a.example",))
    inspection = look(leaf, *reversed(issuers[1:]))
    assert len(inspection.path) == MAX_PATH
    assert inspection.is_refused


def test_same_name_with_another_key_is_not_the_issuer() -> None:
    impostor = make("Middle", AUTHORITY, issuer=ROOT)
    assert "is missing" in refusals(look(LEAF, impostor))[0]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (ec.generate_private_key(ec.SECP384R1()), "ECDSA secp384r1"),
        (rsa.generate_private_key(65537, 2048), "RSA 2048"),
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
        (ed448.Ed448PrivateKey.generate(), "Ed448"),
    ],
    ids=["ecdsa", "rsa", "ed25519", "ed448"],
)
def test_key_is_described(key: object, words: str) -> None:
    certificate = forge(key=key).certificate  # type: ignore[arg-type]
    assert describe_key(certificate) == words


def test_key_of_a_rare_kind_is_described_too() -> None:
    key = dsa.generate_private_key(1024)
    builder = x509.CertificateBuilder(named("x"), named("x"), key.public_key()).serial_number(1)
    builder = builder.not_valid_before(NOW).not_valid_after(NOW + DAY)
    assert describe_key(builder.sign(key, SHA256())) == "DSA"


def test_facts_are_those_of_the_certificate() -> None:
    facts = describe_facts(LEAF.certificate)
    assert (facts.subject, facts.issuer, facts.names) == ("CN=leaf", "CN=Middle", ("shop.example", "*.shop.example"))
    assert facts.serial == f"{LEAF.certificate.serial_number:x}"
    assert not facts.is_authority
    assert describe_facts(MIDDLE.certificate).is_authority
    nameless = x509.CertificateBuilder(x509.Name([]), x509.Name([]), MIDDLE.key.public_key()).serial_number(1)
    signed = nameless.not_valid_before(NOW).not_valid_after(NOW + DAY).sign(MIDDLE.key, SHA256())
    assert describe_facts(signed).subject == "(no name)"


def test_damaged_extension_is_said_to_be_one() -> None:
    damaged = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x05")
    leaf = make("leaf", damaged, issuer=ROOT)
    with pytest.raises(CertificateError, match=r"^an extension is damaged: "):
        look(leaf)


def test_key_of_a_kind_that_nobody_knows_is_said_to_be_one() -> None:
    # The identifier of elliptic curve keys, and one that is not assigned.
    der = LEAF.certificate.public_bytes(Encoding.DER).replace(
        b"\x2a\x86\x48\xce\x3d\x02\x01", b"\x2a\x86\x48\xce\x3d\x02\x7f"
    )
    certificate = x509.load_der_x509_certificate(der)
    assert describe_key(certificate) == "of an unknown kind"
    with pytest.raises(CertificateError, match=r"^a part of it cannot be read: "):
        inspect_chain(Presented((certificate,)), NOBODY, NOW)


def test_timestamps_of_certificate_transparency_are_counted() -> None:
    # RFC 6962 section 3.3: a list of one, by ECDSA with SHA-256; nobody looks at its signature here.
    timestamp = b"\0" + bytes(32) + bytes(8) + b"\0\0" + b"\4\3" + b"\0\1" + b"s"
    listed = len(timestamp).to_bytes(2, "big") + timestamp
    content = len(listed).to_bytes(2, "big") + listed
    oid = ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS
    value = x509.UnrecognizedExtension(oid, b"\x04" + bytes([len(content)]) + content)
    leaf = make("leaf", KEY_ID, value, issuer=ROOT, names=("a.example",))
    assert describe_facts(leaf.certificate).scts == 1
    assert refusals(look(leaf, roots=PUBLIC_ROOTS)) == []


SHA1_LEAF = b"""\
-----BEGIN CERTIFICATE-----
MIIBHDCBxQIUDDH6LCKtwU6dQXrENLtQSfIQlNswCQYHKoZIzj0EATAMMQowCAYD
VQQDDAFSMCAXDTI2MTEyMTA2NDcyNVoYDzIwODEwODI0MDY0NzI1WjAXMRUwEwYD
VQQDDAxzaGExLmV4YW1wbGUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASrH1Z5
EBLLBwRNfA6rKt5vG96anDTCEksSHV2l2jh9iE2Qt3iUi6vu/WCg+grQMWjHn1cF
uHl8qZJXSbMDA7feMAkGByqGSM49BAEDRwAwRAIgQQEtzvDDvx1sKIn23yMR2luf
3UUj+2OzQUWVGagW0UQCIC0Zey9TbQIWGCRMSmGk4vhkMOw3Qi/MGewGi6AofRcL
-----END CERTIFICATE-----
"""
