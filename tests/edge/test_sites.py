"""From what is said of a site to what decides: which hosts it serves, and what it verifies clients by."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from edge.config import build_settings
from edge.http.events import RequestHead
from edge.sites import build_sites, guard_files, load_guards
from edge.tls.contexts import MemoryCertificate, TlsServer
from edge_certs.errors import CertificateError

CLIENTS = trustme.CA()


@pytest.fixture(scope="module")
def tls() -> TlsServer:
    issued = trustme.CA().issue_cert("shop.example")
    chain, key = issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes()
    return TlsServer.open([MemoryCertificate(("shop.example",), chain, key)])


def served(tls: TlsServer | None, *hosts: str, **values: object) -> list[bool]:
    sites = build_sites(build_settings({"app": "shop:app", "acme": "shop.example", **values}).sites, tls)
    return [sites.find(host) is not None for host in hosts]


def test_names_of_the_certificates_of_the_moment_are_served(tls: TlsServer) -> None:
    assert served(tls, "shop.example", "other.example") == [True, False]


def test_every_host_is_served_without_certificates() -> None:
    assert served(None, "shop.example", "other.example") == [True, True]
    assert build_sites((), None).find("any.example") is not None


def test_server_names_take_the_place_of_certificates(tls: TlsServer) -> None:
    assert served(tls, "shop.example", "other.example", server_name="other.example") == [False, True]


def test_canonical_host_is_served_whatever_the_certificates_say(tls: TlsServer) -> None:
    assert served(tls, "shop.example", "other.example", canonical_host="other.example") == [True, True]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, None),
        ({"client_auth": "off"}, None),
        ({"client_auth": "optional"}, False),
        ({"client_auth": "require"}, True),
    ],
)
def test_clients_are_asked_as_it_was_said(tmp_path: Path, values: dict[str, str], expected: bool | None) -> None:
    ca = tmp_path / "clients.pem"
    ca.write_bytes(b"a comment\n" + CLIENTS.cert_pem.bytes())
    if "client_auth" in values:
        values = {**values, "client_ca": str(ca)}
    sites = build_settings({"app": "shop:app", "dev": True, **values}).sites
    guards = load_guards(sites)
    assert [guard.is_required for guard in guards.values()] == ([] if expected is None else [expected])
    assert guard_files(sites) == ([ca] if guards else [])
    assert [build_sites(sites, None).first.guard] == (list(guards) or [""])


def refused(tmp_path: Path, ca: bytes, crl: bytes | None = None) -> str:
    authority, revoked = tmp_path / "ca.pem", tmp_path / "crl.pem"
    authority.write_bytes(ca)
    options: dict[str, object] = {"app": "shop:app", "dev": True, "client_ca": str(authority)}
    if crl is not None:
        revoked.write_bytes(crl)
        options["client_crl"] = str(revoked)
    with pytest.raises(CertificateError) as caught:
        load_guards(build_settings(options).sites)
    return str(caught.value).replace(f"{tmp_path}/", "")


PEM = CLIENTS.cert_pem.bytes()
BROKEN = b"-----BEGIN %b-----\nAAAA\n-----END %b-----\n"


def test_file_that_is_of_no_use_is_refused_with_its_place(tmp_path: Path) -> None:
    assert refused(tmp_path, b"") == "client authority ca.pem: the file is empty; write the PEM text into it"
    assert refused(tmp_path, CLIENTS.private_key_pem.bytes()).startswith(
        "client authority ca.pem: no CERTIFICATE block"
    )
    assert refused(tmp_path, BROKEN % ((b"CERTIFICATE",) * 2)).startswith(
        "client authority ca.pem: a CERTIFICATE block that cannot be read: "
    )
    assert refused(tmp_path, PEM, PEM).startswith("revocation list crl.pem: no X509 CRL block in it")
    assert refused(tmp_path, PEM, BROKEN % ((b"X509 CRL",) * 2)).startswith(
        "revocation list crl.pem: a X509 CRL block that cannot be read: "
    )


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    sites = build_settings({"app": "shop:app", "dev": True, "client_ca": str(tmp_path / "none.pem")}).sites
    with pytest.raises(CertificateError, match=r"client authority .*none\.pem: no such file"):
        load_guards(sites)


@pytest.mark.parametrize(("edges", "allowed"), [(1, 4), (2, 2), (8, 1)])
def test_each_edge_has_its_share_of_a_rate(edges: int, allowed: int) -> None:
    plans = build_settings({"app": "shop:app", "rate": "2/s", "rate_burst": 4}).sites
    rate = build_sites(plans, None, edges).first.rate
    assert rate is not None
    taken = [rate.take(RequestHead(0, b"GET", b"/", b"1.1", b""), b"203.0.113.7", 0.0) for _ in range(allowed + 1)]
    assert taken == [0.0] * allowed + [0.5 * edges]
