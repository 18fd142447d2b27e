"""What is to be done in which store: planned, shown, and shown again when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from edge.cli_trust.output import printable

if TYPE_CHECKING:
    from edge_certs.trust.installations import Status
    from edge_certs.trust.stores.place import Place, Root
    from edge_certs.trust.stores.steps import Step


@dataclass(frozen=True, slots=True)
class Task:
    """A root that is to go into a place, or out of it; without steps, that is so already."""

    root: Root
    place: Place
    steps: Sequence[Step]


def open_places(tasks: Sequence[Task]) -> list[Place]:
    """Return the places that are to be changed."""
    return [task.place for task in tasks if task.steps]


def plan_lines(tasks: Sequence[Task]) -> list[str]:
    """Return each step as one line."""
    from edge_certs.trust.stores.steps import describe

    return [f"would {describe(step)}" for task in tasks for step in task.steps]


def print_done(tasks: Sequence[Task], done: Sequence[Status]) -> None:
    """Print what became of each of `tasks`."""
    for task, status in zip(tasks, done, strict=True):
        hint = f"; {task.place.hint}" if status.value == "installed" and task.place.hint else ""
        click.echo(f"{status.value}: {where(task.place)}{hint}")


def describe_tasks(tasks: Sequence[Task], done: Sequence[Status]) -> list[dict[str, Any]]:
    """Return what is to be done, or with `done` what was, as JSON shows it."""
    from edge_certs.trust.stores.steps import describe

    rows: list[dict[str, Any]] = []
    for index, task in enumerate(tasks):
        what = {"status": done[index].value} if done else {"steps": [describe(step) for step in task.steps]}
        rows.append({"target": task.place.target, "location": task.place.location, "sha256": task.root.sha256, **what})
    return rows


def where(place: Place) -> str:
    """Return a place as messages name it."""
    return printable(f"{place.target} {place.location}")
