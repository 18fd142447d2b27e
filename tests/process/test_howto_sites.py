"""docs/howto/several-sites.md and replace-nginx.md: the files that stand there, served."""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.process.server import ROOT, Authority, RawClient, Server, clean_environment, wait_until

_TOML = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)

APPLICATION = """
import json, os, sys, asyncio

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    fields = {name.decode(): value.decode() for name, value in scope["headers"]}
    seen = {"path": scope["path"], "scheme": scope["scheme"], "fields": fields, "prefix": sys.prefix,
            "name": __file__, "debug": os.environ.get("ADMIN_DEBUG", "")}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        while not os.path.exists(os.environ["GATE"]):
            await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})
"""


def blocks(page: str) -> list[str]:
    return _TOML.findall((ROOT / f"docs/howto/{page}.md").read_text())


class Site:
    """A server with the file of a page, and clients that trust its certificates."""

    def __init__(self, server: Server, context: ssl.SSLContext) -> None:
        self.tls, self.plain = server.ports("https")[0], server.ports("http")[0]
        self.context = context

    def ask(self, host: str, request: str, *, plain: bool = False) -> tuple[int, bytes]:
        """Send one request, "GET /path" with further fields; return the status and all that comes."""
        port, context = (self.plain, None) if plain else (self.tls, self.context)
        line, _, fields = request.partition("\r\n")
        with RawClient(port, context, server_name=host) as client:
            client.send(f"{line} HTTP/1.1\r\nHost: {host}\r\n{fields}Connection: close\r\n\r\n".encode())
            answer = client.receive_rest()
        return int(answer.split(b" ")[1]), answer


def serve(folder: Path, authority: Authority, stack: ExitStack) -> Site:
    environ = clean_environment(EDGE_HOME=str(folder / "home"), EDGE_EDGES="1", GATE=str(folder / "go"))
    options = ["-c", str(folder / "edge.toml"), "--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0"]
    server = stack.enter_context(Server(options, cwd=folder.parent, environ=environ)).wait_ready()
    wait_until(lambda: len(server.addresses) == 2, "both listeners are announced")
    return Site(server, authority.client_context())


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("several")
    for name in ("shop", "admin"):
        (folder / name).mkdir()
        (folder / name / f"{name}.py").write_text(APPLICATION)
    (folder / "files").mkdir()
    (folder / "files/a.txt").write_text("a file")
    venv = folder / "admin/.venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=60)
    # As if edge was installed there: what it needs is in the environment of the tests.
    (pure,) = venv.glob("lib/python*/site-packages")
    (pure / "tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (folder / "tls").mkdir()
    authority = Authority(folder / "tls")
    authority.issue("shop", "shop.example", "www.shop.example")
    authority.issue("admin", "admin.example")
    (folder / "edge.toml").write_text(blocks("several-sites")[0])
    with ExitStack() as stack:
        yield serve(folder, authority, stack)


def test_each_host_has_its_application_in_its_own_environment(several: Site) -> None:
    _, shop = several.ask("shop.example", "GET /a")
    assert b"shop/shop.py" in shop
    assert b'"debug": ""' in shop
    _, admin = several.ask("admin.example", "GET /a")
    assert b"admin/admin.py" in admin
    assert b'"debug": "0"' in admin
    assert b'admin/.venv"' in admin


def test_routes_and_settings_are_those_of_the_site(several: Site) -> None:
    code, answer = several.ask("shop.example", "GET /help/me")
    assert code == 302
    assert b"\r\nlocation: https://help.example/\r\n" in answer
    code, answer = several.ask("www.shop.example", "GET /a?b")
    assert code == 308
    assert b"\r\nlocation: https://shop.example/a?b\r\n" in answer
    assert several.ask("admin.example", "GET /files/a.txt")[1].endswith(b"\r\n\r\na file")
    assert several.ask("shop.example", "GET /files/a.txt")[1].count(b"shop/shop.py") == 1


def test_host_of_no_site_is_refused(several: Site) -> None:
    several.context.check_hostname = False
    try:
        assert several.ask("other.example", "GET /")[0] == 421
        assert several.ask("other.example", "GET /", plain=True)[0] == 400
    finally:
        several.context.check_hostname = True


@pytest.fixture(scope="module")
def nginx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "shop.py").write_text(APPLICATION)
    (folder / "static").mkdir()
    (folder / "static/site.css").write_text("body {}")
    (folder / "tls").mkdir()
    return folder


@pytest.fixture(scope="module", params=["application", "upstream"])
def replaced(request: pytest.FixtureRequest, nginx_folder: Path) -> Iterator[tuple[Site, Path]]:
    whole, upstream = blocks("replace-nginx")
    authority = Authority(nginx_folder / "tls")
    authority.issue("shop", "shop.example")
    gate = nginx_folder / "go"
    with ExitStack() as stack:
        if request.param == "upstream":
            route = '[[site.route]]\napp = "shop:app"\napp_dir = "."\n'
            assert route in whole
            whole = whole.replace(route, upstream.replace("/run/gunicorn.sock", "gunicorn.sock"))
            options = [
                "-c",
                "/dev/null",
                "--uds",
                "gunicorn.sock",
                "--workers",
                "1",
                "--forwarded-allow-ips",
                "*",
                "shop:app",
            ]
            environ = clean_environment(EDGE_HOME=str(nginx_folder / "behind"), GATE=str(gate))
            stack.enter_context(Server(options, cwd=nginx_folder, environ=environ)).wait_ready()
        (nginx_folder / "edge.toml").write_text(whole)
        yield serve(nginx_folder, authority, stack), gate


def test_lines_that_became_nothing_are_done_all_the_same(replaced: tuple[Site, Path]) -> None:
    site, _ = replaced
    code, answer = site.ask("shop.example", "GET /a?b", plain=True)
    assert code == 308
    assert f"\r\nlocation: https://shop.example:{site.tls}/a?b\r\n".encode() in answer
    _, answer = site.ask("shop.example", "GET /a\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: http\r\n")
    assert b'"host": "shop.example"' in answer
    assert b'"x-forwarded-for": "127.0.0.1"' in answer
    assert b'"x-forwarded-proto": "https"' in answer
    assert b'"scheme": "https"' in answer
    assert b"203.0.113.9" not in answer


def test_static_files_are_those_of_the_folder_alone(replaced: tuple[Site, Path]) -> None:
    site, _ = replaced
    assert site.ask("shop.example", "GET /static/site.css")[1].endswith(b"body {}")
    assert b"async def app" not in site.ask("shop.example", "GET /static../shop.py")[1]
    assert site.ask("shop.example", "GET /static/../shop.py")[1].count(b"async def app") == 0
    assert site.ask("shop.example", "GET /static/nosuch.css")[0] == 404


def test_body_may_have_4_gib_and_no_more(replaced: tuple[Site, Path]) -> None:
    site, _ = replaced
    assert site.ask("shop.example", f"POST /a\r\nContent-Length: {4 * 2**30 + 1}\r\n")[0] == 413


def test_answer_flows_as_it_is_sent(replaced: tuple[Site, Path]) -> None:
    site, gate = replaced
    try:
        with RawClient(site.tls, site.context, server_name="shop.example") as client:
            client.send(b"GET /stream HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
            client.receive_until(b"first")
            gate.touch()
            assert b'"/stream"' in client.receive_rest()
    finally:
        gate.touch()
        gate.unlink()
