"""`edge trust add`: trust a root here, and install it further."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

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
from edge.cli_trust.show import describe_anchor, print_additions
from edge.cli_trust.source import STDIN, is_url, label_of, naming_source, parse_source, read_source
from edge.cli_trust.targets import (
    ALL,
    TARGETS,
    check_rights,
    choose_places,
    confirm,
    parse_targets,
    this_machine,
    yes_option,
)
from edge.cli_trust.tasks import Outcome, Task, attempt, describe_tasks, exit_code, open_places, plan_lines, print_done

if TYPE_CHECKING:
    from edge_certs.trust.store import Addition, TrustStore
    from edge_certs.trust.stores.place import Place


@dataclass(frozen=True, slots=True)
class _Adding:
    """What `edge trust add` was told."""

    source: str
    label: str | None
    fingerprint: str | None
    force: str
    to: tuple[str, ...]
    registry: tuple[str, ...]
    is_confirmed: bool
    with_reload: bool
    dry_run: bool
    as_json: bool

    @property
    def name(self) -> str:
        """What the roots are called: as given, or as the file."""
        return self.label or label_of(self.source)

    def again(self, targets: Sequence[str]) -> list[str]:
        """Return the words of the same command for these targets, for another user and from any folder."""
        source = self.source if is_url(self.source) or self.source == STDIN else os.path.abspath(self.source)
        flags = [("--label", self.label), ("--fingerprint", self.fingerprint), ("--force", self.force)]
        flags += [("--registry", name) for name in self.registry if "docker" in targets]
        flags += [("--to", ",".join(targets))]
        return ["trust", "add", source, *(word for flag, value in flags if value for word in (flag, value))]


@click.command("add")
@click.argument("source", metavar="FILE|URL|-")
@click.option("--label", help="Name to remove it by [default: the file's name]")
@click.option("--fingerprint", help="SHA-256 that the certificate must have; an http URL needs it")
@click.option("--force", default="", metavar="REASON", help="Add it in spite of what is wrong with it")
@click.option("--to", multiple=True, metavar="TARGETS", help=f"Install it further: {', '.join((*TARGETS, ALL))}")
@click.option("--registry", multiple=True, metavar="HOST[:PORT]", help="For --to docker: a registry that it signs")
@yes_option
@reload_option
@dry_option
@json_option
def add_command(**options: Any) -> int:
    """Trust the root certificates in FILE, at URL, or in standard input for '-': PEM, DER or PKCS#7."""
    adding = _Adding(**options)
    targets = parse_targets("--to", adding.to)
    with explained():
        content = read_source(adding.source, is_pinned=adding.fingerprint is not None)
        certificates = parse_source(adding.source, content, adding.fingerprint)
        store, now = open_store(), datetime.now(UTC).replace(microsecond=0)
        with naming_source(adding.source):
            additions = store.plan(certificates, adding.name, now, adding.force)
        machine = this_machine()
        chosen = choose_places(targets, machine, adding.registry)
        tasks = _plan(additions, chosen.places, store)
        for remark in chosen.remarks:
            click.echo(f"edge: {remark}", err=True)
        if adding.dry_run:
            _show(adding, additions, tasks, None, None)
            return 0
        check_rights(open_places(tasks), adding.again)
        confirm(open_places(tasks), plan_lines(tasks), is_confirmed=adding.is_confirmed)
        additions = store.add(certificates, adding.name, now, adding.force)
        refresh_bundles()
        record = open_record()
        done = [attempt(partial(record.install, task.root, task.place, machine, now)) for task in tasks]
    _show(adding, additions, tasks, done, reload_servers() if adding.with_reload else None)
    return exit_code(done)


def _plan(additions: Sequence[Addition], places: Sequence[Place], store: TrustStore) -> list[Task]:
    from edge_certs.trust.installations import plan_install, root_of

    roots = [root_of(item.anchor, store) for item in additions]
    return [Task(root, place, plan_install(root, place)) for place in places for root in roots]


def _show(
    adding: _Adding,
    additions: Sequence[Addition],
    tasks: Sequence[Task],
    done: Sequence[Outcome] | None,
    reloaded: int | None,
) -> None:
    if adding.as_json:
        rows = [{**describe_anchor(item.anchor), "added": item.is_new and not adding.dry_run} for item in additions]
        places = describe_tasks(tasks, done or ())
        print_json({"anchors": rows, "dry_run": adding.dry_run, "places": places, "reloaded": reloaded})
        return
    print_additions(additions, dry_run=adding.dry_run)
    if done is None:
        files = [open_store().path_of(item.anchor.sha256) for item in additions if item.is_new]
        for line in (*(f"would write {path}" for path in files), *plan_lines(tasks)):
            click.echo(line)
    else:
        print_done(tasks, done)
    if reloaded is not None:
        print_reloaded(reloaded)
