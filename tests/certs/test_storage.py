"""The folder that lasts: what is where, with which rights, and what a crash leaves behind."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest

from edge_certs.csr import generate_key
from edge_certs.errors import CertificateError
from edge_certs.files import LockHeld
from edge_certs.jws import AccountKey
from edge_certs.ledger import Attempt, Ledger
from edge_certs.state import CertificateState, Issuance, Status
from edge_certs.storage import (
    KEPT_VERSIONS,
    Account,
    SavedOrder,
    Storage,
    read_secret,
)
from tests.certs.forge import NOW, Forged, child_environment, forge, ordinary_user

DIRECTORY = "https://ca.example/acme/directory"
NAME = "shop.example"
STATE = CertificateState(Issuance((NAME,), DIRECTORY, ("http-01",)), Status.VALID, 0.5)

HOLD_LOCK = """
import sys
from pathlib import Path
from edge_certs.storage import Storage
with Storage(Path(sys.argv[1])).locked_names(sys.argv[2:]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "home")


def chain_of(leaf: Forged) -> bytes:
    return leaf.pem + forge().pem


def install(storage: Storage, *names: str) -> Forged:
    leaf = forge(*(names or (NAME,)))
    storage.lineage(NAME).install(chain_of(leaf), leaf.key_pem)
    return leaf


def test_every_folder_is_0700_and_every_file_0600(storage: Storage) -> None:
    storage.check()
    install(storage)
    lineage = storage.lineage(NAME)
    lineage.save_state(STATE)
    lineage.save_order(SavedOrder(DIRECTORY, "{}", generate_key()))
    authority = storage.authority(DIRECTORY)
    authority.save(Account(DIRECTORY, "https://ca.example/acct/1", ("a@example.com",), AccountKey.generate()))
    authority.amend(lambda ledger: ledger.start(Attempt(NOW, (NAME,))))
    with storage.locked_names([NAME]), authority.locked():
        pass
    found = {path: stat.S_IMODE(path.lstat().st_mode) for path in (storage.home, *storage.home.rglob("*"))}
    assert {mode for path, mode in found.items() if path.is_dir() and not path.is_symlink()} == {0o700}
    assert {mode for path, mode in found.items() if path.is_file() and not path.is_symlink()} == {0o600}


def test_files_lie_where_certbot_has_them(storage: Storage) -> None:
    leaf = install(storage)
    live = storage.home / "live" / NAME
    assert (live / "cert.pem").read_bytes() == leaf.pem
    assert (live / "fullchain.pem").read_bytes() == (live / "cert.pem").read_bytes() + (live / "chain.pem").read_bytes()
    assert (live / "privkey.pem").read_bytes() == leaf.key_pem


def test_certificate_is_read_back_with_its_key(storage: Storage) -> None:
    assert storage.lineage(NAME).current() is None
    leaf = install(storage)
    certificate = storage.lineage(NAME).current()
    assert certificate is not None
    assert certificate.names == (NAME,)
    assert certificate.key_pem == leaf.key_pem
    assert storage.lineage(NAME).serving(NOW) == certificate


def test_no_certificate_serves_where_there_is_none(storage: Storage) -> None:
    assert storage.lineage(NAME).serving(NOW) is None


def test_expired_certificate_is_there_and_does_not_serve(storage: Storage) -> None:
    install(storage)
    lineage = storage.lineage(NAME)
    assert lineage.current() is not None
    with pytest.raises(CertificateError, match=r"fullchain\.pem: expired at 2027-03-31T12:00Z, now is .*; renew it$"):
        lineage.serving(NOW + timedelta(days=31))


def test_new_certificate_replaces_the_old_one_by_one_rename(storage: Storage) -> None:
    install(storage)
    before = storage.lineage(NAME).version_folder()
    assert before is not None
    leaf = install(storage)
    # Whoever has read the link before still finds a pair that belongs together.
    assert (before / "privkey.pem").read_bytes() != leaf.key_pem
    assert (storage.home / "live" / NAME / "privkey.pem").read_bytes() == leaf.key_pem


def test_old_versions_are_pruned(storage: Storage) -> None:
    for _ in range(KEPT_VERSIONS + 2):
        leaf = install(storage)
    kept = sorted(path.name for path in (storage.home / "archive" / NAME).iterdir())
    assert kept == ["0003", "0004", "0005"]
    assert os.readlink(storage.home / "live" / NAME) == "../archive/shop.example/0005"
    current = storage.lineage(NAME).current()
    assert current is not None
    assert current.key_pem == leaf.key_pem


def test_version_that_a_crash_left_half_written_is_passed_over(storage: Storage) -> None:
    install(storage)
    half = storage.home / "archive" / NAME / "0002"
    half.mkdir()
    (half / "cert.pem").write_text("half")
    (storage.home / "live" / f".{NAME}.tmp").symlink_to("../archive/shop.example/0002")
    leaf = install(storage)
    assert os.readlink(storage.home / "live" / NAME) == "../archive/shop.example/0003"
    current = storage.lineage(NAME).current()
    assert current is not None
    assert current.key_pem == leaf.key_pem


@pytest.mark.parametrize("target", ["/etc/ssl", "../archive/other.example/0001", "../archive/shop.example/../../x"])
def test_link_that_leads_elsewhere_is_refused(storage: Storage, target: str) -> None:
    live = storage.home / "live"
    live.mkdir(parents=True)
    (live / NAME).symlink_to(target)
    with pytest.raises(CertificateError, match=r"leads to '.*', not into its archive; remove it$"):
        storage.lineage(NAME).current()


def test_folder_that_was_put_there_by_hand_is_read_and_not_replaced(storage: Storage) -> None:
    leaf = forge(NAME)
    live = storage.home / "live" / NAME
    live.mkdir(parents=True)
    (live / "fullchain.pem").write_bytes(leaf.pem)
    (live / "privkey.pem").write_bytes(leaf.key_pem)
    current = storage.lineage(NAME).current()
    assert current is not None
    assert current.key_pem == leaf.key_pem
    with pytest.raises(CertificateError, match=r"in the place of a link of ours; move it away, or import it$"):
        install(storage)
    assert (live / "privkey.pem").read_bytes() == leaf.key_pem


def test_file_in_the_place_of_the_link_is_refused(storage: Storage) -> None:
    (storage.home / "live").mkdir(parents=True)
    (storage.home / "live" / NAME).write_text("")
    with pytest.raises(CertificateError, match=r"^link .*/live/shop\.example: invalid argument; remove it$"):
        storage.lineage(NAME).current()


def test_half_written_certificate_is_refused_with_its_place(storage: Storage) -> None:
    install(storage)
    path = storage.home / "live" / NAME / "fullchain.pem"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(CertificateError, match=r"line 1: 'CERTIFICATE' begins and never ends"):
        storage.lineage(NAME).current()


def test_state_is_kept_and_listed(storage: Storage) -> None:
    assert storage.lineages() == []
    storage.lineage(NAME).save_state(STATE)
    leaf = forge("*.example.org")
    storage.lineage("*.example.org").install(leaf.pem, leaf.key_pem)
    storage.lineage("2001:db8::1").save_state(STATE)
    names = [lineage.name for lineage in storage.lineages()]
    assert names == ["2001:db8::1", NAME, "*.example.org"]
    assert storage.lineage(NAME).state() == STATE
    assert storage.lineage("*.example.org").state() is None


def test_damaged_state_is_named(storage: Storage) -> None:
    (storage.home / "state").mkdir(parents=True)
    (storage.home / "state" / "shop.example.json").write_text("{")
    with pytest.raises(CertificateError, match=r"^state .*/state/shop\.example\.json: damaged; remove the file"):
        storage.lineage(NAME).state()


def test_order_under_way_is_kept_with_its_key(storage: Storage) -> None:
    lineage = storage.lineage(NAME)
    assert lineage.order() is None
    order = SavedOrder(DIRECTORY, '{"url": 1}', generate_key())
    lineage.save_order(order)
    assert lineage.order() == order
    again = SavedOrder(DIRECTORY, '{"url": 2}', order.key_pem)
    lineage.save_order(again)
    assert lineage.order() == again
    lineage.drop_order()
    lineage.drop_order()
    assert lineage.order() is None


def test_order_without_its_key_is_none(storage: Storage) -> None:
    lineage = storage.lineage(NAME)
    lineage.save_order(SavedOrder(DIRECTORY, "first", generate_key()))
    folder = storage.home / "orders" / NAME
    (folder / "key.pem").unlink()
    assert lineage.order() is None
    lineage.save_order(SavedOrder(DIRECTORY, "second", generate_key()))
    second = lineage.order()
    assert second is not None
    assert second.saved == "second"


def test_damaged_order_is_refused(storage: Storage) -> None:
    lineage = storage.lineage(NAME)
    lineage.save_order(SavedOrder(DIRECTORY, "first", generate_key()))
    (storage.home / "orders" / NAME / "order.json").write_text("[]")
    with pytest.raises(CertificateError, match=r"^order .*order\.json: damaged; remove it: it is made anew$"):
        lineage.order()


def test_certificate_that_cannot_be_removed_is_named(storage: Storage) -> None:
    install(storage)
    with (
        ordinary_user(),
        pytest.raises(CertificateError, match=r"^cannot remove .*/live/shop\.example: permission den"),
    ):
        storage.lineage(NAME).remove()


def test_link_that_cannot_be_written_is_named(storage: Storage) -> None:
    (storage.home / "live" / f".{NAME}.tmp").mkdir(parents=True)
    with pytest.raises(CertificateError, match=r"^cannot write .*/live/shop\.example: is a directory; give this user"):
        install(storage)


def test_all_of_a_certificate_is_removed(storage: Storage) -> None:
    install(storage)
    lineage = storage.lineage(NAME)
    lineage.save_state(STATE)
    lineage.save_order(SavedOrder(DIRECTORY, "{}", generate_key()))
    lineage.remove()
    lineage.remove()
    assert storage.lineages() == []
    assert [path for path in storage.home.rglob("*") if path.is_file()] == []


def test_account_is_kept_with_its_key(storage: Storage) -> None:
    authority = storage.authority(DIRECTORY)
    assert authority.account() is None
    assert authority.key() is None
    account = Account(DIRECTORY, "https://ca.example/acct/1", ("a@example.com",), AccountKey.generate())
    authority.save(account)
    found = storage.authority(DIRECTORY).account()
    assert found is not None
    assert (found.url, found.contacts, found.key.pem) == (account.url, account.contacts, account.key.pem)
    assert authority.folder.name == "ca.example%2Facme%2Fdirectory"


@pytest.mark.parametrize("field", ["directory", "url", "key"])
def test_account_with_a_part_missing_is_refused(storage: Storage, field: str) -> None:
    authority = storage.authority(DIRECTORY)
    authority.save(Account(DIRECTORY, "https://ca.example/acct/1", (), AccountKey.generate()))
    if field == "key":
        (authority.folder / "account.key").unlink()
    else:
        path = authority.folder / "account.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), field: None}))
    with pytest.raises(CertificateError, match=r"^account .*account\.json: damaged, or its key is missing; restore"):
        authority.account()


def test_account_that_is_no_json_is_refused(storage: Storage) -> None:
    authority = storage.authority(DIRECTORY)
    authority.save(Account(DIRECTORY, "https://ca.example/acct/1", (), AccountKey.generate()))
    (authority.folder / "account.json").write_bytes(b"\xff")
    with pytest.raises(CertificateError, match=r"^account .*account\.json: damaged; remove it: it is made anew$"):
        authority.account()


def test_contacts_that_are_none_are_none(storage: Storage) -> None:
    authority = storage.authority(DIRECTORY)
    authority.save(Account(DIRECTORY, "https://ca.example/acct/1", (), AccountKey.generate()))
    path = authority.folder / "account.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "contacts": None}))
    account = authority.account()
    assert account is not None
    assert account.contacts == ()


def test_ledger_survives(storage: Storage) -> None:
    assert storage.authority(DIRECTORY).ledger() == Ledger()
    written = storage.authority(DIRECTORY).amend(lambda ledger: ledger.start(Attempt(NOW, (NAME,))))
    assert storage.authority(DIRECTORY).ledger() == written
    assert len(written.attempts) == 1


def test_damaged_ledger_is_named_and_never_overwritten(storage: Storage) -> None:
    authority = storage.authority(DIRECTORY)
    authority.folder.mkdir(parents=True)
    (authority.folder / "ledger.json").write_text("{")
    with pytest.raises(CertificateError, match=r"^ledger .*/ledger\.json: damaged; remove the file when no limit"):
        authority.amend(lambda ledger: ledger)
    assert (authority.folder / "ledger.json").read_text() == "{"


def test_one_process_alone_orders_for_a_name(storage: Storage) -> None:
    command = [sys.executable, "-c", HOLD_LOCK, str(storage.home), NAME, "www.shop.example"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child_environment(), text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockHeld), storage.locked_names(["www.shop.example", "api.shop.example"]):
            pass
        with storage.locked_names(["api.shop.example"]):
            pass
        # The lock ends with its holder, however that ends.
        holder.kill()
    with storage.locked_names([NAME, "www.shop.example"]):
        pass


def test_key_that_everybody_may_read_is_refused(storage: Storage) -> None:
    authority = storage.authority(DIRECTORY)
    authority.save_key(AccountKey.generate())
    path = authority.folder / "account.key"
    path.chmod(0o644)
    message = r"^account key .*: open to everybody \(mode 0644\); chmod 600 .*, and have the key replaced$"
    with pytest.raises(CertificateError, match=message):
        authority.key()
    path.chmod(0o640)
    assert authority.key() is not None


def test_key_behind_a_link_is_refused(storage: Storage, tmp_path: Path) -> None:
    authority = storage.authority(DIRECTORY)
    authority.save_key(AccountKey.generate())
    path = authority.folder / "account.key"
    path.rename(tmp_path / "elsewhere.key")
    path.symlink_to(tmp_path / "elsewhere.key")
    with pytest.raises(CertificateError, match="a symbolic link; put the file itself there"):
        authority.key()


def test_secret_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="no such file"):
        read_secret(tmp_path / "missing.key", "key")


def test_folder_that_everybody_may_write_to_is_refused(storage: Storage) -> None:
    storage.home.mkdir()
    storage.home.chmod(0o777)
    with pytest.raises(CertificateError, match=r"everybody may write to it \(mode 0777\); chmod o-w"):
        storage.check()


def test_folder_that_this_user_may_not_write_to_is_refused() -> None:
    # Not `tmp_path`, which others may not even pass through.
    with tempfile.TemporaryDirectory(prefix="edge-test-") as folder:
        os.chmod(folder, 0o555)
        with ordinary_user(), pytest.raises(CertificateError, match=r"user '.*' may not write to it; give this user"):
            Storage(Path(folder)).check()


def test_folder_behind_a_closed_one_is_refused(storage: Storage) -> None:
    storage.check()
    storage.home.chmod(0o700)
    with ordinary_user(), pytest.raises(CertificateError, match=r"permission denied; give this user the right"):
        storage.check()
