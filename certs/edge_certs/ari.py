"""When the authority wants a certificate renewed: ACME Renewal Information (RFC 9773; pure).

A certificate has an identifier made of its own octets. The authority answers it with a window; an instant in it, chosen
once and kept, spreads the renewals of everybody.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509

from edge_certs.errors import CertificateError
from edge_certs.jws import encode_base64url

# RFC 9773 section 4.3.2 lets clients set bounds: neither a busy loop nor a forgotten certificate by one wrong field.
MIN_ASK_INTERVAL = timedelta(minutes=1)
MAX_ASK_INTERVAL = timedelta(days=1)

# What Let's Encrypt and Pebble answer; for an authority that says nothing.
ASK_INTERVAL = timedelta(hours=6)

# The page is shown to people, who would not read a longer URL; it is kept with the window.
MAX_EXPLANATION = 2000


@dataclass(frozen=True, slots=True)
class Window:
    """The authority's suggestion, in UTC; `explanation` is a page about it, or empty."""

    start: datetime
    end: datetime
    explanation: str


def encode_certificate_id(certificate: x509.Certificate) -> str:
    """Return what names `certificate` in renewalInfo and in `replaces` (RFC 9773 section 4.1).

    Raises CertificateError: it does not say which key signed it.
    """
    try:
        authority = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        authority = None
    if authority is None:
        raise CertificateError("no authority key identifier in it", "renew it by its dates")
    serial = certificate.serial_number
    # The octets of the DER INTEGER: one more bit than the number has, for its sign.
    octets = serial.to_bytes(serial.bit_length() // 8 + 1, "big", signed=True)
    return f"{encode_base64url(authority)}.{encode_base64url(octets)}"


def parse_window(content: bytes) -> Window:
    """Return the window in the content of a renewalInfo answer (RFC 9773 section 4.2).

    Raises CertificateError: it is something else, or ends before it starts.
    """
    try:
        answer = json.loads(content)
        suggested = answer["suggestedWindow"]
        start, end = _parse_instant(suggested["start"]), _parse_instant(suggested["end"])
        explanation = str(answer.get("explanationURL", ""))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise CertificateError("the renewal information is not a window", "renew by the dates") from None
    # RFC 9773 section 4.2: such a window is as good as none.
    if end < start:
        raise CertificateError("the renewal window ends before it starts", "renew by the dates")
    return Window(start, end, explanation if len(explanation) <= MAX_EXPLANATION else "")


def choose_instant(window: Window, random: float) -> datetime:
    """Return the instant of `window` that a `random` number from 0 to 1 stands for; keep it as long as the window."""
    return window.start + (window.end - window.start) * random


def ask_again(retry_after: timedelta | None) -> timedelta:
    """Return after what time to ask for the window again, when the answer said `retry_after` (RFC 9773 section 4.3)."""
    if retry_after is None:
        return ASK_INTERVAL
    return min(max(retry_after, MIN_ASK_INTERVAL), MAX_ASK_INTERVAL)


def _parse_instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError("RFC 3339 wants an offset")
    # The first and the last hours that a date can hold are no instants in UTC.
    return instant.astimezone(UTC)
