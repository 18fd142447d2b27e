"""`python -P -m edge_backend.importing`: the import that a worker begins with, and nothing after it.

The settings come as one line on standard input. What is wrong, and who has files sent, is answered as one line of JSON
on standard output; what the application prints goes to standard error.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from pathlib import Path
from typing import NoReturn

from .errors import LoadError
from .loader import cause_of, load_application
from .settings import WorkerSettings

# The fields by which an application has a file sent in place of its content: nginx's name for it, and Apache's.
FILE_FIELDS = frozenset(("x-accel-redirect", "x-sendfile"))


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


def find_file_senders(folder: str) -> list[str]:
    """Return the files below `folder` out of which a module was imported that has files sent: see FILE_FIELDS.

    It is the application's own that count, not a framework that could: libraries are left out.
    """
    home = Path(folder).resolve()
    sources = {Path(file).resolve() for module in list(sys.modules.values()) if (file := _source_of(module))}
    return [str(path) for path in sorted(sources) if path.is_relative_to(home) and _names_file_field(path)]


def _source_of(module: object) -> str:
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py"):
        return ""
    return "" if {"site-packages", "dist-packages"}.intersection(Path(file).parts) else file


def _names_file_field(path: Path) -> bool:
    """Tell whether one of the fields stands in a source as a string of its own: a comment about it sends nothing."""
    try:
        strings = [node.value for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Constant)]
    except (OSError, SyntaxError, ValueError):
        return False
    texts = (value.decode("latin-1") if isinstance(value, bytes) else value for value in strings)
    return any(isinstance(text, str) and text.lower() in FILE_FIELDS for text in texts)


def main() -> NoReturn:
    """Try it, answer, and end, whatever threads the application has begun."""
    answer = os.dup(1)
    os.dup2(2, 1)
    settings = WorkerSettings.decode(sys.stdin.buffer.readline())
    problem = try_import(settings)
    told = {"problem": problem, "file_senders": find_file_senders(settings.app_dir)}
    os.write(answer, json.dumps(told).encode() + b"\n")
    os._exit(0)


if __name__ == "__main__":
    main()
