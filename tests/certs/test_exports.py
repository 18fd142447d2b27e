from __future__ import annotations

import base64
from dataclasses import replace

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from edge_certs.errors import CertificateError
from edge_certs.exports import (
    export_kubernetes,
    export_pem,
    export_pkcs12,
    export_secret,
    secret_name,
)
from edge_certs.x509 import Certificate, describe, parse_chain, parse_key
from tests.certs.forge import AUTHORITY, Forged, forge

ISSUER = forge(extensions=[AUTHORITY])


def certificate(*names: str, leaf: Forged | None = None) -> Certificate:
    leaf = leaf or forge(*names, issuer=ISSUER)
    return describe([leaf.certificate, ISSUER.certificate], leaf.key_pem, None, None)


SHOP = certificate("shop.example", "www.shop.example")


def test_pem_has_the_four_files_of_certbot() -> None:
    files = {item.name: item.content for item in export_pem(SHOP)}
    assert list(files) == ["cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"]
    assert files["cert.pem"] + files["chain.pem"] == files["fullchain.pem"] == SHOP.chain_pem
    assert files["privkey.pem"] == SHOP.key_pem


def test_only_what_holds_a_key_is_secret() -> None:
    exported = [*export_pem(SHOP), *export_pkcs12(SHOP, "pw"), *export_kubernetes(SHOP), *export_secret(SHOP, "x")]
    assert {item.name for item in exported if item.is_secret} == {
        "privkey.pem",
        "shop.example.p12",
        "tls.key",
        "x.yaml",
    }
    assert not any("PRIVATE" in repr(item) for item in exported)


@pytest.mark.parametrize("key", [None, ed25519.Ed25519PrivateKey.generate()], ids=["ecdsa", "ed25519"])
def test_pkcs12_opens_with_its_password_and_has_key_and_chain(key: ed25519.Ed25519PrivateKey | None) -> None:
    leaf = forge("*.shop.example", issuer=ISSUER, key=key)
    [file] = export_pkcs12(certificate(leaf=leaf), "geheim")
    assert file.name == "wildcard_.shop.example.p12"
    opened = load_pkcs12(file.content, b"geheim")
    assert opened.cert is not None
    assert opened.cert.friendly_name == b"*.shop.example"
    assert opened.cert.certificate == leaf.certificate
    assert [item.certificate for item in opened.additional_certs] == [ISSUER.certificate]
    assert opened.key is not None
    assert opened.key.public_key() == leaf.key.public_key()
    with pytest.raises(ValueError, match="Invalid password"):
        load_pkcs12(file.content, b"wrong")


def test_pkcs12_without_a_password_is_refused() -> None:
    with pytest.raises(CertificateError, match=r"^no password for the PKCS#12 file; "):
        export_pkcs12(SHOP, "")


def test_kubernetes_files_are_those_of_a_mounted_secret() -> None:
    crt, key = export_kubernetes(SHOP)
    assert (crt.name, key.name) == ("tls.crt", "tls.key")
    assert parse_chain(crt.content)[0].public_key() == parse_key(key.content)[0].public_key()


def test_manifest_is_a_secret_with_the_same_files() -> None:
    [file] = export_secret(SHOP, "shop-tls")
    manifest = yaml.safe_load(file.content)
    assert file.name == "shop-tls.yaml"
    assert (manifest["apiVersion"], manifest["kind"], manifest["type"]) == ("v1", "Secret", "kubernetes.io/tls")
    assert manifest["metadata"] == {"name": "shop-tls"}
    data = {name: base64.b64decode(text) for name, text in manifest["data"].items()}
    assert data == {item.name: item.content for item in export_kubernetes(SHOP)}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("shop.example",), "shop-example-tls"),
        (("*.shop.example",), "wildcard-shop-example-tls"),
        (("2001:db8::1",), "2001-db8--1-tls"),
        ((f"{'a' * 60}.example",), f"{'a' * 59}-tls"),
    ],
)
def test_name_of_the_secret_is_one_that_kubernetes_takes(names: tuple[str, ...], expected: str) -> None:
    assert secret_name(certificate(*names)) == expected


def test_certificate_without_a_name_has_files_all_the_same() -> None:
    nameless = replace(SHOP, names=())
    assert secret_name(nameless) == "certificate-tls"
    assert export_pkcs12(nameless, "pw")[0].name == "certificate.p12"


def test_key_that_pkcs12_does_not_hold_is_refused() -> None:
    leaf = forge("a.example", key=ed448.Ed448PrivateKey.generate())
    with pytest.raises(CertificateError, match=r"^the key is of a kind that PKCS#12 does not hold; export it as PEM$"):
        export_pkcs12(replace(SHOP, chain_pem=leaf.pem, key_pem=leaf.key_pem), "pw")
