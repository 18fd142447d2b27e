"""Makes `certifi`, when the application has it, answer with the operator's bundle.

requests, httpx and others ask `certifi.where()`, which no variable changes. `ssl` itself is never touched here:
contexts that an application makes for its own servers must stay as they are.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import ModuleType

from .import_hook import when_imported


def answer_certifi(bundle: str) -> None:
    """Let `certifi.where()` and `certifi.contents()` give the file `bundle`, from now on or from its import on."""
    when_imported("certifi", partial(_answer, bundle=bundle))


def _answer(module: ModuleType, bundle: str) -> None:
    def where() -> str:
        return bundle

    def contents() -> str:
        return Path(bundle).read_text("ascii", "replace")

    # `certifi.core` has the same functions under the name that some import them by.
    for holder in (module, getattr(module, "core", None)):
        if holder is not None:
            vars(holder).update(where=where, contents=contents)
