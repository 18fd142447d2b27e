"""Where `edge trust add` takes roots from: a file, standard input, a URL."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from edge.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509

STDIN = "-"
# The hexadecimal digits of a SHA-256.
DIGITS = 64


def is_url(source: str) -> bool:
    """Return whether `source` is a URL; there may be a file of that name, which is then `./http:`..."""
    return source.lower().startswith(("http://", "https://"))


def read_source(source: str, *, is_pinned: bool) -> bytes:
    """Return what is to be added; `is_pinned` says that its fingerprint is given.

    Raises ConfigError: a file or standard input cannot be read, as for a wrong name; CertificateError: a URL cannot.
    """
    from edge_certs.errors import CertificateError
    from edge_certs.files import MAX_FILE_SIZE, edge_home, read_file

    if is_url(source):
        from edge_certs.trust.fetch import fetch
        from edge_certs.trust.outbound import outbound_context

        return fetch(source, outbound_context(edge_home(os.environ), os.environ), is_pinned=is_pinned)
    if source != STDIN:
        try:
            return read_file(Path(source), "root certificate")
        except CertificateError as error:
            raise ConfigError(f"{error.found}; {_advice(source, error.advice)}") from error
    content = sys.stdin.buffer.read(MAX_FILE_SIZE + 1)
    if len(content) > MAX_FILE_SIZE:
        raise ConfigError(f"standard input: more than {MAX_FILE_SIZE} bytes; give the root certificate alone")
    return content


def parse_source(source: str, content: bytes, wanted: str | None) -> Sequence[x509.Certificate]:
    """Return the certificates in `content`, which must be the one whose SHA-256 is `wanted`, if that is given.

    Raises AnchorRefused, which names `source`; ConfigError: `wanted` is no SHA-256.
    """
    from edge_certs.trust.anchors import AnchorRefused, fingerprint, parse_anchors
    from edge_certs.trust.store import normal_fingerprint

    if wanted is not None and len(normal_fingerprint(wanted)) != DIGITS:
        raise ConfigError(f"--fingerprint {wanted!r}: not a SHA-256; give its {DIGITS} hexadecimal digits")
    with naming_source(source):
        certificates = parse_anchors(content)
        found = [fingerprint(certificate) for certificate in certificates]
        if wanted is not None and found != [normal_fingerprint(wanted)]:
            raise AnchorRefused(
                f"its SHA-256 is {' and '.join(found)}, not the one of --fingerprint",
                "ask whoever gave you the fingerprint; this may be another's certificate",
            )
    return certificates


def _advice(source: str, otherwise: str) -> str:
    """Return what to do about a file that is no source; elsewhere, it would be a server's, which is read again."""
    if os.path.isdir(source):
        return "name the root certificate's own file in it"
    if os.path.isfile(source):
        return "give the root certificate alone" if os.access(source, os.R_OK) else otherwise
    return "pipe it into: edge trust add -" if os.path.exists(source) else otherwise


@contextmanager
def naming_source(source: str) -> Iterator[None]:
    """Say what was refused, and go on saying that it was refused."""
    from edge_certs.errors import place
    from edge_certs.trust.anchors import AnchorRefused

    try:
        yield
    except AnchorRefused as error:
        subject = "standard input" if source == STDIN else place(source)
        raise AnchorRefused(f"{subject}: {error.found}", error.advice) from error


def label_of(source: str) -> str:
    """Return what roots from `source` are called when nobody says: the file's name."""
    if source == STDIN:
        return "stdin"
    if is_url(source):
        parts = urlsplit(source)
        return Path(unquote(parts.path)).stem or str(parts.hostname)
    return Path(source).stem
