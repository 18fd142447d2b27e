"""`python -P -m edge_backend.importing`: the import that a worker begins with, and nothing after it.

The settings come as one line on standard input. What is wrong is answered as one line of JSON on standard output; what
the application prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from typing import NoReturn

from .errors import LoadError
from .loader import cause_of, load_application
from .settings import WorkerSettings


def try_import(settings: WorkerSettings) -> str:
    """Import the application; return what is wrong, in one line, empty if nothing is."""
    sys.path[:0] = settings.python_path
    try:
        load_application(settings.target, app_dir=settings.app_dir, factory=settings.factory)
    except LoadError as error:
        return str(error)
    except (Exception, SystemExit) as error:
        what = cause_of(error)
        return f"application {settings.target!r} failed to start: {what}"
    return ""


def main() -> NoReturn:
    """Try it, answer, and end, whatever threads the application has begun."""
    answer = os.dup(1)
    os.dup2(2, 1)
    problem = try_import(WorkerSettings.decode(sys.stdin.buffer.readline()))
    os.write(answer, json.dumps({"problem": problem}).encode() + b"\n")
    os._exit(0)


if __name__ == "__main__":
    main()
