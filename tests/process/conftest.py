"""Fixtures of the tests with real processes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.raw_upstream import RawUpstream, raw_upstream
from tests.process.server import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority, with a certificate for localhost; it is one for the whole run."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for the names of Unix sockets, which have 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="edge-test-") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def upstream() -> Iterator[RawUpstream]:
    """A server behind the edge that keeps what it gets, byte by byte."""
    with raw_upstream() as upstream:
        yield upstream
