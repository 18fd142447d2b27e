"""The local authority's root on disk: damaged, begun by several processes at once, or by one that was killed."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from edge_certs.ca import LocalAuthority
from edge_certs.errors import CertificateError
from edge_certs.files import locked
from tests.certs.forge import AUTHORITY, DAY, NOW, Forged, child_environment, forge, ordinary_user

ADVICE = "restore its files, or move {dev} away for a new root, which must be trusted anew"


def refusal_to_open(home: Path, now: datetime = NOW) -> str:
    """Return the message, after proof that nothing on disk has been touched."""
    before = {path: path.read_bytes() for path in (home / "dev").iterdir() if path.is_file()}
    with pytest.raises(CertificateError) as caught:
        LocalAuthority.open(home, now)
    assert {path: path.read_bytes() for path in (home / "dev").iterdir() if path.is_file()} == before
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith("; " + ADVICE.format(dev=home / "dev"))
    return message.partition("; ")[0].replace(f"{home}/", "")


def put_root(home: Path, root: Forged) -> None:
    (home / "dev").mkdir()
    (home / "dev/root.pem").write_bytes(root.pem)
    (home / "dev/root.key").write_bytes(root.key_pem)


def test_root_without_its_key_is_refused(tmp_path: Path) -> None:
    LocalAuthority.open(tmp_path, NOW)
    (tmp_path / "dev/root.key").unlink()
    assert refusal_to_open(tmp_path) == "local authority: key dev/root.key: no such file"


def test_root_with_another_key_is_refused(tmp_path: Path) -> None:
    LocalAuthority.open(tmp_path, NOW)
    (tmp_path / "dev/root.key").write_bytes(forge().key_pem)
    assert refusal_to_open(tmp_path) == (
        "local authority: certificate dev/root.pem: the key in dev/root.key does not belong to it"
    )


@pytest.mark.parametrize(
    ("file", "content", "found"),
    [
        ("root.pem", b"", "certificate dev/root.pem: the file is empty"),
        (
            "root.pem",
            b"-----BEGIN CERTIFICATE-----\nAA",
            "certificate dev/root.pem: line 1: 'CERTIFICATE' begins and never ends",
        ),
        ("root.key", b"", "key dev/root.key: the file is empty"),
        (
            "root.key",
            b"-----BEGIN PRIVATE KEY-----\nAA",
            "key dev/root.key: line 1: 'PRIVATE KEY' begins and never ends",
        ),
    ],
)
def test_damaged_root_is_refused(tmp_path: Path, file: str, content: bytes, found: str) -> None:
    LocalAuthority.open(tmp_path, NOW)
    (tmp_path / "dev" / file).write_bytes(content)
    assert refusal_to_open(tmp_path) == f"local authority: {found}"


def test_expired_root_is_refused(tmp_path: Path) -> None:
    LocalAuthority.open(tmp_path, NOW)
    assert refusal_to_open(tmp_path, NOW + 3653 * DAY) == (
        "local authority: certificate dev/root.pem: expired at 2037-02-28T12:00Z, now is 2037-03-01T12:00Z"
    )


def test_root_that_expired_while_in_use_signs_no_more(tmp_path: Path) -> None:
    authority = LocalAuthority.open(tmp_path, NOW)
    with pytest.raises(CertificateError) as caught:
        authority.issue(["localhost"], NOW + 3653 * DAY)
    assert str(caught.value) == (
        f"local authority: certificate {tmp_path / 'dev/root.pem'}: expired at 2037-02-28T12:00Z, "
        f"now is 2037-03-01T12:00Z; {ADVICE.format(dev=tmp_path / 'dev')}"
    )


def test_root_from_the_future_is_refused(tmp_path: Path) -> None:
    LocalAuthority.open(tmp_path, NOW)
    assert refusal_to_open(tmp_path, NOW - DAY) == (
        "local authority: certificate dev/root.pem: not valid before 2027-03-01T11:00Z, now is 2027-02-28T12:00Z"
    )


def test_leaf_in_the_place_of_the_root_is_refused(tmp_path: Path) -> None:
    put_root(tmp_path, forge("localhost"))
    assert refusal_to_open(tmp_path) == (
        "local authority: certificate dev/root.pem: not the certificate of an authority"
    )


@pytest.mark.parametrize(
    "extensions",
    [
        [AUTHORITY],
        [AUTHORITY, x509.NameConstraints([x509.DNSName("test")], None)],
    ],
    ids=["no constraints", "constraints that a client may ignore"],
)
def test_root_that_could_sign_for_the_internet_is_refused(
    tmp_path: Path, extensions: Sequence[x509.ExtensionType]
) -> None:
    put_root(tmp_path, forge(extensions=extensions))
    assert refusal_to_open(tmp_path) == (
        "local authority: certificate dev/root.pem: no critical name constraints, so not a root that edge made"
    )


def test_root_with_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    put_root(tmp_path, forge(extensions=[AUTHORITY], key=rsa.generate_private_key(65537, 2048)))
    assert refusal_to_open(tmp_path) == "local authority: key dev/root.key: not the ECDSA key that edge made"


def test_root_of_another_user_is_refused(tmp_path: Path) -> None:
    LocalAuthority.open(tmp_path, NOW)
    (tmp_path / "dev/root.key").chmod(0o000)
    with ordinary_user(), pytest.raises(CertificateError) as caught:
        LocalAuthority.open(tmp_path, NOW)
    assert "permission denied" in str(caught.value)


# The first start


OPEN = """
import hashlib, sys
from datetime import UTC, datetime
from pathlib import Path
from edge_certs.ca import LocalAuthority
print("ready", flush=True)
sys.stdin.readline()
root = LocalAuthority.open(Path(sys.argv[1]), datetime.now(UTC)).root_path
print(hashlib.sha256(root.read_bytes()).hexdigest())
"""


def test_processes_that_open_an_empty_home_at_once_get_the_same_root(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(tmp_path)],
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    assert [process.stdout.readline() for process in processes if process.stdout] == ["ready\n"] * 3
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=30)[0].strip() for process in processes]
    assert answers == [hashlib.sha256((tmp_path / "dev/root.pem").read_bytes()).hexdigest()] * 3


def test_root_that_another_process_makes_while_we_wait_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = LocalAuthority.open(tmp_path / "other", NOW).root_path
    with ExitStack() as holder:
        holder.enter_context(locked(tmp_path / "locks/dev.lock"))

        def finish_instead_of_sleeping(seconds: float) -> None:
            shutil.copytree(made.parent, tmp_path / "dev")
            holder.close()

        monkeypatch.setattr(time, "sleep", finish_instead_of_sleeping)
        assert LocalAuthority.open(tmp_path, NOW).root_path.read_bytes() == made.read_bytes()


CRASH_AT_RENAME = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from edge_certs.ca import LocalAuthority
left = [int(sys.argv[2])]
def hook(event, arguments):
    if event == "os.rename":
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
LocalAuthority.open(Path(sys.argv[1]), datetime.now(UTC))
"""


def crash_at_rename(home: Path, number: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASH_AT_RENAME, str(home), str(number)],
        env=child_environment(),
        timeout=30,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert not (home / "dev/root.pem").exists()


def test_start_that_was_killed_before_the_key_is_begun_again(tmp_path: Path) -> None:
    crash_at_rename(tmp_path, 1)
    assert not (tmp_path / "dev/root.key").exists()
    assert LocalAuthority.open(tmp_path, datetime.now(UTC)).root_path.exists()


def test_start_that_was_killed_after_the_key_is_finished_with_it(tmp_path: Path) -> None:
    crash_at_rename(tmp_path, 2)
    key = (tmp_path / "dev/root.key").read_bytes()
    assert LocalAuthority.open(tmp_path, datetime.now(UTC)).issue(["localhost"], datetime.now(UTC)).names
    assert (tmp_path / "dev/root.key").read_bytes() == key


def test_damaged_key_of_an_unfinished_start_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/root.key").write_bytes(b"")
    assert refusal_to_open(tmp_path) == "local authority: key dev/root.key: the file is empty"
