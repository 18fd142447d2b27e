"""Where certificates, accounts and what is known of them lie: one folder, the same for every process and host.

Theory of operation. `docs/reference/storage.md` shows the tree. Every write is atomic (`files`). A certificate's four
files are one folder that is complete before `live/NAME`, a symbolic link, is turned to it by one rename: whoever reads
through the link it has read once sees a key and a chain that belong together. Who wants to order a certificate holds
the locks of all of its names, which end with the process that holds them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.challenges import ChallengeStore
from edge_certs.errors import CertificateError, naming, place, reason
from edge_certs.file_names import authority_name, file_name, from_file_name
from edge_certs.files import (
    LOCK_TIMEOUT,
    WRITE_ADVICE,
    abandoned_writes,
    locked,
    make_private_folder,
    read_file,
    remove_file,
    sync_folder,
    user_name,
    write_private,
)
from edge_certs.jws import AccountKey
from edge_certs.ledger import Ledger
from edge_certs.state import CertificateState
from edge_certs.x509 import Certificate, check_dates, parse_chain, read_certificate

# A thousand attempts for a hundred long names each; certificates are smaller.
MAX_LEDGER_SIZE = 64 * 1024 * 1024

# An authority that is down comes back; an order that is lost there, or whose certificate is of no use, does not.
MAX_ORDER_FAILURES = 3

# The one that serves, the one before it for a rollback by hand, and one more for who still reads it.
KEPT_VERSIONS = 3

VERSION_NAME = re.compile(r"[0-9]{4,9}")
FILES = ("cert.pem", "chain.pem", "fullchain.pem", "privkey.pem")


@dataclass(frozen=True, slots=True)
class Account:
    """An account at the authority with this `directory` URL; `url` is the account's own."""

    directory: str
    url: str
    contacts: tuple[str, ...]
    key: AccountKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class SavedOrder:
    """An order under way: what `Order` resumes from, the key of the certificate to come, and where it was made.

    `failures` are the attempts that it was in the way of.
    """

    directory: str
    saved: str
    key_pem: bytes = field(repr=False)
    failures: int = 0

    @property
    def is_made(self) -> bool:
        """True when the authority has given the order a URL: going on with it spends nothing."""
        try:
            return bool(json.loads(self.saved)["url"])
        except (ValueError, KeyError, TypeError):
            return False


class Storage:
    """The folder that lasts. Reading makes no folder; writing makes what is missing."""

    __slots__ = ("home",)

    def __init__(self, home: Path) -> None:
        self.home = home

    @property
    def challenges(self) -> ChallengeStore:
        """The answers to challenges that are under way."""
        return ChallengeStore(self.home / "challenges")

    def check(self) -> None:
        """Make the folder if it is missing, and refuse one where others could put or take what they want.

        Raises CertificateError: it cannot be made, is no folder, or everybody may write to it.
        """
        make_private_folder(self.home)
        try:
            mode = self.home.stat().st_mode
            writable = os.access(self.home, os.W_OK | os.X_OK, effective_ids=True)
        except OSError as error:
            raise CertificateError(f"folder {place(self.home)}: {reason(error)}", WRITE_ADVICE) from error
        if mode & stat.S_IWOTH:
            raise CertificateError(
                f"folder {place(self.home)}: everybody may write to it (mode {stat.S_IMODE(mode):04o})",
                f"chmod o-w {place(self.home)}, or set EDGE_HOME to another folder",
            )
        if not writable:
            raise CertificateError(f"folder {place(self.home)}: user {user_name()!r} may not write to it", WRITE_ADVICE)

    def sweep(self, now: datetime) -> None:
        """Remove what processes that were killed left behind: answers to challenges, and files half written."""
        self.challenges.sweep(now)
        for folder, _, _ in os.walk(self.home):
            for path in abandoned_writes(Path(folder)):
                with suppress(OSError):
                    path.unlink()

    def authority(self, directory: str) -> AuthorityFolder:
        """Return the folder of the account at the authority with this directory URL, which may not be there yet."""
        return AuthorityFolder(self.home, directory)

    def lineage(self, name: str) -> Lineage:
        """Return the files of the certificate called `name`, its first host name or address; it may not be there."""
        return Lineage(self.home, name)

    def lineages(self) -> list[Lineage]:
        """Return all certificates that are there or wanted, by name."""
        states = {path.name.removesuffix(".json") for path in (self.home / "state").glob("*.json")}
        # Not what begins with a dot: a link that a crash left before it was renamed.
        live = {path.name for path in (self.home / "live").glob("[!.]*") if path.is_symlink() or path.is_dir()}
        return [Lineage(self.home, from_file_name(name)) for name in sorted(states | live)]

    @contextmanager
    def locked_names(self, names: Sequence[str], timeout: float = 0.0) -> Iterator[None]:
        """Hold the right to order a certificate for `names`, alone among all processes and hosts that use this folder.

        Waits at most `timeout` seconds for each. Raises LockHeld: somebody else is at it. Raises CertificateError: the
        folder cannot be written, or its file system has no locks.
        """
        with ExitStack() as held:
            # In one order everywhere: two that want the same names never wait for each other.
            for name in sorted(set(names)):
                held.enter_context(locked(self.home / "locks" / f"name-{file_name(name)}.lock", timeout))
            yield


class AuthorityFolder:
    """The account at one authority, and the ledger of the attempts that were made with it."""

    __slots__ = ("_home", "directory", "folder")

    def __init__(self, home: Path, directory: str) -> None:
        self._home = home
        self.directory = directory
        self.folder = home / "acme" / authority_name(directory)

    @contextmanager
    def locked(self, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
        """Hold the right to make or change the account; waits at most `timeout` seconds.

        Raises LockHeld: another process kept it. Raises CertificateError: the folder cannot be written.
        """
        with locked(self._home / "locks" / f"account-{self.folder.name}.lock", timeout):
            yield

    def account(self) -> Account | None:
        """Return the account, None when there is none yet.

        Raises CertificateError: its files are damaged, readable by others, or not ours to read.
        """
        path = self.folder / "account.json"
        if not os.path.lexists(path):
            return None
        found = _read_object(path, "account")
        key = self.key()
        if key is None or found.get("directory") != self.directory or not isinstance(found.get("url"), str):
            raise CertificateError(
                f"account {place(path)}: damaged, or its key is missing",
                f"restore the folder, or remove {place(self.folder)}: a new account is made then",
            )
        contacts = found.get("contacts")
        addresses = tuple(map(str, contacts)) if isinstance(contacts, list) else ()
        return Account(self.directory, str(found["url"]), addresses, key)

    def key(self) -> AccountKey | None:
        """Return the account's key; it is there before the account is.

        Raises CertificateError: as `account`.
        """
        path = self.folder / "account.key"
        if not os.path.lexists(path):
            return None
        content = read_secret(path, "account key")
        with naming(f"account key {place(path)}"):
            return AccountKey.parse(content)

    def save_key(self, key: AccountKey) -> None:
        """Write the account's key: before the authority hears of it, as a lost key is a lost account."""
        write_private(self.folder / "account.key", key.pem)

    def save(self, account: Account) -> None:
        """Write the account and its key. Raises CertificateError: the folder cannot be written."""
        self.save_key(account.key)
        content = {"directory": account.directory, "url": account.url, "contacts": account.contacts}
        write_private(self.folder / "account.json", json.dumps(content, indent=1).encode() + b"\n")

    def forget(self) -> None:
        """Forget the account, and keep its key: the authority does not know it any more."""
        remove_file(self.folder / "account.json")

    def ledger(self) -> Ledger:
        """Return the attempts that were made. Raises CertificateError: the file is damaged or not ours to read."""
        path = self.folder / "ledger.json"
        if not os.path.lexists(path):
            return Ledger()
        content = read_file(path, "ledger", MAX_LEDGER_SIZE)
        with naming(f"ledger {place(path)}"):
            return Ledger.decode(content)

    def amend(self, change: Callable[[Ledger], Ledger]) -> Ledger:
        """Let `change` make a new ledger of the one that is there, write it, and return it.

        Raises CertificateError: as `ledger`, or it cannot be written: nothing may be attempted then.
        """
        with locked(self._home / "locks" / f"ledger-{self.folder.name}.lock"):
            ledger = change(self.ledger())
            write_private(self.folder / "ledger.json", ledger.encode())
        return ledger


class Lineage:
    """One certificate and those that follow it: the files that serve, the order under way, and the state."""

    __slots__ = ("_archive", "_home", "_order", "_state", "live", "name")

    def __init__(self, home: Path, name: str) -> None:
        self.name = name
        self._home = home
        base = file_name(name)
        self.live = home / "live" / base
        self._archive = home / "archive" / base
        self._order = home / "orders" / base
        self._state = home / "state" / f"{base}.json"

    def current(self) -> Certificate | None:
        """Return the certificate that is there, whatever its dates are; None when there is none.

        Raises CertificateError: what is there is damaged, incomplete or not ours to read.
        """
        folder = self.version_folder()
        if folder is None:
            return None
        chain = parse_chain(read_file(folder / "fullchain.pem", "certificate"))
        # Proven with an instant at which it is valid: an expired one is still the one that is there.
        moment = chain[0].not_valid_after_utc
        return read_certificate(folder / "fullchain.pem", folder / "privkey.pem", moment)

    def serving(self, now: datetime) -> Certificate | None:
        """Return the certificate that is there, when it is valid at `now`, in UTC.

        Raises CertificateError: as `current`, or it is expired or not valid yet.
        """
        certificate = self.current()
        if certificate is not None:
            with naming(f"certificate {place(self.live / 'fullchain.pem')}"):
                check_dates(parse_chain(certificate.chain_pem)[0], now)
        return certificate

    def version_folder(self) -> Path | None:
        """Return where `live/NAME` leads, read once, so that all files out of it belong together; None without one.

        Raises CertificateError: it leads out of the archive, or cannot be read.
        """
        try:
            target = os.readlink(self.live)
        except FileNotFoundError:
            return None
        except OSError as error:
            if self.live.is_dir():
                return self.live  # as somebody has put it there by hand
            raise CertificateError(f"link {place(self.live)}: {reason(error)}", "remove it") from error
        folder = Path(os.path.normpath(self.live.parent / target))
        if folder.parent != self._archive or not VERSION_NAME.fullmatch(folder.name):
            raise CertificateError(f"link {place(self.live)}: leads to {target!r}, not into its archive", "remove it")
        return folder

    def install(self, chain_pem: bytes, key_pem: bytes) -> Path:
        """Let `chain_pem` and its key be the certificate from now on, and return its folder; older ones are pruned.

        Raises CertificateError: they cannot be written, or what is in their place is not ours; the old one stays.
        """
        folder = self._archive / f"{max(self._versions(), default=0) + 1:04d}"
        chain = [certificate.public_bytes(Encoding.PEM) for certificate in parse_chain(chain_pem)]
        contents = (chain[0], b"".join(chain[1:]), b"".join(chain), key_pem)
        try:
            for name, content in zip(FILES, contents, strict=True):
                write_private(folder / name, content)
        except BaseException:
            # What a full disk left would be kept in the place of versions that are whole.
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._turn(folder)
        for version in sorted(self._versions())[:-KEPT_VERSIONS]:
            shutil.rmtree(self._archive / f"{version:04d}", ignore_errors=True)
        return folder

    def state(self) -> CertificateState | None:
        """Return what is known of it; None when nothing is. Raises CertificateError: the file is damaged."""
        if not os.path.lexists(self._state):
            return None
        content = read_file(self._state, "state")
        with naming(f"state {place(self._state)}"):
            return CertificateState.decode(content)

    def save_state(self, state: CertificateState) -> None:
        """Write what is known of it. Raises CertificateError: the folder cannot be written."""
        write_private(self._state, state.encode())

    def order(self) -> SavedOrder | None:
        """Return the order under way; None when there is none, or one that cannot be gone on with."""
        key, path = self._order / "key.pem", self._order / "order.json"
        if not os.path.lexists(path) or not os.path.lexists(key):
            return None
        found = _read_object(path, "order")
        failures = found.get("failures")
        return SavedOrder(
            directory=str(found.get("directory")),
            saved=str(found.get("order")),
            key_pem=read_secret(key, "key"),
            failures=failures if isinstance(failures, int) else 0,
        )

    def save_order(self, order: SavedOrder) -> None:
        """Write the order under way, its key first. Raises CertificateError: the folder cannot be written."""
        path = self._order / "key.pem"
        if not os.path.lexists(path) or read_secret(path, "key") != order.key_pem:
            # An order with the key of another one would be finished for nothing.
            remove_file(self._order / "order.json")
            write_private(path, order.key_pem)
        content = {"directory": order.directory, "order": order.saved, "failures": order.failures}
        write_private(self._order / "order.json", json.dumps(content, indent=1).encode() + b"\n")

    def blame_order(self) -> None:
        """Count a failed attempt against the order under way, and forget it when it was in the way of several.

        Raises CertificateError: the folder cannot be written.
        """
        order = self.order()
        if order is None or not order.is_made:
            return
        if order.failures + 1 < MAX_ORDER_FAILURES:
            self.save_order(replace(order, failures=order.failures + 1))
        else:
            self.drop_order()

    def drop_order(self) -> None:
        """Forget the order under way: it has ended. Raises CertificateError: the folder cannot be written."""
        for name in ("order.json", "key.pem"):
            remove_file(self._order / name)

    def remove(self) -> None:
        """Remove the certificate, its key, older ones, and what is known of it; what is not there is no fault.

        Raises CertificateError: the folder cannot be written.
        """
        try:
            for path in (self._state, self.live):
                if path.is_symlink() or path.is_file():
                    path.unlink()
            for folder in (self.live, self._archive, self._order):
                if folder.is_dir():
                    shutil.rmtree(folder)
        except OSError as error:
            raise CertificateError(f"cannot remove {place(self.live)}: {reason(error)}", WRITE_ADVICE) from error

    def _turn(self, folder: Path) -> None:
        """One rename: a reader finds the old folder or the new one."""
        make_private_folder(self.live.parent)
        link = self.live.with_name(f".{self.live.name}.tmp")
        target = os.path.relpath(folder, self.live.parent)
        try:
            if self.live.is_dir() and not self.live.is_symlink():
                raise CertificateError(
                    f"folder {place(self.live)}: in the place of a link of ours", "move it away, or import it"
                )
            link.unlink(missing_ok=True)
            link.symlink_to(target)
            os.replace(link, self.live)
            sync_folder(self.live.parent)
        except OSError as error:
            raise CertificateError(f"cannot write {place(self.live)}: {reason(error)}", WRITE_ADVICE) from error

    def _versions(self) -> list[int]:
        return [int(path.name) for path in self._archive.glob("*") if VERSION_NAME.fullmatch(path.name)]


def read_secret(path: Path, what: str) -> bytes:
    """Return the content of a file that nobody else may read; messages call it `what`.

    Raises CertificateError: it cannot be read, is a link, or is open to everybody.
    """
    try:
        status = path.lstat()
    except OSError:
        return read_file(path, what)  # it says what is wrong
    if stat.S_ISLNK(status.st_mode):
        raise CertificateError(f"{what} {place(path)}: a symbolic link", "put the file itself there")
    # Not the group's bits: what keeps volumes for containers sets them for the group that it runs them with.
    if status.st_mode & stat.S_IRWXO:
        mode = stat.S_IMODE(status.st_mode)
        raise CertificateError(
            f"{what} {place(path)}: open to everybody (mode {mode:04o})",
            f"chmod 600 {place(path)}, and have the key replaced",
        )
    return read_file(path, what)


def _read_object(path: Path, what: str) -> dict[str, object]:
    content = read_file(path, what)
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CertificateError(f"{what} {place(path)}: damaged", "remove it: it is made anew")
    return found
