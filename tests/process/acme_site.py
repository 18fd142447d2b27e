"""A server whose certificates come from Pebble: real sockets, real challenges."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from tests.process.pebble import Pebble, free_ports, pebble
from tests.process.server import RawClient, Server, running, wait_until

APP = """
import os

async def app(scope, receive, send):
    if scope["type"] == "http":
        body = ("EDGE_ACME_EAB_KEY" in os.environ and "the key is here" or "hello").encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
"""

# Pebble asks for three seconds of patience twice in an order.
ORDER_TIMEOUT = 60.0


@dataclass
class Site:
    """Pebble, the ports at which it looks for answers, and the option by which servers trust its own certificate."""

    authority: Pebble
    folder: Path
    http: int
    tls: int
    trusted_by: str = "--acme-ca-root"

    @contextmanager
    def serve(self, folder: Path, *options: str, **environ: str) -> Iterator[Server]:
        """Serve with these options, at the ports that Pebble looks at."""
        binds = ("--bind", f"127.0.0.1:{self.tls}", "--http-bind", f"127.0.0.1:{self.http}")
        with self.serve_elsewhere(folder, *binds, *options, **environ) as server:
            yield server

    @contextmanager
    def serve_elsewhere(self, folder: Path, *options: str, **environ: str) -> Iterator[Server]:
        """Serve with these options, at ports that they name."""
        authority = ("--acme-directory", self.authority.directory, self.trusted_by, str(self.authority.ca_file))
        with running(folder, APP, *authority, *options, environ=environ) as server:
            yield server

    def trusting(self) -> ssl.SSLContext:
        """Return a client's context that trusts what Pebble signs."""
        return ssl.create_default_context(cafile=str(self.folder / "roots.pem"))

    def wait_issued(self, name: str, port: int | None = None) -> x509.Certificate:
        """Wait until `name` is served with a certificate that Pebble signed, and return it."""

        def issued() -> x509.Certificate | None:
            certificate = served(port or self.tls, name)
            return certificate if "Pebble" in certificate.issuer.rfc4514_string() else None

        found: x509.Certificate = wait_until(issued, f"a certificate of Pebble's for {name}", ORDER_TIMEOUT)
        return found

    def log(self, pattern: str) -> list[str]:
        """Return what the pattern finds in Pebble's log."""
        return re.findall(pattern, (self.folder / "pebble.log").read_text())

    @property
    def orders(self) -> int:
        """How many orders have been made."""
        return len(self.log("Added order"))


def sites(folder: Path, *, mac_keys: Mapping[str, str] | None = None, validity: int = 90 * 86400) -> Iterator[Site]:
    """Give Pebble, running, with what it signs with in `roots.pem`."""
    http, tls = free_ports(2)
    with pebble(folder, http_port=http, tls_port=tls, mac_keys=mac_keys, validity=validity) as authority:
        (folder / "roots.pem").write_bytes(asyncio.run(authority.fetch("/roots/0")))
        yield Site(authority, folder, http, tls)


def served(port: int, name: str) -> x509.Certificate:
    """Return the certificate that `name` is served with, trusted or not."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with RawClient(port, context, server_name=name) as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        return x509.load_der_x509_certificate(client.sock.getpeercert(True) or b"")


def names_of(certificate: x509.Certificate) -> set[str]:
    """Return the names and addresses that a certificate is for."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}
