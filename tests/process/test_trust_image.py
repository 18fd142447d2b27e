"""The lines of `edge trust dockerfile`, done step by step in a throw-away root tree, and then clients in that tree.

The tree is this machine, which is a Debian. What other systems' own commands do (apk and Alpine's order, RHEL's
update-ca-trust) is recorded by stand-ins: their answers are as their manuals say, and were not run here.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from edge_certs.trust.dockerfile import FAMILIES
from edge_certs.trust.variables import BUNDLE_VARIABLES, EXTRA_VARIABLES
from tests.process.image import Image, need_overlay, recorded
from tests.process.server import DEADLINE, ROOT, clean_environment
from tests.process.tls_proxy import site

LOCAL = "/usr/local/share/ca-certificates"
# certifi alone is told by no variable; edge's workers are.
NAMES = ("urllib", "urllib3", "requests", "httpx", "aiohttp", "boto3", "grpc", "curl", "git", "node")
# One of each kind: by OpenSSL's variable, by certifi's users' own, by gRPC's, by what is added to what is built in.
FEW = ("urllib", "requests", "grpc", "node")
CALL = """
import json, sys
from tests.process import trust_clients
print(json.dumps({url: {name: trust_clients.call(name, url) for name in sys.argv[2:]} for url in sys.argv[1].split()}))
"""
LOG = "/var/log/recorded"


@dataclass(frozen=True)
class Company:
    """A public site, whose root an image has, and a corporate one; `environ` of a user who added the corporate root."""

    urls: tuple[str, str]
    public: str
    corporate: Path
    environ: dict[str, str]
    context: Path

    def edge_trust(self, *arguments: str, environ: dict[str, str] | None = None) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "edge", "trust", *arguments],
            cwd=self.context,
            env={**self.environ, **(environ or {})},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    for tool in ("update-ca-certificates", "curl", "git", "node"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs the tool {tool}")
    need_overlay()
    folder = tmp_path_factory.mktemp("company")
    public, corporate = trustme.CA(), trustme.CA()
    corporate.cert_pem.write_to_path(str(folder / "corp.pem"))
    environ = clean_environment(EDGE_HOME=str(folder / "home"))
    with site(public, "localhost") as public_port, site(corporate, "localhost") as corporate_port:
        urls = (f"https://localhost:{public_port}/", f"https://localhost:{corporate_port}/")
        found = Company(urls, public.cert_pem.bytes().decode(), folder / "corp.pem", environ, folder)
        found.edge_trust("add", "corp.pem")
        yield found


def base_image(company: Company) -> Image:
    """An image as it is published: it knows the public root, and nobody's else."""
    image = Image(company.context)
    image.run(f"rm -rf {LOCAL}/* /etc/ca-certificates/update.d/*")
    image.write(f"{LOCAL}/public.crt", company.public)
    image.run("update-ca-certificates --fresh")
    return image


def answers(image: Image, company: Company, names: Sequence[str] = FEW) -> dict[str, dict[str, str]]:
    """Build the image and call both sites by each client in it."""
    image.environ["PYTHONPATH"] = f"{ROOT}:{ROOT}/backend:{ROOT}/certs"
    command = [sys.executable, "-c", f"exec({CALL!r})", " ".join(company.urls), *names]
    image.run(" ".join(_quoted(word) for word in command) + " > /answers.json")
    found: dict[str, dict[str, str]] = json.loads(image.build("/answers.json"))
    return found


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def test_image_without_the_lines_refuses_the_corporate_site(company: Company) -> None:
    found = answers(base_image(company), company, NAMES)
    public, corporate = (found[url] for url in company.urls)
    assert all(answer.startswith("refused: ") for answer in corporate.values()), corporate
    # The others have roots of their own, in which this public root is not.
    assert {name for name, answer in public.items() if answer == "ok"} == {
        "urllib",
        "urllib3",
        "aiohttp",
        "curl",
        "git",
    }


def test_debian_image_reaches_the_corporate_and_the_public_site(company: Company) -> None:
    image = base_image(company)
    image.read(company.edge_trust("dockerfile", "--base", "debian"))
    found = answers(image, company, NAMES)
    public, corporate = (found[url] for url in company.urls)
    assert set(corporate.values()) <= {"ok"}, corporate
    # What replaces all roots of the others adds to node's own, among which this public root is not.
    assert {name for name, answer in public.items() if answer != "ok"} == {"node"}


def test_worker_in_an_image_with_edge_reaches_the_corporate_site_by_certifi_too(company: Company) -> None:
    [line] = re.findall(
        r"^RUN edge (trust add .*)$", (ROOT / "docs/howto/container-trust.md").read_text(), re.MULTILINE
    )
    image = base_image(company)
    image.read(company.edge_trust("dockerfile"))
    image.environ |= {"PYTHONPATH": f"{ROOT}:{ROOT}/backend:{ROOT}/certs", "EDGE_HOME": "/data/edge"}
    edge = f"{sys.executable} -m edge"
    image.run(f"{edge} {line}")
    image.run(f"{edge} trust check {company.urls[1]} --client certifi --json > /check.json")
    [certifi] = json.loads(image.build("/check.json"))["clients"]
    assert (certifi["now"]["state"], certifi["serve"]["state"]) == ("refused", "ok")


def test_slim_debian_image_gets_the_package_first(company: Company) -> None:
    image = base_image(company)
    image.run("mv /usr/sbin/update-ca-certificates /root/")
    brings = '[ "$1" != install ] || mv /root/update-ca-certificates /usr/sbin/'
    image.write(*recorded("apt-get", LOG, brings), mode=0o755)
    image.read(company.edge_trust("dockerfile"))
    image.run(f"grep -c BEGIN /etc/ssl/edge/extra.pem >> {LOG}")
    assert image.build(LOG).splitlines() == [
        "apt-get update",
        "apt-get install --yes --no-install-recommends ca-certificates",
        "1",
    ]


def test_alpine_image_has_the_roots_before_apk_calls_out(company: Company) -> None:
    image = base_image(company)
    # As in the base image: a bundle, and no command that makes it.
    image.run("mv /usr/sbin/update-ca-certificates /root/")
    needle = company.corporate.read_text().splitlines()[1]
    brings = f'grep -q "{needle}" /etc/ssl/certs/ca-certificates.crt && echo trusted >> {LOG}'
    image.write(*recorded("apk", LOG, f"{brings}; mv /root/update-ca-certificates /usr/sbin/"), mode=0o755)
    image.read(company.edge_trust("dockerfile", "--base", "alpine"))
    image.run(f"grep -c '{needle}' /etc/ssl/certs/ca-certificates.crt >> {LOG}")
    assert image.build(LOG).splitlines() == ["apk add --no-cache ca-certificates", "trusted", "1"]


def test_rhel_image_reaches_both_sites_by_what_update_ca_trust_extracts(company: Company) -> None:
    image = base_image(company)
    extracted = "/etc/pki/ca-trust/extracted/pem"
    extracts = f"mkdir -p {extracted}; "
    extracts += f"cat {LOCAL}/public.crt /etc/pki/ca-trust/source/anchors/* > {extracted}/tls-ca-bundle.pem"
    image.write(*recorded("update-ca-trust", LOG, extracts), mode=0o755)
    image.read(company.edge_trust("dockerfile", "--base", "rhel"))
    found = answers(image, company)
    public, corporate = (found[url] for url in company.urls)
    assert set(corporate.values()) == {"ok"}, corporate
    assert {name for name, answer in public.items() if answer != "ok"} == {"node"}


def test_distroless_image_needs_no_shell_and_reaches_both_sites(company: Company, tmp_path: Path) -> None:
    lines = company.edge_trust("dockerfile", "--base", "distroless")
    assert "RUN" not in lines
    (tmp_path / "public.pem").write_text(company.public)
    # The commands that stand there, typed by somebody whose own variable has the public root.
    for line in lines.splitlines():
        if line.startswith("#   edge trust "):
            words = line.removeprefix("#   edge trust ").split()
            company.edge_trust(*words, environ={"SSL_CERT_FILE": str(tmp_path / "public.pem")})
    image = base_image(company)
    image.read(lines)
    found = answers(image, company)
    assert {answer for url in company.urls for answer in found[url].values()} == {"ok"}, found


@pytest.mark.parametrize("base", sorted(FAMILIES))
def test_every_variable_names_a_file_that_the_lines_make(base: str, company: Company) -> None:
    lines = company.edge_trust("dockerfile", "--base", base)
    image = Image(company.context)
    for name in ("edge-bundle.pem", "edge-extra.pem"):
        (company.context / name).touch()
    image.read(lines)
    assert set(image.environ) == {*BUNDLE_VARIABLES, *EXTRA_VARIABLES}
    assert {image.environ[name] for name in EXTRA_VARIABLES} == {"/etc/ssl/edge/extra.pem"}
    assert len({image.environ[name] for name in BUNDLE_VARIABLES}) == 1
