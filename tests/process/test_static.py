"""Static files by the real server, over both versions of HTTP, with real clients."""

from __future__ import annotations

import gzip
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes

import httpx
import pytest

from tests.edge.static.path_cases import read_cases
from tests.process.http2_client import Http2Client, resident
from tests.process.server import Authority, RawClient, Server, serving, wait_until

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"application " + scope["path"].encode()})
"""
SECRET = b"the secret of the folder above"
LARGE = os.urandom(5_000_000)
SCRIPT = b"console.log('hello');\n" * 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("static")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def server(folder: Path, authority: Authority) -> Iterator[Server]:
    for part in ("public/docs", "site/assets"):
        (folder / part).mkdir(parents=True)
    (folder / "secret.txt").write_bytes(SECRET)
    public = folder / "public"
    (public / "index.html").write_text("<p>home")
    (public / "docs/index.html").write_text("<p>docs")
    (public / "large.bin").write_bytes(LARGE)
    (public / "app.3f2a9c1b.js").write_bytes(SCRIPT)
    (public / "app.3f2a9c1b.js.gz").write_bytes(gzip.compress(SCRIPT))
    (public / "out").symlink_to(folder / "secret.txt")
    (public / "above").symlink_to(folder)
    (public / "in").symlink_to("docs/index.html")
    for hidden in (".env", "docs/.htpasswd"):
        (public / hidden).write_bytes(SECRET)
    (folder / "site/index.html").write_text("<p>application of the browser")
    (folder / "site/assets/style.css").write_text("p {}")
    mounts = ("--static", f"/static={public}", "--static", f"/={folder / 'site'}", "--spa", "--log-format", "json")
    with serving(folder, APPLICATION, *mounts, authority=authority) as running:
        yield running


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def client(request: pytest.FixtureRequest, server: Server, authority: Authority) -> Iterator[httpx.Client]:
    http2 = request.param == "HTTP/2"
    base, context = f"https://localhost:{server.port}", authority.client_context()
    with httpx.Client(base_url=base, verify=context, http2=http2, trust_env=False, timeout=30) as found:
        assert found.get("/static/").http_version == request.param
        yield found


def test_file_comes_whole(client: httpx.Client) -> None:
    answer = client.get("/static/large.bin")
    assert (answer.status_code, answer.content) == (200, LARGE)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(LARGE))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-cache"
    head = client.head("/static/large.bin")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(LARGE))


def test_file_that_the_client_has_is_not_sent_again(client: httpx.Client) -> None:
    first = client.get("/static/large.bin", headers={"range": "bytes=0-1"}).headers
    for condition in ({"if-none-match": first["etag"]}, {"if-modified-since": first["last-modified"]}):
        answer = client.get("/static/large.bin", headers=condition)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == first["etag"]
    assert client.get("/static/large.bin", headers={"if-match": '"other"'}).status_code == 412


def test_ranges_of_a_file(client: httpx.Client) -> None:
    def ask(value: str, **more: str) -> httpx.Response:
        return client.get("/static/large.bin", headers={"range": value, **more})

    one = ask("bytes=1000000-2999999")
    assert (one.status_code, one.content) == (206, LARGE[1_000_000:3_000_000])
    assert one.headers["content-range"] == f"bytes 1000000-2999999/{len(LARGE)}"
    assert ask("bytes=-10").content == LARGE[-10:]
    same = {"if-range": one.headers["etag"]}
    assert ask("bytes=0-0", **same).status_code == 206
    assert ask("bytes=0-0", **{"if-range": '"other"'}).content == LARGE
    none = ask(f"bytes={len(LARGE)}-")
    assert (none.status_code, none.headers["content-range"]) == (416, f"bytes */{len(LARGE)}")
    several = ask("bytes=0-9,1000000-1999999")
    assert several.status_code == 206
    boundary = several.headers["content-type"].partition("boundary=")[2]
    parts = several.content.split(b"--" + boundary.encode())
    contents = [part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for part in parts[1:3]]
    assert contents == [LARGE[:10], LARGE[1_000_000:2_000_000]]


def test_compressed_form_is_sent_to_who_takes_it(client: httpx.Client) -> None:
    name = "/static/app.3f2a9c1b.js"
    for accepted, coding in (("gzip", "gzip"), ("br;q=1.0, gzip;q=0.1", "gzip"), ("identity", None)):
        answer = client.get(name, headers={"accept-encoding": accepted})
        assert answer.content == SCRIPT
        assert answer.headers.get("content-encoding") == coding
        assert answer.headers["vary"] == "accept-encoding"
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"


def test_folder_and_its_index(client: httpx.Client) -> None:
    assert client.get("/static/").text == "<p>home"
    moved = client.get("/static/docs?a=b")
    assert (moved.status_code, moved.headers["location"]) == (308, "/static/docs/?a=b")
    assert client.get(moved.headers["location"]).text == "<p>docs"
    assert client.get("/static/none").status_code == 404
    assert client.get("/static/docs/none/").status_code == 404
    refused = client.post("/static/", content=b"x" * 1000)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_application_of_the_browser_and_one_of_the_server(client: httpx.Client) -> None:
    page = {"accept": "text/html,*/*;q=0.8"}
    assert client.get("/", headers=page).text == "<p>application of the browser"
    assert client.get("/users/7", headers=page).text == "<p>application of the browser"
    assert client.get("/assets/style.css").headers["content-type"] == "text/css; charset=utf-8"
    assert client.get("/assets/gone.css", headers=page).text == "application /assets/gone.css"
    assert client.get("/api/users").text == "application /api/users"
    assert client.post("/users/7", headers=page).text == "application /users/7"


def test_links_inside_are_followed_and_others_are_not(client: httpx.Client, server: Server) -> None:
    assert client.get("/static/in").text == "<p>docs"
    for path in ("/static/out", "/static/above/secret.txt", "/static/above/public/index.html"):
        answer = client.get(path)
        assert (answer.status_code, SECRET in answer.content) == (404, False)
    server.wait_error("GET '/static/out' refused with 404: a symbolic link leads out of the root")


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_no_path_leads_out_of_the_folder(server: Server, authority: Authority, version: str) -> None:
    """Every target of the corpus; one that is read as a path elsewhere goes to the application."""
    wanted, found = {}, {}
    for path, reading in read_cases():
        target = f"/static{path}"
        wanted[target] = reading if isinstance(reading, int) else 404 if reading != "/" else 200
        status, body = _ask(server, authority, version, target.encode("latin-1"))
        assert SECRET not in body, target
        is_elsewhere = status == 200 and body == b"application " + _unquoted(target)
        found[target] = wanted[target] if is_elsewhere and b".." in _unquoted(target) else status
    assert found == wanted


def _unquoted(target: str) -> bytes:
    return unquote_to_bytes(target.partition("?")[0])


def _ask(server: Server, authority: Authority, version: str, target: bytes) -> tuple[int, bytes]:
    if version == "1.1":
        with RawClient(server.port, authority.client_context()) as client:
            client.send(b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % target)
            head, _, body = client.receive_rest().partition(b"\r\n\r\n")
            return int(head.split(b" ")[1]), body
    with Http2Client(server, authority) as client2:
        answer = client2.ask(target.decode("latin-1"))
        return answer.status, answer.body


def test_curl_continues_a_download(server: Server, authority: Authority, folder: Path, tmp_path: Path) -> None:
    part = tmp_path / "large.bin"
    part.write_bytes(LARGE[:3_000_000])
    url = f"https://localhost:{server.port}/static/large.bin"
    command = ("curl", "-sS", "--fail", "--cacert", str(authority.root), "-C", "-", "-o", str(part), url)
    subprocess.run(command, check=True, timeout=60, env={"PATH": os.environ["PATH"]})
    assert part.read_bytes() == LARGE


def test_file_that_shrinks_under_way_breaks_the_answer_off(server: Server, authority: Authority, folder: Path) -> None:
    shrinking = folder / "public/shrinking.bin"
    shrinking.write_bytes(bytes(40_000_000))
    with RawClient(server.port, authority.client_context()) as client:
        client.send(b"GET /static/shrinking.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.receive_until(b"\r\n\r\n")
        os.truncate(shrinking, 1_000_000)
        assert len(client.receive_rest()) < 40_000_000
    server.wait_error("GET '/static/shrinking.bin' broken off: the file shrank")


def test_requests_are_in_the_access_log_with_their_id(client: httpx.Client, server: Server) -> None:
    for target, status in (("/static/in?logged", 200), ("/static/gone?logged", 404)):
        answer = client.get(target)
        assert answer.status_code == status
        identity = answer.headers["x-request-id"]
        line = wait_until(lambda: _line(server, identity), f"the line of {target}")  # noqa: B023 # called at once
        assert (line["target"], line["status"], line["worker"]) == (target, status, -1)


def _line(server: Server, identity: str) -> dict[str, object] | None:
    return next((line for line in server.access_lines() if line["request_id"] == identity), None)


def test_swapped_link_never_leads_out(server: Server, authority: Authority, folder: Path) -> None:
    """A thread swaps a name between a file inside and a link out, as fast as it can, while requests run."""
    over = threading.Event()

    def swap() -> None:
        public = folder / "public"
        while not over.is_set():
            for target in (folder / "secret.txt", public / "index.html"):
                (public / "spare").symlink_to(target)
                (public / "spare").replace(public / "swapped.html")

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    try:
        with RawClient(server.port, authority.client_context()) as client:
            for number in range(1500):
                client.send(b"GET /static/swapped.html?%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number)
                status, _, body = client.receive_response()
                assert SECRET not in body
                seen.add(status)
    finally:
        over.set()
        thread.join()
    assert 200 in seen


def test_clients_that_read_nothing_cost_no_memory_of_the_file(server: Server, authority: Authority) -> None:
    [edge] = server.edges()
    before = resident(edge)
    clients = [RawClient(server.port, authority.client_context()) for _ in range(20)]
    try:
        for client in clients:
            client.send(b"GET /static/large.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        for _ in range(3):  # by then each has got what it may have without reading
            assert _ask(server, authority, "1.1", b"/static/in")[1] == b"<p>docs"
        assert resident(edge) - before < 20 * 1_000_000, "files are in memory, 5 MB each"
        for client in clients:
            assert client.receive_rest().endswith(LARGE[-1000:])
    finally:
        for client in clients:
            client.sock.close()


def test_connection_with_many_streams_gets_them_all(server: Server, authority: Authority) -> None:
    with Http2Client(server, authority) as client:
        large = client.begin("/static/large.bin")
        small = [client.begin("/static/in") for _ in range(50)]
        for number in small:
            assert client.wait(number).body == b"<p>docs"
        assert not client.answers[large].is_whole, "the small ones waited for the large one"
        assert client.wait(large).body == LARGE
