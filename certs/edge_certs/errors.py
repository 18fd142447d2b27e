"""What goes wrong with certificates, keys and the folders that hold them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath


class CertificateError(Exception):
    """One line for the operator: `found` says where and what, `advice` what to do.

    `str()` gives both as one message; never a key or a part of one.
    """

    def __init__(self, found: str, advice: str = "") -> None:
        super().__init__(found, advice)
        self.found = found
        self.advice = advice

    def named(self, subject: str) -> CertificateError:
        """Return the same error with `subject` in front."""
        return CertificateError(f"{subject}: {self.found}", self.advice)

    def __str__(self) -> str:
        return f"{self.found}; {self.advice}" if self.advice else self.found


@contextmanager
def naming(subject: str) -> Iterator[None]:
    """Put `subject` in front of any CertificateError from the block: pure code knows what, callers know where.

    Raises CertificateError: the one from the block, with its subject.
    """
    try:
        yield
    except CertificateError as error:
        raise error.named(subject) from error


def place(path: str | PathLike[str]) -> str:
    """Return `path` as a message shows it: quoted when it would break the line or hide a character."""
    text = fspath(path)
    return text if text.isprintable() and text.strip() == text != "" else repr(text)


def reason(error: OSError) -> str:
    """Return why the system refused, in the words and the case of our messages."""
    return (error.strerror or type(error).__name__).lower()


def system_reason(error: OSError) -> str:
    """Return what `reason` does for an error of asyncio's or of a socket's, which put words of their own around it."""
    if error.errno is None:
        return "the connection was closed"
    return os.strerror(error.errno).lower()
