from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from edge_certs.ari import Window
from edge_certs.ledger import Attempt, Ledger, Outcome
from edge_certs.listing import NOBODY, Listed, list_certificates
from edge_certs.state import Advice, CertificateState, Issuance, Status
from edge_certs.storage import Storage
from edge_certs.x509 import show_time
from tests.certs.forge import AUTHORITY, DAY, NOW, forge

DIRECTORY = "https://acme.example/directory"
STAGING = "https://acme-staging.example/directory"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path)


def wanted(storage: Storage, name: str, directory: str = DIRECTORY, **changes: object) -> CertificateState:
    issuance = Issuance((name,), directory, ("http-01",))
    state = CertificateState(issuance, Status.VALID, 0.0, **changes)  # type: ignore[arg-type]
    storage.lineage(name).save_state(state)
    return state


def install(storage: Storage, name: str, left: int = 60, of: int = 90) -> None:
    leaf = forge(name, issuer=forge(extensions=[AUTHORITY]), dates=(NOW - (of - left) * DAY, NOW + left * DAY))
    storage.lineage(name).install(leaf.pem, leaf.key_pem)


def only(storage: Storage) -> Listed:
    [listed] = list_certificates(storage, NOW)
    return listed


def test_empty_storage_has_none(storage: Storage) -> None:
    assert list_certificates(storage, NOW) == []


def test_certificate_is_renewed_with_a_third_left(storage: Storage) -> None:
    wanted(storage, "a.example")
    install(storage, "a.example")
    listed = only(storage)
    assert (listed.name, listed.names, listed.authority) == ("a.example", ("a.example",), "Shop.Example")
    assert (listed.renew_at, listed.reason) == (NOW + 30 * DAY, "one third of the lifetime left")
    assert listed.path == storage.home / "live/a.example/fullchain.pem"
    assert listed.problem == ""


def test_window_of_the_authority_comes_first(storage: Storage) -> None:
    advice = Advice("id", Window(NOW + 2 * DAY, NOW + 4 * DAY, ""), NOW + 3 * DAY)
    wanted(storage, "a.example", advice=advice)
    install(storage, "a.example")
    listed = only(storage)
    assert (listed.renew_at, listed.reason) == (NOW + 3 * DAY, "the authority's window")


def test_window_for_an_earlier_certificate_counts_no_more(storage: Storage) -> None:
    advice = Advice("id", Window(NOW + 2 * DAY, NOW + 4 * DAY, ""), NOW + 3 * DAY)
    wanted(storage, "a.example", advice=advice, fingerprint="another")
    install(storage, "a.example")
    assert only(storage).reason == "one third of the lifetime left"


def test_failures_put_it_off_and_are_shown(storage: Storage) -> None:
    wanted(storage, "a.example", last_error="the authority answered 403 unauthorized: 'no'; correct the DNS")
    install(storage, "a.example", left=1)
    attempt = Attempt(NOW - timedelta(seconds=10), ("a.example",), Outcome.FAILED)
    storage.authority(DIRECTORY).amend(lambda ledger: Ledger((*ledger.attempts, attempt)))
    listed = only(storage)
    assert (listed.renew_at, listed.reason) == (
        NOW + timedelta(seconds=50),
        f"1 attempt failed, the last at {show_time(attempt.at)}",
    )
    assert listed.problem == "the authority answered 403 unauthorized: 'no'; correct the DNS"


def test_one_that_is_not_there_yet_is_listed(storage: Storage) -> None:
    wanted(storage, "a.example")
    listed = only(storage)
    assert (listed.certificate, listed.path, listed.authority) == (None, None, "acme.example")
    assert (listed.renew_at, listed.reason) == (NOW, "there is no certificate yet")


def test_rehearsals_are_told_from_the_real_thing(storage: Storage) -> None:
    wanted(storage, "a.example", STAGING)
    assert only(storage).is_staging
    wanted(storage, "a.example")
    assert not only(storage).is_staging


def test_imported_one_is_renewed_by_nobody(storage: Storage) -> None:
    install(storage, "a.example")
    listed = only(storage)
    assert (listed.renew_at, listed.reason, listed.problem) == (None, NOBODY, "")


def test_expired_one_says_so(storage: Storage) -> None:
    install(storage, "a.example", left=-1)
    assert only(storage).problem == "expired"


def test_damaged_one_is_listed_with_its_damage_beside_the_others(storage: Storage) -> None:
    install(storage, "a.example")
    (storage.home / "live/a.example/fullchain.pem").resolve().write_bytes(b"-----BEGIN CERTIFICATE-----\n")
    wanted(storage, "b.example")
    (storage.home / "state/b.example.json").write_bytes(b"{")
    wanted(storage, "c.example")
    first, second, third = list_certificates(storage, NOW)
    assert first.problem == "line 1: 'CERTIFICATE' begins and never ends; copy the file again, all of it"
    assert (first.names, first.reason) == (("a.example",), "")
    assert second.problem.startswith(f"state {storage.home}/state/b.example.json: damaged; remove the file")
    assert second.authority == ""
    assert third.problem == ""
