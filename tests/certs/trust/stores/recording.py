"""A machine out of a tree of files and a recording: what each command answers, and what it does to the files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.trust.anchors import fingerprint
from edge_certs.trust.stores.machine import Finished, Machine
from edge_certs.trust.stores.place import Root
from tests.certs.forge import AUTHORITY, Forged, forge


@dataclass(frozen=True)
class Answer:
    """What the recording has for one command, and what the command does to the machine's files."""

    finished: Finished = field(default_factory=lambda: Finished(0))
    effect: Callable[[], None] = lambda: None


@dataclass
class Recording:
    """Runs commands by looking them up; a command that was not recorded is one that the machine does not have.

    `ran` lists them. An answer may be a list: one for each time that the command is run, the last one for ever.
    """

    answers: dict[str, Answer | list[Answer]]
    ran: list[str] = field(default_factory=list)

    def __call__(self, command: Sequence[str]) -> Finished:
        line = " ".join(command)
        if line not in self.answers:
            raise FileNotFoundError(line)
        self.ran.append(line)
        recorded = self.answers[line]
        if isinstance(recorded, list):
            recorded = recorded[min(self.ran.count(line), len(recorded)) - 1]
        recorded.effect()
        return recorded.finished


def machine(
    tree: Path,
    recording: Recording,
    environ: Mapping[str, str] | None = None,
    *,
    system: str = "Linux",
    is_root: bool = True,
) -> Machine:
    """Return a machine whose files lie in `tree` and whose commands are recorded."""
    return Machine(tree, tree / "home/alice", system, is_root, environ or {}, recording)


def make_root(folder: Path, forged: Forged | None = None) -> Root:
    """Return a new root, and write its PEM file into `folder`."""
    forged = forged or forge(extensions=[AUTHORITY])
    sha256 = fingerprint(forged.certificate)
    path = folder / f"{sha256}.pem"
    path.write_bytes(forged.pem)
    der = forged.certificate.public_bytes(Encoding.DER)
    return Root(sha256, forged.certificate.fingerprint(SHA1()).hex(), der, forged.pem, path)
