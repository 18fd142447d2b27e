"""What files and folders are called for a host, an address or an authority: no two the same, none leads out (pure)."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from edge_certs.errors import CertificateError


def file_name(name: str) -> str:
    """Return the name of a file for a host name or an address as `csr.parse_name` gives it; no two have the same.

    Raises CertificateError: it could lead out of the folder.
    """
    # Neither character is in a host name; a colon splits lists of paths, an asterisk is expanded by shells.
    text = name.replace("*", "wildcard_").replace(":", "_")
    if "/" in text or "\0" in text or text.startswith(".") or not text:
        raise CertificateError(f"name {name!r}: not a host name or an IP address", "write it as in example.com")
    return text


def from_file_name(text: str) -> str:
    """Return the name that `file_name` made `text` of."""
    if text.startswith("wildcard_"):
        return "*" + text.removeprefix("wildcard_")
    return text.replace("_", ":")


def authority_name(directory: str) -> str:
    """Return the name of the folder for an authority: its directory URL without the scheme; no two have the same.

    Raises CertificateError: it is no HTTPS URL.
    """
    parts = urlsplit(directory)
    if parts.scheme != "https" or not parts.hostname or not parts.hostname.strip("."):
        raise CertificateError(f"authority {directory!r}: not an https URL", "name the URL of its directory")
    return quote(directory.removeprefix("https://"), safe="")
