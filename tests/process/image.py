"""Builds an "image" out of a Dockerfile's lines: this machine's files under an overlay, in a chroot.

It knows the instructions that `edge trust dockerfile` prints, and fails on any other: COPY from the context or a
here-document, RUN, ENV, as the Dockerfile reference has them. All is gone when the build ends.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.process.server import ROOT

_NAMESPACE = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else []), "--propagation", "private"]
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HERE = re.compile(r'COPY <<"([A-Z-]+)" (\S+)')


@dataclass
class Image:
    """What was read: `steps` in shell, each for the tree `$tree`, and the environment that ENV made."""

    context: Path
    steps: list[str] = field(default_factory=list)
    environ: dict[str, str] = field(default_factory=dict)

    def read(self, text: str) -> None:
        """Take in the lines of a Dockerfile."""
        lines = iter(text.splitlines())
        for line in lines:
            if line.startswith("#") or not line:
                continue
            if here := _HERE.fullmatch(line):
                content = []
                for inner in lines:
                    if inner == here[1]:
                        break
                    content.append(inner)
                self._copy("\n".join([*content, ""]), here[2])
                continue
            while line.endswith("\\"):
                line = line[:-1] + next(lines)
            word, _, rest = line.partition(" ")
            if word == "COPY":
                source, target = rest.split()
                self._copy((self.context / source).read_text(), target)
            elif word == "RUN":
                self.run(rest)
            else:
                assert word == "ENV", line
                for pair in rest.split():
                    name, _, value = pair.partition("=")
                    self.environ[name] = value

    def run(self, command: str) -> None:
        """Run a command of the shell in the image, as RUN does."""
        words = ["env", "-i", *(f"{name}={value}" for name, value in {"PATH": _PATH, **self.environ}.items())]
        self.steps.append(f'chroot "$tree" {shlex.join([*words, "/bin/sh", "-ec", command])}')

    def write(self, path: str, content: str, mode: int = 0o644) -> None:
        """Put a file into the image."""
        self.steps.append(f'mkdir -p "$tree{os.path.dirname(path)}"')
        self.steps.append(f'printf %s {shlex.quote(content)} > "$tree{path}"; chmod {mode:o} "$tree{path}"')

    def build(self, result: str) -> str:
        """Do all steps, and return what the last one printed into the file `result` of the image."""
        mounted = [str(ROOT), sys.prefix, sys.base_prefix, str(self.context)]
        binds = [f'mkdir -p "$tree{path}"; mount --bind {shlex.quote(path)} "$tree{path}"' for path in mounted]
        script = [
            'base=$(mktemp -d); mount -t tmpfs tmpfs "$base"; mkdir "$base/up" "$base/work" "$base/tree"',
            'tree="$base/tree"; mount -t overlay -o "lowerdir=/,upperdir=$base/up,workdir=$base/work" overlay "$tree"',
            'mount --bind /dev "$tree/dev"',
            *binds,
            *(f"({step}) >&2" for step in self.steps),
            f'cat "$tree{result}"',
        ]
        # A file: all roots of the world are more than a command line holds.
        (self.context / "build.sh").write_text("\n".join(script))
        command = [*_NAMESPACE, "sh", "-e", str(self.context / "build.sh")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _copy(self, content: str, target: str) -> None:
        assert target.startswith("/")
        self.write(target, content)


def need_overlay() -> None:
    """Skip the test where no overlay can be mounted."""
    probe = 'd=$(mktemp -d); mount -t tmpfs x "$d"; mkdir "$d/u" "$d/w" "$d/t"; '
    probe += 'mount -t overlay -o "lowerdir=/,upperdir=$d/u,workdir=$d/w" x "$d/t"; chroot "$d/t" true'
    unshare: Sequence[str] = [*_NAMESPACE, "sh", "-ec", probe]
    if shutil.which("unshare") is None or subprocess.run(unshare, capture_output=True, check=False).returncode:
        pytest.skip("needs unshare and overlayfs")


def recorded(name: str, log: str, also: str = ":") -> tuple[str, str]:
    """Return the path and the content of a command that notes its words in `log`, for one that Debian does not have."""
    return f"/usr/local/bin/{name}", f'#!/bin/sh\necho "{name} $*" >> {log}\n{also}\n'
