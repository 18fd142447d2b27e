"""Corporate chains with one thing wrong, from `edge trust add` to a real HTTPS request, under two Pythons.

What `add` says of a root is what happens then. What is wrong with a site's certificate it cannot see; docs/reference
says what Python 3.13 does with it. tests/certs/trust/test_defects.py has more roots, without servers.
"""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from edge_certs.trust.variables import write_trust
from tests.process.server import DEADLINE, clean_environment
from tests.process.tls_proxy import encrypted

CLIENT = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=20).read().decode())"
STRICT_SINCE = (3, 13)

AUTHORITY = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign", "subjectKeyIdentifier=hash")
SITE = ("subjectAltName=DNS:localhost", "authorityKeyIdentifier=keyid", "keyUsage=critical,digitalSignature")

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the tool openssl")


@dataclass(frozen=True)
class Chain:
    """A root and a site that it signed; what `add` says of the root, and which Pythons then reach the site."""

    root: tuple[str, ...] = AUTHORITY
    site: tuple[str, ...] = SITE
    key: str = "ec:P-256"
    sign: tuple[str, ...] = ()
    code: int = 0
    defects: tuple[str, ...] = ()
    before_313: bool = True
    since_313: bool = True


ROWS = {
    "nothing wrong": Chain(),
    "site without authority key identifier": Chain(site=(SITE[0], "authorityKeyIdentifier=none"), since_313=False),
    "site with a common name and no alternative": Chain(site=SITE[1:]),
    "root without subject key identifier": Chain(
        root=(*AUTHORITY[:2], "subjectKeyIdentifier=none"),
        site=(SITE[0], "authorityKeyIdentifier=issuer:always"),
        defects=("no-subject-key-identifier",),
        since_313=False,
    ),
    "root with basic constraints that are not critical": Chain(
        root=("basicConstraints=CA:TRUE", *AUTHORITY[1:]), defects=("basic-constraints-not-critical",), since_313=False
    ),
    "root without basic constraints": Chain(root=AUTHORITY[1:], defects=("no-basic-constraints",), since_313=False),
    "root without key usage": Chain(root=(AUTHORITY[0], AUTHORITY[2]), defects=("no-key-usage",), since_313=False),
    "root that may not sign": Chain(
        root=(AUTHORITY[0], "keyUsage=critical,digitalSignature", AUTHORITY[2]),
        code=4,
        defects=("cannot-sign",),
        before_313=False,
        since_313=False,
    ),
    "root that is none": Chain(
        root=("basicConstraints=critical,CA:FALSE", AUTHORITY[2]),
        code=4,
        defects=("not-an-authority",),
        before_313=False,
        since_313=False,
    ),
    "root with a short key": Chain(key="rsa:1024", code=4, defects=("short-key",), before_313=False, since_313=False),
    "root for other names": Chain(
        root=(*AUTHORITY, "nameConstraints=critical,permitted;DNS:corp.example"),
        defects=("name-constraints",),
        before_313=False,
        since_313=False,
    ),
    "root signed with SHA-1": Chain(sign=("-sha1",), defects=("weak-signature",)),
    "root with serial number 0": Chain(sign=("-set_serial", "0")),
}


def openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        ["openssl", *arguments], cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def make(folder: Path, chain: Chain) -> ssl.SSLContext:
    """Write root.pem, and return the context of the site."""
    kind, _, size = chain.key.partition(":")
    key = ["-newkey", chain.key] if kind == "rsa" else ["-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{size}"]
    config = ("[req]", "distinguished_name=name", "[name]", "[root]", *chain.root, "[site]", *chain.site)
    (folder / "config").write_text("\n".join(config))
    request = ("req", "-config", "config", "-nodes")
    root = ("-x509", "-extensions", "root", "-subj", "/CN=Corp Root", "-keyout", "root.key", "-out", "root.pem")
    openssl(folder, *request, *key, *root, "-days", "9", *chain.sign)
    site = (
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-subj",
        "/CN=localhost",
        "-keyout",
        "site.key",
        "-out",
        "site.csr",
    )
    openssl(folder, *request, *site)
    signed = ("-CA", "root.pem", "-CAkey", "root.key", "-set_serial", "7", "-days", "9", "-out", "site.pem")
    openssl(folder, "x509", "-req", "-in", "site.csr", *signed, "-extfile", "config", "-extensions", "site")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "site.pem", folder / "site.key")
    return context


def add(folder: Path, *arguments: str) -> tuple[int, list[str]]:
    """Return the exit code of `edge trust add`, and what it says that is wrong."""
    done = subprocess.run(
        [sys.executable, "-m", "edge", "trust", "add", "root.pem", "--json", *arguments],
        cwd=folder,
        env=clean_environment(EDGE_HOME=str(folder / "home")),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    rows = json.loads(done.stdout)["anchors"] if done.returncode == 0 else []
    return done.returncode, [defect["code"] for row in rows for defect in row["defects"]]


@cache
def python_313() -> str | None:
    found = shutil.which("python3.13")
    # A version manager's stand-in may be there without the version.
    works = found and subprocess.run([found, "-V"], capture_output=True, timeout=30, check=False).returncode == 0
    return found if works else None


def reaches(python: str, url: str, folder: Path) -> bool:
    """Whether urllib of that Python reaches the site by the variables alone; any other failure is none of a root's."""
    environ = clean_environment(**write_trust(folder / "home", {}).variables)
    done = subprocess.run(
        [python, "-c", CLIENT, url], env=environ, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.stdout == "ok\n" or "CERTIFICATE_VERIFY_FAILED" in done.stderr, done.stderr
    return done.returncode == 0


def check(name: str, folder: Path, python: str, *, is_strict: bool) -> None:
    chain = ROWS[name]
    with encrypted(make(folder, chain)) as port:
        code, found = add(folder)
        assert code == chain.code
        if code:
            code, found = add(folder, "--force", "to see what clients do")
        assert (code, found) == (0, list(chain.defects))
        expected = chain.since_313 if is_strict else chain.before_313
        assert reaches(python, f"https://localhost:{port}/", folder) is expected


@pytest.mark.parametrize("name", ROWS)
def test_python_does_with_a_corporate_chain_what_add_says(name: str, tmp_path: Path) -> None:
    check(name, tmp_path, sys.executable, is_strict=sys.version_info >= STRICT_SINCE)


@pytest.mark.parametrize("name", ROWS)
def test_python_313_does_with_a_corporate_chain_what_add_says(name: str, tmp_path: Path) -> None:
    python = python_313()
    if python is None:
        pytest.skip("needs python3.13")
    check(name, tmp_path, python, is_strict=True)
