"""gunicorn's settings, as flags and in files, and what they amount to."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final

from edge.cli_compat.rules import (
    Flag,
    Left,
    Step,
    Takes,
    Translation,
    as_list,
    client_certificates,
    each,
    nothing,
    number,
    refuse,
    same,
    switch,
    whole,
    without,
)
from edge.config_logs import DEFAULT_FORMAT
from edge.errors import ConfigError
from edge.options import LONGEST, show_seconds

_LEAVE_IT = "use systemd, a container, or nohup ... & in place of --daemon: a server that leaves its terminal is silent"
_DEFENCE = "the edge refuses what others could read otherwise (RFC 9112)"
_OWN_SIZES = "HTTP/2's windows and frames have sizes of their own"
_NO_DIRTY = "there is no pool for background work; use a task queue"
_NO_STATSD = "there is no statsd; use --metrics for Prometheus"
_CONTROL = "edge status, reload and stop find the server by themselves"
_NOT_CALLED = "not called; what it does at a worker's start or end belongs into the application's lifespan"
_CONTEXT = "not called; files are named by --cert and --key, several of them by server name"

HOOKS: Final = frozenset(
    (
        *("on_starting", "on_reload", "when_ready", "pre_fork", "post_fork", "post_worker_init", "worker_int"),
        *("worker_abort", "pre_exec", "pre_request", "post_request", "child_exit", "worker_exit", "nworkers_changed"),
        *("on_exit", "ssl_context", "on_dirty_starting", "dirty_post_fork", "dirty_worker_init", "dirty_worker_exit"),
    )
)


# Classes whose place ours takes without a loss; others may have settings in them.
_WORKERS = ("sync", "gthread", "asgi")
_WORKER_PACKAGES = ("gunicorn.workers.", "uvicorn.workers.", "uvicorn_worker.")


def _worker_class(value: Any) -> Step:
    name = value if isinstance(value, str) else f"{value.__module__}.{value.__name__}"
    if name.startswith(_WORKER_PACKAGES) and name.endswith("H11Worker"):
        return ("--http", "h11")
    if name.rpartition(".")[2] in ("gevent", "gevent_wsgi", "gevent_pywsgi", "eventlet", "tornado", "GeventWorker"):
        return Left(f"{name} is not run: WSGI applications run in threads (--threads), ASGI ones in asyncio")
    if name not in _WORKERS and not name.startswith(_WORKER_PACKAGES):
        return Left(f"{name} is not run; what it sets up, such as its CONFIG_KWARGS, has to be given as options")
    return ()


def _timeout(value: Any) -> Step:
    seconds = whole("gunicorn --timeout", value)
    return ("--worker-timeout", str(seconds) if 0 < seconds < LONGEST else show_seconds(LONGEST))


def _reload_engine(value: Any) -> Step:
    return Left("where a file system reports no changes, set WATCHFILES_FORCE_POLLING=1") if value == "poll" else ()


def _umask_of_files(value: Any) -> Step:
    reason = "it is for Unix sockets alone; for the files of the application, umask in the shell before"
    return Left(reason) if _umask(value) else ()


def _request_line(value: Any) -> Step:
    return ("--max-request-line", "1MiB" if str(value) == "0" else str(value))


def _field_size(value: Any) -> Step:
    return Left("the limit is one for all fields together: --max-header-size")


def _protocols(value: Any) -> Step:
    words = value.split(",") if isinstance(value, str) else list(value)
    return ("--http2", "on" if "h2" in [word.strip() for word in words] else "off")


def _cleartext(value: Any) -> Step:
    return Left("HTTP/2 is offered over TLS alone") if str(value) != "off" else ()


def _protocol(value: Any) -> Step:
    if value not in (None, "http"):
        raise ConfigError(f"gunicorn --protocol {value}: only http is spoken; leave it out, and speak HTTP in front")
    return ()


def _extra_files(values: Any) -> Step:
    return tuple(part for value in as_list(values) for part in ("--reload-extra-file", str(value)))


# By the names of settings in files; flags of the same setting stand beside.
FLAGS: Final[Mapping[str, Flag]] = {
    "config": Flag(("-c", "--config"), nothing),
    "wsgi_app": Flag((), nothing),
    "bind": Flag(("-b", "--bind"), nothing, Takes.MANY),
    "backlog": Flag(("--backlog",), same("--backlog")),
    "workers": Flag(("-w", "--workers"), same("--workers")),
    "worker_class": Flag(("-k", "--worker-class"), _worker_class),
    "threads": Flag(("--threads",), nothing),
    "worker_connections": Flag(("--worker-connections",), number("--worker-concurrency")),
    "max_requests": Flag(("--max-requests",), number("--max-requests")),
    "max_requests_jitter": Flag(("--max-requests-jitter",), number("--max-requests-jitter")),
    "timeout": Flag(("-t", "--timeout"), _timeout),
    "graceful_timeout": Flag(("--graceful-timeout",), same("--graceful-timeout")),
    "keepalive": Flag(("--keep-alive",), same("--keep-alive")),
    "limit_request_line": Flag(("--limit-request-line",), _request_line),
    "limit_request_fields": Flag(("--limit-request-fields",), same("--limit-request-fields")),
    "limit_request_field_size": Flag(("--limit-request-field_size",), _field_size),
    "reload": Flag(("--reload",), switch("--reload"), Takes.NOTHING),
    "reload_engine": Flag(("--reload-engine",), _reload_engine),
    "reload_extra_files": Flag(("--reload-extra-file",), _extra_files, Takes.MANY),
    "spew": Flag(("--spew",), without("use python -X importtime or a debugger"), Takes.NOTHING),
    "check_config": Flag(("--check-config",), nothing, Takes.NOTHING),
    "print_config": Flag(("--print-config",), nothing, Takes.NOTHING),
    "preload_app": Flag(("--preload",), without("workers are started one by one and share nothing"), Takes.NOTHING),
    "sendfile": Flag(("--no-sendfile",), nothing, Takes.NOTHING, const=False),
    "reuse_port": Flag(("--reuse-port",), without("edges share one socket, workers need none"), Takes.NOTHING),
    "chdir": Flag(("--chdir",), same("--chdir")),
    "daemon": Flag(("-D", "--daemon"), refuse(_LEAVE_IT), Takes.NOTHING),
    "raw_env": Flag(("-e", "--env"), each("--env"), Takes.MANY),
    "pidfile": Flag(("-p", "--pid"), same("--pid")),
    "worker_tmp_dir": Flag(("--worker-tmp-dir",), without("workers have no heartbeat file")),
    "user": Flag(("-u", "--user"), same("--user")),
    "group": Flag(("-g", "--group"), same("--group")),
    "umask": Flag(("-m", "--umask"), _umask_of_files),
    "initgroups": Flag(("--initgroups",), nothing, Takes.NOTHING),
    "tmp_upload_dir": Flag((), without("TMPDIR is where the application puts uploads")),
    "secure_scheme_headers": Flag((), without("X-Forwarded-Proto of trusted proxies is what counts")),
    "forwarded_allow_ips": Flag(("--forwarded-allow-ips",), nothing),
    "accesslog": Flag(("--access-logfile",), nothing),
    "disable_redirect_access_to_syslog": Flag(("--disable-redirect-access-to-syslog",), nothing, Takes.NOTHING),
    "access_log_format": Flag(("--access-logformat",), nothing),
    "errorlog": Flag(("--error-logfile", "--log-file"), nothing),
    "loglevel": Flag(("--log-level",), same("--log-level")),
    "capture_output": Flag(("--capture-output",), without("redirect it: edge serve ... >FILE 2>&1"), Takes.NOTHING),
    "logger_class": Flag(("--logger-class",), without("loggers are set up by --log-config")),
    "logconfig": Flag(("--log-config",), same("--log-config")),
    "logconfig_dict": Flag((), without("write it into a file as JSON for --log-config")),
    "logconfig_json": Flag(("--log-config-json",), same("--log-config")),
    "syslog_addr": Flag(("--log-syslog-to",), nothing),
    "syslog": Flag(("--log-syslog",), nothing, Takes.NOTHING),
    "syslog_prefix": Flag(("--log-syslog-prefix",), without("lines begin with edge")),
    "syslog_facility": Flag(("--log-syslog-facility",), without("the facility is daemon")),
    "enable_stdio_inheritance": Flag(("-R", "--enable-stdio-inheritance"), nothing, Takes.NOTHING),
    "statsd_host": Flag(("--statsd-host",), without(_NO_STATSD)),
    "dogstatsd_tags": Flag(("--dogstatsd-tags",), without(_NO_STATSD)),
    "statsd_prefix": Flag(("--statsd-prefix",), without(_NO_STATSD)),
    "enable_backlog_metric": Flag(("--enable-backlog-metric",), without(_NO_STATSD), Takes.NOTHING),
    "proc_name": Flag(("-n", "--name"), without("edge status tells servers apart")),
    "default_proc_name": Flag((), nothing),
    "pythonpath": Flag(("--pythonpath",), same("--pythonpath")),
    "paste": Flag(("--paste", "--paster"), same("--paste")),
    **{name: Flag((), without(_CONTEXT if name == "ssl_context" else _NOT_CALLED)) for name in sorted(HOOKS)},
    "proxy_protocol": Flag(("--proxy-protocol",), nothing, Takes.OPTIONAL, const="auto"),
    "proxy_allow_ips": Flag(("--proxy-allow-from",), nothing),
    "protocol": Flag(("--protocol",), _protocol),
    "uwsgi_allow_ips": Flag(("--uwsgi-allow-from",), without("only HTTP is spoken")),
    "keyfile": Flag(("--keyfile",), same("--keyfile")),
    "certfile": Flag(("--certfile",), same("--certfile")),
    "ssl_version": Flag(
        ("--ssl-version",), lambda value: () if str(value) in ("2", "17") else ("--ssl-version", str(value))
    ),
    "cert_reqs": Flag(("--cert-reqs",), nothing),
    "ca_certs": Flag(("--ca-certs",), nothing),
    "suppress_ragged_eofs": Flag(("--suppress-ragged-eofs",), nothing, Takes.NOTHING),
    "do_handshake_on_connect": Flag(("--do-handshake-on-connect",), nothing, Takes.NOTHING),
    "ciphers": Flag(("--ciphers",), same("--ciphers")),
    "http_protocols": Flag(("--http-protocols",), _protocols),
    "http2_cleartext": Flag(("--http2-cleartext",), _cleartext),
    "http2_max_concurrent_streams": Flag(("--http2-max-concurrent-streams",), same("--http2-max-streams")),
    "http2_initial_window_size": Flag(("--http2-initial-window-size",), without(_OWN_SIZES)),
    "http2_max_frame_size": Flag(("--http2-max-frame-size",), without(_OWN_SIZES)),
    "http2_max_header_list_size": Flag(("--http2-max-header-list-size",), same("--max-header-size")),
    "raw_paste_global_conf": Flag(("--paste-global",), each("--paste-global"), Takes.MANY),
    "permit_obsolete_folding": Flag(("--permit-obsolete-folding",), without(_DEFENCE), Takes.NOTHING),
    "strip_header_spaces": Flag(("--strip-header-spaces",), without(_DEFENCE), Takes.NOTHING),
    "permit_unconventional_http_method": Flag(
        ("--permit-unconventional-http-method",), without(_DEFENCE), Takes.NOTHING
    ),
    "permit_unconventional_http_version": Flag(
        ("--permit-unconventional-http-version",), without(_DEFENCE), Takes.NOTHING
    ),
    "casefold_http_method": Flag(("--casefold-http-method",), without("methods stay as they are"), Takes.NOTHING),
    "forwarder_headers": Flag(("--forwarder-headers",), without("no field of a proxy sets SCRIPT_NAME or PATH_INFO")),
    "header_map": Flag(("--header-map",), without("fields with _ in their name are dropped")),
    "asgi_loop": Flag(("--asgi-loop",), same("--loop")),
    "asgi_lifespan": Flag(("--asgi-lifespan",), same("--lifespan")),
    "asgi_disconnect_grace_period": Flag(("--asgi-disconnect-grace-period",), number("--disconnect-grace")),
    "websocket_max_message_size": Flag(("--websocket-max-message-size",), same("--ws-max-size")),
    "http_parser": Flag(("--http-parser",), nothing),
    "root_path": Flag(("--root-path",), same("--root-path")),
    "dirty_apps": Flag(("--dirty-app",), without(_NO_DIRTY), Takes.MANY),
    "dirty_workers": Flag(("--dirty-workers",), without(_NO_DIRTY)),
    "dirty_timeout": Flag(("--dirty-timeout",), without(_NO_DIRTY)),
    "dirty_threads": Flag(("--dirty-threads",), without(_NO_DIRTY)),
    "dirty_graceful_timeout": Flag(("--dirty-graceful-timeout",), without(_NO_DIRTY)),
    "control_socket": Flag(("--control-socket",), without(_CONTROL)),
    "control_socket_mode": Flag(("--control-socket-mode",), without(_CONTROL)),
    "control_socket_disable": Flag(("--no-control-socket",), without(_CONTROL), Takes.NOTHING),
}


def translate(values: Mapping[str, Any], environ: Mapping[str, str]) -> Translation:
    """Return what settings of gunicorn, by their names in files, amount to; `app` is the list of applications.

    Raises ConfigError for what would not be served as it was asked for.
    """
    translation = Translation()
    translation.arguments += _listening(values, environ)
    given = dict(values)
    if not environ.get("WEB_CONCURRENCY"):
        given.setdefault("workers", 1)
    for name, flag in FLAGS.items():
        if given.get(name) is not None:
            translation.add(flag.names[-1] if flag.names else name, flag.rule(given[name]))
    clients = client_certificates("gunicorn --cert-reqs", given.get("cert_reqs"), given.get("ca_certs"))
    translation.add("--ca-certs", clients)
    translation.arguments += [*_threads(given), *_trust(given, environ), *_access_log(given, translation)]
    if given.get("errorlog") not in (None, "-"):
        translation.log_file = os.path.join(str(given.get("chdir", "")), str(given["errorlog"]))
    translation.arguments += _application(given)
    return translation


def _listening(values: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    default = f"0.0.0.0:{environ['PORT']}" if environ.get("PORT") else "127.0.0.1:8000"
    binds = [_address(str(bind)) for bind in as_list(values.get("bind")) or [default]]
    arguments = [part for bind in binds for part in ("--bind", bind)]
    if any(bind.startswith("unix:") for bind in binds):
        arguments += ["--uds-permissions", f"{0o777 & ~_umask(values.get('umask', 0)):03o}"]
    return arguments


def _umask(value: Any) -> int:
    """Return the number: text with a zero in front is octal."""
    if isinstance(value, str) and re.fullmatch("0o?[0-7]+", value):
        return int(value, 8)
    return whole("gunicorn --umask", value)


def _address(text: str) -> str:
    """Return an address as we spell it: gunicorn's port may be left out, and a scheme may stand before it."""
    text = text.removeprefix("tcp://")
    if text.startswith("unix:"):
        return "unix:" + text.removeprefix("unix:").removeprefix("//")
    if text.startswith("fd://"):
        return text
    return text if ":" in text.rpartition("]")[2] else f"{text}:8000"


def _threads(values: Mapping[str, Any]) -> list[str]:
    """A sync worker has one call of a WSGI application at a time, and applications may count on it."""
    name = str(values.get("worker_class", "sync"))
    if name not in ("sync", "gthread") and not values.get("threads"):
        return []
    return ["--threads", str(values.get("threads", 1))]


def _trust(values: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    trusted = values.get("forwarded_allow_ips")
    if trusted:
        arguments = ["--forwarded-allow-ips", str(trusted)]
    else:  # nobody's word counts, where nobody is named
        is_nobody = (environ.get("FORWARDED_ALLOW_IPS") if trusted is None else trusted) == ""
        arguments = ["--no-proxy-headers" if is_nobody else "--proxy-headers"]
    if str(values.get("proxy_protocol", "off")).lower() not in ("off", "false", "none"):
        arguments += ["--proxy-protocol", str(values.get("proxy_allow_ips", "127.0.0.1,::1"))]
    return arguments


def _access_log(values: Mapping[str, Any], translation: Translation) -> list[str]:
    target = values.get("accesslog")
    if values.get("syslog"):
        translation.add("--log-syslog", Left("the access log goes there; redirect standard error for the rest"))
        if not values.get("disable_redirect_access_to_syslog"):
            target = _syslog(str(values.get("syslog_addr", "udp://localhost:514")))
    if not target:
        return ["--no-access-log"]
    line = str(values.get("access_log_format") or DEFAULT_FORMAT)
    return ["--access-logfile", str(target), "--access-log-format", line]


def _syslog(address: str) -> str:
    kind, _, rest = address.partition("://")
    return f"syslog:{rest.partition('#')[0]}" if kind in ("unix", "udp") else "syslog:"


def _application(values: Mapping[str, Any]) -> list[str]:
    apps = [*values.get("app", ()), *as_list(values.get("wsgi_app"))][: max(1, len(values.get("app", ())))]
    if len(apps) > 1:
        raise ConfigError(f"gunicorn {apps[1]}: one application too many; name one")
    return [str(app) for app in apps]
