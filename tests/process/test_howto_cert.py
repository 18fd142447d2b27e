"""The pages about certificates, typed as they stand there, in a home folder that is thrown away."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.certs.forge import forge
from tests.process.server import DEADLINE, ROOT, Authority, clean_environment
from tests.test_docs import Reader

HOWTO = ROOT / "docs/howto"


class CertReader(Reader):
    """Masks what differs from day to day and from machine to machine, too."""

    def _mask(self, lines: list[str]) -> list[str]:
        masked = [re.sub(r"\b[0-9a-f]{64}\b", "SHA256", line) for line in super()._mask(lines)]
        masked = [re.sub(r"\d{4}-\d\d-\d\d", "DATE", line) for line in masked]
        masked = [re.sub(r"\b\d+ days\b", "DAYS", line) for line in masked]
        masked = [re.sub(r"(?<=edge local root )[^ ,]+", "USER@HOST", line) for line in masked]
        return [re.sub(r"PORT(?=\S)|:8443", "PORT", line) for line in masked]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def prepare(folder: Path) -> None:
    """What the reader of "Certificates from certbot" has: certbot's folder, with a certificate of the local root."""
    environ = clean_environment(EDGE_HOME=str(folder / ".local/share/edge"))
    command = [sys.executable, "-m", "edge", "cert", "dev", "shop.test", "www.shop.test", "--out", str(folder)]
    subprocess.run(command, env=environ, check=True, capture_output=True, timeout=DEADLINE)
    live = folder / "letsencrypt/live/shop.test"
    live.mkdir(parents=True)
    (folder / "shop.test.pem").rename(live / "fullchain.pem")
    (folder / "shop.test.key").rename(live / "privkey.pem")


@pytest.mark.parametrize(
    ("page", "count"), [("https-on-localhost", 8), ("https-in-compose", 1), ("other-certificates", 6)]
)
def test_commands_of_the_page_print_what_it_shows(page: str, count: int, tmp_path: Path, authority: Authority) -> None:
    for tool in ("bash", "curl", "certutil"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    with CertReader(tmp_path, authority) as reader:
        prepare(tmp_path)
        assert reader.read((HOWTO / f"{page}.md").read_text()) == count


CELL = re.compile(r"^\| [^|]+ \| `(certificate .*)` \|$", re.MULTILINE)


def test_refusals_of_the_reference_are_what_is_said(tmp_path: Path) -> None:
    leaf = forge("shop.example")
    contents = {"half.pem": leaf.pem[:300], "empty.pem": b"", "key.pem": leaf.key_pem}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    rows = CELL.findall((ROOT / "docs/reference/cert.md").read_text())
    assert len(rows) == 4
    for row in rows:
        name = row.split()[1].rstrip(":")
        done = subprocess.run(
            [sys.executable, "-m", "edge", "cert", "inspect", name],
            cwd=tmp_path,
            env=clean_environment(EDGE_HOME=str(tmp_path / "home")),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert (done.returncode, done.stderr) == (2, f"edge: {row}\n")


def test_every_command_is_in_the_reference() -> None:
    from edge.cli_cert.group import cert_group

    table = (ROOT / "docs/reference/cert.md").read_text().partition("\n\n`issue`")[0]
    documented = re.findall(r"^\| `(\w+)", table, re.MULTILINE)
    assert sorted(documented) == sorted(cert_group.commands)
