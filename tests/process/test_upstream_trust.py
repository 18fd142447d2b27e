"""Servers over https behind the edge: whose certificates are believed, and how that changes by a reload."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.process.server import Authority, Server
from tests.process.test_sites import edge, reload, serving_file

FILE = '[[site]]\n[[site.route]]\npath = "/"\nupstream = "{address}"\n'


class _Hello(http.server.BaseHTTPRequestHandler):
    """Answers with the path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(self.path)))
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def tls_server(authority: Authority) -> Iterator[str]:
    """Run a server with a certificate of the authority; give its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hello)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.cert, authority.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(server: Server) -> tuple[int, str]:
    response = httpx.get(f"http://127.0.0.1:{server.port}/a", headers={"host": "a.example"})
    return response.status_code, response.text if response.status_code == 200 else ""


def test_root_that_is_added_counts_for_upstreams_once_reloaded(tmp_path: Path, authority: Authority) -> None:
    shutil.copy(authority.root, tmp_path)
    with tls_server(authority) as address, serving_file(tmp_path, FILE.format(address=address)) as server:
        assert answer(server)[0] == 502
        server.wait_error("certificate verify failed")
        added = edge(tmp_path, "trust", "add", "root.pem", "--label", "corp", "--reload")
        assert added.returncode == 0, added.stderr
        assert answer(server) == (200, "/a")
        removed = edge(tmp_path, "trust", "remove", "--yes", "--reload", "corp")
        assert removed.returncode == 0, removed.stderr
        assert answer(server)[0] == 502


def test_root_that_cannot_be_read_is_refused_and_the_old_one_counts_on(tmp_path: Path, authority: Authority) -> None:
    root = Path(shutil.copy(authority.root, tmp_path))
    with tls_server(authority) as address:
        text = FILE.format(address=address) + 'ca_root = "root.pem"\n'
        with serving_file(tmp_path, text) as server:
            assert answer(server) == (200, "/a")
            root.rename(tmp_path / "moved.pem")
            assert "CA root root.pem: no such file" in reload(tmp_path)
            assert answer(server) == (200, "/a")
            (tmp_path / "edge.toml").write_text(text.replace("root.pem", "moved.pem"))
            assert reload(tmp_path) == ""
            assert answer(server) == (200, "/a")
        (tmp_path / "edge.toml").write_text(text)
        refused = edge(tmp_path, "serve")
        assert (refused.returncode, "CA root root.pem: no such file" in refused.stderr) == (2, True)
