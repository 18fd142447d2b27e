"""FastAPI behind a real `edge serve` over TLS, asked by httpx."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.interop.conftest import Serve
from tests.process.server import Authority, Server, wait_until

pytest.importorskip("fastapi", reason="fastapi is not installed")


@pytest.fixture(scope="module")
def server(serve: Serve) -> Server:
    return serve("site_fastapi:app")


@pytest.fixture
def client(server: Server, authority: Authority) -> Iterator[httpx.Client]:
    base = f"https://localhost:{server.port}"
    with httpx.Client(base_url=base, verify=authority.client_context(), trust_env=False, timeout=30) as client:
        yield client


def test_background_task_runs_after_the_answer(serve: Serve, authority: Authority) -> None:
    server = serve("site_fastapi:app")
    base = f"https://localhost:{server.port}"
    with httpx.Client(base_url=base, verify=authority.client_context(), trust_env=False) as client:
        # The task waits for /release: an answer that waited for the task would never come.
        assert client.post("/tasks/mail").json() == {"done": []}
        assert client.get("/done").json() == []
        client.post("/release")
        assert wait_until(lambda: client.get("/done").json(), "the background task is done") == ["mail"]


def test_background_task_is_finished_before_the_server_ends(serve: Serve, authority: Authority) -> None:
    server = serve("site_fastapi:app")
    context = authority.client_context()
    answer = httpx.post(f"https://localhost:{server.port}/write", verify=context, trust_env=False)
    file = Path(answer.json())
    assert not file.exists()
    assert server.stop() == 0
    assert file.read_text() == "written"


def test_documentation_page_and_schema_are_served(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "/openapi.json" in page.text
    assert "/echo" in client.get("/openapi.json").json()["paths"]


def test_form_with_a_file_arrives_whole(client: httpx.Client) -> None:
    content = bytes(range(256)) * 8192  # 2 MiB: many reads, many frames, several windows
    answer = client.post("/form", data={"name": "Ada"}, files={"file": ("é.bin", content)})
    assert answer.json() == {"name": "Ada", "file": "é.bin", "size": len(content), "sum": sum(content) % 65521}


def test_answer_out_of_a_thread_is_streamed_whole(client: httpx.Client) -> None:
    answer = client.get("/stream")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.content == b"".join(bytes([number]) * 16384 for number in range(64))


def test_first_event_of_a_stream_arrives_while_the_stream_goes_on(serve: Serve, authority: Authority) -> None:
    server = serve("site_fastapi:app")
    base = f"https://localhost:{server.port}"
    with (
        httpx.Client(base_url=base, verify=authority.client_context(), trust_env=False, timeout=30) as client,
        client.stream("GET", "/events") as events,
    ):
        assert events.headers["content-type"].startswith("text/event-stream")
        lines = events.iter_lines()
        # The application sends nothing more until it is released: what was held back would be waited for in vain.
        assert [next(lines), next(lines)] == ["data: first", ""]
        assert client.post("/release").json() == {"released": True}
        assert list(lines) == ["data: last", ""]


def test_refusal_by_a_dependency_keeps_its_status_and_fields(client: httpx.Client) -> None:
    refused = client.get("/me")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert client.get("/me", headers={"authorization": "Bearer good"}).json() == "ada"


def test_dependency_that_raises_is_a_500_and_its_traceback_is_logged(client: httpx.Client, server: Server) -> None:
    broken = client.get("/broken")
    assert broken.status_code == 500
    assert "no database" not in broken.text
    server.wait_error("RuntimeError: no database")
    assert client.get("/done").status_code == 200


def test_wrong_parameter_is_a_422_of_the_application(client: httpx.Client) -> None:
    answer = client.post("/form", data={"name": "Ada"})
    assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, ["body", "file"])


def test_application_sees_the_public_address_and_no_forged_field(client: httpx.Client, server: Server) -> None:
    forged = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "http", "x-forwarded-host": "evil.example"}
    seen = client.get("/echo?a=1&b=%20", headers=forged).json()
    assert seen["url"] == f"https://localhost:{server.port}/echo?a=1&b=%20"
    assert seen["client"] == "127.0.0.1"
    assert (seen["forwarded_for"], seen["forwarded_proto"]) == ("127.0.0.1", "https")
    assert seen["query"] == {"a": "1", "b": " "}


def test_many_requests_at_once_each_get_their_own_answer(server: Server, authority: Authority) -> None:
    async def ask_all() -> list[dict[str, Any]]:
        base = f"https://localhost:{server.port}"
        context = authority.client_context()
        async with httpx.AsyncClient(base_url=base, verify=context, trust_env=False, timeout=30) as client:
            bodies = [f"body {number} " * (number * 50) for number in range(40)]
            answers = await asyncio.gather(*(client.post("/echo", content=body) for body in bodies))
            return [answer.json() for answer in answers]

    for number, seen in enumerate(asyncio.run(ask_all())):
        assert seen["size"] == len(f"body {number} ") * number * 50
        assert seen["text"] == (f"body {number} " * (number * 50))[:64]


def test_each_request_leaves_one_line_that_the_answer_names(client: httpx.Client, server: Server) -> None:
    answer = client.get("/echo?token=hidden")
    request_id = answer.headers["x-request-id"]
    [line] = wait_until(
        lambda: [line for line in server.access_lines() if line["request_id"] == request_id], "its line"
    )
    assert line["status"] == 200
    assert "hidden" not in json.dumps(line)
