"""macOS over a recording of security(1): it was not run here."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_certs.errors import CertificateError
from edge_certs.trust.stores.machine import Finished
from edge_certs.trust.stores.macos import KEYCHAIN
from edge_certs.trust.stores.steps import describe, perform
from edge_certs.trust.stores.targets import find_places, open_place
from tests.certs.forge import AUTHORITY, forge
from tests.certs.trust.stores.recording import Answer, Recording, machine, make_root

OTHER = forge(extensions=[AUTHORITY]).pem
FIND = f"security find-certificate -a -p {KEYCHAIN}"
EMPTY = Answer(Finished(0))


def test_root_goes_into_the_systems_keychain_and_out_of_it(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    add = f"security add-trusted-cert -d -r trustRoot -k {KEYCHAIN} {root.file}"
    distrust = f"security remove-trusted-cert -d {root.file}"
    delete = f"security delete-certificate -Z {root.sha1.upper()} {KEYCHAIN}"
    without, with_root = Answer(Finished(0, OTHER)), Answer(Finished(0, OTHER + root.pem))
    recording = Recording(
        {
            FIND: [without, with_root, with_root, without],
            add: EMPTY,
            f"security verify-cert -L -l -c {root.file} -p ssl -k {KEYCHAIN}": EMPTY,
            distrust: EMPTY,
            delete: EMPTY,
        }
    )
    on = machine(tmp_path, recording, system="Darwin")
    [place] = find_places("system", on)
    assert (place.kind, place.location, place.needs_root) == ("macos", KEYCHAIN, False)
    assert not place.trusts(root)
    assert [describe(step) for step in place.installing(root)] == [f"run {add}"]
    perform(place.installing(root)[0], on)
    assert place.trusts(root)
    again = open_place("macos", KEYCHAIN, on)
    for step in again.removing(root):
        perform(step, on)
    assert not again.holds(root)
    assert [line for line in recording.ran if line in (add, distrust, delete)] == [add, distrust, delete]


def test_root_that_is_there_and_not_trusted_is_only_deleted(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    verify = f"security verify-cert -L -l -c {root.file} -p ssl -k {KEYCHAIN}"
    refused = Answer(Finished(1, errors=b"Cert Verify Result: CSSMERR_TP_NOT_TRUSTED"))
    recording = Recording({FIND: Answer(Finished(0, root.pem)), verify: refused})
    place = open_place("macos", "", machine(tmp_path, recording, system="Darwin", is_root=False))
    assert (place.trusts(root), place.holds(root), place.needs_root) == (False, True, True)
    delete = f"run security delete-certificate -Z {root.sha1.upper()} {KEYCHAIN}"
    assert [describe(step) for step in place.removing(root)] == [delete]


def test_root_that_is_not_there_needs_no_removal(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    place = open_place("macos", "", machine(tmp_path, Recording({FIND: EMPTY}), system="Darwin"))
    assert (place.holds(root), list(place.removing(root))) == (False, [])


def test_keychain_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    locked = Answer(Finished(51, errors=b"SecKeychainSearchCopyNext: could not be opened\nmore"))
    place = open_place("macos", "", machine(tmp_path, Recording({FIND: locked}), system="Darwin"))
    with pytest.raises(CertificateError, match=r"exit code 51: SecKeychainSearchCopyNext: could not be opened; run it"):
        place.trusts(make_root(tmp_path))


def test_keychain_with_damage_is_an_error(tmp_path: Path) -> None:
    damaged = Answer(Finished(0, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
    place = open_place("macos", "", machine(tmp_path, Recording({FIND: damaged}), system="Darwin"))
    with pytest.raises(
        CertificateError, match=r"keychain /Library/Keychains/System.keychain: line 1: what begins here"
    ):
        place.trusts(make_root(tmp_path))


@pytest.mark.parametrize("target", ["nss", "firefox"])
def test_browsers_read_the_systems_roots(target: str, tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"reads the system's roots here; use --to system"):
        find_places(target, machine(tmp_path, Recording({}), system="Darwin"))
