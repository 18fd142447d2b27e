"""What is known of a certificate that is kept valid: how it was asked for, when it will be renewed and why (pure).

This is what `state/NAME.json` holds, and all that a listing needs: whoever shows it asks neither the authority nor the
process that renews.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from edge_certs.ari import Window
from edge_certs.errors import CertificateError

VERSION = 1

DAMAGED = "remove the file: it is made anew, and the certificate stays"


class Status(Enum):
    """How it is with a certificate."""

    VALID = "valid"
    MISSING = "missing"
    ORDERING = "ordering"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Issuance:
    """How a certificate is asked for: from the authority with this `directory` URL, for `names` as `parse_name` gives.

    `kinds` of challenges have the preferred one first. `root` is a part of the name of the authority whose chain is
    preferred. `dns_hook` is the command that makes DNS records, empty without one.
    """

    names: tuple[str, ...]
    directory: str
    kinds: tuple[str, ...]
    key_type: str = "p256"
    profile: str | None = None
    root: str | None = None
    dns_hook: str = ""


@dataclass(frozen=True, slots=True)
class Advice:
    """What the authority said of one certificate (RFC 9773): the window, and the instant that was chosen in it, in UTC.

    `certificate_id` says of which certificate.
    """

    certificate_id: str
    window: Window
    selected: datetime


@dataclass(frozen=True, slots=True)
class CertificateState:
    """What is known of one certificate; instants are in UTC.

    `next_at` and `reason` say when the next attempt is and why then. `jitter`, from 0 to 1, was drawn when the
    certificate came. `last_error` is empty after a success. `fingerprint` and `not_after` are those of the certificate
    that is there, empty and None without one; `origin` is the directory URL of the authority that it came from, empty
    when nobody knows. `ask_at` is when to ask the authority again when it wants it renewed.
    """

    issuance: Issuance
    status: Status
    jitter: float
    next_at: datetime | None = None
    reason: str = ""
    last_error: str = ""
    fingerprint: str = ""
    not_after: datetime | None = None
    origin: str = ""
    advice: Advice | None = None
    ask_at: datetime | None = None

    def encode(self) -> bytes:
        """Return the content of the file."""
        issuance = self.issuance
        content: dict[str, object] = {
            "version": VERSION,
            "names": issuance.names,
            "status": self.status.value,
            "next_at": encode_instant(self.next_at),
            "reason": self.reason,
            "last_error": self.last_error,
            "fingerprint": self.fingerprint,
            "not_after": encode_instant(self.not_after),
            "origin": self.origin,
            "jitter": self.jitter,
            "directory": issuance.directory,
            "challenges": issuance.kinds,
            "key_type": issuance.key_type,
            "profile": issuance.profile,
            "chain": issuance.root,
            "dns_hook": issuance.dns_hook,
            "renewal_info": _encode_advice(self.advice),
            "ask_at": encode_instant(self.ask_at),
        }
        return json.dumps(content, indent=1).encode() + b"\n"

    @classmethod
    def decode(cls, content: bytes) -> CertificateState:
        """Return what `encode` wrote.

        Raises CertificateError: it is something else, or of another version.
        """
        try:
            value = json.loads(content)
            if (version := value["version"]) == VERSION:
                return _decode(value)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CertificateError("damaged", DAMAGED) from None
        raise CertificateError(f"of version {version!r}, this edge reads {VERSION}", "use the edge that wrote it")


def encode_instant(instant: datetime | None) -> str | None:
    """Return an instant in UTC as RFC 3339 has it, None for none."""
    return None if instant is None else instant.astimezone(UTC).isoformat()


def decode_instant(text: str | None) -> datetime | None:
    """Return what `encode_instant` made. Raises ValueError, TypeError: it is something else."""
    if text is None:
        return None
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError("an instant without an offset")
    return instant


def need_instant(text: str) -> datetime:
    """Return an instant that has to be there. Raises ValueError, TypeError: it is not."""
    instant = decode_instant(text)
    if instant is None:
        raise ValueError("no instant")
    return instant


def _decode(value: Mapping[str, Any]) -> CertificateState:
    return CertificateState(
        issuance=Issuance(
            names=tuple(map(str, value["names"])),
            directory=str(value["directory"]),
            kinds=tuple(map(str, value["challenges"])),
            key_type=str(value["key_type"]),
            profile=_optional(value["profile"]),
            root=_optional(value["chain"]),
            dns_hook=str(value["dns_hook"]),
        ),
        status=Status(value["status"]),
        jitter=float(value["jitter"]),
        next_at=decode_instant(value["next_at"]),
        reason=str(value["reason"]),
        last_error=str(value["last_error"]),
        fingerprint=str(value["fingerprint"]),
        not_after=decode_instant(value["not_after"]),
        origin=str(value["origin"]),
        advice=_decode_advice(value["renewal_info"]),
        ask_at=decode_instant(value["ask_at"]),
    )


def _encode_advice(advice: Advice | None) -> dict[str, object] | None:
    if advice is None:
        return None
    return {
        "certificate": advice.certificate_id,
        "window_start": encode_instant(advice.window.start),
        "window_end": encode_instant(advice.window.end),
        "explanation": advice.window.explanation,
        "selected": encode_instant(advice.selected),
    }


def _decode_advice(value: Mapping[str, Any] | None) -> Advice | None:
    if value is None:
        return None
    window = Window(need_instant(value["window_start"]), need_instant(value["window_end"]), str(value["explanation"]))
    return Advice(str(value["certificate"]), window, need_instant(value["selected"]))


def _optional(value: object) -> str | None:
    return None if value is None else str(value)
