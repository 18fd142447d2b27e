"""DNS records by a command of the operator's: `CMD present NAME TEXT` and `CMD cleanup NAME TEXT`.

These are the arguments that lego's `exec` provider gives, NAME with its final dot, so scripts for it work here.
"""

from __future__ import annotations

import asyncio
import shlex
from dataclasses import dataclass

from edge_certs.errors import CertificateError

# Some providers take minutes to publish; the command returns when the record can be seen.
HOOK_TIMEOUT = 600.0

# Of what a command says, in a line of ours.
MAX_SHOWN = 300


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
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
        except OSError as error:
            words = (error.strerror or "").lower()
            raise CertificateError(f"{what}: {words}", "name a command that this user may run") from error
        try:
            async with asyncio.timeout(self.timeout):
                output, _ = await process.communicate()
        except TimeoutError:
            raise CertificateError(f"{what}: not done within {self.timeout:g} s", "let it end sooner") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            said = output.decode("utf-8", "replace").strip().splitlines()
            last = f": {said[-1][:MAX_SHOWN]!r}" if said else ""
            raise CertificateError(
                f"{what}: exit code {process.returncode}{last}", "mend the command, or run it by hand"
            )


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
