"""What is passed on of a client's certificate."""

from __future__ import annotations

import json
import ssl
from base64 import b64decode

import trustme

from edge.http.client_cert import Identity, encode_extension, encode_fields

LEAF, MIDDLE, OTHER = (bytes(range(size)) for size in (100, 50, 1))


def test_without_a_certificate_there_is_no_field_and_an_empty_extension() -> None:
    identity = Identity("shop.example", 0x0304, 0x1301)
    assert encode_fields(identity) == ()
    assert json.loads(encode_extension(identity)) == {
        "server_cert": None,
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": 0x0304,
        "cipher_suite": 0x1301,
    }


def test_certificate_alone_is_a_byte_sequence() -> None:
    [(name, value)] = encode_fields(Identity(None, 0, 0, (LEAF,), "CN=a"))
    assert name == b"client-cert"
    assert value.startswith(b":")
    assert value.endswith(b":")
    assert b64decode(value[1:-1]) == LEAF


def test_rest_of_the_chain_is_a_list() -> None:
    _, (name, value) = encode_fields(Identity(None, 0, 0, (LEAF, MIDDLE, OTHER), "CN=a"))
    assert name == b"client-cert-chain"
    assert [b64decode(item.strip(b":")) for item in value.split(b", ")] == [MIDDLE, OTHER]


def test_extension_is_one_line_of_ascii_with_pem_in_it() -> None:
    authority = trustme.CA()
    pem = authority.cert_pem.bytes().decode()
    text = encode_extension(Identity(None, 0, 0, (ssl.PEM_cert_to_DER_cert(pem),), "CN=Zoë\n"))
    assert text.isascii()
    assert b"\n" not in text
    extension = json.loads(text)
    assert extension["client_cert_chain"] == [pem]
    assert extension["client_cert_name"] == "CN=Zoë\n"
    assert (extension["tls_version"], extension["cipher_suite"]) == (None, None)
