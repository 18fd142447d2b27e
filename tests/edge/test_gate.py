"""What the operator's commands make of the gate."""

from __future__ import annotations

from typing import Any

import pytest

from edge.errors import ConfigError
from edge.gate import GateState, parse_command


@pytest.mark.parametrize(
    ("name", "arguments", "state", "text"),
    [
        ("pause", {}, GateState("paused", 30.0), "paused: requests wait, at most 30 s"),
        ("pause", {"max": "2m"}, GateState("paused", 120.0), "paused: requests wait, at most 120 s"),
        ("pause", {"max": 0.5}, GateState("paused", 0.5), "paused: requests wait, at most 0.5 s"),
        ("resume", {}, GateState(), ""),
        ("maintenance", {"on": False}, GateState(), ""),
        ("maintenance", {"on": True}, GateState("maintenance", retry_after=60), "maintenance: requests get 503"),
        (
            "maintenance",
            {"on": True, "allow": ["10.0.0.0/8", "unix"], "retry_after": "5m"},
            GateState("maintenance", allow=("10.0.0.0/8", "unix"), retry_after=300),
            "maintenance: requests get 503, but for 10.0.0.0/8, unix",
        ),
    ],
)
def test_command_makes_a_state(name: str, arguments: dict[str, Any], state: GateState, text: str) -> None:
    assert parse_command(name, arguments) == state
    assert state.describe() == text
    assert GateState(**{**state.order, "allow": tuple(state.order["allow"])}) == state


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("pause", {"max": "soon"}, "'soon': not a duration; use a number of seconds, or one such as 500ms, 10s, 2m"),
        ("maintenance", {}, "on: None: neither true nor false"),
        (
            "maintenance",
            {"on": True, "allow": ["home"]},
            "'home': not an address or network; use CIDR such as 10.0.0.0/8, unix or *",
        ),
    ],
)
def test_argument_that_is_none_is_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_command(name, arguments)
    assert str(caught.value) == message
