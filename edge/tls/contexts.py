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

Sites that ask for client certificates have another policy, and so contexts of their own (guards.py): where there is one
of them, each ClientHello is read first, and a connection to it never sees the base.
"""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from edge.config_tls import TlsSettings
from edge.http.huffman import NativeHuffman, best_huffman
from edge.tls.answers import OFFER, AnswerStore, challenge_context
from edge.tls.clienthello import INTERNAL_ERROR, ClientHello, ClientHelloError, parse_client_hello
from edge.tls.guards import Guard
from edge.tls.memory import file_in_memory
from edge.tls.sni import SiteNames

# Mozilla's intermediate level, guidelines 6.0 (2026-04): forward secrecy and AEAD only; TLS 1.3's suites are fixed.
INTERMEDIATE_CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)


@dataclass(frozen=True, slots=True)
class Offer:
    """What handshakes may agree on: protocols by ALPN (RFC 7301), the best first; TLS 1.2's ciphers; the least version.

    The suites of TLS 1.3 are fixed.
    """

    protocols: tuple[str, ...]
    ciphers: str = INTERMEDIATE_CIPHERS
    least: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2


HTTP1_ONLY = Offer(("http/1.1",))
WITH_HTTP2 = Offer(("h2", "http/1.1"))
# About 20 KiB each. Sites that ask for certificates have one or two; the others are those of before a reload.
MAX_GUARDED = 256


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


def offer_for(settings: TlsSettings) -> Offer:
    """Return what the settings offer.

    `--http2 auto` leaves HTTP/2 out where its strings would be read by pure Python.
    """
    is_slow = settings.http2 == "auto" and not isinstance(best_huffman(), NativeHuffman)
    offer = HTTP1_ONLY if settings.http2 == "off" or is_slow else WITH_HTTP2
    least = ssl.TLSVersion.TLSv1_3 if settings.least_version == "tls1.3" else ssl.TLSVersion.TLSv1_2
    return Offer(offer.protocols, settings.ciphers or INTERMEDIATE_CIPHERS, least)


def build_base_context(offer: Offer = WITH_HTTP2) -> ssl.SSLContext:
    """Return the context that every server connection is made from: policy and ticket keys, no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = offer.least
    # The client's order: it knows whether it has AES in hardware (Mozilla 6.0: server_preferred_order false).
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    # Renegotiation is asked for by the client and paid for by the server (CVE-2011-1473).
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(offer.ciphers)
    context.set_alpn_protocols(list(offer.protocols))
    context.num_tickets = 1  # each costs 15 to 20 us of a full handshake; a browser asks again when it needs more
    return context


class Sites:
    """The certificates that serve, by server name. Complete when built; a reload builds another one."""

    def __init__(self, certificates: Sequence[SiteCertificate], offer: Offer = WITH_HTTP2) -> None:
        self.offer = offer
        self._names = SiteNames([certificate.names for certificate in certificates])
        self._certificates = tuple(certificates)
        self._guarded: dict[tuple[tuple[int, ...], Guard], ssl.SSLContext] = {}
        self._contexts: dict[tuple[int, ...], ssl.SSLContext] = {}
        for group in self._names.groups():
            self._contexts[group] = _build_site_context([certificates[index] for index in group], offer)

    def context_for(self, server_name: str | None) -> ssl.SSLContext:
        """Return the context of the certificates for this name: exact, wildcard, or the first certificate's."""
        return self._contexts[self._names.lookup(server_name)]

    def guarded_context(self, server_name: str | None, guard: Guard) -> ssl.SSLContext:
        """Return a context with the certificates for this name that asks clients for theirs, made at its first use."""
        group = self._names.lookup(server_name)
        context = self._guarded.get((group, guard))
        if context is None:
            if len(self._guarded) >= MAX_GUARDED:
                self._guarded.clear()  # guards that have changed are not asked for any more
            certificates = [self._certificates[index] for index in group]
            context = self._guarded[group, guard] = _build_site_context(certificates, self.offer, guard)
        return context

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

    offer: Offer

    @property
    def only_context(self) -> ssl.SSLContext | None: ...
    def context_for(self, server_name: str | None) -> ssl.SSLContext: ...
    def guarded_context(self, server_name: str | None, guard: Guard) -> ssl.SSLContext: ...
    def is_known(self, host: str) -> bool: ...


class Choice(NamedTuple):
    """What a connection is made from, once its ClientHello is there.

    `hello` is there if it was read for a guard; `is_challenge`: it is a proof that the client wants, and nothing more.
    """

    context: ssl.SSLContext
    hello: ClientHello | None = None
    is_challenge: bool = False


class TlsServer:
    """The base context with the sites of the moment.

    `guard_of` gives the name of the guard that a server name has, empty for none. It is None where no site asks clients
    for certificates. `handshakes` counts those that are over: `ok` or `failed`, then the version, then `yes` or `no`,
    whether it resumed a session; of one that failed, the result alone.
    """

    def __init__(self, base: ssl.SSLContext, sites: SiteContexts) -> None:
        self.base = base
        self.answers: AnswerStore | None = None  # where the proofs are that authorities ask for
        self.guards: Mapping[str, Guard] = {}
        self.guard_of: Callable[[str | None], str] | None = None
        self.handshakes = Counter[str]()
        self._sites = sites
        self.sites = sites

    @classmethod
    def open(cls, certificates: Sequence[SiteCertificate], offer: Offer = WITH_HTTP2) -> TlsServer:
        """Return a server for the certificates."""
        return cls.serving(Sites(certificates, offer))

    @classmethod
    def serving(cls, sites: SiteContexts) -> TlsServer:
        """Return a server for the sites."""
        # Where one set of certificates serves every name, its context is the base: to switch costs 5 % of a handshake.
        return cls(sites.only_context or build_base_context(sites.offer), sites)

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

    def choose(self, hello: bytes) -> Choice:
        """Return what answers a whole ClientHello.

        Raises ClientHelloError: it asks for a proof that is not there, or breaks the protocol, or a guard is missing.
        """
        wants_proof = self.answers is not None and OFFER in hello
        if not wants_proof and self.guard_of is None:
            return Choice(self.base)
        parsed = parse_client_hello(hello)
        assert parsed is not None  # it is whole
        if wants_proof and self.answers is not None:
            proof = challenge_context(parsed, self.answers)
            if proof is not None:
                return Choice(proof, is_challenge=True)
        name = self.guard_of(parsed.server_name) if self.guard_of is not None else ""
        if not name:
            return Choice(self.base)
        guard = self.guards.get(name)
        if guard is None:
            raise ClientHelloError(INTERNAL_ERROR, f"client hello: no guard {name!r} for {parsed.server_name!r}")
        return Choice(self.sites.guarded_context(parsed.server_name, guard), parsed)

    def _switch(self, connection: ssl.SSLObject | ssl.SSLSocket, server_name: str | None, _base: Any) -> None:
        connection.context = self.sites.context_for(server_name)


def _build_site_context(
    certificates: Sequence[SiteCertificate], offer: Offer, guard: Guard | None = None
) -> ssl.SSLContext:
    context = build_base_context(offer)
    if guard is not None:
        guard.protect(context)
    for certificate in certificates:
        # One certificate a key type: loading a second type adds it, and the client's abilities choose.
        with file_in_memory(certificate.chain_pem.rstrip() + b"\n" + certificate.key_pem) as path:
            context.load_cert_chain(path)
    return context
