"""uvicorn's keywords as options."""

from __future__ import annotations

import inspect
import logging
import ssl
from typing import Any

import pytest

from edge.config import build_settings
from edge.errors import ConfigError
from edge.keywords import options_of_keywords, options_of_processes, wants_several

# The keywords of uvicorn.Config 0.54 with their defaults, but for `app` and `log_config`.
UVICORN: dict[str, Any] = {
    "host": "127.0.0.1", "port": 8000, "uds": None, "fd": None, "loop": "auto", "http": "auto", "http2": False,
    "ws": "auto", "ws_max_size": 16777216, "ws_max_queue": 32, "ws_ping_interval": 20.0, "ws_ping_timeout": 20.0,
    "ws_per_message_deflate": True, "lifespan": "auto", "env_file": None, "log_level": None, "access_log": True,
    "use_colors": None, "interface": "auto", "reload": False, "reload_dirs": None, "reload_delay": 0.25,
    "reload_includes": None, "reload_excludes": None, "workers": None, "proxy_headers": True, "server_header": True,
    "date_header": True, "forwarded_allow_ips": None, "root_path": "", "limit_concurrency": None,
    "limit_max_requests": None, "limit_max_requests_jitter": 0, "backlog": 2048, "timeout_keep_alive": 5,
    "timeout_notify": 30, "timeout_graceful_shutdown": None, "timeout_worker_healthcheck": 5, "callback_notify": None,
    "ssl_keyfile": None, "ssl_certfile": None, "ssl_keyfile_password": None, "ssl_version": 17, "ssl_cert_reqs": 0,
    "ssl_ca_certs": None, "ssl_ciphers": None, "ssl_context_factory": None, "headers": None, "factory": False,
    "h11_max_incomplete_event_size": None, "reset_contextvars": False,
}  # fmt: skip


def test_every_keyword_of_uvicorn_is_understood() -> None:
    settings = build_settings({"app": "shop:app", **options_of_keywords(UVICORN)})
    assert (settings.listen.host, settings.listen.port) == ("127.0.0.1", 8000)


def test_list_of_keywords_is_that_of_the_installed_uvicorn() -> None:
    uvicorn = pytest.importorskip("uvicorn", reason="needs uvicorn")
    known = {*UVICORN, "self", "app", "log_config"}
    assert set(inspect.signature(uvicorn.Config.__init__).parameters) <= known


@pytest.mark.parametrize(
    ("keywords", "options"),
    [
        ({"reload_dirs": ["a"], "reload_includes": "*.html"}, {"reload_dir": ["a"], "reload_include": "*.html"}),
        ({"ws_ping_interval": None, "ws_ping_timeout": None}, {"ws_ping_interval": 0, "ws_ping_timeout": 0}),
        ({"log_level": logging.WARNING}, {"log_level": "warning"}),
        ({"log_level": 0}, {"log_level": "trace"}),
        ({"log_level": "Debug"}, {"log_level": "Debug"}),
        ({"http2": True}, {"http2": "auto"}),
        ({"http2": False}, {"http2": "off"}),
        ({"http2": "on"}, {"http2": "on"}),
        ({"callback_notify": None, "reset_contextvars": True}, {}),
        ({"no_such_thing": 1}, {"no_such_thing": 1}),
        ({"ssl_ca_certs": "ca.pem", "ssl_cert_reqs": 2}, {"client_ca": "ca.pem", "client_auth": "require"}),
        (
            {"ssl_ca_certs": "ca.pem", "ssl_cert_reqs": ssl.CERT_OPTIONAL},
            {"client_ca": "ca.pem", "client_auth": "optional"},
        ),
        ({"ssl_ca_certs": "ca.pem", "ssl_cert_reqs": 0, "port": 1}, {"port": 1}),
    ],
)
def test_keyword_is_an_option(keywords: dict[str, Any], options: dict[str, Any]) -> None:
    assert options_of_keywords(keywords) == options


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"callback_notify": print}, f"callback_notify={print!r}: run a task of your own beside the server"),
        (
            {"ssl_context_factory": 1},
            "ssl_context_factory=1: contexts are made here, for reload; use ssl_certfile and ssl_keyfile",
        ),
        ({"ssl_cert_reqs": 2}, "ssl_cert_reqs=2: not with ssl_ca_certs=None; use 1 or 2, and a file of roots"),
        (
            {"ssl_cert_reqs": 3, "ssl_ca_certs": "a"},
            "ssl_cert_reqs=3: not with ssl_ca_certs='a'; use 1 or 2, and a file of roots",
        ),
        ({"reload_dir": "a", "reload_dirs": "b"}, "reload_dirs: reload_dir is given too; leave out one"),
    ],
)
def test_keyword_without_a_counterpart_is_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        options_of_keywords(keywords)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("options", "several"),
    [
        ({}, False),
        ({"workers": 1}, False),
        ({"workers": None, "reload": False}, False),
        ({"workers": "auto"}, False),
        ({"workers": 2}, True),
        ({"workers": "4"}, True),
        ({"reload": True}, True),
    ],
)
def test_processes_are_wanted_for_reload_and_for_several_workers(options: dict[str, Any], several: bool) -> None:
    assert wants_several(options) is several


def test_reload_wins_over_workers_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("edge").propagate = True
    assert options_of_processes({"reload": True, "workers": 4}) == {"reload": True}
    assert [record.message for record in caplog.records] == ['"workers" flag is ignored when reloading is enabled.']


@pytest.mark.parametrize("keywords", [{"reload": True, "workers": 1}, {"workers": 4, "log_config": "logging.yaml"}])
def test_options_of_processes_stay(keywords: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    assert options_of_processes(keywords) == keywords
    assert caplog.records == []


def test_logging_of_this_process_is_not_that_of_the_workers() -> None:
    with pytest.raises(ConfigError, match="log_config: workers have processes of their own"):
        options_of_processes({"log_config": {"version": 1}})
