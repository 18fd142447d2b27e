"""`--reload`: new code answers what came after the change, and nothing fails meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.process.server import DEADLINE, RawClient, Server, clean_environment, running, wait_until

APPLICATION = """
import asyncio
import time
from pathlib import Path
{first}
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]}})
    if scope["path"] == "/slow":
        while not Path("go").exists():
            await asyncio.sleep(0.01)
    await send({{"type": "http.response.body", "body": b"{body}"}})
"""
BIND = ("--bind", "127.0.0.1:0", "--reload")


def application(body: str, first: str = "") -> str:
    return APPLICATION.format(body=body, first=first)


def get(server: Server, path: str = "/") -> tuple[int, bytes]:
    with RawClient(server.port) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        status, _, body = client.receive_response()
        return status, body


def save(folder: Path, source: str, name: str = "application.py") -> None:
    """As careful editors do: the whole file at once."""
    (folder / "new").write_text(source)
    (folder / "new").rename(folder / name)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path, application("one"), *BIND) as server:
        server.wait_error("reload: watching ")
        yield server


def test_saved_code_answers_and_every_request_meanwhile_is_answered(server: Server, tmp_path: Path) -> None:
    answers: list[tuple[int, bytes]] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            answers.append(get(server))

    with ThreadPoolExecutor(2) as threads:
        asking = [threads.submit(ask) for _ in range(2)]
        try:
            for word in (b"two", b"six"):
                save(tmp_path, application(word.decode()))
                wait_until(partial(is_last, answers, word), f"{word!r} is answered")
        finally:
            is_over.set()
        for future in asking:
            future.result(DEADLINE)
    assert {status for status, _ in answers} == {200}
    server.wait_error("reload: application.py changed; requests wait for the new code")


def test_request_that_comes_while_new_code_starts_waits_for_it(server: Server, tmp_path: Path) -> None:
    assert get(server) == (200, b"one")
    slow_start = "while not Path('start').exists():\n    time.sleep(0.01)\n"
    save(tmp_path, application("two", slow_start))
    server.wait_error("application.py changed")

    def ask_new_code() -> tuple[int, bytes]:
        # Until the edge has heard of the change, which takes it a moment, the old code may still answer.
        while (answer := get(server)) == (200, b"one"):
            pass
        return answer

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(ask_new_code)
        wait_until(lambda: queued(server, tmp_path) == 1, "the request waits")
        (tmp_path / "start").touch()
        assert waiting.result(DEADLINE) == (200, b"two")


def queued(server: Server, folder: Path) -> int:
    from edge.control import ask
    from edge.rundir import server_of_process

    environ = clean_environment(EDGE_HOME=str(folder / "home"))
    found = server_of_process(server.process.pid, environ)
    assert found is not None
    return int(ask(found, "status")["queue"])


def test_request_that_runs_is_finished_by_the_code_that_had_it(server: Server, tmp_path: Path) -> None:
    with RawClient(server.port) as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.receive_until(b"\r\n\r\n")
        save(tmp_path, application("two"))
        server.wait_error("reload: done")
        assert get(server) == (200, b"two")
        (tmp_path / "go").touch()
        assert client.sock.recv(3) == b"one"


def test_syntax_error_is_shown_and_the_next_save_recovers(server: Server, tmp_path: Path) -> None:
    save(tmp_path, "def app(:\n")
    line = server.wait_error("the next change is tried")
    assert "SyntaxError" in line
    assert "application.py" in "\n".join(server.errors)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(get, server)
        wait_until(lambda: queued(server, tmp_path) == 1, "the request waits")
        save(tmp_path, application("two"))
        assert waiting.result(DEADLINE) == (200, b"two")


def test_code_that_is_wrong_from_the_start_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "application.py").write_text("def app(:\n")
    environ = clean_environment(EDGE_HOME=str(tmp_path / "home"), EDGE_EDGES="1")
    with Server([*BIND, "application:app"], cwd=tmp_path, environ=environ) as server:
        server.wait_ready()
        server.wait_error("reload: watching ")
        assert "SyntaxError" in server.wait_error("the next change is tried")
        save(tmp_path, application("two"))
        assert get(server) == (200, b"two")


def test_two_saves_of_the_same_size_within_a_second_are_two(server: Server, tmp_path: Path) -> None:
    module = tmp_path / "part.py"
    for word in ("aaa", "bbb", "ccc"):
        save(tmp_path, f"WORD = {word!r}\n", "part.py")
        os.utime(module, (1_700_000_000, 1_700_000_000))
        save(tmp_path, application("{}").replace('b"{}"', "WORD.encode()").replace("import asyncio", IMPORTS))
        wait_until(partial(is_answered, server, word), f"{word} is answered")


def is_last(answers: list[tuple[int, bytes]], word: bytes) -> bool:
    return bool(answers) and answers[-1] == (200, word)


def is_answered(server: Server, word: str) -> bool:
    return get(server) == (200, word.encode())


IMPORTS = "from part import WORD\nimport asyncio"


def test_only_files_that_were_named_count(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    options = ("--reload-include", "*.html", "--reload-exclude", "tests", "--reload-delay", "10ms")
    with running(tmp_path, application("one"), *BIND, *options) as server:
        server.wait_error("reload: watching ")
        (tmp_path / "tests").mkdir()
        for name in ("notes.txt", "tests/test_it.py", ".hidden.py", "pages/page.html"):
            (tmp_path / name).write_text("x")
        line = server.wait_error(" changed; requests wait")
        assert "pages/page.html changed" in line
        server.wait_error("reload: done")
        assert sum("changed; requests" in line for line in server.errors) == 1


def test_watcher_ends_with_a_master_that_was_killed(server: Server) -> None:
    watchers = [pid for pid in server.children() if b"edge.watcher" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(watchers) == 1
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(DEADLINE)
    wait_until(lambda: not is_running(watchers[0]), "the watcher has ended")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
