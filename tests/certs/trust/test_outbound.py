"""Our own connections: real handshakes, with each source of a root in turn."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import trustme
import truststore

from edge_certs.errors import CertificateError
from edge_certs.trust import bundle
from edge_certs.trust.anchors import parse_anchors
from edge_certs.trust.outbound import outbound_context
from edge_certs.trust.store import TrustStore
from tests.certs.forge import NOW
from tests.process.tls_proxy import site


def connects(authority: trustme.CA, context: ssl.SSLContext) -> bool:
    with site(authority, "localhost") as port, socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost"):
                return True
        except ssl.SSLCertVerificationError:
            return False


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "root.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def test_root_that_nobody_named_is_not_trusted(authority: trustme.CA, tmp_path: Path) -> None:
    assert not connects(authority, outbound_context(tmp_path, {}))


def test_root_that_was_added_is_trusted(authority: trustme.CA, tmp_path: Path) -> None:
    TrustStore(tmp_path).add(parse_anchors(authority.cert_pem.bytes()), "corp", NOW.replace(year=2026), "")
    assert connects(authority, outbound_context(tmp_path, {}))


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"])
def test_root_that_a_variable_names_is_trusted(
    variable: str, authority: trustme.CA, file: Path, tmp_path: Path
) -> None:
    assert connects(authority, outbound_context(tmp_path, {variable: str(file)}))


def test_root_of_the_system_is_trusted(
    authority: trustme.CA, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "SYSTEM_BUNDLES", (str(file),))
    assert connects(authority, outbound_context(tmp_path, {}))


def test_intermediate_that_was_added_is_enough(authority: trustme.CA, tmp_path: Path) -> None:
    child = authority.create_child_ca()
    TrustStore(tmp_path).add(parse_anchors(child.cert_pem.bytes()), "corp", NOW.replace(year=2026), "")
    assert connects(child, outbound_context(tmp_path, {}))


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_verifier_of_the_system_decides_where_there_is_one(system: str, tmp_path: Path) -> None:
    """Of truststore, only that it is the one that is used: on Linux it is a verifier that reads the system's files."""
    assert isinstance(outbound_context(tmp_path, {}, system), truststore.SSLContext)
    assert ssl.SSLContext is not truststore.SSLContext


@pytest.mark.parametrize("system", ["Darwin", "Windows"])
def test_root_that_was_added_counts_beside_the_verifier(system: str, authority: trustme.CA, tmp_path: Path) -> None:
    assert not connects(authority, outbound_context(tmp_path, {}, system))
    TrustStore(tmp_path).add(parse_anchors(authority.cert_pem.bytes()), "corp", NOW.replace(year=2026), "")
    assert connects(authority, outbound_context(tmp_path, {}, system))


@pytest.mark.parametrize("system", ["Linux", "Darwin"])
def test_root_that_is_given_is_trusted_besides(system: str, authority: trustme.CA, file: Path, tmp_path: Path) -> None:
    given = [bundle.read_source("corp", file)]
    assert connects(authority, outbound_context(tmp_path, {}, system, given))


def test_damaged_store_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust/state.json").write_text("{")
    with pytest.raises(CertificateError, match=r"trust state .*: damaged"):
        outbound_context(tmp_path, {})


def test_root_that_openssl_does_not_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "system.pem"
    path.write_text("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
    monkeypatch.setattr(bundle, "SYSTEM_BUNDLES", (str(path),))
    with pytest.raises(CertificateError, match=r"the merged roots cannot be used: .*; see edge trust list"):
        outbound_context(tmp_path, {})
