import dataclasses
import resource
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from edge import config_limits, config_pool
from edge.config import (
    ServeSettings,
    all_options,
    build_settings,
)
from edge.config_app import ApplicationSettings
from edge.config_forward import ForwardSettings
from edge.config_limits import LimitSettings, TimeoutSettings
from edge.config_listen import ListenSettings
from edge.config_logs import LogSettings
from edge.config_static import Mount
from edge.config_tls import CertificateFiles, TlsSettings
from edge.config_websocket import WebSocketSettings
from edge.cpus import allowed_cpus
from edge.errors import ConfigError
from edge.given import Given
from edge.net.address import FdAddress, TcpAddress, UnixAddress

APP: dict[str, object] = {"app": "shop:app"}


def message(values: Mapping[str, object], environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        build_settings(values, environ)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_application_alone_gives_the_documented_defaults() -> None:
    settings = build_settings(APP)
    assert settings == ServeSettings(ApplicationSettings("shop:app"), sites=settings.sites)
    assert settings.application == ApplicationSettings("shop:app", "", False, "", "auto")
    assert settings.listen == ListenSettings((), (), None, None, 2048, 0o660, "", "")
    assert settings.tls == TlsSettings((), False)
    assert settings.forward == ForwardSettings((), False, 0)
    assert settings.timeouts == TimeoutSettings(10, 10, 30, 500, 60, 75, 10, 30, 60)
    assert settings.websocket == WebSocketSettings(2**24, 20, 20, True)
    assert settings.logs == LogSettings("info", True, "auto", "", "", "", None)
    assert settings.pool.workers == allowed_cpus()
    limits = dataclasses.replace(settings.limits, max_connections=1)
    assert limits == LimitSettings(8192, 32_768, 100, 100 * 2**20, 1, 10_000, 100, 1024)


@pytest.mark.parametrize(
    ("open_files", "connections"),
    [(resource.RLIM_INFINITY, 10_000), (1_048_576, 10_000), (1024, 716), (10, 7), (1, 1)],
)
def test_connections_are_bounded_by_the_open_files(open_files: int, connections: int) -> None:
    assert config_limits.connection_limit(open_files) == connections


def test_default_of_connections_is_asked_of_the_system() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert LimitSettings().max_connections == config_limits.connection_limit(soft)


@pytest.mark.parametrize(("cpus", "edges"), [(1, 1), (2, 1), (4, 1), (7, 1), (8, 2), (64, 16)])
def test_there_is_one_edge_up_to_four_cpus_then_one_for_four(cpus: int, edges: int) -> None:
    assert config_pool.edges_for(cpus) == edges


@pytest.mark.parametrize(
    ("said", "spoken", "lifespan"),
    [("auto", "auto", "on"), ("asgi", "asgi3", "on"), ("ASGI2", "asgi2", "on"), ("asginl", "asgi3", "off")],
)
def test_interface_has_the_names_of_other_servers(said: str, spoken: str, lifespan: str) -> None:
    application = build_settings({"app": "shop:app", "interface": said, "lifespan": "on"}).application
    assert (application.spoken, application.wanted_lifespan) == (spoken, lifespan)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("rsgi", "'rsgi': only granian speaks it; serve the application's ASGI form with asgi3"),
        ("fcgi", "'fcgi': unknown; use auto, asgi3, asgi2 or wsgi"),
        (3, "3: unknown; use auto, asgi3, asgi2 or wsgi"),
    ],
)
def test_interface_that_is_not_served_is_refused(said: object, found: str) -> None:
    assert message({"app": "shop:app", "interface": said}) == f"interface={found}"


PAGES = Path(__file__).with_name("pages")

VALUES: dict[str, tuple[object, str, str, object]] = {
    # key: (a value other than the default, part, field, what it becomes)
    "app": ("site.asgi", "application", "target", "site.asgi"),
    "app_dir": ("/", "application", "app_dir", "/"),
    "factory": ("1", "application", "factory", True),
    "root_path": ("/api", "application", "root_path", "/api"),
    "lifespan": ("off", "application", "lifespan", "off"),
    "interface": ("WSGI", "application", "interface", "wsgi"),
    "threads": ("4", "application", "threads", 4),
    "trust_strict": ("off", "application", "trust_strict", "off"),
    "bind": ("a:1,unix:b", "listen", "binds", (TcpAddress("a", 1), UnixAddress("b"))),
    "http_bind": (":80", "listen", "http_binds", (TcpAddress("", 80),)),
    "host": ("::1", "listen", "host", "::1"),
    "port": ("0", "listen", "port", 0),
    "uds": ("/run/e.sock", "listen", "binds", (UnixAddress("/run/e.sock"),)),
    "fd": ("3,4", "listen", "binds", (FdAddress(3), FdAddress(4))),
    "uds_permissions": ("600", "listen", "unix_mode", 0o600),
    "uds_owner": ("www-data", "listen", "unix_owner", "www-data"),
    "uds_group": ("www-data", "listen", "unix_group", "www-data"),
    "backlog": ("64", "listen", "backlog", 64),
    "cert": ("a.pem b.pem", "tls", "certificates", (CertificateFiles(Path("a.pem")), CertificateFiles(Path("b.pem")))),
    "dev": ("on", "tls", "dev", True),
    "http2": ("off", "tls", "http2", "off"),
    "dev_name": ("shop.test,10.0.0.7", "tls", "dev_names", ("shop.test", "10.0.0.7")),
    "dev_authority": ("authority.pem", "tls", "dev_authority", "authority.pem"),
    "ciphers": ("HIGH", "tls", "ciphers", "HIGH"),
    "tls_min_version": ("TLSv1_3", "tls", "least_version", "tls1.3"),
    "key_password": ("secret", "tls", "key_password", "secret"),
    "acme": ("shop.test", "acme", "certificates", (("shop.test",),)),
    "acme_email": ("a@shop.test", "acme", "email", "a@shop.test"),
    "acme_directory": ("https://ca.test/dir", "acme", "directory", "https://ca.test/dir"),
    "acme_staging_directory": ("https://ca.test/try", "acme", "staging", "https://ca.test/try"),
    "acme_challenge": ("tls-alpn-01 http-01", "acme", "challenges", ("tls-alpn-01", "http-01")),
    "acme_dns_hook": ("/bin/hook", "acme", "dns_hook", "/bin/hook"),
    "acme_key_type": ("P384", "acme", "key_type", "p384"),
    "acme_profile": ("shortlived", "acme", "profile", "shortlived"),
    "acme_chain": ("Root", "acme", "chain", "Root"),
    "acme_eab_kid": ("kid-2", "acme", "eab_kid", "kid-2"),
    "acme_eab_key": ("bWFj", "acme", "eab_key", "bWFj"),
    "acme_ca_root": ("ca.pem", "acme", "ca_root", "ca.pem"),
    "server_name": ("Shop.test *.shop.test", "site", "server_names", ("shop.test", "*.shop.test")),
    "canonical_host": ("Shop.test", "site", "canonical_host", "shop.test"),
    "hsts": ("1", "site", "hsts", True),
    "error_pages": (str(PAGES), "site", "error_pages", (str(PAGES), "error.html", "<p>{{status}}</p>\n")),
    "rate": ("300/m", "site", "rate", (300, 60.0)),
    "rate_burst": ("7", "site", "rate_burst", 7),
    "rate_key": ("Header:X-API-Key", "site", "rate_key", "header:x-api-key"),
    "client_ca": ("ca.pem", "site", "client_ca", "ca.pem"),
    "client_auth": ("optional", "site", "client_auth", "optional"),
    "client_crl": ("crl.pem", "site", "client_crl", "crl.pem"),
    "hsts_max_age": ("0", "site", "hsts_max_age", 0),
    "hsts_subdomains": ("on", "site", "hsts_subdomains", True),
    "hsts_preload": ("on", "site", "hsts_preload", True),
    "trusted_proxy": ("10.0.0.0/8 unix", "forward", "trusted_proxies", (IPv4Network("10.0.0.0/8"),)),
    "proxy_headers": ("on", "forward", "trusted_proxies", (IPv4Network("127.0.0.1"), IPv6Network("::1"))),
    "forwarded_hops": ("2", "forward", "hops", 2),
    "trust_forwarded_host": ("on", "forward", "trust_host", True),
    "trust_forwarded_prefix": ("on", "forward", "trust_prefix", True),
    "forwarded_style": ("RFC7239", "forward", "style", "rfc7239"),
    "header": ("A:b C:d,e", "answers", "fields", ((b"a", b"b"), (b"c", b"d,e"))),
    "server_header": ("off", "answers", "server", False),
    "date_header": ("off", "answers", "date", False),
    "proxy_protocol": ("10.0.0.0/8 unix", "forward", "proxy_protocol", (IPv4Network("10.0.0.0/8"), None)),
    "max_request_line": ("4KiB", "limits", "max_request_line", 4096),
    "max_header_size": ("4k", "limits", "max_header_size", 4096),
    "max_headers": ("7", "limits", "max_headers", 7),
    "max_body": ("0", "limits", "max_body", 0),
    "max_connections": ("9", "limits", "max_connections", 9),
    "keepalive_requests": ("1", "limits", "keepalive_requests", 1),
    "worker_concurrency": ("3", "limits", "worker_concurrency", 3),
    "queue": ("0", "limits", "queue", 0),
    "http2_max_streams": ("8", "limits", "http2_streams", 8),
    "tls_handshake_timeout": ("1s", "timeouts", "tls_handshake", 1.0),
    "header_timeout": ("2s", "timeouts", "header", 2.0),
    "body_idle_timeout": ("3s", "timeouts", "body_idle", 3.0),
    "body_min_rate": ("4", "timeouts", "body_min_rate", 4),
    "write_stall_timeout": ("5s", "timeouts", "write_stall", 5.0),
    "keepalive_timeout": ("6s", "timeouts", "keep_alive", 6.0),
    "queue_timeout": ("7s", "timeouts", "queue", 7.0),
    "drain_timeout": ("8s", "timeouts", "drain", 8.0),
    "lifespan_shutdown_timeout": ("8s", "timeouts", "lifespan_shutdown", 8.0),
    "startup_timeout": ("9s", "timeouts", "startup", 9.0),
    "worker_timeout": ("2m", "timeouts", "worker", 120.0),
    "app_timeout": ("10s", "timeouts", "app", 10.0),
    "disconnect_grace": ("500ms", "timeouts", "disconnect_grace", 0.5),
    "static": ("/a=/", "static", "mounts", (Mount("/a", "/"),)),
    "spa": ("on", "static", "spa", True),
    "index": ("home.html", "static", "index", "home.html"),
    "static_max_age": ("60", "static", "max_age", 60),
    "static_immutable": ("off", "static", "immutable", False),
    "static_precompressed": ("off", "static", "precompressed", False),
    "sendfile_root": ("/", "static", "sendfile_root", "/"),
    "affinity": ("cookie", "pool", "affinity", "cookie"),
    "max_requests": ("50", "pool", "max_requests", 50),
    "max_requests_jitter": ("5", "pool", "max_requests_jitter", 5),
    "max_worker_lifetime": ("1h", "pool", "max_worker_lifetime", 3600.0),
    "max_worker_rss": ("1GiB", "pool", "max_worker_rss", 2**30),
    "config": ("edge.toml", "file", "path", "edge.toml"),
    "pid": ("edge.pid", "run", "pid_file", "edge.pid"),
    "user": ("www-data", "run", "user", "www-data"),
    "group": ("33", "run", "group", "33"),
    "metrics": ("unix:m.sock", "run", "metrics", (UnixAddress("m.sock"),)),
    "outbound_ca": ("corp.pem,a.der", "run", "outbound_ca", (Path("corp.pem"), Path("a.der"))),
    "strict": ("on", "run", "strict", True),
    "health": ("0", "run", "health", False),
    "env_file": (".env", "application", "env_files", (Path(".env"),)),
    "env": ("A=1 B=a,b", "application", "variables", (("A", "1"), ("B", "a,b"))),
    "pythonpath": ("/,/tmp", "application", "python_path", ("/", "/tmp")),
    "loop": ("asyncio", "application", "loop", "asyncio"),
    "chdir": ("/srv", "run", "folder", "/srv"),
    "max_crashes": ("3", "pool", "max_crashes", 3),
    "reload": ("on", "reload", "on", True),
    "reload_dir": ("/tmp", "reload", "dirs", ("/tmp",)),
    "reload_extra_file": ("/etc/a.ini", "reload", "includes", ("a.ini",)),
    "reload_include": ("*.html", "reload", "includes", ("*.html",)),
    "reload_exclude": ("tests", "reload", "excludes", ("tests",)),
    "reload_delay": ("1s", "reload", "delay", 1.0),
    "ws_max_size": ("1MiB", "websocket", "max_size", 2**20),
    "ws_ping_interval": ("0", "websocket", "ping_interval", 0.0),
    "ws_ping_timeout": ("1", "websocket", "ping_timeout", 1.0),
    "ws_max_queue": ("32", "websocket", "max_queue", 32),
    "ws": ("none", "websocket", "implementation", "none"),
    "no_ws_per_message_deflate": ("on", "websocket", "per_message_deflate", False),
    "ws_per_message_deflate": ("no", "websocket", "per_message_deflate", False),
    "workers": ("5", "pool", "workers", 5),
    "edges": ("6", "pool", "edges", 6),
    "log_level": ("DEBUG", "logs", "level", "debug"),
    "access_log": ("false", "logs", "access_log", False),
    "log_format": ("json", "logs", "format", "json"),
    "access_logfile": ("a.log", "logs", "access_file", "a.log"),
    "access_log_format": ("%(h)s", "logs", "line", "%(h)s"),
    "log_config": ("log.yaml", "logs", "config", "log.yaml"),
    "use_colors": ("off", "logs", "colors", False),
    "worker_class": ("uvicorn.workers.UvicornWorker", "foreign", "worker_class", "uvicorn.workers.UvicornWorker"),
    "http": ("h11", "foreign", "http", "h11"),
    "request_buffering": ("on", "buffer", "request_buffering", "on"),
    "spool_dir": ("/", "spool", "folder", "/"),
    "spool_max": ("1MiB", "spool", "max_size", 2**20),
    "compress": ("auto", "compress", "mode", "auto"),
    "compress_min": ("2KiB", "compress", "min_size", 2048),
    "compress_secrets": ("always", "compress", "secrets", "always"),
}


# What an option is for nothing without.
BASES: dict[str, dict[str, object]] = {
    **{key: {"static": "/=/"} for key in ("spa", "index", "static_max_age")},
    "reload": {"workers": 1},  # which is what it makes of it, too
    "dev_": {"dev": True},
    "acme_eab_kid": {"acme": "shop.test", "acme_eab_key": "a2V5"},
    "acme_eab_key": {"acme": "shop.test", "acme_eab_kid": "kid-1"},
    "acme_": {"acme": "shop.test"},
    "hsts_preload": {"acme": "shop.test", "hsts": True, "hsts_subdomains": True},
    "hsts_": {"acme": "shop.test", "hsts": True},
    "hsts": {"acme": "shop.test"},
    "rate_": {"rate": "1/s"},
    "client_ca": {"acme": "shop.test"},
    "client_": {"acme": "shop.test", "client_ca": "ca.pem"},
}


def test_every_option_is_in_this_files_table() -> None:
    assert {option.key for option in all_options()} == {*VALUES, "key", "paste", "paste_global"}


@pytest.mark.parametrize("key", VALUES)
def test_option_by_name_and_by_variable_sets_its_field_and_no_other(key: str) -> None:
    text, part, name, parsed = VALUES[key]
    pieces = (str(text) if key in ("env", "header") else str(text).replace(",", " ")).split()
    base = {**APP, **next((base for prefix, base in BASES.items() if key.startswith(prefix)), {})}
    by_name = build_settings({**base, key: pieces if len(pieces) > 1 else text})
    by_variable = build_settings({} if key == "app" else base, {f"EDGE_{key.upper()}": str(text)})
    assert by_name == by_variable
    assert getattr(getattr(by_name, part), name) == parsed
    family = key.partition("_")[0]
    default: Any = build_settings({name: base[name] for name in base if name.partition("_")[0] != family} | APP)
    assert getattr(getattr(default, part), name) != parsed
    # What is served is told by several parts, see test_config_sites.py.
    parts = [f.name for f in dataclasses.fields(default) if f.name != "sites"]
    assert [name for name in parts if getattr(default, name) != getattr(by_name, name)] == [part]


def test_paste_file_stands_in_the_place_of_an_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/srv")
    settings = build_settings({"paste": "app.ini#blog", "paste_global": ["debug=it's", "a=b"]})
    assert settings.application.target == ("""edge_backend.paste:load('/srv/app.ini', 'blog', debug="it's", a='b')""")
    by_variable = build_settings({}, {"EDGE_PASTE": "/etc/app.ini"})
    assert by_variable.application.target == "edge_backend.paste:load('/etc/app.ini', '')"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"paste_global": "a=b", **APP}, "paste_global: without --paste it is for nothing; add --paste"),
        ({"paste": "app.ini", **APP}, "paste: shop:app is given too; use one of them"),
    ],
)
def test_paste_file_goes_with_no_other_application(values: dict[str, object], expected: str) -> None:
    assert message(values) == expected


def test_variables_of_other_servers_are_honoured() -> None:
    settings = build_settings(APP, {"WEB_CONCURRENCY": "3", "FORWARDED_ALLOW_IPS": "10.0.0.1,unix"})
    assert settings.pool.workers == 3
    assert settings.forward == ForwardSettings((IPv4Network("10.0.0.1"),), trust_unix=True)


def test_our_variable_is_stronger_than_that_of_another_server() -> None:
    assert build_settings(APP, {"WEB_CONCURRENCY": "3", "EDGE_WORKERS": "4"}).pool.workers == 4


def test_option_is_stronger_than_the_variable() -> None:
    assert build_settings({**APP, "workers": 5}, {"EDGE_WORKERS": "x"}).pool.workers == 5


def test_empty_variable_and_none_are_the_default() -> None:
    assert build_settings({**APP, "workers": None}, {"EDGE_MAX_BODY": ""}) == build_settings(APP)


def test_auto_is_the_default_number_of_processes() -> None:
    assert build_settings({**APP, "workers": "auto", "edges": "auto"}) == build_settings(APP)


def test_star_trusts_every_peer() -> None:
    everyone = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
    assert build_settings({**APP, "trusted_proxy": "*"}).forward == ForwardSettings(everyone, trust_unix=True)


def test_without_proxy_headers_nobody_is_trusted() -> None:
    values = {**APP, "proxy_headers": False, "trusted_proxy": ["10.0.0.0/8", "unix"]}
    assert build_settings(values).forward == ForwardSettings()


def test_proxy_headers_leave_the_named_proxies_alone() -> None:
    values = {**APP, "trusted_proxy": "10.0.0.0/8"}
    assert build_settings({**values, "proxy_headers": True}) == build_settings(values)


def test_password_of_a_key_is_in_no_repr_and_in_no_message() -> None:
    assert "s3cret" not in repr(build_settings({**APP, "key_password": "s3cret"}))
    assert message({**APP, "key_password": 53}) == "key_password=***: no password; use text"


def test_keys_go_to_the_certificates_at_their_place() -> None:
    settings = build_settings({**APP, "cert": ["a.pem", "b.pem", "c.pem"], "key": ["a.key", "b.key"]})
    assert settings.tls.certificates == (
        CertificateFiles(Path("a.pem"), Path("a.key")),
        CertificateFiles(Path("b.pem"), Path("b.key")),
        CertificateFiles(Path("c.pem"), None),
    )


def test_missing_application_is_refused() -> None:
    assert message({}) == "no application: give MODULE:ATTR, such as app:app, or set EDGE_APP"


def test_unknown_option_is_refused_with_the_nearest() -> None:
    assert message({**APP, "workrs": 2}) == "workrs: unknown option; did you mean workers"
    assert message({**APP, "zzz": 2}) == "zzz: unknown option"


def test_option_under_two_names_is_refused() -> None:
    values = {**APP, "keep_alive": 1, "keepalive_timeout": 2}
    assert message(values) == "keepalive_timeout: given under two names; leave out one"


def test_refusal_names_what_the_user_wrote() -> None:
    reason = "unknown unit 'mb'; use KiB, MiB, GiB or a number of bytes"
    assert message({**APP, "max_body": "10mb"}) == f"max_body='10mb': {reason}"
    assert message({**APP, "max_body": Given("10mb", "--max-body ")}) == f"--max-body '10mb': {reason}"
    assert message({**APP, "affinity": "sticky"}) == "affinity='sticky': unknown; use off, ip or cookie"
    assert message(APP, {"EDGE_MAX_BODY": "10mb"}) == f"EDGE_MAX_BODY='10mb': {reason}"


@pytest.mark.parametrize(
    ("values", "environ", "expected"),
    [
        ({"key": "a.key"}, {}, "key: 1 given for 0 --cert; give each its --cert"),
        ({"cert": "a.pem"}, {"EDGE_KEY": "a b"}, "EDGE_KEY: 2 given for 1 --cert; give each its --cert"),
        ({"cert": "a.pem", "dev": True}, {}, "dev: cert is given too; use one of them"),
        ({"dev_name": "shop.test"}, {}, "dev_name: without --dev it is for nothing; add --dev"),
        ({"dev_authority": "a.pem"}, {"EDGE_DEV": "0"}, "dev_authority: without --dev it is for nothing; add --dev"),
        ({"bind": "a:1", "host": "b"}, {}, "host: bind is given too; put host and port into it"),
        ({"bind": "a:1"}, {"EDGE_PORT": "8"}, "EDGE_PORT: bind is given too; put host and port into it"),
        ({"bind": ["a:1", "a:1"]}, {}, "cannot listen on a:1: given twice; leave out one"),
        ({"bind": "fd://3", "http_bind": "fd://3"}, {}, "cannot listen on fd://3: given twice; leave out one"),
        (
            {"trust_forwarded_prefix": True},
            {"EDGE_FORWARDED_STYLE": "rfc7239"},
            "trust_forwarded_prefix: X-Forwarded-Prefix never counts with EDGE_FORWARDED_STYLE rfc7239; leave out one",
        ),
    ],
)
def test_contradiction_is_refused(values: dict[str, object], environ: dict[str, str], expected: str) -> None:
    assert message({**APP, **values}, environ) == expected


def test_any_free_port_may_be_asked_for_twice() -> None:
    settings = build_settings({**APP, "bind": ["127.0.0.1:0", "127.0.0.1:0"]})
    assert settings.listen.binds == (TcpAddress("127.0.0.1", 0),) * 2


def test_dev_switched_off_goes_with_a_certificate() -> None:
    assert not build_settings({**APP, "cert": "a.pem", "dev": False}).tls.dev
