"""What is left of a master that another one has taken over from: it passes signals on, and ends as the other does.

It runs alone (`python -I -S standin.py PID`), so that it costs as little memory as a Python process can.
"""

import os
import signal
import sys

PASSED_ON = (
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN,
    signal.SIGTTOU,
)  # fmt: skip


def stand_in(pid: int) -> int:
    """Wait for the child process `pid`; return its exit code, as a shell does for one that was killed."""

    def pass_on(number: int, _frame: object) -> None:
        # contextlib would be a quarter of the memory of this process.
        try:  # noqa: SIM105
            os.kill(pid, number)
        except ProcessLookupError:
            pass

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    # The master has blocked them, so that none was lost on the way.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    # As process 1 of a container it gets the orphans of others, too.
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(stand_in(int(sys.argv[1])))
