from __future__ import annotations

import logging
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding

from edge.config_sites import RedirectPlan, RoutePlan, SitePlan, UpstreamPlan
from edge.options_sites import parse_upstream
from edge.upstream.trust import load_upstream_trust
from edge_certs.errors import CertificateError
from edge_certs.trust.bundle import Source
from edge_certs.trust.store import TrustStore
from edge_certs.x509 import parse_chain


def plan(address: str, ca_root: str = "") -> UpstreamPlan:
    return UpstreamPlan((parse_upstream("http://a:1"), parse_upstream(address)), ca_root=ca_root)


def site(*targets: UpstreamPlan | RedirectPlan) -> SitePlan:
    return SitePlan(tuple(RoutePlan(target) for target in targets))


def add_root(home: Path) -> None:
    (certificate,) = parse_chain(trustme.CA().cert_pem.bytes())
    TrustStore(home).add([certificate], "corp", datetime.now(UTC), "")


def test_nothing_is_read_for_what_has_no_tls(tmp_path: Path) -> None:
    plain = plan("http://b:1", ca_root=str(tmp_path / "nosuch.pem"))
    trust = load_upstream_trust([site(plain, RedirectPlan("/new"))], {})
    assert (trust.roots, trust.context_for(plain)) == ({}, None)


def test_certificates_and_names_are_checked_whatever_the_roots(tmp_path: Path) -> None:
    root = tmp_path / "root.pem"
    trustme.CA().cert_pem.write_to_path(str(root))
    plans = [plan("https://b:1", str(root)), plan("https://b:1")]
    trust = load_upstream_trust([site(*plans)], {"EDGE_HOME": str(tmp_path / "home")})
    for context in map(trust.context_for, plans):
        assert context is not None
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    named, known = (trust.contexts[each.ca_root].get_ca_certs() for each in plans)
    assert len(named) == 1 < len(known)


def test_trust_is_another_when_a_root_is_added_or_a_file_has_changed(tmp_path: Path) -> None:
    root, environ = tmp_path / "root.pem", {"EDGE_HOME": str(tmp_path / "home")}
    trustme.CA().cert_pem.write_to_path(str(root))
    sites = [site(plan("https://b:1"), plan("https://b:1", str(root)))]
    first = load_upstream_trust(sites, environ)
    assert first == load_upstream_trust(sites, environ)
    add_root(tmp_path / "home")
    second = load_upstream_trust(sites, environ)
    assert second != first
    trustme.CA().cert_pem.write_to_path(str(root))
    assert load_upstream_trust(sites, environ) != second


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file"),
        ("", "no PEM|empty"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ""),
    ],
    ids=["missing", "empty", "damaged"],
)
def test_file_of_no_use_is_refused_by_name(tmp_path: Path, content: str | None, reason: str) -> None:
    root = tmp_path / "root.pem"
    if content is not None:
        root.write_text(content)
    with pytest.raises(CertificateError, match=f"CA root {root}: .*({reason})"):
        load_upstream_trust([site(plan("https://b:1", str(root)))], {})


@pytest.fixture
def corporate() -> Source:
    return Source("corp.pem", (parse_chain(trustme.CA().cert_pem.bytes())[0].public_bytes(Encoding.DER),))


def roots_of(context: ssl.SSLContext | None) -> set[bytes]:
    assert context is not None
    return set(context.get_ca_certs(binary_form=True))


def test_root_of_this_server_counts_where_no_other_is_named(tmp_path: Path, corporate: Source) -> None:
    root, environ = tmp_path / "root.pem", {"EDGE_HOME": str(tmp_path / "home")}
    trustme.CA().cert_pem.write_to_path(str(root))
    named, known = plans = [plan("https://b:1", str(root)), plan("https://b:1")]
    without = load_upstream_trust([site(*plans)], environ)
    trust = load_upstream_trust([site(*plans)], environ, [corporate])
    assert trust != without
    assert roots_of(trust.context_for(known)) - roots_of(without.context_for(known)) == set(corporate.certificates)
    assert roots_of(trust.context_for(named)) == roots_of(without.context_for(named))


def test_user_without_a_home_has_the_roots_of_the_system(monkeypatch: pytest.MonkeyPatch, corporate: Source) -> None:
    monkeypatch.setattr("pwd.getpwuid", lambda _: (_ for _ in ()).throw(KeyError))
    monkeypatch.setattr("os.geteuid", lambda: 4294967000)
    upstream = plan("https://b:1")
    without = load_upstream_trust([site(upstream)], {})
    trust = load_upstream_trust([site(upstream)], {}, [corporate])
    assert (without.roots, trust == without) == ({"": b""}, False)
    assert set(corporate.certificates) == roots_of(trust.context_for(upstream)) - roots_of(
        without.context_for(upstream)
    )


def test_store_of_somebody_else_is_told_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add_root(tmp_path)
    monkeypatch.setattr(TrustStore, "is_readable", False)
    upstream = plan("https://b:1")
    with caplog.at_level(logging.WARNING):
        trust = load_upstream_trust([site(upstream)], {"EDGE_HOME": str(tmp_path)})
    assert trust.roots == {"": b""}
    assert "upstreams are checked without added roots" in caplog.text
