"""docs/howto/https-on-a-server.md, typed as it stands there, by somebody whose authority is Pebble on loopback."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from edge_certs.acme import ADVICE
from edge_certs.ledger import STAGING
from tests.process.acme_site import APP, Site, names_of, sites
from tests.process.server import DEADLINE, ROOT, Server, clean_environment
from tests.process.test_howto_trust import BLOCK, commands

PAGE = ROOT / "docs/howto/https-on-a-server.md"
CORP = "https://ca.corp.example/acme/directory"


class Machine:
    """A folder with the page's files, whose servers ask Pebble; those at its ports answer it for all of them."""

    def __init__(self, site: Site, folder: Path, name: str) -> None:
        self.site = site
        self.folder = folder
        self.environ = clean_environment(
            EDGE_HOME=str(folder / name),
            EDGE_WORKERS="1",
            EDGE_BIND="127.0.0.1:0",
            EDGE_HTTP_BIND="127.0.0.1:0",
            EDGE_ACME_DIRECTORY=site.authority.directory,
            EDGE_ACME_CA_ROOT=str(site.authority.ca_file),
            DNS_API=site.authority.dns.management,
        )

    def serve(self, command: str, **environ: str) -> Server:
        arguments = shlex.split(command.replace(CORP, self.site.authority.directory))
        assert arguments[:2] == [".venv/bin/edge", "serve"]
        server = Server(arguments[2:], cwd=self.folder, environ={**self.environ, **environ})
        return server.wait_ready()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "pebble").mkdir()
    yield from sites(tmp_path / "pebble")


def test_every_command_of_the_page_works(site: Site, tmp_path: Path) -> None:
    for tool in ("bash", "curl", "grep"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs the tool {tool}")
    blocks = BLOCK.findall(PAGE.read_text())
    (tmp_path / "app.py").write_text(APP)
    shutil.copy(site.authority.ca_file, tmp_path / "corp-root.pem")
    for kind, name, content in blocks:
        if kind == "sh":
            (tmp_path / name).write_text(content)
            (tmp_path / name).chmod(0o755)
    typed = [each for kind, _, content in blocks if kind == "console" for each in commands(content)]
    assert len(typed) == 5
    one, several, wildcard, private, status = typed
    shared, own = Machine(site, tmp_path, "home"), Machine(site, tmp_path, "own")
    with ExitStack() as servers:
        binds = {"EDGE_BIND": f"127.0.0.1:{site.tls}", "EDGE_HTTP_BIND": f"127.0.0.1:{site.http}"}
        first = servers.enter_context(shared.serve(one[0], **binds))
        site.wait_issued("example.com")
        assert masked(first.errors, one[1]) == masked(one[1].splitlines(), one[1])
        assert masked(type_in(shared, status[0]), status[1]) == masked(status[1].splitlines(), status[1])
        with_two = servers.enter_context(shared.serve(several[0]))
        with_star = servers.enter_context(own.serve(wildcard[0]))
        with_corp = servers.enter_context(shared.serve(private[0]))
        port = with_star.ports("https")[0]
        assert names_of(site.wait_issued("example.com", port)) == {"example.com", "*.example.com"}
        port = with_corp.ports("https")[0]
        assert names_of(site.wait_issued("intranet.corp.example", port)) == {"intranet.corp.example"}
        port = with_two.ports("https")[0]
        assert names_of(site.wait_issued("api.example.com", port)) == {"api.example.com"}
        with_two.wait_error(r"example\.com: new certificate for example\.com, www\.example\.com,")


def type_in(machine: Machine, command: str) -> Sequence[str]:
    """Return the lines that a command prints."""
    edge = machine.folder / ".venv/bin/edge"
    if not edge.exists():
        edge.parent.mkdir(parents=True)
        edge.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m edge "$@"\n')
        edge.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=machine.folder,
        env=machine.environ,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    return done.stdout.splitlines()


def masked(lines: Sequence[str], shown: str) -> list[str]:
    """Return the lines of the kinds that are shown, without what differs from run to run: instants and addresses."""
    kinds = [re.split(r"[:\d]", re.sub(r"^\S+ INFO ", "", line))[0] for line in shown.splitlines()]
    kept = [line for line in lines if any(re.sub(r"^\S+ INFO ", "", line).startswith(kind) for kind in kinds)]
    kept = [line for line in kept if "reloaded" not in line and "no plain" not in line]
    kept = [re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "INSTANT", line) for line in kept]
    return [re.sub(r"(https?://)\S+", r"\1ADDRESS", line) for line in kept]


def test_messages_of_the_table_are_those_of_the_authority_and_ours() -> None:
    table = PAGE.read_text().partition("the log says")[2].partition("\n## ")[0]
    named = re.findall(r"`([^`]+)`", "".join(line.split("|")[1] for line in table.splitlines() if line.count("|") > 2))
    kinds = {name for name in named if " " not in name}
    assert kinds <= {*ADVICE, "rateLimited"}
    assert "is not trusted" in named


def test_staging_environment_of_the_page_is_the_one_that_is_known() -> None:
    assert STAGING in PAGE.read_text().replace("\n", " ").replace("  ", " ")
