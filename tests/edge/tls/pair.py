"""A TLS channel and a real client of Python's `ssl`, joined in memory; certificates of every kind to serve with."""

from __future__ import annotations

import ssl

import trustme
from cryptography import x509

from edge.tls.channel import TlsChannel
from edge.tls.contexts import MemoryCertificate, TlsServer


class TestAuthority:
    """Issues certificates that `client_context()` trusts."""

    __test__ = False

    def __init__(self) -> None:
        self._authority = trustme.CA()

    @property
    def root_pem(self) -> str:
        """Its certificate."""
        return self._authority.cert_pem.bytes().decode()

    def issue(self, *names: str, rsa: bool = False) -> MemoryCertificate:
        """Return a certificate for the names, ECDSA unless asked for RSA."""
        key_type = trustme.KeyType.RSA if rsa else trustme.KeyType.ECDSA
        issued = self._authority.issue_cert(*names, key_type=key_type)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        return MemoryCertificate(names, chain, issued.private_key_pem.bytes())

    def client_context(self) -> ssl.SSLContext:
        """Return a client's context that trusts this authority alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority.configure_trust(context)
        return context


def serve(*certificates: MemoryCertificate) -> TlsServer:
    """Return a server that has these certificates."""
    return TlsServer.open(certificates)


class Client:
    """The client's end of a connection in memory; `channel` is the server's."""

    def __init__(
        self,
        server: TlsServer,
        context: ssl.SSLContext,
        name: str | None = "shop.example",
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.channel = TlsChannel(server)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name, session=session)

    def connect(self) -> Client:
        """Run the handshake; the client has the server's tickets, too, when this returns."""
        done = False
        while not done:
            try:
                self.tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            self.channel.receive(self.outgoing.read())
            self.incoming.write(self.channel.data_to_send())
        if self.incoming.pending:
            self.receive_nothing()  # reads the ticket
        return self

    def encrypt(self, data: bytes) -> bytes:
        """Return the records that carry `data` to the server."""
        self.tls.write(data)
        return self.outgoing.read()

    def decrypt(self, data: bytes) -> bytes:
        """Return what the server's records say."""
        self.incoming.write(data)
        pieces = []
        try:
            while piece := self.tls.read(65536):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        return b"".join(pieces)

    def receive_nothing(self) -> None:
        """Let the client read what is for its TLS alone."""
        assert self.decrypt(b"") == b""

    def certificate(self) -> x509.Certificate:
        """Return what the server showed."""
        shown = self.tls.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown)

    def names(self) -> list[str]:
        """Return the names in the certificate that the server showed."""
        extension = self.certificate().extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return extension.value.get_values_for_type(x509.DNSName)
