"""From a name to an application."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from edge_backend.errors import LoadError
from edge_backend.loader import application_traceback, cause_of, load_application, make_application


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for modules; what is imported from it is forgotten at the end, and sys.path restored."""
    before, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def load(folder: Path, target: str, *, factory: bool = False) -> Any:
    loaded = load_application(target, app_dir=str(folder), factory=factory)
    assert loaded.remark == ""
    return loaded.app


def test_attribute_of_a_module_is_loaded(folder: Path) -> None:
    (folder / "one.py").write_text("def app(scope): ...\n")
    assert getattr(load(folder, "one:app"), "__name__", "") == "app"
    assert sys.path[0] == str(folder)


def test_attribute_is_app_where_none_is_named(folder: Path) -> None:
    (folder / "two.py").write_text("def app(scope): ...\n")
    assert getattr(load(folder, "two"), "__name__", "") == "app"


def test_dotted_attribute_of_a_submodule_is_loaded(folder: Path) -> None:
    (folder / "package").mkdir()
    (folder / "package" / "inner.py").write_text("class holder:\n    def app(scope): ...\n")
    assert getattr(load(folder, "package.inner:holder.app"), "__qualname__", "") == "holder.app"


@pytest.mark.parametrize("name", ["app", "application", "asgi", "wsgi"])
def test_module_alone_means_what_applications_are_called(folder: Path, name: str) -> None:
    (folder / "alone.py").write_text(f"asgi = 'no application'\ndef {name}(scope): ...\n")
    assert load(folder, "alone").__name__ == name


def test_folder_that_is_first_already_is_not_added_again(folder: Path) -> None:
    (folder / "one.py").write_text("def app(scope): ...\n")
    load(folder, "one:app")
    load(folder, "one:app")
    assert sys.path.count(str(folder)) == 1


def test_without_a_folder_the_path_stays_as_it_is(folder: Path) -> None:
    (folder / "one.py").write_text("def app(scope): ...\n")
    sys.path.append(str(folder))
    before = list(sys.path)
    assert callable(load_application("one:app", app_dir="", factory=False).app)
    assert sys.path == before


FACTORIES = """
def inner(scope): ...
def make(name="x", n=0):
    made = lambda scope: (name, n)
    return made
def needs(name): return inner
def number(): return 1
async def later(): return inner
class Holder:
    def make(self): return inner
holder = Holder()
"""


@pytest.mark.parametrize(
    ("target", "factory", "made"),
    [
        ("three:make", True, ("x", 0)),
        ("three:make()", False, ("x", 0)),
        ("three:make()", True, ("x", 0)),
        ("three:make('y', n=2)", False, ("y", 2)),
        ("three:needs('y')", True, None),
        ("three:holder.make()", False, None),
    ],
)
def test_factory_is_called(folder: Path, target: str, factory: bool, made: object) -> None:
    (folder / "three.py").write_text(FACTORIES)
    assert load(folder, target, factory=factory)({}) == made


@pytest.mark.parametrize("name", ["make", "holder.make", "Holder"])
def test_factory_that_was_not_said_to_be_one_is_called_with_a_remark(folder: Path, name: str) -> None:
    (folder / "three.py").write_text(
        FACTORIES.replace("def make(self)", "def __call__(self, scope): ...\n    def make(self)")
    )
    loaded = load_application(f"three:{name}", app_dir=str(folder), factory=False)
    assert loaded.remark == (
        f"application 'three:{name}': it takes no arguments, so it is called to get the application; "
        "say so with --factory"
    )
    loaded.app({})


async def takes_nothing() -> None: ...


@pytest.mark.parametrize("app", [lambda *a: None, lambda scope, **k: None, takes_nothing, type, dict])
def test_what_could_take_a_request_is_no_factory(app: Any) -> None:
    loaded = make_application(app, "application", factory=False)
    assert (loaded.app, loaded.remark) == (app, "")


def test_factory_without_a_signature_is_called() -> None:
    with pytest.raises(LoadError, match="the factory returned 'dict', which cannot be called"):
        make_application(dict, "application", factory=True)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "three:needs",
            "the factory cannot be called so: missing a required argument: 'name'; use MODULE:create_app(...)",
        ),
        (
            "three:needs(1, 2)",
            "the factory cannot be called so: too many positional arguments; use MODULE:create_app(...)",
        ),
        ("three:number", "the factory returned 'int', which cannot be called"),
        ("three:later", "the factory is asynchronous; use one that returns the application"),
    ],
)
def test_factory_that_makes_nothing_is_a_load_error(folder: Path, target: str, message: str) -> None:
    (folder / "three.py").write_text(FACTORIES)
    with pytest.raises(LoadError) as refusal:
        load(folder, target, factory=True)
    assert str(refusal.value) == f"application {target!r}: {message}"


def test_type_error_inside_a_factory_comes_through(folder: Path) -> None:
    (folder / "three.py").write_text("def make(): return 1 + 'x'\n")
    with pytest.raises(TypeError, match="unsupported operand"):
        load(folder, "three:make", factory=True)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("missing:app", "application 'missing:app': no module named 'missing' in "),
        ("missing.inner:app", "application 'missing.inner:app': no module named 'missing' in "),
        ("four.inner:app", "application 'four.inner:app': no module named 'four.inner' in "),
        ("four:missing", "module 'four' has no attribute 'missing'; name it as MODULE:ATTRIBUTE"),
        ("four:site.missing", "module 'four' has no attribute 'missing'; name it as MODULE:ATTRIBUTE"),
        ("four:sites", "module 'four' has no attribute 'sites'; did you mean 'site'"),
        ("four:value", "application 'four:value': 'int' cannot be called; name an ASGI or WSGI application"),
        ("four", "application 'four': none of app, application, asgi, wsgi can be called there; use MODULE:ATTR"),
        (":app", "application ':app': not an import path; use MODULE:ATTR, such as app:app"),
    ],
)
@pytest.mark.parametrize("factory", [False, True])
def test_name_that_leads_nowhere_is_a_load_error(folder: Path, target: str, message: str, factory: bool) -> None:
    (folder / "four.py").write_text("value = 1\ndef site(scope): return site\n")
    with pytest.raises(LoadError) as refusal:
        load(folder, target, factory=factory)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("module", "origin"), [("queue", "queue.py"), ("sys", "the interpreter")])
@pytest.mark.parametrize("attribute", ["", ":app"])
def test_own_file_that_is_hidden_by_another_module_is_said(
    folder: Path, module: str, origin: str, attribute: str
) -> None:
    own = folder / f"{module}.py"
    own.write_text("def app(scope): ...\n")
    with pytest.raises(LoadError) as refusal:
        load(folder, module + attribute)
    assert f"{origin}: {own} is hidden by it, rename that)" in str(refusal.value)


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


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RuntimeError("no\ndatabase"), "RuntimeError: no"),
        (ImportError("cannot import name 'x'"), "ImportError: cannot import name 'x'"),
        (ModuleNotFoundError("No module named"), "ModuleNotFoundError: No module named"),
        (
            ModuleNotFoundError("No module named 'shop'", name="shop"),
            f"ModuleNotFoundError: No module named 'shop'; install it for {sys.executable}, "
            "or say where it is with --pythonpath",
        ),
    ],
)
def test_cause_is_one_line_with_what_helps(error: BaseException, cause: str) -> None:
    assert cause_of(error) == cause
