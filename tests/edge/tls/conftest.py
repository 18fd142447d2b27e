"""Fixtures of the TLS tests: keys cost time, so they are made once."""

from __future__ import annotations

import pytest

from edge.tls.contexts import MemoryCertificate, TlsServer
from tests.edge.tls.pair import TestAuthority, serve


@pytest.fixture(scope="session")
def authority() -> TestAuthority:
    """An authority that the clients trust."""
    return TestAuthority()


@pytest.fixture(scope="session")
def shop(authority: TestAuthority) -> MemoryCertificate:
    """A certificate for shop.example."""
    return authority.issue("shop.example")


@pytest.fixture
def server(shop: MemoryCertificate) -> TlsServer:
    """A server for shop.example."""
    return serve(shop)
