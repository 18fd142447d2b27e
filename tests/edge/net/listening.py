"""What the tests of listeners share."""

from collections.abc import Callable

import pytest

from edge.config_listen import ListenSettings
from edge.errors import ConfigError
from edge.net.address import Address
from edge.net.listener import Listener, open_listeners

Open = Callable[..., tuple[list[Listener], list[str]]]


def refusal(*binds: Address) -> str:
    with pytest.raises(ConfigError) as caught:
        open_listeners(ListenSettings(binds), has_certificate=False, dev=False)
    return str(caught.value)
