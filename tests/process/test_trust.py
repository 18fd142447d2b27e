"""Behind a corporate proxy, for real: HTTPS on loopback, real client libraries, before and after `edge trust add`.

"Public" is a root that the system's bundle (a file that SSL_CERT_FILE names, as on systems where that is how one is
chosen) holds; "corporate" is one that nobody knows. All children have an environment without any trust settings.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme

from tests.process import trust_clients
from tests.process.server import DEADLINE, clean_environment, serving
from tests.process.tls_proxy import InterceptingProxy, intercepting, site

HERE = Path(__file__).parent
# A name that leads nowhere (RFC 6761 section 6.2) but through the proxy, which leads it to a server of ours.
PUBLIC_NAME = "www.public.test"
LIBRARIES = sorted(name for name in trust_clients.LIBRARIES if name != "curl" or shutil.which("curl"))
# In a plain Python, certifi alone decides here, and no variable reaches it: that is why workers have the hook.
ONLY_IN_WORKERS = ("certifi", "requests without environment")
OUTSIDE = [library for library in trust_clients.LIBRARIES if library not in ONLY_IN_WORKERS]

APPLICATION = f"""
import asyncio, sys
from urllib.parse import parse_qs
sys.path.insert(0, {str(HERE)!r})
import trust_clients

async def app(scope, receive, send):
    query = parse_qs(scope["query_string"].decode())
    text = await asyncio.to_thread(trust_clients.call, query["library"][0], query["url"][0])
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": text.encode()}})
"""


@dataclass(frozen=True)
class Network:
    """Two sites, by their URLs, and the files with the roots that signed them."""

    public_url: str
    corporate_url: str
    public_root: Path
    corporate_root: Path
    corporate: trustme.CA


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("network")
    public, corporate = trustme.CA(), trustme.CA()
    public.cert_pem.write_to_path(str(folder / "public.pem"))
    corporate.cert_pem.write_to_path(str(folder / "corporate.pem"))
    with site(public, "localhost", PUBLIC_NAME) as public_port, site(corporate, "localhost") as corporate_port:
        yield Network(
            f"https://localhost:{public_port}/",
            f"https://localhost:{corporate_port}/",
            folder / "public.pem",
            folder / "corporate.pem",
            corporate,
        )


def edge_trust(*arguments: str, environ: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "edge", "trust", *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def call_outside(library: str, url: str, *, environ: dict[str, str]) -> str:
    """Call out in a process of its own that knows edge by `edge trust run` alone."""
    program = [sys.executable, str(HERE / "trust_clients.py"), library, url]
    return edge_trust("run", "--", *program, environ=environ).rstrip("\n")


def ask_worker(port: int, library: str, url: str) -> str:
    with httpx.Client(trust_env=False, timeout=DEADLINE) as client:
        return client.get(f"http://127.0.0.1:{port}/", params={"library": library, "url": url}).text


def is_refused(text: str) -> bool:
    """For its certificate, and for no other reason: a connection refused is no proof of anything."""
    return text.startswith("refused: ") and "certificate" in text.lower()


@pytest.mark.parametrize("library", OUTSIDE)
def test_library_reaches_public_and_corporate_sites_once_the_root_was_added(
    library: str, network: Network, tmp_path: Path
) -> None:
    if library not in LIBRARIES:
        pytest.skip(f"needs the tool {library}")
    environ = clean_environment(EDGE_HOME=str(tmp_path), SSL_CERT_FILE=str(network.public_root))
    assert call_outside(library, network.public_url, environ=environ) == "ok"
    assert is_refused(call_outside(library, network.corporate_url, environ=environ))
    edge_trust("add", str(network.corporate_root), environ=environ)
    assert call_outside(library, network.public_url, environ=environ) == "ok"
    assert call_outside(library, network.corporate_url, environ=environ) == "ok"
    edge_trust("remove", "corporate", environ=environ)
    assert is_refused(call_outside(library, network.corporate_url, environ=environ))


def test_worker_is_left_alone_until_a_root_was_added(network: Network, tmp_path: Path) -> None:
    with serving(tmp_path, APPLICATION, SSL_CERT_FILE=str(network.public_root)) as server:
        answers = {library: ask_worker(server.port, library, network.corporate_url) for library in LIBRARIES}
        environment = Path(f"/proc/{server.workers()[0]}/environ").read_bytes().split(b"\0")
    assert {library for library, answer in answers.items() if is_refused(answer)} == set(LIBRARIES), answers
    assert f"SSL_CERT_FILE={network.public_root}".encode() in environment
    assert not any(variable.startswith(b"REQUESTS_CA_BUNDLE=") for variable in environment)
    assert not (tmp_path / "home/trust").exists()


def test_every_library_in_a_worker_reaches_public_and_corporate_sites(network: Network, tmp_path: Path) -> None:
    environ = clean_environment(EDGE_HOME=str(tmp_path / "home"))
    edge_trust("add", str(network.corporate_root), environ=environ)
    with serving(tmp_path, APPLICATION, SSL_CERT_FILE=str(network.public_root)) as server:
        asked = [(library, url) for library in LIBRARIES for url in (network.public_url, network.corporate_url)]
        answers = {case: ask_worker(server.port, *case) for case in asked}
    assert set(answers.values()) == {"ok"}, answers


def test_every_library_in_a_worker_reaches_a_public_site_through_an_intercepting_proxy(
    network: Network, tmp_path: Path
) -> None:
    port = int(network.public_url.rpartition(":")[2].strip("/"))
    proxy = InterceptingProxy(network.corporate, network.public_root, {PUBLIC_NAME: port})
    environ = clean_environment(EDGE_HOME=str(tmp_path / "home"))
    with intercepting(proxy) as proxy_port:

        def ask_all() -> dict[str, str]:
            url = f"http://127.0.0.1:{proxy_port}"
            with serving(tmp_path, APPLICATION, HTTPS_PROXY=url, https_proxy=url) as server:
                return {library: ask_worker(server.port, library, f"https://{PUBLIC_NAME}/") for library in LIBRARIES}

        before = ask_all()
        edge_trust("add", str(network.corporate_root), environ=environ)
        after = ask_all()
    assert {library for library, answer in before.items() if is_refused(answer)} == set(LIBRARIES), before
    assert set(after.values()) == {"ok"}, after
    assert set(proxy.seen) == {PUBLIC_NAME}
