"""Files that a real application names, with a real framework, over both versions of HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.process.server import Authority, Server, serving

APPLICATION = """
import os
from starlette.applications import Starlette
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

async def named(request):
    headers = {request.query_params["field"]: request.query_params["value"], "x-note": "kept"}
    if request.query_params.get("streamed"):
        return StreamingResponse(iter([b"not ", b"this"]), headers=headers)
    return Response(b"not this", media_type="text/plain", headers=headers)

async def path(request):
    return FileResponse(request.query_params["value"], headers={"x-pid": str(os.getpid())})

async def extensions(request):
    return Response(",".join(request.scope["extensions"]))

app = Starlette(routes=[Route("/named", named), Route("/path", path), Route("/extensions", extensions)])
"""
LARGE = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sendfile")
    (path / "files").mkdir()
    (path / "files/large.bin").write_bytes(LARGE)
    (path / "elsewhere.txt").write_text("elsewhere")
    return path


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def server(folder: Path, authority: Authority) -> Iterator[Server]:
    options = ("--sendfile-root", str(folder / "files"), "--log-format", "json")
    with serving(folder, APPLICATION, *options, authority=authority) as running:
        yield running


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def client(request: pytest.FixtureRequest, server: Server, authority: Authority) -> Iterator[httpx.Client]:
    http2 = request.param == "HTTP/2"
    base, context = f"https://localhost:{server.port}", authority.client_context()
    with httpx.Client(base_url=base, verify=context, http2=http2, trust_env=False, timeout=30) as found:
        yield found


@pytest.mark.parametrize("streamed", ["", "1"])
@pytest.mark.parametrize(("field", "value"), [("X-Sendfile", "{files}/large.bin"), ("X-Accel-Redirect", "/large.bin")])
def test_file_that_a_field_names_is_sent(
    client: httpx.Client, folder: Path, field: str, value: str, streamed: str
) -> None:
    asked = {"field": field, "value": value.format(files=folder / "files"), "streamed": streamed}
    answer = client.get("/named", params=asked)
    assert (answer.status_code, answer.content) == (200, LARGE)
    assert answer.headers["x-note"] == "kept"
    assert field not in answer.headers
    assert client.get("/named", params=asked, headers={"range": "bytes=5-9"}).content == LARGE[5:10]
    assert client.get("/named", params=asked, headers={"if-none-match": answer.headers["etag"]}).status_code == 304
    assert client.head("/named", params=asked).headers["content-length"] == str(len(LARGE))


def test_file_outside_the_root_is_not_found(client: httpx.Client, folder: Path, server: Server) -> None:
    answer = client.get("/named", params={"field": "X-Sendfile", "value": str(folder / "elsewhere.txt")})
    assert (answer.status_code, b"elsewhere" in answer.content) == (404, False)
    server.wait_error("x-sendfile: .*outside the folder; it has to lie below --sendfile-root")


def _bytes_read(pid: int) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/io").read_text().splitlines() if line.startswith("rchar:")]
    return int(line.split()[1])


def test_path_of_a_framework_is_sent_by_the_edge_or_read_by_the_worker(
    client: httpx.Client, folder: Path, server: Server
) -> None:
    assert "http.response.pathsend" in client.get("/extensions").text.split(",")
    [worker] = server.workers()
    before = _bytes_read(worker)
    below = client.get("/path", params={"value": str(folder / "files/large.bin")})
    assert _bytes_read(worker) - before < len(LARGE) / 2, "the worker has read it"
    assert (below.status_code, below.content) == (200, LARGE)
    assert below.headers["x-pid"]
    assert "x-edge-file" not in below.headers
    elsewhere = client.get("/path", params={"value": str(folder / "elsewhere.txt")})
    assert (elsewhere.status_code, elsewhere.text) == (200, "elsewhere")


def test_without_a_root_fields_are_dropped_and_the_framework_reads(tmp_path: Path, folder: Path) -> None:
    with serving(tmp_path, APPLICATION) as server:
        base = f"http://127.0.0.1:{server.port}"
        asked = {"field": "X-Sendfile", "value": str(folder / "files/large.bin")}
        answer = httpx.get(f"{base}/named", params=asked, trust_env=False)
        assert (answer.text, "x-sendfile" in answer.headers) == ("not this", False)
        assert "http.response.pathsend" not in httpx.get(f"{base}/extensions", trust_env=False).text
        sent = httpx.get(f"{base}/path", params={"value": str(folder / "files/large.bin")}, trust_env=False)
        assert sent.content == LARGE
