import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from edge.config import TABLES, ServeSettings, all_options, build_settings
from edge.config_app import ApplicationSettings
from edge.config_sites import AppPlan, RedirectPlan, RoutePlan, SitePlan, StaticPlan, UpstreamPlan
from edge.config_tls import CertificateFiles
from edge.config_toml import ROUTE, TARGETS, read_text
from edge.errors import ConfigError
from edge.options_sites import parse_upstream
from edge.toml_file import parse_document

APP = '[application]\napp = "shop:app"\n'


def settings_of(
    text: str,
    values: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    name: str = "edge.toml",
) -> ServeSettings:
    return build_settings(values or {}, environ or {}, read_text(parse_document(name, text), TABLES))


def messages(text: str, values: Mapping[str, object] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        settings_of(text, values)
    assert caught.value.exit_code == 2
    return str(caught.value).split("\n")


def test_every_option_is_a_key_of_one_table() -> None:
    in_tables = [option.key for table in TABLES.values() for option in table.values()]
    without = {
        "config",
        "chdir",
        "worker_class",
        "http",
        *(o.key for o in all_options() if o.help.startswith("ignored")),
    }
    assert sorted(in_tables) == sorted({option.key for option in all_options()} - without)


def test_no_key_of_a_route_means_two_things() -> None:
    for options in TARGETS.values():
        keys = [option.key for option in (*ROUTE.values(), *options.values())]
        assert len(keys) == len(set(keys)) == len({**ROUTE, **options})
    assert "edges" not in TARGETS["app"]


def test_file_says_what_flags_and_variables_do_not() -> None:
    text = APP + '[limits]\nmax_body = "1MiB"\nqueue = 1\nmax_headers = 50\n[timeouts]\nheader_timeout = 2.5\n'
    settings = settings_of(text, {"max_body": "3MiB"}, {"EDGE_MAX_BODY": "2MiB", "EDGE_QUEUE": "2"})
    limits = settings.limits
    assert (limits.max_body, limits.queue, limits.max_headers) == (3 * 2**20, 2, 50)
    assert settings.timeouts.header == 2.5
    assert settings.application == ApplicationSettings("shop:app")


def test_kinds_of_toml_are_read_as_what_they_are() -> None:
    text = APP + (
        '[listen]\nbind = [":8000", "unix:edge.sock"]\nuds_permissions = 0o600\n'
        + '[pool]\nworkers = "auto"\n[logs]\naccess_log = false\n[forward]\ntrusted_proxy = "10.0.0.0/8"\n'
    )
    settings = settings_of(text)
    assert [str(bind) for bind in settings.listen.binds] == [":8000", "unix:edge.sock"]
    assert settings.listen.unix_mode == 0o600
    assert not settings.logs.access_log
    assert [str(network) for network in settings.forward.trusted_proxies] == ["10.0.0.0/8"]


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    text = """
        [listen]
        bind = ["unix:run/edge.sock", ":8000"]
        [application]
        app = "shop:app"
        app_dir = "src"
        env_file = [".env", "/etc/edge.env"]
        [tls]
        cert = "tls/a.pem"
        key = "/etc/a.key"
        [run]
        pid = "edge.pid"
    """
    settings = settings_of(text, name=f"{tmp_path}/edge.toml")
    assert str(settings.listen.binds[0]) == f"unix:{tmp_path}/run/edge.sock"
    assert settings.application.app_dir == f"{tmp_path}/src"
    assert settings.application.env_files == (tmp_path / ".env", Path("/etc/edge.env"))
    assert settings.tls.certificates == (CertificateFiles(tmp_path / "tls/a.pem", Path("/etc/a.key")),)
    assert settings.run.pid_file == f"{tmp_path}/edge.pid"


def test_certificate_of_a_flag_does_not_get_the_key_of_the_file() -> None:
    settings = settings_of(APP + '[tls]\ncert = "a.pem"\nkey = "a.key"\n', {"cert": "b.pem"})
    assert settings.tls.certificates == (CertificateFiles(Path("b.pem")),)


SITES = """
[pool]
workers = 3
max_requests = 1000

[[site]]
hosts = ["shop.example", "WWW.shop.example"]
cert = "shop.pem"

[[site.route]]
app = "shop:app"
env = { DEBUG = "1" }

[[site.route]]
path = "/admin/"
app = "admin:make"
factory = true
workers = 1
strip = true
python = "venv/bin/python"

[[site.route]]
path = "/static"
static = "."

[[site.route]]
path = "/old"
redirect = "/new"
status = 301

[[site]]
acme = ["api.example,www.api.example"]

[[site.route]]
upstream = ["http://10.0.0.1:8000", "unix:api.sock"]
health_path = "/health"
"""


def test_sites_have_routes_to_four_kinds_of_targets() -> None:
    settings = settings_of(SITES, {"lifespan": "off", "env": ["DEBUG=0", "LANG=C"]})
    shop, other = settings.sites
    pool = settings.pool
    assert pool.workers == 3
    application = ApplicationSettings("shop:app", lifespan="off", variables=(("DEBUG", "1"), ("LANG", "C")))
    admin = ApplicationSettings(
        "admin:make", factory=True, root_path="/admin", lifespan="off", variables=(("DEBUG", "0"), ("LANG", "C"))
    )
    assert shop == SitePlan(
        names=("shop.example", "www.shop.example"),
        certificates=(CertificateFiles(Path("shop.pem")),),
        routes=(
            RoutePlan(AppPlan(application, pool), "/"),
            RoutePlan(
                AppPlan(admin, dataclasses.replace(pool, workers=1), python="venv/bin/python"), "/admin", strip=True
            ),
            RoutePlan(StaticPlan("."), "/static", strip=True),
            RoutePlan(RedirectPlan("/new", 301), "/old"),
        ),
    )
    servers = (parse_upstream("http://10.0.0.1:8000"), parse_upstream("unix:api.sock"))
    assert other == SitePlan(
        routes=(RoutePlan(UpstreamPlan(servers, health_path="/health")),),
        acme=(("api.example", "www.api.example"),),
    )
    assert settings.application == application
    assert settings.tls.certificates == shop.certificates
    assert settings.acme.certificates == other.acme


def test_acme_of_a_site_is_one_certificate_for_its_hosts() -> None:
    site = '[[site]]\nhosts = ["a.example", "b.example"]\nacme = {}\n'
    assert settings_of(APP + site.format("true")).acme.certificates == (("a.example", "b.example"),)
    assert settings_of(APP + site.format("false")).acme.certificates == ()


def test_site_has_what_is_said_for_all_of_them_where_it_says_nothing() -> None:
    text = """
        [policy]
        hsts = true
        [[site]]
        hosts = ["a.example", "www.a.example"]
        canonical_host = "a.example"
        cert = "a.pem"
        [[site]]
        hosts = "b.example"
        hsts = false
    """
    first, second = (site.settings.policy for site in settings_of(APP + text).sites)
    assert (first.hsts, first.canonical_host) == (True, "a.example")
    assert (second.hsts, second.canonical_host) == (False, "")


def test_site_without_routes_is_the_application_of_the_server() -> None:
    (site,) = settings_of('[[site]]\nhosts = "shop.example"\n', {"app": "shop:app"}).sites
    assert site.names == ("shop.example",)
    assert [route.prefix for route in site.routes] == ["/"]
    assert isinstance(site.routes[0].target, AppPlan)


def test_server_without_any_application_has_an_empty_one() -> None:
    settings = settings_of('[[site]]\n[[site.route]]\nredirect = "https://a.example/"\n')
    assert settings.application.target == ""
    assert settings.applications == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[limits]\n\nmax_body = '10mb'\n", "edge.toml:5: limits.max_body = '10mb': unknown unit 'mb'; use KiB, MiB,"),
        ("[limits]\nmax_boddy = 1\n", "edge.toml:4: limits.max_boddy: unknown key; did you mean limits.max_body"),
        ("[timeouts]\nkeep_alive = 1\n", "edge.toml:4: timeouts.keep_alive: unknown key; did you mean timeouts."),
        ("[limits]\nworkers = 1\n", "edge.toml:4: limits.workers: unknown key; did you mean pool.workers"),
        ("[limit]\nmax_body = 1\n", "edge.toml:3: limit: unknown key; did you mean limits"),
        ("[reload]\nfoo = 1\n", "edge.toml:4: reload.foo: unknown key; use reload, reload_dir,"),
        ("[limits]\nnothing_near = 1\n", "edge.toml:4: limits.nothing_near: unknown key; "),
        ("[run]\nchdir = 'x'\n", "edge.toml:4: run.chdir: unknown key; "),
        ("[[limits]]\n", "edge.toml:3: limits = [{}]: not a table; use [limits]"),
        ("[site]\n", "edge.toml:3: site: not a list of tables; use [[site]]"),
        ("[[site]]\nroute = 1\n", "edge.toml:4: site.route: not a list of tables; use [[site.route]]"),
        ("[[site]]\nhost = 'a'\n", "edge.toml:4: site.host: unknown key; did you mean site.hosts, or did you mean"),
        ("[[site]]\nhosts = ['a', 'b:1']\n", "edge.toml:4: site.hosts = 'b:1': not a host name; use one such as"),
        ("[[site]]\nmax_body = 1\n", "edge.toml:4: site.max_body: unknown key; did you mean limits.max_body"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line_and_what_was_meant(text: str, message: str) -> None:
    found = messages(APP + text)
    assert len(found) == 1
    assert found[0].startswith(message)


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ("path = '/'", "edge.toml:2: site.route: it leads to none; give it one of app, static, redirect, upstream"),
        ("app = 'a'\nredirect = '/b'", "edge.toml:2: site.route: it leads to app and redirect; give it one of"),
        ("upstream = 'ftp://x'", "edge.toml:3: site.route.upstream = 'ftp://x': unknown scheme 'ftp'; use http://HOST:PORT"),
        ("static = 'nosuch'", "edge.toml:3: site.route.static = 'nosuch': no such directory; use one that exists"),
        ("redirect = '/a'\nstrip = true", "edge.toml:4: site.route.strip: unknown key; it is for a route with app or"),
        ("redirect = '/a'\nworkers = 2", "edge.toml:4: site.route.workers: unknown key; it is for a route with app"),
        ("app = 'a'\nstatus = 301", "edge.toml:4: site.route.status: unknown key; it is for a route with redirect"),
        ("app = 'a'\nworker = 2", "edge.toml:4: site.route.worker: unknown key; did you mean site.route.workers"),
        ("app = 'a'\nworking_dir = '.'", "edge.toml:4: site.route.working_dir: unknown key; did you mean site.route."),
        ("app = 'a'\nenv = {A = 1}", "edge.toml:4: site.route.env = 'A': not an assignment; use NAME=VALUE"),
        ("app = 'a'\npath = 'x'", "edge.toml:4: site.route.path = 'x': not a path to compare with"),
        (
            "app = 'a'\nstrip = true\nroot_path = '/b'\npath = '/c'",
            "edge.toml:5: site.route.root_path: strip is given too, by which '/c' is the root path; leave out one",
        ),
        (
            "app = 'a'\n[[site.route]]\npath = '/'\napp = 'b'",
            "edge.toml:4: site.route: another route has the path '/'; leave out one",
        ),
    ],
)  # fmt: skip
def test_route_that_makes_no_sense_is_refused(route: str, message: str) -> None:
    found = messages(f"[[site]]\n[[site.route]]\n{route}\n")
    assert len(found) == 1
    assert found[0].startswith(message)


ROUTE_A = "[[site.route]]\napp = 'a'\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"[[site]]\nhosts = ['a.example']\n{ROUTE_A}[[site]]\nhosts = ['b.example', 'A.example']\n{ROUTE_A}",
            "edge.toml:6: site.hosts: edge.toml:2: site.hosts has 'a.example' too; leave out one",
        ),
        (f"[[site]]\n{ROUTE_A}[[site]]\n{ROUTE_A}", "edge.toml:4: site: edge.toml:1 has no hosts either; give hosts"),
        ("[[site]]\nhosts = 'a'\n", "edge.toml:1: site: nothing to serve; give it a [[site.route]], or the server"),
        (f"[[site]]\nacme = true\n{ROUTE_A}", "edge.toml:2: site.acme: the site has no hosts to order for; give it"),
        (f"[[site]]\nkey = 'a.key'\n{ROUTE_A}", "edge.toml:2: site.key: 1 given for 0 cert; give each its cert"),
        (
            f"{APP}[[site]]\n{ROUTE_A}",
            "edge.toml:2: application.app = 'shop:app': every site of the file has routes, it would serve nothing;",
        ),
        (
            f"[tls]\ndev = true\n[[site]]\ncert = 'a.pem'\n{ROUTE_A}",
            "edge.toml:2: tls.dev: edge.toml:4: site.cert is given too; use one of them",
        ),
        (
            f"[[site]]\nhosts = '*.a.example'\nacme = true\n{ROUTE_A}",
            "edge.toml:3: site.acme: a wildcard such as *.a.example is proven in the DNS only; add",
        ),
        (
            f"[policy]\nserver_name = 'b.example'\n[[site]]\nhosts = 'a.example'\n{ROUTE_A}",
            "edge.toml:2: policy.server_name: the file has sites, whose hosts are served; leave it out",
        ),
        (
            f"[[site]]\nhosts = 'a.example'\ncanonical_host = 'b.example'\n{ROUTE_A}",
            "edge.toml:3: site.canonical_host: 'b.example' is no --server-name; add",
        ),
        (f"[[site]]\nserver_name = 'a.example'\n{ROUTE_A}", "edge.toml:2: site.server_name: unknown key; did you"),
        ("", "no application: give MODULE:ATTR, such as app:app, or set EDGE_APP"),
    ],
)  # fmt: skip
def test_sites_that_contradict_each_other_are_refused(text: str, message: str) -> None:
    found = messages(text)
    assert len(found) == 1
    assert found[0].startswith(message)


def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_the_file() -> None:
    text = "[limits]\nmax_body = 'x'\nfoo = 1\n[pool]\nworkers = 0\n[[site]]\nhosts = 'a b'\n[[site.route]]\n"
    places = [message.split(": ")[0] for message in messages(text, {"header_timeout": "y"})]
    assert sorted(places) == [
        "edge.toml:2",
        "edge.toml:3",
        "edge.toml:5",
        "edge.toml:7",
        "edge.toml:8",
        "header_timeout='y'",
    ]


def test_key_that_says_where_a_route_leads_may_be_there_in_another_spelling() -> None:
    assert messages("[[site]]\n[[site.route]]\nupstreem = 'http://a:1'\n") == [
        "edge.toml:2: site.route: it leads to none; give it one of app, static, redirect, upstream",
        "edge.toml:3: site.route.upstreem: unknown key; did you mean site.route.upstream",
    ]


def test_mistakes_are_said_in_the_order_of_the_file() -> None:
    text = "[limits]\nmax_body = '1x'\n[timeouts]\nnone = 1\n[limit]\n"
    assert [message.split(":")[1] for message in messages(APP + text)] == ["4", "6", "7"]
