"""Which hosts are served, as clients meet it: 421 and 400, canonical hosts, and browsers that come over HTTPS alone."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.process.http2_client import Http2Client
from tests.process.server import Authority, RawClient, Server, running

HELLO = """
async def app(scope, receive, send):
    fields = [(b"strict-transport-security", b"max-age=7")] if scope["path"] == "/own" else []
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": dict(scope["headers"]).get(b"host", b"none")})
"""
HSTS = b"strict-transport-security"
VALUE = b"max-age=63072000; includeSubDomains"


class Hosts(Authority):
    """An authority whose certificate is for a shop, and for the names that the clients here connect to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.shop, _ = self.issue("shop", "shop.example", "*.shop.example", "127.0.0.1", "localhost")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Hosts:
    return Hosts(tmp_path_factory.mktemp("hosts"))


@pytest.fixture(scope="module")
def server(hosts: Hosts) -> Iterator[Server]:
    """A server for the names of one certificate, with a canonical host and HSTS, and its plain listener."""
    arguments = ["--bind", "127.0.0.1:0", "--http-bind", "127.0.0.1:0", "--cert", str(hosts.shop)]
    more = ["--canonical-host", "shop.example", "--hsts", "--hsts-subdomains", "--log-format", "json"]
    with running(hosts.folder, HELLO, *arguments, *more) as server:
        yield server


def ask(port: int, request: bytes, context: ssl.SSLContext | None = None) -> tuple[int, dict[bytes, bytes], bytes]:
    with RawClient(port, context) as client:
        client.send(request)
        return client.receive_response()


def get(host: bytes, target: bytes = b"/") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host)


@pytest.mark.parametrize("host", [b"shop.example", b"SHOP.example.", b"shop.example:9999"])
def test_host_of_the_certificate_is_served(server: Server, hosts: Hosts, host: bytes) -> None:
    status, fields, body = ask(server.ports("https")[0], get(host), hosts.client_context())
    assert (status, body, fields[HSTS]) == (200, host, VALUE)


@pytest.mark.parametrize("host", [b"evil.example", b"10.1.2.3", b"a.b.shop.example"])
def test_other_host_is_misdirected_and_the_log_says_what_to_do(server: Server, hosts: Hosts, host: bytes) -> None:
    status, fields, body = ask(server.ports("https")[0], get(host), hosts.client_context())
    assert (status, HSTS in fields) == (421, False)
    assert body.startswith(b"421 Misdirected Request\n")
    server.wait_error(f"host b'{host.decode()}' is not served here: name it with --server-name")


def test_unknown_host_does_not_end_the_connection(server: Server, hosts: Hosts) -> None:
    with RawClient(server.ports("https")[0], hosts.client_context()) as client:
        for host, status in ((b"shop.example", 200), (b"evil.example", 421), (b"shop.example", 200)):
            client.send(get(host))
            assert client.receive_response()[0] == status


def test_unknown_host_in_plain_is_a_bad_request_and_a_known_one_goes_to_https(server: Server) -> None:
    [port], [secure] = server.ports("http"), server.ports("https")
    assert ask(port, get(b"evil.example"))[0] == 400
    status, fields, _ = ask(port, get(b"www.shop.example", b"/a?b"))
    assert (status, fields[b"location"]) == (308, b"https://www.shop.example:%d/a?b" % secure)
    assert HSTS not in fields


def test_other_name_of_the_certificate_is_sent_to_the_canonical_host(server: Server, hosts: Hosts) -> None:
    status, fields, _ = ask(server.ports("https")[0], get(b"www.shop.example", b"/a?b"), hosts.client_context())
    assert (status, fields[b"location"], fields[HSTS]) == (308, b"https://shop.example/a?b", VALUE)


def test_own_policy_of_the_application_stays_alone(server: Server, hosts: Hosts) -> None:
    with RawClient(server.ports("https")[0], hosts.client_context()) as client:
        client.send(get(b"shop.example", b"/own"))
        head = client.receive_until(b"\r\n\r\n")
    assert head.lower().count(HSTS) == 1
    assert b"max-age=7\r\n" in head


def test_probe_is_answered_under_any_host(server: Server, hosts: Hosts) -> None:
    for port, context in ((server.ports("http")[0], None), (server.ports("https")[0], hosts.client_context())):
        assert ask(port, get(b"10.0.0.5:8443", b"/.edge/health"), context)[0] == 200


def test_http_1_0_without_host_is_served(server: Server, hosts: Hosts) -> None:
    status, _, body = ask(server.ports("https")[0], b"GET / HTTP/1.0\r\n\r\n", hosts.client_context())
    assert (status, body) == (200, b"none")


def test_http2_has_the_same_rules_for_each_of_its_requests(server: Server, hosts: Hosts) -> None:
    def begin(host: bytes, path: bytes = b"/") -> int:
        fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", host), (b":path", path)]
        return client.begin_with(fields)

    with Http2Client(server, hosts) as client:
        known, unknown, other = begin(b"shop.example"), begin(b"evil.example"), begin(b"www.shop.example", b"/a")
        answers = [client.wait(number) for number in (known, unknown, other)]
    assert [answer.status for answer in answers] == [200, 421, 308]
    assert [answer.fields.get(HSTS) for answer in answers] == [VALUE, None, VALUE]
    assert answers[2].fields[b"location"] == b"https://shop.example/a"


def test_server_names_take_the_place_of_those_of_the_certificate(hosts: Hosts) -> None:
    arguments = ["--bind", "127.0.0.1:0", "--cert", str(hosts.shop), "--server-name", "127.0.0.1,*.other.example"]
    with running(hosts.folder, HELLO, *arguments) as server:
        context = hosts.client_context()
        found = [ask(server.port, get(host), context)[0] for host in (b"shop.example", b"x.other.example")]
        assert found == [421, 200]
        assert httpx.get(f"https://127.0.0.1:{server.port}/", verify=context, trust_env=False).status_code == 200


def test_asterisk_serves_every_host_behind_a_certificate(hosts: Hosts) -> None:
    arguments = ["--bind", "127.0.0.1:0", "--cert", str(hosts.shop), "--server-name", "*"]
    with running(hosts.folder, HELLO, *arguments) as server:
        assert ask(server.port, get(b"10.1.2.3"), hosts.client_context())[0] == 200
