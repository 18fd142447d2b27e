"""What kinds of failure there are, as applications and servers sort them."""

from __future__ import annotations

from edge_backend.errors import ApplicationError, ClientDisconnected, LoadError, StartupError


def test_disconnect_is_an_oserror_as_asgi_wants() -> None:
    assert issubclass(ClientDisconnected, OSError)


def test_broken_rule_is_a_runtime_error_and_no_oserror() -> None:
    assert issubclass(ApplicationError, RuntimeError)
    assert not issubclass(ApplicationError, OSError)


def test_wrong_name_and_refused_start_are_told_apart() -> None:
    assert not issubclass(LoadError, StartupError)
    assert not issubclass(StartupError, LoadError)
