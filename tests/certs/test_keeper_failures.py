"""What happens when an authority refuses, breaks, or asks for patience: nothing is spent, and nothing stops serving."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from edge_certs.ledger import KEPT, Outcome
from edge_certs.state import Status
from tests.certs.authority import DROP, Said, problem
from tests.certs.forge import NOW
from tests.certs.keeping import NAMES, Bench, keeping, window

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)

# An order takes a second on this clock: the authority is asked again after that.
ISSUED = NOW + timedelta(seconds=1)


def test_rate_limit_is_obeyed_to_the_second_over_restarts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def act(bench: Bench) -> None:
        bench.authority.production.instead["order"] = [problem("rateLimited", 429, ("retry-after", "7200"))]
        with caplog.at_level(logging.ERROR, "edge.certs"):
            state = await bench.settle()
        assert state.next_at == NOW + timedelta(hours=2)
        assert state.reason == "the authority wants no attempt before 2027-03-01T14:00Z"
        assert state.status is Status.FAILED
        [record] = caplog.records
        assert record.getMessage() == (
            "shop.example: certificate not renewed: the authority answered 429 rateLimited: 'because'; "
            "next try 2027-03-01T14:00Z, there is none yet"
        )
        asked = len(bench.authority.production.asked)
        bench.clock.now_is += timedelta(minutes=119)
        await bench.turn()
        assert len(bench.authority.production.asked) == asked
        state = await bench.wait()
        assert (state.status, state.last_error) == (Status.VALID, "")
        # What passes by itself is no reason for a rehearsal.
        assert bench.authority.staging.asked == []

    keeping(tmp_path, act)


def test_refusal_is_tried_in_staging_before_production_is_asked_again(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        production, staging = bench.authority.production, bench.authority.staging
        production.refuses = staging.refuses = True
        state = await bench.settle()
        assert (len(production.orders), len(staging.orders)) == (1, 0)
        assert state.last_error.startswith("shop.example: http-01: the authority reports unauthorized: '404'")
        waits = [bench.next_in]
        for rehearsals in (1, 2, 3):
            await bench.wait()
            assert (len(production.orders), len(staging.orders)) == (1, rehearsals)
            waits.append(bench.next_in)
        jitter, second = 1.05, timedelta(seconds=1)  # which each attempt takes
        assert waits == [wait * jitter - second for wait in (MINUTE, 10 * MINUTE, 100 * MINUTE, DAY)]
        production.refuses = staging.refuses = False
        state = await bench.wait()
        # The rehearsal that succeeds is followed by the real one at once.
        assert (len(production.orders), len(staging.orders)) == (2, 4)
        assert state.status is Status.VALID
        ledger = bench.storage.authority(bench.issuance.directory).ledger()
        assert [attempt.outcome for attempt in ledger.attempts] == [Outcome.FAILED] * 4 + [Outcome.ISSUED] * 2

    keeping(tmp_path, act)


def test_profile_that_is_refused_spends_one_attempt(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        bench.authority.production.instead["order"] = [problem("invalidProfile", 400)]
        bench.issuance = bench.want(profile="fast")
        state = await bench.settle()
        assert state.last_error.endswith("name one of the authority's profiles, or none")
        await bench.wait()
        assert [payload["profile"] for payload in bench.authority.staging.payloads("order") if payload] == ["fast"]

    keeping(tmp_path, act)


def test_other_challenge_is_preferred_after_a_failure(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        bench.settings = replace(bench.settings, staging="")
        bench.authority.production.refuses = True
        seen: list[list[str]] = []
        folder = bench.storage.challenges.folder

        def look() -> None:
            seen.append(sorted(path.parent.name for path in folder.rglob("*") if path.is_file()))

        bench.authority.production.on_prove = look
        await bench.settle()
        await bench.wait()
        await bench.wait()
        # On the disk before the authority is told to look, each time.
        assert seen == [["http-01"], ["tls-alpn-01"], ["http-01"]]

    keeping(tmp_path, act)


@pytest.mark.parametrize("kind", ["authz", "prove", "finalize", "chain"])
@pytest.mark.parametrize(
    "said",
    [
        Said(503, b"", (("retry-after", "30"),)),
        Said(502, b"<html>", (("content-type", "text/html"),)),
        Said(200, b"<html>", (("content-type", "text/html"),)),
        Said(200, DROP),
    ],
    ids=["busy", "page", "page that says 200", "dropped"],
)
def test_broken_answer_costs_no_second_order(tmp_path: Path, kind: str, said: Said) -> None:
    async def act(bench: Bench) -> None:
        bench.authority.production.instead[kind] = [said]
        state = await bench.settle()
        if kind == "prove" and said.status == 200 and said.content != DROP:
            # What the authority says to that is nothing: it looks anyway.
            return
        assert state.status is Status.FAILED
        assert "\n" not in state.last_error
        state = await bench.wait()
        assert state.status is Status.VALID
        assert len(bench.authority.production.orders) == 1
        assert bench.authority.staging.asked == []

    keeping(tmp_path, act)


def test_certificate_that_was_replaced_already_is_renewed_anyway(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        bench.authority.production.window = window(NOW + 60 * DAY, 2)
        bench.authority.production.later = window(NOW + 120 * DAY, 2)
        await bench.settle()
        bench.authority.production.instead["order"] = [problem("alreadyReplaced", 409)]
        state = await bench.wait()
        assert state.status is Status.VALID
        replaced = ["replaces" in payload for payload in bench.authority.production.payloads("order") if payload]
        assert replaced == [False, True, False]

    keeping(tmp_path, act)


def test_slow_authority_is_waited_for(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        slow = Said(200, b'{"status": "processing"}', (("retry-after", "20"),))
        bench.authority.production.instead["finalize"] = [slow]
        state = await bench.settle()
        assert state.status is Status.VALID
        assert 20.0 in bench.clock.slept

    keeping(tmp_path, act)


def test_old_certificate_stays_while_renewal_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def act(bench: Bench) -> None:
        await bench.settle()
        before = bench.certificate.fingerprint
        bench.authority.production.refuses = bench.authority.staging.refuses = True
        with caplog.at_level(logging.ERROR, "edge.certs"):
            state = await bench.wait()
        assert bench.certificate.fingerprint == state.fingerprint == before
        assert state.status is Status.FAILED
        assert caplog.messages[-1].endswith(", valid until 2027-05-30T12:00Z")

    keeping(tmp_path, act)


@pytest.mark.parametrize("jump", [400 * DAY, -400 * DAY])
def test_clock_that_jumps_and_comes_back_loses_nothing(tmp_path: Path, jump: timedelta) -> None:
    async def act(bench: Bench) -> None:
        bench.authority.production.window = window(NOW + 60 * DAY, 2)
        await bench.settle()
        bench.clock.now_is += jump
        bench.authority.production.refuses = bench.authority.staging.refuses = True
        await bench.settle()
        bench.clock.now_is = NOW + DAY
        bench.authority.production.refuses = bench.authority.staging.refuses = False
        bench.authority.production.window = window(NOW + 60 * DAY, 2)
        state = await bench.settle()
        assert state.next_at is not None
        assert state.next_at <= NOW + 62 * DAY
        assert state.ask_at is not None
        assert state.ask_at <= NOW + 2 * DAY
        bench.authority.production.later = window(NOW + 120 * DAY, 2)
        bench.clock.now_is = NOW + 62 * DAY
        await bench.settle()
        assert bench.certificate.not_after > NOW + 100 * DAY

    keeping(tmp_path, act)


def test_certificate_that_is_expired_when_it_comes_serves_and_is_not_ordered_without_end(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        # The authority's clock is right, this machine's is ahead.
        bench.authority.production.lifetime = timedelta(0)
        state = await bench.settle()
        assert bench.certificate.names == NAMES
        assert len(bench.authority.production.orders) == 1
        assert state.last_error == (
            "the certificate that came expired at 2027-03-01T12:00Z, now is 2027-03-01T12:00Z; set the clock"
        )
        assert bench.next_in >= MINUTE
        assert bench.authority.staging.asked == []

    keeping(tmp_path, act)


def test_authority_that_asks_for_a_year_of_patience_gets_a_week(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        bench.authority.production.instead["order"] = [problem("rateLimited", 429, ("retry-after", "31536000"))]
        state = await bench.settle()
        assert state.next_at == NOW + KEPT

    keeping(tmp_path, act)
