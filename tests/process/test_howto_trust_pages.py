"""docs/howto/trust-trouble.md and container-trust.md, typed as they stand there, behind a proxy on loopback."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import trustme

from edge.cli_trust.check import DEFAULT_TARGET
from edge_certs.trust import diagnosis, doctor
from edge_certs.trust.clients import CERTIFI, CLIENTS
from edge_certs.trust.dockerfile import FAMILIES
from edge_certs.trust.formats import FORMATS
from edge_certs.trust.target import PRIVATE_SUFFIXES
from edge_certs.trust.verdict import Verdict
from tests.process.server import ROOT
from tests.process.test_howto_trust import BLOCK, Reader, commands
from tests.process.tls_proxy import InterceptingProxy, intercepting, site

DOCS = ROOT / "docs"
NAME = "www.shop.example"


def rows(page: str, title: str) -> list[list[str]]:
    """Return the cells of the table below the heading, without its head."""
    text = (DOCS / page).read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    return [row for row in found[1:] if set(row[0]) != {"-", " "} and not row[0].startswith("---")]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def masked(text: str) -> list[str]:
    """Return the lines without what differs from machine to machine and run to run."""
    text = re.sub(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{16}\b", "SHA256", text)
    text = re.sub(r"OU=Testing cert #\S+?,O=trustme v[\d.]+", f"CN={NAME}", text)
    text = re.sub(r"http://(127\.0\.0\.1:\d+|proxy\.corp\.example:3128)", "PROXY", text)
    text = re.sub(r"/\S*/certifi/cacert.pem", "CERTIFI", text)
    text = re.sub(r"(?<= )\d+(\.\d+)+ +", "VERSION ", text)
    return [re.sub(r"  +", "  ", line).rstrip() for line in text.splitlines()]


@pytest.mark.parametrize(("page", "count"), [("howto/trust-trouble.md", 4), ("howto/container-trust.md", 3)])
def test_commands_of_the_page_print_what_stands_there(page: str, count: int, tmp_path: Path) -> None:
    for tool in ("bash", "curl", "grep"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs the tool {tool}")
    public = trustme.CA()
    public.cert_pem.write_to_path(str(tmp_path / "public.pem"))
    authority = trustme.CA(organization_name="Corp", organization_unit_name="Corp Root CA")
    with site(public, NAME) as port:
        proxy = InterceptingProxy(authority, tmp_path / "public.pem", {NAME: port})
        with intercepting(proxy) as proxy_port:
            reader = Reader(tmp_path, "", authority)
            url = f"http://127.0.0.1:{proxy_port}"
            reader.environ |= {"HTTPS_PROXY": url, "https_proxy": url}
            typed = 0
            for kind, _, content in BLOCK.findall((DOCS / page).read_text()):
                for command, output in commands(content) if kind == "console" else []:
                    typed += 1
                    assert masked(reader.type(command)) == masked(output), command
    assert typed == count


def test_image_that_the_page_makes_begins_with_its_base_and_has_the_lines_behind_it(tmp_path: Path) -> None:
    authority = trustme.CA(organization_name="Corp", organization_unit_name="Corp Root CA")
    reader = Reader(tmp_path, "", authority)
    reader.type(".venv/bin/edge trust add corp-root-ca.pem")
    [command] = [line[2:] for line in (DOCS / "howto/container-trust.md").read_text().splitlines() if "$ (echo" in line]
    reader.type(command)
    lines = (tmp_path / "Dockerfile").read_text().splitlines()
    assert (lines[0], lines[-1]) == ("FROM python:3.13-slim", "RUN pip install httpx")
    assert (tmp_path / "corp-root-ca.pem").read_text().splitlines()[1] in lines


def test_bases_are_documented() -> None:
    assert {name for row in rows("howto/container-trust.md", "Other bases") for name in names(row[0])} == set(FAMILIES)


def test_formats_are_documented() -> None:
    assert {names(row[0])[0] for row in rows("reference/trust.md", "Formats of `env`")} == set(FORMATS)


def test_verdicts_and_private_names_are_documented() -> None:
    table = {names(row[0])[0]: row[1] for row in rows("reference/trust.md", "Verdicts")}
    assert set(table) == {verdict.value for verdict in Verdict}
    assert set(names(table["private"])) == set(PRIVATE_SUFFIXES)


def test_clients_are_documented_with_where_they_look_for_roots() -> None:
    table = {names(row[0])[0]: row[1:] for row in rows("reference/trust.md", "Clients")}
    assert list(table) == [client.name for client in CLIENTS]
    for client in CLIENTS:
        variables, otherwise = table[client.name]
        assert (tuple(names(variables)), otherwise) == (client.variables, client.otherwise)
        assert ("added to the others" in variables) is client.adds
    assert CERTIFI == "certifi"


def test_findings_are_documented_with_their_weight() -> None:
    source = "".join(Path(str(module.__file__)).read_text() for module in (diagnosis, doctor))
    given = {(code, weight) for weight, code in re.findall(r'\b(broken|warning)\(\s*"([\w-]+)"', source)}
    given |= {(code, "broken") for code in re.findall(r'code = "([\w-]+)" if', source)}
    given |= {(code, "broken") for code in re.findall(r'MISSING else "([\w-]+)"', source)}
    table = rows("reference/trust.md", "Findings")
    documented = {(name, row[1]) for row in table for name in names(row[0])}
    assert documented - given == {("root-...", "broken")}
    assert given <= documented
    assert len(given) > 25


def test_default_target_is_documented() -> None:
    assert f"`{DEFAULT_TARGET}`" in (DOCS / "howto/trust-trouble.md").read_text()
