import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from edge.config import TABLES, ServeSettings, build_settings
from edge.config_toml import read_text
from edge.key_files import KeyFile
from edge.preview import (
    CertificateFacts,
    Facts,
    Level,
    describe_limits,
    describe_roots,
    describe_trust,
    find_findings,
    hosts_of,
)
from edge.toml_file import parse_document
from edge_certs.trust.bundle import Source
from edge_certs.trust.root_files import RootFile

NOW = datetime(2026, 11, 21, tzinfo=UTC)
GOOD = CertificateFacts(
    place="a.pem",
    names=("a.example", "*.b.example"),
    not_after=NOW + timedelta(days=60),
    key_type="ecdsa",
    key_bits=0,
    key=KeyFile("a.key", 0o600, "root", is_ours=True),
    remarks=(),
)
EXPOSED = KeyFile("a.key", 0o644, "root", is_ours=True)
FACTS = Facts(
    now=NOW,
    listening=("http://127.0.0.1:8000",),
    certificates=(),
    problems=(),
    open_files=0,
    spool_room=2**40,
    openssl=(3, 5),
    file_senders=(),
    outbound=(),
)
APP = '[application]\napp = "shop:app"\n'


def settings_of(text: str) -> ServeSettings:
    return build_settings({}, {}, read_text(parse_document("edge.toml", text), TABLES))


def findings(text: str = APP, facts: Facts = FACTS) -> list[tuple[str, str]]:
    return [(finding.level.value, finding.text) for finding in find_findings(settings_of(text), facts)]


def with_certificate(**changes: object) -> Facts:
    changed = dataclasses.replace(GOOD, **changes)  # type: ignore[arg-type]  # by field
    return dataclasses.replace(FACTS, certificates=(changed,), listening=("https://[::]:443", "http://[::]:80"))


def test_nothing_is_said_of_what_is_good() -> None:
    assert findings() == []
    assert findings(facts=with_certificate()) == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"remarks": ("not trusted",)}, ("warning", "certificate a.pem: not trusted")),
        ({"not_after": NOW + timedelta(days=6.5)}, ("warning", "certificate a.pem: it expires in 6 days; renew it")),
        ({"not_after": NOW + timedelta(days=1.5)}, ("warning", "certificate a.pem: it expires in 1 day; renew it")),
        ({"not_after": NOW + timedelta(hours=5)}, ("warning", "certificate a.pem: it expires today; renew it")),
        ({"key": EXPOSED}, ("warning", "key a.key: mode 644, everybody may read it; chmod 600")),
        (
            {"key_type": "rsa", "key_bits": 4096},
            ("warning", "certificate a.pem: RSA of 4096 bits, which signs 13 times slower than 2048; use ECDSA"),
        ),
        (
            {"key_type": "rsa", "key_bits": 2048},
            ("note", "certificates: RSA alone; one with an ECDSA key makes handshakes cheaper"),
        ),
    ],
)
def test_certificate_is_judged(changes: dict[str, object], found: tuple[str, str]) -> None:
    assert findings(facts=with_certificate(**changes))[0] == found


@pytest.mark.parametrize(
    ("text", "facts", "found"),
    [
        (
            "[limits]\nmax_body = 0\n",
            FACTS,
            ("warning", "limits: max_body is 0, so one client may send without end; set"),
        ),
        (
            "[limits]\nmax_connections = 5000\n",
            dataclasses.replace(FACTS, open_files=1024),
            ("warning", "limits: 5000 connections allowed, and 1024 open files; raise the limit of open files"),
        ),
        (
            "[spool]\nspool_dir = '/'\nspool_max = '2GiB'\n",
            dataclasses.replace(FACTS, spool_room=2**30),
            ("warning", "spool: / holds 1024MiB in all, and spool_max is 2GiB; lower that, or name a larger spool_dir"),
        ),
        (
            "[forward]\ntrusted_proxy = ['10.0.0.0/8', '0.0.0.0/0']\n",
            FACTS,
            ("warning", "forward: 0.0.0.0/0 is trusted, so every client says itself who it is; name the addresses"),
        ),
        (
            "[forward]\ntrusted_proxy = '*'\ntrust_forwarded_prefix = true\n",
            FACTS,
            (
                "warning",
                "forward: 0.0.0.0/0, ::/0 is trusted, so every client says itself who it is, and where the application "
                "is mounted; name",
            ),
        ),
        (
            "[forward]\nforwarded_style = 'rfc7239'\ntrust_forwarded_host = true\n",
            FACTS,
            (
                "warning",
                "forward: forwarded_style, trust_forwarded_host: nobody is trusted, so it is for nothing; add "
                "trusted_proxy",
            ),
        ),
        (
            "[forward]\ntrust_forwarded_prefix = true\n",
            FACTS,
            ("warning", "forward: trust_forwarded_prefix: nobody is trusted, so it is for nothing; add trusted_proxy"),
        ),
        (
            "[forward]\nproxy_protocol = ['10.0.0.0/8', 'unix', '::/0']\n",
            FACTS,
            ("warning", "forward: ::/0 may announce clients with proxy_protocol, so everybody says who it is; name"),
        ),
        (
            "",
            dataclasses.replace(FACTS, file_senders=("/app/shop.py",)),
            ("warning", "application: /app/shop.py has files sent by X-Accel-Redirect or X-Sendfile, and nothing is"),
        ),
        (
            "",
            dataclasses.replace(
                with_certificate(), certificates=(GOOD, dataclasses.replace(GOOD, names=("c.example",)))
            ),
            ("note", "certificates: who asks for a name that none of them is for is shown a.pem"),
        ),
        (
            "[acme]\nacme = 'a.example'\nacme_challenge = 'http-01'\n",
            dataclasses.replace(FACTS, listening=("https://[::]:443", "http://[::]:8080")),
            ("warning", "acme: http-01 alone, and nothing listens on port 80, where authorities ask; add http_bind"),
        ),
        (
            "[tls]\ndev = true\n",
            dataclasses.replace(FACTS, openssl=(3, 0), listening=("https://127.0.0.1:8443",)),
            ("note", "OpenSSL 3.0: no exchange of keys that withstands quantum computers; 3.5 has one"),
        ),
        (
            "[listen]\nbind = ':8000'\n",
            dataclasses.replace(FACTS, listening=("http://[::]:8000", "unix:/a", "http://localhost:80")),
            ("note", "http://[::]:8000: plain HTTP for everybody who reaches it; give it a certificate"),
        ),
        ("", dataclasses.replace(FACTS, problems=("it is wrong",)), ("error", "it is wrong")),
    ],
)
def test_settings_are_judged(text: str, facts: Facts, found: tuple[str, str]) -> None:
    (level, said), *others = findings(APP + text, facts)
    assert (level, said[: len(found[1])]) == found
    assert not others


def test_spool_that_nothing_comes_to_may_be_small() -> None:
    facts = dataclasses.replace(FACTS, spool_room=0)
    assert findings(APP + "[buffer]\nrequest_buffering = 'off'\n", facts) == []


def test_files_that_may_be_sent_and_keys_of_two_types_are_as_they_should_be() -> None:
    facts = dataclasses.replace(with_certificate(), file_senders=("/app/shop.py",))
    both = dataclasses.replace(GOOD, key_type="rsa", key_bits=2048, place="b.pem")
    assert findings(APP + "[static]\nsendfile_root = '/'\n", facts) == []
    assert findings(facts=dataclasses.replace(with_certificate(), certificates=(GOOD, both))) == []


def test_acme_by_other_ways_needs_no_port_80() -> None:
    facts = dataclasses.replace(FACTS, listening=("https://[::]:443",))
    assert findings(APP + "[acme]\nacme = 'a.example'\n", facts) == []
    on_80 = dataclasses.replace(FACTS, listening=("https://[::]:443", "http://[::]:80"))
    assert findings(APP + "[acme]\nacme = 'a.example'\nacme_challenge = 'http-01'\n", on_80) == []


def test_host_without_a_certificate_is_named() -> None:
    text = APP + "[[site]]\nhosts = ['a.example', 'x.b.example', '*.b.example', 'c.example', 'd.example', '*']\n"
    assert findings(text + "acme = ['d.example']\n", with_certificate()) == [
        ("warning", "host c.example: no certificate is for it, and clients refuse another; add one")
    ]
    assert findings(text) == []


def test_worst_is_said_first() -> None:
    facts = dataclasses.replace(with_certificate(key_type="rsa", key=EXPOSED), problems=("it is wrong",))
    assert [level for level, _ in findings(facts=facts)] == [level.value for level in Level]


def test_strict_makes_errors_of_warnings_and_leaves_notes() -> None:
    facts = dataclasses.replace(with_certificate(key_type="rsa", key=EXPOSED), problems=("it is wrong",))
    found = findings(APP + "[run]\nstrict = true\n", facts)
    assert [level for level, _ in found] == ["error", "error", "note"]
    assert [text for _, text in found] == [text for _, text in findings(facts=facts)]


def test_sites_are_described_with_their_routes() -> None:
    text = """
        [pool]
        workers = 2
        [[site]]
        hosts = ["a.example", "b.example"]
        [[site.route]]
        app = "shop:app"
        workers = 1
        [[site.route]]
        path = "/chat"
        app = "chat"
        affinity = "cookie"
        [[site.route]]
        path = "/admin"
        app = "admin"
        strip = true
        python = "venv/bin/python"
        [[site.route]]
        path = "/files"
        static = "/"
        [[site.route]]
        path = "/old"
        redirect = "/new"
        keep_path = true
        [[site]]
        [[site.route]]
        upstream = ["http://a:1", "unix:b.sock"]
        health_path = "/health"
        [[site.route]]
        path = "/one"
        upstream = "https://c"
        [[site.route]]
        path = "/gone"
        redirect = "https://d.example/"
        status = 301
    """
    assert hosts_of(settings_of(text).sites) == [
        "site a.example, b.example",
        "  /       application shop:app, 1 worker",
        "  /chat   application chat, 2 workers, affinity by cookie",
        "  /admin  application admin, 2 workers, venv/bin/python, root path /admin",
        "  /files  files of /",
        "  /old    redirect to /new (308, with the rest of the path)",
        "site names of the certificates, or every host",
        "  /      upstream http://a:1, unix:b.sock, least-busy, health at /health",
        "  /one   upstream https://c:443",
        "  /gone  redirect to https://d.example/ (301)",
    ]


def test_roots_for_calls_out_are_described_and_what_is_wrong_with_them_is_a_warning() -> None:
    one = RootFile(Source("corp.pem", (b"1",)), ("CN=Corp",), ("outbound CA corp.pem: 'CN=Corp': no key usage",))
    several = RootFile(Source("all.pem", (b"1", b"2", b"3")), ("CN=A", "CN=B", "CN=C"), ())
    assert [describe_roots(one), describe_roots(several)] == ["corp.pem, CN=Corp", "all.pem, CN=A and 2 more"]
    facts = dataclasses.replace(FACTS, outbound=(one, several))
    assert findings(facts=facts) == [("warning", "outbound CA corp.pem: 'CN=Corp': no key usage")]


def test_limits_and_trust_are_described() -> None:
    settings = settings_of(APP + "[limits]\nmax_connections = 10\n[forward]\ntrusted_proxy = ['10.0.0.0/8', 'unix']\n")
    assert describe_limits(settings) == (
        "body 100MiB, header fields 32KiB; of each edge process 10 connections, of each worker 100 requests, "
        "1024 that wait"
    )
    assert describe_limits(settings_of(APP + "[limits]\nmax_body = 0\n")).startswith("body of any size, ")
    assert describe_trust(settings) == "10.0.0.0/8, Unix sockets"
    assert describe_trust(settings_of(APP)) == "nobody"
    style = APP + "[forward]\nforwarded_style = 'rfc7239'\n"
    assert describe_trust(settings_of(style + "trusted_proxy = '10.0.0.0/8'\n")) == "10.0.0.0/8, by Forwarded"
    assert describe_trust(settings_of(style)) == "nobody"
