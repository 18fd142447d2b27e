"""The keywords of `uvicorn.run` and `uvicorn.Config` as options: what is spelled, or meant, in another way."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from edge.errors import ConfigError

logger = logging.getLogger("edge.server")

# Several of what one flag names; Python's names are in the plural.
_PLURALS = {"reload_dirs": "reload_dir", "reload_includes": "reload_include", "reload_excludes": "reload_exclude"}
# What None switches off there; here it is the default.
_OFF_BY_NONE = ("ws_ping_interval", "ws_ping_timeout")
_CLIENT_CERTIFICATES = {1: "optional", 2: "require"}
# What has no counterpart: accepted with the value that changes nothing, else the message says what to do.
_WITHOUT_COUNTERPART: dict[str, tuple[tuple[object, ...], str]] = {
    "timeout_notify": ((30,), "only with callback_notify; run a task of your own"),
    "callback_notify": ((None,), "run a task of your own beside the server"),
    "reset_contextvars": ((False, True), ""),
    "ssl_context_factory": ((None,), "contexts are made here, for reload; use ssl_certfile and ssl_keyfile"),
}


def options_of_keywords(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that the keywords mean. Names that nobody knows stay as they are: edge.config refuses them.

    Raises ConfigError if one has no counterpart here, and its value asks for something.
    """
    options: dict[str, Any] = {}
    for name, value in _clients(keywords).items():
        if name in _WITHOUT_COUNTERPART:
            _refuse_unless_idle(name, value)
            continue
        key = _PLURALS.get(name, name)
        if key in options:
            raise ConfigError(f"{name}: {key} is given too; leave out one")
        options[key] = _meant(name, value)
    return options


def _clients(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of certificates of clients: by the numbers of `ssl`, CERT_NONE, CERT_OPTIONAL and CERT_REQUIRED.

    Roots without a wish to see certificates mean nothing there; here they would require one.
    """
    rest = {name: value for name, value in keywords.items() if name not in ("ssl_ca_certs", "ssl_cert_reqs")}
    roots, wish = keywords.get("ssl_ca_certs"), int(keywords.get("ssl_cert_reqs") or 0)
    if not wish:
        return rest
    if wish not in _CLIENT_CERTIFICATES or not roots:
        raise ConfigError(f"ssl_cert_reqs={wish!r}: not with ssl_ca_certs={roots!r}; use 1 or 2, and a file of roots")
    return {**rest, "client_ca": roots, "client_auth": _CLIENT_CERTIFICATES[wish]}


def options_of_processes(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options for a pool; with `reload` there is one worker, as with uvicorn, which a line of the log says.

    Raises ConfigError, see `options_of_keywords`.
    """
    options = options_of_keywords(keywords)
    if options.get("reload") and wants_several({"workers": options.get("workers")}):
        logger.warning('"workers" flag is ignored when reloading is enabled.')
        del options["workers"]
    if isinstance(options.get("log_config"), dict):
        raise ConfigError("log_config: workers have processes of their own, and cannot get a dictionary; name a file")
    return options


def wants_several(options: Mapping[str, Any]) -> bool:
    """Tell whether processes are wanted that import the application: to reload it, or more than one."""
    return bool(options.get("reload")) or str(options.get("workers") or 1) not in ("1", "auto")


def _meant(name: str, value: object) -> object:
    if name in _OFF_BY_NONE and value is None:
        return 0
    if name == "log_level" and type(value) is int:
        return logging.getLevelName(value).lower() if value > logging.NOTSET else "trace"
    if name == "http2" and isinstance(value, bool):
        return "auto" if value else "off"
    return value


def _refuse_unless_idle(name: str, value: object) -> None:
    idle, advice = _WITHOUT_COUNTERPART[name]
    if value not in idle:
        raise ConfigError(f"{name}={value!r}: {advice}")
