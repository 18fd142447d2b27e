"""Certificates that look after themselves: when they are renewed, and by whom."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from edge_certs.errors import CertificateError
from edge_certs.keeper import BUSY_SLEEP, FAULT_SLEEP, LONGEST_SLEEP
from edge_certs.ledger import Attempt, Outcome
from edge_certs.state import Status
from tests.certs.authority import Said, problem
from tests.certs.forge import NOW, forge
from tests.certs.keeping import NAMES, Bench, keeping, window

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)

# An order takes a second on this clock: the authority is asked again after that.
ISSUED = NOW + timedelta(seconds=1)


# When.


def test_first_certificate_is_ordered_at_once(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        state = await bench.settle()
        assert bench.certificate.names == NAMES
        assert (state.status, state.origin) == (Status.VALID, bench.issuance.directory)
        assert state.fingerprint == bench.certificate.fingerprint
        assert len(bench.authority.production.orders) == 1
        assert bench.storage.lineage(NAMES[0]).order() is None

    keeping(tmp_path, act)


@pytest.mark.parametrize(
    ("lifetime", "after", "reason"),
    [
        (timedelta(days=90), timedelta(days=59, hours=12), "one third of the lifetime left"),
        (
            timedelta(days=6),
            timedelta(days=2, hours=22, minutes=33, seconds=36),
            "half of a lifetime under 10 days left",
        ),
    ],
)
def test_without_a_window_the_dates_decide(tmp_path: Path, lifetime: timedelta, after: timedelta, reason: str) -> None:
    async def act(bench: Bench) -> None:
        bench.authority.production.lifetime = lifetime
        state = await bench.settle()
        assert state.next_at == ISSUED + after
        assert state.reason == reason
        before = bench.certificate.fingerprint
        await bench.wait()
        assert bench.certificate.fingerprint != before
        assert len(bench.authority.production.orders) == 2

    keeping(tmp_path, act)


def test_instant_in_the_window_is_chosen_once_and_kept(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        bench.authority.production.window = window(NOW + 60 * DAY, 2)
        state = await bench.settle()
        assert state.next_at == NOW + 61 * DAY
        assert state.reason == "the authority's window"
        assert state.ask_at == ISSUED + timedelta(hours=6)
        bench.numbers[0] = 0.0
        bench.clock.now_is += timedelta(hours=7)
        assert (await bench.settle()).next_at == NOW + 61 * DAY
        assert bench.authority.production.count("ari") == 2

    keeping(tmp_path, act)


def test_window_that_is_moved_is_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def act(bench: Bench) -> None:
        bench.authority.production.window = window(NOW + 60 * DAY, 2)
        await bench.settle()
        bench.clock.now_is += timedelta(hours=7)
        bench.authority.production.window = window(NOW - 2 * DAY, 1)
        before = bench.certificate.fingerprint
        with caplog.at_level(logging.INFO, "edge.certs"):
            # A mass revocation: the window is past, and the new certificate has one of its own.
            assert await bench.turn() == timedelta(0)
        assert bench.certificate.fingerprint != before
        [_, renewal] = [payload for payload in bench.authority.production.payloads("order") if payload]
        assert renewal["replaces"].count(".") == 1
        assert "the authority explains its window: 'https://ca.test/why'" in caplog.text

    keeping(tmp_path, act)


def test_authority_whose_window_is_always_past_is_not_obeyed_without_end(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        bench.authority.production.window = window(NOW - 2 * DAY, 1)
        state = await bench.settle()
        # The first one, and three that were asked for.
        assert len(bench.authority.production.orders) == 4
        assert state.next_at == ISSUED + DAY
        assert state.reason.startswith("3 renewals that the authority asked for within 24 hours")

    keeping(tmp_path, act)


def test_window_that_comes_too_late_is_not_waited_for(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        bench.authority.production.window = window(NOW + 400 * DAY, 2)
        state = await bench.settle()
        assert state.next_at == ISSUED + 85.5 * DAY
        assert state.reason.startswith("one twentieth of the lifetime left")

    keeping(tmp_path, act)


def test_page_in_the_place_of_a_window_leaves_the_dates(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        bench.authority.production.window = window(NOW, 1)
        bench.authority.production.instead["ari"] = [Said(200, b"<html>")] * 5
        state = await bench.settle()
        assert state.reason == "one third of the lifetime left"
        assert bench.authority.production.count("ari") == 1

    keeping(tmp_path, act)


def test_nothing_is_done_twice_where_nothing_is_to_do(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        await bench.settle()
        asked = len(bench.authority.production.asked)
        path = tmp_path / "home" / "state" / "shop.example.json"
        written = path.stat().st_mtime_ns
        assert await bench.turn() == LONGEST_SLEEP
        assert len(bench.authority.production.asked) == asked
        assert path.stat().st_mtime_ns == written

    keeping(tmp_path, act)


# What was there.


@pytest.mark.parametrize("change", ["names", "directory"])
def test_certificate_that_is_not_the_one_that_is_wanted_is_replaced(tmp_path: Path, change: str) -> None:
    async def act(bench: Bench) -> None:
        await bench.settle()
        if change == "names":
            wanted = bench.want("shop.example", "api.shop.example")
        else:
            wanted = bench.want(directory=bench.settings.staging)
        environment = bench.authority.production if change == "names" else bench.authority.staging
        before = len(environment.orders)
        state = await bench.settle(wanted)
        assert len(environment.orders) == before + 1
        assert set(wanted.names) <= set(bench.certificate.names)
        assert state.origin == wanted.directory

    keeping(tmp_path, act)


def test_servers_that_want_different_names_do_not_order_in_turns(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        one, other = bench.want("shop.example", "a.shop.example"), bench.want("shop.example", "b.shop.example")
        for _ in range(5):
            await bench.settle(one)
            state = await bench.settle(other)
        assert len(bench.authority.production.orders) == 2
        state = await bench.settle(one)
        assert state.next_at is not None
        assert NOW + DAY <= state.next_at <= NOW + DAY + MINUTE
        assert state.reason == (
            "the certificate that is there is not for 'a.shop.example', though one that is came less than a day ago: "
            "let all who share the folder want the same names"
        )

    keeping(tmp_path, act)


def test_certificate_with_a_wildcard_serves_its_names(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        leaf = forge("shop.example", "*.shop.example", dates=(NOW - DAY, NOW + 80 * DAY))
        bench.storage.lineage("shop.example").install(leaf.pem, leaf.key_pem)
        state = await bench.settle(bench.want("shop.example", "api.shop.example"))
        assert bench.authority.production.orders == []
        # It was put there by hand or by another tool: it is renewed like any other.
        assert (state.status, state.origin) == (Status.VALID, "")
        assert state.reason == "one third of the lifetime left"

    keeping(tmp_path, act)


def test_certificate_that_is_damaged_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def act(bench: Bench) -> None:
        await bench.settle()
        path = tmp_path / "home" / "live" / "shop.example" / "fullchain.pem"
        path.write_bytes(path.read_bytes()[:200])
        with caplog.at_level(logging.WARNING, "edge.certs"):
            await bench.settle()
        assert "shop.example: the certificate that is there cannot be used: " in caplog.text
        assert bench.certificate.names == NAMES

    keeping(tmp_path, act)


def test_state_that_is_damaged_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def act(bench: Bench) -> None:
        await bench.settle()
        (tmp_path / "home" / "state" / "shop.example.json").write_text("{")
        with caplog.at_level(logging.WARNING, "edge.certs"):
            state = await bench.settle()
        assert state.fingerprint == bench.certificate.fingerprint
        assert len(bench.authority.production.orders) == 1
        assert "state.json" not in caplog.text
        assert "shop.example.json: damaged; remove the file" in caplog.text

    keeping(tmp_path, act)


# What a crash leaves.


def test_order_that_was_interrupted_is_gone_on_with(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        waits = asyncio.Event()

        async def hang(seconds: float) -> None:
            waits.set()
            await asyncio.Event().wait()

        keeper = bench.restart()
        keeper.issuer.sleep = hang
        turn = asyncio.create_task(bench.turn(keeper))
        await waits.wait()
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        ledger = bench.storage.authority(bench.issuance.directory).ledger()
        assert [attempt.outcome for attempt in ledger.attempts] == [Outcome.INTERRUPTED]
        saved = bench.storage.lineage(NAMES[0]).order()
        assert saved is not None
        assert saved.is_made
        state = await bench.settle()
        assert state.status is Status.VALID
        assert len(bench.authority.production.orders) == 1
        assert bench.certificate.key_pem == saved.key_pem
        ledger = bench.storage.authority(bench.issuance.directory).ledger()
        assert [attempt.outcome for attempt in ledger.attempts] == [Outcome.ISSUED]

    keeping(tmp_path, act)


def test_program_that_dies_before_its_order_is_made_waits_before_it_orders_again(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        # What a kill leaves behind: an attempt that was put down, and nothing else.
        ledger = bench.storage.authority(bench.issuance.directory)
        for _ in range(3):
            ledger.amend(lambda now_is: now_is.start(Attempt(bench.clock.now(), NAMES)))
            before = len(bench.authority.production.asked)
            await bench.turn()
            assert len(bench.authority.production.asked) == before
        assert bench.next_in > 90 * MINUTE
        state = await bench.wait()
        assert state.status is Status.VALID

    keeping(tmp_path, act)


# Who else.


def test_name_that_another_process_orders_is_left_to_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def act(bench: Bench) -> None:
        keeper = bench.restart()
        with caplog.at_level(logging.INFO, "edge.certs"), bench.storage.locked_names(NAMES):
            for _ in range(3):
                assert await bench.turn(keeper) == BUSY_SLEEP
        assert caplog.messages == ["shop.example: another process orders it"]
        assert bench.authority.production.orders == []
        leaf = forge(*NAMES, dates=(NOW, NOW + 90 * DAY))
        bench.storage.lineage(NAMES[0]).install(leaf.pem, leaf.key_pem)
        state = await bench.settle()
        assert bench.authority.production.orders == []
        assert state.fingerprint == bench.certificate.fingerprint

    keeping(tmp_path, act)


def test_several_certificates_share_one_account(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        keeper = bench.restart()
        wanted = [bench.want(f"site-{number}.example") for number in range(6)]
        await asyncio.gather(*(keeper.turn(each) for each in wanted))
        assert bench.authority.production.count("account") == 1
        assert [lineage.name for lineage in bench.storage.lineages()] == [each.names[0] for each in wanted]
        assert all(lineage.current() is not None for lineage in bench.storage.lineages())

    keeping(tmp_path, act)


def test_account_that_is_refused_is_asked_for_once_and_not_for_each_certificate(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        bench.authority.production.needs_binding = True
        keeper = bench.restart()
        await asyncio.gather(*(keeper.turn(bench.want(f"site-{number}.example")) for number in range(4)))
        bench.issuance = bench.want("site-3.example")
        assert bench.state.last_error.startswith("the authority makes accounts for its customers only; give the key")
        assert bench.authority.production.count("account") == 0
        assert bench.authority.production.orders == []
        bench.settings = replace(bench.settings, kid="kid-1", mac_key="a2V5")
        await bench.wait()
        assert bench.authority.production.count("account") == 1
        assert bench.certificate.names == ("site-3.example",)

    keeping(tmp_path, act)


def test_account_that_the_authority_has_forgotten_is_made_again(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        await bench.settle()
        bench.authority.production.instead["order"] = [problem("accountDoesNotExist", 400)]
        state = await bench.wait()
        assert state.status is Status.FAILED
        state = await bench.wait()
        assert state.status is Status.VALID
        assert bench.authority.production.count("account") == 2
        assert bench.authority.staging.asked == []

    keeping(tmp_path, act)


def test_one_certificate_that_fails_holds_no_other_back(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        keeper = bench.restart()

        async def stop(seconds: float) -> None:
            raise asyncio.CancelledError

        keeper.sleep = stop
        await asyncio.wait({asyncio.create_task(keeper.run([bench.want("bad.example"), bench.issuance]))})
        assert bench.certificate.names == NAMES

    keeping(tmp_path, act)


# What the machine refuses.


def test_ledger_that_is_damaged_stops_attempts_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def act(bench: Bench) -> None:
        folder = bench.storage.authority(bench.issuance.directory).folder
        folder.mkdir(parents=True)
        (folder / "ledger.json").write_text("{")
        with pytest.raises(CertificateError, match=r"^ledger .*ledger\.json: damaged; remove the file when no limit"):
            await bench.turn()
        assert bench.authority.production.asked == []

    keeping(tmp_path, act)


def test_turn_that_fails_is_one_line_and_another_try(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def act(bench: Bench) -> None:
        (tmp_path / "home").write_text("not a folder")
        slept: list[float] = []
        keeper = bench.restart()

        async def stop(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 2:
                raise asyncio.CancelledError

        keeper.sleep = stop
        with caplog.at_level(logging.ERROR, "edge.certs"):
            await asyncio.wait({asyncio.create_task(keeper.run([bench.issuance]))})
        assert slept == [FAULT_SLEEP.total_seconds()] * 2
        assert len(caplog.records) == 2
        assert caplog.messages[0].startswith("shop.example: certificate not looked after: ")

    keeping(tmp_path, act)


# dns-persist-01.


@pytest.mark.parametrize(
    ("names", "record"),
    [
        (("shop.example",), '_validation-persist.shop.example "ca.test; accounturi={}"'),
        (("*.shop.example",), '_validation-persist.shop.example "ca.test; accounturi={}; policy=wildcard"'),
    ],
)
def test_standing_record_is_said_before_the_authority_looks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: tuple[str, ...], record: str
) -> None:
    async def act(bench: Bench) -> None:
        bench.authority.production.kinds = ("dns-persist-01",)
        bench.issuance = bench.want(*names, kinds=("dns-persist-01",))
        said: list[str] = []
        bench.authority.production.on_prove = lambda: said.extend(caplog.messages)
        with caplog.at_level(logging.INFO, "edge.certs"):
            await bench.settle()
        account = f"{bench.authority.production.root}/production/account/1"
        assert said == [f"shop.example: this TXT record has to stand in the DNS: {record.format(account)}"]
        assert bench.certificate.names == names

    keeping(tmp_path, act)


def test_defect_costs_one_certificate_an_attempt_and_no_other_anything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(bench: Bench) -> None:
        keeper = bench.restart()
        slept: list[float] = []

        async def fail(seconds: float) -> None:
            raise ZeroDivisionError

        async def stop(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 2:
                raise asyncio.CancelledError

        keeper.issuer.sleep, keeper.sleep = fail, stop
        await asyncio.wait({asyncio.create_task(keeper.run([bench.issuance]))})
        assert slept[0] == FAULT_SLEEP.total_seconds()
        [record] = [record for record in caplog.records if record.exc_info]
        assert record.getMessage() == "shop.example: certificate not looked after"
        # A failure as any other: a defect that stays is met again after the back-off, not each minute.
        [attempt] = bench.storage.authority(bench.issuance.directory).ledger().attempts
        assert (attempt.outcome, attempt.error) == (Outcome.FAILED, "ZeroDivisionError()")
        # The order was made: the next attempt goes on with it, and nothing is ordered twice.
        await bench.wait()
        assert bench.certificate.names == NAMES
        assert len(bench.authority.production.orders) == 1

    keeping(tmp_path, act)
