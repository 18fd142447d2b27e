"""The vocabulary that a protocol core and its driver share."""

from edge.http.events import UNKNOWN_LENGTH, Data, ProtocolError, Refusal, RequestHead


def test_head_begins_as_a_request_without_content_on_a_connection_that_goes_on() -> None:
    head = RequestHead(1, b"GET", b"/", b"1.1", b"shop.example")
    assert (head.stream, head.method, head.target, head.version, head.host) == (
        1,
        b"GET",
        b"/",
        b"1.1",
        b"shop.example",
    )
    assert (head.length, head.body, head.complete, head.keep_alive) == (0, b"", True, True)
    assert (head.expect, head.trailers, head.upgrade, head.flags) == (False, False, b"", 0)


def test_fields_are_the_names_and_values_of_its_lines() -> None:
    head = RequestHead(1, b"GET", b"/", b"1.1", b"")
    assert head.fields == []
    head.lines = [b"accept\n*/*", b"empty\n", b"accept\ntext/html"]
    assert head.fields == [(b"accept", b"*/*"), (b"empty", b""), (b"accept", b"text/html")]


def test_unknown_length_is_no_length() -> None:
    assert UNKNOWN_LENGTH < 0


def test_data_refusal_and_error_say_what_they_were_given() -> None:
    data = Data(2, b"x", True)
    assert (data.stream, data.body, data.complete) == (2, b"x", True)
    refusal = Refusal(3, 405, "why", ((b"allow", b"GET"),))
    assert (refusal.stream, refusal.status, refusal.reason, refusal.fields) == (3, 405, "why", ((b"allow", b"GET"),))
    error = ProtocolError(400, "why")
    assert (error.status, error.reason, error.fields, str(error)) == (400, "why", (), "why")
