"""The page about clients with certificates, typed as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.process.server import DEADLINE, ROOT, Authority, Server, clean_environment

PAGE = (ROOT / "docs/howto/mutual-tls.md").read_text()
[EXPECTED] = re.findall(r'# "(CN=[^"]*)", or None', PAGE)
APP = """
async def app(scope, receive, send):
    name = scope["extensions"]["tls"]["client_cert_name"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": repr(name).encode()})
"""


def test_commands_of_the_page_let_one_client_in(tmp_path: Path) -> None:
    for tool in ("bash", "curl", "openssl"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    made, [serve], [ask] = [block.splitlines() for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)]
    authority = Authority(tmp_path)
    cert, key = authority.issue("shop", "shop.example")
    cert.write_bytes(cert.read_bytes() + key.read_bytes())
    (tmp_path / "app.py").write_text(APP)
    environ = clean_environment(HOME=str(tmp_path), EDGE_HOME=str(tmp_path / "home"), EDGE_WORKERS="1")

    def type_in(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    for command in made:
        assert type_in(command).returncode == 0, command
    program, subcommand, *arguments = shlex.split(serve)
    assert (program, subcommand) == ("edge", "serve")
    with Server([*arguments, "--bind", "127.0.0.1:0"], cwd=tmp_path, environ=environ) as server:
        port = server.wait_ready().port
        place = f'connect-to = "shop.example:443:127.0.0.1:{port}"\ncacert = "{authority.root}"\nsilent\n'
        (tmp_path / ".curlrc").write_text(place)
        assert type_in(ask).stdout == f"{EXPECTED!r}"
        assert type_in("curl https://shop.example/").returncode != 0
