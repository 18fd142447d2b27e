import contextlib
from collections.abc import Iterator

import pytest

from edge.config_listen import ListenSettings
from edge.net.listener import Listener, close_listeners, open_listeners
from tests.edge.net.listening import Open


@pytest.fixture
def opener() -> Iterator[Open]:
    with contextlib.ExitStack() as stack:

        def open_them(
            settings: ListenSettings, *, has_certificate: bool = False, dev: bool = False
        ) -> tuple[list[Listener], list[str]]:
            listeners, remarks = open_listeners(settings, has_certificate=has_certificate, dev=dev)
            stack.callback(close_listeners, listeners)
            return listeners, remarks

        yield open_them
