"""What other servers are told and this one is not: accepted where nothing is lost by it, and otherwise answered with
what to type instead.
"""

import re
from dataclasses import dataclass

from edge.errors import ConfigError
from edge.options import Kind, setting

# By flag: what to type instead, or why there is nothing to. Long flags stand for their names in Python, too.
ADVICE = {
    "-t": "gunicorn's and daphne's -t mean different things; use --worker-timeout for a worker that hangs, "
    "--app-timeout for a request",
    "--timeout": "means a worker that hangs to gunicorn; use --worker-timeout for that, --app-timeout for a request",
    "--http-timeout": "use --app-timeout",
    "--read-timeout": "use --body-idle-timeout",
    "-D": "a server that leaves its terminal cannot say why it failed; use systemd, a container, or nohup ... &",
    "--daemon": "a server that leaves its terminal cannot say why it failed; use systemd, a container, or nohup ... &",
    "--preload": "workers are started one by one and share nothing; leave it out",
    "--reuse-port": "edges share one socket, and the least busy worker gets the next request; leave it out",
    "--sendfile": "leave it out, files are sent as fast without",
    "--no-sendfile": "leave it out, sendfile is not used",
    "--limit-request-field_size": "the limit is one for all fields together; use --max-header-size",
    "--limit-request-field-size": "the limit is one for all fields together; use --max-header-size",
    "--workers-max-rss": "granian counts MiB; use --max-worker-rss with a unit, such as 512MiB",
    "--workers-kill-timeout": "use --drain-timeout",
    "--respawn-failed-workers": "workers that die are always replaced; leave it out",
    "--backpressure": "use --worker-concurrency and --queue",
    "--runtime-threads": "use --edges",
    "--runtime-workers": "use --edges",
    "--blocking-threads": "use --threads",
    "--quic-bind": "HTTP/3 is not served; leave it out",
    "--http-versions": "use --http2 on or --http2 off",
    "--http-protocols": "use --http2 on or --http2 off",
    "--http1-keep-alive": "use --keepalive-timeout 0 to close connections after each request",
    "--access-log-fmt": "granian's atoms are not gunicorn's; use --access-log-format",
    "--access-logformat": "use --access-log-format",
    "--error-logfile": "what the server says goes to standard error; redirect it with 2>FILE, or use --log-config",
    "--log-file": "what the server says goes to standard error; redirect it with 2>FILE, or use --log-config",
    "--umask": "use --uds-permissions for Unix sockets; for what the application writes, umask in the shell before",
    "--name": "processes are told apart by edge status; leave it out",
    "--endpoint": "use --bind",
    "--reset-contextvars": "each request runs in a context of its own anyway; leave it out",
    "--worker-connections": "use --worker-concurrency, which counts requests",
    "--reload-engine": "use --reload; files are watched by the system's own means",
    "--proxy-allow-from": "use --proxy-protocol, with the networks of the proxies",
    "--spew": "use a debugger; leave it out",
    "--check-config": "use edge check",
    "--print-config": "use edge config",
    "--initgroups": "the groups of --user are taken in any case; leave it out",
    "--worker-tmp-dir": "the sign of life is a message, not a file; leave it out",
    "-m": "use --uds-permissions for Unix sockets; for what the application writes, umask in the shell before",
    "-n": "processes are told apart by edge status; leave it out",
    "-R": "what the application prints stays where it prints it; leave it out",
    "--enable-stdio-inheritance": "what the application prints stays where it prints it; leave it out",
    "--capture-output": "what the application prints stays where it prints it; leave it out",
    "--disable-redirect-access-to-syslog": "use --access-logfile",
    "--dogstatsd-tags": "use --metrics for Prometheus",
    "--enable-backlog-metric": "use --metrics for Prometheus",
    "--protocol": "HTTP is all that is spoken; leave it out",
    "--uwsgi-allow-from": "the uwsgi protocol is not spoken; leave it out",
    "--suppress-ragged-eofs": "TLS is a layer of our own; leave it out",
    "--do-handshake-on-connect": "TLS is a layer of our own; leave it out",
    "--http2-initial-window-size": "windows are fixed; leave it out",
    "--http2-max-frame-size": "frames have 16384 bytes; leave it out",
    "--http2-max-header-list-size": "use --max-header-size, which counts for HTTP/2 as well",
    "--http2-cleartext": "HTTP/2 is spoken over TLS only; leave it out",
    "--strip-header-spaces": "two readers would disagree about such a request; leave it out",
    "--casefold-http-method": "two readers would disagree about such a request; leave it out",
    "--forwarder-headers": "fields with underscores are dropped; leave it out",
    "--header-map": "fields with underscores are dropped; leave it out",
    "--log-config-json": "use --log-config",
    "--logger-class": "use --log-config",
    "--asgi-loop": "use --loop",
    "--asgi-lifespan": "use --lifespan",
    "--asgi-disconnect-grace-period": "use --disconnect-grace",
    "--http-parser": "HTTP/1.1 is read in one way only; leave it out",
    "--no-control-socket": "edge status needs it, and only this user can open it; leave it out",
    "--error-log": "what the server says goes to standard error; redirect it with 2>FILE, or use --log-config",
    "--debug": "use --log-level debug",
    # granian.
    "--http1-buffer-size": "use --max-header-size",
    "--http1-header-read-timeout": "granian counts milliseconds; use --header-timeout with a unit, such as 30s",
    "--http2-max-headers-size": "use --max-header-size, which counts for HTTP/2 as well",
    "--no-http1-keep-alive": "use --keepalive-timeout 0",
    "--log": "use --log-level",
    "--no-log": "use --log-level critical",
    "--no-metrics": "there are none without --metrics; leave it out",
    "--no-reload": "code is not watched without --reload; leave it out",
    "--no-factory": "ATTR is called only with --factory; leave it out",
    "--no-ws": "use --ws none",
    "--no-ssl-client-verify": "use --client-auth off",
    "--ssl-client-verify": "use --client-auth require, with --client-ca",
    "--ssl-crl": "use --client-crl",
    "--process-name": "processes are told apart by edge status; leave it out",
    "--respawn-interval": "a new worker is ready before the old one goes; leave it out",
    "--reload-tick": "granian counts milliseconds; use --reload-delay with a unit, such as 50ms",
    "--task-impl": "tasks are asyncio's; leave it out",
    "--runtime-mode": "leave it out",
    "--runtime-blocking-threads": "use --threads for WSGI applications",
    "--blocking-threads-idle-timeout": "threads of WSGI applications stay; leave it out",
    # daphne.
    "--application-close-timeout": "use --disconnect-grace, and --drain-timeout for the end of the server",
    "--websocket_timeout": "use --ws-ping-timeout",
    "--websocket_connect_timeout": "use --app-timeout",
    "--websocket-max-frame-size": "use --ws-max-size, which is for messages",
    "--ping-interval": "use --ws-ping-interval",
    "--ping-timeout": "use --ws-ping-timeout",
    "--log-fmt": "use --log-format or --log-config",
    "--no-server-name": "use --no-server-header",
    "--proxy-headers-host": "X-Forwarded-For of trusted proxies is what counts; use --trusted-proxy",
    "--proxy-headers-port": "X-Forwarded-For of trusted proxies is what counts; use --trusted-proxy",
    "--unix-socket": "use --uds",
    "--verbosity": "use --log-level",
    "-v": "use --log-level, or edge --version",
}  # fmt: skip

# The same for all flags that begin so.
_FAMILIES = {
    "--http1-pipeline-flush": "leave it out",
    "--no-http1-pipeline-flush": "leave it out",
    "--http2-adaptive-window": "windows are fixed; leave it out",
    "--no-http2-adaptive-window": "windows are fixed; leave it out",
    "--http2-initial-": "windows are fixed; leave it out",
    "--http2-keep-alive-": "use --keepalive-timeout; leave it out",
    "--http2-max-send-": "leave it out",
    "--metrics-": "use --metrics HOST:PORT",
    "--reload-ignore-": "use --reload-exclude",
    "--no-reload-ignore-": "leave it out",
    "--no-respawn-": "workers that die are always replaced; leave it out",
    "--rss-sample": "memory is looked at every two seconds; leave it out",
    "--static-path-": "use --static URL=DIR",
    "--dirty-": "a queue of tasks with processes of its own does that; leave it out",
    "--log-syslog": "use --access-logfile syslog: or syslog:HOST:PORT",
    "--permit-": "two readers would disagree about such a request; leave it out",
    "--statsd-": "use --metrics for Prometheus",
    "--control-socket": "it is in the run directory, and only this user can open it; leave it out",
}

_HTTP = ("auto", "h11", "httptools")


def advice_for(flag: str) -> str:
    """Return what to type instead of another server's flag, or of its name in Python; empty if nobody knows it."""
    if not flag.startswith("-"):
        flag = f"--{flag.replace('_', '-')}"
    family = next((advice for start, advice in _FAMILIES.items() if flag.startswith(start)), "")
    return ADVICE.get(flag, family)


def _worker_class() -> Kind:
    def parse(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch("[A-Za-z0-9_.:]{1,200}", value):
            raise ConfigError(f"{value!r}: not the name of a class; leave it out")
        return value

    return Kind("CLASS", parse)


def _http() -> Kind:
    def parse(value: object) -> str:
        word = str(value).lower()
        if word in ("1", "2", "zttp"):
            raise ConfigError(f"{value!r}: names an implementation here; for versions use --http2 on or --http2 off")
        if word not in _HTTP:
            raise ConfigError(f"{value!r}: unknown; use auto, or leave it out")
        return word

    return Kind("|".join(_HTTP), parse)


@dataclass(frozen=True, slots=True)
class ForeignSettings:
    """What is accepted and changes nothing; a line of the log says so."""

    worker_class: str = setting(
        "", _worker_class(), "--worker-class", "-k", shown="none", help="ignored: one kind of worker runs them all"
    )
    http: str = setting("auto", _http(), "--http", help="ignored: HTTP/1.1 is read in one way only")

    def remarks(self) -> list[str]:
        """Return what to say about what is ignored, one line each."""
        remarks = []
        if self.worker_class:
            remarks.append(f"--worker-class {self.worker_class}: ignored, one kind of worker runs every application")
        if self.http == "h11":
            remarks.append("--http h11: ignored, HTTP/1.1 is read in one way only, with every check")
        return remarks
