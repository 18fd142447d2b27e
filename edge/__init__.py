"""A TLS edge and a worker pool around an ASGI application."""

__version__ = "0.1.0"
