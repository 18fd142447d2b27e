"""Certificates from a second, independent authority: Caddy's, at the real ports 80 and 443 of a network of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests.process.acme_site import APP
from tests.process.server import DEADLINE, clean_environment, running, wait_until

NAMES = ("shop.test", "www.shop.test")
CADDYFILE = """
{
    admin off
    skip_install_trust
    auto_https off
    pki {
        ca local {
            name "Caddy"
        }
    }
}
:24700 {
    tls cert.pem key.pem
    acme_server
}
"""
AS_ROOT = ["--map-root-user"] if os.geteuid() else []


@dataclass
class Network:
    """A network in which nothing but this test's processes is, and in which the names are this machine."""

    pid: int

    @property
    def wrapper(self) -> list[str]:
        """The words before a command that make it run there."""
        user = ["--user", "--preserve-credentials"] if AS_ROOT else []
        return ["nsenter", "--target", str(self.pid), "--net", "--mount", "--wd=.", *user, "--"]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command there to its end."""
        environ = clean_environment()
        return subprocess.run(
            [*self.wrapper, *command], env=environ, capture_output=True, text=True, timeout=DEADLINE, check=False
        )


@contextmanager
def network(folder: Path) -> Iterator[Network]:
    for tool in ("unshare", "nsenter", "ip", "mount", "curl", "caddy"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs the tool {tool}")
    (folder / "hosts").write_text(f"127.0.0.1 localhost {' '.join(NAMES)}\n")
    begin = f"mount --bind '{folder}/hosts' /etc/hosts && ip link set lo up && echo ready && exec sleep infinity"
    command = ["unshare", *AS_ROOT, "--net", "--mount", "sh", "-c", begin]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            if holder.stdout.readline() != "ready\n":
                assert holder.stderr is not None
                pytest.skip(f"needs unshare with network namespaces: {holder.stderr.read().strip()}")
            yield Network(holder.pid)
        finally:
            holder.kill()


@contextmanager
def caddy(folder: Path, inside: Network) -> Iterator[Path]:
    """Run Caddy's authority; gives the file of the root that its server is trusted by."""
    root = trustme.CA()
    root.cert_pem.write_to_path(folder / "ca.pem")
    issued = root.issue_cert("localhost")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (folder / "Caddyfile").write_text(CADDYFILE)
    environ = clean_environment(XDG_DATA_HOME=str(folder / "data"), XDG_CONFIG_HOME=str(folder / "config"))
    command = [*inside.wrapper, "caddy", "run", "--config", "Caddyfile"]
    with open(folder / "caddy.log", "wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
    try:
        url = "https://localhost:24700/acme/local/directory"
        answers = ("curl", "-sf", "--cacert", str(folder / "ca.pem"), url)
        wait_until(lambda: inside.run(*answers).returncode == 0, "Caddy answers")
        yield folder / "ca.pem"
    finally:
        process.terminate()
        process.wait(DEADLINE)


@pytest.mark.parametrize("kind", ["http-01", "tls-alpn-01"])
def test_caddy_gives_a_certificate_at_the_real_ports(tmp_path: Path, kind: str) -> None:
    with network(tmp_path) as inside, caddy(tmp_path, inside) as ca_root:
        authority = ("--acme-directory", "https://localhost:24700/acme/local/directory", "--acme-ca-root", str(ca_root))
        wanted = ("--acme", ",".join(NAMES), "--acme-challenge", kind, "--acme-email", "a@shop.test")
        with running(tmp_path, APP, *authority, *wanted, wrapper=inside.wrapper) as server:
            assert server.ports("https") == [443]
            assert server.ports("http") == [80]
            server.wait_error(r"shop\.test: new certificate for shop\.test, www\.shop\.test, valid until")
            root = tmp_path / "data" / "caddy" / "pki" / "authorities" / "local" / "root.crt"
            visit = ("curl", "-sS", "--cacert", str(root), "--location", "http://www.shop.test/")
            # The redirect leads to a certificate that Caddy's root vouches for.
            wait_until(lambda: inside.run(*visit).stdout == "hello", "the new certificate serves")
