"""Applications that a PasteDeploy file describes: `--paste FILE#NAME`, with `pip install 'edge-serve[paste]'`."""

from __future__ import annotations

import os
from typing import Any

from .errors import LoadError
from .loader import Application


def load(file: str, name: str = "", **global_conf: str) -> Application:
    """Return the WSGI application `name` of a file (`main` if it is empty); `global_conf` are variables for the file.

    Raises LoadError if PasteDeploy is not installed, or the file does not exist.
    """
    try:
        from paste.deploy import loadapp
    except ImportError:
        raise LoadError(f"--paste {file}: PasteDeploy is not installed; pip install 'edge-serve[paste]'") from None
    if not os.path.isfile(file):
        raise LoadError(f"--paste {file}: no such file; use one that exists")
    settings: dict[str, Any] = {"global_conf": global_conf} if global_conf else {}
    app: Application = loadapp(f"config:{os.path.abspath(file)}", name=name or None, **settings)
    return app
