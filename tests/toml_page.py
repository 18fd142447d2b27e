"""The reference of `edge.toml`, out of edge.config: `python -m tests.toml_page` writes docs/reference/edge-toml.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edge.config import TABLES
from edge.config_sites import AppPlan
from edge.config_toml import ROUTE, SITE, TARGETS
from edge.given import options_by_key
from edge.options import Option
from tests.options_page import shown

PAGE = Path(__file__).resolve().parent.parent / "docs/reference/edge-toml.md"

_HEAD = """\
# edge.toml

`edge serve` reads `edge.toml` of the current directory if there is one, or the file of `--config FILE`, `-c FILE` or
`EDGE_CONFIG`; `-c /dev/null` is none. This page is made by `python -m tests.toml_page`; a test holds it to the source.

```toml
[limits]
max_body = "10MiB"

[[site]]
hosts = ["shop.example", "www.shop.example"]
acme = true

[[site.route]]
app = "shop:app"

[[site.route]]
path = "/api"
upstream = ["http://10.0.0.1:8000", "http://10.0.0.2:8000"]
```

- **Strength**: a flag is stronger than its variable, a variable than the file, the file than the default. What a site
  or a route says for itself holds for it, whatever was said for the whole server.
- **Names**: a key is its flag with underscores, in the table of its part: `--max-body` is `max_body` in `[limits]`.
  What a flag may be given several times for is a list here, or one value. Units are those of
  [the options](options.md): numbers are bytes or seconds, text has a unit.
- **Paths** that are relative, those of Unix sockets too, are relative to the folder of the file.
- **Secrets** do not belong here: give `acme_eab_key` and `key_password` as variables.
- **Mistakes**: everything that is wrong is said at once, each with its line; a key that there is not is answered with
  the nearest one. Nothing is started then (exit code 2), and a reload leaves what serves as it is.
- `edge check` says what would be served and what to mend, `edge config` where each value comes from
  ([both](check.md)).
- `edge reload` reads it again. Addresses to listen on, and what is ordered by ACME, take a restart.

`--config` and `--chdir` cannot stand in it, nor what is only accepted from other servers' commands.
"""

_WHOLE = """\
## For the whole server

What each of them means, with its default, is on the page of [the options](options.md).
"""

_SITES = """\
## [[site]]

Requests for one of its `hosts` go to its routes; `*.shop.example` is one label before the name, `*` every host. A site
without `hosts` serves the names of its server's certificates, or every host where there are none; there may be one. A
`[[site]]` without routes serves the application of the whole server. Without any `[[site]]`, there is one, with the
application. What a site may have for itself is said for all of them in `[policy]`.
"""

_ROUTES = """\
## [[site.route]]

Of the routes of a site, the one with the longest `path` that fits gets the request. Paths are compared by whole
segments: `/api` is for `/api` and `/api/x`, never for `/apix`. Each route has one of `app`, `static`, `redirect` and
`upstream`; no route means 404.

`strip = true` leaves the path out: an upstream gets `/x` for `/api/x`. An application gets the whole path and the
route's as `root_path`, as ASGI asks. A folder is always served without it.
"""

_TARGETS = {
    "app": "`app` is an application with workers of its own. It takes the keys of `[application]` and of `[pool]`, but "
    "`edges`,\nand has those of the whole server where it says nothing; variables of `env` are put to those of the "
    "server.",
    "static": "`static` is a folder.",
    "redirect": "`redirect` leads to another place.",
    "upstream": "`upstream` is another server, or several that do the same work.",
}


def toml_page() -> str:
    """Return the text of the page."""
    parts = [_HEAD, _WHOLE, _tables(), _SITES, _table(SITE)]
    parts += [_ROUTES, _table(ROUTE)]
    for name, options in TARGETS.items():
        shown = options_by_key(AppPlan) if name == "app" else options
        parts += [f"### {name}", _TARGETS[name], _table(shown)]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _tables() -> str:
    rows = [f"| `[{name}]` | {', '.join(f'`{key}`' for key in options)} |" for name, options in TABLES.items()]
    return "| table | keys |\n| --- | --- |\n" + "\n".join(rows)


def _table(options: Mapping[str, Option]) -> str:
    rows = [
        f"| `{key}` | {_value(option)} | {shown(option.shown)} | {_help(option)} |" for key, option in options.items()
    ]
    return "| key | value | default | |\n| --- | --- | --- | --- |\n" + "\n".join(rows)


def _value(option: Option) -> str:
    metavar = "true\\|false" if option.kind.switch else shown(option.kind.metavar)
    return f"{metavar}, or several" if option.kind.repeat else metavar


def _help(option: Option) -> str:
    return shown(option.help.removesuffix("; repeatable"))


if __name__ == "__main__":
    PAGE.write_text(toml_page())
