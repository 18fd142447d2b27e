"""Where Python spends its time: a sampler that each interpreter of a stack loads as `sitecustomize`.

Theory of operation: the processor time of the process drives ITIMER_PROF, so an idle process takes no samples.
The handler runs before the next bytecode, hence the time of a call into C (TLS, sockets, the parser) is found on
the line of its caller, and that of the event loop itself on the line that runs it. The counts are written to
`profile.PID` now and then, because servers end without `atexit`.
"""

import atexit
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

VARIABLE = "EDGE_BENCH_PROFILE"
# The kernel's tick bounds it from below: 4 ms where it ticks 250 times a second.
INTERVAL = 0.001
WRITE_EVERY = 50


class Sampler:
    """Counts, for each function, the samples within it, and for each line those right there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._start()
        os.register_at_fork(after_in_child=self._start)
        # The interpreter drops its handlers before it ends; one more signal would end it as a failure.
        atexit.register(signal.setitimer, signal.ITIMER_PROF, 0)

    def _start(self) -> None:
        self._taken = 0
        self._lines: Counter[str] = Counter()
        self._functions: Counter[str] = Counter()
        signal.signal(signal.SIGPROF, self._sample)
        # A system call that a sample interrupts goes on by itself.
        signal.siginterrupt(signal.SIGPROF, False)
        signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        names = list(_walk(frame))
        self._taken += 1
        self._lines[f"{names[0]}:{frame.f_lineno}" if frame else "?"] += 1
        self._functions.update(set(names))
        if self._taken % WRITE_EVERY == 0:
            self._write()

    def _write(self) -> None:
        parts = [f"{self._taken} samples: {' '.join(sys.orig_argv[1:6])}"]
        for title, counts in (("on the line", self._lines), ("in the function and what it calls", self._functions)):
            parts.append(f"  {title}")
            parts += [f"  {count / self._taken:6.1%} {name}" for name, count in counts.most_common(40)]
        file = self._folder / f"profile.{os.getpid()}"
        file.with_suffix(".new").write_text("\n".join(parts) + "\n")
        file.with_suffix(".new").replace(file)


def _walk(frame: FrameType | None) -> Iterator[str]:
    while frame:
        yield f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}"
        frame = frame.f_back


if folder := os.environ.get(VARIABLE):
    Sampler(Path(folder))
