"""Files of --log-config, as people have them: applied in a process of their own, as they change the whole process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_backend.errors import LoadError
from edge_backend.log_config import apply_log_config, check_log_config

# Logs one line to each logger of ours and to the access log, as the server does.
PROGRAM = """
import logging, sys
early = logging.getLogger("edge.master")
from edge_backend.log_config import apply_log_config
name = apply_log_config(sys.argv[1])
early.info("early"), logging.getLogger("edge.net").warning("late"), logging.getLogger("other").warning("other")
logging.getLogger(name).info('%s - "%s %s HTTP/%s" %d', "192.0.2.1", "GET", "/", "1.1", 200)
print("access:", name)
"""

UVICORN_JSON = """{"version": 1, "disable_existing_loggers": false,
 "formatters": {
  "default": {"()": "uvicorn.logging.DefaultFormatter", "fmt": "%(levelprefix)s %(message)s", "use_colors": null},
  "access": {"()": "uvicorn.logging.AccessFormatter", "fmt": "%(client_addr)s '%(request_line)s' %(status_code)s"}},
 "handlers": {
  "default": {"formatter": "default", "class": "logging.StreamHandler", "stream": "ext://sys.stderr"},
  "access": {"formatter": "access", "class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
 "loggers": {
  "uvicorn": {"handlers": ["default"], "level": "INFO", "propagate": false}, "uvicorn.error": {"level": "INFO"},
  "uvicorn.access": {"handlers": ["access"], "level": "INFO", "propagate": false}}}"""

YAML = """
version: 1
formatters: {plain: {format: '%(name)s|%(message)s'}}
handlers: {console: {class: logging.StreamHandler, formatter: plain, stream: ext://sys.stdout}}
root: {level: INFO, handlers: [console]}
"""

TOML = """
version = 1
[formatters.plain]
format = "%(name)s|%(message)s"
[handlers.console]
class = "logging.StreamHandler"
formatter = "plain"
stream = "ext://sys.stdout"
[loggers.edge]
level = "WARNING"
handlers = ["console"]
"""

GUNICORN_INI = """
[loggers]
keys=root, gunicorn.error, gunicorn.access
[handlers]
keys=console, access
[formatters]
keys=generic, access
[logger_root]
level=WARNING
handlers=console
[logger_gunicorn.error]
level=INFO
handlers=console
propagate=0
qualname=gunicorn.error
[logger_gunicorn.access]
level=INFO
handlers=access
propagate=0
qualname=gunicorn.access
[handler_console]
class=StreamHandler
formatter=generic
args=(sys.stdout, )
[handler_access]
class=StreamHandler
formatter=access
args=(sys.stdout, )
[formatter_generic]
format=%(name)s|%(message)s
[formatter_access]
class=uvicorn.logging.AccessFormatter
format=%(client_addr)s|%(status_code)s
"""


def run(folder: Path, name: str, text: str) -> tuple[list[str], list[str]]:
    file = folder / name
    file.write_text(text)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(file)], capture_output=True, text=True, env=environment, check=True
    )
    return done.stdout.splitlines(), done.stderr.splitlines()


def test_file_of_uvicorn_works_without_uvicorn(tmp_path: Path) -> None:
    out, err = run(tmp_path, "log.json", UVICORN_JSON)
    assert out == ["192.0.2.1 'GET / HTTP/1.1' 200 OK", "access: uvicorn.access"]
    assert err == ["INFO:     early", "WARNING:  late", "other"]


@pytest.mark.parametrize("name", ["log.yaml", "log.YML"])
def test_file_with_a_root_alone_gets_everything(tmp_path: Path, name: str) -> None:
    out, _ = run(tmp_path, name, YAML)
    assert out == [
        "edge.master|early",
        "edge.net|late",
        "other|other",
        'uvicorn.access|192.0.2.1 - "GET / HTTP/1.1" 200',
        "access: uvicorn.access",
    ]


def test_file_that_names_us_is_obeyed_to_the_letter(tmp_path: Path) -> None:
    out, _ = run(tmp_path, "log.toml", TOML)
    assert out == ["edge.net|late", "access: uvicorn.access"]


def test_file_of_gunicorn_gets_both_logs(tmp_path: Path) -> None:
    out, _ = run(tmp_path, "logging.conf", GUNICORN_INI)
    assert out == [
        "edge.master|early",
        "edge.net|late",
        "other|other",
        "192.0.2.1|200 OK",
        "access: gunicorn.access",
    ]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.json", "{", "Expecting property name enclosed in double quotes: line 1 column 2"),
        ("a.yaml", "a: [", "while parsing a flow node"),
        ("a.yaml", "- 1", "not a table of settings"),
        ("a.toml", "a =", "Invalid value"),
        ("a.ini", "[loggers]\nkeys=root", "'formatters' is missing"),
        ("a.json", '{"handlers": {"a": {"class": "no.such.Handler"}}}', "Unable to configure handler 'a': "),
    ],
)
def test_file_of_no_use_is_refused_in_one_line(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(LoadError) as caught:
        apply_log_config(str(tmp_path / name))
    message = str(caught.value)
    assert message.startswith(f"--log-config {tmp_path / name}: {reason}"), message
    assert message.endswith("; see logging.config in Python's documentation")
    assert "\n" not in message


def test_check_reads_the_file_and_opens_nothing(tmp_path: Path) -> None:
    handler = {"class": "logging.FileHandler", "filename": str(tmp_path / "made.log")}
    (tmp_path / "a.json").write_text(json.dumps({"handlers": {"a": handler}, "root": {"handlers": ["a"]}}))
    check_log_config(str(tmp_path / "a.json"))
    assert not (tmp_path / "made.log").exists()
    (tmp_path / "a.ini").write_text("no section")
    with pytest.raises(LoadError, match="File contains no section headers"):
        check_log_config(str(tmp_path / "a.ini"))


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no such file or directory; use a file that this user may read"):
        apply_log_config(str(tmp_path / "nosuch.json"))
