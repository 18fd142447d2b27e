"""`edge trust check` and `detect` as users type them, against real HTTPS and a real intercepting proxy on loopback.

"Public" is a root that certifi has: a certifi of this test's own comes first on the path, as a distribution's does.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import select
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import certifi
import pytest
import trustme
from cryptography import x509

from edge.cli_trust.check import NAMES
from edge_certs.trust.anchors import fingerprint, parse_anchors
from edge_certs.trust.clients import CLIENTS
from tests.certs.forge import AUTHORITY, forge
from tests.process.server import DEADLINE, clean_environment
from tests.process.tls_proxy import (
    STEP,
    InterceptingProxy,
    Listener,
    encrypted,
    intercepting,
    server_context,
    site,
)

# Public by its form, and nobody's (RFC 2606): only the proxy leads anywhere.
NAME = "www.shop.example"
NOTHING: Mapping[str, str] = {}
WHEN = ("now", "run", "serve")
DATES = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
NO_AUTHORITY = x509.BasicConstraints(ca=False, path_length=None)
CERTIFI = """
from pathlib import Path

def where():
    return str(Path(__file__).with_name("cacert.pem"))

def contents():
    return Path(where()).read_text("ascii")
"""


@dataclass(frozen=True)
class Network:
    """A public and a corporate site, and an intercepting proxy that leads to the public one."""

    public_port: int
    corporate_port: int
    proxy_port: int
    seen: list[str]
    root: Path
    sha256: str
    environ: dict[str, str]

    @property
    def behind_proxy(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self.proxy_port}"
        return {"HTTPS_PROXY": url, "https_proxy": url}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("network")
    public, corporate = trustme.CA(), trustme.CA(organization_name="Corp", organization_unit_name="Corp Root CA")
    root = folder / "corporate.pem"
    corporate.cert_pem.write_to_path(str(root))
    public.cert_pem.write_to_path(str(folder / "public.pem"))
    package = folder / "rooms/certifi"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(CERTIFI)
    (package / "cacert.pem").write_bytes(Path(certifi.where()).read_bytes() + public.cert_pem.bytes())
    environ = clean_environment(PIP_CONFIG_FILE="/dev/null")
    environ["PYTHONPATH"] = f"{package.parent}:{environ['PYTHONPATH']}"
    [certificate] = parse_anchors(root.read_bytes())
    with site(public, "localhost", NAME) as public_port, site(corporate, "localhost") as corporate_port:
        proxy = InterceptingProxy(corporate, folder / "public.pem", {NAME: public_port})
        with intercepting(proxy) as port:
            yield Network(public_port, corporate_port, port, proxy.seen, root, fingerprint(certificate), environ)


@dataclass(frozen=True)
class User:
    """Somebody with a home of their own."""

    environ: dict[str, str]
    folder: Path

    def trust(self, *arguments: str, code: int = 0, environ: Mapping[str, str] = NOTHING) -> str:
        """Run `edge trust`; return what it prints, or what it says when it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "edge", "trust", *arguments],
            cwd=self.folder,
            env={**self.environ, **environ},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert done.stderr == "" or (done.stdout == "" and done.stderr.startswith("edge: "))
        return done.stdout or done.stderr.removeprefix("edge: ").rstrip("\n")

    def json(self, *arguments: str, code: int = 0, environ: Mapping[str, str] = NOTHING) -> Any:
        return json.loads(self.trust(*arguments, "--json", code=code, environ=environ))


@pytest.fixture
def user(network: Network, tmp_path: Path) -> User:
    return User({**network.environ, "EDGE_HOME": str(tmp_path / "home")}, tmp_path)


def state(report: Any, client: str, setting: str) -> str:
    [row] = [row for row in report["clients"] if row["client"] == client]
    return str(row[setting]["state"])


def test_choices_in_the_help_are_the_clients() -> None:
    assert tuple(client.name for client in CLIENTS) == NAMES


def test_public_site_is_not_intercepted(user: User, network: Network) -> None:
    found = user.json("detect", f"localhost:{network.public_port}")
    assert (found["verdict"], found["proxy"], found["next"]) == ("public", None, [])
    assert found["root"]["found_in"] == "certifi"
    assert found["public_roots"] == found["edge_roots"] == "accepted"


def test_corporate_site_of_a_private_name_is_private(user: User, network: Network) -> None:
    found = user.json("detect", f"localhost:{network.corporate_port}")
    assert (found["verdict"], found["root"]["sha256"], found["next"]) == ("private", None, [])
    assert found["root"]["subject"] == "OU=Corp Root CA,O=Corp"
    assert found["edge_roots"] == "unable to get local issuer certificate"


def test_public_name_behind_the_proxy_is_intercepted(user: User, network: Network) -> None:
    shown = user.trust("detect", NAME, environ=network.behind_proxy).splitlines()
    assert shown[0] == f"{NAME}:443 through proxy http://127.0.0.1:{network.proxy_port}"
    assert shown[1].startswith("intercepted: ")
    assert "root OU=Corp Root CA,O=Corp" in shown
    assert shown[-1] == "next: ask your IT department for OU=Corp Root CA,O=Corp, then: edge trust add FILE"


def test_way_past_the_proxy_is_taken_when_no_proxy_says_so(user: User, network: Network) -> None:
    count = len(network.seen)
    environ = {**network.behind_proxy, "NO_PROXY": "localhost"}
    assert user.json("detect", f"localhost:{network.public_port}", environ=environ)["proxy"] is None
    assert len(network.seen) == count


def test_root_that_a_variable_names_is_found_saved_and_added(user: User, network: Network) -> None:
    environ = {**network.behind_proxy, "REQUESTS_CA_BUNDLE": str(network.root)}
    found = user.json("detect", NAME, environ=environ)
    assert found["root"]["sha256"] == network.sha256
    assert found["root"]["found_in"] == f"the operator's {network.root}"
    assert user.trust("detect", NAME, "--pem", environ=environ) == network.root.read_text()
    del environ["REQUESTS_CA_BUNDLE"]
    user.trust("detect", NAME, "--save", "x.pem", code=1, environ=environ)
    assert not (user.folder / "x.pem").exists()


def test_root_that_the_server_presents_leads_to_a_cure_in_two_commands(user: User, tmp_path: Path) -> None:
    root = forge(extensions=[AUTHORITY], dates=DATES)
    leaf = forge("localhost", issuer=root, dates=DATES, common_name="localhost")
    (tmp_path / "chain.pem").write_bytes(leaf.key_pem + leaf.pem + root.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem")
    with encrypted(context) as port:
        found = user.json("detect", f"localhost:{port}")
        assert found["root"]["found_in"] == "what the server presents"
        for command in found["next"]:
            program, group, *arguments = command.split(" ")
            assert (program, group) == ("edge", "trust")
            user.trust(*arguments)
        after = user.json("detect", f"localhost:{port}")
    assert (tmp_path / "corp-root.pem").read_bytes() == root.pem
    assert (after["edge_roots"], after["root"]["found_in"]) == ("accepted", "edge trust add")
    assert after["python_3_13"] == "Missing Authority Key Identifier"
    assert after["next"] == [f"edge trust check localhost:{port}"]


def test_server_that_signs_for_itself_has_no_root_to_add(user: User, tmp_path: Path) -> None:
    leaf = forge("localhost", extensions=[NO_AUTHORITY], dates=DATES)
    (tmp_path / "chain.pem").write_bytes(leaf.key_pem + leaf.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem")
    with encrypted(context) as port:
        assert user.json("detect", f"localhost:{port}")["next"] == []
        assert "  refuses not an authority's certificate (CA:FALSE)" in user.trust("detect", f"localhost:{port}")


def test_certificate_of_another_name_is_defective_whatever_the_roots(user: User, network: Network) -> None:
    found = user.trust("detect", f"127.0.0.1:{network.public_port}")
    assert "defective: " in found
    assert "(IP address mismatch, certificate is not valid for '127.0.0.1')" in found


def test_check_tells_what_works_now_and_what_edge_changes(user: User, network: Network) -> None:
    clients = [word for name in ("httpx", "certifi", "curl") for word in ("--client", name)]
    before = user.json("check", NAME, *clients, code=1, environ=network.behind_proxy)
    assert before["verdict"] == "intercepted"
    assert {state(before, name, when) for name in ("httpx", "certifi", "curl") for when in WHEN} == {"refused"}
    user.trust("add", str(network.root))
    after = user.json("check", NAME, *clients, environ=network.behind_proxy)
    assert after["passed"]
    assert [state(after, "httpx", when) for when in WHEN] == ["refused", "ok", "ok"]
    assert [state(after, "certifi", when) for when in WHEN] == ["refused", "refused", "ok"]
    assert after["next"] == ["edge trust run -- COMMAND", "edge serve MODULE:ATTR"]
    [httpx, *_] = after["clients"]
    assert httpx["now"]["roots"].endswith("/rooms/certifi/cacert.pem")
    assert httpx["run"]["roots"] == f"SSL_CERT_FILE={user.folder}/home/trust/bundle.pem"
    assert httpx["now"]["detail"] == "unable to get local issuer certificate"
    assert httpx["missing"] == "OU=Corp Root CA,O=Corp"


def test_check_calls_through_the_proxy_that_variables_name_and_shows_a_table(user: User, network: Network) -> None:
    user.trust("add", str(network.root))
    network.seen.clear()
    shown = user.trust(
        "check", f"https://{NAME}/", "--client", "node", "--client", "urllib3", environ=network.behind_proxy
    )
    # Three handshakes of edge's own, or four with the strict one, and two for each client.
    assert network.seen == [NAME] * len(network.seen)
    assert len(network.seen) >= 9
    [columns] = [line for line in shown.splitlines() if line.startswith("client ")]
    assert re.split(r"  +", columns.rstrip()) == [
        "client",
        "version",
        "now",
        "edge trust run",
        "edge serve",
        "roots now",
    ]
    rows = [re.split(r"  +", line.rstrip()) for line in shown.splitlines()]
    [node] = [row for row in rows if row[0] == "node"]
    assert node[2:] == ["refused", "ok", "ok", "built in"]


def test_check_of_what_works_already_has_nothing_more_to_say(user: User, network: Network) -> None:
    found = user.json("check", f"localhost:{network.public_port}", "--client", "certifi")
    assert (found["passed"], found["next"]) == (True, [])
    assert [row["missing"] for row in found["clients"]] == [None]


def test_client_that_is_not_installed_is_said_to_be_so(user: User, network: Network) -> None:
    shown = user.trust(
        "check", f"localhost:{network.public_port}", "--client", "git", environ={"PATH": str(user.folder)}
    )
    assert "not installed: git" in shown.splitlines()


@pytest.mark.parametrize("command", ["check", "detect"])
@pytest.mark.parametrize(
    ("target", "environ", "code", "message"),
    [
        ("http://a/", {}, 2, "target 'http://a/': scheme 'http', and only https has a certificate; use "),
        ("localhost", {"HTTPS_PROXY": "socks5://127.0.0.1:1"}, 2, "HTTPS_PROXY: not the URL of an HTTP proxy; use "),
        ("localhost:1", {}, 1, "localhost:1: cannot connect: connection refused; "),
        ("localhost:1", {"HTTPS_PROXY": "http://127.0.0.1:1"}, 1, "proxy http://127.0.0.1:1: cannot connect: "),
    ],
)
def test_server_that_cannot_be_asked_is_one_line(
    command: str, target: str, environ: dict[str, str], code: int, message: str, user: User
) -> None:
    assert user.trust(command, target, code=code, environ=environ).startswith(message)


@pytest.mark.parametrize("value", ["1", "0"])
def test_client_that_verifies_nothing_is_not_said_to_be_well(value: str, user: User, network: Network) -> None:
    """Of GIT_SSL_NO_VERIFY, git looks only whether it is set."""
    target = f"localhost:{network.corporate_port}"
    environ = {**user.environ, "GIT_SSL_NO_VERIFY": value}
    command = [sys.executable, "-m", "edge", "trust", "check", target, "--client", "git", "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=DEADLINE, check=False)
    found = json.loads(done.stdout)
    assert state(found, "git", "now") == "ok"
    assert found["verification_off"] == [
        {"name": "GIT_SSL_NO_VERIFY", "value": value, "command": "unset GIT_SSL_NO_VERIFY"}
    ]
    assert done.stderr == (
        f"edge: GIT_SSL_NO_VERIFY: {value!r} switches the verification off, so that 'ok' proves nothing; "
        "unset GIT_SSL_NO_VERIFY\n"
    )


def test_port_without_tls_is_named(user: User) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(b"220 ready\r\n")

    with Listener(serve) as listener:
        message = user.trust("detect", f"127.0.0.1:{listener.port}", code=1)
    assert message.startswith(f"127.0.0.1:{listener.port}: no TLS: wrong version number; ")


@pytest.mark.parametrize(
    ("answer", "found", "advice"),
    [
        (b"HTTP/1.1 407 No\r\n\r\n", "answered 407", "give its user and password in HTTPS_PROXY"),
        (b"HTTP/1.1 403 No\r\n\r\n", "answered 403", "ask whoever runs it"),
        (b"", "answered no HTTP", "ask whoever runs it"),
        (b"220 ready\r\n\r\n", "answered no HTTP", "ask whoever runs it"),
    ],
)
def test_proxy_that_does_not_connect_is_named(answer: bytes, found: str, advice: str, user: User) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    with Listener(serve) as listener:
        proxy = f"http://127.0.0.1:{listener.port}"
        message = user.trust(
            "detect", NAME, code=1, environ={"HTTPS_PROXY": f"http://me:secret@127.0.0.1:{listener.port}"}
        )
    assert message == f"proxy {proxy}: {found} to CONNECT {NAME}:443; {advice}"


def test_proxy_that_is_reached_by_tls_is_told_user_and_password_once_its_root_was_added(
    user: User, network: Network, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "proxy.pem"))
    context = server_context(authority, "localhost")
    heads: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as client:
            heads.append(client.recv(65536))
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with socket.create_connection(("127.0.0.1", network.public_port)) as plain:
                _relay(client, plain)

    secret = base64.b64encode(b"me:secret")
    target = f"localhost:{network.public_port}"
    with Listener(serve) as listener:
        environ = {"HTTPS_PROXY": f"https://me:secret@localhost:{listener.port}"}
        before = user.trust("detect", target, code=1, environ=environ)
        assert heads == []
        user.trust("add", "proxy.pem")
        after = user.json("detect", target, environ=environ)
    refusal = "its certificate is refused: unable to get local issuer certificate"
    assert before == f"proxy https://localhost:{listener.port}: {refusal}"
    assert after["verdict"] == "public"
    assert heads[0].startswith(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n".encode())
    assert b"\r\nProxy-Authorization: Basic " + secret + b"\r\n\r\n" in heads[0]


def _relay(client: ssl.SSLSocket, site: socket.socket) -> None:
    """Carry bytes both ways until either is gone, in one thread: an SSLSocket is not for two at once."""
    while client.pending() or select.select([client, site], [], [], STEP)[0]:
        for source, target in ((client, site), (site, client)):
            source.setblocking(False)
            with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
                data = source.recv(65536)
                if not data:
                    return
                target.settimeout(STEP)
                target.sendall(data)
