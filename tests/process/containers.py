"""What a container engine does with a Dockerfile and a compose file, done with namespaces: no engine runs here.

A build runs the instructions of the Dockerfile, word for word, in a mount namespace in which its folders are new. A
container is a process in a network namespace and a mount namespace of its own, with the user, the environment, the
mounts and the command of the compose file, the override merged in as Compose does it. The image's own root file system
is the machine's, and its Python this one: that is what is not proven.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.process.server import DEADLINE, ROOT, clean_environment, wait_until

PREFIX = "10.213.77"


def need_namespaces() -> None:
    """Skip where namespaces cannot be made."""
    for tool in ("ip", "unshare", "setpriv"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    tried = subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("unshare may make no namespaces here")


@dataclass
class Image:
    """What the instructions of a Dockerfile came to."""

    folders: dict[str, Path]
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    healthcheck: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def read_dockerfile(path: Path) -> list[tuple[str, str]]:
    """Return the instructions with their arguments."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


class Build:
    """Runs a Dockerfile's instructions; the folders that they name are below `folder`, the context is `context`."""

    def __init__(self, folder: Path, context: Path) -> None:
        self._folder = folder
        self._context = context
        self._stages: dict[str, Image] = {}

    def run(self, dockerfile: Path) -> Image:
        """Return the last stage."""
        image, work = Image({}), "/"
        for word, rest in read_dockerfile(dockerfile):
            match word:
                case "FROM":
                    name = rest.partition(" AS ")[2] or "last"
                    image = self._stages[name] = Image(self._new_folders(name))
                case "WORKDIR":
                    work = rest
                case "COPY":
                    self._copy(image, work, shlex.split(rest))
                case "RUN":
                    self._in_image(image, ["sh", "-c", rest], work)
                case "ENV":
                    image.environment |= dict(item.split("=", 1) for item in shlex.split(rest))
                case "USER":
                    image.user = rest
                case "HEALTHCHECK":
                    image.healthcheck = yaml.safe_load(rest.partition("CMD ")[2])
                case "CMD":
                    image.command = yaml.safe_load(rest)
                case _:
                    assert word == "EXPOSE", word
        return image

    def _new_folders(self, stage: str) -> dict[str, Path]:
        folders = {f"/{name}": self._folder / stage / name for name in ("src", "opt", "data", "app")}
        for path in folders.values():
            path.mkdir(parents=True)
        return folders

    def _copy(self, image: Image, work: str, words: list[str]) -> None:
        source = self._context
        if words[0].startswith("--from="):
            stage = self._stages[words.pop(0).removeprefix("--from=")]
            [origin, target] = words
            shutil.copytree(_inside(stage, origin), _inside(image, target), symlinks=True)
            return
        *names, target = words
        for name in names:
            into = _inside(image, os.path.normpath(os.path.join(work, target)))
            if (source / name).is_dir():
                shutil.copytree(source / name, into, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source / name, into)

    def _in_image(self, image: Image, command: list[str], work: str) -> None:
        done = subprocess.run(
            mounted(image.folders, ["sh", "-c", f"cd {work} && exec {shlex.join(command)}"]),
            env={**package_index(), "PATH": python_path()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:]


def _inside(image: Image, path: str) -> Path:
    top = "/" + path.split("/")[1]
    return image.folders[top] / os.path.relpath(path, top)


def python_path() -> str:
    """`python` is this one, as in the image of that name."""
    return f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def package_index() -> dict[str, str]:
    """What says where packages come from on this machine."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name in ("HOME", "LANG")}


def mounted(folders: Mapping[str, Path], command: Sequence[str], *, read_only: Sequence[str] = ()) -> list[str]:
    """Return the command that runs `command` in a mount namespace with `folders` (and files) at their places."""
    lines = ["set -e", "mount -t tmpfs tmpfs /mnt", *_open_interpreter()]
    for place, source in folders.items():
        lines += [f"mkdir -p {shlex.quote(str(Path(place).parent))}"]
        make = "mkdir -p" if source.is_dir() else "touch"
        lines += [f"{make} {shlex.quote(place)}", f"mount --bind {shlex.quote(str(source))} {shlex.quote(place)}"]
        if place in read_only:
            lines += [f"mount -o remount,bind,ro {shlex.quote(place)}"]
    lines += [f"exec {shlex.join(command)}"]
    return ["unshare", "--mount", "sh", "-c", "\n".join(lines)]


def _open_interpreter() -> Iterator[str]:
    """Lines that let every user come to this Python and this tree, also where a folder above them is closed."""
    for number, path in enumerate(dict.fromkeys((Path(sys.base_prefix), Path(sys.prefix), ROOT))):
        closed = next((folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001), None)
        if closed is None:
            continue
        kept, place = f"/mnt/kept{number}", shlex.quote(str(path))
        yield f"mkdir {kept} && mount --bind {place} {kept}"
        yield f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(closed))}"
        yield f"mkdir -p {place} && mount --bind {kept} {place}"


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return two compose files as one, as far as ours need it: maps merge, lists of mounts append."""
    services = {}
    for name, service in base["services"].items():
        over = override["services"].get(name, {})
        merged = {**service, **over}
        for key in ("environment", "networks"):
            merged[key] = {**service.get(key, {}), **over.get(key, {})}
        merged["volumes"] = [*service.get("volumes", ()), *over.get("volumes", ())]
        services[name] = merged
    return services


class Network:
    """A bridge and a network namespace for each service, whose aliases are names in its hosts file."""

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        self._suffix = secrets.token_hex(3)
        self._names = list(names)
        self._folder = folder
        self.addresses = {name: f"{PREFIX}.{number}" for number, name in enumerate(self._names, 10)}

    def namespace(self, name: str) -> str:
        """The namespace of a service."""
        return f"edge-{self._suffix}-{name}"

    @contextlib.contextmanager
    def up(self, aliases: Mapping[str, Sequence[str]]) -> Iterator[None]:
        """Have the network until the end of the block; each service is known to all by its aliases."""
        rows = [f"{self.addresses[name]} {' '.join((name, *aliases.get(name, ())))}" for name in self._names]
        (self._folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", "::1 localhost", *rows, ""]))
        hub = self.namespace("hub")
        with contextlib.ExitStack() as stack:
            for name in (hub, *map(self.namespace, self._names)):
                _ip("netns", "add", name)
                stack.callback(_ip, "netns", "del", name)
                _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", hub, "link", "add", "br0", "type", "bridge")
            _ip("-n", hub, "link", "set", "br0", "up")
            for number, name in enumerate(self._names):
                inside = self.namespace(name)
                _ip("-n", hub, "link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", inside)
                _ip("-n", hub, "link", "set", f"v{number}", "master", "br0", "up")
                _ip("-n", inside, "addr", "add", f"{self.addresses[name]}/24", "dev", "eth0")
                _ip("-n", inside, "link", "set", "eth0", "up")
            yield

    def command(self, name: str, command: Sequence[str], *, mounts: Mapping[str, Path], user: str = "0:0") -> list[str]:
        """Return what runs `command` in the namespace of a service, as `user`, with `mounts` read-only."""
        uid, _, gid = user.partition(":")
        as_user = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs", *command]
        everything = {"/etc/hosts": self._folder / "hosts", **mounts}
        inner = mounted(everything, as_user, read_only=list(mounts))
        return ["ip", "netns", "exec", self.namespace(name), *inner]


@dataclass
class Container:
    """A running service; its output is kept in a file."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait_line(self, pattern: str) -> None:
        """Wait for a line of output that the pattern matches."""

        def found() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return re.search(pattern, self.log.read_text()) is not None

        wait_until(found, f"{pattern!r} in {self.log}")


@contextlib.contextmanager
def container(command: Sequence[str], environment: Mapping[str, str], log: Path, cwd: str) -> Iterator[Container]:
    """Run a service until the end of the block."""
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, env=dict(environment), cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield Container(process, log)
    finally:
        process.terminate()
        process.wait(DEADLINE)


def base_environment() -> dict[str, str]:
    """What an image of Python's has."""
    return {**clean_environment(), "PATH": python_path(), "HOME": "/"}


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, (words, done.stderr)
