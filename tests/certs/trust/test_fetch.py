"""Roots from URLs, from real servers on loopback."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from edge_certs.errors import CertificateError
from edge_certs.files import MAX_FILE_SIZE
from edge_certs.trust import fetch as module
from edge_certs.trust.anchors import parse_anchors
from edge_certs.trust.fetch import MAX_REDIRECTS, fetch
from edge_certs.trust.outbound import outbound_context
from edge_certs.trust.store import TrustStore
from tests.certs.forge import AUTHORITY, NOW, forge
from tests.process.tls_proxy import InterceptingProxy, Listener, intercepting, server_context

ROOT = forge(extensions=[AUTHORITY]).pem


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def context(authority: trustme.CA, tmp_path: Path) -> ssl.SSLContext:
    """What our connections trust once the authority was added."""
    certificates = parse_anchors(authority.cert_pem.bytes())
    TrustStore(tmp_path).add(certificates, "corp", NOW.replace(year=2026), "")
    return outbound_context(tmp_path, {})


def answer(content: bytes = ROOT, head: str = "200 OK", **fields: str) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {head}\r\n{lines}content-length: {len(content)}\r\n\r\n".encode() + content


@contextlib.contextmanager
def serving(respond: Callable[[bytes], bytes], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Answer each request by what `respond` makes of its path; gives the URL of the server."""

    def serve(connection: socket.socket) -> None:
        stream = tls.wrap_socket(connection, server_side=True) if tls else connection
        with stream:
            head = b""
            while b"\r\n\r\n" not in head:
                head += stream.recv(65536) or b"\r\n\r\n"
            # A client that does not like the certificate asks nothing.
            if head.strip():
                stream.sendall(respond(head.split(b" ")[1]))

    with Listener(serve) as listener:
        yield f"{'https' if tls else 'http'}://localhost:{listener.port}"


def refused(url: str, context: ssl.SSLContext, *, is_pinned: bool = False) -> str:
    with pytest.raises(CertificateError) as caught:
        fetch(url, context, is_pinned=is_pinned)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_https_is_verified_with_the_roots_that_were_added(authority: trustme.CA, context: ssl.SSLContext) -> None:
    with serving(lambda path: answer(), server_context(authority, "localhost")) as url:
        assert fetch(f"{url}/corp.pem", context, is_pinned=False) == ROOT


def test_https_of_an_unknown_authority_is_refused_even_with_a_fingerprint(
    authority: trustme.CA, tmp_path: Path
) -> None:
    context = outbound_context(tmp_path, {})
    with serving(lambda path: answer(), server_context(authority, "localhost")) as url:
        message = refused(f"{url}/corp.pem", context, is_pinned=True)
    assert message.startswith(f"{url}/corp.pem: its certificate is not trusted: ")
    assert message.endswith("; fetch the file by other means, or from an http URL with --fingerprint")


def test_https_for_another_name_is_refused(authority: trustme.CA, context: ssl.SSLContext) -> None:
    with serving(lambda path: answer(), server_context(authority, "other.example")) as url:
        assert "its certificate is not trusted: " in refused(url, context)


def test_http_needs_a_fingerprint(context: ssl.SSLContext) -> None:
    with serving(lambda path: answer()) as url:
        assert fetch(f"{url}/corp.pem", context, is_pinned=True) == ROOT
        assert refused(f"{url}/corp.pem", context) == (
            f"{url}/corp.pem: plain http, which anybody on the way can change; "
            "use https, or give the SHA-256 of the certificate with --fingerprint"
        )


def test_redirection_is_followed_and_not_from_https_to_http(authority: trustme.CA, context: ssl.SSLContext) -> None:
    with serving(lambda path: answer()) as plain:

        def respond(path: bytes) -> bytes:
            return (
                answer(b"", "302 Found", location="/there" if path == b"/here" else plain)
                if path != b"/there"
                else answer()
            )

        with serving(respond, server_context(authority, "localhost")) as url:
            assert fetch(f"{url}/here", context, is_pinned=False) == ROOT
            assert refused(f"{url}/away", context).startswith(f"{plain}: plain http, ")
            assert fetch(f"{url}/away", context, is_pinned=True) == ROOT


def test_redirection_without_end_is_refused(context: ssl.SSLContext) -> None:
    asked = []

    def respond(path: bytes) -> bytes:
        asked.append(path)
        return answer(b"", "301 Moved Permanently", location="/again")

    with serving(respond) as url:
        message = refused(url, context, is_pinned=True)
    assert message == f"{url}: more than {MAX_REDIRECTS} redirections; name the file's own URL"
    assert len(asked) == MAX_REDIRECTS + 1


def test_answer_that_is_no_file_is_refused(context: ssl.SSLContext) -> None:
    with serving(lambda path: answer(b"<html>", "404 Not Found")) as url:
        assert refused(f"{url}/x", context, is_pinned=True) == f"{url}/x: the answer is 404 Not Found; name another URL"


def test_answer_that_is_too_large_is_cut_off(context: ssl.SSLContext) -> None:
    with serving(lambda path: answer(b"x" * (10 * MAX_FILE_SIZE))) as url:
        assert f"more than {MAX_FILE_SIZE} bytes; name the" in refused(url, context, is_pinned=True)


def test_proxy_of_the_environment_is_asked(context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def respond(target: bytes) -> bytes:
        asked.append(target)
        return answer()

    with serving(respond) as url:
        monkeypatch.setenv("HTTP_PROXY", url)
        # A name that leads nowhere (RFC 6761 section 6.2) but through the proxy.
        assert fetch("http://pki.corp.test/root.pem", context, is_pinned=True) == ROOT
    assert asked == [b"http://pki.corp.test/root.pem"]


def test_proxy_that_intercepts_is_believed_once_its_root_was_added(
    authority: trustme.CA, context: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = trustme.CA()
    public.cert_pem.write_to_path(str(tmp_path / "public.pem"))
    with serving(lambda path: answer(), server_context(public, "www.public.test")) as url:
        proxy = InterceptingProxy(authority, tmp_path / "public.pem", {"www.public.test": int(url.rpartition(":")[2])})
        with intercepting(proxy) as port:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
            assert fetch("https://www.public.test/root.pem", context, is_pinned=False) == ROOT
            stranger = outbound_context(tmp_path / "nothing was added here", {})
            assert "its certificate is not trusted: " in refused("https://www.public.test/root.pem", stranger)


def test_server_that_says_nothing_is_given_up(context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEP_TIMEOUT", 0.05)
    done = threading.Event()

    def respond(path: bytes) -> bytes:
        done.wait(20)
        return b""

    with serving(respond) as url:
        message = refused(url, context, is_pinned=True)
        done.set()
    assert message == f"{url}: no complete answer in time; try again later"


def test_server_that_sends_a_byte_now_and_then_is_given_up(
    context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOTAL_TIMEOUT", 0.2)
    done = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not done.wait(0.02):
            connection.sendall(b"x-more: x\r\n")

    with Listener(serve) as listener:
        message = refused(f"http://localhost:{listener.port}", context, is_pinned=True)
        done.set()
    assert message.endswith(": no complete answer in time; try again later")


def test_port_where_nobody_listens_is_one_line(context: ssl.SSLContext) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    message = refused(f"http://127.0.0.1:{port}/", context, is_pinned=True)
    assert message.endswith("; check the URL and the way there")


def test_connection_that_breaks_is_one_line(context: ssl.SSLContext) -> None:
    with serving(lambda path: b"") as url:
        assert refused(url, context, is_pinned=True).endswith("; check the URL and the way there")


@pytest.mark.parametrize("url", ["https://[::1", "http://localhost:99999999/"])
def test_url_that_is_none_is_one_line(url: str, context: ssl.SSLContext) -> None:
    assert refused(url, context, is_pinned=True).startswith(f"{url!r}: not a URL: ")
