"""How many CPUs this process may use: its affinity, and the quota of its control group and of those around it."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

# Where the cpu controller is mounted: version 2 alone, version 2 beside version 1, version 1.
_V2_MOUNTS = ("sys/fs/cgroup", "sys/fs/cgroup/unified")
_V1_MOUNTS = ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct")


def allowed_cpus() -> int:
    """Return how many CPUs this process may use, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return usable_cpus(affinity, Path("/"))


def usable_cpus(affinity: int, root: Path) -> int:
    """Return the lesser of `affinity` and the quota found in the file system at `root`, rounded up, at least 1."""
    quotas = [quota for quota in _quotas(root) if quota > 0]
    return max(1, min([affinity, *map(math.ceil, quotas)]))


def _quotas(root: Path) -> Iterator[float]:
    for line in _read(root / "proc/self/cgroup").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        # Outside its own cgroup namespace a process sees "/../..": what can be read then is the mount itself.
        group = "" if ".." in path else path.strip("/")
        if hierarchy == "0":
            yield from (_quota_v2(place) for mount in _V2_MOUNTS for place in _upward(root / mount, group))
        elif "cpu" in controllers.split(","):
            yield from (_quota_v1(place) for mount in _V1_MOUNTS for place in _upward(root / mount, group))


def _upward(mount: Path, group: str) -> Iterator[Path]:
    """A group is held by its parents' quotas too. In a container whose path is the host's, only the mount exists."""
    place = mount / group
    while place != mount:
        yield place
        place = place.parent
    yield mount


def _quota_v2(place: Path) -> float:
    return _ratio(_read(place / "cpu.max").split())


def _quota_v1(place: Path) -> float:
    return _ratio([_read(place / "cpu.cfs_quota_us").strip(), _read(place / "cpu.cfs_period_us").strip()])


def _ratio(words: list[str]) -> float:
    """Return quota / period, or 0 where there is none ("max", -1, no such file)."""
    if len(words) != 2 or not all(word.isdecimal() for word in words) or int(words[1]) == 0:
        return 0.0
    return int(words[0]) / int(words[1])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
