"""What is read from real servers on loopback."""

from __future__ import annotations

import socket
import ssl

import pytest
import trustme

from edge_certs.errors import CertificateError
from edge_certs.peer import look_at
from tests.process.tls_proxy import Listener, encrypted, site


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def pem(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


def test_chain_and_version_of_a_server_are_read(authority: trustme.CA) -> None:
    child = authority.create_child_ca()
    issued = child.issue_cert("localhost", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(context)
    with encrypted(context) as port:
        peer = look_at("127.0.0.1", port, "localhost", pem(authority))
    assert peer.verdict == ""
    assert [len(peer.certificates), peer.version] == [2, "TLSv1.3"]
    assert peer.cipher.startswith("TLS_")
    peer.certificates[0].verify_directly_issued_by(peer.certificates[1])


def test_chain_is_read_also_when_it_is_refused(authority: trustme.CA) -> None:
    with site(trustme.CA(), "localhost") as port:
        peer = look_at("127.0.0.1", port, "localhost", pem(authority))
    assert len(peer.certificates) == 1
    assert peer.verdict == "unable to get local issuer certificate"


def test_name_is_what_clients_ask_for(authority: trustme.CA) -> None:
    with site(authority, "shop.example") as port:
        assert look_at("127.0.0.1", port, "shop.example", pem(authority)).verdict == ""
        verdict = look_at("127.0.0.1", port, "other.example", pem(authority)).verdict
    assert verdict == "Hostname mismatch, certificate is not valid for 'other.example'."


def test_port_where_nobody_listens_is_said_so(authority: trustme.CA) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(CertificateError) as caught:
            look_at("127.0.0.1", port, "localhost", pem(authority))
    assert str(caught.value) == f"127.0.0.1:{port}: no connection: connection refused; check host and port"


def test_server_that_speaks_no_tls_is_said_so(authority: trustme.CA) -> None:
    def greet(connection: socket.socket) -> None:
        connection.sendall(b"220 mail.example ESMTP\r\n")
        connection.recv(65536)

    with Listener(greet) as listener, pytest.raises(CertificateError) as caught:
        look_at("127.0.0.1", listener.port, "localhost", pem(authority))
    assert str(caught.value).startswith(f"127.0.0.1:{listener.port}: no TLS handshake: ")
    assert str(caught.value).endswith("; is it TLS?")


def test_server_that_says_nothing_is_not_waited_for(authority: trustme.CA) -> None:
    def wait(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    with Listener(wait) as listener, pytest.raises(CertificateError) as caught:
        look_at("127.0.0.1", listener.port, "localhost", pem(authority), timeout=0.2)
    assert str(caught.value) == f"127.0.0.1:{listener.port}: no TLS handshake within 0.2 s; is it TLS?"


def test_connection_that_takes_too_long_is_given_up(authority: trustme.CA) -> None:
    # A full backlog: the kernel drops what comes after it without a word.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        with pytest.raises(CertificateError) as caught:
            look_at("127.0.0.1", port, "localhost", pem(authority), timeout=0.2)
        for each in waiting:
            each.close()
    assert str(caught.value) == f"127.0.0.1:{port}: no connection within 0.2 s; check host and port"
