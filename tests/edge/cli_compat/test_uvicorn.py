"""uvicorn's command line: every flag of the release that is installed, and what each amounts to."""

from __future__ import annotations

import importlib
import shlex

import click
import pytest

from edge import cli
from edge.cli_compat.rules import Takes
from edge.cli_compat.uvicorn import FLAGS, translate
from edge.cli_options import given_flags
from edge.config import build_settings
from edge.errors import ConfigError

# The package hides the module of that name behind a function.
OPTIONS = [item for item in importlib.import_module("uvicorn.main").main.params if isinstance(item, click.Option)]
# Questions about uvicorn itself.
ASIDE = {"--version", "--help"}


def amounts_to(line: str, **environ: str) -> str:
    return shlex.join(translate(shlex.split(line), environ).arguments)


def test_every_flag_of_uvicorn_is_known_with_what_follows_it() -> None:
    real = {
        option.opts[0]: Takes.SWITCH
        if option.secondary_opts
        else Takes.NOTHING
        if option.is_flag
        else Takes.MANY
        if option.multiple
        else Takes.ONE
        for option in OPTIONS
        if option.opts[0] not in ASIDE
    }
    assert {flag.names[0]: flag.takes for flag in FLAGS} == real


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # The guides.
        ("myapp:app", "--bind 127.0.0.1:8000 --workers 1 --proxy-headers myapp:app"),
        ("myapp:app --reload", "--bind 127.0.0.1:8000 --reload --proxy-headers myapp:app"),
        (
            "myapp:app --reload --reload-dir ./src",
            "--bind 127.0.0.1:8000 --reload --reload-dir ./src --proxy-headers myapp:app",
        ),
        (
            "myapp:app --host 0.0.0.0 --port 8080 --workers 4",
            "--bind 0.0.0.0:8080 --workers 4 --proxy-headers myapp:app",
        ),
        (
            "app:app --workers 4 --proxy-headers --forwarded-allow-ips '*' --log-level info",
            "--bind 127.0.0.1:8000 --workers 4 --log-level info --proxy-headers --forwarded-allow-ips '*' app:app",
        ),
        (
            "myapp:app --uds /tmp/uvicorn.sock",
            "--uds /tmp/uvicorn.sock --uds-permissions 666 --workers 1 --proxy-headers myapp:app",
        ),
        ("myapp:app --fd 3", "--fd 3 --workers 1 --proxy-headers myapp:app"),
        ("a --loop uvloop --workers 1", "--bind 127.0.0.1:8000 --workers 1 --loop uvloop --proxy-headers a"),
        ("a --http httptools --workers 1", "--bind 127.0.0.1:8000 --workers 1 --proxy-headers a"),
        ("a --no-access-log --workers 1", "--bind 127.0.0.1:8000 --workers 1 --no-access-log --proxy-headers a"),
        ("a --no-server-header --workers 1", "--bind 127.0.0.1:8000 --workers 1 --proxy-headers --no-server-header a"),
        ("a --limit-concurrency 100", "--bind 127.0.0.1:8000 --workers 1 --proxy-headers --limit-concurrency 100 a"),
        ("a --limit-max-requests 500", "--bind 127.0.0.1:8000 --workers 1 --proxy-headers --limit-max-requests 500 a"),
        (
            "a --ssl-keyfile=./key.pem --ssl-certfile=./cert.pem",
            "--bind 127.0.0.1:8000 --workers 1 --proxy-headers --ssl-keyfile ./key.pem --ssl-certfile ./cert.pem a",
        ),
        ("a --env-file .env", "--bind 127.0.0.1:8000 --workers 1 --env-file .env --proxy-headers a"),
        ("a --log-config ./l.yaml", "--bind 127.0.0.1:8000 --workers 1 --log-config ./l.yaml --proxy-headers a"),
        ("'f:create()' --factory", "--bind 127.0.0.1:8000 --workers 1 --proxy-headers --factory 'f:create()'"),
        # What has another spelling or another default here.
        ("--host :: a", "--bind '[::]:8000' --workers 1 --proxy-headers a"),
        ("a --no-proxy-headers", "--bind 127.0.0.1:8000 --workers 1 --no-proxy-headers a"),
        ("a --http2 --http zttp", "--bind 127.0.0.1:8000 --workers 1 --http2 on --proxy-headers a"),
        ("a --loop zuvloop", "--bind 127.0.0.1:8000 --workers 1 --loop zuvloop:new_event_loop --proxy-headers a"),
        ("a --ssl-version 17 --ssl-cert-reqs 0", "--bind 127.0.0.1:8000 --workers 1 --proxy-headers a"),
        ("a --ssl-cert-reqs 2", "--bind 127.0.0.1:8000 --workers 1 --proxy-headers --client-auth require a"),
        (
            "a --ssl-cert-reqs 1 --ssl-ca-certs c.pem",
            "--bind 127.0.0.1:8000 --workers 1 --proxy-headers --client-auth optional --client-ca c.pem a",
        ),
        ("a --ssl-ca-certs c.pem", "--bind 127.0.0.1:8000 --workers 1 --proxy-headers a"),
        ("a --forwarded-allow-ips ''", "--bind 127.0.0.1:8000 --workers 1 --no-proxy-headers a"),
        (
            "a --header X-A:b --header 'C: d' --ws-per-message-deflate false",
            "--bind 127.0.0.1:8000 --workers 1 --ws-per-message-deflate false --proxy-headers "
            "--header X-A:b --header 'C: d' a",
        ),
        ("", "--bind 127.0.0.1:8000 --workers 1 --proxy-headers"),
    ],
)
def test_line_amounts_to(line: str, expected: str) -> None:
    assert amounts_to(line) == expected


def test_what_has_no_counterpart_is_named_with_the_reason() -> None:
    translation = translate(["a", "--http", "h11", "--reset-contextvars", "--ssl-ca-certs", "c.pem"], {})
    assert translation.left == [
        ("--http", "HTTP/1.1 is read in one way only, with every check"),
        ("--reset-contextvars", "each request runs in a context of its own anyway"),
        ("--ssl-ca-certs", "no client is asked for a certificate; --ssl-cert-reqs 2 asks each"),
    ]


def test_password_is_handed_on_out_of_sight() -> None:
    translation = translate(["a", "--ssl-keyfile-password", "s3cret"], {})
    assert "s3cret" not in translation.arguments
    assert translation.environ == {"EDGE_KEY_PASSWORD": "s3cret"}


def test_variables_count_where_the_arguments_say_nothing() -> None:
    environ = {
        "UVICORN_APP": "shop:app",
        "UVICORN_HOST": "0.0.0.0",
        "UVICORN_PORT": "1",
        "UVICORN_RELOAD": "true",
        "UVICORN_ACCESS_LOG": "0",
        "UVICORN_RELOAD_DIR": "a:b",
        "UVICORN_HEADER": "A:b C:d",
        "UVICORN_LOG_LEVEL": "",
    }
    assert amounts_to("--port 2", **environ) == (
        "--bind 0.0.0.0:2 --reload --reload-dir a --reload-dir b --no-access-log --proxy-headers "
        "--header A:b --header C:d shop:app"
    )


def test_number_of_workers_may_come_from_the_platform() -> None:
    assert amounts_to("a", WEB_CONCURRENCY="3") == "--bind 127.0.0.1:8000 --proxy-headers a"


def test_nobody_is_believed_where_the_platform_names_nobody() -> None:
    assert amounts_to("a", FORWARDED_ALLOW_IPS="") == "--bind 127.0.0.1:8000 --workers 1 --no-proxy-headers a"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a b", "uvicorn b: one application too many; name one"),
        ("a --prt 3", "uvicorn --prt: unknown option; did you mean --port; see uvicorn --help"),
        ("a --zzz=3", "uvicorn --zzz=3: unknown option; see uvicorn --help"),
        ("a --port", "uvicorn --port: expected one argument; see uvicorn --help"),
        ("a --ssl-cert-reqs 3", "uvicorn --ssl-cert-reqs '3': unknown; use 0, 1 or 2"),
        ("a --ssl-cert-reqs x", "uvicorn --ssl-cert-reqs 'x': not a whole number; use one"),
    ],
)
def test_what_uvicorn_does_not_know_is_refused(line: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        translate(shlex.split(line), {})
    assert str(caught.value) == message


VALUES = {"--uds": "a.sock", "--loop": "auto", "--ws": "auto", "--lifespan": "auto", "--interface": "auto"}
VALUES |= {"--log-level": "info", "--root-path": "/a", "--header": "A:b", "--app-dir": "/", "--reload-dir": "/"}
VALUES |= {"--ws-per-message-deflate": "true", "--forwarded-allow-ips": "*", "--ssl-version": "5"}
VALUES |= {"--ssl-ciphers": "HIGH", "--ssl-certfile": "a.pem", "--h11-max-incomplete-event-size": "65536"}


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.names[0])
def test_what_a_flag_amounts_to_is_an_option_here_and_takes_its_value(flag: object) -> None:
    [found] = [item for item in FLAGS if item is flag]
    name = found.names[0]
    words = [name] if found.takes in (Takes.NOTHING, Takes.SWITCH) else [name, VALUES.get(name, "1")]
    beside = ["--ssl-certfile", "a.pem"] if "ssl" in name and name != "--ssl-certfile" else []
    beside += ["--ssl-ca-certs", "c.pem"] if name == "--ssl-cert-reqs" else []
    beside += ["--fd", "3"] if name in ("--host", "--port") else []
    arguments = translate(["shop:app", *words, *beside], {}).arguments
    parameters = cli.serve_command.make_context("serve", list(arguments)).params
    build_settings(given_flags(parameters))
