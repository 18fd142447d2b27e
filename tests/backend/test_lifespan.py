"""Lifespan: one startup and one shutdown, and what is made of failures."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from edge_backend.errors import StartupError
from edge_backend.lifespan import Lifespan
from tests.ends import in_loop

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def script(*steps: str | BaseException, seen: list[Any] | None = None) -> Callable[..., Awaitable[None]]:
    """Return an application: `receive` receives, other words are sent, exceptions raised."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        for step in steps:
            if isinstance(step, BaseException):
                raise step
            if step == "receive":
                message = await receive()
                if seen is not None:
                    seen.append((scope["type"], message["type"]))
            else:
                kind, _, text = step.partition(" ")
                await send({"type": f"lifespan.{kind}", **({"message": text} if text else {})})

    return app


@in_loop
async def test_startup_and_shutdown_are_told_and_answered() -> None:
    seen: list[Any] = []
    lifespan = Lifespan(script("receive", "startup.complete", "receive", "shutdown.complete", seen=seen), "auto")
    await lifespan.startup()
    assert seen == [("lifespan", "lifespan.startup")]
    await lifespan.shutdown()
    assert seen[1:] == [("lifespan", "lifespan.shutdown")]
    await lifespan.shutdown()


@in_loop
async def test_scope_has_versions_and_a_state_that_stays() -> None:
    scopes: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        scope["state"]["answer"] = 42
        await send({"type": "lifespan.startup.complete"})

    lifespan = Lifespan(app, "auto")
    await lifespan.startup()
    assert lifespan.state == {"answer": 42}
    assert scopes[0]["asgi"] == {"version": "3.0", "spec_version": "2.0"}


@in_loop
async def test_off_calls_nothing() -> None:
    seen: list[Any] = []
    lifespan = Lifespan(script("receive", seen=seen), "off")
    await lifespan.startup()
    await lifespan.shutdown()
    assert seen == []


@pytest.mark.parametrize("steps", [[], ["receive"], [KeyError("x")], ["receive", AssertionError("x")]])
@in_loop
async def test_application_without_lifespan_is_started(
    caplog: pytest.LogCaptureFixture, steps: list[str | BaseException]
) -> None:
    lifespan = Lifespan(script(*steps), "auto")
    await lifespan.startup()
    await lifespan.shutdown()
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (["receive", "startup.failed no database"], "no database"),
        (["receive", "startup.failed"], "the application gave no reason"),
        (
            ["receive", "startup.failed Traceback:\n  one\nRuntimeError: two\n", RuntimeError("two")],
            "RuntimeError: two",
        ),
        (["receive", "startup.failed one\ntwo"], "two"),
        ([SystemExit(3)], "SystemExit: 3"),
    ],
)
@in_loop
async def test_failed_startup_has_its_reason_in_one_line(steps: list[str | BaseException], reason: str) -> None:
    with pytest.raises(StartupError) as failure:
        await Lifespan(script(*steps), "auto").startup()
    assert str(failure.value) == reason


@in_loop
async def test_reason_of_several_lines_is_logged_whole_unless_it_was_raised(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StartupError):
        await Lifespan(script("startup.failed one\ntwo"), "auto").startup()
    assert "lifespan startup failed: one\ntwo" in caplog.text
    caplog.clear()
    with pytest.raises(StartupError):
        await Lifespan(script("startup.failed one\ntwo", RuntimeError("two")), "auto").startup()
    assert "lifespan startup failed" not in caplog.text
    assert "RuntimeError: two" in caplog.text


@in_loop
async def test_on_makes_an_exception_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StartupError, match=r"^KeyError: 'x'$"):
        await Lifespan(script(KeyError("x")), "on").startup()
    assert "exception in lifespan startup" in caplog.text
    assert "test_lifespan.py" in caplog.text


@in_loop
async def test_exception_after_the_start_is_logged_and_ends_the_shutdown(caplog: pytest.LogCaptureFixture) -> None:
    lifespan = Lifespan(script("receive", "startup.complete", "receive", RuntimeError("late")), "auto")
    await lifespan.startup()
    await lifespan.shutdown()
    assert "application: exception in lifespan" in caplog.text
    assert "RuntimeError: late" in caplog.text


@pytest.mark.parametrize(("step", "reason"), [("shutdown.failed no disk", "no disk"), ("shutdown.failed", "no reason")])
@in_loop
async def test_failed_shutdown_is_logged(caplog: pytest.LogCaptureFixture, step: str, reason: str) -> None:
    lifespan = Lifespan(script("receive", "startup.complete", "receive", step), "auto")
    await lifespan.startup()
    await lifespan.shutdown()
    assert reason in caplog.text


@in_loop
async def test_shutdown_that_takes_too_long_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    lifespan = Lifespan(script("receive", "startup.complete", "receive", "receive"), "auto")
    await lifespan.startup()
    await lifespan.shutdown(0.01)
    assert "lifespan shutdown failed: not done within 0.01 s" in caplog.text


@pytest.mark.parametrize("mode", ["auto", "off"])
@in_loop
async def test_lifespan_can_be_abandoned(mode: str) -> None:
    seen: list[Any] = []
    lifespan = Lifespan(script("receive", "startup.complete", "receive", seen=seen), mode)
    await lifespan.startup()
    await lifespan.abandon()
    await lifespan.abandon()
    assert ("lifespan", "lifespan.shutdown") not in seen


@in_loop
async def test_application_that_goes_on_after_the_shutdown_is_cut_off() -> None:
    lifespan = Lifespan(script("receive", "startup.complete", "receive", "shutdown.complete", "receive"), "on")
    await lifespan.startup()
    await lifespan.shutdown()


@in_loop
async def test_unknown_message_is_an_error_of_the_application() -> None:
    with pytest.raises(StartupError, match=r"message type 'lifespan\.begun' is not one of lifespan"):
        await Lifespan(script("begun"), "on").startup()
