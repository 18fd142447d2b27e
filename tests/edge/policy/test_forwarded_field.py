"""`Forwarded` is read from its end, where the neighbour wrote, to the first element that is malformed."""

import re
from itertools import islice

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.policy.forwarded_field import Element, read_elements

SIZE = 4096
TOKEN = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def read(value: bytes, max_size: int = SIZE) -> list[Element]:
    return list(read_elements(value, max_size))


def nodes(value: bytes) -> list[bytes]:
    return [element.node for element in read(value)]


# The examples of RFC 7239 are among these.
@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"for=192.0.2.43, for=198.51.100.17", [b"198.51.100.17", b"192.0.2.43"]),
        (b'for=192.0.2.43,for="[2001:db8:cafe::17]",for=unknown', [b"", b"[2001:db8:cafe::17]", b"192.0.2.43"]),
        (b'For="[2001:db8:cafe::17]:4711"', [b"[2001:db8:cafe::17]:4711"]),
        (b'FOR="192.0.2.43:47011"', [b"192.0.2.43:47011"]),
        (b'for="192.0.2.43:_hidden-1"', [b"192.0.2.43"]),
        (b'for="[2001:db8::1]:_p.0"', [b"[2001:db8::1]"]),
        (b'for="_gazonk"', [b""]),
        (b"for=_hidden, for=_SEVKISEK", [b"", b""]),
        (b'for="unknown:80"', [b""]),
        (b"proto=https", [b""]),
        (b"by=203.0.113.43;proto=http;for=192.0.2.60", [b"192.0.2.60"]),
        (b'for="192.0\\.2.6\\0"', [b"192.0.2.60"]),
        # An IPv6 address without brackets could have a port at its end, or not.
        (b'for="2001:db8::1"', [b""]),
        (b'for="[fe80::1%eth0]"', [b""]),
        (b'for="192.0.2.43:123456"', [b""]),
        (b'for="192.0.2.43:"', [b""]),
        (b'for="192.0.2.43:_"', [b""]),
        (b'for=""', [b""]),
        (b'for="client.example"', [b""]),
    ],
)
def test_node_is_as_an_entry_of_the_chain_has_it(value: bytes, found: list[bytes]) -> None:
    assert nodes(value) == found


@pytest.mark.parametrize(
    ("value", "proto", "host"),
    [
        (b"for=192.0.2.60;proto=http;by=203.0.113.43", b"http", b""),
        (b'for=192.0.2.60;PROTO="https";Host=shop.example', b"https", b"shop.example"),
        (b'host="shop.example:8443";ext="a,b;c=\\"d\\\\";for=192.0.2.60', b"", b"shop.example:8443"),
        (b"host=a.example;proto=http, host=b.example", b"", b"b.example"),
        (b'host="";proto=https', b"https", b""),
    ],
)
def test_scheme_and_host_are_those_of_the_nearest_element(value: bytes, proto: bytes, host: bytes) -> None:
    assert read(value)[0][1:] == (proto, host)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"", []),
        (b" ,\t, ", []),
        (b",for=192.0.2.1 ,, for=192.0.2.2,", [b"192.0.2.2", b"192.0.2.1"]),
        (b"for=192.0.2.1\t,\tfor=192.0.2.2 ", [b"192.0.2.2", b"192.0.2.1"]),
        # A pair may be missing, and an element that has none is still somebody's.
        (b";for=192.0.2.1;;proto=http;", [b"192.0.2.1"]),
        (b"for=192.0.2.1, ;, for=192.0.2.2", [b"192.0.2.2", b"", b"192.0.2.1"]),
    ],
)
def test_empty_elements_are_none(value: bytes, found: list[bytes]) -> None:
    assert nodes(value) == found


@pytest.mark.parametrize(
    "element",
    [
        b"for",
        b"for=",
        b"=192.0.2.9",
        b"for==192.0.2.9",
        b"192.0.2.9",
        b"for 192.0.2.9",
        b"for= 192.0.2.9",
        b"for =192.0.2.9",
        b"for=192.0.2.9; proto=http",
        b"for=192.0.2.9 ;proto=http",
        b"for=192.0.2.9:80",
        b"for=2001:db8::9",
        b"for=[2001:db8::9]",
        b"for=<192.0.2.9>",
        b'for="192.0.2.9',
        b'for=192.0.2.9"',
        b'for="192.0.2.9"x',
        b'for=x"192.0.2.9"',
        b'for="192.0.2.9\\"',
        b'for="192.0.2.9"""',
        b'for="\\"',
        b'for="a\\\x00"',
        b'for="a\x7f"',
        b'"for"=192.0.2.9',
        b"for=192.0.2.9 proto=http",
        b"for=192.0.2.9;for=192.0.2.8",
        b"proto=http;for=192.0.2.9;Proto=http",
        b"f\xc3\xbcr=192.0.2.9",
        b"for=192.0.2.9;\x00",
    ],
)
def test_nothing_counts_from_a_malformed_element_on(element: bytes) -> None:
    assert nodes(element) == []
    assert nodes(b"for=192.0.2.1, " + element + b", for=192.0.2.2") == [b"192.0.2.2"]


@pytest.mark.parametrize(
    "forged", [b'for="', b'for=1.1.1.1;x="', b'for=1.1.1.1;x="\\', b'for=1.1.1.1, x=",', b'"', b"for=1.1.1.1;", b"\\"]
)
@pytest.mark.parametrize(
    "written", [b"for=192.0.2.2;proto=https", b'for="[2001:db8::2]:9";host="a\\"b"', b'proto=http;for="192.0.2.2"']
)
@pytest.mark.parametrize("comma", [b", ", b","])
def test_client_cannot_swallow_what_the_proxy_writes_behind_it(forged: bytes, written: bytes, comma: bytes) -> None:
    assert read(forged + comma + written)[:1] == read(written)
    assert read(written)[0].node


@pytest.mark.parametrize(
    ("size", "found"),
    [
        (29, [b"192.0.2.2", b"192.0.2.1"]),
        (28, [b"192.0.2.2"]),
        (15, [b"192.0.2.2"]),
        # The comma before it is cut off: more of it may be, too.
        (14, []),
        (13, []),
        (1, []),
    ],
)
def test_element_that_is_not_whole_within_the_size_does_not_count(size: int, found: list[bytes]) -> None:
    assert [element.node for element in read(b"for=192.0.2.1 , for=192.0.2.2", size)] == found


PAIRS = st.lists(
    st.tuples(
        st.one_of(st.sampled_from(["for", "For", "proto", "HOST", "by"]), st.text(TOKEN, min_size=1, max_size=5)),
        st.one_of(
            st.sampled_from(["192.0.2.1", "[2001:db8::1]:80", "unknown", "https", "shop.example:1"]),
            st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=8),
        ),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda pair: pair[0].lower(),
)


def encode(elements: list[list[tuple[str, str, bool]]], comma: str) -> bytes:
    """Write elements as RFC 7239 section 4 has them; a value is quoted where it must be, or where that is wished."""

    def pair(name: str, value: str, is_quoted: bool) -> str:
        if not is_quoted and value and not set(value) - set(TOKEN):
            return f"{name}={value}"
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{name}="{escaped}"'

    return comma.join(";".join(pair(*each) for each in element) for element in elements).encode("latin-1")


@given(st.lists(PAIRS, max_size=5), st.sampled_from([",", ", ", " ,\t", ",,"]))
@example([[("for", "\\", True)], [("for", '"', True), ("x", '\\"=', True)]], ",")
def test_what_was_written_is_read(elements: list[list[tuple[str, str, bool]]], comma: str) -> None:
    found = read(encode(elements, comma), 10_000)
    said = [{name.lower(): value.encode("latin-1") for name, value, _ in element} for element in reversed(elements)]
    assert [each[1:] for each in found] == [(each.get("proto", b""), each.get("host", b"")) for each in said]
    for each, element in zip(found, said, strict=True):
        node = element.get("for", b"")
        if node in (b"192.0.2.1", b"[2001:db8::1]:80"):
            assert each.node == node
        else:  # whether it is an address is asked where the walk is
            assert node.startswith(each.node)
            assert not each.node.strip(b"0123456789abcdefABCDEF.:[]")


# RFC 7239 section 4 with RFC 9110 section 5.6, from left to right, as they are written down.
_TCHAR = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_STRING = r'"(?:[\t \x21\x23-\x5B\x5D-\x7E\x80-\xFF]|\\[\t \x21-\x7E\x80-\xFF])*"'
_ELEMENT = rf"(?:;|{_TCHAR}+=(?:{_TCHAR}+|{_STRING})(?=[;, \t]|\Z))*"
_WHOLE = re.compile(rf"[ \t]*(?:{_ELEMENT})(?:[ \t]*,[ \t]*(?:{_ELEMENT}))*[ \t]*".encode("latin-1"))
_PIECE = re.compile(rf'(?:[^",]|{_STRING})+'.encode("latin-1"))


def from_the_left(value: bytes) -> list[bytes] | None:
    """Return the elements of a well-formed field, the nearest first, None if it is not well-formed."""
    if not _WHOLE.fullmatch(value):
        return None
    found = [piece.strip(b" \t") for piece in _PIECE.findall(value)]
    for piece in filter(None, found):
        names = [name.lower() for name in re.findall(rb'([^;="]+)=(?:"(?:[^"\\]|\\.)*"|[^;"]+)', piece, re.DOTALL)]
        if len(names) != len(set(names)):
            return None
    return [piece for piece in reversed(found) if piece]


@given(
    st.lists(
        st.sampled_from([b"for=192.0.2.1", b'"', b"\\", b",", b";", b"=", b" ", b"a", b'x="', b'"a"']), max_size=12
    )
)
@example([b'x="', b"\\", b'"', b'"', b",", b"for=192.0.2.1"])
@example([b'x="', b"\\", b"\\", b'"', b",", b"for=192.0.2.1"])
def test_well_formed_fields_read_the_same_from_the_left(pieces: list[bytes]) -> None:
    value = b"".join(pieces)
    elements = from_the_left(value)
    found = nodes(value)
    if elements is not None:
        assert found == [
            b"192.0.2.1" if re.search(rb"(?:\A|;)for=192\.0\.2\.1(?:;|\Z)", each) else b"" for each in elements
        ]


@given(st.binary(max_size=300), st.integers(1, 300))
def test_random_bytes_give_elements_that_are_whole(value: bytes, size: int) -> None:
    for element in islice(read_elements(value, size), 400):
        assert re.fullmatch(rb"[0-9A-Fa-f.:\[\]]*", element.node)
    assert read(value + b",for=192.0.2.7", 400)[0].node == b"192.0.2.7"


def test_what_is_long_takes_time_in_proportion() -> None:
    # Quadratic, each of these would take minutes.
    size = 400_000
    for value in (b'"' * size, b"\\" * size, b'x="' + b"a" * size, b"a" * size, b" " * size + b"=", b'"\\' * size):
        assert len(read(b"for=192.0.2.1, " + value, 10 * size)) <= 1
    assert len(read(b"for=192.0.2.1," * 20_000, 10 * size)) == 20_000
