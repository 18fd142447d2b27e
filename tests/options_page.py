"""The reference of the options, out of edge.config: `python -m tests.options_page` writes docs/reference/options.md."""

from __future__ import annotations

import re
from pathlib import Path

from edge.config import SECTIONS, section_options
from edge.options import Option

PAGE = Path(__file__).resolve().parent.parent / "docs/reference/options.md"

_HEAD = """\
# Options

`edge serve [OPTIONS] MODULE:ATTR`. This page is made by `python -m tests.options_page`; a test holds it to the source.

Each flag is a variable, too, in every spelling: `--max-body` is `EDGE_MAX_BODY`. A flag is stronger than its variable,
a variable stronger than [`edge.toml`](edge-toml.md), and that stronger than the default. In Python,
`edge.run("app:app", max_body="1GiB")` takes the same names with underscores. An option that may be repeated takes a
list there, and in a variable its values stand with commas or spaces between them (those of `EDGE_ACME` with spaces
only: commas join names). Sizes are `8192`, `8KiB`, `100MiB` or `2GiB` (powers of 1024); durations are `10` (seconds),
`500ms`, `2m` or `1h`; switches are `1` or `0`, `on` or `off`, `yes` or `no`, `true` or `false`.

Where it listens by default: with a certificate on all interfaces, ports 443 (TLS) and 80 (redirects to the hosts of
the certificates); on 8443 and 8080 where the system does not permit those, which one line says. With `--dev`, on the
loopback addresses, port 8443. Without either, plain HTTP on 127.0.0.1:8000.
"""


def options_page() -> str:
    """Return the text of the page."""
    parts = [_HEAD]
    for title, part in SECTIONS:
        rows = [_row(option) for option in section_options(part)]
        parts.append(f"## {title}\n\n| option | default | |\n| --- | --- | --- |\n" + "\n".join(rows))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def shown(text: str) -> str:
    """Return the text as Markdown shows it letter by letter, in a cell of a table."""
    return re.sub(r"([|*_\[\]<>])", r"\\\1", text)


def _row(option: Option) -> str:
    also = [f"`{flag}`" for flag in option.flags[1:]]
    # Those of edge itself follow from the flags.
    also += [f"`{name}`" for name in option.variables if option.is_argument or not name.startswith("EDGE_")]
    remark = f" (also {', '.join(also)})" if also else ""
    return f"| {_spelling(option)} | {shown(option.shown)} | {shown(option.help)}{remark} |"


def _spelling(option: Option) -> str:
    if option.is_argument:
        return f"`{option.kind.metavar}`"
    flag = option.flags[0]
    if option.kind.switch:
        return f"`{flag}`, `--no-{flag.removeprefix('--')}`" if option.shown == "on" else f"`{flag}`"
    return f"`{flag}` {shown(option.kind.metavar)}"


if __name__ == "__main__":
    PAGE.write_text(options_page())
