"""Behind a corporate proxy, for real: HTTPS on loopback, real clients, before and after `edge trust add`.

"Public" and "own" are roots of files that the operator's variables name, as on systems where that is how one chooses
the public ones; "corporate" is one that nobody knows. All children have an environment without any trust settings.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import certifi
import httpx
import pytest
import trustme

from edge_certs.trust.attempts import Setting, attempt_all
from edge_certs.trust.bundle import SYSTEM_BUNDLES, read_source
from edge_certs.trust.clients import CLIENTS, Client
from tests.process import trust_clients
from tests.process.server import DEADLINE, clean_environment, running
from tests.process.tls_proxy import InterceptingProxy, intercepting, site

HERE = Path(__file__).parent
# A name that leads nowhere (RFC 6761 section 6.2) but through the proxy, which leads it to a server of ours.
PUBLIC_NAME = "www.public.test"
TOOLS = [client.name for client in CLIENTS if not client.is_library and client.name != "pip"]
# In a plain Python, certifi alone decides here, and no variable reaches it: that is why workers have the hook.
ONLY_IN_WORKERS = "certifi"
OUTSIDE = [client for client in CLIENTS if client.name != ONLY_IN_WORKERS]
ANY_PORT = ("--port", "0")
# pip.conf may name roots of its own.
QUIET = {"PIP_CONFIG_FILE": "/dev/null"}

APPLICATION = f"""
import asyncio, json, ssl, sys
from urllib.parse import parse_qs
sys.path.insert(0, {str(HERE.parents[1])!r})
from tests.process import trust_clients

def facts():
    import certifi
    return json.dumps(["truststore" in sys.modules, ssl.SSLContext.__module__, certifi.where(), certifi.contents()])

async def app(scope, receive, send):
    query = parse_qs(scope["query_string"].decode())
    function, arguments = facts, ()
    if query:
        function, arguments = trust_clients.call, (query["client"][0], query["url"][0])
    text = await asyncio.to_thread(function, *arguments)
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": text.encode()}})
"""


@dataclass(frozen=True)
class Network:
    """Three sites, by their URLs; the files with the roots that signed them lie in `folder`."""

    public_url: str
    own_url: str
    corporate_url: str
    folder: Path
    corporate: trustme.CA

    @property
    def corporate_root(self) -> Path:
        return self.folder / "corporate.pem"

    @property
    def operator(self) -> dict[str, str]:
        """What the operator has set."""
        return {
            "SSL_CERT_FILE": str(self.folder / "public.pem"),
            "AWS_CA_BUNDLE": str(self.folder / "own.pem"),
            **QUIET,
        }


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    for tool in TOOLS:
        if tool != "uv" and shutil.which(tool) is None:
            pytest.skip(f"needs the tool {tool}")
    folder = tmp_path_factory.mktemp("network")
    public, own, corporate = trustme.CA(), trustme.CA(), trustme.CA()
    for name, authority in (("public", public), ("own", own), ("corporate", corporate)):
        authority.cert_pem.write_to_path(str(folder / f"{name}.pem"))
    with (
        site(public, "localhost", PUBLIC_NAME) as public_port,
        site(own, "localhost") as own_port,
        site(corporate, "localhost") as corporate_port,
    ):
        ports = (public_port, own_port, corporate_port)
        public_url, own_url, corporate_url = (f"https://localhost:{port}/" for port in ports)
        yield Network(public_url, own_url, corporate_url, folder, corporate)


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


def call_outside(url: str, environ: dict[str, str], clients: Sequence[Client] = OUTSIDE) -> dict[str, str]:
    """Call out by each client, in a process of its own that knows edge by its variables alone."""
    variables = json.loads(edge_trust("env", "--format", "json", environ=environ))
    outcomes = attempt_all(clients, [Setting("outside", {**environ, **variables})], url, "")
    return {client: f"{outcome.state}: {outcome.detail}" for (client, _), outcome in outcomes.items()}


def ask_worker(port: int, client: str = "", url: str = "") -> str:
    with httpx.Client(trust_env=False, timeout=DEADLINE) as http:
        return http.get(f"http://127.0.0.1:{port}/", params={"client": client, "url": url} if client else {}).text


def refused(answers: dict[str, str]) -> set[str]:
    """Those who refused the certificate, and for no other reason: a connection refused is no proof of anything."""
    return {name for name, answer in answers.items() if answer.startswith("refused: ")}


def accepted(answers: dict[str, str]) -> set[str]:
    return {name for name, answer in answers.items() if answer.partition(":")[0] == "ok"}


def test_every_client_outside_reaches_all_sites_once_the_root_was_added(network: Network, tmp_path: Path) -> None:
    environ = clean_environment(EDGE_HOME=str(tmp_path), **network.operator)
    names = {client.name for client in OUTSIDE}
    assert len(names) == 12
    before = call_outside(network.corporate_url, environ)
    assert refused(before) == names, before
    edge_trust("add", str(network.corporate_root), environ=environ)
    for url in (network.corporate_url, network.public_url):
        after = call_outside(url, environ)
        assert accepted(after) == names, after
    edge_trust("remove", "corporate", environ=environ)
    again = call_outside(network.corporate_url, environ)
    assert refused(again) == names, again


def test_command_that_is_run_by_edge_trust_reaches_the_corporate_site(network: Network, tmp_path: Path) -> None:
    environ = clean_environment(EDGE_HOME=str(tmp_path), **network.operator)
    edge_trust("add", str(network.corporate_root), environ=environ)
    assert edge_trust("run", "--", "curl", "-sS", network.corporate_url, environ=environ) == "ok"


def test_worker_is_left_alone_until_a_root_was_added(network: Network, tmp_path: Path) -> None:
    with running(tmp_path, APPLICATION, *ANY_PORT, environ=network.operator) as server:
        answers = {client: ask_worker(server.port, client, network.corporate_url) for client in trust_clients.NAMES}
        environment = Path(f"/proc/{server.workers()[0]}/environ").read_bytes().split(b"\0")
    assert refused(answers) == set(trust_clients.NAMES), answers
    assert f"SSL_CERT_FILE={network.folder}/public.pem".encode() in environment
    assert not any(variable.startswith(b"REQUESTS_CA_BUNDLE=") for variable in environment)
    assert not (tmp_path / "home/trust").exists()


def test_every_client_in_a_worker_reaches_all_sites(network: Network, tmp_path: Path) -> None:
    edge_trust("add", str(network.corporate_root), environ=clean_environment(EDGE_HOME=str(tmp_path / "home")))
    urls = (network.public_url, network.own_url, network.corporate_url)
    with running(tmp_path, APPLICATION, *ANY_PORT, environ=network.operator) as server:
        cases = itertools.product(trust_clients.NAMES, urls)
        answers = {(client, url): ask_worker(server.port, client, url) for client, url in cases}
        has_truststore, context_module, where, contents = json.loads(ask_worker(server.port))
    assert set(answers.values()) == {"ok"}, answers
    # Neither of our doing nor behind the application's back: its own servers' contexts stay the standard library's.
    assert not has_truststore
    assert context_module == "ssl"
    assert Path(where).parent == tmp_path / "home/trust"
    assert Path(where).read_text() == contents


def test_worker_is_told_of_every_public_root(network: Network, tmp_path: Path) -> None:
    edge_trust("add", str(network.corporate_root), environ=clean_environment(EDGE_HOME=str(tmp_path / "home")))
    with running(tmp_path, APPLICATION, *ANY_PORT, environ=network.operator) as server:
        where = Path(json.loads(ask_worker(server.port))[2])
    told = set(read_source("told", where).certificates)
    public = [Path(certifi.where()), *(Path(path) for path in SYSTEM_BUNDLES if Path(path).is_file())]
    for path in (*public, network.folder / "public.pem", network.folder / "own.pem", network.corporate_root):
        assert told.issuperset(read_source("public", path).certificates), path


def test_every_client_in_a_worker_reaches_a_public_site_through_an_intercepting_proxy(
    network: Network, tmp_path: Path
) -> None:
    port = int(network.public_url.rpartition(":")[2].strip("/"))
    proxy = InterceptingProxy(network.corporate, network.folder / "public.pem", {PUBLIC_NAME: port})
    with intercepting(proxy) as proxy_port:

        def ask_all() -> dict[str, str]:
            url = f"http://127.0.0.1:{proxy_port}"
            environ = {"HTTPS_PROXY": url, "https_proxy": url, **QUIET}
            with running(tmp_path, APPLICATION, *ANY_PORT, environ=environ) as server:
                site_url = f"https://{PUBLIC_NAME}/"
                return {client: ask_worker(server.port, client, site_url) for client in trust_clients.NAMES}

        before = ask_all()
        edge_trust("add", str(network.corporate_root), environ=clean_environment(EDGE_HOME=str(tmp_path / "home")))
        after = ask_all()
    assert refused(before) == set(trust_clients.NAMES), before
    assert accepted(after) == set(trust_clients.NAMES), after
    assert set(proxy.seen) == {PUBLIC_NAME}


GRPC_CALL = """
import sys, grpc
with grpc.secure_channel(sys.argv[1], grpc.ssl_channel_credentials()) as channel:
    try:
        print(channel.unary_unary("/edge.Test/Echo")(b"ok", timeout=20).decode())
    except grpc.RpcError as error:
        print(error.code().name, error.details())
"""


def test_grpc_client_calls_a_grpc_server_of_the_corporate_root(network: Network, tmp_path: Path) -> None:
    issued = network.corporate.issue_cert("localhost")
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    environ = clean_environment(EDGE_HOME=str(tmp_path), GRPC_VERBOSITY="NONE")
    grpc = import_module("grpc")
    echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    handlers = [grpc.method_handlers_generic_handler("edge.Test", {"Echo": echo})]
    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=handlers)
    credentials = grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), chain)])
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    try:
        program = ("run", "--", sys.executable, "-c", GRPC_CALL, f"localhost:{port}")
        before = edge_trust(*program, environ=environ)
        edge_trust("add", str(network.corporate_root), environ=environ)
        after = edge_trust(*program, environ=environ)
    finally:
        server.stop(None).wait()
    assert before.startswith("UNAVAILABLE ")
    assert "CERTIFICATE_VERIFY_FAILED" in before
    assert after == "ok\n"
