"""What workers are told to trust when they call out: the roots of `edge trust add`, with all public ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from edge.account import let_in
from edge_backend.identity import Identity
from edge_certs.errors import CertificateError
from edge_certs.files import edge_home
from edge_certs.trust.store import TrustStore
from edge_certs.trust.variables import write_trust

logger = logging.getLogger("edge.master")


@dataclass(frozen=True, slots=True)
class WorkerTrust:
    """The environment for workers, and the bundle that certifi answers with there; empty when no root was added."""

    environ: Mapping[str, str]
    ca_bundle: str


def worker_trust(environ: Mapping[str, str], identity: Identity | None = None) -> WorkerTrust:
    """Write the merged bundle and return what makes workers use it; without added roots, nothing is written or changed.

    Raises CertificateError: roots were added, and they cannot be read or the bundle not be written; ConfigError:
    workers run as `identity`, which cannot get at the bundle.
    """
    try:
        home = edge_home(environ)
    except CertificateError:
        # A container's user without an account or a home: nothing can have been added.
        return WorkerTrust(environ, "")
    store = TrustStore(home)
    if not store.is_readable:
        # As when a service keeps the HOME of whoever started it: it never had anything there.
        logger.warning("trust: this user may not read %s; workers start without added roots", store.folder)
        return WorkerTrust(environ, "")
    count = len(store.anchors())
    if not count:
        return WorkerTrust(environ, "")
    trust = write_trust(home, environ)
    for remark in trust.remarks:
        logger.warning("trust: %s", remark)
    if identity is not None:
        let_in(identity, trust.bundle.parent, home)
    logger.info("trust: workers call out with %d added roots and all public ones, in %s", count, trust.bundle)
    return WorkerTrust({**environ, **trust.variables}, str(trust.bundle))
