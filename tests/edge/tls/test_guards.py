"""Clients with certificates: who is let in, what is known of them, and what the others are told."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from edge.tls.channel import State, TlsError
from edge.tls.contexts import MAX_GUARDED, MemoryCertificate, TlsServer
from edge.tls.guards import Guard
from tests.edge.tls.pair import Client, TestAuthority, serve

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
# RFC 8446 section 6.2.
HANDSHAKE_FAILURE, REVOKED, EXPIRED, UNKNOWN_CA, REQUIRED = 40, 44, 45, 48, 116

CLIENTS = trustme.CA()
MIDDLE = CLIENTS.create_child_ca()
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def pem_of(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


def issue(authority: trustme.CA = CLIENTS, not_after: datetime.datetime | None = None) -> trustme.LeafCert:
    return authority.issue_cert("jo@shop.example", common_name="Jo, of shop", not_after=not_after)


def serial_of(certificate: trustme.LeafCert) -> int:
    return x509.load_pem_x509_certificate(certificate.cert_chain_pems[0].bytes()).serial_number


def revocation_list(authority: trustme.CA, *serials: int, until: datetime.datetime = NOW + DAY) -> str:
    """Return a list of revoked certificates in PEM."""
    key = load_pem_private_key(authority.private_key_pem.bytes(), None)
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes()).subject
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer).last_update(NOW - 2 * DAY).next_update(until)
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - DAY).build()
        builder = builder.add_revoked_certificate(revoked)
    signed = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]  # the key is one that signs
    return signed.public_bytes(Encoding.PEM).decode()


def guarded(shop: MemoryCertificate, *, revoked: str = "", is_required: bool = True, by: str = "") -> TlsServer:
    server = serve(shop)
    server.guards = {"clients": Guard(by or pem_of(CLIENTS), revoked, is_required)}
    server.guard_of = lambda name: "clients"
    return server


@pytest.fixture
def context(authority: TestAuthority) -> Callable[..., ssl.SSLContext]:
    """Make a client's context, with a certificate or without."""

    def make(certificate: trustme.LeafCert | None = None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        context = authority.client_context()
        if certificate is not None:
            certificate.configure_cert(context)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context

    return make


Make = Callable[..., ssl.SSLContext]


def refusal(server: TlsServer, context: ssl.SSLContext) -> tuple[str, int]:
    """Return why a client is refused, and the alert that it gets."""
    client = Client(server, context)
    with pytest.raises(TlsError) as caught:
        client.connect()
    assert client.channel.state is State.CLOSED
    client.incoming.write(client.channel.data_to_send())
    with pytest.raises(ssl.SSLError) as told:
        client.receive_nothing()
    return str(caught.value), ALERTS[str(told.value.reason)]


ALERTS = {
    "TLSV1_ALERT_UNKNOWN_CA": UNKNOWN_CA,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": EXPIRED,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": REVOKED,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": HANDSHAKE_FAILURE,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": REQUIRED,
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("is_required", [True, False])
def test_certificate_of_the_authority_is_let_in_and_known(
    shop: MemoryCertificate, context: Make, version: ssl.TLSVersion, is_required: bool
) -> None:
    certificate = issue()
    client = Client(guarded(shop, is_required=is_required), context(certificate, version)).connect()
    identity = client.channel.identity
    assert identity is not None
    assert identity.server_name == "shop.example"
    assert identity.chain == (ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode()),)
    assert identity.subject.startswith("CN=Jo\\, of shop,OU=Testing cert")
    assert identity.version == version
    assert client.channel.receive(client.encrypt(b"hello")) == b"hello"


def test_cipher_is_told_by_its_number(shop: MemoryCertificate, context: Make) -> None:
    client = Client(guarded(shop), context(issue(), ssl.TLSVersion.TLSv1_2)).connect()
    identity, chosen = client.channel.identity, client.tls.cipher()
    assert identity is not None
    assert chosen is not None
    numbers = {suite["name"]: suite["id"] & 0xFFFF for suite in context().get_ciphers()}
    assert identity.cipher == numbers[chosen[0]] != 0


def test_chain_is_told_without_its_root(shop: MemoryCertificate, context: Make) -> None:
    client = Client(guarded(shop), context(issue(MIDDLE))).connect()
    identity = client.channel.identity
    assert identity is not None
    assert identity.chain[1:] == (ssl.PEM_cert_to_DER_cert(pem_of(MIDDLE)),)


def test_intermediate_alone_may_be_what_is_trusted(shop: MemoryCertificate, context: Make) -> None:
    server = guarded(shop, by=pem_of(MIDDLE))
    assert Client(server, context(issue(MIDDLE))).connect().channel.state is State.OPEN
    assert refusal(server, context(issue()))[1] == UNKNOWN_CA


def test_optional_client_without_a_certificate_is_let_in(shop: MemoryCertificate, context: Make) -> None:
    identity = Client(guarded(shop, is_required=False), context()).connect().channel.identity
    assert identity is not None
    assert (identity.chain, identity.subject) == ((), "")


@pytest.mark.parametrize(
    ("version", "alert"), [(ssl.TLSVersion.TLSv1_2, HANDSHAKE_FAILURE), (ssl.TLSVersion.TLSv1_3, REQUIRED)]
)
def test_client_without_a_certificate_is_told_that_it_needs_one(
    shop: MemoryCertificate, context: Make, version: ssl.TLSVersion, alert: int
) -> None:
    reason, told = refusal(guarded(shop), context(version=version))
    assert (reason, told) == ("TLS handshake failed: peer did not return a certificate", alert)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("is_required", [True, False])
@pytest.mark.parametrize(
    ("certificate", "message", "alert"),
    [
        (issue(trustme.CA()), "unable to get local issuer certificate", UNKNOWN_CA),
        (issue(not_after=NOW - DAY), "certificate has expired", EXPIRED),
    ],
    ids=["stranger", "expired"],
)
def test_certificate_that_is_not_good_is_refused_with_its_alert(
    shop: MemoryCertificate,
    context: Make,
    *,
    certificate: trustme.LeafCert,
    message: str,
    alert: int,
    is_required: bool,
    version: ssl.TLSVersion,
) -> None:
    reason, told = refusal(guarded(shop, is_required=is_required), context(certificate, version))
    assert (reason, told) == (f"TLS handshake failed: certificate verify failed: {message}", alert)


def test_revoked_certificate_is_refused_and_others_are_not(shop: MemoryCertificate, context: Make) -> None:
    good, bad = issue(), issue()
    server = guarded(shop, revoked=revocation_list(CLIENTS, serial_of(bad)))
    assert Client(server, context(good)).connect().channel.state is State.OPEN
    reason, told = refusal(server, context(bad))
    assert (reason, told) == ("TLS handshake failed: certificate verify failed: certificate revoked", REVOKED)


def test_list_that_has_expired_lets_nobody_in(shop: MemoryCertificate, context: Make) -> None:
    server = guarded(shop, revoked=revocation_list(CLIENTS, until=NOW - DAY))
    assert refusal(server, context(issue()))[0].endswith("CRL has expired")


@pytest.mark.parametrize("version", VERSIONS)
def test_guarded_site_gives_no_tickets(shop: MemoryCertificate, context: Make, version: ssl.TLSVersion) -> None:
    client = Client(guarded(shop), context(issue(), version)).connect()
    session = client.tls.session
    assert session is None or not session.has_ticket


def test_session_of_another_site_is_not_resumed(
    shop: MemoryCertificate, context: Make, authority: TestAuthority
) -> None:
    server = serve(shop, authority.issue("open.example"))
    server.guards = {"clients": Guard(pem_of(CLIENTS), "", True)}
    server.guard_of = lambda name: "clients" if name == "shop.example" else ""
    mine = context(issue())
    mine.check_hostname = False
    session = Client(server, mine, "open.example").connect().tls.session
    again = Client(server, mine, "open.example", session).connect()
    assert again.channel.session_reused
    assert again.channel.identity is None
    other = Client(server, mine, "shop.example", session).connect()
    assert not other.channel.session_reused
    assert other.channel.identity is not None


def test_session_of_tls_1_2_ends_with_the_certificate(
    shop: MemoryCertificate, context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, mine = guarded(shop), context(issue(not_after=NOW + DAY), ssl.TLSVersion.TLSv1_2)
    first = Client(server, mine).connect()  # a session ends with a connection that breaks
    session = first.tls.session
    again = Client(server, mine, session=session).connect()
    assert again.channel.session_reused
    identity = again.channel.identity
    assert identity is not None
    assert len(identity.chain) == 1

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Later:
            return cls.fromtimestamp(datetime.datetime.now(tz).timestamp() + 100 * 366 * 86_400, tz)

    monkeypatch.setattr("edge.tls.client.datetime", Later)
    late = Client(server, mine, session=session)
    with pytest.raises(TlsError, match="the client's certificate has expired since it was verified"):
        late.connect()
    assert late.channel.state is State.CLOSED


def test_new_authorities_count_from_the_next_handshake(shop: MemoryCertificate, context: Make) -> None:
    server, mine = guarded(shop), context(issue())
    assert Client(server, mine).connect().channel.state is State.OPEN
    server.guards = {"clients": Guard(pem_of(trustme.CA()), "", True)}
    assert refusal(server, mine)[1] == UNKNOWN_CA


def test_nobody_is_let_in_where_the_guard_is_missing(shop: MemoryCertificate, context: Make) -> None:
    server = guarded(shop)
    server.guards = {}
    client = Client(server, context(issue()))
    with pytest.raises(TlsError, match=r"client hello: no guard 'clients' for 'shop\.example'"):
        client.connect()


def test_contexts_of_guards_of_before_do_not_gather(shop: MemoryCertificate) -> None:
    sites = serve(shop).sites
    for number in range(MAX_GUARDED + 1):
        guard = Guard(pem_of(CLIENTS) + "\n" * number, "", True)
        assert sites.guarded_context("shop.example", guard) is sites.guarded_context(None, guard)
    assert len(sites._guarded) == 1  # type: ignore[attr-defined]  # how many are kept, nothing tells


def test_guard_comes_back_out_of_json() -> None:
    guard = Guard("authorities", "revoked", False)
    assert Guard.decode(guard.encode()) == guard
