"""Status codes and their phrases."""

import pytest

from edge.http.status import STATUS_LINES, phrase


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (200, "OK"),
        (404, "Not Found"),
        (413, "Content Too Large"),
        (414, "URI Too Long"),
        (416, "Range Not Satisfiable"),
        (422, "Unprocessable Content"),
        (431, "Request Header Fields Too Large"),
        (299, "Unknown"),
    ],
)
def test_phrase_is_that_of_rfc_9110(status: int, expected: str) -> None:
    assert phrase(status) == expected


def test_every_status_that_an_application_may_send_has_a_line() -> None:
    assert set(STATUS_LINES) == set(range(100, 600))
    assert STATUS_LINES[404] == b"HTTP/1.1 404 Not Found\r\n"
    assert STATUS_LINES[599] == b"HTTP/1.1 599 Unknown\r\n"  # RFC 9112 section 4: the space is there without a phrase
