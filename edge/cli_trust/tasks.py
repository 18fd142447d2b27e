"""What is to be done in which store: planned, shown, and shown again when it is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from edge.cli_trust.output import printable
from edge.errors import EdgeError

if TYPE_CHECKING:
    from edge_certs.trust.installations import Status
    from edge_certs.trust.stores.place import Place, Root
    from edge_certs.trust.stores.steps import Step

FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Task:
    """A root that is to go into a place, or out of it; without steps, that is so already."""

    root: Root
    place: Place
    steps: Sequence[Step]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task: the words of a `Status`, or `FAILED` and why."""

    status: str
    error: str = ""


def open_places(tasks: Sequence[Task]) -> list[Place]:
    """Return the places that are to be changed."""
    return [task.place for task in tasks if task.steps]


def plan_lines(tasks: Sequence[Task]) -> list[str]:
    """Return each step as one line."""
    from edge_certs.trust.stores.steps import describe

    return [f"would {describe(step)}" for task in tasks for step in task.steps]


def attempt(do: Callable[[], Status]) -> Outcome:
    """Return what became of one task; that it failed does not keep the others from being done."""
    from edge_certs.errors import CertificateError

    try:
        return Outcome(do().value)
    except CertificateError as error:
        return Outcome(FAILED, str(error))


def print_done(tasks: Sequence[Task], done: Sequence[Outcome]) -> None:
    """Print what became of each of `tasks`, and failures on standard error."""
    for task, outcome in zip(tasks, done, strict=True):
        if outcome.error:
            click.echo(f"edge: {outcome.error}", err=True)
            continue
        hint = f"; {task.place.hint}" if outcome.status == "installed" and task.place.hint else ""
        click.echo(f"{outcome.status}: {where(task.place)}{hint}")


def describe_tasks(tasks: Sequence[Task], done: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return what is to be done, or with `done` what was, as JSON shows it."""
    from edge_certs.trust.stores.steps import describe

    rows: list[dict[str, Any]] = []
    for index, task in enumerate(tasks):
        row = {"target": task.place.target, "location": task.place.location, "sha256": task.root.sha256}
        if not done:
            rows.append({**row, "steps": [describe(step) for step in task.steps]})
        elif done[index].error:
            rows.append({**row, "status": FAILED, "error": done[index].error})
        else:
            rows.append({**row, "status": done[index].status})
    return rows


def exit_code(done: Sequence[Outcome]) -> int:
    """Return the exit code of the command: 1 if one of them failed."""
    return EdgeError.exit_code if any(outcome.error for outcome in done) else 0


def where(place: Place) -> str:
    """Return a place as messages name it."""
    return printable(f"{place.target} {place.location}")
