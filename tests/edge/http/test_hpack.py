"""Field compression against RFC 7541, and against two other implementations of it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Sequence
from typing import Any

import hpack
import pytest
from hpack.table import HeaderTable
from hypothesis import given
from hypothesis import strategies as st
from jh2._hazmat import Decoder as NativeDecoder
from jh2._hazmat import Encoder as NativeEncoder

from edge.http.field import Field, FieldMemory
from edge.http.hpack import CompressionError, HeadDecoder, HeadEncoder, plain_string
from edge.http.hpack_table import STATIC_TABLE, TABLE_SIZE
from edge.http.huffman import best_huffman, encode_integer

MEMORY = FieldMemory(best_huffman())
Pairs = list[tuple[bytes, bytes]]

NAMES = [b":status", b":path", b"cache-control", b"x-a", b"x-b", b"set-cookie", b"etag", b"content-type", b"x" * 130]
VALUES = [b"", b"200", b"/", b"no-cache", b"a" * 40, b"b" * 126, b"c" * 127, b"d" * 600, b"\xff\x00\x80", b"e" * 4000]


def decoder(max_fields: int = 1000, max_size: int = 1 << 20) -> HeadDecoder:
    """Return a decoder that has seen nothing."""
    return HeadDecoder(MEMORY, max_fields=max_fields, max_size=max_size)


def pairs(fields: Iterable[Field] | None) -> Pairs:
    """Return names and values."""
    assert fields is not None
    return [(field.name, field.value) for field in fields]


def literal(name: bytes, value: bytes) -> bytes:
    """Return a literal that goes into the table."""
    return b"\x40" + plain_string(name) + plain_string(value)


# The decoder.


def test_the_static_table_is_the_rfcs() -> None:
    assert tuple(HeaderTable.STATIC_TABLE) == STATIC_TABLE


FIRST = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")]
SECOND = [*FIRST, (b"cache-control", b"no-cache")]
THIRD = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/index.html"),
    (b":authority", b"www.example.com"),
    (b"custom-key", b"custom-value"),
]


@pytest.mark.parametrize(
    "blocks",
    [
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
    ],
    ids=["C.3", "C.4"],
)
def test_requests_of_appendix_c(blocks: Sequence[str]) -> None:
    ours = decoder()
    for block, fields in zip(blocks, (FIRST, SECOND, THIRD), strict=True):
        assert pairs(ours.decode(bytes.fromhex(block))) == fields


@pytest.mark.parametrize(
    ("block", "fields"),
    [
        ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", [(b"custom-key", b"custom-header")]),
        ("040c2f73616d706c652f70617468", [(b":path", b"/sample/path")]),
        ("100870617373776f726406736563726574", [(b"password", b"secret")]),
        ("82", [(b":method", b"GET")]),
        ("", []),
    ],
)
def test_fields_of_appendix_c_2(block: str, fields: Pairs) -> None:
    assert pairs(decoder().decode(bytes.fromhex(block))) == fields


def test_answers_of_appendix_c_6_with_a_table_of_256_bytes() -> None:
    """Entries are evicted in it."""
    ours = decoder()
    blocks = [
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        "4883640effc1c0bf",
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af2708"
        "7f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
    ]
    results = [pairs(ours.decode((b"\x3f\xe1\x01" if not n else b"") + bytes.fromhex(b))) for n, b in enumerate(blocks)]
    assert results[0][0] == (b":status", b"302")
    assert results[1] == [(b":status", b"307"), *results[0][1:]]
    assert results[2][-1] == (b"set-cookie", b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1")


def encode_with(library: Any, fields: Pairs) -> bytes:
    """Encode with one of the other implementations."""
    if isinstance(library, hpack.Encoder):
        return library.encode(fields, huffman=bool(len(fields) % 2))
    block: bytes = library.encode([(*pair, False) for pair in fields], bool(len(fields) % 2))
    return block


@pytest.mark.parametrize("make", [hpack.Encoder, NativeEncoder], ids=["hpack", "jh2"])
@pytest.mark.parametrize("seed", range(5))
def test_blocks_of_other_encoders_with_changes_of_the_table(make: Any, seed: int) -> None:
    source = random.Random(seed)
    library, ours, theirs, native = make(), decoder(), hpack.Decoder(1 << 20), NativeDecoder(1 << 20)
    many = [b"v%d" % number for number in range(150)]  # so that indexes go beyond 126
    for _ in range(150):
        if source.random() < 0.1:
            library.header_table_size = source.choice((0, 64, 300, 1000, TABLE_SIZE))
        fields = [
            (source.choice(NAMES), source.choice(VALUES + many))
            for _ in range(source.randrange(source.choice((3, 30))))
        ]
        block = encode_with(library, fields)
        assert pairs(ours.decode(block)) == fields
        assert [tuple(field) for field in theirs.decode(block, raw=True)] == fields
        assert [(name, value) for name, value, _ in native.decode(block, True)] == fields


def test_entries_127_and_beyond() -> None:
    ours = decoder()
    fields = [(b"a", b"%d" % number) for number in range(110)]
    ours.decode(b"".join(literal(*pair) for pair in fields))
    for index in range(62, 62 + 110):
        assert pairs(ours.decode(encode_integer(0x80, 7, index))) == [fields[109 - (index - 62)]]
        assert pairs(ours.decode(encode_integer(0x00, 4, index) + b"\x01b")) == [(b"a", b"b")]
    with pytest.raises(CompressionError, match="index 172, the tables have 171 entries"):
        ours.decode(encode_integer(0x80, 7, 172))


def test_the_table_shrinks_and_grows() -> None:
    ours = decoder()
    ours.decode(literal(b"a", b"1") + literal(b"b", b"2"))
    assert pairs(ours.decode(encode_integer(0x20, 5, 34) + b"\xbe")) == [(b"b", b"2")]
    with pytest.raises(CompressionError):
        ours.decode(b"\xbf")
    ours.decode(b"\x20" + literal(b"c", b"3"))
    with pytest.raises(CompressionError):
        ours.decode(b"\xbe")
    ours.decode(b"\x20" + encode_integer(0x20, 5, TABLE_SIZE) + literal(b"d", b"4"))
    assert pairs(ours.decode(b"\xbe")) == [(b"d", b"4")]
    ours.decode(literal(b"e", b"x" * TABLE_SIZE))  # larger than the table: it empties it (RFC 7541 section 4.4)
    with pytest.raises(CompressionError):
        ours.decode(b"\xbe")


def test_a_field_may_be_named_by_the_entry_that_it_evicts() -> None:
    ours = decoder()
    ours.decode(encode_integer(0x20, 5, 64) + literal(b"name", b"1" * 20))
    assert pairs(ours.decode(b"\x7e\x01\x32")) == [(b"name", b"2")]
    assert pairs(ours.decode(b"\xbe")) == [(b"name", b"2")]


def test_changes_of_the_table_are_counted() -> None:
    ours = decoder()
    ours.decode(b"\x82\x00\x01a\x01b\x10\x01a\x01b")
    assert ours.changes == 0
    ours.decode(literal(b"a", b"b"))
    ours.decode(b"\x20\x20")
    assert ours.changes == 3


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("80", "index 0, the tables"),
        ("be", "names an entry that is not there"),
        ("ff00", "index 127, the tables have 61 entries"),
        ("ff", "ends within a field"),
        ("ff80", "ends within a field"),
        ("ffffffffffff7f", "more than 32 bits"),
        ("7f00", "index 63, the tables"),
        ("7f800101", "index 191, the tables"),
        ("40", "ends within a field"),
        ("4001", "longer than its block"),
        ("400161", "ends within a field"),
        ("4001617f", "ends within a field"),
        ("400161ff", "ends within a field"),
        ("40016105616263", "longer than its block"),
        ("4001617fffffff07", "longer than its block"),
        ("4081ff0161", None),
        ("40016181ff", None),
        ("82" + "20", "size behind a field"),
        ("3fe21f", "a table of 4097 bytes, at most 4096 allowed"),
        ("3f", "ends within a field"),
        ("3fffffffffff", "more than 32 bits"),
        ("81" * 2000 + "be", "names an entry that is not there"),
        ("81" * 2000 + "ff", "ends within a field"),
    ],
)
def test_blocks_that_cannot_be_decoded(block: str, reason: str | None) -> None:
    with pytest.raises(CompressionError, match=reason):
        decoder().decode(bytes.fromhex(block))


@given(st.lists(st.binary(max_size=60), max_size=6))
def test_any_bytes_decode_as_elsewhere_or_not_at_all(blocks: list[bytes]) -> None:
    ours, theirs = decoder(), hpack.Decoder(1 << 20)
    for block in blocks:
        try:
            expected = [tuple(field) for field in theirs.decode(block, raw=True)]
        except hpack.HPACKError:
            # What is wrong there may be a limit of its own; here, too, nothing but CompressionError is raised.
            with contextlib.suppress(CompressionError):
                ours.decode(block)
            return
        found = decode_or_reason(ours, block)
        # Five bytes hold 32 bits; Python's integers have no end.
        if not (isinstance(found, str) and "more than 32 bits" in found):
            assert found == expected
            continue
        return


def decode_or_reason(ours: HeadDecoder, block: bytes) -> Pairs | str:
    """Return the fields of a block, or why it has none."""
    try:
        return pairs(ours.decode(block))
    except CompressionError as error:
        return str(error)


def test_damaged_blocks_raise_nothing_else() -> None:
    source = random.Random(7541)
    encoder = hpack.Encoder()
    for _ in range(3000):
        block = bytearray(encoder.encode([(source.choice(NAMES), source.choice(VALUES[:7])) for _ in range(4)]))
        block[source.randrange(len(block))] ^= 1 << source.randrange(8)
        try:
            decoder().decode(bytes(block[: source.randrange(len(block) + 1)]))
        except CompressionError:
            continue


# The limits of a head.


def test_as_many_fields_as_allowed_and_one_more() -> None:
    ours = decoder(max_fields=10)
    for block in (b"\x82", b"\x00\x01a\x01b"):
        assert len(pairs(ours.decode(block * 10))) == 10
        assert ours.decode(block * 11) is None
    assert ours.decode(b"\x82" * 9 + b"\x00\x01a\x01b" * 2) is None
    assert ours.decode(b"\x00\x01a\x01b" * 2 + b"\x82" * 9) is None


def test_the_table_is_kept_right_by_a_head_that_is_too_large() -> None:
    ours = decoder(max_fields=10)
    assert ours.decode(b"\x82" * 5000 + literal(b"a", b"1") + b"\x82" * 5000 + literal(b"b", b"2")) is None
    assert pairs(ours.decode(b"\xbe\xbf")) == [(b"b", b"2"), (b"a", b"1")]


def test_size_is_counted_with_32_bytes_a_field() -> None:
    ours = decoder(max_size=1000)
    large = literal(b"a", b"x" * (1000 - 33))
    assert len(pairs(ours.decode(large))) == 1
    assert ours.decode(b"\xbe\x82") is None
    assert ours.decode(literal(b"a", b"x" * (1000 - 32))) is None
    fields = ours.decode(b"\xbe")
    assert fields is None
    assert ours.estimate([]) == 0


def test_an_estimate_is_the_size_where_that_is_large_and_never_less() -> None:
    ours = decoder(max_size=4000)
    for count in (1, 10, 60):
        fields = ours.decode(b"\x82" * count)
        assert fields is not None
        size = sum(field.size for field in fields)
        assert size <= ours.estimate(fields)
        if ours.estimate(fields) >= 1000:
            assert ours.estimate(fields) == size


def test_a_bomb_of_indexes_is_not_unfolded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen thousand fields of 4,000 bytes in one frame: no more than a head's worth is ever in a list."""
    ours = decoder(max_fields=100)
    ours.decode(literal(b"a", b"x" * 4000))
    kept: list[int] = []
    monkeypatch.setattr(HeadDecoder, "_is_within_limits", lambda self, fields: kept.append(len(fields)))
    for block in (b"\xbe" * 16384, (b"\xbe" * 100 + b"\x00\x01a\x01b") * 160):
        assert ours.decode(block) is None
    assert max(kept) <= 101


# The encoder.


class Peers:
    """Two decoders, which must both understand all that the encoder writes."""

    def __init__(self) -> None:
        self.encoder = HeadEncoder(MEMORY)
        self.python = hpack.Decoder(1 << 20)
        self.native = NativeDecoder(1 << 20)

    def send(self, *fields: tuple[bytes, bytes]) -> bytes:
        """Encode a head, have it decoded, and return its block."""
        block = self.encoder.encode([text for pair in fields for text in pair])
        assert [tuple(field) for field in self.python.decode(block, raw=True)] == list(fields)
        assert [(name, value) for name, value, _ in self.native.decode(block, True)] == list(fields)
        assert self.table == [tuple(entry) for entry in self.python.header_table.dynamic_entries]
        return block

    def resize(self, size: int) -> None:
        """The peer announces another size of its table."""
        self.python.max_allowed_table_size = max(size, self.python.max_allowed_table_size)
        self.native.max_allowed_table_size = max(size, self.native.max_allowed_table_size)
        self.encoder.resize(size)

    @property
    def table(self) -> Pairs:
        """The fields in the encoder's table, the newest first."""
        return [pair for pair, _ in reversed(self.encoder._entries)]


def test_a_field_goes_into_the_table_when_it_is_sent_again() -> None:
    peers = Peers()
    field = (b"x-served-by", b"edge")
    sizes = [len(peers.send(field)) for _ in range(4)]
    assert peers.table == [field]
    assert sizes[2:] == [1, 1]
    assert sizes[0] > 15


def test_fields_of_the_static_table_are_a_byte() -> None:
    peers = Peers()
    assert peers.send((b":status", b"200"), (b":status", b"404")) == b"\x88\x8d"
    assert peers.table == []


@pytest.mark.parametrize("name", [b"content-length", b"etag", b"last-modified", b"location", b"x-request-id", b"age"])
def test_what_is_different_each_time_is_never_indexed(name: bytes) -> None:
    peers = Peers()
    blocks = {peers.send((name, b"1")) for _ in range(4)}
    assert peers.table == []
    assert len(blocks) == 1


@pytest.mark.parametrize("name", [b"set-cookie", b"authorization", b"www-authenticate", b"proxy-authenticate"])
def test_what_is_secret_is_never_indexed_by_anybody(name: bytes) -> None:
    """RFC 7541 section 7.1.3: a literal that proxies keep out of their tables, too."""
    peers = Peers()
    for _ in range(3):
        block = peers.send((name, b"secret"))
        assert block[0] & 0xF0 == 0x10
        (decoded,) = hpack.Decoder().decode(block, raw=True)
        assert isinstance(decoded, hpack.NeverIndexedHeaderTuple)
    assert peers.table == []


def test_large_values_are_not_indexed() -> None:
    peers = Peers()
    for _ in range(3):
        peers.send((b"x-large", b"x" * 513), (b"x-fits", b"x" * 512))
    assert peers.table == [(b"x-fits", b"x" * 512)]


def test_a_value_that_huffman_code_makes_longer_goes_as_it_is() -> None:
    peers = Peers()
    for _ in range(2):
        block = peers.send((b"x-any", b"\xfe\xff\xfe"))
    assert b"\x03\xfe\xff\xfe" in block


def test_what_was_seen_is_bounded() -> None:
    peers = Peers()
    for number in range(1000):
        peers.send((b"x-any", b"%d" % number))
        assert len(peers.encoder._seen) <= 64
    assert peers.table == []


def test_blocks_that_are_remembered_are_bounded() -> None:
    peers = Peers()
    for number in range(200):
        peers.send(*[(b":status", b"200")] * number)
        assert len(peers.encoder._blocks) <= 64


def test_a_table_of_nothing() -> None:
    peers = Peers()
    for _ in range(3):
        peers.send((b"a", b"b"))
    peers.resize(0)
    assert peers.send((b"a", b"b"))[0] == 0x20
    for _ in range(3):
        assert peers.send((b"a", b"b"))[0] == 0x00
    assert peers.table == []
    peers.resize(65536)
    assert peers.send((b":status", b"200")) == b"\x3f\xe1\x1f\x88"
    for _ in range(2):
        peers.send((b"a", b"b"))
    assert peers.table == [(b"a", b"b")]


def test_the_smallest_size_in_between_is_told() -> None:
    peers = Peers()
    for _ in range(3):
        peers.send((b"a", b"b"))
    peers.resize(10)
    peers.resize(4096)
    peers.resize(4096)
    assert peers.send((b":status", b"200")) == b"\x2a\x3f\xe1\x1f\x88"
    assert peers.table == []


def test_sizes_that_the_peer_no_longer_allows_are_not_told() -> None:
    peers = Peers()
    for size in (2000, 3000, 1000, 3500, 2500):
        peers.resize(size)
    peers.python.max_allowed_table_size = peers.native.max_allowed_table_size = 2500
    assert peers.send((b":status", b"200")) == encode_integer(0x20, 5, 1000) + encode_integer(0x20, 5, 2500) + b"\x88"
    peers.resize(2000)
    assert peers.send((b":status", b"200")) == encode_integer(0x20, 5, 2000) + b"\x88"


@pytest.mark.parametrize("seed", range(10))
def test_random_heads_are_understood(seed: int) -> None:
    source = random.Random(seed)
    peers = Peers()
    for _ in range(200):
        if source.random() < 0.05:
            peers.resize(source.choice((0, 40, 100, 500, 2000, 4096, 65536)))
        peers.send(*((source.choice(NAMES), source.choice(VALUES)) for _ in range(source.randrange(8))))
        assert sum(len(name) + len(value) + 32 for name, value in peers.table) <= TABLE_SIZE
