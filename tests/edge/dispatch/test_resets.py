import pytest

from edge.dispatch.resets import refusal_of


@pytest.mark.parametrize(
    ("reason", "status", "told"),
    [
        (b"denied", 403, "refused the WebSocket"),
        (b"app-error", 500, "raised an exception"),
        (b"no-response", 500, "without an answer"),
        (b"incomplete", 500, "before its answer was whole"),
        (b"too-long", 500, "longer than"),
        (b"too-short", 500, "shorter than"),
        (b"of another version", 500, "the worker gave the request up"),
    ],
)
def test_reset_is_a_status_and_a_reason(reason: bytes, status: int, told: str) -> None:
    found, said = refusal_of(reason)
    assert found == status
    assert told in said
