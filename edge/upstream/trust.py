"""What certificates of https upstreams are checked with: the roots of a `ca_root`, or all that `edge trust` knows of.

Files are read where they can be refused, before edges are forked; an edge that runs as another user need not read them.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from edge.config_sites import SitePlan, UpstreamPlan
from edge_certs.errors import CertificateError, naming, place
from edge_certs.files import edge_home, read_file
from edge_certs.trust.bundle import Source, encode_bundle
from edge_certs.trust.outbound import outbound_context
from edge_certs.trust.store import TrustStore
from edge_certs.trust.variables import extra_sources
from edge_certs.x509 import parse_chain

logger = logging.getLogger("edge.upstream")


@dataclass(frozen=True, slots=True)
class UpstreamTrust:
    """What was read for each `ca_root` that upstreams name, the empty one included; equal when the roots are."""

    roots: Mapping[str, bytes] = field(default_factory=dict)
    contexts: Mapping[str, ssl.SSLContext] = field(default_factory=dict, compare=False)

    def context_for(self, plan: UpstreamPlan) -> ssl.SSLContext | None:
        """Return what the plan's servers are checked with, their names too, always; None if none of them has TLS."""
        return self.contexts[plan.ca_root] if plan.has_tls else None


def load_upstream_trust(
    sites: Sequence[SitePlan], environ: Mapping[str, str], more: Sequence[Source] = ()
) -> UpstreamTrust:
    """Read the roots that https upstreams of the sites are checked with; `more` count where no `ca_root` is named.

    Raises CertificateError: some of them cannot be read.
    """
    targets = [route.target for site in sites for route in site.routes]
    named = sorted({plan.ca_root for plan in targets if isinstance(plan, UpstreamPlan) and plan.has_tls})
    found = {path: _read_roots(path) if path else _known_roots(environ, more) for path in named}
    for _, context in found.values():
        context.set_alpn_protocols(["http/1.1"])
    return UpstreamTrust(
        {path: roots for path, (roots, _) in found.items()}, {path: context for path, (_, context) in found.items()}
    )


def _read_roots(path: str) -> tuple[bytes, ssl.SSLContext]:
    """Return the roots in a file, and what trusts them alone."""
    content = read_file(Path(path), "CA root")
    with naming(f"CA root {place(path)}"):
        roots = b"".join(root.public_bytes(Encoding.DER) for root in parse_chain(content))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # An intermediate is to be enough, as it is for the roots that were added.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=roots)
    return roots, context


def _known_roots(environ: Mapping[str, str], more: Sequence[Source]) -> tuple[bytes, ssl.SSLContext]:
    """Return the roots that are not public, and what trusts these and all public ones."""
    try:
        home = edge_home(environ)
    except CertificateError:
        # A container's user without an account or a home: nothing can have been added.
        return _default_roots(more)
    store = TrustStore(home)
    if not store.is_readable:
        logger.warning("trust: this user may not read %s; upstreams are checked without added roots", store.folder)
        return _default_roots(more)
    return encode_bundle([*extra_sources(home, environ), *more]), outbound_context(home, environ, more=more)


def _default_roots(more: Sequence[Source]) -> tuple[bytes, ssl.SSLContext]:
    context, roots = ssl.create_default_context(), b""
    if more:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        roots = encode_bundle(more)
        context.load_verify_locations(cadata=roots.decode("ascii"))
    return roots, context
