"""W3C Trace Context, read for the log."""

from __future__ import annotations

import pytest

from edge.http.trace import find_trace

TRACE, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
VALID = b"00-%b-%b-01" % (TRACE, SPAN)


@pytest.mark.parametrize("value", [VALID, VALID[:-2] + b"00", VALID[:-2] + b"ff"])
def test_trace_and_span_are_those_of_the_field(value: bytes) -> None:
    assert find_trace([b"host\na", b"traceparent\n" + value, b"tracestate\na=b"]) == (TRACE, SPAN)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        VALID + b"-00",
        VALID + b" ",
        VALID + b"\n",
        VALID.upper(),
        VALID[:-1],
        b"01" + VALID[2:],
        b"ff" + VALID[2:],
        VALID.replace(b"-", b"_"),
        VALID.replace(TRACE, b"0" * 32),
        VALID.replace(SPAN, b"0" * 16),
        VALID.replace(b"a", b"g"),
        b'00-"' + VALID[4:],
        b"%b, %b" % (VALID, VALID),
    ],
)
def test_what_is_not_of_version_00_is_none(value: bytes) -> None:
    assert find_trace([b"traceparent\n" + value]) == (b"", b"")


@pytest.mark.parametrize("lines", [[], [b"host\na"], [b"traceparents\n" + VALID], [b"traceparent\n" + VALID] * 2])
def test_without_exactly_one_field_there_is_none(lines: list[bytes]) -> None:
    assert find_trace(lines) == (b"", b"")
