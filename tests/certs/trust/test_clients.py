"""The words of each client; tests/process/test_trust.py holds the clients themselves to real servers."""

from __future__ import annotations

import json

import pytest

from edge_certs.trust.calls import attempt, classify
from edge_certs.trust.clients import CLIENTS, Outcome, find_client, read_library, read_tool, roots_of, tool_environment

ISSUER = "unable to get local issuer certificate"


@pytest.mark.parametrize(
    ("text", "state", "detail"),
    [
        (f"URLError: <[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {ISSUER} (_ssl.c:1006)>",
         "refused", ISSUER),
        ("SSLError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch, certificate is not "
         "valid for 'a.example'. (_ssl.c:1006)",
         "refused", "Hostname mismatch, certificate is not valid for 'a.example'"),
        (f"ConnectionError: Tls handshake failed: SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:"
         f"CERTIFICATE_VERIFY_FAILED: {ISSUER}: OK", "refused", ISSUER),
        ("ConnectionError: CERTIFICATE_VERIFY_FAILED", "refused", "certificate verify failed"),
        ("ConnectionError: Peer name a.example is not in peer certificate", "refused",
         "Peer name a.example is not in peer certificate"),
        ("SSLError: SSL validation failed for https://a/ hostname 'a' doesn't match 'b'", "refused",
         "hostname 'a' doesn't match 'b'"),
        ("OSError: invalid path:\n  /nosuch.pem", "failed", "OSError: invalid path: /nosuch.pem"),
        ("E" * 999, "failed", "E" * 300),
    ],
)  # fmt: skip
def test_error_of_a_library_is_a_refusal_only_when_it_is_the_certificates(text: str, state: str, detail: str) -> None:
    assert classify(text) == (state, detail)


def test_library_that_is_not_installed_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert attempt("nosuch-library", "https://localhost:1/")["state"] == "absent"


@pytest.mark.parametrize(
    ("name", "code", "output", "state", "detail"),
    [
        ("curl", 0, "", "ok", ""),
        ("curl", 22, "curl: (22) The requested URL returned error: 404", "ok", ""),
        ("curl", 52, "curl: (52) Empty reply from server", "ok", ""),
        ("curl", 60, f"curl: (60) SSL certificate problem: {ISSUER}\nMore details", "refused", ISSUER),
        ("curl", 60, "curl: (60) SSL: no alternative certificate subject name matches target host name 'a'", "refused",
         "no alternative certificate subject name matches target host name 'a'"),
        ("curl", 56, "curl: (56) Received HTTP code 407 from proxy after CONNECT", "failed",
         "curl: (56) Received HTTP code 407 from proxy after CONNECT"),
        ("curl", 77, "curl: (77) error setting certificate file: /nosuch.pem", "failed",
         "curl: (77) error setting certificate file: /nosuch.pem"),
        ("node", 0, "ok", "ok", ""),
        ("node", 1, "SELF_SIGNED_CERT_IN_CHAIN self-signed certificate in chain", "refused",
         "self-signed certificate in chain"),
        ("node", 1, "ECONNREFUSED connect ECONNREFUSED", "failed", "ECONNREFUSED connect ECONNREFUSED"),
        ("node", 2, "407", "failed", "407"),
        ("git", 128, "fatal: repository 'https://a/' not found", "ok", ""),
        ("git", 128, "fatal: unable to access 'https://a/': The requested URL returned error: 403", "ok", ""),
        ("git", 128, "fatal: unable to access 'https://a/': server certificate verification failed. CAfile: none",
         "refused", "server certificate verification failed"),
        ("git", 128, f"fatal: unable to access 'https://a/': SSL certificate problem: {ISSUER}", "refused", ISSUER),
        ("git", 128, "fatal: unable to access 'https://a/': Could not resolve host: a", "failed",
         "fatal: unable to access 'https://a/': Could not resolve host: a"),
        ("pip", 1, "ERROR: HTTP error 404 while getting https://a/x.whl", "ok", ""),
        ("pip", 1, "ERROR: Wheel 'edge-trust-check' located at /tmp/x is invalid.", "ok", ""),
        ("pip", 1, f"SSLError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {ISSUER} (_ssl.c:1)')",
         "refused", ISSUER),
        ("uv", 1, "cause: HTTP status client error (404 Not Found) for url (https://a/x.whl)", "ok", ""),
        ("uv", 2, "cause: invalid peer certificate: UnknownIssuer", "refused", "UnknownIssuer"),
        ("uv", 2, "", "failed", "exit code 2"),
    ],
)  # fmt: skip
def test_words_of_a_tool_are_understood(name: str, code: int, output: str, state: str, detail: str) -> None:
    assert read_tool(name, code, output) == Outcome(state, detail)


def test_library_child_that_ends_without_a_word_has_failed() -> None:
    assert read_library("").state == "failed"
    assert read_library("Segmentation fault").state == "failed"
    assert read_library('["ok"]').state == "failed"


def test_what_a_library_child_prints_last_is_its_outcome() -> None:
    printed = {"state": "ok", "detail": "", "version": "1", "certifi": "/c.pem"}
    assert read_library(f"a warning\n{json.dumps(printed)}\n") == Outcome("ok", "", "1", "/c.pem")


@pytest.mark.parametrize(
    ("name", "environ", "roots"),
    [
        ("requests", {"CURL_CA_BUNDLE": "/a", "REQUESTS_CA_BUNDLE": "/b"}, "REQUESTS_CA_BUNDLE=/b"),
        ("requests", {"CURL_CA_BUNDLE": "/a", "REQUESTS_CA_BUNDLE": ""}, "CURL_CA_BUNDLE=/a"),
        ("requests", {"SSL_CERT_FILE": "/a"}, "/certifi.pem"),
        ("certifi", {"SSL_CERT_FILE": "/a"}, "/certifi.pem"),
        ("grpc", {"SSL_CERT_FILE": "/a"}, "built in"),
        ("urllib", {}, "OpenSSL's default"),
        ("node", {"NODE_EXTRA_CA_CERTS": "/a"}, "built in and NODE_EXTRA_CA_CERTS=/a"),
    ],
)
def test_roots_are_those_of_the_variable_that_wins(name: str, environ: dict[str, str], roots: str) -> None:
    assert roots_of(find_client(name), environ, "/certifi.pem") == roots


def test_roots_of_certifi_are_named_without_its_place_too() -> None:
    assert roots_of(find_client("httpx"), {}, "") == "certifi"


def test_each_client_has_a_name_of_its_own() -> None:
    assert len({client.name for client in CLIENTS}) == len(CLIENTS) == 13


def test_environment_of_tools_is_the_given_one_and_asks_nobody() -> None:
    environ = tool_environment({"LANG": "de_DE", "SSL_CERT_FILE": "/a"}, "http://me:secret@proxy:1")
    assert environ["SSL_CERT_FILE"] == "/a"
    assert (environ["GIT_TERMINAL_PROMPT"], environ["LC_ALL"]) == ("0", "C")
    assert environ["EDGE_CHECK_PROXY"] == "http://me:secret@proxy:1"
