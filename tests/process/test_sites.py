"""Several sites, applications and other servers behind one edge, as edge.toml says; and what changes by a reload."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge import control
from tests.process.load import Load
from tests.process.server import ROOT, Authority, RawClient, Server, clean_environment, wait_until
from tests.process.test_control import status
from tests.process.websocket_client import WebSocket

APP = """
import asyncio, os, sys

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": "NAME " + message["text"]})
        return
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    fields = [name + b"=" + value for name, value in scope["headers"] if name.startswith((b"x-forwarded", b"host"))]
    text = ["NAME", scope["method"], scope["path"], scope["root_path"], str(size), sys.prefix]
    body = "\\n".join([*text, os.environ.get("OWN", ""), *(field.decode() for field in fields)]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""


def write_apps(folder: Path, *names: str) -> None:
    for name in names:
        (folder / f"{name}.py").write_text(APP.replace("NAME", name))


@contextlib.contextmanager
def serving_file(folder: Path, text: str, authority: Authority | None = None) -> Iterator[Server]:
    """Serve what an edge.toml says on any free port, with TLS if there is an authority."""
    (folder / "edge.toml").write_text(text)
    arguments = ["-c", "edge.toml", "--bind", "127.0.0.1:0", "--edges", "1"]
    if authority is not None:
        arguments += ["--cert", str(authority.cert)]
    with Server(arguments, cwd=folder, environ=clean_environment(EDGE_HOME=str(folder / "home"))) as server:
        yield server.wait_ready()


@contextlib.contextmanager
def uvicorn(folder: Path, target: str) -> Iterator[str]:
    """Run another server on a Unix socket; give its address."""
    path = folder / f"{target}.sock"
    command = [sys.executable, "-m", "uvicorn", "--uds", str(path), "--log-level", "warning", f"{target}:app"]
    process = subprocess.Popen([*command, "--forwarded-allow-ips", "*"], cwd=folder, env=clean_environment())
    try:
        wait_until(lambda: path.exists() and _answers(path), "uvicorn listens")
        yield f"unix:{path}"
    finally:
        process.terminate()
        process.wait()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
        client.connect(str(path))
        return True
    return False


def get(server: Server, path: str = "/", host: str = "a.example", **more: str) -> list[str]:
    """Return the status and the lines of an answer."""
    response = httpx.get(f"http://127.0.0.1:{server.port}{path}", headers={"host": host, **more})
    return [str(response.status_code), *response.text.splitlines()]


def test_each_host_and_path_has_its_application(tmp_path: Path) -> None:
    write_apps(tmp_path, "shop", "admin", "other")
    text = """
        [pool]
        workers = 1

        [[site]]
        hosts = ["a.example", "*.a.example"]
        [[site.route]]
        app = "shop"
        [[site.route]]
        path = "/admin"
        app = "admin"
        strip = true
        env = { OWN = "of admin" }
        [[site.route]]
        path = "/old"
        redirect = "https://new.example/"
        keep_path = true

        [[site]]
        hosts = ["b.example"]
        [[site.route]]
        path = "/api"
        app = "other"
    """
    with serving_file(tmp_path, text) as server:
        assert get(server)[1:4] == ["shop", "GET", "/"]
        assert get(server, "/administrator", "www.a.example")[1:4] == ["shop", "GET", "/administrator"]
        # An application below a path gets the whole path, and knows what of it is not its own (ASGI: root_path).
        name, _, path, root, _, _, own = get(server, "/admin/users")[1:8]
        assert (name, path, root, own) == ("admin", "/admin/users", "/admin", "of admin")
        assert get(server, "/x/../admin")[1] == "admin"
        assert get(server, "/api/x", "b.example")[1:4] == ["other", "GET", "/api/x"]
        assert get(server, "/", "b.example")[0] == "404"
        assert get(server, "/", "c.example")[0] == "400"
        response = httpx.get(f"http://127.0.0.1:{server.port}/old/x?y", headers={"host": "a.example"})
        assert (response.status_code, response.headers["location"]) == (308, "https://new.example/x?y")
        workers = status(tmp_path)["workers"]
        assert sorted(worker["pool"] for worker in workers) == ["a.example/", "a.example/admin", "b.example/api"]


def test_pools_are_of_their_own_size_and_die_on_their_own(tmp_path: Path) -> None:
    write_apps(tmp_path, "shop", "admin")
    text = """
        [[site]]
        [[site.route]]
        app = "shop"
        workers = 1
        [[site.route]]
        path = "/admin"
        app = "admin"
        workers = 1
    """
    with serving_file(tmp_path, text) as server:
        running = control.find_server({"EDGE_HOME": str(tmp_path / "home")})
        answer = control.ask(running, "scale", workers=2, pool="*/admin")
        assert (answer["before"], answer["workers"]) == (1, 2)
        wait_until(lambda: len(status(tmp_path)["workers"]) == 3, "another worker of one pool")
        with pytest.raises(Exception, match="not a pool; use one of \\*/, \\*/admin"):
            control.ask(running, "scale", workers=2)
        [victim] = [row["pid"] for row in status(tmp_path)["workers"] if row["pool"] == "*/"]
        os.kill(victim, 9)
        assert get(server, "/admin")[1] == "admin"
        wait_until(lambda: get(server)[:2] == ["200", "shop"], "the other pool serves again")


def test_application_of_another_virtual_environment(tmp_path: Path) -> None:
    # Made of the packages that are installed here, in the way of `pip install edge`: nothing is downloaded.
    venv.create(tmp_path / "venv", symlinks=True)
    [packages] = (tmp_path / "venv/lib").glob("python*/site-packages")
    (packages / "here.pth").write_text("\n".join(path for path in sys.path if path))
    write_apps(tmp_path, "shop")
    text = """
        [[site]]
        [[site.route]]
        app = "shop"
        python = "venv/bin/python"
    """
    with serving_file(tmp_path, text) as server:
        assert get(server)[6] == str(tmp_path / "venv")


def test_interpreter_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    write_apps(tmp_path, "shop")
    (tmp_path / "edge.toml").write_text('[[site]]\n[[site.route]]\napp = "shop"\npython = "venv/bin/python"\n')
    command = [sys.executable, "-m", "edge", "serve", "--port", "0"]
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=60, check=False
    )
    [line] = done.stderr.splitlines()
    assert (done.returncode, "python = 'venv/bin/python': no program there" in line) == (2, True)


def test_other_server_gets_requests_as_an_application_does(tmp_path: Path, authority: Authority) -> None:
    write_apps(tmp_path, "shop", "service")
    with uvicorn(tmp_path, "service") as address:
        text = f"""
            [[site]]
            [[site.route]]
            app = "shop"
            workers = 1
            [[site.route]]
            path = "/service"
            upstream = "{address}"
            strip = true
        """
        with serving_file(tmp_path, text, authority) as server:
            url = f"https://localhost:{server.port}"
            for http2 in (False, True):
                with httpx.Client(verify=authority.client_context(), http2=http2, base_url=url) as client:
                    lines = client.get("/service/a?b").text.splitlines()
                    assert lines[:3] == ["service", "GET", "/a"]
                    assert "x-forwarded-proto=https" in lines
                    assert f"host=localhost:{server.port}" in lines
                    upload = client.post("/service/up", content=iter([b"x" * 100_000] * 20))
                    assert upload.text.splitlines()[:5] == ["service", "POST", "/up", "", "2000000"]
                    assert client.get("/").text.splitlines()[0] == "shop"
            with WebSocket(server.port, authority.client_context(), "/service/ws") as websocket:
                websocket.send("hello")
                assert websocket.receive_text() == "service hello"

            def upstream() -> dict[str, Any]:
                [edge] = status(tmp_path)["edges"]
                row: dict[str, Any] = edge["upstreams"]["*/service"][address]
                return row

            wait_until(lambda: upstream()["in_flight"] == 0, "nothing runs")
            assert upstream()["up"]


def test_server_of_other_servers_needs_no_application(tmp_path: Path) -> None:
    write_apps(tmp_path, "service")
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(uvicorn(tmp_path, "service"))
        server = stack.enter_context(serving_file(tmp_path, f'[[site]]\n[[site.route]]\nupstream = "{address}"\n'))
        assert get(server)[1] == "service"
        assert server.workers() == []
        assert get(server, "/.edge/ready")[0] == "200"


# Reload.

ONE = """
[[site]]
hosts = ["a.example", "127.0.0.1", "localhost"]
[[site.route]]
app = "shop"
workers = 1
"""
TWO = (
    ONE
    + """
[[site]]
hosts = ["b.example"]
[[site.route]]
app = "other"
workers = 1
"""
)


def pools(folder: Path) -> set[str]:
    """The pools that have workers."""
    return {worker["pool"] for worker in status(folder)["workers"]}


def edge(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of edge."""
    command = [sys.executable, "-m", "edge", *arguments]
    environ = clean_environment(EDGE_HOME=str(folder / "home"))
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)


def reload(folder: Path) -> str:
    """Ask for a reload; return what is wrong, empty if nothing is."""
    done = edge(folder, "reload")
    assert (done.returncode == 0) == (not done.stderr), done
    return done.stderr


def test_sites_come_and_go_by_a_reload_and_no_request_is_lost(tmp_path: Path, authority: Authority) -> None:
    write_apps(tmp_path, "shop", "other")
    shutil.copy(Path(__file__).with_name("load.py"), tmp_path)
    (tmp_path / "shop.py").write_text("from tests.process.load import APPLICATION\nexec(APPLICATION)\n")
    context = authority.client_context()
    with serving_file(tmp_path, ONE, authority) as server:
        url = f"https://127.0.0.1:{server.port}/"
        with Load(server.port, context) as load:
            for _ in range(3):
                (tmp_path / "edge.toml").write_text(TWO)
                assert reload(tmp_path) == ""
                assert httpx.get(url, headers={"host": "b.example"}, verify=context).text.splitlines()[0] == "other"
                load.wait_more(1)
                (tmp_path / "edge.toml").write_text(ONE)
                assert reload(tmp_path) == ""
                assert httpx.get(url, headers={"host": "b.example"}, verify=context).status_code == 421
                wait_until(lambda: pools(tmp_path) == {"a.example/"}, "its pool has ended")
                load.wait_more(1)
        assert load.failures == []
        assert {code for _, code in load.statuses} == {101, 200}


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def test_websocket_that_begins_at_an_edge_that_goes_away_is_closed_with_1012(
    tmp_path: Path, authority: Authority
) -> None:
    write_apps(tmp_path, "shop", "other")
    with serving_file(tmp_path, ONE, authority) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server.port, authority.client_context())) for _ in range(2)]
        clients[0].send(HANDSHAKE[:40])
        (tmp_path / "edge.toml").write_text(TWO)
        assert reload(tmp_path) == ""
        for client, rest in zip(clients, (HANDSHAKE[40:], HANDSHAKE), strict=True):
            client.send(rest)
            assert client.receive_until(b"\x88\x02\x03\xf4").startswith(b"HTTP/1.1 101 ")
            client.send(b"\x88\x82\0\0\0\0\x03\xf4")  # the client's Close, masked with zeros
            assert client.receive_rest() == b""


ENDS_SLOWLY = """
import asyncio, os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        open("ending", "w").close()
        while not os.path.exists("end"):
            await asyncio.sleep(0.01)
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"other"})
"""


def test_site_that_comes_back_while_its_workers_end_is_served(tmp_path: Path) -> None:
    write_apps(tmp_path, "shop")
    (tmp_path / "other.py").write_text(ENDS_SLOWLY)
    with serving_file(tmp_path, TWO) as server:
        try:
            (tmp_path / "edge.toml").write_text(ONE)
            assert reload(tmp_path) == ""
            wait_until((tmp_path / "ending").exists, "the workers of the site that has gone end")
            (tmp_path / "edge.toml").write_text(TWO)
            assert reload(tmp_path) == ""
            assert get(server, host="b.example") == ["200", "other"]
        finally:
            (tmp_path / "end").touch()


def test_reload_without_any_application_is_over_when_edges_have_it(tmp_path: Path) -> None:
    text = '[[site]]\n[[site.route]]\npath = "/"\nredirect = "/old"\n'
    with serving_file(tmp_path, text) as server:
        assert httpx.get(f"http://127.0.0.1:{server.port}/").headers["location"] == "/old"
        assert edge(tmp_path, "scale", "2").stderr == (
            "edge: no application is served here, so there are no workers to scale\n"
        )
        (tmp_path / "edge.toml").write_text(text.replace("/old", "/new"))
        done = edge(tmp_path, "reload")
        assert (done.returncode, done.stdout) == (0, "reloaded: no application runs here\n")
        assert httpx.get(f"http://127.0.0.1:{server.port}/").headers["location"] == "/new"
        # The first application may come by a reload, and the last one leave.
        write_apps(tmp_path, "shop")
        (tmp_path / "edge.toml").write_text(ONE)
        assert reload(tmp_path) == ""
        assert get(server)[:2] == ["200", "shop"]
        (tmp_path / "edge.toml").write_text(text)
        assert reload(tmp_path) == ""
        assert httpx.get(f"http://127.0.0.1:{server.port}/").headers["location"] == "/old"
        wait_until(lambda: pools(tmp_path) == set(), "its pool has ended")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TWO.replace('"other"', '"missing"'), "missing"),
        (TWO.replace("hosts", "host"), "edge.toml:"),
        (TWO.replace('"b.example"', '"a.example"'), "a.example"),
        ("[[site]\n", "edge.toml:1"),
        ("[static]\nstatic = 1\n" + TWO, "edge.toml:2: static.static = 1: not a path with its folder"),
    ],
    ids=["no-module", "unknown-key", "same-host", "no-toml", "wrong-type"],
)
def test_bad_file_leaves_the_old_one_serving(tmp_path: Path, text: str, said: str) -> None:
    write_apps(tmp_path, "shop", "other")
    with serving_file(tmp_path, ONE) as server:
        before = server.workers()
        (tmp_path / "edge.toml").write_text(text)
        assert said in reload(tmp_path)
        assert get(server)[:2] == ["200", "shop"]
        assert get(server, host="b.example")[0] == "400"
        if said != "missing":
            assert server.workers() == before
        (tmp_path / "edge.toml").write_text(TWO)
        assert reload(tmp_path) == ""
        assert get(server, host="b.example")[:2] == ["200", "other"]
        assert pools(tmp_path) == {"a.example/", "b.example/"}


def test_page_about_other_services_serves(tmp_path: Path, authority: Authority) -> None:
    page = (ROOT / "docs/howto/in-front-of-services.md").read_text()
    text = page.partition("```toml\n")[2].partition("```")[0]
    write_apps(tmp_path, "web", "api")
    with contextlib.ExitStack() as stack:
        web, api = (stack.enter_context(uvicorn(tmp_path, name)) for name in ("web", "api"))
        # The page's names are those of a container network; the second of its servers is down here.
        for name, address in (("web:8000", web), ("api-1:3000", api), ("api-2:3000", f"unix:{tmp_path}/down")):
            assert text.count(f"http://{name}") == 1
            text = text.replace(f"http://{name}", address)
        text = text.replace("shop.example", "localhost")
        server = stack.enter_context(serving_file(tmp_path, text, authority))
        client = stack.enter_context(
            httpx.Client(base_url=f"https://localhost:{server.port}", verify=authority.client_context())
        )
        assert client.get("/a").text.splitlines()[:3] == ["web", "GET", "/a"]
        for _ in range(3):
            assert client.post("/api/a").text.splitlines()[:3] == ["api", "POST", "/a"]
        assert client.get("/old/a").headers["location"] == "https://localhost/a"
