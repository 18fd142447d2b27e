"""Each command in the documentation is typed by a test, or stands here with the reason why it cannot be."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import edge
from edge.cli import program, serve_command
from edge.cli_options import given_flags
from edge.envfile import read_settings
from edge.errors import ConfigError
from tests.commands_page import leaves
from tests.process.server import ROOT

DOCS = ROOT / "docs"
PAGES = {str(page.relative_to(ROOT)): page.read_text() for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]}
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_PROGRAMS = (
    "edge|python3?|pip|docker|sudo|curl|kill|systemctl|systemd-analyze|find|useradd|update-ca-certificates|certbot|ruff|mypy|zensical|uvicorn|gunicorn|hypercorn"
    "|nginx|caddy|supervisord|circusd|certutil|openssl|security|certutil.exe|keytool"
)
_COMMAND = re.compile(rf"(?:\.venv/bin/)?(?:{_PROGRAMS}) ")

_PRINTED = "tests/test_docs.py::test_commands_print_what_the_page_shows"
_CERT = "tests/process/test_howto_cert.py::test_commands_of_the_page_print_what_it_shows"
_SERVER = "tests/process/test_howto_server.py::test_every_command_of_the_page_works"
_PROXY = "tests/process/test_howto_trust.py::test_page_leads_from_the_error_to_the_cure"
_STATIC = "tests/process/test_howto_static.py::test_every_command_of_the_page_works"
_TRUST = "tests/process/test_howto_trust_pages.py::test_commands_of_the_page_print_what_stands_there"

# Pages with blocks of commands, and the test that types them all and looks at what they print.
TYPED = {
    "README.md": _PRINTED,
    "docs/quickstart.md": _PRINTED,
    "docs/reference/exit-codes.md": _PRINTED,
    "docs/coming-from/uvicorn.md": _PRINTED,
    "docs/coming-from/gunicorn.md": _PRINTED,
    "docs/howto/https-on-localhost.md": _CERT,
    "docs/howto/https-in-compose.md": _CERT,
    "docs/howto/other-certificates.md": _CERT,
    "docs/howto/https-on-a-server.md": _SERVER,
    "docs/howto/corporate-proxy.md": _PROXY,
    "docs/howto/trust-trouble.md": _TRUST,
    "docs/howto/container-trust.md": _TRUST,
    "docs/howto/static-files.md": _STATIC,
    "docs/howto/single-page-app.md": _STATIC,
    "docs/howto/in-front-of-services.md": "tests/process/test_sites.py::test_page_about_other_services_serves",
    "docs/howto/behind-a-load-balancer.md": "tests/process/test_proxy_protocol.py::test_command_of_the_page_serves",
    "docs/howto/mutual-tls.md": "tests/process/test_howto_mutual_tls.py::test_commands_of_the_page_let_one_client_in",
    "docs/howto/sticky-sessions.md": "tests/interop/test_socketio.py::test_command_of_the_page_serves",
    "docs/howto/embedding.md": "tests/process/test_howto_embedding.py::test_programs_of_the_page_print_what_it_shows",
    "docs/contributing.md": "tests/test_docs.py::test_command_of_contributing_is_what_ci_runs",
}

# Pages with blocks of commands that no test types, and why.
UNTYPED = {
    "docs/howto/systemd.md": "needs systemd as process 1, and root; tests/process/test_systemd.py speaks as it does",
}

# The commands of edge itself, and a test that runs each, or a page from which it is typed. In running text they are
# held to the parser, too.
RUN_BY = {
    "serve": "tests/process/server.py",
    "check": "tests/edge/test_lookup.py",
    "config": "tests/edge/test_origins.py",
    "uvicorn": "docs/coming-from/uvicorn.md",
    "gunicorn": "docs/coming-from/gunicorn.md",
    "completion": "tests/edge/test_cli_completion.py",
    "drain": "tests/process/test_control.py",
    "pause": "tests/process/test_gate.py",
    "resume": "tests/process/test_gate.py",
    "maintenance": "tests/process/test_gate.py",
    "reload": "tests/process/test_control.py",
    "scale": "tests/process/test_control.py",
    "status": "tests/process/test_control.py",
    "stop": "tests/process/test_control.py",
    "upgrade": "tests/process/test_upgrade.py",
    "compose init": "docs/howto/https-in-compose.md",
    "cert check": "tests/process/test_cert_commands.py",
    "cert dev": "docs/howto/https-on-localhost.md",
    "cert export": "docs/howto/other-certificates.md",
    "cert import": "docs/howto/other-certificates.md",
    "cert inspect": "docs/howto/other-certificates.md",
    "cert issue": "tests/process/test_cert_commands.py",
    "cert list": "docs/howto/other-certificates.md",
    "cert renew": "tests/process/test_cert_commands.py",
    "cert revoke": "tests/process/test_cert_commands.py",
    "cert rollover": "tests/process/test_cert_commands.py",
    "trust add": "tests/process/test_trust.py",
    "trust bundle": "tests/process/test_trust_formats.py",
    "trust check": "tests/process/test_trust_check.py",
    "trust detect": "tests/process/test_trust_check.py",
    "trust dockerfile": "docs/howto/container-trust.md",
    "trust doctor": "docs/howto/trust-trouble.md",
    "trust env": "tests/process/test_trust_formats.py",
    "trust list": "tests/process/test_trust_stores.py",
    "trust refresh": "tests/edge/test_cli_trust.py",
    "trust remove": "tests/process/test_trust.py",
    "trust run": "tests/process/test_trust.py",
}

# Commands of other programs that a test runs, or edge itself, in tests of the stores.
RUN_ELSEWHERE = {
    "python tests/check.py": ".ci/run",
    "python -m pytest": "tests/check.py",
    "python -m tests.options_page": "tests/test_docs.py",
    "python -m tests.toml_page": "tests/test_docs.py",
    "python -m tests.commands_page": "tests/test_docs.py",
    "python -P -m edge_backend": "tests/process/server.py",
    "python -P -m edge_certs": "tests/process/test_acme_serve.py",
    "python -m tests.bench.storm": "tests/process/test_storm.py",
    "ruff format": "tests/check.py",
    "ruff check": "tests/check.py",
    "zensical build --strict": "tests/test_docs_site.py",
    "systemd-analyze security": "tests/process/test_systemd.py",
    "systemd-analyze verify": "tests/process/test_systemd.py",
    "certutil -A": "certs/edge_certs/trust/stores/nss.py",
    "keytool -importcert": "certs/edge_certs/trust/stores/java.py",
    "keytool -list": "certs/edge_certs/trust/stores/java.py",
}

# Commands that no test runs, and why.
NOT_RUN = {
    "python tests/bench/run.py": "takes minutes and compares with servers that are installed for it",
    "pip install --upgrade edge-serve": "needs a release in a registry; tests/process/test_upgrade.py has one",
    "find public ": "needs brotli; tests/process/test_static.py serves what it makes",
    "python manage.py collectstatic": "is Django's; needs a project with static files",
    "pip install uvicorn granian": "needs a registry; for the benchmark only",
    **dict.fromkeys(
        ("uvicorn ", "gunicorn ", "hypercorn ", "certbot ", "caddy ", "nginx ", "systemctl reload gunicorn"),
        "what people type today; tests/test_docs_coming_from.py translates it, and holds what they type now",
    ),
    "docker --init": "needs a container engine; tests/process/test_process_one.py is process 1 without it",
    "docker compose up": "needs a container engine; tests/process/test_compose.py runs the stack in namespaces",
    "docker run": "needs a container engine; the flags are checked by tests/process/test_trust_formats.py",
    "docker stop": "needs a container engine; it sends SIGTERM, as tests/process/test_process_one.py does",
    "sudo edge trust add": "changes somebody's machine; tests/process/test_trust_stores.py changes a copy",
    "kill -QUIT": "needs the process id of a worker; the stacks are shown by tests/process/test_crash.py",
    "systemctl ": "needs systemd as process 1; tests/process/test_systemd.py speaks as it does",
    "sudo edge status": "needs a service of root; tests/process/test_control.py asks without sudo",
    "curl -k ": "needs somebody's address; tests/process/test_hosts.py asks by address",
    "security ": "needs macOS",
    "certutil.exe ": "needs Windows",
    "kill PID": "what a user may do; tests/process/test_drain.py sends the signal",
}


def blocks(text: str) -> Iterator[str]:
    """Give the commands that stand in blocks: after a prompt, alone in a block of the shell, or indented."""
    for kind, content in _FENCE.findall(text):
        if kind == "console":
            yield from (line[2:] for line in content.splitlines() if line.startswith("$ "))
        elif kind in ("sh", "bash") and not content.startswith("#!"):
            yield from content.strip().splitlines()


def spans(text: str) -> Iterator[str]:
    """Give the commands in running text and tables, and those that stand as text or are indented as code."""
    prose = _FENCE.sub("", text)
    lines = [line for line in prose.splitlines() if line.startswith("    ")]
    lines += [line for kind, content in _FENCE.findall(text) if kind == "text" for line in content.splitlines()]
    for span in [*(line.strip().partition("  #")[0] for line in lines), *_SPAN.findall(prose)]:
        command = " ".join(span.replace("\\|", "|").split())
        if _COMMAND.match(command):
            yield command


def words_of(command: str) -> list[str]:
    """Return the words up to where the shell takes over, with a number where the page has N, the first of {on|off}."""
    command = re.sub(r"\{(\w+)(?:\|\w+)+\}", r"\1", command)
    words = ["1" if word in ("N", "WORKERS") else word for word in shlex.split(command.replace("[OPTIONS] ", ""))]
    ends = [index for index, word in enumerate(words) if word == "|" or word.startswith((">", "&&"))]
    return words[: min(ends, default=len(words))]


def accept(command: str) -> None:
    """Hold a command of edge to its own parser. What is only named, a command or an option, has to be there."""
    _, *words = words_of(command)
    found: click.Command = program()
    while isinstance(found, click.Group) and words and not words[0].startswith("-"):
        assert words[0] in found.commands, command
        found = found.commands[words.pop(0)]
    if not words or words == ["--help"]:
        return
    if words[-1].startswith("-"):
        assert words[-1] in {flag for item in found.params for flag in (*item.opts, *item.secondary_opts)}, command
        return
    parsed = found.make_context(found.name, words)
    if found is serve_command and parsed.params["app"]:
        try:
            read_settings(given_flags(parsed.params), {})
        except ConfigError as error:
            if "no such " not in str(error):  # the files and folders of the page's reader are not here
                raise


@pytest.mark.parametrize("page", PAGES)
def test_blocks_of_commands_are_typed_by_a_test(page: str) -> None:
    if not list(blocks(PAGES[page])):
        assert page not in {*TYPED, *UNTYPED}, f"{page} has no commands any more"
        return
    if page in UNTYPED:
        return
    assert page in TYPED, f"{page} has commands that no test types"
    path, _, name = TYPED[page].partition("::")
    source = (ROOT / path).read_text()
    assert f"def {name}(" in source
    assert Path(page).stem in source


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_running_text_are_accepted_or_listed_with_a_reason(page: str) -> None:
    listed = (*RUN_ELSEWHERE, *NOT_RUN)
    for command in spans(PAGES[page]):
        if command.removeprefix(".venv/bin/").startswith("edge "):
            accept(command)
        else:
            assert command.startswith(listed), f"{command!r} is run by no test, and no reason is given"


@pytest.mark.parametrize("page", PAGES)
def test_what_is_called_from_python_is_there(page: str) -> None:
    for name in re.findall(r"(?<![\w./])edge\.(\w+)\(", PAGES[page]):
        assert hasattr(edge, name), f"edge.{name}"


def test_every_command_of_edge_is_run_by_a_test_and_documented() -> None:
    everything = " ".join(" ".join(text.split()) for text in PAGES.values())
    for command in [name.removeprefix("edge ") for name, _ in leaves(program())]:
        assert command in RUN_BY, command
        assert f"edge {command}" in everything or f"| `{command.split()[-1]}" in everything, command
    for command, path in RUN_BY.items():
        if path in TYPED:
            assert [typed for typed in blocks(PAGES[path]) if f"/edge {command}" in typed], (command, path)
        else:
            assert re.search(rf'"{command.split()[-1]}\b', (ROOT / path).read_text()), (command, path)


def test_reasons_and_references_are_still_needed() -> None:
    commands = [command for text in PAGES.values() for command in spans(text)]
    for listed in (*RUN_ELSEWHERE, *NOT_RUN):
        assert [command for command in commands if command.startswith(listed)], listed
    for command, path in RUN_ELSEWHERE.items():
        assert command.split()[-1].rpartition("/")[2] in (ROOT / path).read_text(), (command, path)
    for reason in (*NOT_RUN.values(), *UNTYPED.values()):
        for path in re.findall(r"tests/[\w/]+\.py", reason):
            assert (ROOT / path).is_file(), path
