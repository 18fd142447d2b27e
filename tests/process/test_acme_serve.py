"""`edge serve --acme` against Pebble: real sockets, real challenges, certificates swapped in while it serves."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from tests.process.pebble import Pebble, free_ports, pebble
from tests.process.server import RawClient, Server, running, wait_until

APP = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})
"""


@dataclass
class Site:
    """Pebble, and the ports at which it looks for answers."""

    authority: Pebble
    folder: Path
    http: int
    tls: int
    roots: Path

    @contextmanager
    def serve(self, home: Path, *options: str, **environ: str) -> Iterator[Server]:
        """Serve with these options, at the ports that Pebble looks at."""
        binds = ("--bind", f"127.0.0.1:{self.tls}", "--http-bind", f"127.0.0.1:{self.http}")
        authority = ("--acme-directory", self.authority.directory, "--acme-ca-root", str(self.authority.ca_file))
        with running(home, APP, *binds, *authority, *options, environ=environ) as server:
            yield server

    def served(self, name: str) -> x509.Certificate:
        """Return the certificate that `name` is served with, trusted or not."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with RawClient(self.tls, context, server_name=name) as client:
            assert isinstance(client.sock, ssl.SSLSocket)
            return x509.load_der_x509_certificate(client.sock.getpeercert(True) or b"")

    def trusting(self) -> ssl.SSLContext:
        """Return a client's context that trusts what Pebble signs."""
        return ssl.create_default_context(cafile=str(self.roots))

    def wait_issued(self, name: str, timeout: float = 60.0) -> x509.Certificate:
        """Wait until `name` is served with a certificate that Pebble signed."""

        def issued() -> x509.Certificate | None:
            certificate = self.served(name)
            return certificate if "Pebble" in certificate.issuer.rfc4514_string() else None

        found: x509.Certificate = wait_until(issued, f"a certificate of Pebble's for {name}", timeout)
        return found


def sites(folder: Path, **options: object) -> Iterator[Site]:
    http, tls = free_ports(2)
    with pebble(folder, http_port=http, tls_port=tls, **options) as authority:  # type: ignore[arg-type]
        root = asyncio.run(authority.fetch("/roots/0"))
        (folder / "roots.pem").write_bytes(root)
        yield Site(authority, folder, http, tls, folder / "roots.pem")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from sites(tmp_path_factory.mktemp("pebble"))


def names_of(certificate: x509.Certificate) -> set[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}


@pytest.mark.parametrize("kind", ["http-01", "tls-alpn-01"])
def test_placeholder_serves_until_the_first_certificate_is_there(site: Site, tmp_path: Path, kind: str) -> None:
    name = f"{kind}.test"
    with site.serve(tmp_path, "--acme", f"{name},www.{name}", "--acme-challenge", kind) as server:
        edges = server.edges()
        certificate = site.wait_issued(name)
        assert names_of(certificate) == {name, f"www.{name}"}
        server.wait_error(f"{name}: new certificate for .*, valid until")
        assert server.edges() == edges
        with httpx.Client(verify=site.trusting(), trust_env=False) as client:
            answer = client.get(
                f"https://127.0.0.1:{site.tls}/", extensions={"sni_hostname": name}, headers={"host": name}
            )
            assert answer.text == "hello"
        live = tmp_path / "home" / "live" / name
        assert x509.load_pem_x509_certificate((live / "cert.pem").read_bytes()) == certificate
        assert list((tmp_path / "home" / "challenges" / kind).iterdir()) == []
