"""`edge serve --acme` against Pebble: real sockets, real challenges, certificates swapped in while it serves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from edge_certs.challenges import HTTP_01, Challenge, ChallengeStore
from edge_certs.jws import encode_base64url
from edge_certs.ledger import Outcome
from edge_certs.state import Status
from edge_certs.storage import Storage
from tests.process.acme_site import APP, Site, names_of, served, sites
from tests.process.pebble import BLOCKED, free_ports
from tests.process.server import RawClient, Server, clean_environment, wait_until
from tests.process.test_control import edge
from tests.process.test_dev import memory_holds, private_bytes

MAC_KEY = encode_base64url(b"a key of thirty-two octets, known")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from sites(tmp_path_factory.mktemp("pebble"))


def get(site: Site, name: str) -> str:
    with httpx.Client(verify=site.trusting(), trust_env=False) as client:
        url = f"https://127.0.0.1:{site.tls}/"
        return client.get(url, extensions={"sni_hostname": name}, headers={"host": name}).text


# The challenges.


@pytest.mark.parametrize(("kind", "trusted_by"), [("http-01", "--acme-ca-root"), ("tls-alpn-01", "--outbound-ca")])
def test_placeholder_serves_until_the_first_certificate_is_there(
    site: Site, tmp_path: Path, kind: str, trusted_by: str
) -> None:
    site = replace(site, trusted_by=trusted_by)
    name = f"{kind}.test"
    wanted = ("--acme", f"{name},www.{name}", "--acme", "127.0.0.1", "--acme", BLOCKED)
    with site.serve(tmp_path, *wanted, "--acme-challenge", kind, EDGE_EDGES="2") as server:
        wait_until(server.keepers, "what renews runs; until it does, it looks like an edge")
        edges = server.edges()
        assert len(edges) == 2
        certificate = site.wait_issued(name)
        assert names_of(certificate) == {name, f"www.{name}"}
        server.wait_error(f"{name}: new certificate for .*, valid until")
        assert server.edges() == edges
        assert get(site, f"www.{name}") == "hello"
        live = tmp_path / "home" / "live" / name
        assert x509.load_pem_x509_certificate((live / "cert.pem").read_bytes()) == certificate
        # An address, and a name that the authority does not sign for: neither holds another one back.
        server.wait_error(r"127\.0\.0\.1: new certificate for 127\.0\.0\.1, valid until")
        server.wait_error(rf"{BLOCKED}: certificate not renewed: the authority answered 400 rejectedIdentifier: ")
        assert served(site.tls, BLOCKED).subject == served(site.tls, BLOCKED).issuer
        assert list((tmp_path / "home" / "challenges" / kind).iterdir()) == []


def test_placeholder_says_what_it_is(site: Site, tmp_path: Path) -> None:
    # A directory that is none: it stays without a certificate.
    nowhere = ("--acme-directory", f"{site.authority.management}/roots/0")
    with site.serve(tmp_path, "--acme", "early.test", *nowhere) as server:
        placeholder = served(site.tls, "early.test")
        assert placeholder.subject.rfc4514_string() == "CN=edge: no certificate yet"
        assert names_of(placeholder) == {"early.test"}
        server.wait_error(
            r"early\.test: certificate not renewed: the authority sent a directory that is not a JSON object; "
            r"check the URL of the authority's directory; next try \S+Z, there is none yet$"
        )
        assert served(site.tls, "early.test") == placeholder
        said = edge(tmp_path, "status")
        assert "certificate early.test: failed\n  next attempt 2" in said
        assert "1 attempt failed, the last at 2" in said
        assert "\n  last error: the authority sent a directory that is not a JSON object; check the URL" in said


def test_wildcard_is_proven_by_a_command(site: Site, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs the tool curl")
    hook = tmp_path / "hook"
    hook.write_text(
        f"""#!/bin/sh -e
case $1 in present) verb=set-txt;; cleanup) verb=clear-txt;; esac
curl -sf -d "{{\\"host\\": \\"$2\\", \\"value\\": \\"$3\\"}}" {site.authority.dns.management}/$verb
echo $1 $2 >> {tmp_path}/said
"""
    )
    hook.chmod(0o755)
    [_, root] = site.log(r"Generated new root issuer CN=(Pebble Root CA \w+)")
    options = ("--acme-dns-hook", str(hook), "--acme-chain", root, "--acme-key-type", "p384")
    with site.serve(tmp_path, "--acme", "wild.test,*.wild.test", *options):
        certificate = site.wait_issued("any.wild.test")
        assert names_of(certificate) == {"wild.test", "*.wild.test"}
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.key_size == 384
        chain = (tmp_path / "home" / "live" / "wild.test" / "fullchain.pem").read_bytes()
        assert root in x509.load_pem_x509_certificates(chain)[-1].issuer.rfc4514_string()
        said = (tmp_path / "said").read_text().split("\n")
        assert said[0] == "present _acme-challenge.wild.test."
        assert "cleanup _acme-challenge.wild.test." in said


def test_edges_answer_any_number_of_times_and_before_they_redirect(site: Site, tmp_path: Path) -> None:
    store = ChallengeStore(tmp_path / "home" / "challenges")
    nowhere = ("--acme-directory", f"{site.authority.management}/roots/0")
    path = "/.well-known/acme-challenge"
    with site.serve(tmp_path, "--acme", "many.test", *nowhere, EDGE_EDGES="2") as server:
        # Put there after the start, as another host that shares the folder would.
        store.put(Challenge(HTTP_01, "many.test", "token-1", "token-1.print"), datetime.now(UTC))
        url = f"http://127.0.0.1:{site.http}"
        for _ in range(20):
            assert httpx.get(f"{url}{path}/token-1", trust_env=False).text == "token-1.print"
        for token in ("token-2", "..%2f..%2faccount.key", "../../home/acme", ""):
            answer = httpx.get(f"{url}{path}/{token}", headers={"host": "many.test"}, trust_env=False)
            assert answer.status_code == 308
        assert server.wait_access(20)[0]["status"] == 200


def test_customer_is_known_by_the_key_that_the_authority_gave(tmp_path: Path) -> None:
    for site in sites(tmp_path, mac_keys={"kid-1": MAC_KEY}):
        binding = ("--acme", "bound.test", "--acme-eab-kid", "kid-1")
        with site.serve(tmp_path, *binding, EDGE_ACME_EAB_KEY=MAC_KEY) as server:
            site.wait_issued("bound.test")
            # Only the authority is to hear of it.
            assert get(site, "bound.test") == "hello"
            [worker], [serving], [keeper] = server.workers(), server.edges(), server.keepers()
            assert b"EDGE_ACME_EAB_KEY" not in Path(f"/proc/{keeper}/environ").read_bytes()
            home = tmp_path / "home"
            [account] = home.glob("acme/*/account.key")
            certificate = private_bytes(home / "live" / "bound.test" / "privkey.pem")
            assert memory_holds(serving, certificate)
            assert not memory_holds(worker, certificate)
            # Nobody who meets a client has the key of the account.
            assert not memory_holds(serving, private_bytes(account))
            assert not memory_holds(worker, private_bytes(account))


# What lasts.


def test_certificate_is_there_again_after_a_restart(site: Site, tmp_path: Path) -> None:
    with site.serve(tmp_path, "--acme", "again.test"):
        certificate = site.wait_issued("again.test")
    orders = site.orders
    with site.serve(tmp_path, "--acme", "again.test") as server:
        assert served(site.tls, "again.test") == certificate
        wait_until(server.keepers, "the process that renews runs")
        [known] = json.loads(edge(tmp_path, "status", "--json"))["renewals"]
        assert (known["name"], known["status"], known["last_error"]) == ("again.test", "valid", "")
        assert "certificate again.test: valid, valid until 20" in edge(tmp_path, "status")
        assert not [line for line in server.errors if "may read it" in line]
    assert site.orders == orders
    state = Storage(tmp_path / "home").lineage("again.test").state()
    assert state is not None
    assert state.status is Status.VALID
    assert state.reason == "one third of the lifetime left"
    open_to_others = [path for path in (tmp_path / "home").rglob("*") if stat.S_IMODE(path.lstat().st_mode) & 0o077]
    assert all(path.is_symlink() for path in open_to_others)


def test_two_servers_that_share_the_folder_make_one_order(site: Site, tmp_path: Path) -> None:
    http, tls = free_ports(2)
    elsewhere = ("--bind", f"127.0.0.1:{tls}", "--http-bind", f"127.0.0.1:{http}")
    orders = site.orders
    with ExitStack() as both:
        with Storage(tmp_path / "home").locked_names(["shared.test"]):
            first = both.enter_context(site.serve_elsewhere(tmp_path, *elsewhere, "--acme", "shared.test"))
            second = both.enter_context(site.serve(tmp_path, "--acme", "shared.test"))
            for server in (first, second):
                server.wait_error("shared.test: another process orders it")
        # Pebble looks at the second one only, whoever makes the order.
        certificate = site.wait_issued("shared.test")
        assert site.wait_issued("shared.test", tls) == certificate
        assert site.orders == orders + 1


def slow_hook(folder: Path, site: Site) -> Path:
    """Return a command that waits, once, until `go` is there."""
    hook = folder / "hook"
    hook.write_text(
        f"""#!/bin/sh -e
[ $1 = present ] || exit 0
touch {folder}/begun
while [ ! -e {folder}/go ]; do sleep 0.05; done
curl -sf -d "{{\\"host\\": \\"$2\\", \\"value\\": \\"$3\\"}}" {site.authority.dns.management}/set-txt
"""
    )
    hook.chmod(0o755)
    return hook


def test_order_is_gone_on_with_after_each_kill(site: Site, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs the tool curl")
    proof = ("--acme", "killed.test", "--acme-challenge", "dns-01", "--acme-dns-hook", str(slow_hook(tmp_path, site)))
    orders, begun = site.orders, tmp_path / "begun"
    with site.serve(tmp_path, *proof) as server:
        wait_until(begun.exists, "the proof is under way")
        begun.unlink()
        os.kill(server.keepers()[0], signal.SIGKILL)
        server.wait_error(r"the process that renews them ended with killed by SIGKILL; again in \d s")
        assert served(site.tls, "killed.test").subject.rfc4514_string() == "CN=edge: no certificate yet"
        wait_until(begun.exists, "the proof is under way again")
        [keeper] = server.keepers()
        server.stop(signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{keeper}").exists(), "nothing outlives the master")
    (tmp_path / "go").touch()
    with site.serve(tmp_path, *proof):
        site.wait_issued("killed.test")
        assert site.orders == orders + 1
        [attempt] = Storage(tmp_path / "home").authority(site.authority.directory).ledger().attempts
        assert attempt.outcome is Outcome.ISSUED


@dataclass
class Load:
    """Clients that do nothing but shake hands and ask; what they saw, and what failed."""

    site: Site
    name: str
    seen: set[bytes] = field(default_factory=set)
    failed: list[Exception] = field(default_factory=list)
    handshakes: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        context = self.site.trusting()
        while not self.stop.is_set():
            try:
                with RawClient(self.site.tls, context, server_name=self.name) as client:
                    client.send(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % self.name.encode())
                    assert client.receive_response()[0] == 200
                    assert isinstance(client.sock, ssl.SSLSocket)
                    self.seen.add(client.sock.getpeercert(True) or b"")
                    self.handshakes += 1
            except Exception as error:
                self.failed.append(error)
                return

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.run) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait, under load, for the condition or for what fails."""
        wait_until(lambda: self.failed or condition(), "the new certificate serves", 60.0)


def test_renewal_under_load_fails_no_handshake(tmp_path: Path) -> None:
    # Half of it is left at the renewal: time enough for an order on a machine that is busy.
    for site in sites(tmp_path, validity=20):
        with site.serve(tmp_path, "--acme", "load.test"):
            site.wait_issued("load.test")
            load = Load(site, "load.test")
            with load.running():
                load.wait_until(lambda: len(load.seen) > 1)  # noqa: B023  # it is called here
                swapped_at = load.handshakes
                load.wait_until(lambda: load.handshakes > swapped_at + 20)  # noqa: B023
            assert load.failed == []
            assert len(load.seen) > 1
            assert swapped_at > 20


# The end.


def test_nothing_is_left_when_the_server_stops_in_the_middle(site: Site, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs the tool curl")
    hook = slow_hook(tmp_path, site)
    proof = ("--acme", "stop.test", "--acme-challenge", "dns-01", "--acme-dns-hook", str(hook))
    with site.serve(tmp_path, *proof) as server:
        wait_until((tmp_path / "begun").exists, "the proof is under way")
        [keeper] = server.keepers()
        assert server.stop() == 0
        assert not Path(f"/proc/{keeper}").exists()
    storage = Storage(tmp_path / "home")
    [attempt] = storage.authority(site.authority.directory).ledger().attempts
    # A machine that is too busy to write it down in two seconds leaves it as it began; either is gone on with.
    assert attempt.outcome in (Outcome.INTERRUPTED, Outcome.STARTED)
    order = storage.lineage("stop.test").order()
    assert order is not None
    assert order.is_made


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--acme", "no name"), "name 'no name': not a host name or an IP address; write it as in example.com"),
        (("--acme", "a.test", "--acme-eab-kid", "k", "--acme-eab-key", "a b"), "--acme-eab-key: 3 characters that"),
        (("--acme", "a.test", "--acme-ca-root", "missing.pem"), "CA root missing.pem: no such file; name a PEM file"),
    ],
)
def test_what_cannot_work_ends_the_start_with_one_line(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    (tmp_path / "application.py").write_text(APP)
    environ = clean_environment(EDGE_HOME=str(tmp_path / "home"))
    with Server([*options, "--port", "0", "application:app"], cwd=tmp_path, environ=environ) as server:
        assert server.wait_end() == 2
    [line] = server.errors
    assert line.startswith(f"edge: {message}")
