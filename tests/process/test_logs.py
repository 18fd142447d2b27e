"""What the operator reads: one line a request, in two forms, without secrets and without forged lines."""

from __future__ import annotations

import json
import os
import re
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.process.server import Authority, RawClient, running, serving, wait_until

APP = """
import asyncio

async def app(scope, receive, send):
    if scope["path"] == "/fail":
        raise ValueError("no")
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(0.02)
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_json_line_has_every_field(tmp_path: Path, authority: Authority) -> None:
    with (
        serving(tmp_path, APP, authority=authority) as server,
        RawClient(server.port, authority.client_context()) as client,
    ):
        client.send(b"POST /a?b=c HTTP/1.1\r\nHost: localhost:1\r\nContent-Length: 3\r\n\r\nabc")
        _, fields, _ = client.receive_response()
        [line] = server.wait_access(1)
    moment = datetime.fromisoformat(line.pop("time"))
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=1)
    durations = [line.pop(name) for name in ("duration_us", "queue_us", "app_us")]
    assert durations[0] >= durations[2] >= 20_000 > durations[1] >= 0
    assert line == {
        "request_id": fields[b"x-request-id"].decode(),
        "client": "127.0.0.1",
        "method": "POST",
        "host": "localhost:1",
        "target": "/a?b=c",
        "version": "1.1",
        "status": 201,
        "bytes_in": 3,
        "bytes_out": 5,
        "worker": 0,
        "tls": "TLSv1.3",
    }


def test_console_line_is_for_people(tmp_path: Path) -> None:
    with serving(tmp_path, APP, "--log-format", "console") as server, RawClient(server.port) as client:
        client.send(GET.replace(b"/ ", b"/a ", 1))
        _, fields, _ = client.receive_response()
        line = wait_until(lambda: [*server.output, ""][0], "the line")
    assert re.fullmatch(
        r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z 127\.0\.0\.1 "GET /a HTTP/1\.1" 201 5 bytes in \d+\.\d ms '
        rf"\(queue \d+\.\d, app \d+\.\d\) worker 0 plain {fields[b'x-request-id'].decode()}",
        line,
    )


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize(
    ("target", "logged"),
    [
        ("/a?token=SECRET&x=1", "/a?token=[redacted]&x=1"),
        ("/a?x=1&access_token=SECRET", "/a?x=1&access_token=[redacted]"),
        ("/cb?code=SECRET&state=2", "/cb?code=[redacted]&state=2"),
        ("/a?Password=SECRET;api-key=SECRET", "/a?Password=[redacted];api-key=[redacted]"),
        ("/a?X-Amz-Signature=SECRET", "/a?X-Amz-Signature=[redacted]"),
        ("/token=shown?encode=shown", "/token=shown?encode=shown"),
    ],
)
def test_secrets_in_the_query_are_redacted(tmp_path: Path, log_format: str, target: str, logged: str) -> None:
    with serving(tmp_path, APP, "--log-format", log_format) as server, RawClient(server.port) as client:
        client.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        client.receive_response()
        line = wait_until(lambda: [*server.output, ""][0], "the line")
    assert logged in line
    assert "SECRET" not in line


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("GET /fail?token=SECRET HTTP/1.1", id="failed"),
        pytest.param("GET /\x80?token=SECRET HTTP/1.1", id="malformed-target"),
        pytest.param("GET /?token=SECRET# HTTP/1.1", id="fragment"),
        pytest.param("GET /?token=SECRET HTTP/1.1 more", id="malformed-line"),
    ],
)
def test_secrets_of_a_refused_request_are_redacted_everywhere(tmp_path: Path, line: str) -> None:
    with serving(tmp_path, APP) as server, RawClient(server.port) as client:
        client.send(line.encode("latin-1") + b"\r\nHost: localhost\r\n\r\n")
        assert client.receive_response()[0] in (400, 500)
        client.sock.close()
        server.wait_access(1)
        assert server.stop() == 0
    assert [line for line in server.errors + server.output if "token=" in line or "400" in line]
    assert not [line for line in server.errors + server.output if "SECRET" in line]


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b'GET /"}\'%0a%0d{" HTTP/1.1\r\nHost: localhost\r\n\r\n', id="quotes"),
        pytest.param(b"GET /\x1b[31m\x07 HTTP/1.1\r\nHost: localhost\r\n\r\n", id="escape-sequence"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\x1b[2Jb\r\n\r\n", id="host"),
        pytest.param(b"G\xffT / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="method"),
        pytest.param(b"GET /\nfake HTTP/1.1\r\nHost: localhost\r\n\r\n", id="bare-line-feed"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: \x1b\xe2\x80\xa8\r\n\r\n", id="value"),
    ],
)
def test_no_request_can_forge_a_line(tmp_path: Path, log_format: str, request_bytes: bytes) -> None:
    with serving(tmp_path, APP, "--log-format", log_format) as server, RawClient(server.port) as client:
        client.send(request_bytes)
        client.receive_response()
        client.sock.close()
        wait_until(lambda: server.output, "the line")
        assert server.stop() == 0
    [line] = server.output
    assert log_format == "console" or json.loads(line)
    text = "\n".join(server.errors + server.output)
    assert not re.search(r"[^\n -~]", text)
    assert not [line for line in text.splitlines() if line.startswith("fake")]


def test_request_id_is_on_every_answer(tmp_path: Path, authority: Authority) -> None:
    requests = {
        201: GET,
        400: b"GET / HTTP/1.1\r\n\r\n",
        405: b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        413: b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
        414: b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        417: b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nExpect: tea\r\n\r\n",
        431: b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: 1\r\n" * 101 + b"\r\n",
        500: GET.replace(b"/ ", b"/fail ", 1),
        501: b"NOSUCH / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        505: b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n",
    }
    binds = ("--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0", "--cert", str(authority.cert))
    given = {}
    with running(tmp_path, APP, *binds) as server:
        for status, data in requests.items():
            with RawClient(server.port, authority.client_context()) as client:
                client.send(data)
                found, fields, _ = client.receive_response()
                assert found == status
                given[fields[b"x-request-id"].decode()] = status
        with RawClient(server.ports("http")[0]) as client:
            client.send(GET)
            found, fields, _ = client.receive_response()
            given[fields[b"x-request-id"].decode()] = found
        logged = {line["request_id"]: line["status"] for line in server.wait_access(len(given))}
    assert len(given) == len(requests) + 1
    assert logged == given


def test_access_log_can_be_switched_off(tmp_path: Path) -> None:
    with serving(tmp_path, APP, "--no-access-log") as server, RawClient(server.port) as client:
        client.send(GET)
        assert client.receive_response()[0] == 201
        client.send(b"bad\r\n\r\n")
        assert client.receive_response()[0] == 400
        server.wait_error("refused with 400")
        client.sock.close()
        assert server.stop() == 0
    assert server.output == []


def test_level_says_what_is_left_out(tmp_path: Path) -> None:
    with serving(tmp_path, APP, "--log-level", "error") as server, RawClient(server.port) as client:
        client.send(b"bad\r\n\r\n")
        assert client.receive_response()[0] == 400
        server.wait_access(1)
        client.sock.close()
        assert server.stop() == 0
    assert not [line for line in server.errors if "refused" in line]


def test_own_log_is_in_utc_whatever_the_zone(tmp_path: Path) -> None:
    with serving(tmp_path, APP, TZ="Asia/Tokyo") as server, RawClient(server.port) as client:
        client.send(b"bad\r\n\r\n")
        client.receive_response()
        line = server.wait_error("refused with 400")
        [access] = server.wait_access(1)
    for text in (line.split(" ")[0], access["time"]):
        assert abs(datetime.now(UTC) - datetime.fromisoformat(text)) < timedelta(minutes=1)


def test_no_line_is_lost_when_the_whole_group_is_told_to_end(tmp_path: Path) -> None:
    with (
        running(tmp_path, APP, "--port", "0", start_new_session=True) as server,
        RawClient(server.port) as client,
        RawClient(server.port) as other,
    ):
        for _ in range(20):
            client.send(GET)
            assert client.receive_response()[0] == 201
        other.send(GET)
        wait_until(lambda: len(server.access_lines()) >= 1, "the first lines")
        client.send(GET)
        assert client.receive_response()[0] == 201
        os.killpg(server.process.pid, signal.SIGTERM)
        assert other.receive_response()[0] == 201
        client.sock.close()
        other.sock.close()
        assert server.wait_end() == 0
    assert [line["status"] for line in server.access_lines()] == [201] * 22


def test_request_that_the_drain_cuts_off_has_its_line(tmp_path: Path) -> None:
    waiting = APP.replace("0.02", "30")
    waiting = waiting.replace(
        "    while (await", "    assert scope['type'] == 'http'\n    open('began', 'w')\n    while (await"
    )
    with serving(tmp_path, waiting, "--drain-timeout", "200ms") as server, RawClient(server.port) as client:
        client.send(GET.replace(b"/ ", b"/wait ", 1))
        wait_until((tmp_path / "began").exists, "the application has the request")
        assert server.stop() == 0
        status = client.receive_response()[0]
        [line] = server.access_lines()
    assert status == 503
    assert (line["target"], line["status"]) == ("/wait", status)
    assert line["error"]
