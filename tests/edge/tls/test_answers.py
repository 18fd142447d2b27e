"""The proof of TLS-ALPN-01: shown to who asks for it by the protocol's name, and to nobody else."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.tls.channel import State, TlsError
from edge.tls.contexts import TlsServer
from edge_certs.challenges import ACME_IDENTIFIER, OCTET_STRING_32, TLS_ALPN_01, Challenge, ChallengeStore
from tests.edge.tls.pair import Client, TestAuthority

CHALLENGE = Challenge(TLS_ALPN_01, "shop.example", "token-1", "token-1.thumbprint")


@pytest.fixture
def store(tmp_path: Path) -> ChallengeStore:
    store = ChallengeStore(tmp_path)
    store.put(CHALLENGE, datetime.now(UTC))
    return store


@pytest.fixture
def answering(server: TlsServer, store: ChallengeStore) -> TlsServer:
    server.answers = store
    return server


def asking(*protocols: str) -> ssl.SSLContext:
    """Return the context of an authority that validates: it trusts nothing, and looks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("time", [1, 2])
def test_authority_sees_the_proof_and_is_sent_away(answering: TlsServer, version: ssl.TLSVersion, time: int) -> None:
    for _ in range(time):  # it looks from several places
        context = asking("acme-tls/1")
        context.minimum_version = context.maximum_version = version
        client = Client(answering, context)
        with pytest.raises(TlsError, match=r"^the proof for a certificate was shown \(RFC 8737\)$"):
            client.connect()
        client.incoming.write(client.channel.data_to_send())
        client.tls.do_handshake()
        assert client.tls.selected_alpn_protocol() == "acme-tls/1"
        proof = client.certificate().extensions.get_extension_for_oid(ACME_IDENTIFIER)
        assert proof.critical
        assert proof.value.public_bytes() == OCTET_STRING_32 + CHALLENGE.digest
        assert client.channel.state is State.CLOSED
        assert client.channel.receive(client.encrypt(b"GET / HTTP/1.1\r\n\r\n")) == b""


@pytest.mark.parametrize("protocols", [("http/1.1",), ("acme-tls/1", "http/1.1"), ("http/1.1", "acme-tls/1")])
def test_browser_sees_the_site_while_a_challenge_is_under_way(
    answering: TlsServer, authority: TestAuthority, protocols: tuple[str, ...]
) -> None:
    context = authority.client_context()
    context.set_alpn_protocols(list(protocols))
    client = Client(answering, context).connect()
    assert client.tls.selected_alpn_protocol() == "http/1.1"
    assert client.names() == ["shop.example"]
    assert client.channel.state is State.OPEN


@pytest.mark.parametrize("name", ["other.example", None])
def test_name_without_a_challenge_gets_the_alert_for_it(answering: TlsServer, name: str | None) -> None:
    client = Client(answering, asking("acme-tls/1"), name)
    with pytest.raises(TlsError, match=r"acme-tls/1 for .*, for which no challenge is under way"):
        client.connect()
    client.incoming.write(client.channel.data_to_send())
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        client.tls.do_handshake()


def test_proof_that_is_damaged_is_not_shown(answering: TlsServer, store: ChallengeStore) -> None:
    path = store.find_alpn("shop.example")
    assert path is not None
    path.write_text("")
    with pytest.raises(TlsError, match="the challenge is over"):
        Client(answering, asking("acme-tls/1")).connect()


def test_protocol_means_nothing_where_no_certificate_is_ordered(server: TlsServer, authority: TestAuthority) -> None:
    context = authority.client_context()
    context.set_alpn_protocols(["acme-tls/1"])
    client = Client(server, context).connect()
    assert client.tls.selected_alpn_protocol() is None
    assert client.names() == ["shop.example"]
