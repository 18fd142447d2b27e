"""Who may come: what the certificates of a site's clients are verified by.

The policy of a connection cannot be changed once its SSL object exists, and the server-name callback changes only half
of it. So a guarded connection is made from a context of its own, chosen by the ClientHello: verification, certificate
and no tickets, which would bring the certificate of another site, or of another day, along.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any

from edge.tls.memory import file_in_memory


@dataclass(frozen=True, slots=True)
class Guard:
    """Roots and intermediates that clients' certificates lead to, and lists of those that were revoked, in PEM.

    Without `is_required`, a client may come without a certificate; one that is not good is refused in any case.
    """

    authorities: str
    revoked: str
    is_required: bool

    def protect(self, context: ssl.SSLContext) -> None:
        """Have the connections of a context ask for certificates, and resume nothing.

        Raises OSError or ValueError if what is in the PEM is of no use.
        """
        context.verify_mode = ssl.CERT_REQUIRED if self.is_required else ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=self.authorities)
        # Whoever names an intermediate trusts that, with or without the root above it.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self.revoked:
            with file_in_memory(self.revoked.encode()) as path:
                context.load_verify_locations(cafile=path)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET

    def encode(self) -> dict[str, object]:
        """Return what JSON can carry."""
        return {"authorities": self.authorities, "revoked": self.revoked, "required": self.is_required}

    @classmethod
    def decode(cls, value: dict[str, Any]) -> Guard:
        """Return what `encode` made."""
        return cls(value["authorities"], value["revoked"], value["required"])
