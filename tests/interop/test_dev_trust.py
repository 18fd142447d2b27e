"""`edge cert dev --install` in a throw-away home: who accepts https://localhost then, and who refuses the internet.

The public name is signed by the very same root, with its key: a thief of that key gets no further than this.
"""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.interop.chromium import browsing
from tests.process.server import DEADLINE, ROOT, Server, clean_environment
from tests.process.tls_proxy import encrypted

PUBLIC = "www.example.com"

HTTPX = """
import sys, httpx
port, name = sys.argv[1:]
with httpx.Client() as client:
    request = client.build_request("GET", f"https://127.0.0.1:{port}/", headers={"host": name})
    request.extensions["sni_hostname"] = name
    print(client.send(request).text, end="")
"""
NODE = """
const [port, name] = process.argv.slice(1);
const request = require("https").get({host: "127.0.0.1", port, servername: name, headers: {host: name}}, (answer) => {
  answer.setEncoding("utf8");
  answer.on("data", (text) => process.stdout.write(text));
});
request.on("error", (error) => { console.error(error.message); process.exitCode = 1; });
"""


@dataclass
class Home:
    """A developer's home folder, with everything of edge in it."""

    path: Path

    @property
    def environ(self) -> dict[str, str]:
        return clean_environment(
            HOME=str(self.path), XDG_DATA_HOME=str(self.path / ".local/share"), EDGE_HOME=str(self.path / "edge")
        )

    @property
    def root(self) -> Path:
        return self.path / "edge/dev/root.pem"

    def edge(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge", *arguments],
            cwd=self.path,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    def installed(self) -> str:
        """What NSS lists of our root."""
        place = f"sql:{self.path}/.local/share/pki/nssdb"
        listing = subprocess.run(
            ["certutil", "-L", "-d", place], capture_output=True, text=True, check=True, timeout=20
        )
        return "\n".join(line for line in listing.stdout.splitlines() if "edge-trust-" in line)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    if shutil.which("certutil") is None:
        pytest.skip("certutil is not installed")
    home = Home(tmp_path_factory.mktemp("home"))
    done = home.edge("cert", "dev", "--install", "--to", "nss")
    assert done.returncode == 0, done.stderr
    assert "installed: nss " in done.stdout
    return home


@pytest.fixture(scope="module")
def served(home: Home) -> Iterator[int]:
    """The port of `edge serve --dev` in that home."""
    options = ["--dev", "--port", "0", "--workers", "1", "--app-dir", str(ROOT / "examples"), "hello:app"]
    with Server(options, cwd=home.path, environ=home.environ) as server:
        yield server.wait_ready().port


@pytest.fixture(scope="module")
def stolen(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a server for a public name, with a certificate that was signed by the key of the local root."""
    root = x509.load_pem_x509_certificate(home.root.read_bytes())
    key = load_pem_private_key(home.root.with_name("root.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    own, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    leaf = (
        x509.CertificateBuilder(root.subject, x509.Name([]), own.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(PUBLIC)]), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    file = tmp_path_factory.mktemp("stolen") / "leaf.pem"
    secret = own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(leaf.public_bytes(Encoding.PEM) + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with encrypted(context) as port:
        yield port


def client(kind: str, port: int, name: str) -> list[str]:
    """Return the command by which a client asks the server at `port` of loopback for `name`."""
    tool = sys.executable if kind == "httpx" else shutil.which(kind)
    if tool is None:
        pytest.skip(f"{kind} is not installed")
    match kind:
        case "curl":
            options = ["--silent", "--show-error", "--noproxy", "*", "--resolve", f"{name}:{port}:127.0.0.1"]
            return [tool, *options, f"https://{name}:{port}/"]
        case "httpx":
            return [tool, "-c", HTTPX, str(port), name]
        case _:
            return [tool, "-e", NODE, str(port), name]


CLIENTS = ("curl", "httpx", "node")


# Node sends no address as a server name, and then compares none.
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((kind, name) for kind in CLIENTS for name in ("localhost", "app.localhost")),
        ("curl", "127.0.0.1"),
        ("httpx", "127.0.0.1"),
    ],
)
def test_client_accepts_what_the_root_signed(home: Home, served: int, kind: str, name: str) -> None:
    done = home.edge("trust", "run", "--", *client(kind, served, name))
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello, world!\n", "")


@pytest.mark.parametrize("kind", CLIENTS)
def test_client_without_the_root_refuses_it(home: Home, served: int, kind: str) -> None:
    command = client(kind, served, "localhost")
    done = subprocess.run(command, env=home.environ, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode != 0
    assert "Hello" not in done.stdout


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("curl", "permitted subtree violation"),
        ("httpx", "permitted subtree violation"),
        ("node", "permitted subtree violation"),
    ],
)
def test_client_refuses_a_public_name_by_the_same_root(home: Home, stolen: int, kind: str, words: str) -> None:
    done = home.edge("trust", "run", "--", *client(kind, stolen, PUBLIC))
    assert done.returncode != 0
    assert words in done.stderr
    assert "ok" not in done.stdout


def test_browser_accepts_localhost_and_refuses_a_public_name(
    home: Home, served: int, stolen: int, tmp_path: Path
) -> None:
    rules = f"--host-resolver-rules=MAP {PUBLIC} 127.0.0.1"
    with browsing(tmp_path, None, rules, home=home.path) as browser:
        for name in ("localhost", "app.localhost", "127.0.0.1"):
            page = browser.open(f"https://{name}:{served}/")
            page.wait_for("document.body?.innerText.includes('Hello, world!')")
            assert page.evaluate("window.isSecureContext") is True
        page = browser.open(f"https://{PUBLIC}:{stolen}/")
        code = page.wait_for("document.getElementById('error-code')?.textContent")
    # "This server's certificate is outside of what its authority may sign" (net_error -207) or its general kin.
    assert "ERR_CERT" in code


def test_stores_that_there_are_are_found_and_a_rehearsal_changes_none(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.edge("cert", "dev", "--out", str(tmp_path / "tls")).returncode == 0
    done = home.edge("cert", "dev", "--install", "--dry-run")
    assert done.returncode == 0
    assert "edge: passed over firefox: no profile in any of its folders" in done.stderr
    assert re.search(r"^would (write|run) ", done.stdout, re.MULTILINE)
    assert not (tmp_path / ".local/share/pki").exists()
    assert json.loads(home.edge("trust", "list", "--json").stdout)["anchors"] == []


def test_uninstall_undoes_exactly_what_install_did(tmp_path: Path) -> None:
    if shutil.which("certutil") is None:
        pytest.skip("certutil is not installed")
    home = Home(tmp_path)
    place = tmp_path / ".local/share/pki/nssdb"
    place.mkdir(parents=True)
    subprocess.run(["certutil", "-N", "-d", f"sql:{place}", "--empty-password"], check=True, timeout=DEADLINE)
    dry = home.edge("cert", "dev", "--install", "--to", "nss", "--dry-run")
    assert (dry.returncode, home.root.exists()) == (1, False)
    assert home.edge("cert", "dev", "--install", "--to", "nss").returncode == 0
    assert home.installed() != ""
    again = home.edge("cert", "dev", "--install", "--to", "nss")
    assert (again.returncode, "unchanged: nss " in again.stdout) == (0, True)
    listed = json.loads(home.edge("trust", "list", "--json").stdout)
    assert [item["label"] for item in listed["anchors"]] == ["edge-dev"]
    done = home.edge("cert", "dev", "--uninstall")
    assert done.returncode == 0, done.stderr
    assert home.installed() == ""
    assert home.edge("cert", "dev", "--uninstall").returncode == 0
    # The root stays: certificates that it signed are good again after the next --install.
    assert home.root.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--install", "x.test"],
            "--install: it is for the root, not for 'x.test'; give names in a command of their own",
        ),
        (["--to", "nss"], "--to: only for --install; leave it out"),
        (["--install", "--to", "fridge"], "--to 'fridge': not a target; use "),
    ],
)
def test_install_that_cannot_be_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = Home(tmp_path).edge("cert", "dev", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"edge: {message}")
