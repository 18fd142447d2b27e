"""gunicorn's settings: every one of the release that is installed, and what each amounts to."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path
from typing import Any

import pytest

from edge import cli
from edge.cli_compat.gunicorn import FLAGS, HOOKS, translate
from edge.cli_compat.gunicorn_sources import read_settings
from edge.cli_compat.rules import Flag, Takes
from edge.cli_options import given_flags
from edge.config import build_settings
from edge.errors import ConfigError

KNOWN: Any = importlib.import_module("gunicorn.config").KNOWN_SETTINGS

LOG = "--no-access-log"
TRUST = "--proxy-headers"
LOCAL = "--bind 127.0.0.1:8000"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def amounts_to(line: str, **environ: str) -> str:
    return shlex.join(translate(read_settings(shlex.split(line), environ), environ).arguments)


def takes(setting: Any) -> Takes:
    if setting.action == "append":
        return Takes.MANY
    if setting.action in ("store_true", "store_const"):
        return Takes.NOTHING
    return Takes.OPTIONAL if getattr(setting, "nargs", None) == "?" else Takes.ONE


def test_every_setting_of_gunicorn_is_known_with_its_flags() -> None:
    real = {setting.name: (tuple(setting.cli or ()), takes(setting) if setting.cli else Takes.ONE) for setting in KNOWN}
    assert {name: (flag.names, flag.takes) for name, flag in FLAGS.items()} == real


def test_every_hook_of_gunicorn_is_known() -> None:
    callables = {item.name for item in KNOWN if item.section == "Server Hooks"}
    callables |= {item.name for item in KNOWN if item.section == "Dirty Arbiter Hooks"}
    assert callables <= HOOKS


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # The guides.
        (
            "-w 4 -k uvicorn.workers.UvicornWorker myapp:app",
            f"{LOCAL} --workers 4 {TRUST} {LOG} myapp:app",
        ),
        (
            "-w 4 -b 0.0.0.0:8000 myapp:wsgi_app",
            f"--bind 0.0.0.0:8000 --workers 4 --threads 1 {TRUST} {LOG} myapp:wsgi_app",
        ),
        (
            "main:app -w 4 -k uvicorn_worker.UvicornWorker --bind 0.0.0.0:8000",
            f"--bind 0.0.0.0:8000 --workers 4 {TRUST} {LOG} main:app",
        ),
        ("-w 4 -k uvicorn.workers.UvicornH11Worker a", f"{LOCAL} --workers 4 --http h11 {TRUST} {LOG} a"),
        ("--workers=2 test:app", f"{LOCAL} --workers 2 --threads 1 {TRUST} {LOG} test:app"),
        (
            "--workers=2 'factory:create_app()'",
            f"{LOCAL} --workers 2 --threads 1 {TRUST} {LOG} 'factory:create_app()'",
        ),
        (
            "--env DJANGO_SETTINGS_MODULE=myproject.settings myproject.wsgi",
            f"{LOCAL} --workers 1 --env DJANGO_SETTINGS_MODULE=myproject.settings --threads 1 {TRUST} {LOG} "
            "myproject.wsgi",
        ),
        (
            "--paste development.ini -b :8080 --chdir /srv",
            f"--bind :8080 --workers 1 --chdir /srv --paste development.ini --threads 1 {TRUST} {LOG}",
        ),
        (
            "--keyfile ./key.pem --certfile ./cert.pem -k asgi a",
            f"{LOCAL} --workers 1 --keyfile ./key.pem --certfile ./cert.pem {TRUST} {LOG} a",
        ),
        # What has another spelling or another default here.
        ("-k asgi -b localhost a", f"--bind localhost:8000 --workers 1 {TRUST} {LOG} a"),
        ("-k asgi -b '[::1]' -b fd://3 a", f"--bind '[::1]:8000' --bind fd://3 --workers 1 {TRUST} {LOG} a"),
        ("-k asgi -b tcp://a:1 a", f"--bind a:1 --workers 1 {TRUST} {LOG} a"),
        ("-k asgi -b unix:/run/a a", f"--bind unix:/run/a --uds-permissions 777 --workers 1 {TRUST} {LOG} a"),
        ("-k asgi -b unix:a -m 007 a", f"--bind unix:a --uds-permissions 770 --workers 1 {TRUST} {LOG} a"),
        ("-k asgi -t 90 a", f"{LOCAL} --workers 1 --worker-timeout 90 {TRUST} {LOG} a"),
        ("-k asgi -t 0 a", f"{LOCAL} --workers 1 --worker-timeout 24h {TRUST} {LOG} a"),
        ("-k asgi -t 999999 a", f"{LOCAL} --workers 1 --worker-timeout 24h {TRUST} {LOG} a"),
        ("-k asgi --ca-certs c.pem a", f"{LOCAL} --workers 1 {TRUST} {LOG} a"),
        (
            "-k asgi --ca-certs c.pem --cert-reqs 2 a",
            f"{LOCAL} --workers 1 --client-auth require --client-ca c.pem {TRUST} {LOG} a",
        ),
        ("-k asgi --forwarded-allow-ips '' a", f"{LOCAL} --workers 1 --no-proxy-headers {LOG} a"),
        (
            "-k asgi --max-requests 0 --max-requests-j 5 a",
            f"{LOCAL} --workers 1 --max-requests-jitter 5 {TRUST} {LOG} a",
        ),
        ("-k asgi --limit-request-line 0 a", f"{LOCAL} --workers 1 --max-request-line 1MiB {TRUST} {LOG} a"),
        ("-k gthread --threads 8 a", f"{LOCAL} --workers 1 --threads 8 {TRUST} {LOG} a"),
        ("-k asgi --cert-reqs 2 a", f"{LOCAL} --workers 1 --client-auth require {TRUST} {LOG} a"),
        ("-k asgi --cert-reqs 0 --ssl-version 2 a", f"{LOCAL} --workers 1 {TRUST} {LOG} a"),
        ("-k asgi --http-protocols h2,h1 a", f"{LOCAL} --workers 1 --http2 on {TRUST} {LOG} a"),
        ("-k asgi --http-protocols h1 a", f"{LOCAL} --workers 1 --http2 off {TRUST} {LOG} a"),
        (
            "-k asgi --proxy-protocol --forwarded-allow-ips 10.0.0.0/8 a",
            f"{LOCAL} --workers 1 --forwarded-allow-ips 10.0.0.0/8 --proxy-protocol 127.0.0.1,::1 {LOG} a",
        ),
        (
            "-k asgi --access-logfile - --access-logformat '%(h)s' a",
            f"{LOCAL} --workers 1 {TRUST} --access-logfile - --access-log-format '%(h)s' a",
        ),
        (
            "-k asgi --log-syslog --log-syslog-to unix:///dev/log#dgram --access-logformat %(h)s a",
            f"{LOCAL} --workers 1 {TRUST} --access-logfile syslog:/dev/log --access-log-format '%(h)s' a",
        ),
        (
            "-k asgi --log-syslog --disable-redirect-access-to-syslog a",
            f"{LOCAL} --workers 1 {TRUST} {LOG} a",
        ),
        (
            "-k asgi --reload --reload-extra-file a.ini a",
            f"{LOCAL} --workers 1 --reload --reload-extra-file a.ini {TRUST} {LOG} a",
        ),
    ],
)
def test_line_amounts_to(line: str, expected: str) -> None:
    assert amounts_to(line) == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"PORT": "5000"}, f"--bind 0.0.0.0:5000 --workers 1 {TRUST} {LOG} a"),
        ({"WEB_CONCURRENCY": "3"}, f"{LOCAL} {TRUST} {LOG} a"),
        ({"FORWARDED_ALLOW_IPS": ""}, f"{LOCAL} --workers 1 --no-proxy-headers {LOG} a"),
        ({"GUNICORN_CMD_ARGS": "-b 0.0.0.0:1 --workers 2"}, f"--bind 0.0.0.0:1 --workers 2 {TRUST} {LOG} a"),
    ],
)
def test_environment_counts(environ: dict[str, str], expected: str) -> None:
    assert amounts_to("-k asgi a", **environ) == expected


def left(line: str) -> list[tuple[str, str]]:
    return translate(read_settings(shlex.split(line), {}), {}).left


@pytest.mark.parametrize(
    ("line", "name", "reason"),
    [
        ("--preload", "--preload", "workers are started one by one and share nothing"),
        (
            "-k gevent",
            "--worker-class",
            "gevent is not run: WSGI applications run in threads (--threads), ASGI ones in",
        ),
        (
            "--limit-request-field_size 9",
            "--limit-request-field_size",
            "the limit is one for all fields together: --max",
        ),
        ("--permit-obsolete-folding", "--permit-obsolete-folding", "the edge refuses what others could read otherwise"),
        ("--http2-cleartext both", "--http2-cleartext", "HTTP/2 is offered over TLS alone"),
        ("--log-syslog", "--log-syslog", "the access log goes there; redirect standard error for the rest"),
        ("-n shop", "--name", "edge status tells servers apart"),
        ("-k shop.workers.Worker", "--worker-class", "shop.workers.Worker is not run; what it sets up, such as its"),
        ("-m 0027", "--umask", "it is for Unix sockets alone; for the files of the application, umask in the shell"),
        ("--reload-engine poll", "--reload-engine", "where a file system reports no changes, set WATCHFILES_FORCE"),
        ("--ca-certs c.pem", "--ca-certs", "no client is asked for a certificate; --cert-reqs 2 asks each"),
        ("--no-control-socket", "--no-control-socket", "edge status, reload and stop find the server by themselves"),
    ],
)
def test_what_has_no_counterpart_is_named_with_the_reason(line: str, name: str, reason: str) -> None:
    [(found, why)] = left(line)
    assert found == name
    assert why.startswith(reason)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a b", "gunicorn b: one application too many; name one"),
        (
            "--daemon a",
            "use systemd, a container, or nohup ... & in place of --daemon: a server that leaves its terminal",
        ),
        ("--protocol uwsgi a", "gunicorn --protocol uwsgi: only http is spoken; leave it out, and speak HTTP in front"),
        ("--wrokers 3 a", "gunicorn --wrokers: unknown option; did you mean --workers; see gunicorn --help"),
        ("-c nosuch.py a", "gunicorn -c nosuch.py: no such file; use one that exists"),
        ("--timeout soon a", "gunicorn --timeout 'soon': not a whole number; use one"),
        ("--cert-reqs all a", "gunicorn --cert-reqs 'all': not a whole number; use one"),
        ("--cert-reqs 3 a", "gunicorn --cert-reqs '3': unknown; use 0, 1 or 2"),
        ("-b unix:a -m all a", "gunicorn --umask 'all': not a whole number; use one"),
        ("--work 4 a", "gunicorn ambiguous option: --work could match --workers, --worker-class"),
    ],
)
def test_what_cannot_be_served_as_asked_for_is_refused(line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        amounts_to(line)
    assert str(caught.value).startswith(message)


CONFIG = """
import multiprocessing
bind = ["127.0.0.1:9000", "unix:a.sock"]
Workers = multiprocessing.cpu_count() * 0 + 3
worker_class = "uvicorn.workers.UvicornWorker"
wsgi_app = "shop:app"
raw_env = ["A=1"]
accesslog = "-"
access_log_format = '%(h)s'
errorlog = "error.log"
chdir = "/srv"
umask = 0o007
keepalive = 5
unknown = 7
def post_fork(server, worker):
    raise AssertionError("called")
on_exit = lambda server: None
"""


def test_file_is_run_and_its_settings_count(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(CONFIG)
    translation = translate(read_settings(["-w", "2"], {}), {})
    assert shlex.join(translation.arguments) == (
        "--bind 127.0.0.1:9000 --bind unix:a.sock --uds-permissions 770 --workers 2 --keep-alive 5 --chdir /srv "
        f"--env A=1 {TRUST} --access-logfile - --access-log-format '%(h)s' shop:app"
    )
    assert translation.log_file == "/srv/error.log"
    why = "not called; what it does at a worker's start or end belongs into the application's lifespan"
    umask = "it is for Unix sockets alone; for the files of the application, umask in the shell before"
    assert translation.left == [("--umask", umask), ("on_exit", why), ("post_fork", why)]


def test_worker_class_may_be_a_class(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("class worker_class: pass\n")
    why = "__config__.worker_class is not run; what it sets up, such as its CONFIG_KWARGS, has to be given as options"
    assert left("a") == [("--worker-class", why)]


@pytest.mark.parametrize("name", ["other.py", "file:other.py", "python:other"])
def test_file_may_be_named_in_three_ways(tmp_path: Path, name: str) -> None:
    (tmp_path / "other.py").write_text("bind = 'a:1'\n")
    (tmp_path / "gunicorn.conf.py").write_text("raise AssertionError\n")
    assert amounts_to(f"-k asgi -c {name} app").startswith("--bind a:1 ")


def test_file_without_the_usual_suffix_is_run(tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("workers = 7\n")
    assert read_settings(["-c", "conf", "a"], {})["workers"] == 7


def test_file_that_raises_shows_where_and_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("workers = 1\nraise RuntimeError('no')\n")
    with pytest.raises(ConfigError, match=r"gunicorn -c gunicorn.conf.py: RuntimeError: no; mend the file"):
        read_settings(["a"], {})
    trace = capsys.readouterr().err.splitlines()
    assert trace[1].strip().endswith("line 2, in <module>")
    assert "edge" not in trace[1]


VALUES = {
    "bind": "a:1",
    "worker_class": "asgi",
    "chdir": "/",
    "raw_env": "A=b",
    "loglevel": "info",
    "asgi_loop": "auto",
}
VALUES |= {
    "asgi_lifespan": "auto",
    "root_path": "/a",
    "forwarded_allow_ips": "*",
    "pythonpath": "/",
    "protocol": "http",
}
VALUES |= {"access_log_format": "%(h)s", "header_map": "drop", "proxy_allow_ips": "::1", "config": "conf"}
VALUES |= {"ssl_version": "5", "ciphers": "HIGH", "limit_request_line": "4096", "raw_paste_global_conf": "a=b"}
VALUES |= {"http2_max_header_list_size": "65536", "paste": "app.ini", "user": "root", "group": "root"}
VALUES |= {"pidfile": "a.pid"}


@pytest.mark.parametrize(("name", "flag"), [(name, flag) for name, flag in FLAGS.items() if flag.names])
def test_what_a_flag_amounts_to_is_an_option_here_and_takes_its_value(name: str, flag: Flag, tmp_path: Path) -> None:
    if name == "daemon":
        return  # refused
    (tmp_path / "conf").write_text("")
    words = [flag.names[-1]] if flag.takes is Takes.NOTHING else [flag.names[-1], VALUES.get(name, "1")]
    beside = ["--certfile", "a.pem"] if name in ("keyfile", "ca_certs", "cert_reqs") else []
    beside += ["--ca-certs", "c.pem"] if name == "cert_reqs" else []
    beside += ["--paste", "app.ini"] if name == "raw_paste_global_conf" else []
    app = [] if "paste" in name else ["shop:app"]
    arguments = translate(read_settings([*words, *beside, *app], {}), {}).arguments
    parameters = cli.serve_command.make_context("serve", list(arguments)).params
    build_settings(given_flags(parameters))
