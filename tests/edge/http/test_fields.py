"""Field names, their flags and the syntax of names, values, lists and hosts."""

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.http import fields
from edge.http.fields import (
    ACTION,
    FIELD_NAMES,
    HOP,
    INVALID,
    NO_TRAILER,
    PROTECTED,
    REFUSED_TRAILER,
    RESPONSE_HOP,
    TRUST,
    UNDERSCORE,
    classify,
    field_name,
    is_field_value,
    is_response_hop,
    is_token,
    is_valid_host,
    parse_list,
)

TOKEN_BYTES = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

# RFC 9110 section 7.6.1 and front ends' own.
HOP_BY_HOP = b"""connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer
    transfer-encoding upgrade http2-settings expect""".split()
# reference/front_ends.md section 2.3, "Inbound headers always removed from an untrusted peer".
TRUST_SENSITIVE = b"""x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port x-forwarded-prefix forwarded
    x-forwarded-anything x-real-ip x-client-ip true-client-ip cf-connecting-ip fastly-client-ip x-original-url
    x-rewrite-url x-accel-redirect x-accel-mapping x-sendfile x-sendfile-type client-cert client-cert-chain
    x-ssl-client-verify x-ssl-cert x-client-cert x-client-cert-dn early-data x-edge-worker x-request-id
    x-request-start x-script-name proxy""".split()
PLAIN = b"""user-agent accept accept-encoding x-custom x-real-ipad x-forward x-edge x-ssl referer via sec-websocket-key
    x-client ssl-client-cert""".split()


def test_each_flag_is_one_bit_of_its_own() -> None:
    flags = [
        value for name, value in vars(fields).items() if name.isupper() and isinstance(value, int) and name[0] != "_"
    ]
    flags = [value for value in flags if value not in (ACTION, REFUSED_TRAILER)]
    assert sum(flags) == (1 << len(flags)) - 1


@pytest.mark.parametrize("name", HOP_BY_HOP)
def test_hop_by_hop_names_end_here(name: bytes) -> None:
    assert classify(name) & HOP
    assert classify(name) & REFUSED_TRAILER


@pytest.mark.parametrize("name", TRUST_SENSITIVE)
def test_trust_sensitive_names_are_flagged_and_cannot_be_named_by_connection(name: bytes) -> None:
    assert classify(name) == TRUST | PROTECTED | NO_TRAILER


@pytest.mark.parametrize("name", PLAIN)
def test_plain_names_need_no_attention(name: bytes) -> None:
    assert classify(name) == 0


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        (b"host", fields.HOST),
        (b"content-length", fields.LENGTH),
        (b"transfer-encoding", fields.CODING),
        (b"connection", fields.CONNECTION),
        (b"expect", fields.EXPECT),
        (b"upgrade", fields.UPGRADE),
        (b"te", fields.TE),
    ],
)
def test_names_that_a_parser_reads_have_their_flag(name: bytes, flag: int) -> None:
    assert classify(name) & flag
    assert flag & ACTION


@pytest.mark.parametrize(
    "name",
    b"""host content-length content-type content-encoding content-anything authorization cookie transfer-encoding
    x-forwarded-for forwarded x-real-ip x-request-id client-cert""".split(),
)
def test_names_that_connection_may_not_delete_are_protected(name: bytes) -> None:
    assert classify(name) & PROTECTED


@pytest.mark.parametrize("name", [b"te", b"upgrade", b"keep-alive", b"http2-settings", b"x-custom"])
def test_names_that_connection_lists_rightly_are_not_protected(name: bytes) -> None:
    assert not classify(name) & PROTECTED


@pytest.mark.parametrize(
    "name",
    b"""transfer-encoding content-length content-type host authorization cookie set-cookie cache-control expires range
    if-none-match trailer x-forwarded-for x_checksum a.b www-authenticate te""".split(),
)
def test_trailers_may_not_have_names_that_steer_the_message(name: bytes) -> None:
    assert classify(name) & REFUSED_TRAILER


@pytest.mark.parametrize("name", [b"x-checksum", b"grpc-status", b"server-timing", b"etag", b"digest"])
def test_trailers_may_have_names_that_only_inform(name: bytes) -> None:
    assert not classify(name) & REFUSED_TRAILER


@pytest.mark.parametrize("name", [b"x_forwarded_for", b"content_length", b"x.forwarded.for", b"_", b".", b"x-edge-a.b"])
def test_names_with_underscore_or_dot_are_dropped(name: bytes) -> None:
    assert classify(name) == UNDERSCORE


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"\x00", b"x-forwarded-for ", b"\xc3\xa9", b"x_y z", b"(a)"])
def test_names_that_are_not_tokens_are_refused(name: bytes) -> None:
    assert classify(name) == INVALID


@pytest.mark.parametrize(
    "raw",
    b"User-Agent user-agent sec-ch-ua Sec-CH-UA DNT Host host TE X-Request-ID X-Request-Id Sec-WebSocket-Key".split(),
)
def test_common_spellings_are_found_with_one_lookup(raw: bytes) -> None:
    assert FIELD_NAMES[raw] == (raw.lower(), classify(raw.lower()))


def test_every_known_spelling_gives_what_the_slow_path_would() -> None:
    assert {raw: (raw.lower(), classify(raw.lower())) for raw in FIELD_NAMES} == FIELD_NAMES


@pytest.mark.parametrize("raw", [b"uSER-aGENT", b"X-Unheard-Of", b"Cookie", b"cONTENT-lENGTH", b"Bad Name"])
def test_slow_path_knows_every_spelling(raw: bytes) -> None:
    assert field_name(raw) == (raw.lower(), classify(raw.lower()))


@given(st.sampled_from(sorted(FIELD_NAMES)), st.data())
def test_case_never_changes_what_a_name_means(raw: bytes, data: st.DataObject) -> None:
    upper = data.draw(st.lists(st.booleans(), min_size=len(raw), max_size=len(raw)))
    mixed = b"".join(raw[i : i + 1].upper() if up else raw[i : i + 1].lower() for i, up in enumerate(upper))
    assert field_name(mixed) == FIELD_NAMES[raw]


@pytest.mark.parametrize(
    "name", b"connection keep-alive transfer-encoding upgrade te trailer status x-sendfile x-accel-redirect".split()
)
def test_responses_lose_hop_by_hop_fields_and_directives(name: bytes) -> None:
    assert name in RESPONSE_HOP
    assert is_response_hop(name)


def test_response_directives_nobody_has_invented_yet_stay_inside() -> None:
    assert is_response_hop(b"x-accel-new")
    assert is_response_hop(b"x-sendfile-new")


@pytest.mark.parametrize("name", [b"content-type", b"server", b"set-cookie", b"x-status", b"x-request-id", b"x-accel"])
def test_responses_keep_everything_else(name: bytes) -> None:
    assert not is_response_hop(name)


def test_tokens_have_only_token_bytes() -> None:
    assert bytes(byte for byte in range(256) if is_token(b"a%ca" % byte)) == bytes(sorted(TOKEN_BYTES))


def test_empty_is_not_a_token() -> None:
    assert not is_token(b"")


def test_values_have_no_control_byte_but_tab() -> None:
    refused = {byte for byte in range(256) if not is_field_value(b"a%ca" % byte)}
    assert refused == {*range(32), 127} - {9}


def test_empty_is_a_field_value() -> None:
    assert is_field_value(b"")


@pytest.mark.parametrize(
    ("value", "elements"),
    [
        (b"", []),
        (b"close", [b"close"]),
        (b"keep-alive, Upgrade", [b"keep-alive", b"Upgrade"]),
        (b" a ,\tb\t,c", [b"a", b"b", b"c"]),
        (b",, ,a,\t,", [b"a"]),
        (b"a b", [b"a b"]),
        (b"a\x0b,b", [b"a\x0b", b"b"]),
    ],
)
def test_lists_are_parted_at_commas_and_stripped(value: bytes, elements: list[bytes]) -> None:
    assert parse_list(value) == elements


@pytest.mark.parametrize(
    "value",
    [
        b"example.com",
        b"EXAMPLE.com.",
        b"localhost",
        b"example.com:0",
        b"example.com:443",
        b"example.com:65535",
        b"127.0.0.1",
        b"127.0.0.1:8080",
        b"[::1]",
        b"[::1]:8443",
        b"[2001:DB8::a]",
        b"[::ffff:127.0.0.1]",
        b"xn--bcher-kva.example",
        b"foo_bar.example",
        b"a%2Db",
        b"a!$&'()*+,;=~b",
    ],
)
def test_hosts_of_the_uri_grammar_are_valid(value: bytes) -> None:
    assert is_valid_host(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b":80",
        b"example.com:",
        b"example.com:65536",
        b"example.com:100000",
        b"example.com:+80",
        b"example.com:8_0",
        b"example.com: 80",
        b"example.com:80:80",
        b"user@example.com",
        b"user:pw@example.com",
        b"a b",
        b" example.com",
        b"example.com\t",
        b"example.com/",
        b"example.com?x",
        b"example.com#x",
        b"example.com\\x",
        b"http://example.com",
        b"a%2",
        b"a%zz",
        b"b\xc3\xbccher.example",
        b"a\r\nb",
        b"a\x00",
        b"a\n",
        b"::1",
        b"[::1",
        b"[::1]x",
        b"[::1]:",
        b"[::1]:65536",
        b"[]",
        b"[1.2.3.4]",
        b"[:::1]",
        b"[::1%25eth0]",
        b"[fe80::1%eth0]",
        b"[v1.fe]",
        b"[::1]]",
    ],
)
def test_hosts_outside_the_grammar_are_refused(value: bytes) -> None:
    assert not is_valid_host(value)


@given(st.ip_addresses(v=6), st.integers(0, 70000))
def test_every_ipv6_address_is_valid_with_every_port(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    assert is_valid_host(f"[{address}]".encode())
    assert is_valid_host(f"[{address.exploded}]:{port}".encode()) is (port <= 65535)


@given(st.binary(max_size=80))
@example(b"[" + b":" * 44 + b"]")
@example(b"a" * 30_000 + b"@")
@example(b"%41" * 10_000 + b"%")
def test_no_bytes_make_the_host_check_fail_or_let_a_separator_in(value: bytes) -> None:
    if is_valid_host(value):
        assert not set(value) & set(b'/\\@?#<>"^`{|} \t\r\n\x00\x7f')
