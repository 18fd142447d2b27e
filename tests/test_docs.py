"""The documentation says what is: its commands run and print what stands there, its tables are those of the source."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from edge import config_site
from edge.cli import INTERRUPTED
from edge.config import TABLES, section_options
from edge.config_limits import LimitSettings, TimeoutSettings
from edge.config_toml import read_text
from edge.config_websocket import WebSocketSettings
from edge.dispatch import spool
from edge.errors import ConfigError, StartError
from edge.http import chunked, flood, frames, head, hpack_table, http2, incoming, rules, windows
from edge.net import stream, untaken
from edge.options import Option
from edge.policy import forwarded, rate
from edge.tls import clienthello, contexts
from edge.toml_file import parse_document
from edge_backend import wire
from tests import commands_page, toml_page
from tests.options_page import PAGE, options_page
from tests.process.server import DEADLINE, ROOT, Authority, Server, clean_environment, wait_until

DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
_BLOCK = re.compile(r'^```(\w+)(?: title="([\w.]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
# What was answered is logged by then, also on a machine that is busy.
LOGGED = 10.0
_INSTALL = ".venv/bin/pip install -q -e . && "


def id_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def opening_commands() -> list[str]:
    """Return the commands of README that stand alone, to be copied as they are."""
    blocks = _BLOCK.findall((ROOT / "README.md").read_text())
    return [content.strip() for kind, _, content in blocks if kind == "sh"]


def test_second_command_of_the_readme_is_what_ci_runs() -> None:
    [*_, last] = (ROOT / ".ci/run").read_text().splitlines()
    assert last == opening_commands()[1]


def test_command_of_contributing_is_what_ci_runs() -> None:
    [(_, _, content)] = _BLOCK.findall((DOCS / "contributing.md").read_text())
    assert content.strip() == opening_commands()[1]


def test_readme_opens_with_two_commands_that_make_their_own_environment() -> None:
    first, second = opening_commands()
    assert first.startswith(f"python3 -m venv .venv && {_INSTALL}.venv/bin/edge serve --dev ")
    assert second.startswith("python3 -m venv .venv-test && ")


def test_figures_of_the_readme_are_those_that_were_measured() -> None:
    costs = (ROOT / "README.md").read_text().partition("## What it costs")[2].partition("\n## ")[0]
    [*_, table] = re.findall(r"(?:^\|.*\n)+", costs, re.MULTILINE)
    measured = (DOCS / "performance.md").read_text()
    figures = re.findall(r"\d\.\d\d", table)
    assert len(figures) == 10
    for figure in figures:
        assert re.search(rf"\| {figure} |\*\*{figure}\*\*", measured), figure


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_links_lead_to_what_exists(page: Path) -> None:
    for target in _LINK.findall(page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            headings = [line.lstrip("# ").lower() for line in linked.read_text().splitlines() if line.startswith("#")]
            assert anchor in [re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings], target


def test_every_page_is_reachable_from_the_index() -> None:
    waiting, reached = [DOCS / "index.md"], set[Path]()
    while waiting:
        page = waiting.pop()
        reached.add(page)
        targets = {target.partition("#")[0] for target in _LINK.findall(page.read_text()) if "://" not in target}
        linked = {(page.parent / target).resolve() for target in targets if target.endswith(".md")}
        waiting += [target for target in linked - reached if target not in waiting]
    assert reached >= set(DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=id_of)
def test_files_of_the_source_that_a_page_names_are_there(page: Path) -> None:
    for name in re.findall(r"`((?:edge|backend|certs|tests|examples)/[\w./-]+)`", page.read_text()):
        assert (ROOT / name).exists(), name


def test_page_of_the_commands_is_made_from_the_source() -> None:
    assert commands_page.PAGE.read_text() == commands_page.commands_page(), "run python -m tests.commands_page"


def test_page_of_the_options_is_made_from_the_source() -> None:
    assert PAGE.read_text() == options_page(), "run python -m tests.options_page"


def test_page_of_the_file_is_made_from_the_source() -> None:
    assert toml_page.PAGE.read_text() == toml_page.toml_page(), "run python -m tests.toml_page"


def test_files_on_the_pages_have_no_key_that_there_is_not() -> None:
    found = [(page, text) for page in PAGES for word, _, text in _BLOCK.findall(page.read_text()) if word == "toml"]
    ours = [(id_of(page), text) for page, text in found if re.search(r"^\[+(site|limits|pool)", text, re.MULTILINE)]
    assert len(ours) >= 4
    for page, text in ours:
        whole = f"[[site]]\n{text}" if text.startswith("[[site.route]]") else text
        assert read_text(parse_document(page, whole), TABLES).problems == (), page


def rows(page: str) -> list[list[str]]:
    """Return the cells of all tables of a page."""
    lines = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize(
    "option",
    [option for part in (LimitSettings, TimeoutSettings, WebSocketSettings) for option in section_options(part)],
    ids=lambda option: option.key,
)
def test_limit_is_documented_with_its_default_and_a_reason(option: Option) -> None:
    if option.kind.switch or "|" in option.kind.metavar:
        return  # permessage-deflate is no limit
    [row] = [row for row in rows("reference/limits.md") if row[0] == f"`{option.flags[0]}`"]
    assert row[1] == option.shown
    assert all(row)


@pytest.mark.parametrize(
    ("what", "values"),
    [
        ("one chunk extension", (chunked.MAX_EXTENSION, chunked.MAX_EXTENSIONS)),
        ("a trailer section", (chunked.MAX_TRAILERS, chunked.MAX_TRAILER_FIELDS)),
        ("a ClientHello", (clienthello.MAX_HELLO_SIZE,)),
        ("`X-Forwarded-For`, `Forwarded`", (forwarded.MAX_HOPS, forwarded.MAX_CHAIN_SIZE)),
        ("`X-Forwarded-Prefix` that counts", (forwarded.MAX_PREFIX_SIZE,)),
        ("a trusted proxy's `X-Request-ID`", (forwarded.MAX_REQUEST_ID_SIZE,)),
        ("a body that waits in memory", (spool.IN_MEMORY, spool.MAX_MEMORY)),
        ("content on the way", (wire.INITIAL_WINDOW,)),
        ("answer waiting", (stream.HIGH_WATER,)),
        ("content read and dropped", (stream.LINGER_SIZE, int(stream.LINGER_TIME))),
        ("a host with its port", (rules.MAX_HOST,)),
        ("clients of a rate", (rate.MAX_KEYS,)),
        ("contexts of sites", (contexts.MAX_GUARDED,)),
        ("an error page", (config_site.MAX_PAGE,)),
        ("all fields of an application's answer", (wire.MAX_FIELDS,)),
        ("field lines remembered", (head.MAX_LINES, head.MAX_LINE)),
    ],
)
def test_fixed_limit_is_documented_as_it_is(what: str, values: tuple[int, ...]) -> None:
    [row] = [row for row in rows("reference/limits.md") if row[0].startswith(what)]
    assert tuple(int(number) for number in re.findall(r"\d+", row[1])) == values


@pytest.mark.parametrize(
    ("what", "values"),
    [
        ("window of a request's content", (frames.DEFAULT_WINDOW,)),
        ("window of all requests' content", (windows.CONNECTION_WINDOW,)),
        ("answers of all connections", (untaken.UNTAKEN_ANSWERS,)),
        ("answers of a connection", (untaken.ANSWERS_WINDOW,)),
        ("CONTINUATION frames", (incoming.MAX_CONTINUATIONS,)),
        ("heads of open requests", (http2.MAX_HEADS,)),
        ("table of field compression", (hpack_table.TABLE_SIZE,)),
        ("requests given up", (flood.MAX_RESETS,)),
        ("malformed or surplus", (flood.MAX_ERRORS,)),
        ("frames that bring nothing on", (flood.NOISE, flood.NOISE_RATE, flood.NOISE_OF_REQUEST)),
        ("a SETTINGS frame", (http2.SETTINGS_NOISE,)),
        ("answers to PING", (http2.MAX_REPLIES,)),
        ("bytes that a client has to take", (untaken.LEAST_PROGRESS,)),
    ],
)
def test_fixed_limit_of_http2_is_documented_as_it_is(what: str, values: tuple[int, ...]) -> None:
    [row] = [row for row in rows("reference/http2.md") if row[0].startswith(what)]
    assert tuple(int(number) for number in re.findall(r"\d+", row[1])) == values
    assert len(row) == 3


def test_every_status_that_the_edge_gives_is_documented() -> None:
    given = set()
    for source in (ROOT / "edge").rglob("*.py"):
        given |= set(re.findall(r"(?:ProtocolError|Answered|_fail|Refusal)\((?:\w+, )?(\d{3}),", source.read_text()))
        given |= set(re.findall(r"refuse\((?:self|exchange), (\d{3}),", source.read_text()))
    documented = {status for row in rows("reference/http.md") for status in re.findall(r"\b[2345]\d\d\b", row[1])}
    assert given >= {"400", "408", "413", "431", "502", "503"}
    assert given <= documented


def test_exit_codes_are_documented() -> None:
    documented = [row[0] for row in rows("reference/exit-codes.md") if row[0].isdigit()]
    assert documented == ["0", str(StartError.exit_code), str(ConfigError.exit_code), str(INTERRUPTED)]


class Reader:
    """Somebody who types the commands of a page, in a copy of the examples, and looks at what they print."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        self.home = folder / ".local/share/edge"
        self._running = contextlib.ExitStack()
        self._server: Server | None = None
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "tls").mkdir()
        shutil.copy(authority.cert, folder / "tls/fullchain.pem")
        shutil.copy(authority.key, folder / "tls/privkey.pem")
        # What `pip install` puts there.
        command = folder / ".venv/bin/edge"
        command.parent.mkdir(parents=True)
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m edge "$@"\n')
        command.chmod(0o755)
        # On a terminal, curl shows no progress, as the answer is shown there.
        (folder / ".curlrc").write_text('no-progress-meter\nnoproxy = "*"\n')
        # On a terminal, the access log is for people; any user but root has the root of --dev in their home.
        self._environ = clean_environment(
            HOME=str(folder), EDGE_HOME=str(self.home), EDGE_LOG_FORMAT="console", EDGE_WORKERS="1"
        )

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._running.close()

    def read(self, text: str) -> int:
        """Follow a page; return the number of commands."""
        count = 0
        blocks = _BLOCK.findall(text)
        for (kind, name, content), (next_kind, _, next_content) in itertools.zip_longest(
            blocks, blocks[1:], fillvalue=("", "", "")
        ):
            if kind == "python":
                (self.folder / name).write_text(content)
            elif kind == "log":
                self._wait_logged(content.splitlines())
            elif kind == "sh":
                self._type(content.strip(), next_content.splitlines() if next_kind == "text" else [])
                count += 1
            elif kind == "console":
                for command, output in _commands(content):
                    self._type(command, output)
                    count += 1
        return count

    def _type(self, command: str, output: list[str]) -> None:
        if ".venv-test" in command:
            return  # what runs this test
        command = command.rpartition("pip install -q . && ")[2].rpartition(_INSTALL)[2]
        if any("listening on" in line for line in output):
            self._serve(command, output)
            return
        port = str(self._server.port) if self._server is not None else "8443"
        done = subprocess.run(
            ["bash", "-c", command.replace("8443", port)],
            cwd=self.folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert self._mask(done.stdout.splitlines()) == self._mask(output), command

    def _serve(self, command: str, output: list[str]) -> None:
        """Run a server as it stands there, but on a port that is free, in place of the one before."""
        self._running.close()
        program, *arguments = shlex.split(command)
        assert (program, arguments[0]) == (".venv/bin/edge", "serve")
        environ = self._environ if "--bind" in arguments else {**self._environ, "EDGE_PORT": "0"}
        arguments = [argument.replace(":8443", ":0") for argument in arguments]
        server = self._running.enter_context(Server(arguments[1:], cwd=self.folder, environ=environ))
        self._server = server.wait_ready()
        self._wait_logged([line for line in output if _has_ipv6() or "[::1]" not in line])

    def _wait_logged(self, lines: list[str]) -> None:
        server = self._server
        assert server is not None
        wanted = self._mask(lines)

        def missing() -> list[str]:
            logged = self._mask([*server.output, *server.errors])
            return [line for line in wanted if line not in logged]

        wait_until(lambda: not missing(), f"{missing()} in {self._mask([*server.output, *server.errors])}", LOGGED)

    def _mask(self, lines: list[str]) -> list[str]:
        """Return the lines without what differs from run to run: dates, ids, numbers above nine, the home folder."""
        masked = [line.replace(str(self.folder), "~").rstrip() for line in lines]
        masked = [re.sub(r"\b[0-9a-f]{20}\b", "ID", line) for line in masked]
        masked = [re.sub(r"^date: .*", "date: DATE", line) for line in masked]
        masked = [re.sub(r"^\d{4}-\d\d-\d\d[T ][\d:.,]+Z?", "TIME", line) for line in masked]
        masked = [re.sub(r"(?<=in )[\d.]+ ms \(queue [\d.]+, app [\d.]+\)", "DURATIONS", line) for line in masked]
        return [re.sub(r"(?<=:)\d{4,5}\b", "PORT", line) for line in masked]


def _commands(block: str) -> Iterator[tuple[str, list[str]]]:
    command, output = "", list[str]()
    for line in block.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, output
            command, output = line[2:], []
        else:
            output.append(line)
    yield command, output


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def test_every_example_is_in_the_quickstart() -> None:
    there = [f"{path.name}/" if path.is_dir() else path.name for path in (ROOT / "examples").iterdir()]
    named = [row[0].strip("`") for row in rows("quickstart.md")[2:]]
    assert sorted(named) == sorted(name for name in there if not name.startswith("__"))


@pytest.mark.parametrize(
    ("page", "count"),
    [
        (ROOT / "README.md", 3),
        (DOCS / "quickstart.md", 8),
        (DOCS / "reference/exit-codes.md", 6),
        (DOCS / "coming-from/uvicorn.md", 1),
        (DOCS / "coming-from/gunicorn.md", 1),
    ],
    ids=["readme", "quickstart", "exit-codes", "uvicorn", "gunicorn"],
)
def test_commands_print_what_the_page_shows(page: Path, count: int, tmp_path: Path, authority: Authority) -> None:
    for tool in ("bash", "curl"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    with Reader(tmp_path, authority) as reader:
        assert reader.read(page.read_text()) == count


def test_fields_of_the_access_log_are_documented(tmp_path: Path, authority: Authority) -> None:
    documented = [row[0].strip("`") for row in rows("reference/logs.md") if len(row) == 3 and row[0] != "field"]
    documented = [name for name in documented if name.isidentifier()]
    environ = clean_environment(EDGE_HOME=str(tmp_path), PATH=os.environ["PATH"])
    options = ["--cert", str(authority.cert), "--host", "127.0.0.1", "--port", "0", "--workers", "1"]
    options += ["--max-header-size", "256", "--app-dir", str(ROOT / "examples"), "hello:app"]
    with Server(options, cwd=tmp_path, environ=environ) as server:
        server.wait_ready()
        with httpx.Client(verify=authority.client_context(), trust_env=False) as client:
            url = f"https://localhost:{server.port}/"
            client.get(url)
            assert client.get(url, headers={"x-large": "x" * 300}).status_code == 431
        served, refused = server.wait_access(2)
    assert [*served, "error"] == list(refused) == documented
    [example] = [block[2] for block in _BLOCK.findall((DOCS / "reference/logs.md").read_text()) if block[0] == "json"]
    assert list(json.loads(example)) == list(served)
