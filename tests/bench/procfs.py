"""Processor time and memory of a process tree, out of /proc (Linux)."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc/PID/stat; `cpu` is in seconds and holds that of reaped children."""

    pid: int
    parent: int
    session: int
    started: int
    cpu: float


def parse_stat(text: str, ticks: int) -> Process:
    """Read /proc/PID/stat (proc(5)); `ticks` is the number of clock ticks in a second."""
    # The command's name stands in parentheses and may itself hold spaces and parentheses.
    pid, rest = text.split(" (", 1)[0], text.rpartition(") ")[2].split()
    # rest[0] is field 3; utime, stime, cutime and cstime are fields 14 to 17, the start is field 22.
    cpu = sum(map(int, rest[11:15])) / ticks
    return Process(int(pid), int(rest[1]), int(rest[3]), int(rest[19]), cpu)


def parse_pss(text: str) -> int:
    """Return the bytes of the Pss line of /proc/PID/smaps_rollup: shared pages count by their share."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "Pss":
            return int(value.split()[0]) * 1024
    return 0


def parse_busy(text: str, ticks: int) -> float:
    """Return the seconds that all processors were not idle (/proc/stat), stolen time included."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, text.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / ticks


def select_tree(processes: Mapping[int, Process], roots: Iterable[int]) -> list[Process]:
    """Return the `roots`, their descendants, and whoever is in a root's session.

    The session holds those whose parent died; the parent holds those that made a session of their own.
    """
    found = {root for root in roots if root in processes}
    sessions = set(roots)
    grown = True
    while grown:
        more = {p.pid for p in processes.values() if p.parent in found or p.session in sessions} - found
        found |= more
        grown = bool(more)
    return [processes[pid] for pid in sorted(found)]


def read_processes() -> dict[int, Process]:
    """Return every process that there is now."""
    ticks = os.sysconf("SC_CLK_TCK")
    found = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (text := _read(entry / "stat")):
            process = parse_stat(text, ticks)
            found[process.pid] = process
    return found


def read_command(pid: int) -> str:
    """Return the command line of `pid`, empty when it is gone."""
    return _read(PROC / str(pid) / "cmdline").replace("\0", " ")


def read_pss(pids: Iterable[int]) -> int:
    """Return the proportional set size of all `pids` together, in bytes.

    Raises PermissionError when one of them may not be looked into.
    """
    return sum(parse_pss(_read(PROC / str(pid) / "smaps_rollup")) for pid in pids)


def read_busy() -> float:
    """Return the seconds of processor time that the whole machine has used since it started."""
    return parse_busy(_read(PROC / "stat"), os.sysconf("SC_CLK_TCK"))


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it ended between the listing and the reading
