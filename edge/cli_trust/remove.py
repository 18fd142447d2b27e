"""`edge trust remove`: take a root out of every store that it was installed in, and of those alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from edge.cli_trust.output import (
    dry_option,
    explained,
    json_option,
    open_record,
    open_store,
    print_json,
    refresh_bundles,
)
from edge.cli_trust.servers import print_reloaded, reload_option, reload_servers
from edge.cli_trust.show import describe_anchor, subject
from edge.cli_trust.targets import ALL, EDGE, check_rights, confirm, parse_targets, this_machine, yes_option
from edge.cli_trust.tasks import (
    Outcome,
    Task,
    attempt,
    describe_tasks,
    exit_code,
    open_places,
    plan_lines,
    print_done,
    where,
)
from edge.errors import ConfigError

if TYPE_CHECKING:
    from edge_certs.trust.store import Anchor, TrustStore
    from edge_certs.trust.stores.machine import Machine
    from edge_certs.trust.stores.place import Place


@click.command("remove")
@click.argument("name", metavar="LABEL|FINGERPRINT")
@click.option("--from", "origin", multiple=True, metavar="TARGETS", help="Only from these [default: from all]")
@yes_option
@reload_option
@dry_option
@json_option
def remove_command(
    name: str, origin: tuple[str, ...], is_confirmed: bool, with_reload: bool, dry_run: bool, as_json: bool
) -> int:
    """Remove the roots with this label, or the one with this SHA-256, from wherever `add` installed them."""
    targets = parse_targets("--from", origin) or [ALL]
    with explained():
        store, machine = open_store(), this_machine()
        anchors = store.select(name)
        tasks = _plan(anchors, targets, store, machine)
        gone = anchors if {ALL, EDGE} & set(targets) else []
        _check_kept(gone, tasks)
        if dry_run:
            _show(name, gone, tasks, None, as_json=as_json)
            return 0
        home = str(store.folder.parent)
        check_rights(open_places(tasks), lambda some: ["trust", "remove", name, "--from", ",".join(some)], home=home)
        confirm(open_places(tasks), plan_lines(tasks), is_confirmed=is_confirmed)
        done = _remove(tasks, machine)
        gone = _forget(gone, tasks, done, store)
        others = _places_that_trust(gone, store, machine)
        files = _files_that_hold(gone, store)
    reloaded = reload_servers() if with_reload else None
    _show(name, gone, tasks, done, as_json=as_json, reloaded=reloaded)
    for place in others:
        click.echo(f"edge: {where(place)} trusts it still; it was not installed there from here", err=True)
    for path in files:
        message = f"{path} has it, too, and stays merged in: a variable named it; see edge trust doctor"
        click.echo(f"edge: {message}", err=True)
    return exit_code(done)


def _plan(anchors: Sequence[Anchor], targets: Sequence[str], store: TrustStore, machine: Machine) -> list[Task]:
    from edge_certs.trust.installations import root_of
    from edge_certs.trust.stores.targets import open_place

    record, tasks = open_record(), []
    for anchor in anchors:
        root = root_of(anchor, store)
        for entry in record.of(anchor.sha256):
            if ALL in targets or entry.target in targets:
                place = open_place(entry.kind, entry.location, machine)
                tasks.append(Task(root, place, place.removing(root)))
    return tasks


def _check_kept(gone: Sequence[Anchor], tasks: Sequence[Task]) -> None:
    """What is installed elsewhere has to stay known here, or nobody could remove it there."""
    removed = {(task.root.sha256, task.place.kind, task.place.location) for task in tasks}
    for anchor in gone:
        entries = open_record().of(anchor.sha256)
        left = [item.target for item in entries if (item.sha256, item.kind, item.location) not in removed]
        if left:
            names = " and ".join(dict.fromkeys(left))
            raise ConfigError(
                f"--from edge: {anchor.label!r} is installed in {names}, too; name all of them, or leave out --from"
            )


def _remove(tasks: Sequence[Task], machine: Machine) -> list[Outcome]:
    record = open_record()
    return [attempt(partial(record.remove, task.root, task.place, machine)) for task in tasks]


def _forget(gone: Sequence[Anchor], tasks: Sequence[Task], done: Sequence[Outcome], store: TrustStore) -> list[Anchor]:
    """Remove from our own store what is nowhere else any more; for the rest, the command can be given again."""
    left = {task.root.sha256 for task, outcome in zip(tasks, done, strict=True) if outcome.error}
    forgotten = [anchor for anchor in gone if anchor.sha256 not in left]
    for anchor in forgotten:
        store.remove(anchor.sha256)
    refresh_bundles()
    return forgotten


def _places_that_trust(gone: Sequence[Anchor], store: TrustStore, machine: Machine) -> list[Place]:
    from edge_certs.trust.installations import find_trusting, root_of

    roots = [root_of(anchor, store) for anchor in gone]
    return [place for root in roots for place in find_trusting(root, machine)]


def _files_that_hold(gone: Sequence[Anchor], store: TrustStore) -> list[str]:
    """Return the operator's own files from which the bundles go on having it."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from edge_certs.errors import place
    from edge_certs.trust.variables import own_files_with

    certificates = [anchor.certificate.public_bytes(Encoding.DER) for anchor in gone]
    return [place(path) for path in own_files_with(certificates, store.folder.parent, os.environ)] if gone else []


def _show(
    name: str,
    gone: Sequence[Anchor],
    tasks: Sequence[Task],
    done: Sequence[Outcome] | None,
    *,
    as_json: bool,
    reloaded: int | None = None,
) -> None:
    if as_json:
        rows, places = [describe_anchor(item) for item in gone], describe_tasks(tasks, done or ())
        print_json({"removed": rows, "dry_run": done is None, "places": places, "reloaded": reloaded})
        return
    if not gone and not tasks:
        click.echo(f"unchanged: no root is called {name!r}; see edge trust list")
    for anchor in gone:
        verb = "would remove" if done is None else "removed"
        click.echo(f"{verb} {subject(anchor)} (label {anchor.label!r}, sha256:{anchor.sha256})")
    if done is None:
        for line in plan_lines(tasks):
            click.echo(line)
    else:
        print_done(tasks, done)
    if reloaded is not None:
        print_reloaded(reloaded)
