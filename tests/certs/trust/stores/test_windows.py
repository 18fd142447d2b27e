"""Windows over a recording of certutil.exe: it was not run here."""

from __future__ import annotations

from pathlib import Path

from edge_certs.trust.stores.machine import Finished
from edge_certs.trust.stores.steps import describe, perform
from edge_certs.trust.stores.targets import find_places, open_place
from tests.certs.trust.stores.recording import Answer, Recording, machine, make_root

# CRYPT_E_NOT_FOUND, 0x80092004, as the exit code of a process.
NOT_FOUND = Finished(2148081668, b"Root\nCertUtil: -store command FAILED: 0x80092004\n")


def test_root_goes_into_the_machines_store_and_out_of_it(tmp_path: Path) -> None:
    root = make_root(tmp_path)
    add = f"certutil.exe -f -addstore Root {root.file}"
    delete = f"certutil.exe -delstore Root {root.sha1}"
    there = Answer(Finished(0, b"Root\n================ Certificate 0 ================\n"))
    absent = Answer(NOT_FOUND)
    recording = Recording(
        {
            f"certutil.exe -store Root {root.sha1}": [absent, there, there, absent],
            add: Answer(Finished(0, b"CertUtil: -addstore command completed successfully.\n")),
            delete: Answer(Finished(0, b"CertUtil: -delstore command completed successfully.\n")),
        }
    )
    on = machine(tmp_path, recording, system="Windows")
    [place] = find_places("system", on)
    assert (place.kind, place.location, place.needs_root) == ("windows", "Root", False)
    assert not place.trusts(root)
    assert [describe(step) for step in place.installing(root)] == [f"run {add}"]
    perform(place.installing(root)[0], on)
    assert place.trusts(root)
    again = open_place("windows", "Root", on)
    for step in again.removing(root):
        perform(step, on)
    assert (again.holds(root), list(again.removing(root))) == (False, [])
    assert [line for line in recording.ran if line in (add, delete)] == [add, delete]


def test_only_an_administrator_may_change_it(tmp_path: Path) -> None:
    assert open_place("windows", "Root", machine(tmp_path, Recording({}), system="Windows", is_root=False)).needs_root
