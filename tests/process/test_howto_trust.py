"""docs/howto/corporate-proxy.md, typed as it stands there, by somebody whose intranet is on loopback."""

from __future__ import annotations

import re
import shlex
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import trustme

from edge_certs.trust.variables import BUNDLE_VARIABLES, EXTRA_VARIABLES
from tests.process.server import DEADLINE, ROOT, Server, clean_environment
from tests.process.tls_proxy import encrypted, site

PAGE = ROOT / "docs/howto/corporate-proxy.md"
BLOCK = re.compile(r'^```(\w+)(?: title="([\w.]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
INTRANET = "https://intranet.corp.example/"


def commands(block: str) -> list[tuple[str, str]]:
    """Return the commands of a block with what they print."""
    found = [item.partition("\n") for item in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(command, output) for command, _, output in found]


def masked(text: str) -> list[str]:
    """Return the lines without what differs from run to run: fingerprints and the days that are left."""
    text = re.sub(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{16}\b", "SHA256", text)
    return [re.sub(r" \d{6} ", " DAYS ", line).rstrip() for line in text.splitlines()]


class Reader:
    """Types commands in a folder with the root of IT, its key (that nobody should have), and `.venv/bin/edge`."""

    def __init__(self, folder: Path, url: str, authority: trustme.CA) -> None:
        self._folder = folder
        self._url = url
        self.environ = clean_environment(
            EDGE_HOME=str(folder / "home"), HOME=str(folder), EDGE_WORKERS="1", EDGE_PORT="0"
        )
        self.environ.pop("XDG_DATA_HOME", None)
        authority.cert_pem.write_to_path(str(folder / "corp-root-ca.pem"))
        authority.private_key_pem.write_to_path(str(folder / "corp-root-ca.key"))
        command = folder / ".venv/bin/edge"
        command.parent.mkdir(parents=True)
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m edge "$@"\n')
        command.chmod(0o755)

    def write(self, name: str, content: str) -> None:
        """Write a file that the page shows."""
        (self._folder / name).write_text(content.replace(INTRANET, self._url))

    def type(self, command: str) -> str:
        """Return what a command prints."""
        done = subprocess.run(
            ["bash", "-c", command.replace(INTRANET, self._url)],
            cwd=self._folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        return done.stdout.replace(str(self._folder), "~")

    def serve(self, command: str) -> str:
        """Run a server as it stands there, but on a free port, and return its first answer."""
        _, _, *arguments = shlex.split(command)
        with Server(arguments, cwd=self._folder, environ=self.environ) as server:
            server.wait_ready()
            assert server.addresses[0].startswith("http://127.0.0.1:")
            with httpx.Client(trust_env=False, timeout=DEADLINE) as client:
                return client.get(f"http://127.0.0.1:{server.port}/").text


def test_page_leads_from_the_error_to_the_cure(tmp_path: Path) -> None:
    for tool in ("bash", "curl", "certutil"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs the tool {tool}")
    authority = trustme.CA(organization_name="Corp", organization_unit_name="Corp Root CA")
    with site(authority, "localhost") as port:
        reader = Reader(tmp_path, f"https://localhost:{port}/", authority)
        typed = 0
        for kind, name, content in BLOCK.findall(PAGE.read_text()):
            if kind == "python":
                reader.write(name, content)
            for command, output in commands(content) if kind == "console" else []:
                typed += 1
                if "listening on" in output:
                    assert reader.serve(command) == "ok"
                else:
                    assert masked(reader.type(command)) == masked(output), command
    assert typed == 12


def test_table_names_every_variable() -> None:
    named = set(re.findall(r"`([A-Z0-9_]{6,})`", PAGE.read_text().partition("## Elsewhere")[0]))
    assert named - {"CERTIFICATE_VERIFY_FAILED"} == {*BUNDLE_VARIABLES, *EXTRA_VARIABLES, "EDGE_TRUST_MERGED"}


@pytest.mark.parametrize("sends_root", [False, True])
def test_error_messages_of_the_page_are_those_of_openssl(sends_root: bool, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    chain = [*issued.cert_chain_pems, *([authority.cert_pem] if sends_root else [])]
    (tmp_path / "chain.pem").write_bytes(b"".join(blob.bytes() for blob in (issued.private_key_pem, *chain)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem")
    client = httpx.Client(verify=ssl.create_default_context(), trust_env=False)
    with encrypted(context) as port, client, pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY") as caught:
        client.get(f"https://localhost:{port}/")
    message = re.findall(r"^- `(.*)`$", PAGE.read_text(), re.MULTILINE)[sends_root]
    assert message in str(caught.value)
