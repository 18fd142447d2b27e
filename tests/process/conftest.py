"""Fixtures of the tests with real processes."""

from __future__ import annotations

import pytest

from tests.process.server import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority, with a certificate for localhost; it is one for the whole run."""
    return Authority(tmp_path_factory.mktemp("authority"))
