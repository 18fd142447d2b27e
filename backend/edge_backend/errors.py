"""What can go wrong between a worker, its application and its edges."""

from __future__ import annotations


class LoadError(Exception):
    """The application's name leads nowhere: the command is wrong, not the application."""


class StartupError(Exception):
    """The application is there and refuses to start."""


class ApplicationError(RuntimeError):
    """The application broke the rules of ASGI; raised at the call that did."""


class ClientDisconnected(OSError):
    """The client has gone; raised by `send()` (ASGI HTTP specification 2.4), and no fault of the application."""
