"""From a name to an application."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

from edge_backend.errors import LoadError
from edge_backend.loader import application_traceback, load_application


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for modules; what is imported from it is forgotten at the end, and sys.path restored."""
    before, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def load(folder: Path, target: str, *, factory: bool = False) -> object:
    return load_application(target, app_dir=str(folder), factory=factory)


def test_attribute_of_a_module_is_loaded(folder: Path) -> None:
    (folder / "one.py").write_text("def app(): ...\n")
    assert getattr(load(folder, "one:app"), "__name__", "") == "app"
    assert sys.path[0] == str(folder)


def test_attribute_is_app_where_none_is_named(folder: Path) -> None:
    (folder / "two.py").write_text("def app(): ...\n")
    assert getattr(load(folder, "two"), "__name__", "") == "app"


def test_dotted_attribute_of_a_submodule_is_loaded(folder: Path) -> None:
    (folder / "package").mkdir()
    (folder / "package" / "inner.py").write_text("class holder:\n    def app(): ...\n")
    assert getattr(load(folder, "package.inner:holder.app"), "__qualname__", "") == "holder.app"


def test_factory_is_called(folder: Path) -> None:
    (folder / "three.py").write_text("def make():\n    return inner\ndef inner(): ...\n")
    assert getattr(load(folder, "three:make", factory=True), "__name__", "") == "inner"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("missing:app", "application 'missing:app': no module named 'missing' in "),
        ("missing.inner:app", "application 'missing.inner:app': no module named 'missing' in "),
        ("four.inner:app", "application 'four.inner:app': no module named 'four.inner' in "),
        ("four:missing", "module 'four' has no attribute 'missing'; name it as MODULE:ATTRIBUTE"),
        ("four:app.missing", "module 'four' has no attribute 'missing'; name it as MODULE:ATTRIBUTE"),
        ("four:value", "application 'four:value': 'int' cannot be called; name an ASGI application"),
        (":app", "application ':app': '' is no module's name; use MODULE:ATTRIBUTE"),
    ],
)
@pytest.mark.parametrize("factory", [False, True])
def test_name_that_leads_nowhere_is_a_load_error(folder: Path, target: str, message: str, factory: bool) -> None:
    (folder / "four.py").write_text("value = 1\ndef app(): return app\n")
    with pytest.raises(LoadError) as refusal:
        load(folder, target, factory=factory)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("source", ["import missing_of_the_application", "from os import missing", "raise ImportError"])
def test_import_that_fails_inside_the_application_comes_through(folder: Path, source: str) -> None:
    (folder / "five.py").write_text(source + "\n")
    with pytest.raises(ImportError):
        load(folder, "five:app")


def test_module_not_found_without_a_name_comes_through(folder: Path) -> None:
    (folder / "six.py").write_text("raise ModuleNotFoundError('by hand')\n")
    with pytest.raises(ModuleNotFoundError, match="by hand"):
        load(folder, "six:app")


def traceback_of(folder: Path, source: str) -> TracebackType | None:
    (folder / "seven.py").write_text(source)
    with pytest.raises((KeyError, SyntaxError)) as failure:
        load(folder, "seven:app")
    trace: TracebackType | None = failure.tb
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next  # this test's frames stand for nothing in a worker
    return application_traceback(trace)


def test_traceback_begins_with_the_application(folder: Path) -> None:
    trace = traceback_of(folder, "def inner():\n    raise KeyError\ninner()\n")
    assert trace is not None
    assert Path(trace.tb_frame.f_code.co_filename).name == "seven.py"
    assert trace.tb_next is not None


def test_traceback_without_the_application_is_none(folder: Path) -> None:
    assert application_traceback(None) is None
    assert traceback_of(folder, "def app(:\n") is None
