"""`--outbound-ca`: what workers and upstreams of one server trust by it, and that nothing of it stays."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import trustme

from tests.process.server import DEADLINE, Server, clean_environment
from tests.process.test_sites import reload
from tests.process.tls_proxy import site

APPLICATION = """
import asyncio, json, os, ssl, urllib.request
import certifi, httpx, requests

def urllib_get(url, context=None):
    return urllib.request.urlopen(url, timeout=20, context=context).read().decode()

CLIENTS = {
    "urllib": urllib_get,
    "certifi": lambda url: urllib_get(url, ssl.create_default_context(cafile=certifi.where())),
    "requests": lambda url: requests.get(url, timeout=20).text,
    "httpx": lambda url: httpx.get(url, timeout=20).text,
}

def answer_of(client, url):
    try:
        return client(url)
    except Exception as error:
        return "refused" if "CERTIFICATE_VERIFY_FAILED" in str(error) else repr(error)

def ask_all(url):
    return {name: answer_of(client, url) for name, client in CLIENTS.items()}

async def app(scope, receive, send):
    answers = await asyncio.to_thread(ask_all, os.environ["SITE"])
    body = json.dumps({**answers, "bundle": os.environ.get("SSL_CERT_FILE", "")}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
FILE = """
[application]
lifespan = "off"
[run]
{option}
[[site]]
[[site.route]]
path = "/one"
app = "application:app"
workers = 1
[[site.route]]
path = "/two"
app = "application:app"
workers = 1
env = ["OWN=2"]
[[site.route]]
path = "/upstream"
upstream = "https://localhost:{port}"
"""
CLIENTS = ("urllib", "certifi", "requests", "httpx")


def write_root(authority: trustme.CA, path: Path) -> None:
    authority.cert_pem.write_to_path(str(path))


@contextlib.contextmanager
def serving(folder: Path, environ: dict[str, str]) -> Iterator[Server]:
    arguments = ["-c", "edge.toml", "--bind", "127.0.0.1:0", "--edges", "1"]
    with Server(arguments, cwd=folder, environ=environ) as server:
        yield server.wait_ready()


def ask(server: Server, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{server.port}{path}", timeout=DEADLINE, trust_env=False)


def answers(server: Server) -> set[str]:
    """What all clients in the workers of both applications get, and the edge of its upstream."""
    found = {"ok" if ask(server, "/upstream").status_code == 200 else "refused"}
    for path in ("/one", "/two"):
        told = json.loads(ask(server, path).text)
        found |= {told[client] for client in CLIENTS}
    return found


def test_workers_and_upstreams_trust_it_from_a_reload_on_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    corporate = trustme.CA()
    (tmp_path / "application.py").write_text(APPLICATION)
    with site(corporate, "localhost") as port:
        environ = clean_environment(EDGE_HOME=str(tmp_path / "home"), SITE=f"https://localhost:{port}/")
        (tmp_path / "edge.toml").write_text(FILE.format(option="", port=port))
        with serving(tmp_path, environ) as server:
            assert answers(server) == {"refused"}
            write_root(corporate, tmp_path / "corp.pem")
            (tmp_path / "edge.toml").write_text(FILE.format(option='outbound_ca = "corp.pem"', port=port))
            assert reload(tmp_path) == ""
            assert answers(server) == {"ok"}
            bundle = Path(json.loads(ask(server, "/one").text)["bundle"])
            assert bundle.exists()
            (tmp_path / "corp.pem").write_text("garbage")
            assert "outbound CA corp.pem: not PEM: " in reload(tmp_path)
            assert answers(server) == {"ok"}
    assert not bundle.exists()
    assert not (tmp_path / "home/trust").exists()


def test_file_of_no_use_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(str(tmp_path / "corp.pem"))
    (tmp_path / "application.py").write_text("def app(): ...\n")
    environ = clean_environment(EDGE_HOME=str(tmp_path / "home"), EDGE_OUTBOUND_CA="corp.pem")
    with Server(["--port", "0", "application:app"], cwd=tmp_path, environ=environ) as server:
        assert server.wait_end() == 2
    [line] = server.errors
    assert line.startswith("edge: outbound CA corp.pem: there is a private key in it; name the certificate alone; ")
