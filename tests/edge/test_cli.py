import os
import re
import socket
import subprocess
import sys
from collections.abc import Sequence

import click
import pytest

from edge import __version__, cli
from edge.cli_options import given_flags
from edge.config import ServeSettings, all_options, build_settings
from edge.given import Given

ROOMS = os.pathsep.join(path for path in sys.path if path)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("EDGE_") or name in ("WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS"):
            monkeypatch.delenv(name)


def settings_of(arguments: Sequence[str]) -> ServeSettings:
    parameters = cli.serve_command.make_context("serve", list(arguments)).params
    return build_settings(given_flags(parameters))


def refusal(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail before it starts anything, and return its one line."""
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch("edge: [^\n]+\n", err)
    return err.removeprefix("edge: ").rstrip("\n")


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": ROOMS, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        (["shop:app"], {}),
        (["shop"], {"app": "shop"}),
        (["-w", "3", "shop:app"], {"workers": 3}),
        (["shop:app", "--workers", "3"], {"workers": 3}),
        (["--workers=auto", "shop:app"], {}),
        (["-b", "a:1", "--bind", "unix:b", "shop:app"], {"bind": ["a:1", "unix:b"]}),
        (["--cert", "a", "--cert", "b", "--key", "c", "shop:app"], {"cert": ["a", "b"], "key": "c"}),
        (["--trusted-proxy", "::1", "--forwarded-allow-ips", "unix", "shop:app"], {"trusted_proxy": ["::1", "unix"]}),
        (["--port", "1", "--port", "2", "shop:app"], {"port": 2}),
        (["--factory", "--dev", "shop:app"], {"factory": True, "dev": True}),
        (["--no-access-log", "shop:app"], {"access_log": False}),
        (["--access-log", "shop:app"], {}),
        (["--no-ws-per-message-deflate", "shop:app"], {"ws_per_message_deflate": False}),
        (["--ws-per-message-deflate", "false", "shop:app"], {"ws_per_message_deflate": False}),
        (["--ws-per-message-deflate", "true", "shop:app"], {}),
        (["--no-proxy-headers", "--trusted-proxy", "::1", "shop:app"], {}),
        (
            ["--header", "X-A: b, c", "--no-date-header", "shop:app"],
            {"header": [("X-A", "b, c")], "date_header": False},
        ),
        (["--keep-alive", "5", "--graceful-timeout", "1m", "shop:app"], {"keepalive_timeout": 5, "drain_timeout": 60}),
        (["--timeout-keep-alive", "5", "shop:app"], {"keepalive_timeout": 5}),
    ],
)
def test_flags_mean_what_the_options_mean(arguments: list[str], values: dict[str, object]) -> None:
    assert settings_of(arguments) == build_settings({"app": "shop:app", **values})


def test_flag_is_named_as_the_origin_of_its_value() -> None:
    parameters = {"app": "shop", "workers": "2", "bind": (), "host": None, "access_log": False}
    assert given_flags(parameters) == {
        "app": Given("shop", ""),
        "workers": Given("2", "--workers "),
        "access_log": Given(False, "--access-log "),
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no application: give MODULE:ATTR, such as app:app, or set EDGE_APP"),
        (["app.py"], "'app.py': a file, not a module; use app:app"),
        (["my-app:app"], "'my-app:app': not an import path; use MODULE:ATTR, such as app:app"),
        (["--port", "70000", "app"], "--port '70000': out of range; use 0 to 65535"),
        (["--workers", "0", "app"], "--workers '0': out of range; use 1 to 1024 or auto"),
        (["-w", "x", "app"], "--workers 'x': not a whole number; use 1 to 1024 or auto"),
        (["--header-timeout", "-1", "app"], "--header-timeout '-1': out of range; use 1ms to 24h"),
        (
            ["--log-level", "loud", "app"],
            "--log-level 'loud': unknown; use critical, error, warning, info, debug or trace",
        ),
        (["--max-body", "10mb", "app"], "--max-body '10mb': unknown unit 'mb'; use KiB, MiB, GiB or a number of bytes"),
        (["--app-dir", "no/such", "app"], "--app-dir 'no/such': no such directory; use one that exists"),
        (
            ["-b", "a:x", "-b", "a:1", "app"],
            "--bind 'a:x': port 'x' is not a number from 0 to 65535; use HOST:PORT, "
            "[IPV6]:PORT, :PORT, unix:PATH or fd://N",
        ),
        (
            ["--trusted-proxy", "10.0.0.1/8", "app"],
            "--trusted-proxy '10.0.0.1/8': host bits are set; use 10.0.0.0/8 or the single address 10.0.0.1",
        ),
        (["-p", "8000", "app"], "--pid '8000': a number; use --port 8000, or ./8000 for a file of that name"),
        (["--dev", "--cert", "a", "app"], "--dev: --cert is given too; use one of them"),
        (["--key", "a", "app"], "--key: 1 given for 0 --cert; give each its --cert"),
        (["--workrs", "2", "app"], "--workrs: unknown option; did you mean --workers"),
        (["--no-acces-log", "app"], "--no-acces-log: unknown option; did you mean --no-access-log"),
        (["--zzz", "app"], "--zzz: unknown option; see edge serve --help"),
        (["-z", "app"], "-z: unknown option; see edge serve --help"),
        (["app", "--bind"], "option '--bind' requires an argument; see edge serve --help"),
        (["--factory=1", "app"], "option '--factory' does not take a value; see edge serve --help"),
        (["a", "b"], "got unexpected extra argument (b); see edge serve --help"),
    ],
)
def test_wrong_command_line_is_refused_with_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(["serve", *arguments], capsys) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serv", "app"], "no such command 'serv'; did you mean edge serve"),
        (["run", "app"], "no such command 'run'; use edge serve MODULE:ATTR, or see edge --help"),
        (["dev-cert"], "no such command 'dev-cert'; did you mean edge cert dev"),
        (["cert-issue", "a.example"], "no such command 'cert-issue'; did you mean edge cert issue"),
        (["cert", "dev-cert"], "no such command 'dev-cert'; see edge cert --help"),
        (["cert", "isue"], "no such command 'isue'; did you mean edge cert issue"),
        (["cert", "xyz"], "no such command 'xyz'; see edge cert --help"),
        (["app:app"], "no such command 'app:app'; use edge serve MODULE:ATTR, or see edge --help"),
        (["--versoin"], "--versoin: unknown option; did you mean --version"),
    ],
)
def test_wrong_command_is_refused_with_the_right_one(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(arguments, capsys) == message


def test_wrong_variable_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    message = "WEB_CONCURRENCY='many': not a whole number; use 1 to 1024 or auto"
    assert refusal(["serve", "app"], capsys) == message


def test_command_alone_prints_its_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search("serve +Serve an ASGI application", err)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_the_commands(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([flag]) == 0
    assert re.search("serve +Serve an ASGI application", capsys.readouterr().out)


def test_help_lists_every_command_under_a_title_and_cuts_no_sentence_short(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in ([], ["cert"], ["trust"], ["compose"]):
        cli.main([*words, "--help"])
        text = capsys.readouterr().out
        assert "..." not in text.replace("[ARGS]...", "").replace("ARGS...", "")
        assert max(map(len, text.splitlines())) < 80
    program = cli.program()
    assert sorted(program.list_commands(click.Context(program))) == sorted(program.commands)


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"edge {__version__}\n"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_of_serve_shows_each_option_with_its_default(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve", flag]) == 0
    text = " ".join(capsys.readouterr().out.replace("-\n", "-").split()).replace("- ", "-")
    titles = ("Application", "Listening", "TLS", "Forwarding", "Limits", "Timeouts", "WebSocket", "Pool", "Logs")
    assert [title for title in titles if f"{title}: " not in text] == []
    for option in all_options():
        if not option.is_argument:
            assert all(flag in text for flag in option.flags)
            assert f"[default: {option.shown}]" in text


def test_help_loads_neither_the_server_nor_its_libraries() -> None:
    code = (
        "import sys; from edge.cli import main; main(['serve', '--help']); "
        "heavy = {'asyncio', 'ssl', 'uvloop', 'httptools', 'cryptography', 'rich', 'edge.server'}; "
        "print(*sorted(heavy & {*sys.modules}), file=sys.stderr)"
    )
    done = run("-c", code)
    assert done.returncode == 0
    assert done.stderr == "\n"


def test_server_does_without_other_commands_and_what_it_was_not_asked_for() -> None:
    code = (
        "import sys; from edge.cli import main; main(['serve', '--cert', 'none.pem', 'app:app']); "
        "print(*sorted(name for name in sys.modules if name.startswith(('edge.cli_', 'edge.acme', 'edge_certs.acme'))))"
    )
    done = run("-c", code)
    assert "none.pem" in done.stderr
    assert done.stdout.split() == ["edge.cli_group", "edge.cli_options"]


def test_module_runs_as_the_command_and_exits_with_its_code() -> None:
    done = run("-m", "edge", "serve", "--port", "70000", "app:app")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "edge: --port '70000': out of range; use 0 to 65535\n"


def test_module_answers_version_with_success() -> None:
    done = run("-m", "edge", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"edge {__version__}\n", "")


def test_variable_sets_the_application_of_the_process() -> None:
    done = run("-m", "edge", "serve", EDGE_APP="app.py")
    assert (done.returncode, done.stderr) == (2, "edge: EDGE_APP='app.py': a file, not a module; use app:app\n")


def test_missing_certificate_is_refused_before_anything_starts() -> None:
    done = run("-m", "edge", "serve", "--cert", "no/such.pem", "--port", "0", "app:app")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch("edge: certificate no/such.pem: [^\n]+\n", done.stderr)


def test_port_in_use_is_refused_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = run("-m", "edge", "serve", "--bind", address, "app:app")
    assert (done.returncode, done.stdout) == (2, "")
    reason = "the port is in use; stop what listens there or choose another"
    assert done.stderr == f"edge: cannot listen on {address}: {reason}\n"
