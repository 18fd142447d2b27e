"""DNS records by a command of the operator's: `CMD present NAME TEXT` and `CMD cleanup NAME TEXT`.

These are the arguments that lego's `exec` provider gives, NAME with its final dot, so scripts for it work here.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from edge_certs.errors import CertificateError

# Some providers take minutes to publish; the command returns when the record can be seen.
HOOK_TIMEOUT = 600.0

# Of what a command says, in a line of ours.
MAX_SHOWN = 300

# More than its last line; the rest of it is read and forgotten.
MAX_KEPT = 64 * 1024


@dataclass(frozen=True, slots=True)
class DnsHook:
    """Publishes TXT records by `command`, split as a shell would, and run without one."""

    command: str
    timeout: float = HOOK_TIMEOUT

    async def publish(self, name: str, text: str) -> None:
        """Return when the record can be seen. Raises CertificateError: the command failed or took too long."""
        await self._run("present", name, text)

    async def withdraw(self, name: str, text: str) -> None:
        """Remove the record. Raises CertificateError: the command failed or took too long."""
        await self._run("cleanup", name, text)

    async def _run(self, verb: str, name: str, text: str) -> None:
        arguments = [*split_command(self.command), verb, f"{name}.", text]
        what = f"DNS hook {arguments[0]!r} {verb} {name}"
        with _listening() as output:
            try:
                code = await self._wait(arguments, output)
            except TimeoutError:
                raise CertificateError(f"{what}: not done within {self.timeout:g} s", "let it end sooner") from None
            except OSError as error:
                words = (error.strerror or "").lower()
                raise CertificateError(f"{what}: {words}", "name a command that this user may run") from error
            if code:
                shown = f"{what}: exit code {code}{output.last_line()}"
                raise CertificateError(shown, "mend the command, or run it by hand")

    async def _wait(self, arguments: list[str], output: _Output) -> int:
        """Return the exit code. Raises TimeoutError: there was none in time; OSError: it cannot be started."""
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output.write_end,
            stderr=output.write_end,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self.timeout):
                return await process.wait()
        finally:
            if process.returncode is None:
                # All of it: a script is a shell and what that runs.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


@dataclass(slots=True)
class _Output:
    """What a command says, read all the time so that it never stands still; the end of it is kept."""

    read_end: int
    write_end: int
    _kept: bytearray = field(default_factory=bytearray)

    def receive(self) -> None:
        """Read what is there, without waiting."""
        with suppress(BlockingIOError):
            self._kept += os.read(self.read_end, MAX_KEPT)
            del self._kept[:-MAX_KEPT]

    def last_line(self) -> str:
        """Return the last line as it follows a message; nothing for none."""
        self.receive()
        said = self._kept.decode("utf-8", "replace").strip().splitlines()
        return f": {said[-1][:MAX_SHOWN]!r}" if said else ""


@contextmanager
def _listening() -> Iterator[_Output]:
    """Give where a command writes to; whoever it leaves behind with that in hand is not waited for."""
    output = _Output(*os.pipe())
    os.set_blocking(output.read_end, False)
    loop = asyncio.get_running_loop()
    loop.add_reader(output.read_end, output.receive)
    try:
        yield output
    finally:
        loop.remove_reader(output.read_end)
        os.close(output.read_end)
        os.close(output.write_end)


def split_command(command: str) -> list[str]:
    """Return the words of `command`.

    Raises CertificateError: there are none, or a quotation does not end.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise CertificateError(f"DNS hook {command!r}: {str(error).lower()}", "quote it as for a shell") from None
    if not words:
        raise CertificateError("DNS hook: empty", "name a command")
    return words
