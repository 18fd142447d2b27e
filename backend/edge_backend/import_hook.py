"""Changes a module of the application's at its import, without importing it: it need not be there, and takes time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

Change = Callable[[ModuleType], None]


def when_imported(name: str, change: Change) -> None:
    """Call `change` with the module `name` now if it is imported already, else as soon as it is."""
    module = sys.modules.get(name)
    if module is not None:
        change(module)
    else:
        sys.meta_path.insert(0, _Finder(name, change))


class _Finder:
    """Has the other finders look for its module, and extends what they found. It stays, as a module may be looked for
    and then not imported, and as a list from which one finder goes hides another from threads that import just then.
    """

    def __init__(self, name: str, change: Change) -> None:
        self._name = name
        self._change = change

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._name:
            return None
        others = (finder.find_spec for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next(filter(None, (find_spec(name, path, target) for find_spec in others)), None)
        if spec is not None and spec.loader is not None:
            _extend(spec, self._change)
        return spec


def _extend(spec: ModuleSpec, change: Change) -> None:
    loader = spec.loader
    assert loader is not None
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        # A zip file has one loader for all of its modules.
        if module.__name__ == spec.name:
            change(module)

    # On this one object, not by another loader: importlib.resources asks it for more than exec_module.
    loader.exec_module = exec_module  # type: ignore[method-assign]
