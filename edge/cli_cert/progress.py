"""What an order does while one waits for it: a bar on a terminal, plain lines elsewhere; both on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from edge.cli_cert.output import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from edge_certs.acme_order import State

# By the values of `edge_certs.acme_order.State`, in the order in which they come; a test holds them together.
STEPS = {
    "order": "orders",
    "authorizations": "reads what is to be proven",
    "present": "puts the answers in place",
    "trigger": "asks for the validation",
    "validation": "waits for the validation",
    "finalize": "sends the request",
    "issue": "waits for the authority",
    "download": "fetches it",
    "alternates": "looks at other chains",
    "done": "has it",
}


class Reporter:
    """Shows the steps of orders; `report` is what `Issuer.report` wants."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def report(self, name: str, state: State) -> None:
        """Show what the order for `name` does next."""
        step = STEPS[state.value]
        if self._progress is None:
            click.echo(f"{printable(name)}: {step}", err=True)
            return
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(printable(name), total=len(STEPS) - 1, step="")
        task = self._tasks[name]
        # An order is looked at again between its steps: the bar never goes back.
        reached = max(list(STEPS).index(state.value), int(self._progress.tasks[task].completed))
        self._progress.update(task, completed=reached, step=step)


@contextmanager
def showing_progress(*, is_quiet: bool) -> Iterator[Reporter]:
    """Give what shows orders until the end of the block; lines for people that are logged meanwhile are shown, too."""
    # What an attempt ended with is in the command's own answer, not in a log besides.
    logger = logging.getLogger("edge.certs")
    lines = _Lines()
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        if is_quiet or not sys.stderr.isatty():
            yield Reporter(None) if not is_quiet else _Silent()
        else:
            with _bar() as progress:
                yield Reporter(progress)
    finally:
        logger.removeHandler(lines)


class _Silent(Reporter):
    """For whoever reads JSON."""

    def __init__(self) -> None:
        super().__init__(None)

    def report(self, name: str, state: State) -> None:
        """Show nothing."""


class _Lines(logging.Handler):
    """Records that have to be made by hand, and what else is for people; errors are the command's own to tell."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.ERROR and "TXT record" in record.getMessage():
            click.echo(printable(record.getMessage()), err=True)


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[step]}"))
    return Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))
