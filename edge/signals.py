"""The signals of the master's `selectors` loop: they are taken note of in a handler, and read in the loop."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
from collections.abc import Callable, Collection, Iterator

from edge.standin import PASSED_ON

# SIGQUIT is what images made for nginx are stopped by, and gunicorn's scripts; process 1 would not even notice it.
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_TAKEN = (
    *STOPPING, signal.SIGHUP, signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1,
    signal.SIGUSR2,
)  # fmt: skip


class Signals:
    """What has come since it was asked for the last time. `handling` is the time in which signals come here."""

    def __init__(self) -> None:
        self._numbers: list[int] = []

    def take(self) -> list[int]:
        """Return the signals that came, in their order."""
        numbers, self._numbers = self._numbers, []
        return numbers

    @contextlib.contextmanager
    def handling(
        self, selector: selectors.BaseSelector, *, is_succeeded: Callable[[], bool], is_over: Callable[[], bool]
    ) -> Iterator[None]:
        """Have the loop wake for signals; afterwards it is as it was before.

        At the end it is asked whether a successor is there, and whether the process was told to stop and will.
        """
        reading, writing = socket.socketpair()
        reading.setblocking(False)
        writing.setblocking(False)
        before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, lambda number, frame: None) for number in _TAKEN}

        def readable() -> None:
            with contextlib.suppress(BlockingIOError):
                self._numbers += reading.recv(4096)

        selector.register(reading, selectors.EVENT_READ, readable)
        try:
            yield
        finally:
            if is_succeeded():
                # What stands in for this process will take them, and pass them on.
                signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                # A signal to stop that comes in the last moment wishes for what is happening already. Python itself
                # gives all but ignored signals back to the system before it ends.
                is_late = number in STOPPING and is_over()
                signal.signal(number, signal.SIG_IGN if is_late else handler)
            reading.close()
            writing.close()


def reap_orphans(own: Collection[int]) -> None:
    """Take note of the end of processes that nobody else waits for: what process 1 of a container is there for.

    Those in `own` are left to who started them.
    """
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in own:
            return
        os.waitpid(ended.si_pid, 0)
