from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x448
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.csr import (
    KEY_TYPES,
    MAX_CHAIN,
    check_issued,
    encode_csr,
    generate_key,
    is_address,
    is_covered,
    parse_name,
)
from edge_certs.errors import CertificateError
from edge_certs.x509 import parse_key
from tests.certs.forge import VALID_NOW, Forged, forge


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("Shop.Example", "shop.example", False),
        ("shop.example.", "shop.example", False),
        ("*.Shop.example", "*.shop.example", False),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", False),
        ("192.0.2.1", "192.0.2.1", True),
        ("2001:DB8:0:0::1", "2001:db8::1", True),
    ],
)
def test_name_is_taken_as_authorities_compare_it(text: str, name: str, address: bool) -> None:
    assert parse_name(text) == name
    assert is_address(name) is address


@pytest.mark.parametrize(
    "text",
    ["", ".", "a..b", "-a.example", "a-.example", "*", "a.*.example", "*.*.example", "bücher.example", "a b", "a/b",
     "https://shop.example", "shop.example:443", "shop_1.example", f"{'a' * 64}.example", "a." * 127 + "a", "a\n"],
)  # fmt: skip
def test_text_that_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(CertificateError, match=r"^name '.*': not a host name or an IP address; write it as in "):
        parse_name(text)


def test_request_is_signed_and_has_the_names_only() -> None:
    request = x509.load_der_x509_csr(encode_csr(generate_key(), ["shop.example", "*.shop.example", "192.0.2.1"]))
    assert request.is_signature_valid
    assert list(request.subject) == []
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["shop.example", "*.shop.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1"]
    key = request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_chain_of_this_key_and_these_names_is_taken() -> None:
    issued = forge("shop.example", "192.0.2.1")
    certificate = check_issued(issued.pem, issued.key_pem, ["192.0.2.1", "shop.example"])
    assert certificate.chain_pem == issued.pem
    assert certificate.key_pem == issued.key_pem


def test_chain_of_another_key_is_refused() -> None:
    with pytest.raises(
        CertificateError, match=r"^the certificate that the authority sent is for another key; order it"
    ):
        check_issued(forge("shop.example").pem, generate_key(), ["shop.example"])


def test_chain_without_one_of_the_names_is_refused() -> None:
    issued = forge("shop.example")
    with pytest.raises(CertificateError, match=r"^the certificate that the authority sent is not for 'www\.shop"):
        check_issued(issued.pem, issued.key_pem, ["shop.example", "www.shop.example"])


def strange(likeness: Forged) -> bytes:
    """Return a certificate with the subject of another one, for a key that signs nothing."""
    name = likeness.certificate.subject
    builder = x509.CertificateBuilder(name, name, x448.X448PrivateKey.generate().public_key(), 1)
    builder = builder.not_valid_before(VALID_NOW[0]).not_valid_after(VALID_NOW[1])
    return builder.sign(likeness.key, SHA256()).public_bytes(Encoding.PEM)


def test_certificate_for_a_key_that_no_server_has_is_refused() -> None:
    issued = forge("shop.example")
    with pytest.raises(CertificateError, match=r"is for another key; order it"):
        check_issued(strange(issued), issued.key_pem, ["shop.example"])


def test_chain_whose_order_is_the_authoritys_own_is_taken() -> None:
    """The others SHOULD follow each other (RFC 8555 section 9.1), and clients look for them wherever they are."""
    root = forge(common_name="Root")
    middle = forge(issuer=root, common_name="Middle")
    issued = forge("shop.example", issuer=middle)
    check_issued(issued.pem + root.pem + middle.pem, issued.key_pem, ["shop.example"])


def test_signer_whose_signatures_cannot_be_checked_here_is_known_by_its_name() -> None:
    signer = forge(common_name="Middle")
    issued = forge("shop.example", issuer=signer)
    check_issued(issued.pem + strange(signer), issued.key_pem, ["shop.example"])
    with pytest.raises(CertificateError, match="signed the first"):
        check_issued(issued.pem + strange(forge(common_name="Nobody")), issued.key_pem, ["shop.example"])


@pytest.mark.parametrize("name", ["Nobody", "Middle"], ids=["stranger", "namesake"])
def test_chain_that_leads_elsewhere_is_refused(name: str) -> None:
    issued = forge("shop.example", issuer=forge(common_name="Middle"))
    with pytest.raises(
        CertificateError, match=r"^no certificate of the chain that the authority sent signed the first"
    ):
        check_issued(issued.pem + forge(common_name=name).pem, issued.key_pem, ["shop.example"])


def test_chain_that_is_longer_than_clients_take_is_refused() -> None:
    signer = forge(common_name="Middle")
    issued = forge("shop.example", issuer=signer)
    check_issued(issued.pem + signer.pem * (MAX_CHAIN - 1), issued.key_pem, ["shop.example"])
    with pytest.raises(CertificateError, match=rf"^the authority sent a chain of {MAX_CHAIN + 1} certificates; 10 is"):
        check_issued(issued.pem + signer.pem * MAX_CHAIN, issued.key_pem, ["shop.example"])


@pytest.mark.parametrize("content", [b"", b"<html>", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_answer_that_is_no_chain_is_refused(content: bytes) -> None:
    with pytest.raises(CertificateError):
        check_issued(content, generate_key(), ["shop.example"])


@pytest.mark.parametrize("kind", KEY_TYPES)
def test_key_is_of_the_kind_that_was_asked_for(kind: str) -> None:
    key, _ = parse_key(generate_key(kind))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        assert key.curve.name == {"p256": "secp256r1", "p384": "secp384r1"}[kind]
    else:
        assert isinstance(key, rsa.RSAPrivateKey)
        assert f"rsa{key.key_size}" == kind
    assert x509.load_der_x509_csr(encode_csr(generate_key(kind), ["shop.example"])).is_signature_valid


@pytest.mark.parametrize(
    ("name", "names", "covered"),
    [
        ("shop.example", ("shop.example",), True),
        ("api.shop.example", ("*.shop.example",), True),
        ("a.api.shop.example", ("*.shop.example",), False),
        ("shop.example", ("*.shop.example",), False),
        ("*.shop.example", ("*.shop.example",), True),
        ("*.example", ("*.*.example",), False),
        ("192.0.2.1", ("*.0.2.1",), False),
        ("192.0.2.1", ("192.0.2.1",), True),
    ],
)
def test_wildcard_serves_one_label(name: str, names: tuple[str, ...], covered: bool) -> None:
    assert is_covered(name, names) is covered
