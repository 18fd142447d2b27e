from __future__ import annotations

import errno
import fcntl
import os
import pwd
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edge_certs.errors import CertificateError
from edge_certs.files import (
    MAX_FILE_SIZE,
    edge_home,
    find_key,
    locked,
    make_private_folder,
    read_file,
    user_name,
    write_private,
)
from tests.certs.forge import child_environment, ordinary_user

NO_ACCOUNT = 4_242_424
KEY_TEXT = b"-----BEGIN EC PRIVATE KEY-----\n"

WRITE_ADVICE = "give this user the right to write there, or set EDGE_HOME to another folder"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# edge_home


@pytest.mark.parametrize(
    ("environ", "home"),
    [
        ({"EDGE_HOME": "/data/edge", "XDG_DATA_HOME": "/x", "HOME": "/home/a"}, "/data/edge"),
        ({"XDG_DATA_HOME": "/x", "HOME": "/home/a"}, "/x/edge"),
        ({"EDGE_HOME": "", "XDG_DATA_HOME": "", "HOME": "/home/a"}, "/home/a/.local/share/edge"),
        ({"XDG_DATA_HOME": "relative", "HOME": "/home/a"}, "/home/a/.local/share/edge"),
    ],
)
def test_home_of_a_user(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], home: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NO_ACCOUNT)
    assert edge_home(environ) == Path(home)


def test_home_of_root_is_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert edge_home({"HOME": "/root", "XDG_DATA_HOME": "/x"}) == Path("/var/lib/edge")


def test_relative_edge_home_is_below_the_current_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert edge_home({"EDGE_HOME": ".edge"}) == tmp_path / ".edge"


def test_home_without_the_variable_is_that_of_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    account = next(entry for entry in pwd.getpwall() if entry.pw_uid != 0)
    monkeypatch.setattr(os, "geteuid", lambda: account.pw_uid)
    assert edge_home({}) == Path(account.pw_dir) / ".local/share/edge"


def test_user_without_home_and_account_is_told_to_set_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NO_ACCOUNT)
    with pytest.raises(CertificateError) as caught:
        edge_home({})
    assert str(caught.value) == (
        "no home folder: HOME is unset and user 4242424 has no account; set EDGE_HOME to a folder"
    )


def test_user_name_is_the_accounts() -> None:
    assert user_name() == pwd.getpwuid(os.geteuid()).pw_name


def test_user_name_without_account_is_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NO_ACCOUNT)
    assert user_name() == "4242424"


# find_key


@pytest.mark.parametrize(
    ("cert", "key"),
    [
        ("fullchain.pem", "privkey.pem"),
        ("fullchain.pem", "fullchain.key"),
        ("shop.example.pem", "shop.example.key"),
        ("shop.example.crt", "shop.example.key"),
        ("tls.cer", "tls.key"),
        ("localhost+2.pem", "localhost+2-key.pem"),
        ("shop.example", "shop.example.key"),
    ],
)
def test_key_is_found_beside_the_certificate(tmp_path: Path, cert: str, key: str) -> None:
    (tmp_path / cert).write_bytes(b"-----BEGIN CERTIFICATE-----\n")
    (tmp_path / key).write_bytes(KEY_TEXT)
    assert find_key(tmp_path / cert) == tmp_path / key


@pytest.mark.parametrize("label", [b"PRIVATE KEY", b"RSA PRIVATE KEY", b"ENCRYPTED PRIVATE KEY"])
def test_key_inside_the_certificate_file_comes_before_one_beside_it(tmp_path: Path, label: bytes) -> None:
    cert = tmp_path / "fullchain.pem"
    cert.write_bytes(b"-----BEGIN CERTIFICATE-----\r\n-----BEGIN " + label + b"-----\r\n")
    (tmp_path / "privkey.pem").write_bytes(KEY_TEXT)
    assert find_key(cert) == cert


def test_key_behind_a_link_that_we_may_not_follow_is_still_the_key(tmp_path: Path) -> None:
    cert = tmp_path / "fullchain.pem"
    cert.write_bytes(b"-----BEGIN CERTIFICATE-----\n")
    (tmp_path / "privkey.pem").symlink_to("../archive/privkey1.pem")
    assert find_key(cert) == tmp_path / "privkey.pem"


@pytest.mark.parametrize(
    ("cert", "places"),
    [
        ("fullchain.pem", ["privkey.pem", "fullchain.key", "fullchain-key.pem"]),
        ("shop.crt", ["shop.key"]),
        ("shop.pem", ["shop.key", "shop-key.pem"]),
    ],
)
def test_missing_key_says_where_it_was_looked_for(tmp_path: Path, cert: str, places: list[str]) -> None:
    (tmp_path / cert).write_bytes(b"-----BEGIN CERTIFICATE-----\n")
    with pytest.raises(CertificateError) as caught:
        find_key(tmp_path / cert)
    looked = " and ".join(str(tmp_path / name) for name in places)
    assert str(caught.value) == (
        f"certificate {tmp_path / cert}: no private key inside it, and no file {looked}; name the key file with --key"
    )


def test_key_of_a_certificate_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"fullchain\.pem: no such file; name a PEM file"):
        find_key(tmp_path / "fullchain.pem")


# read_file


def refusal_to_read(path: Path) -> str:
    with pytest.raises(CertificateError) as caught:
        read_file(path, "certificate")
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(path), "PATH")


def test_largest_allowed_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "big.pem"
    path.write_bytes(b"x" * MAX_FILE_SIZE)
    assert read_file(path, "certificate") == b"x" * MAX_FILE_SIZE


def test_larger_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.pem"
    path.write_bytes(b"x" * (MAX_FILE_SIZE + 1))
    assert refusal_to_read(path) == (
        "certificate PATH: more than 1048576 bytes; name a PEM file of one certificate and its chain"
    )


def test_missing_file_is_refused(tmp_path: Path) -> None:
    assert refusal_to_read(tmp_path / "no.pem") == (
        "certificate PATH: no such file; name a PEM file with the certificate"
    )


def test_missing_file_with_a_line_break_in_its_name_makes_one_line(tmp_path: Path) -> None:
    assert "a\\nb.pem': no such file" in refusal_to_read(tmp_path / "a\nb.pem")


def test_link_that_leads_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop.pem").symlink_to("loop.pem")
    assert refusal_to_read(tmp_path / "loop.pem") == (
        "certificate PATH: too many levels of symbolic links; name a PEM file with the certificate"
    )


@pytest.mark.parametrize(
    ("inside", "example"),
    [([], "fullchain.pem"), (["tls.crt"], "tls.crt"), (["tls.crt", "fullchain.pem"], "fullchain.pem")],
)
def test_folder_is_refused_with_the_file_to_name(tmp_path: Path, inside: list[str], example: str) -> None:
    for name in inside:
        (tmp_path / name).touch()
    assert refusal_to_read(tmp_path) == (
        f"certificate PATH: a directory, not a file; name the file in it, such as PATH/{example}"
    )


def test_pipe_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pem")
    assert refusal_to_read(tmp_path / "pipe.pem") == (
        "certificate PATH: not a regular file; copy it to one: a reload must be able to read it again"
    )


def test_file_of_another_user_is_refused_with_the_name_of_this_one(tmp_path: Path) -> None:
    path = tmp_path / "theirs.pem"
    path.touch(mode=0o000)
    with ordinary_user():
        assert refusal_to_read(path) == f"certificate PATH: permission denied; let user {user_name()!r} read it"


# write_private and make_private_folder


@pytest.fixture
def open_umask() -> Iterator[None]:
    old = os.umask(0)
    yield
    os.umask(old)


@pytest.mark.usefixtures("open_umask")
def test_file_and_new_folders_are_for_this_user_only(tmp_path: Path) -> None:
    write_private(tmp_path / "a/b/root.key", b"secret")
    assert (tmp_path / "a/b/root.key").read_bytes() == b"secret"
    assert mode(tmp_path / "a/b/root.key") == 0o600
    assert [mode(tmp_path / "a"), mode(tmp_path / "a/b")] == [0o700, 0o700]


@pytest.mark.usefixtures("open_umask")
def test_rewritten_file_is_private_even_if_the_old_one_was_not(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    path.touch(mode=0o666)
    write_private(path, b"secret")
    assert mode(path) == 0o600


def test_existing_folder_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o755)
    make_private_folder(tmp_path / "shared")
    assert mode(tmp_path / "shared") == 0o755


def test_write_leaves_nothing_but_the_file(tmp_path: Path) -> None:
    write_private(tmp_path / "root.pem", b"one")
    write_private(tmp_path / "root.pem", b"two")
    assert [entry.name for entry in tmp_path.iterdir()] == ["root.pem"]
    assert (tmp_path / "root.pem").read_bytes() == b"two"


def test_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "root.pem").mkdir()
    with pytest.raises(CertificateError) as caught:
        write_private(tmp_path / "root.pem", b"x")
    assert str(caught.value) == f"cannot write {tmp_path / 'root.pem'}: is a directory; {WRITE_ADVICE}"
    assert [entry.name for entry in tmp_path.iterdir()] == ["root.pem"]


def test_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(CertificateError) as caught:
        write_private(tmp_path / "home" / "root.pem", b"x")
    assert str(caught.value) == f"cannot make folder {tmp_path / 'home'}: not a directory; {WRITE_ADVICE}"


def test_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with ordinary_user(), pytest.raises(CertificateError) as caught:
        make_private_folder(closed / "home")
    assert str(caught.value) == f"cannot make folder {closed / 'home'}: permission denied; {WRITE_ADVICE}"


CRASH_BEFORE_RENAME = """
import os, signal, sys
from pathlib import Path
from edge_certs.files import write_private
def hook(event, arguments):
    if event == "os.rename":
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
write_private(Path(sys.argv[1]), b"new")
"""


def test_process_killed_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "root.pem"
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", CRASH_BEFORE_RENAME, str(path)], env=child_environment(), timeout=30, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    [litter] = [entry for entry in tmp_path.iterdir() if entry != path]
    assert (litter.read_bytes(), mode(litter)) == (b"new", 0o600)


# locked


HOLD_LOCK = """
import sys
from pathlib import Path
from edge_certs.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_lock_file_is_private_and_stays(tmp_path: Path) -> None:
    lock = tmp_path / "locks/dev.lock"
    with locked(lock):
        assert (mode(lock), mode(lock.parent)) == (0o600, 0o700)
    assert lock.exists()


def test_lock_that_is_held_is_refused_after_the_timeout(tmp_path: Path) -> None:
    lock = tmp_path / "dev.lock"
    with locked(lock), pytest.raises(CertificateError) as caught, locked(lock, timeout=0.0):
        pytest.fail("two holders")
    assert str(caught.value) == f"lock {lock}: held by another process for more than 0 s; end that process"


def test_lock_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "dev.lock"
    with ExitStack() as holder:
        holder.enter_context(locked(lock))
        waits: list[float] = []

        def release_instead_of_sleeping(seconds: float) -> None:
            waits.append(seconds)
            holder.close()

        monkeypatch.setattr(time, "sleep", release_instead_of_sleeping)
        with locked(lock):
            assert len(waits) == 1


def test_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    lock = tmp_path / "dev.lock"
    command = [sys.executable, "-c", HOLD_LOCK, str(lock)]
    with subprocess.Popen(
        command, env=child_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(CertificateError, match="held by another process"), locked(lock, timeout=0.0):
            pytest.fail("two holders")
        holder.kill()
    with locked(lock, timeout=0.0):
        assert lock.exists()


def test_lock_in_a_closed_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dev.lock").mkdir()
    with pytest.raises(CertificateError) as caught, locked(tmp_path / "dev.lock"):
        pytest.fail("locked a folder")
    assert str(caught.value) == f"cannot open lock {tmp_path / 'dev.lock'}: is a directory; {WRITE_ADVICE}"


def test_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(CertificateError) as caught, locked(tmp_path / "dev.lock"):
        pytest.fail("locked without locks")
    assert str(caught.value) == f"cannot lock {tmp_path / 'dev.lock'}: no locks available; {WRITE_ADVICE}"
