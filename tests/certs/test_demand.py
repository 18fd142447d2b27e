"""What a demand comes to when no authority has to be asked, or none answers; `tests/process` has Pebble."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_certs import demand as module
from edge_certs.challenges import HTTP_01
from edge_certs.demand import Answer, Demand, Outcome
from edge_certs.errors import CertificateError
from edge_certs.files import LockHeld
from edge_certs.issuance import Issuer
from edge_certs.keeper import Keeper
from edge_certs.ledger import Attempt
from edge_certs.ledger import Outcome as Ended
from edge_certs.settings import AuthoritySettings
from edge_certs.standalone import Ports
from edge_certs.state import Issuance
from edge_certs.storage import Storage
from tests.certs.forge import forge
from tests.process.pebble import free_ports
from tests.process.tls_proxy import Listener

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture
def directory() -> str:
    """An authority that is not there."""
    [port] = free_ports(1)
    return f"https://localhost:{port}/dir"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "home")


def demand(storage: Storage, directory: str, ports: Ports | None = None) -> Demand:
    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0)

    issuer = Issuer(storage, AuthoritySettings(directory))
    return Demand(
        Keeper(storage, issuer, lambda: datetime.now(UTC), sleep, lambda: 0.5), ports or Ports(*free_ports(2))
    )


def run(work: Coroutine[object, object, Answer]) -> Answer:
    async def limited() -> Answer:
        async with asyncio.timeout(20):
            return await work

    return asyncio.run(limited())


def install(storage: Storage, *names: str, left: float = 60.0) -> str:
    leaf = forge(*names, dates=(NOW - 30 * DAY, NOW + left * DAY))
    storage.lineage(names[0]).install(leaf.pem, leaf.key_pem)
    certificate = storage.lineage(names[0]).current()
    assert certificate is not None
    return certificate.fingerprint


def wish(directory: str, *names: str, kinds: tuple[str, ...] = (HTTP_01,)) -> Issuance:
    return Issuance(names, directory, kinds)


def test_imported_certificate_will_do_and_is_looked_after_from_then_on(storage: Storage, directory: str) -> None:
    fingerprint = install(storage, "a.example", "b.example")
    wanted = wish(directory, "a.example")
    answer = run(demand(storage, directory).ensure(wanted))
    assert (answer.outcome, answer.certificate.fingerprint) == (Outcome.UNCHANGED, fingerprint)
    assert answer.path == storage.home / "live/a.example/fullchain.pem"
    state = storage.lineage("a.example").state()
    assert state is not None
    assert (state.issuance, state.reason) == (wanted, "one third of the lifetime left")
    again = run(demand(storage, directory).ensure(wanted))
    assert again.state == state


def test_way_of_asking_that_changed_is_kept_without_an_order(storage: Storage, directory: str) -> None:
    install(storage, "a.example")
    run(demand(storage, directory).ensure(wish(directory, "a.example")))
    wanted = replace(wish(directory, "a.example"), key_type="p384")
    assert run(demand(storage, directory).ensure(wanted)).outcome is Outcome.UNCHANGED
    state = storage.lineage("a.example").state()
    assert state is not None
    assert state.issuance.key_type == "p384"


@pytest.mark.parametrize("what", ["names", "age", "authority"])
def test_certificate_that_will_not_do_is_ordered_anew(storage: Storage, directory: str, what: str) -> None:
    install(storage, "a.example", left=1.0 if what == "age" else 60.0)
    names = ("a.example", "c.example") if what == "names" else ("a.example",)
    if what == "authority":
        run(demand(storage, directory).ensure(wish(directory, "a.example")))
        lineage = storage.lineage("a.example")
        state = lineage.state()
        assert state is not None
        lineage.save_state(replace(state, origin="https://elsewhere.example/dir"))
    with pytest.raises(CertificateError, match=r"^a\.example: localhost:\d+: .*; next try at \S+$"):
        run(demand(storage, directory).ensure(wish(directory, *names)))
    assert len(storage.authority(directory).ledger().attempts) == 1


def test_after_a_failure_it_waits_unless_it_is_forced(storage: Storage, directory: str) -> None:
    attempt = Attempt(datetime.now(UTC), ("a.example",), Ended.FAILED)
    storage.authority(directory).amend(lambda ledger: ledger.start(attempt))
    with pytest.raises(CertificateError) as caught:
        run(demand(storage, directory).ensure(wish(directory, "a.example")))
    assert str(caught.value).startswith("a.example: no attempt was made now: 1 attempt failed, the last at ")
    assert str(caught.value).endswith(", or at once with --force")
    with pytest.raises(CertificateError, match=r"^localhost:\d+: "):
        run(demand(storage, directory).renew_now(wish(directory, "a.example")))
    assert len(storage.authority(directory).ledger().attempts) == 2


def test_what_the_authority_forbids_is_not_forced(storage: Storage, directory: str) -> None:
    now = datetime.now(UTC)
    attempt = Attempt(now, ("a.example",), Ended.FAILED, retry_at=now + timedelta(hours=1))
    storage.authority(directory).amend(lambda ledger: ledger.start(attempt))
    with pytest.raises(CertificateError, match=r"^the authority wants no attempt now; try again at "):
        run(demand(storage, directory).renew_now(wish(directory, "a.example")))


def test_name_that_another_process_orders_is_waited_for(
    storage: Storage, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BUSY_TURNS", 2)
    with ExitStack() as held:
        held.enter_context(storage.locked_names(["a.example"]))
        with pytest.raises(LockHeld, match=r"^a\.example: another process has been ordering it for long; see "):
            run(demand(storage, directory).ensure(wish(directory, "a.example")))
    assert storage.authority(directory).ledger().attempts == ()


def test_challenge_in_the_dns_needs_no_port(storage: Storage, directory: str) -> None:
    def refuse(connection: object) -> None:
        """Have the port, and answer nothing."""

    with Listener(refuse) as other:
        ports = Ports(other.port, 1)
        with pytest.raises(CertificateError, match=r"^port \d+: another program has it"):
            run(demand(storage, directory, ports).ensure(wish(directory, "a.example")))
        wanted = wish(directory, "b.example", kinds=(HTTP_01, "dns-persist-01"))
        with pytest.raises(CertificateError, match=r"^b\.example: localhost:\d+: "):
            run(demand(storage, directory, ports).ensure(wanted))
    state = storage.lineage("b.example").state()
    assert state is not None
    # Which ports could be had this time says nothing about the next.
    assert state.issuance.kinds == (HTTP_01, "dns-persist-01")


def test_damaged_certificate_is_as_good_as_none(storage: Storage, directory: str) -> None:
    install(storage, "a.example")
    (storage.home / "live/a.example/privkey.pem").resolve().write_bytes(b"")
    renewal = demand(storage, directory).plan(wish(directory, "a.example"))
    assert renewal.reason == "there is no certificate yet"
