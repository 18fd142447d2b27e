"""What stands against an order, told by a directory, a name server and ports that are all on loopback."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trustme

from edge_certs.challenges import HTTP_01
from edge_certs.errors import CertificateError
from edge_certs.issuance import Issuer
from edge_certs.jws import AccountKey
from edge_certs.ledger import PRODUCTION, Attempt, Ledger, Outcome
from edge_certs.names import Resolver
from edge_certs.preflight import Check, Preflight, Verdict, is_ready
from edge_certs.settings import AuthoritySettings
from edge_certs.standalone import Ports
from edge_certs.state import Issuance
from edge_certs.storage import Account, Storage
from tests.process.pebble import free_ports
from tests.process.tls_proxy import Listener, server_context

OK, WARNING, FAILED = Verdict.OK, Verdict.WARNING, Verdict.FAILED


@dataclass
class Directory:
    """What an authority answers for its directory, and how far its clock is ahead."""

    meta: dict[str, Any] = field(default_factory=dict)
    ahead: timedelta = timedelta(0)
    content: bytes | None = None
    date: str | None = None

    def answer(self) -> bytes:
        content = self.content or json.dumps({"meta": self.meta}).encode()
        date = self.date or format_datetime(datetime.now(UTC) + self.ahead, usegmt=True)
        head = f"HTTP/1.1 200 OK\r\ndate: {date}\r\ncontent-length: {len(content)}\r\nconnection: close\r\n\r\n"
        return head.encode() + content


@contextmanager
def serving(directory: Directory, folder: Path) -> Iterator[AuthoritySettings]:
    """Serve the directory over HTTPS; gives how to reach it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = server_context(authority, "localhost")

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as stream:
            stream.recv(65536)
            stream.sendall(directory.answer())

    with Listener(serve) as listener:
        yield AuthoritySettings(f"https://localhost:{listener.port}/dir", ca_root=str(folder / "ca.pem"))


@contextmanager
def answering_names(records: Mapping[tuple[str, str], list[str]]) -> Iterator[Resolver]:
    """A name server with these records, by name and type; of names that it has no record of, it says that they are not.

    "servfail" in place of a name is one for which it has no answer.
    """
    known = {name for name, _ in records}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.1)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    data, peer = server.recvfrom(4096)
                except TimeoutError:
                    continue
                query = dns.message.from_wire(data)
                [question] = query.question
                name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
                response = dns.message.make_response(query)
                if values := records.get((name, kind)):
                    response.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *values))
                elif name.startswith("servfail"):
                    response.set_rcode(dns.rcode.SERVFAIL)
                elif not any(each == name or each.endswith(f".{name}") for each in known):
                    response.set_rcode(dns.rcode.NXDOMAIN)
                server.sendto(response.to_wire(), peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Resolver("127.0.0.1", server.getsockname()[1])
        finally:
            over.set()
            thread.join()


HERE = {("a.example", "A"): ["127.0.0.1"]}


@dataclass
class Place:
    """A storage, and ports that are free."""

    storage: Storage
    folder: Path
    ports: Ports

    def run(
        self,
        *names: str,
        directory: Directory | None = None,
        records: Mapping[tuple[str, str], list[str]] = HERE,
        kinds: tuple[str, ...] = (HTTP_01,),
        **wanted: Any,
    ) -> list[Check]:
        with serving(directory or Directory(), self.folder) as authority, answering_names(records) as resolver:
            issuance = Issuance(names, authority.directory, kinds, **wanted)
            issuer = Issuer(self.storage, authority)

            async def collect() -> list[Check]:
                async with asyncio.timeout(20):
                    return [check async for check in Preflight(issuer, issuance, resolver, self.ports).run()]

            return asyncio.run(collect())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(Storage(tmp_path / "home"), tmp_path, Ports(*free_ports(2)))


def of(checks: list[Check], subject: str) -> list[tuple[Verdict, str]]:
    return [(check.verdict, check.text) for check in checks if check.subject == subject]


def test_all_is_well(place: Place) -> None:
    checks = place.run("a.example")
    assert is_ready(checks)
    assert of(checks, "a.example") == [
        (OK, "CAA: no record, so every authority may sign"),
        (OK, f"http-01 at 127.0.0.1:{place.ports.http}: the nonce is answered"),
    ]


@pytest.mark.parametrize(
    ("directory", "wanted", "verdict", "text"),
    [
        (Directory(content=b"<html>"), {}, FAILED, "answered 200, not a directory; check its URL"),
        (Directory(content=b"[]"), {}, FAILED, "answered 200, not a directory; check its URL"),
        (Directory(), {"profile": "short"}, FAILED, "no profile 'short', it offers none; choose one"),
        (
            Directory({"profiles": {"classic": "", "tls": ""}}),
            {"profile": "short"},
            FAILED,
            "no profile 'short', it offers classic, tls; choose one",
        ),
        (Directory({"profiles": {"short": ""}}), {"profile": "short"}, OK, "/dir"),
        (
            Directory({"externalAccountRequired": True}),
            {},
            FAILED,
            "it makes accounts for its customers only; give --eab-kid and --eab-key",
        ),
    ],
)
def test_authority_is_looked_at(
    place: Place, directory: Directory, wanted: dict[str, Any], verdict: Verdict, text: str
) -> None:
    [(found, said)] = of(place.run("a.example", directory=directory, **wanted), "authority")
    assert found is verdict
    assert said.endswith(text)


def test_customer_with_an_account_needs_no_binding(place: Place) -> None:
    with serving(Directory({"externalAccountRequired": True}), place.folder) as authority:
        folder = place.storage.authority(authority.directory)
        folder.save(Account(authority.directory, f"{authority.directory}/1", (), AccountKey.generate()))
        issuance = Issuance(("a.example",), authority.directory, ("dns-persist-01",))

        async def first() -> Check:
            preflight = Preflight(Issuer(place.storage, authority), issuance, Resolver("127.0.0.1", 1), place.ports)
            return await anext(preflight.run())

        assert asyncio.run(first()).verdict is OK


@pytest.mark.parametrize(
    ("ahead", "verdict", "text"),
    [
        (timedelta(seconds=5), OK, "the same as the authority's"),
        (timedelta(minutes=-5), WARNING, "s from the authority's; set it, as by timedatectl set-ntp true"),
        (timedelta(hours=2), FAILED, "s from the authority's; set it, as by timedatectl set-ntp true"),
    ],
)
def test_clock_is_compared(place: Place, ahead: timedelta, verdict: Verdict, text: str) -> None:
    [(found, said)] = of(place.run("a.example", directory=Directory(ahead=ahead)), "clock")
    assert (found, said.endswith(text)) == (verdict, True)


def test_answer_without_a_time_says_nothing_of_the_clock(place: Place) -> None:
    assert of(place.run("a.example", directory=Directory(date="today")), "clock") == []


CAA = {**HERE, ("example", "CAA"): ['0 issue "ca.example"']}


@pytest.mark.parametrize(
    ("meta", "records", "names", "verdict", "text"),
    [
        ({"caaIdentities": ["ca.example"]}, CAA, ("a.example",), OK, 'CAA at example: 0 issue "ca.example"'),
        (
            {},
            CAA,
            ("a.example",),
            WARNING,
            'CAA at example: 0 issue "ca.example"; the authority does not say who it is there',
        ),
        (
            {"caaIdentities": ["other.example"]},
            CAA,
            ("a.example",),
            FAILED,
            'CAA at example: 0 issue "ca.example" let nobody else sign, and the authority is other.example; '
            'add a record such as: example CAA 0 issue "other.example"',
        ),
        (
            {"caaIdentities": ["ca.example"]},
            {**CAA, ("a.example", "CAA"): ['0 issuewild ";"']},
            ("*.a.example",),
            FAILED,
            'CAA at a.example: 0 issuewild ";" let nobody else sign, and the authority is ca.example; '
            'add a record such as: a.example CAA 0 issue "ca.example"',
        ),
    ],
)
def test_caa_is_looked_for_up_the_tree(
    place: Place,
    meta: dict[str, Any],
    records: dict[tuple[str, str], list[str]],
    names: tuple[str, ...],
    verdict: Verdict,
    text: str,
) -> None:
    checks = place.run(*names, directory=Directory(meta), records=records)
    assert of(checks, names[0])[0] == (verdict, text)


def test_wildcard_needs_nothing_that_can_be_reached(place: Place) -> None:
    checks = place.run("*.a.example", kinds=("dns-persist-01",))
    assert of(checks, "*.a.example")[1:] == [
        (OK, "a wildcard is proven in the DNS; nothing has to be reachable"),
    ]


def test_address_is_asked_without_the_dns(place: Place) -> None:
    assert of(place.run("127.0.0.1"), "127.0.0.1") == [
        (OK, f"http-01 at 127.0.0.1:{place.ports.http}: the nonce is answered")
    ]


def test_every_address_has_to_answer_with_ipv6_first(place: Place) -> None:
    records = {("a.example", "A"): ["127.0.0.1"], ("a.example", "AAAA"): ["::1"]}
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = replace(place, ports=Ports(place.ports.http, unused.getsockname()[1]))
    checks = of(closed.run("a.example", records=records), "a.example")
    assert checks[1:] == [
        (OK, f"http-01 at [::1]:{place.ports.http}: the nonce is answered"),
        (OK, f"http-01 at 127.0.0.1:{place.ports.http}: the nonce is answered"),
    ]


def test_address_where_nobody_answers_is_named(place: Place) -> None:
    # The whole of 127/8 is this machine, but for its broadcast address.
    checks = place.run("a.example", records={("a.example", "A"): ["127.255.255.255"]})
    [_, (verdict, text)] = of(checks, "a.example")
    assert verdict is FAILED
    assert text.startswith(f"http-01 at 127.255.255.255:{place.ports.http}: ")
    assert text.endswith("; let this address lead to this machine, and the port through, or remove its record")
    assert not is_ready(checks)


@pytest.mark.parametrize(
    ("name", "records", "texts"),
    [
        (
            "b.example",
            {("c.b.example", "A"): ["127.0.0.1"]},
            [
                "CAA: no record, so every authority may sign",
                "no address in the DNS; add an A or AAAA record with this machine's",
            ],
        ),
        (
            "b.example",
            HERE,
            [
                "CAA: no record, so every authority may sign",
                "AAAA of b.example: no such name in the DNS; add it there, or correct the name",
            ],
        ),
    ],
)
def test_name_that_leads_nowhere_is_said_so(
    place: Place, name: str, records: dict[tuple[str, str], list[str]], texts: list[str]
) -> None:
    assert [text for _, text in of(place.run(name, records=records), name)] == texts


def test_name_servers_that_fail_are_said_to() -> None:
    async def ask(resolver: Resolver) -> None:
        async with asyncio.timeout(20):
            await resolver.addresses("servfail.example")

    with answering_names({}) as resolver, pytest.raises(CertificateError) as caught:
        asyncio.run(ask(resolver))
    assert str(caught.value).startswith("AAAA of servfail.example: no answer: ")
    assert str(caught.value).endswith("; check the name servers of the domain, and this machine's")


def test_caa_without_an_answer_stands_against_the_order(place: Place) -> None:
    [(verdict, text), *_] = of(place.run("servfail.example"), "servfail.example")
    assert verdict is FAILED
    assert text.startswith("CAA: CAA of servfail.example: no answer: ")


@pytest.mark.parametrize(
    ("hook", "verdict", "text"),
    [
        ("sh -c true", OK, "'sh' can be run; whether its records are seen, an order shows"),
        ("nosuchcommand", FAILED, "'nosuchcommand' is no command that may be run here; name another"),
    ],
)
def test_hook_is_looked_for(place: Place, hook: str, verdict: Verdict, text: str) -> None:
    checks = place.run("a.example", kinds=("dns-01",), dns_hook=hook)
    assert of(checks, "DNS hook") == [(verdict, text)]


def test_authority_that_is_not_there_leaves_the_rest_to_be_looked_at(place: Place) -> None:
    [port] = free_ports(1)
    authority = AuthoritySettings(f"https://localhost:{port}/dir")

    async def run(resolver: Resolver) -> list[Check]:
        issuance = Issuance(("a.example",), authority.directory, (HTTP_01,))
        preflight = Preflight(Issuer(place.storage, authority), issuance, resolver, place.ports)
        return [check async for check in preflight.run()]

    with answering_names(HERE) as resolver:
        checks = asyncio.run(run(resolver))
    assert [check.verdict for check in checks] == [FAILED, OK, OK, OK]
    assert checks[0].subject == "authority"


def offline(place: Place, *names: str) -> Preflight:
    """Looks at what is here alone: no test speaks with a public authority."""
    authority = AuthoritySettings(PRODUCTION)
    issuance = Issuance(names, PRODUCTION, (HTTP_01,))
    return Preflight(Issuer(place.storage, authority), issuance, Resolver(), place.ports)


def test_ledger_says_what_failed_and_what_the_authority_allows(place: Place) -> None:
    preflight = offline(place, "a.example")
    folder, now = place.storage.authority(PRODUCTION), datetime.now(UTC)
    assert preflight._ledger().verdict is OK
    for count, text in ((1, "1 attempt failed, the last at "), (2, "2 attempts failed, the last at ")):
        folder.amend(lambda ledger: ledger.start(Attempt(now, ("a.example",), Outcome.FAILED)))
        check = preflight._ledger()
        assert (check.verdict, check.text.startswith(text)) == (WARNING, True), count
    issued = Ledger(tuple(Attempt(now, ("a.example",), Outcome.ISSUED) for _ in range(5)))
    folder.amend(lambda _: issued)
    check = preflight._ledger()
    assert check.verdict is FAILED
    assert check.text.startswith("5 certificates for exactly these names within 7 days: no more are made; ")


@pytest.mark.parametrize(
    ("name", "is_private"),
    [
        ("www.example.com", False),
        ("*.example.com", False),
        ("8.8.8.8", False),
        ("localhost", True),
        ("shop", True),
        ("shop.test", True),
        ("*.home.arpa", True),
        ("192.168.1.1", True),
        ("fd00::1", True),
    ],
)
def test_names_that_no_public_authority_signs_are_told(place: Place, name: str, is_private: bool) -> None:
    check = offline(place, name)._private(name)
    assert (check is not None) is is_private
    if check is not None:
        assert (check.verdict, check.subject) == (FAILED, name)
        assert check.text == "no public authority signs for it; use edge serve --dev, or an authority of your own"
