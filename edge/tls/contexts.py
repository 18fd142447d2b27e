"""SSL contexts: one base for every connection, one per set of certificates.

Theory of operation
-------------------
OpenSSL takes a connection's policy (versions, client certificates, tickets and their keys) from the context that
made it, and its certificate from the context it was switched to. So there are two kinds here. The *base* context
holds the policy and no certificate; it is made once, before the edges are forked, and with it its ticket keys: every
edge can resume what another one began, and a new certificate changes nothing about that. The *site* contexts hold
certificates. They are made anew at every reload, proven, and put in place by swapping one reference; a context that
serves is never changed, because a failed `load_cert_chain` breaks it.

Where one set of certificates serves every name there is nothing to switch, and its context is the base until the
first reload. Otherwise the site is switched in the server-name callback. That alone would be a trap: what the site's
context says of client certificates would not apply. It is safe here because the base carries the whole policy.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edge.http.huffman import NativeHuffman, best_huffman
from edge.tls.answers import OFFER, AnswerStore, challenge_context
from edge.tls.clienthello import parse_client_hello
from edge.tls.sni import SiteNames

# Mozilla's intermediate level, guidelines 6.0 (2026-04): forward secrecy and AEAD only; TLS 1.3's suites are fixed.
INTERMEDIATE_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
HTTP1_ONLY = ("http/1.1",)
WITH_HTTP2 = ("h2", "http/1.1")


class SiteCertificate(Protocol):
    """What a context needs of a certificate; `edge_certs.x509.Certificate` is one."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def chain_pem(self) -> bytes: ...
    @property
    def key_pem(self) -> bytes: ...


@dataclass(frozen=True, slots=True, repr=False)
class MemoryCertificate:
    """A certificate as the master hands it to its edges; it has no repr, because it holds a key."""

    names: tuple[str, ...]
    chain_pem: bytes
    key_pem: bytes

    def encode(self) -> dict[str, object]:
        """Return what JSON can carry."""
        return {"names": self.names, "chain": self.chain_pem.decode(), "key": self.key_pem.decode()}

    @classmethod
    def decode(cls, value: dict[str, Any]) -> MemoryCertificate:
        """Return what `encode` made."""
        return cls(tuple(value["names"]), value["chain"].encode(), value["key"].encode())


def protocols_for(http2: str) -> Sequence[str]:
    """Return what `--http2` offers: `auto` leaves HTTP/2 out where its strings would be read by pure Python."""
    if http2 == "off" or (http2 == "auto" and not isinstance(best_huffman(), NativeHuffman)):
        return HTTP1_ONLY
    return WITH_HTTP2


def build_base_context(protocols: Sequence[str] = WITH_HTTP2) -> ssl.SSLContext:
    """Return the context that every server connection is made from: policy and ticket keys, no certificate.

    `protocols` are offered by ALPN (RFC 7301), the best first.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The client's order: it knows whether it has AES in hardware (Mozilla 6.0: server_preferred_order false).
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    # Renegotiation is asked for by the client and paid for by the server (CVE-2011-1473).
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(INTERMEDIATE_CIPHERS)
    context.set_alpn_protocols(list(protocols))
    context.num_tickets = 1  # each costs 15 to 20 us of a full handshake; a browser asks again when it needs more
    return context


class Sites:
    """The certificates that serve, by server name. Complete when built; a reload builds another one."""

    def __init__(self, certificates: Sequence[SiteCertificate], protocols: Sequence[str] = WITH_HTTP2) -> None:
        self.protocols = protocols
        self._names = SiteNames([certificate.names for certificate in certificates])
        self._certificates = tuple(certificates)
        self._contexts: dict[tuple[int, ...], ssl.SSLContext] = {}
        for group in self._names.groups():
            self._contexts[group] = _build_site_context([certificates[index] for index in group], protocols)

    def context_for(self, server_name: str | None) -> ssl.SSLContext:
        """Return the context of the certificates for this name: exact, wildcard, or the first certificate's."""
        return self._contexts[self._names.lookup(server_name)]

    @property
    def only_context(self) -> ssl.SSLContext | None:
        """The context that serves every name; None if there are several."""
        contexts = list(self._contexts.values())
        return contexts[0] if len(contexts) == 1 else None

    def is_known(self, host: str) -> bool:
        """True if one of the certificates is valid for `host`."""
        return self._names.known(host)


class SiteContexts(Protocol):
    """Which context serves a name: `Sites`, or certificates that are made as they are asked for."""

    protocols: Sequence[str]

    @property
    def only_context(self) -> ssl.SSLContext | None: ...
    def context_for(self, server_name: str | None) -> ssl.SSLContext: ...
    def is_known(self, host: str) -> bool: ...


class TlsServer:
    """The base context with the sites of the moment."""

    def __init__(self, base: ssl.SSLContext, sites: SiteContexts) -> None:
        self.base = base
        self.answers: AnswerStore | None = None  # where the proofs are that authorities ask for
        self._sites = sites
        self.sites = sites

    @classmethod
    def open(cls, certificates: Sequence[SiteCertificate], protocols: Sequence[str] = WITH_HTTP2) -> TlsServer:
        """Return a server for the certificates."""
        return cls.serving(Sites(certificates, protocols))

    @classmethod
    def serving(cls, sites: SiteContexts) -> TlsServer:
        """Return a server for the sites."""
        # Where one set of certificates serves every name, its context is the base: to switch costs 5 % of a handshake.
        return cls(sites.only_context or build_base_context(sites.protocols), sites)

    @property
    def sites(self) -> SiteContexts:
        """Which certificates serve; setting it changes them for the handshakes to come."""
        return self._sites

    @sites.setter
    def sites(self, sites: SiteContexts) -> None:
        self._sites = sites
        self.base.sni_callback = None if sites.only_context is self.base else self._switch

    def is_known(self, host: str) -> bool:
        """True if one of the certificates of the moment is valid for `host`."""
        return self.sites.is_known(host)

    def challenge_context(self, hello: bytes) -> ssl.SSLContext | None:
        """Return the context for a whole ClientHello that asks for a proof; None: it wants a site.

        Raises ClientHelloError: the proof is not there, or the hello breaks the protocol.
        """
        if self.answers is None or OFFER not in hello or (parsed := parse_client_hello(hello)) is None:
            return None
        return challenge_context(parsed, self.answers)

    def _switch(self, connection: ssl.SSLObject | ssl.SSLSocket, server_name: str | None, _base: Any) -> None:
        connection.context = self.sites.context_for(server_name)


def _build_site_context(certificates: Sequence[SiteCertificate], protocols: Sequence[str]) -> ssl.SSLContext:
    context = build_base_context(protocols)
    for certificate in certificates:
        # One certificate a key type: loading a second type adds it, and the client's abilities choose.
        _load(context, certificate.chain_pem.rstrip() + b"\n" + certificate.key_pem)
    return context


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Load a chain with its key from memory, as `load_cert_chain` reads nothing but files (python/cpython#60691)."""
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile() as file:  # mode 0600
            file.write(pem)
            file.flush()
            context.load_cert_chain(file.name)
        return
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
