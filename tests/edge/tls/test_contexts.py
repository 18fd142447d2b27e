"""The base context, the sites and the switch between them, against the client of Python's `ssl`."""

from __future__ import annotations

import json
import os
import ssl

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from edge.tls.channel import State, TlsError
from edge.tls.contexts import INTERMEDIATE_CIPHERS, MemoryCertificate, Sites, TlsServer, build_base_context
from tests.edge.tls.pair import Client, TestAuthority, serve

# Mozilla's intermediate guidelines 6.0, in OpenSSL's names; written down here and not taken from the source.
MOZILLA = {
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
}


def handshake(server: TlsServer, context: ssl.SSLContext, name: str | None = "shop.example") -> Client:
    return Client(server, context, name).connect()


def tls_1_2(authority: TestAuthority, ciphers: str = "ALL") -> ssl.SSLContext:
    """Return a client's context that speaks TLS 1.2 only, with these suites."""
    context = authority.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    return context


# Which certificate.


@pytest.fixture(scope="session")
def several(authority: TestAuthority) -> tuple[MemoryCertificate, ...]:
    """Certificates for a default, an exact name, and a wildcard."""
    return tuple(
        authority.issue(*names) for names in (("default.example",), ("shop.example",), ("*.shop.example", "b.example"))
    )


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("shop.example", ["shop.example"]),
        ("SHOP.example", ["shop.example"]),
        ("www.shop.example", ["*.shop.example", "b.example"]),
        ("b.example", ["*.shop.example", "b.example"]),
        ("a.www.shop.example", ["default.example"]),
        ("other.example", ["default.example"]),
        (None, ["default.example"]),
        ("192.0.2.1", ["default.example"]),
    ],
)
def test_certificate_is_chosen_by_server_name(
    authority: TestAuthority, several: tuple[MemoryCertificate, ...], asked: str | None, served: list[str]
) -> None:
    context = authority.client_context()
    context.check_hostname = False
    assert handshake(serve(*several), context, asked).names() == served


@pytest.mark.parametrize(
    ("suites", "kind"), [("ECDHE-ECDSA-AES128-GCM-SHA256", ec.EllipticCurvePublicKey), ("aRSA", rsa.RSAPublicKey)]
)
@pytest.mark.parametrize("asked", ["shop.example", None])
def test_client_gets_the_key_type_that_it_can_verify(
    authority: TestAuthority, shop: MemoryCertificate, suites: str, kind: type, asked: str | None
) -> None:
    server = serve(shop, authority.issue("shop.example", rsa=True))
    context = tls_1_2(authority, suites)
    context.check_hostname = asked is not None
    client = handshake(server, context, asked)
    assert isinstance(client.certificate().public_key(), kind)


def test_ecdsa_is_preferred_where_the_client_takes_both(authority: TestAuthority, shop: MemoryCertificate) -> None:
    client = handshake(serve(authority.issue("shop.example", rsa=True), shop), authority.client_context())
    assert isinstance(client.certificate().public_key(), ec.EllipticCurvePublicKey)


def test_known_hosts_are_those_of_the_certificates_of_the_moment(
    authority: TestAuthority, shop: MemoryCertificate
) -> None:
    server = serve(shop)
    assert server.is_known("shop.example")
    assert not server.is_known("new.example")
    server.sites = Sites([authority.issue("new.example")])
    assert server.is_known("new.example")
    assert not server.is_known("shop.example")


def test_new_certificate_serves_from_the_next_handshake(server: TlsServer, authority: TestAuthority) -> None:
    context = authority.client_context()
    before = handshake(server, context)
    server.sites = Sites([authority.issue("shop.example")])
    after = handshake(server, context)
    assert after.certificate().serial_number != before.certificate().serial_number
    assert before.channel.receive(before.encrypt(b"still here")) == b"still here"


def test_certificates_for_several_names_may_follow_one_and_the_other_way_round(
    authority: TestAuthority, shop: MemoryCertificate
) -> None:
    context = authority.client_context()
    server = serve(shop)
    server.sites = Sites([shop, authority.issue("other.example")])
    assert handshake(server, context, "other.example").names() == ["other.example"]
    server.sites = Sites([authority.issue("last.example")])
    assert handshake(server, context, "last.example").names() == ["last.example"]


def test_key_of_another_certificate_builds_no_sites(authority: TestAuthority, shop: MemoryCertificate) -> None:
    stranger = authority.issue("shop.example")
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        Sites([MemoryCertificate(shop.names, shop.chain_pem, stranger.key_pem)])


def test_certificate_loads_where_there_are_no_memory_files(
    monkeypatch: pytest.MonkeyPatch, authority: TestAuthority, shop: MemoryCertificate
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    assert handshake(serve(shop), authority.client_context()).names() == ["shop.example"]


# The policy.


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(server: TlsServer, authority: TestAuthority, version: ssl.TLSVersion) -> None:
    context = authority.client_context()
    context.minimum_version = context.maximum_version = version
    assert handshake(server, context).channel.version == version.name.replace("_", ".")


def is_accepted(server: TlsServer, suite: str, authority: TestAuthority) -> bool:
    """Tell whether a client that offers this suite alone is served."""
    client = Client(server, tls_1_2(authority, f"{suite}:@SECLEVEL=0"))
    try:
        client.connect()
    except TlsError as error:
        if "no shared cipher" not in str(error):
            raise
    except ssl.SSLError as error:
        if error.reason != "NO_CIPHERS_AVAILABLE":  # such as PSK: this client has no key for it
            raise
    return client.channel.state is State.OPEN


def test_suites_that_are_accepted_in_tls_1_2_are_those_of_mozilla(
    authority: TestAuthority, shop: MemoryCertificate
) -> None:
    server = serve(shop, authority.issue("shop.example", rsa=True))
    every = tls_1_2(authority, "ALL:eNULL:@SECLEVEL=0")
    names = {suite["name"] for suite in every.get_ciphers() if suite["protocol"] != "TLSv1.3"}
    assert names > MOZILLA
    assert {name for name in names if is_accepted(server, name, authority)} == MOZILLA
    assert set(INTERMEDIATE_CIPHERS.split(":")) == MOZILLA


@pytest.mark.parametrize("first", ["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES256-GCM-SHA384"])
def test_order_of_suites_is_the_clients(server: TlsServer, authority: TestAuthority, first: str) -> None:
    context = tls_1_2(authority, f"{first}:ECDHE-ECDSA-AES128-GCM-SHA256")
    assert handshake(server, context).channel.cipher == first


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["http/1.1"], "http/1.1"), (["h3", "http/1.1"], "http/1.1"), (["spdy/3"], None), ([], None)],
)
def test_application_protocol_is_agreed(
    server: TlsServer, authority: TestAuthority, offered: list[str], chosen: str | None
) -> None:
    context = authority.client_context()
    if offered:
        context.set_alpn_protocols(offered)
    assert handshake(server, context).tls.selected_alpn_protocol() == chosen


def test_options_refuse_renegotiation_and_compression(server: TlsServer) -> None:
    assert server.base.options & ssl.OP_NO_RENEGOTIATION
    assert server.base.options & ssl.OP_NO_COMPRESSION
    assert not server.base.options & ssl.OP_CIPHER_SERVER_PREFERENCE


# Tickets.


def ticket(client: Client) -> ssl.SSLSession:
    session = client.tls.session
    assert session is not None
    assert session.has_ticket
    return session


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def context(request: pytest.FixtureRequest, authority: TestAuthority) -> ssl.SSLContext:
    context = authority.client_context()
    context.minimum_version = context.maximum_version = request.param
    return context


def test_session_is_resumed(server: TlsServer, context: ssl.SSLContext) -> None:
    session = ticket(handshake(server, context))
    again = Client(server, context, session=session).connect()
    assert again.tls.session_reused
    assert again.channel.session_reused
    assert again.channel.receive(again.encrypt(b"ping")) == b"ping"


def test_session_is_resumed_after_the_certificate_was_renewed(
    server: TlsServer, authority: TestAuthority, context: ssl.SSLContext
) -> None:
    session = ticket(handshake(server, context))
    server.sites = Sites([authority.issue("shop.example"), authority.issue("other.example")])
    assert Client(server, context, session=session).connect().channel.session_reused


# Python 3.12 warns of threads, which a test runner may have; a master has none.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_session_is_resumed_in_a_forked_child(server: TlsServer, context: ssl.SSLContext) -> None:
    session = ticket(handshake(server, context))
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:  # what an edge is to its master
        os.close(read_end)
        resumed = Client(server, context, session=session).connect().channel.session_reused
        os.write(write_end, b"resumed" if resumed else b"full")
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        assert pipe.read() == b"resumed"
    assert os.waitpid(child, 0)[1] == 0


def test_session_of_another_server_is_not_resumed(
    server: TlsServer, shop: MemoryCertificate, context: ssl.SSLContext
) -> None:
    session = ticket(handshake(server, context))
    client = Client(serve(shop), context, session=session).connect()
    assert not client.channel.session_reused


def test_one_ticket_is_sent_for_a_full_handshake(server: TlsServer, authority: TestAuthority) -> None:
    assert server.base.num_tickets == 1
    assert build_base_context().num_tickets == 1


# What the master hands over.


def test_certificate_goes_through_json_and_back(shop: MemoryCertificate) -> None:
    assert MemoryCertificate.decode(json.loads(json.dumps(shop.encode()))) == shop


def test_certificate_does_not_show_its_key(shop: MemoryCertificate) -> None:
    assert b"PRIVATE KEY" in shop.key_pem
    assert "PRIVATE" not in repr(shop)
