"""DNS records by a command: what it is given, and what its failure looks like."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from edge_certs.dns_hook import DnsHook, split_command
from edge_certs.errors import CertificateError
from tests.process.server import wait_until

NAME = "_acme-challenge.shop.example"


def script(folder: Path, content: str) -> str:
    path = folder / "dns hook"
    path.write_text(f"#!/bin/sh\n{content}\n")
    path.chmod(0o755)
    return f"'{path}' zone"


def refusal(hook: DnsHook) -> str:
    with pytest.raises(CertificateError) as caught:
        asyncio.run(hook.publish(NAME, "text"))
    return str(caught.value)


def test_command_gets_what_to_do_the_name_and_the_text(tmp_path: Path) -> None:
    hook = DnsHook(script(tmp_path, f'echo "$@" >> {tmp_path}/said'))
    asyncio.run(hook.publish(NAME, "a b"))
    asyncio.run(hook.withdraw(NAME, "a b"))
    lines = (tmp_path / "said").read_text().splitlines()
    assert lines == [f"zone present {NAME}. a b", f"zone cleanup {NAME}. a b"]


def test_command_that_fails_is_named_with_its_last_words(tmp_path: Path) -> None:
    message = refusal(DnsHook(script(tmp_path, "echo first; echo 'no such zone' >&2; exit 3")))
    assert message.endswith(f"present {NAME}: exit code 3: 'no such zone'; mend the command, or run it by hand")
    assert message.startswith("DNS hook '")
    assert refusal(DnsHook(script(tmp_path, "exit 3"))).endswith("exit code 3; mend the command, or run it by hand")


def test_command_that_hangs_is_ended(tmp_path: Path) -> None:
    message = refusal(DnsHook(script(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 600"), timeout=0.5))
    assert message.endswith("not done within 0.5 s; let it end sooner")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_all_that_a_command_runs_ends_with_it(tmp_path: Path) -> None:
    """A script is a shell and what that runs: it is what runs that hangs."""
    message = refusal(DnsHook(script(tmp_path, f"sleep 600 & echo $! > {tmp_path}/pid; yes"), timeout=1.0))
    assert message.endswith("not done within 1 s; let it end sooner")
    wait_until(lambda: is_gone(int((tmp_path / "pid").read_text())), "the end of what the script runs")


def is_gone(process: int) -> bool:
    """True, too, for one that only waits to be reaped by whoever inherited it."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_what_a_command_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    hook = DnsHook(script(tmp_path, f"sleep 600 & echo $! > {tmp_path}/pid; exit 0"))
    try:
        asyncio.run(asyncio.wait_for(hook.publish(NAME, "text"), 60))
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_command_may_say_a_lot(tmp_path: Path) -> None:
    message = refusal(DnsHook(script(tmp_path, "yes | head -c 1000000; echo; echo last words; exit 1")))
    assert message.endswith("exit code 1: 'last words'; mend the command, or run it by hand")


def test_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    message = refusal(DnsHook(f"{tmp_path}/missing"))
    assert message.endswith(f"present {NAME}: no such file or directory; name a command that this user may run")


@pytest.mark.parametrize(
    ("command", "message"),
    [("", "DNS hook: empty; name a command"), ("a 'b", 'DNS hook "a \'b": no closing quotation; quote it as for a')],
)
def test_command_that_is_none_is_refused(command: str, message: str) -> None:
    with pytest.raises(CertificateError) as caught:
        split_command(command)
    assert str(caught.value).startswith(message)
