"""The machine whose stores are changed: its files, its user, its environment and its commands.

Stores see nothing else of it, so that those of other systems can be driven over a tree of files and a recording of
what their commands answer.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_certs.errors import CertificateError, reason

# update-ca-certificates with a Java hook takes 10 s on a slow machine; a command that takes this long hangs.
COMMAND_TIMEOUT = 120.0
# Where update-ca-certificates is; not on the PATH of whoever became root by su(1).
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended: its exit code and what it wrote."""

    code: int
    output: bytes = b""
    errors: bytes = b""

    @property
    def complaint(self) -> str:
        """The first line of what it said about its failure, for a message."""
        lines = (self.errors.strip() or self.output.strip()).decode("utf-8", "replace").splitlines()
        text = lines[0].strip()[:300] if lines else "it said nothing"
        return text if text.isprintable() else repr(text)


# Runs a command to its end. Raises FileNotFoundError: there is no such command; other OSError: it may not be run.
Runner = Callable[[Sequence[str]], Finished]


@dataclass(frozen=True, slots=True)
class Machine:
    """`tree` is where its files lie ("/" on this machine), `home` the user's folder in it.

    `system` is "Linux", "Darwin" or "Windows"; `sudo_user` who called `sudo`, if somebody did.
    """

    tree: Path
    home: Path
    system: str
    is_root: bool
    environ: Mapping[str, str]
    runner: Runner
    sudo_user: str = ""

    def path(self, absolute: str) -> Path:
        """Return where the machine's file `absolute` lies."""
        return self.tree / absolute.lstrip("/")

    def text(self, absolute: str) -> str:
        """Return the machine's text file `absolute`; empty when it cannot be read."""
        try:
            return self.path(absolute).read_text("utf-8", "replace")
        except OSError:
            return ""

    def run(self, command: Sequence[str]) -> Finished:
        """Run `command` and return how it ended.

        Raises CertificateError: it cannot be run, or does not end.
        """
        try:
            return self.runner(command)
        except FileNotFoundError:
            raise CertificateError(
                f"command {command[0]!r}: not found", f"install it: {package_advice(command[0])}"
            ) from None
        except subprocess.TimeoutExpired as error:
            raise CertificateError(
                f"command {shlex.join(command)!r}: did not end within {COMMAND_TIMEOUT:g} s", "run it by hand"
            ) from error
        except OSError as error:
            raise CertificateError(f"command {command[0]!r}: {reason(error)}", "look at its mode and PATH") from error

    def require(self, command: Sequence[str]) -> Finished:
        """Do what `run` does for a command that has to succeed.

        Raises CertificateError: as `run`, or its exit code is not 0.
        """
        done = self.run(command)
        if done.code != 0:
            raise CertificateError(
                f"command {shlex.join(command)!r}: exit code {done.code}: {done.complaint}", "run it by hand"
            )
        return done


def this_machine(environ: Mapping[str, str]) -> Machine:
    """Return the machine that this process runs on, as its user sees it."""
    sudo_user = environ.get("SUDO_USER", "")
    return Machine(
        tree=Path("/"),
        home=Path(environ.get("HOME") or os.path.expanduser("~")),
        system=platform.system(),
        is_root=os.geteuid() == 0,
        environ=environ,
        runner=run_command,
        sudo_user="" if sudo_user == "root" else sudo_user,
    )


def run_command(command: Sequence[str]) -> Finished:
    """Run `command` without a terminal and in the C locale, as its words are looked at."""
    path = os.pathsep.join(filter(None, (os.environ.get("PATH"), *SYSTEM_FOLDERS)))
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "LC_ALL": "C", "PATH": path},
        timeout=COMMAND_TIMEOUT,
        # certutil asks for a database's password on /dev/tty, whatever its standard input is.
        start_new_session=True,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def package_advice(command: str) -> str:
    """Return what brings `command`, in the words of the systems that have a package for it."""
    packages = {
        "certutil": "libnss3-tools (Debian), nss-tools (Fedora), nss (Arch), mozilla-nss-tools (openSUSE)",
        "keytool": "a Java runtime, such as default-jre-headless (Debian)",
        "update-ca-certificates": "ca-certificates",
        "update-ca-trust": "ca-certificates",
        "trust": "p11-kit",
    }
    return packages.get(command, "it belongs to this system")
