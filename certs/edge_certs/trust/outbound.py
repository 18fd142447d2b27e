"""What our own connections to others trust: what applications are told to trust, no more and no less.

ACME, health checks, `trust check` and `trust add URL` all take their context here. On macOS and Windows, the system's
own verifier decides, as for everything else there; the roots that were added count beside it.
"""

from __future__ import annotations

import platform
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_certs.errors import CertificateError
from edge_certs.trust.bundle import Source
from edge_certs.trust.variables import merged_bundle

# They have no file with their roots that is kept up to date; truststore asks them.
SYSTEMS_WITH_VERIFIER = ("Darwin", "Windows")


def outbound_context(
    home: Path, environ: Mapping[str, str], system: str = "", more: Sequence[Source] = ()
) -> ssl.SSLContext:
    """Return a client's context with the public roots, those that `environ` names, those that were added, and `more`.

    `system` is the name of the operating system, this one's by default. Build it once and keep it: it costs 20 ms.

    Raises CertificateError: the store or the system's roots cannot be read.
    """
    if (system or platform.system()) in SYSTEMS_WITH_VERIFIER:
        import truststore

        context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return _with_roots(context, merged_bundle(home, environ, "none", more))
    # Not create_default_context(), which would add what SSL_CERT_FILE names in place of what it stands beside.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # An intermediate that was added is to be enough, as it is for Python 3.13.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return _with_roots(context, merged_bundle(home, environ, "both", more))


def _with_roots(context: ssl.SSLContext, bundle: bytes) -> ssl.SSLContext:
    text = bundle.decode("ascii")
    if "-----BEGIN" not in text:
        return context
    try:
        context.load_verify_locations(cadata=text)
    except ssl.SSLError as error:
        raise CertificateError(
            f"the merged roots cannot be used: {str(error.reason or error).lower()}", "see edge trust list"
        ) from error
    return context
