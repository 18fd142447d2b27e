"""PEM as people have it: comments between blocks, CRLF, no newline between two files put together (pure)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge_certs.errors import CertificateError

BOUNDARY = re.compile(rb"-----(BEGIN|END) ([A-Z0-9 ]+)-----")

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")

# DER of PFX (RFC 7292 section 4): a SEQUENCE that opens with the INTEGER 3. Other SEQUENCEs are certificates or keys.
PKCS12 = re.compile(rb"\x30(?:[\x00-\x7f]|\x80|\x81.|\x82..|\x83...)\x02\x01\x03", re.DOTALL)
DER_SEQUENCE = b"\x30"


@dataclass(frozen=True, slots=True)
class Block:
    """One PEM block: `pem` is the block alone with LF line ends, `line` where it begins, counted from 1."""

    label: str
    pem: bytes
    line: int

    def __repr__(self) -> str:
        # The content may be a private key: a traceback or a log must not show it.
        return f"Block(label={self.label!r}, line={self.line})"


def parse_blocks(data: bytes) -> list[Block]:
    """Return the PEM blocks in `data`, in order; text outside of them is ignored.

    Raises CertificateError: a block begins without an end or ends without a beginning, as in a file that was cut off.
    """
    blocks: list[Block] = []
    start: re.Match[bytes] | None = None
    for boundary in BOUNDARY.finditer(data):
        if boundary[1] == b"BEGIN":
            if start is not None:
                raise _broken(data, start, "begins and never ends")
            start = boundary
        else:
            if start is None or start[2] != boundary[2]:
                raise _broken(data, boundary, "ends without a beginning")
            blocks.append(_block(data, start, boundary))
            start = None
    if start is not None:
        raise _broken(data, start, "begins and never ends")
    return blocks


def not_pem(data: bytes, command: str) -> CertificateError:
    """Return the error for `data` without any block: what it is instead, and how `openssl COMMAND` makes PEM of it.

    Never shows the content, which may be a key.
    """
    if not data.strip():
        return CertificateError("the file is empty", "write the PEM text into it")
    if data.startswith(UTF16_MARKS):
        return CertificateError("UTF-16 text, not PEM", "save it as plain text in UTF-8")
    if PKCS12.match(data):
        return CertificateError("PKCS#12, not PEM", "convert it: openssl pkcs12 -in FILE -out FILE.pem -noenc")
    if data.startswith(DER_SEQUENCE):
        return CertificateError("DER, not PEM", f"convert it: openssl {command} -inform der -in FILE -out FILE.pem")
    return CertificateError("not PEM: no line '-----BEGIN ...-----' in it", "name another file")


def _block(data: bytes, begin: re.Match[bytes], end: re.Match[bytes]) -> Block:
    text = data[begin.start() : end.end()]
    lines = b"\n".join(line.strip() for line in text.splitlines())
    return Block(label=begin[2].decode("ascii"), pem=lines + b"\n", line=_line(data, begin))


def _broken(data: bytes, boundary: re.Match[bytes], what: str) -> CertificateError:
    label = boundary[2].decode("ascii")
    return CertificateError(f"line {_line(data, boundary)}: {label!r} {what}", "copy the file again, all of it")


def _line(data: bytes, boundary: re.Match[bytes]) -> int:
    return data.count(b"\n", 0, boundary.start()) + 1
