"""The spellings of other servers: each means one of our options, or is answered with what to type instead."""

import ssl
from pathlib import Path

import pytest

from edge import __version__, cli
from edge.config import build_settings
from edge.config_foreign import ForeignSettings, advice_for
from edge.config_websocket import WebSocketSettings
from edge.errors import ConfigError

APP: dict[str, object] = {"app": "shop:app"}

# (theirs, ours, a value other than the default)
ALIASES = [
    ("working_dir", "app_dir", "/"),
    ("url_path_prefix", "root_path", "/api"),
    ("env_files", "env_file", ".env"),
    ("insecure_bind", "http_bind", ":80"),
    ("ssl_certfile", "cert", "cert.pem"),
    ("certfile", "cert", "cert.pem"),
    ("ssl_certificate", "cert", "cert.pem"),
    ("forwarded_allow_ips", "trusted_proxy", "10.0.0.0/8"),
    ("limit_request_line", "max_request_line", "4096"),
    ("h11_max_incomplete_event_size", "max_header_size", "4096"),
    ("limit_request_fields", "max_headers", "3"),
    ("limit_request_body", "max_body", "4GiB"),
    ("limit_concurrency", "worker_concurrency", "3"),
    ("queue_size", "queue", "3"),
    ("http2_max_concurrent_streams", "http2_max_streams", "3"),
    ("timeout_request_headers", "header_timeout", "3"),
    ("timeout_request_body", "body_idle_timeout", "3"),
    ("timeout_keep_alive", "keepalive_timeout", "3"),
    ("keep_alive", "keepalive_timeout", "3"),
    ("timeout_graceful_shutdown", "drain_timeout", "3"),
    ("graceful_timeout", "drain_timeout", "3"),
    ("timeout_startup", "startup_timeout", "3"),
    ("timeout_worker", "worker_timeout", "3"),
    ("timeout_worker_healthcheck", "worker_timeout", "3"),
    ("timeout_request", "app_timeout", "3"),
    ("limit_max_requests", "max_requests", "3"),
    ("limit_max_requests_jitter", "max_requests_jitter", "3"),
    ("workers_lifetime", "max_worker_lifetime", "60"),
    ("websocket_max_message_size", "ws_max_size", "3"),
    ("websocket_ping_interval", "ws_ping_interval", "3"),
    ("reload_paths", "reload_dir", "/"),
    ("pid_file", "pid", "edge.pid"),
    ("ssl_ciphers", "ciphers", "HIGH"),
    ("ssl_version", "tls_min_version", "tls1.3"),
    ("ssl_protocol_min", "tls_min_version", "tls1.3"),
]


@pytest.mark.parametrize(("alias", "key", "text"), ALIASES, ids=[alias for alias, _, _ in ALIASES])
def test_alias_means_the_same(alias: str, key: str, text: str) -> None:
    expected = build_settings({**APP, key: text})
    assert expected != build_settings(APP)
    assert build_settings({**APP, alias: text}) == expected
    assert build_settings(APP, {f"EDGE_{alias.upper()}": text}) == expected


@pytest.mark.parametrize("authority", ["ssl_ca_certs", "ca_certs", "ssl_ca"])
@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("ssl_cert_reqs", "2", "require"),
        ("ssl_cert_reqs", 1, "optional"),
        ("cert_reqs", ssl.CERT_REQUIRED, "require"),
        ("cert_reqs", "none", "off"),
        ("verify_mode", "CERT_OPTIONAL", "optional"),
        ("verify_mode", "VerifyMode.CERT_REQUIRED", "require"),
        ("client_auth", "required", "require"),
    ],
)
def test_clients_are_asked_in_the_words_of_others(authority: str, name: str, value: object, wanted: str) -> None:
    policy = build_settings({**APP, "cert": "a.pem", authority: "ca.pem", name: value}).site
    assert (policy.client_ca, policy.client_auth) == ("ca.pem", wanted)


@pytest.mark.parametrize("version", ["2", 17, ssl.PROTOCOL_TLS_SERVER, "5", "tls1.2", "TLSv1_2", "tlsv1.2"])
def test_version_that_others_are_given_is_the_least(version: object) -> None:
    assert build_settings({**APP, "ssl_version": version}).tls.least_version == "tls1.2"


@pytest.mark.parametrize("key", ["ssl_keyfile", "keyfile"])
def test_key_has_its_aliases_beside_a_certificate(key: str) -> None:
    pair = {"cert": "a.pem", "key": "a.key"}
    assert build_settings({**APP, "ssl_certfile": "a.pem", key: "a.key"}) == build_settings({**APP, **pair})


def test_sockets_come_from_all_their_options_together() -> None:
    given = {"bind": ":81", "uds": "a.sock", "fd": [3, "4"]}
    expected = build_settings({**APP, "bind": [":81", "unix:a.sock", "fd://3", "fd://4"]})
    assert build_settings({**APP, **given}) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"uds": "a.sock", "port": "1"}, "port: uds is given too; leave out one"),
        ({"fd": "3", "host": "::1"}, "host: fd is given too; leave out one"),
        ({"uds": "a.sock", "bind": "unix:a.sock"}, "cannot listen on unix:a.sock: given twice; leave out one"),
        ({"uds": ""}, "uds='': not a path; use the name of a file or directory"),
        ({"fd": "x"}, "fd='x': not a whole number; use 0 to 9999999"),
        ({"uds_permissions": "rw"}, "uds_permissions='rw': no permissions; use three octal digits, such as 660"),
        ({"uds_permissions": 3.5}, "uds_permissions=3.5: no permissions; use three octal digits, such as 660"),
        ({"uds_owner": "a b"}, "uds_owner='a b': no name of an account; use a name or a number"),
        ({"worker_class": "a b"}, "worker_class='a b': not the name of a class; leave it out"),
        ({"http": "h3"}, "http='h3': unknown; use auto, or leave it out"),
        ({"http": 2}, "http=2: names an implementation here; for versions use --http2 on or --http2 off"),
        ({"loop": "iocp"}, "loop='iocp': uvicorn has dropped it; use asyncio"),
        ({"loop": "zuvloop"}, "loop='zuvloop': use zuvloop:new_event_loop, if it is installed"),
        ({"loop": "uv-loop"}, "loop='uv-loop': unknown; use auto, asyncio, uvloop or MODULE:ATTR"),
        ({"loop": "a:b:c"}, "loop='a:b:c': unknown; use auto, asyncio, uvloop or MODULE:ATTR"),
        ({"env": "SECRET"}, "env='SECRET': not an assignment; use NAME=VALUE"),
        ({"env": "a-b=secret"}, "env='a-b': not an assignment; use NAME=VALUE"),
        ({"pythonpath": "/,/no/such"}, "pythonpath='/no/such': no such directory; use one that exists"),
        ({"header": "X-A"}, "header='X-A': not a field; use NAME:VALUE, such as 'X-Frame-Options: DENY'"),
        ({"header": "X A: b"}, "header='X A: b': not a field; use NAME:VALUE, such as 'X-Frame-Options: DENY'"),
        ({"header": "A: b\r\nC: d"}, "header='A: b\\r\\nC: d': not a field; use NAME:VALUE, such as"),
        ({"header": [("X-A", "ä")]}, "header=('X-A', 'ä'): not a field; use NAME:VALUE, such as"),
        (
            {"header": "Content-Length: 3"},
            "header='Content-Length: 3': content-length is the server's own; leave it out",
        ),
        (
            {"access_log_format": ""},
            "access_log_format='': not a format; use json, console, or text with atoms such as",
        ),
        ({"access_log_format": "%h"}, "access_log_format='%h': '%h' is no atom; use %(h)s and its like, or %%"),
        ({"access_log_format": "%(x)s"}, "access_log_format='%(x)s': %(x)s: unknown; use one of B D H L M R S "),
        (
            {"access_log_format": "%({A}e)s"},
            "access_log_format='%({A}e)s': %({A}e)s: there is no WSGI environ here; use",
        ),
        ({"access_log_format": "%({A}x)s"}, "access_log_format='%({A}x)s': %({A}x)s: unknown; use {NAME}i for a field"),
        ({"forwarded_hops": 33}, "forwarded_hops=33: out of range; use 0 to 32"),
        ({"ciphers": "NOSUCH"}, "ciphers='NOSUCH': OpenSSL knows none of these ciphers; use names such as ECDHE-RSA-"),
        ({"ssl_version": 3}, "ssl_version=3: TLS 1.0 and 1.1 are broken (RFC 8996); use tls1.2 or tls1.3"),
        ({"ssl_version": "TLSv1_1"}, "ssl_version='TLSv1_1': TLS 1.0 and 1.1 are broken (RFC 8996); use tls1.2 or"),
        ({"ssl_version": "9"}, "ssl_version='9': unknown; use tls1.2 or tls1.3"),
        ({"ssl_cert_reqs": "3"}, "ssl_cert_reqs='3': unknown; use off, optional or require"),
        ({"daemon": True}, f"daemon: {advice_for('--daemon')}"),
        ({"log_syslog_to": "udp://logs"}, f"log_syslog_to: {advice_for('--log-syslog')}"),
        ({"wrkers": 1}, "wrkers: unknown option; did you mean workers"),
    ],
)
def test_wrong_value_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_settings({**APP, **values})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("text", ["auto", "asyncio", "uvloop", "shop.loops:make", "shop:Loops.make"])
def test_loop_is_a_word_or_an_import_path(text: str) -> None:
    assert build_settings({**APP, "loop": text}).application.loop == text


def test_of_two_assignments_the_later_counts() -> None:
    assert build_settings({**APP, "env": ["A=1", "B=", "A=x=y"]}).application.variables == (("A", "x=y"), ("B", ""))


def test_directories_are_absolute_and_may_come_in_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr")
    path = build_settings({**APP, "pythonpath": ["lib,bin", Path("/usr/lib")]}).application.python_path
    assert path == ("/usr/lib", "/usr/bin")


@pytest.mark.parametrize(("mode", "number"), [("660", 0o660), ("0o600", 0o600), ("0666", 0o666), (0o606, 0o606)])
def test_permissions_are_octal(mode: object, number: int) -> None:
    assert build_settings({**APP, "uds_permissions": mode}).listen.unix_mode == number


@pytest.mark.parametrize(
    ("settings", "remarks"),
    [
        (ForeignSettings(), []),
        (ForeignSettings(http="httptools"), []),
        (ForeignSettings(http="h11"), ["--http h11: ignored, HTTP/1.1 is read in one way only, with every check"]),
        (ForeignSettings("gthread"), ["--worker-class gthread: ignored, one kind of worker runs every application"]),
    ],
)
def test_what_is_ignored_is_said(settings: ForeignSettings, remarks: list[str]) -> None:
    assert settings.remarks() == remarks


def test_websockets_are_spoken_in_one_way_only() -> None:
    assert WebSocketSettings(implementation="websockets").remarks() == []
    expected = ["--ws wsproto: ignored, WebSockets are spoken in one way only"]
    assert WebSocketSettings(implementation="wsproto").remarks() == expected


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["-t", "30"], "-t: gunicorn's and daphne's -t mean different things; use --worker-timeout for a worker"),
        (["-D"], "-D: a server that leaves its terminal cannot say why it failed; use systemd, a container, or nohup"),
        (["--daemon"], "--daemon: a server that leaves its terminal cannot say why it failed; use systemd"),
        (["--preload"], "--preload: workers are started one by one and share nothing; leave it out"),
        (["--workers-max-rss", "512"], "--workers-max-rss: granian counts MiB; use --max-worker-rss with a unit"),
        (["--quic-bind", ":443"], "--quic-bind: HTTP/3 is not served; leave it out"),
        (["--http-versions=1,2"], "--http-versions: use --http2 on or --http2 off"),
        (["--limit-request-field_size", "9"], "--limit-request-field_size: the limit is one for all fields together"),
        (
            ["--dirty-workers", "2"],
            "--dirty-workers: a queue of tasks with processes of its own does that; leave it out",
        ),
        (["--statsd-prefix", "shop"], "--statsd-prefix: use --metrics for Prometheus"),
        (["-m", "007"], "-m: use --uds-permissions for Unix sockets; for what the application writes, umask in the"),
    ],
)
def test_flag_of_another_server_is_answered_with_what_to_type(
    arguments: list[str], advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", *arguments, "shop:app"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"edge: {advice}")
    assert err.count("\n") == 1


GRANIAN = """--blocking-threads-idle-timeout --http1-buffer-size --http1-header-read-timeout --http1-pipeline-flush
--http2-adaptive-window --http2-initial-connection-window-size --http2-initial-stream-window-size
--http2-keep-alive-interval --http2-keep-alive-timeout --http2-max-headers-size --http2-max-send-buffer-size --log
--metrics-address --metrics-port --metrics-scrape-interval --no-factory --no-http1-keep-alive
--no-http1-pipeline-flush --no-http2-adaptive-window --no-log --no-metrics --no-reload
--no-reload-ignore-worker-failure --no-respawn-failed-workers --no-ssl-client-verify --no-ws --process-name
--reload-ignore-dirs --reload-ignore-paths --reload-ignore-patterns --reload-ignore-worker-failure --reload-tick
--respawn-interval --rss-sample-interval --rss-samples --runtime-blocking-threads --runtime-mode --ssl-client-verify
--ssl-crl --static-path-dir-to-file --static-path-expires --static-path-mount --static-path-route --task-impl"""
DAPHNE = """--application-close-timeout --log-fmt --no-server-name --ping-interval --ping-timeout --proxy-headers-host
--proxy-headers-port --unix-socket --verbosity --websocket-max-frame-size --websocket_connect_timeout
--websocket_timeout -v"""


@pytest.mark.parametrize("flag", [*GRANIAN.split(), *DAPHNE.split()])
def test_flag_that_only_one_other_server_has_is_answered(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", flag]) == 2
    assert capsys.readouterr().err == f"edge: {flag}: {advice_for(flag)}\n"
    assert advice_for(flag)


def test_no_option_of_ours_is_answered_with_another() -> None:
    ours = {flag for item in cli.serve_command.params for flag in (*item.opts, *item.secondary_opts)}
    assert not {flag for flag in ours if advice_for(flag)}


def test_serve_has_a_version_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", "--version"]) == 0
    assert capsys.readouterr().out == f"edge {__version__}\n"
