"""What serves until the first certificate is there."""

from __future__ import annotations

from datetime import timedelta

from cryptography import x509

from edge_certs.placeholder import make_placeholder
from edge_certs.x509 import parse_chain
from tests.certs.forge import NOW


def test_placeholder_is_for_the_names_and_signed_by_itself() -> None:
    placeholder = make_placeholder(["shop.example", "*.shop.example", "2001:db8::1"], NOW)
    assert placeholder.names == ("shop.example", "*.shop.example", "2001:db8::1")
    [leaf] = parse_chain(placeholder.chain_pem)
    leaf.verify_directly_issued_by(leaf)
    assert leaf.subject.rfc4514_string() == "CN=edge: no certificate yet"
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert placeholder.not_before < NOW < placeholder.not_after < NOW + timedelta(days=31)
    assert placeholder.cert_path is None


def test_each_placeholder_has_a_key_of_its_own() -> None:
    assert make_placeholder(["a.example"], NOW).key_pem != make_placeholder(["a.example"], NOW).key_pem
