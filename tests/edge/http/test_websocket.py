"""The opening handshake of a WebSocket; the corpus has the requests that carry it."""

import pytest

from edge.http.events import ProtocolError
from edge.http.websocket import accept_key, check_handshake

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
VERSION_FIELD = (b"sec-websocket-version", b"13")


def test_accept_is_the_example_of_the_rfc() -> None:
    assert accept_key(KEY) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_handshake_gives_its_key() -> None:
    assert check_handshake([(b"host", b"a"), VERSION_FIELD, (b"sec-websocket-key", KEY)]) == KEY


@pytest.mark.parametrize("versions", [[], [b"8"], [b"13", b"13"], [b"13, 8"], [b"013"]])
def test_version_other_than_13_is_refused_with_the_one_that_is_spoken(versions: list[bytes]) -> None:
    fields = [(b"sec-websocket-version", version) for version in versions]
    with pytest.raises(ProtocolError, match="only b'13' is spoken") as caught:
        check_handshake([*fields, (b"sec-websocket-key", KEY)])
    assert caught.value.status == 426
    assert (b"sec-websocket-version", b"13") in caught.value.fields
    assert (b"upgrade", b"websocket") in caught.value.fields  # RFC 9110 section 15.5.22


@pytest.mark.parametrize("keys", [[], [KEY, KEY], [b""], [b"YWJj"], [KEY[:-2]], [KEY + b"A"], [b"not base64!"]])
def test_key_that_is_not_one_of_16_bytes_is_refused(keys: list[bytes]) -> None:
    fields = [(b"sec-websocket-key", key) for key in keys]
    with pytest.raises(ProtocolError, match="is not one value of 16 bytes") as caught:
        check_handshake([VERSION_FIELD, *fields])
    assert caught.value.status == 400
