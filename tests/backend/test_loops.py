import asyncio
import sys
from pathlib import Path

import pytest
import uvloop

from edge_backend.errors import LoadError
from edge_backend.loops import loop_factory


@pytest.fixture(autouse=True)
def path_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize(
    ("name", "factory"),
    [("auto", uvloop.new_event_loop), ("uvloop", uvloop.new_event_loop), ("asyncio", asyncio.new_event_loop)],
)
def test_name_is_its_loop(name: str, factory: object) -> None:
    assert loop_factory(name, "") is factory


def test_without_uvloop_auto_is_asyncio_and_uvloop_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory("auto", "") is asyncio.new_event_loop
    with pytest.raises(LoadError, match="--loop uvloop: it is not installed here; use --loop asyncio"):
        loop_factory("uvloop", "")


def test_loop_of_the_user_is_imported_from_the_applications_folder(tmp_path: Path) -> None:
    (tmp_path / "own_loops.py").write_text("import asyncio\nmake = asyncio.SelectorEventLoop\nwrong = dict\n")
    loop = loop_factory("own_loops:make", str(tmp_path))()
    loop.close()
    assert type(loop) is asyncio.SelectorEventLoop
    with pytest.raises(LoadError, match="--loop own_loops:wrong: it made a dict, not an event loop"):
        loop_factory("own_loops:wrong", str(tmp_path))()


@pytest.mark.parametrize(("name", "reason"), [("nosuch:make", "No module named 'nosuch'"), ("os:nope", "'nope'")])
def test_loop_that_is_not_there_is_refused(name: str, reason: str) -> None:
    with pytest.raises(LoadError, match=f"--loop {name}: .*{reason}.*; name it as MODULE:ATTRIBUTE"):
        loop_factory(name, "")
