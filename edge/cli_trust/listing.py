"""`edge trust list`: which roots there are, and in which stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edge.cli_trust.output import explained, json_option, open_record, open_store, print_json, print_table
from edge.cli_trust.show import describe_anchor
from edge.cli_trust.targets import EDGE, this_machine

if TYPE_CHECKING:
    from edge_certs.trust.store import Anchor

COLUMNS = ("label", "subject", "days left", "sha256", "trusted in", "wrong with it")


@click.command("list")
@json_option
def list_command(as_json: bool) -> int:
    """List the roots that were added, where each is trusted, and what is wrong with it."""
    with explained():
        rows = [{**describe_anchor(anchor), "places": _places(anchor)} for anchor in open_store().anchors()]
    if as_json:
        print_json({"anchors": rows})
    elif not rows:
        click.echo("no root was added; add one with: edge trust add FILE")
    else:
        print_table(COLUMNS, [_cells(row) for row in rows])
    return 0


def _places(anchor: Anchor) -> list[dict[str, Any]]:
    from edge_certs.trust.installations import find_presences, root_of

    found = find_presences(root_of(anchor, open_store()), open_record(), this_machine())
    return [
        {"target": item.target, "location": item.location, "by_edge": item.is_ours, "trusted": item.is_trusted}
        for item in found
    ]


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    wrong = ", ".join(item["code"] for item in row["defects"] if item["severity"] != "remark") or "nothing"
    places = [item["target"] if item["trusted"] else f"{item['target']} (gone)" for item in row["places"]]
    where = ", ".join(dict.fromkeys((EDGE, *places)))
    return (row["label"], row["subject"], str(row["days_left"]), row["sha256"][:16], where, wrong)
