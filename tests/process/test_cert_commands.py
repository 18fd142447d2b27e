"""`edge cert` against Pebble: issue, renew, revoke, rollover and check, as they are typed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_certs.storage import Storage
from edge_certs.x509 import Certificate, parse_chain
from tests.process.pebble import Pebble, free_ports, pebble
from tests.process.server import DEADLINE, Server, clean_environment

EDGE_CERT = (sys.executable, "-m", "edge", "cert")
APP = "async def app(scope, receive, send): ..."


@dataclass
class Customer:
    """Somebody with a folder of their own, an authority, and the ports at which it looks for answers."""

    authority: Pebble
    home: Path
    http: int
    tls: int

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=clean_environment(EDGE_HOME=str(self.home), **environ),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    def command(self, *arguments: str) -> list[str]:
        return [*EDGE_CERT, *arguments, *self.authority_options(arguments[0])]

    def authority_options(self, verb: str) -> list[str]:
        options = ["--ca-root", str(self.authority.ca_file)]
        if verb != "renew":
            options += ["--directory", self.authority.directory]
        if verb in ("issue", "renew", "check"):
            options += ["--http-port", str(self.http), "--tls-port", str(self.tls)]
        return options

    def done(self, *arguments: str, **environ: str) -> dict[str, object]:
        """Run a command that succeeds and says nothing else; return its JSON."""
        done = self.run(*arguments, "--json", **environ)
        assert (done.returncode, done.stderr) == (0, "")
        value: dict[str, object] = json.loads(done.stdout)
        return value

    def refused(self, *arguments: str) -> str:
        """Run a command that fails at work with one line, whatever steps it showed before."""
        done = self.run(*arguments)
        assert done.returncode == 1
        [line] = [line for line in done.stderr.splitlines() if line.startswith("edge: ")]
        return line.removeprefix("edge: ")

    def listed(self) -> bytes:
        command, environ = [*EDGE_CERT, "list", "--json"], clean_environment(EDGE_HOME=str(self.home))
        return subprocess.run(command, env=environ, capture_output=True, timeout=DEADLINE, check=True).stdout

    def certificate(self, name: str) -> Certificate:
        certificate = Storage(self.home).lineage(name).current()
        assert certificate is not None
        return certificate

    def status(self, certificate: Certificate) -> tuple[str, int | None]:
        serial = parse_chain(certificate.chain_pem)[0].serial_number
        status = json.loads(asyncio.run(self.authority.fetch(f"/cert-status-by-serial/{serial:x}")))
        return status["Status"], status.get("Reason")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pebble, int, int]]:
    http, tls = free_ports(2)
    with pebble(tmp_path_factory.mktemp("pebble"), http_port=http, tls_port=tls) as running:
        yield running, http, tls


@pytest.fixture
def customer(authority: tuple[Pebble, int, int], tmp_path: Path) -> Customer:
    running, http, tls = authority
    return Customer(running, tmp_path / "home", http, tls)


def fingerprints(value: dict[str, object]) -> list[tuple[str, str]]:
    certificates = value["certificates"]
    assert isinstance(certificates, list)
    return [(item["outcome"], item["fingerprint"]) for item in certificates]


def test_certificate_is_issued_once_and_then_there_is_nothing_to_do(customer: Customer) -> None:
    command = ("issue", "shop.test", "--challenge", "http-01")
    dry = customer.run(*command, "--dry-run")
    assert dry.stdout == (
        f"would order shop.test from {customer.authority.directory} by http-01: there is no certificate yet\n"
    )
    assert not customer.home.exists()
    [(first, fingerprint)] = fingerprints(customer.done(*command))
    again = customer.done(*command)
    assert (first, fingerprints(again)) == ("issued", [("unchanged", fingerprint)])
    assert customer.run(*command, "--dry-run").stdout.startswith("would leave, until ")
    plans = json.loads(customer.run("renew", "--dry-run", "--json").stdout)["certificates"]
    assert [(plan["names"], plan["order"]) for plan in plans] == [(["shop.test"], False)]
    # More names are another certificate, which is then good for the one.
    [(outcome, both)] = fingerprints(customer.done("issue", "shop.test,www.shop.test"))
    assert (outcome, set(customer.certificate("shop.test").names)) == ("issued", {"shop.test", "www.shop.test"})
    assert fingerprints(customer.done(*command)) == [("unchanged", both)]


def test_steps_are_plain_lines_without_a_terminal_and_variables_are_those_of_serve(customer: Customer) -> None:
    environ = {"EDGE_ACME_CHALLENGE": "tls-alpn-01,http-01", "EDGE_ACME_KEY_TYPE": "p384"}
    done = customer.run("issue", "lines.test", **environ)
    assert done.returncode == 0
    steps = done.stderr.splitlines()
    assert steps[:2] == ["lines.test: orders", "lines.test: reads what is to be proven"]
    assert steps[-1] == "lines.test: has it"
    issued, path, renewal = done.stdout.splitlines()
    assert re.fullmatch(r"issued: lines\.test, \d+ days left", issued)
    assert path == f"  {customer.home}/live/lines.test/fullchain.pem"
    assert re.fullmatch(r"  next renewal in \d+ days: one third of the lifetime left", renewal)
    assert Path(path.strip()).exists()
    state = Storage(customer.home).lineage("lines.test").state()
    assert state is not None
    assert (state.issuance.kinds, state.issuance.key_type) == (("tls-alpn-01", "http-01"), "p384")
    [listed] = json.loads(customer.listed())["certificates"]
    assert (listed["name"], listed["reason"]) == ("lines.test", "one third of the lifetime left")
    assert 55 < (listed["days_left"]) < 91
    assert listed["authority"].startswith("Pebble Intermediate CA")


def test_steps_are_a_bar_on_a_terminal(customer: Customer) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        customer.command("issue", "bar.test"),
        env=clean_environment(EDGE_HOME=str(customer.home), TERM="xterm", COLUMNS="120"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:
            pass  # how Linux says that the other end was closed
        os.close(ours)
        assert process.stdout is not None
        assert process.stdout.read().startswith(b"issued: bar.test, ")
    assert process.returncode == 0
    assert "━━━".encode() in shown
    assert b"waits for the" in shown


def test_renewal_waits_for_its_time_but_not_for_a_stolen_key(customer: Customer, tmp_path: Path) -> None:
    """`edge serve` of the ordered files: what a command renews beside it serves within two seconds."""
    customer.done("issue", "stolen.test")
    stolen = customer.certificate("stolen.test")
    assert fingerprints(customer.done("renew")) == [("unchanged", stolen.fingerprint)]
    (tmp_path / "application.py").write_text(APP)
    chain = customer.home / "live/stolen.test/fullchain.pem"
    options = ["--cert", str(chain), "--host", "127.0.0.1", "--port", "0", "--workers", "1"]
    environ = clean_environment(EDGE_HOME=str(tmp_path / "other"))
    with Server([*options, "application:app"], cwd=tmp_path, environ=environ) as server:
        server.wait_ready()
        [(outcome, fingerprint)] = fingerprints(customer.done("renew", "stolen.test", "--reason", "key-compromise"))
        server.wait_error(f"certificate reloaded: stolen.test, SHA-256 {fingerprint}")
    assert (outcome, customer.status(stolen)) == ("issued", ("Revoked", 1))
    renewed = customer.certificate("stolen.test")
    assert renewed.key_pem != stolen.key_pem
    assert customer.status(renewed)[0] == "Valid"


def test_certificate_is_revoked_by_its_account_and_leaves_the_storage(customer: Customer) -> None:
    customer.done("issue", "revoked.test")
    certificate = customer.certificate("revoked.test")
    dry = customer.run("revoke", "revoked.test", "--dry-run")
    assert dry.stdout.startswith("would revoke revoked.test (sha256:")
    assert customer.status(certificate)[0] == "Valid"
    value = customer.done("revoke", "revoked.test", "--reason", "superseded", "--delete")
    assert (value["by"], value["reason"]) == ("the account", "superseded")
    assert customer.status(certificate) == ("Revoked", 4)
    assert Storage(customer.home).lineages() == []


def test_certificate_in_a_file_is_revoked_by_its_own_key(customer: Customer, tmp_path: Path) -> None:
    customer.done("issue", "file.test")
    certificate = customer.certificate("file.test")
    stranger = Customer(customer.authority, tmp_path / "stranger", customer.http, customer.tls)
    file = tmp_path / "file.pem"
    file.write_bytes(certificate.chain_pem + certificate.key_pem)
    assert stranger.done("revoke", str(file))["by"] == "its own key"
    assert customer.status(certificate) == ("Revoked", 0)
    assert "alreadyRevoked" in stranger.refused("revoke", str(file))


def test_account_gets_another_key_whatever_a_crash_leaves(customer: Customer) -> None:
    customer.done("issue", "rolled.test")
    folder = Storage(customer.home).authority(customer.authority.directory)
    current, pending = folder.folder / "account.key", folder.folder / "account.key.new"
    account = folder.account()
    assert account is not None
    first = current.read_bytes()
    assert customer.run("rollover", "--dry-run").stdout == f"would change the key of account {account.url}\n"
    assert current.read_bytes() == first
    assert customer.done("rollover")["account"] == account.url
    second = current.read_bytes()
    assert second != first
    # Ended when the authority had heard of it: it is asked, and the change is brought to its end.
    write_secret(current, first)
    write_secret(pending, second)
    customer.done("rollover")
    assert current.read_bytes() == second
    # Ended before it had: the key that it does not know is thrown away, and another one is made.
    write_secret(pending, first)
    customer.done("rollover")
    assert current.read_bytes() not in (first, second)
    assert sorted(path.name for path in folder.folder.iterdir()) == ["account.json", "account.key", "ledger.json"]
    [(outcome, _)] = fingerprints(customer.done("renew", "--force"))
    assert outcome == "issued"


def write_secret(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


def test_without_an_account_there_is_no_key_to_change(customer: Customer) -> None:
    assert customer.refused("rollover") == (
        f"no account at {customer.authority.directory}; one is made with the first certificate: edge cert issue NAME"
    )


def test_check_finds_nothing_against_an_order(customer: Customer) -> None:
    done = customer.run("check", "ready.test", "--resolver", resolver(customer))
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"ok       authority: {customer.authority.directory}",
        "ok       clock: the same as the authority's",
        "ok       ledger: no attempt failed, and no limit that is known is near",
        "ok       ready.test: CAA: no record, so every authority may sign",
        f"ok       ready.test: http-01 at 127.0.0.1:{customer.http}: the nonce is answered",
        f"ok       ready.test: tls-alpn-01 at 127.0.0.1:{customer.tls}: the nonce is answered",
    ]


def test_check_finds_what_stands_against_an_order(customer: Customer) -> None:
    publish(customer, "add-caa", {"host": "closed.test", "policies": [{"tag": "issue", "value": "other.example"}]})
    publish(customer, "add-a", {"host": "closed.test.", "addresses": ["127.0.0.9"]})
    done = customer.run("check", "sub.closed.test,closed.test", "--resolver", resolver(customer), "--json")
    checks = [(item["verdict"], item["text"]) for item in json.loads(done.stdout)["checks"]]
    at = 'CAA at closed.test: 0 issue "other.example"; the authority does not say who it is there'
    assert checks.count(("warning", at)) == 2
    assert ("ok", f"http-01 at 127.0.0.9:{customer.http}: the nonce is answered") in checks
    closed = Customer(customer.authority, customer.home, *free_ports(2))
    with blocked(closed.http):
        done = closed.run("check", "a.test", "--resolver", resolver(customer), "--challenge", "http-01", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["ready"]) == (1, False)
    [failed] = [item for item in found["checks"] if item["verdict"] == "failed"]
    assert failed["subject"] == "ports"
    assert failed["text"].startswith(f"port {closed.http}: another program has it, and does not answer for this folder")


def test_failed_order_is_one_line_and_the_next_waits(customer: Customer) -> None:
    wrong = Customer(customer.authority, customer.home, *free_ports(2))
    line = wrong.refused("issue", "wrong.test", "--challenge", "http-01")
    assert re.match(r"wrong\.test: http-01: the authority reports (connection|unauthorized): '.*'", line)
    assert re.search(r"; next try at \d{4}-\d\d-\d\dT\d\d:\d\dZ$", line)
    waits = customer.refused("issue", "wrong.test")
    assert re.fullmatch(
        r"wrong\.test: no attempt was made now: 1 attempt failed, the last at \S+; "
        r"next try at \S+, or at once with --force",
        waits,
    )
    [(outcome, _)] = fingerprints(customer.done("issue", "wrong.test", "--force"))
    assert outcome == "issued"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["issue", "*.wild.test"], r"\*\.wild\.test: a wildcard such as \*\.wild\.test is proven in the DNS only; .*"),
        (["issue", "a b"], r"name 'a b': not a host name or an IP address; .*"),
        (["issue", "a.test", "--key-type", "dsa"], r"--key-type 'dsa': unknown; use .*"),
        (["issue", "a.test", "--eab-kid", "x"], r"--eab-kid: there is no --acme-eab-key; give both, .*"),
        (["renew", "none.test"], r"none\.test: not a certificate of an authority; order it with: edge cert issue NAME"),
        (["revoke", "none.test"], r"certificate 'none\.test': neither in the storage nor a file; see edge cert list"),
        (["check", "a.test", "--resolver", "x"], r"--resolver 'x': not an address; use ADDRESS or ADDRESS:PORT"),
    ],
)
def test_command_that_cannot_be_is_one_line(customer: Customer, arguments: list[str], message: str) -> None:
    done = customer.run(*arguments)
    assert done.returncode == 2
    assert re.fullmatch(f"edge: {message}\n", done.stderr)


def resolver(customer: Customer) -> str:
    """The name server of this Pebble."""
    return customer.authority.dns.server


def publish(customer: Customer, path: str, content: dict[str, object]) -> None:
    request = urllib.request.Request(f"{customer.authority.dns.management}/{path}", json.dumps(content).encode())
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=DEADLINE) as answer:
        assert answer.status == 200


@contextlib.contextmanager
def blocked(port: int) -> Iterator[None]:
    """Have `port` with a server that answers everything with 404."""

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n")

    with contextlib.ExitStack() as stack:
        listeners = [
            stack.enter_context(socket.create_server(("0.0.0.0", port))),
        ]
        thread = threading.Thread(target=lambda: answer(listeners[0].accept()[0]))
        thread.start()
        try:
            yield
        finally:
            thread.join(DEADLINE)
