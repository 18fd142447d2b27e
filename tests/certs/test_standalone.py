"""Answers to challenges by whoever orders by hand, and the nonces that say whether somebody else gives them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from edge_certs import standalone
from edge_certs.challenges import HTTP_01, TLS_ALPN_01, ChallengeStore
from edge_certs.errors import CertificateError
from edge_certs.probes import Prober
from edge_certs.standalone import Ports, answering
from tests.certs.forge import ordinary_user
from tests.process.pebble import free_ports
from tests.process.tls_proxy import Listener, site

BOTH = (HTTP_01, TLS_ALPN_01)


@pytest.fixture
def store(tmp_path: Path) -> ChallengeStore:
    return ChallengeStore(tmp_path / "challenges")


@pytest.fixture
def ports() -> Ports:
    return Ports(*free_ports(2))


def run(act: Callable[[], Coroutine[object, object, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await act()

    asyncio.run(limited())


async def exchange(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


def test_both_challenges_are_answered_from_the_folder(store: ChallengeStore, ports: Ports) -> None:
    async def act() -> None:
        async with answering(store, BOTH, ports) as usable:
            assert usable == BOTH
            prober = Prober(store)
            for name in ("shop.example", "192.0.2.1"):
                assert await prober.http("127.0.0.1", ports.http, name) == ""
                assert await prober.alpn("127.0.0.1", ports.tls, name) == ""
        assert [path for path in store.folder.rglob("*") if path.is_file()] == []

    run(act)


def test_what_is_no_challenge_is_not_found(store: ChallengeStore, ports: Ports) -> None:
    async def act() -> None:
        async with answering(store, [HTTP_01], ports):
            for target in (b"/", b"/.well-known/acme-challenge/..%2fkey", b"/.well-known/acme-challenge/nothing"):
                answer = await exchange(ports.http, b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % target)
                assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
            assert (await exchange(ports.http, b"\r\n\r\n")).startswith(b"HTTP/1.1 404")
            assert await exchange(ports.http, b"GET / HTTP/1.1\r\n") == b""
            assert await exchange(ports.http, b"x" * 70_000) == b""

    run(act)


def test_port_of_an_edge_with_the_same_folder_is_left_to_it(store: ChallengeStore, ports: Ports) -> None:
    async def act() -> None:
        async with answering(store, BOTH, ports), answering(store, BOTH, ports) as usable:
            assert usable == BOTH

    run(act)


def test_port_of_another_program_is_not_counted_on(store: ChallengeStore, ports: Ports) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n")

    async def act() -> None:
        with Listener(refuse) as other:
            async with answering(store, BOTH, Ports(other.port, ports.tls)) as usable:
                assert usable == (TLS_ALPN_01,)
            with pytest.raises(CertificateError) as caught:
                async with answering(store, [HTTP_01], Ports(other.port, ports.tls)):
                    pass
        assert str(caught.value) == (
            f"port {other.port}: another program has it, and does not answer for this folder: somebody else answers "
            "there: 'HTTP/1.1 404 Not Found'; let edge serve --acme order the certificate, stop the program, or use "
            "--challenge dns-01"
        )

    run(act)


def test_server_of_another_program_does_not_speak_the_challenges_protocol(store: ChallengeStore) -> None:
    import trustme

    async def act() -> None:
        with site(trustme.CA(), "localhost") as port, pytest.raises(CertificateError) as caught:
            async with answering(store, [TLS_ALPN_01], Ports(1, port)):
                pass
        assert "somebody else answers there, who does not speak acme-tls/1; let edge" in str(caught.value)

    run(act)


def test_without_challenges_that_need_a_port_none_is_opened(store: ChallengeStore) -> None:
    async def act() -> None:
        async with answering(store, [], Ports(1, 1)) as usable:
            assert usable == ()

    run(act)


def test_port_that_may_not_be_opened_says_what_to_do(store: ChallengeStore) -> None:
    unprivileged = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if unprivileged < 2:
        pytest.skip("every port may be opened here")

    with ordinary_user(), pytest.raises(CertificateError) as caught:
        standalone._listen(unprivileged - 1)
    assert str(caught.value) == (
        f"cannot listen on port {unprivileged - 1}: permission denied; run it as root, grant "
        "CAP_NET_BIND_SERVICE, or use --challenge dns-01"
    )


def test_probe_says_why_an_authority_would_see_nothing(store: ChallengeStore, ports: Ports) -> None:
    def close(connection: socket.socket) -> None:
        connection.recv(65536)

    def greet(connection: socket.socket) -> None:
        connection.sendall(b"220 mail.example ESMTP\r\n")
        connection.recv(65536)

    def wait(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    async def act() -> None:
        prober = Prober(store, timeout=0.3)
        assert await prober.http("127.0.0.1", ports.http, "a.example") == "connection refused"
        assert await prober.alpn("127.0.0.1", ports.tls, "a.example") == "connection refused"
        assert await prober.http("127.0.0.1", closing.port, "a.example") == "closed without an answer"
        assert await prober.alpn("127.0.0.1", closing.port, "a.example") == "the connection was closed"
        found = await prober.alpn("127.0.0.1", greeting.port, "a.example")
        assert found.startswith("the handshake ended with ")
        assert await prober.http("127.0.0.1", waiting.port, "a.example") == "no answer within 0.3 s"

    with Listener(close) as closing, Listener(greet) as greeting, Listener(wait) as waiting:
        run(act)


def test_another_servers_answer_for_the_same_protocol_is_told_from_ours(tmp_path: Path, ports: Ports) -> None:
    """A second machine behind the same name: its folder has an answer, but not to our nonce."""
    ours, theirs = ChallengeStore(tmp_path / "ours"), ChallengeStore(tmp_path / "theirs")

    async def act() -> None:
        from edge_certs.acme_client import utc_now
        from edge_certs.challenges import Challenge

        theirs.put(Challenge(TLS_ALPN_01, "a.example", "token", "answer"), utc_now())
        async with answering(theirs, [TLS_ALPN_01], ports):
            found = await Prober(ours).alpn("127.0.0.1", ports.tls, "a.example")
            assert found == "another server answers for acme-tls/1 there"
            refused = await Prober(ours).alpn("127.0.0.1", ports.tls, "b.example")
            assert refused == "the connection was closed"

    run(act)
