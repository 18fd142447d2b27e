"""Adds, or removes, a root in a child that is killed (SIGKILL) at each of its changes to the file system in turn.

`python crash.py add|remove FOLDER` prints a line of JSON for each of those points: what was found afterwards, and
whether the commands that `leftovers` gives, and then the same change again, ended well. It forks, so it is a program.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from edge_certs.trust.anchors import parse_anchors
from edge_certs.trust.installations import Installations, root_of
from edge_certs.trust.leftovers import leftovers
from edge_certs.trust.store import TrustStore
from edge_certs.trust.stores.docker import docker_places
from edge_certs.trust.stores.machine import Machine, run_command
from edge_certs.trust.stores.place import Place
from edge_certs.trust.variables import refresh_bundles, write_trust
from tests.certs.forge import NOW

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.chmod")
# A change that has more steps than this never ends.
MOST_POINTS = 300


class World:
    """A home and a machine below `folder`, with the root in `folder/root.pem`."""

    def __init__(self, folder: Path) -> None:
        self.home, self.tree = folder / "home", folder / "tree"
        [self.certificate] = parse_anchors((folder.parent / "root.pem").read_bytes())
        self.machine = Machine(self.tree, self.home, "Linux", True, {}, run_command)
        self.store, self.record = TrustStore(self.home), Installations(self.home)

    @property
    def place(self) -> Place:
        return docker_places(self.machine, ["registry.corp.example"])[0]

    def add(self) -> None:
        [addition] = self.store.add([self.certificate], "corp", NOW, "")
        refresh_bundles(self.home)
        self.record.install(root_of(addition.anchor, self.store), self.place, self.machine, NOW)

    def remove(self) -> None:
        for anchor in self.store.select("corp"):
            self.record.remove(root_of(anchor, self.store), self.place, self.machine)
            self.store.remove(anchor.sha256)
        refresh_bundles(self.home)

    def state(self) -> dict[str, Any]:
        """What programs, and edge, see."""
        anchors = self.store.anchors()
        there = [entry.complete for entry in self.record.all()]
        files = list(self.tree.rglob("*.crt"))
        # That of the "none" below: the public roots are beside the point.
        [bundle] = [path.read_bytes() for path in self.store.folder.glob("bundle-*.pem")]
        return {
            "listed": len(anchors),
            "recorded": there,
            "installed": [path.read_bytes() == (self.home.parent.parent / "root.pem").read_bytes() for path in files],
            "bundled": len(parse_anchors(bundle)) if b"-----BEGIN" in bundle else 0,
            "leftovers": [item.text for item in leftovers(self.home, self.tree)],
        }

    def mend(self) -> None:
        """Do what `leftovers` says."""
        for item in leftovers(self.home, self.tree):
            if item.command.startswith("rm "):
                subprocess.run(shlex.split(item.command), check=True)
            else:
                _, _, verb, name, *_ = item.command.split()
                [anchor] = self.store.select(name)
                assert verb == "remove"
                self.record.remove(root_of(anchor, self.store), self.place, self.machine)


def die_at(point: int, folder: Path) -> None:
    """Kill this process just before its change number `point` below `folder`."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            path, flags = arguments[0], arguments[2]
            if not (isinstance(path, str | Path) and flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)):
                return
        elif event not in CHANGES:
            return
        if str(arguments[0]).startswith(str(folder)):
            count += 1
            if count == point:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def main(change: str, folder: Path) -> None:
    before = folder / "before"
    world = World(before)
    write_trust(world.home, {}, "none")
    if change == "remove":
        world.add()
    for point in range(1, MOST_POINTS):
        now = folder / f"point-{point}"
        shutil.copytree(before, now)
        world = World(now)
        child = os.fork()
        if child == 0:
            die_at(point, now)
            getattr(world, change)()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        found = world.state()
        world.mend()
        mended = world.state()
        getattr(world, change)()
        report = {"killed": os.WIFSIGNALED(status), "found": found, "mended": mended, "again": world.state()}
        print(json.dumps(report))
        if not os.WIFSIGNALED(status):
            return


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
