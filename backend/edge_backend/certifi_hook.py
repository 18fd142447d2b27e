"""Makes `certifi`, when the application has it, answer with the operator's bundle.

requests, httpx and others ask `certifi.where()`, which no variable changes. The hook waits for the import, because
certifi is the application's and need not be there, and reading it at each start would cost those who never call out.
It never touches `ssl` itself: contexts that an application makes for its own servers must stay as they are.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType


def answer_certifi(bundle: str) -> None:
    """Let `certifi.where()` and `certifi.contents()` give the file `bundle`, from now on or from its import on."""
    module = sys.modules.get("certifi")
    if module is not None:
        _answer(module, bundle)
    else:
        sys.meta_path.insert(0, _CertifiFinder(bundle))


class _CertifiFinder:
    """Stands aside as soon as certifi is found: whatever finds it then also loads it."""

    def __init__(self, bundle: str) -> None:
        self._bundle = bundle

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "certifi":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None:
            # Not there yet; the application may put its folder on sys.path first.
            sys.meta_path.insert(0, self)
        elif spec.loader is not None:
            _extend(spec, self._bundle)
        return spec


def _extend(spec: ModuleSpec, bundle: str) -> None:
    loader = spec.loader
    assert loader is not None
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        _answer(module, bundle)

    # On this one object, not by another loader: importlib.resources asks it for more than exec_module.
    loader.exec_module = exec_module  # type: ignore[method-assign]


def _answer(module: ModuleType, bundle: str) -> None:
    def where() -> str:
        return bundle

    def contents() -> str:
        return Path(bundle).read_text("ascii", "replace")

    # `certifi.core` has the same functions under the name that some import them by.
    for holder in (module, getattr(module, "core", None)):
        if holder is not None:
            vars(holder).update(where=where, contents=contents)
