"""`use = egg:edge-serve#main` in the `[server:main]` of a PasteDeploy file: what `pserve` and its like call."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from edge.envfile import read_settings
from edge.errors import ConfigError
from edge.server import serve


def serve_paste(_app: object, global_conf: Mapping[str, str], **options: Any) -> None:
    """Serve the application of the file: workers load it again from there. `options` are those of `edge serve`, with
    underscores.

    Raises ConfigError or StartError as `edge serve` does.
    """
    file = global_conf.get("__file__")
    if not file:
        raise ConfigError("paste: the application comes from no file; use edge serve MODULE:ATTR")
    values = {"paste": file, **options}
    serve(lambda: read_settings(values, os.environ))
