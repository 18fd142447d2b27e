from __future__ import annotations

import base64
import os
from hashlib import sha256
from pathlib import Path

import pytest

from edge_certs.trust.survey import (
    Condition,
    Worker,
    changed_certifi,
    read_place,
    read_variables,
    read_workers,
    switched_off,
    writable_by_others,
)
from edge_certs.trust.variables import OF_SERVER
from tests.certs.forge import AUTHORITY, NOBODY, forge, ordinary_user

ROOT = forge(extensions=[AUTHORITY])
OTHER = forge(extensions=[AUTHORITY])


@pytest.mark.parametrize(
    ("content", "condition", "count"),
    [
        (ROOT.pem, Condition.PEM, 1),
        (b"# two\n" + ROOT.pem + OTHER.pem + ROOT.pem, Condition.PEM, 3),
        (b" \n", Condition.EMPTY, 0),
        (ROOT.pem[:200], Condition.DAMAGED, 0),
        (b"0\x82\x01\x00", Condition.DER, 0),
        (ROOT.key_pem, Condition.FOREIGN, 0),
        (b"garbage", Condition.FOREIGN, 0),
    ],
)
def test_file_is_what_its_content_is(content: bytes, condition: Condition, count: int, tmp_path: Path) -> None:
    (tmp_path / "roots").write_bytes(content)
    place = read_place("X", tmp_path / "roots")
    assert (place.name, place.path, place.condition, place.blocks) == ("X", f"{tmp_path}/roots", condition, count)
    assert len(place.certificates) == min(count, 2)


def test_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    assert read_place("X", tmp_path / "nosuch").condition is Condition.MISSING


def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert read_place("X", tmp_path / "pipe").condition is Condition.EMPTY


def test_file_and_folder_that_are_closed_to_us_are_unreadable(open_folder: Path) -> None:
    (open_folder / "roots").write_bytes(ROOT.pem)
    (open_folder / "roots").chmod(0)
    (open_folder / "folder").mkdir(mode=0o311)
    (open_folder / "folder").chmod(0o311)
    with ordinary_user():
        assert read_place("X", open_folder / "roots").condition is Condition.UNREADABLE
        assert read_place("X", open_folder / "folder").condition is Condition.UNREADABLE


@pytest.mark.parametrize(("name", "is_hashed"), [("0a1b2c3d.0", True), ("root.pem", False), ("0a1b2c3d.pem", False)])
def test_folder_is_hashed_when_a_file_has_the_name_of_a_hash(name: str, is_hashed: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(ROOT.pem)
    place = read_place("SSL_CERT_DIR", tmp_path)
    assert (place.condition, place.is_hashed, len(place.certificates)) == (Condition.FOLDER, is_hashed, 1)


def test_variables_are_those_that_are_set_and_each_of_several_paths() -> None:
    environ = {"PIP_CERT": "/a", "SSL_CERT_FILE": "", "DENO_CERT": "/b", "SSL_CERT_DIR": "/c:/d", "HOME": "/e"}
    environ["EDGE_TRUST_MERGED"] = "/f"
    found = [(place.name, place.path) for place in read_variables(environ)]
    assert found == [
        ("PIP_CERT", "/a"),
        ("DENO_CERT", "/b"),
        ("SSL_CERT_DIR", "/c"),
        ("SSL_CERT_DIR", "/d"),
        ("EDGE_TRUST_MERGED", "/f"),
    ]


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"NODE_TLS_REJECT_UNAUTHORIZED": "0"}, ["NODE_TLS_REJECT_UNAUTHORIZED"]),
        ({"NODE_TLS_REJECT_UNAUTHORIZED": "1"}, []),
        ({"GIT_SSL_NO_VERIFY": "True"}, ["GIT_SSL_NO_VERIFY"]),
        ({"GIT_SSL_NO_VERIFY": "0"}, ["GIT_SSL_NO_VERIFY"]),
        ({"GIT_SSL_NO_VERIFY": ""}, ["GIT_SSL_NO_VERIFY"]),
        ({"npm_config_strict_ssl": "False"}, ["npm_config_strict_ssl"]),
        ({"PIP_TRUSTED_HOST": "a.example b.example"}, ["PIP_TRUSTED_HOST"]),
        ({"PIP_TRUSTED_HOST": " "}, []),
        ({"UV_INSECURE_HOST": "a.example"}, ["UV_INSECURE_HOST"]),
        ({}, []),
    ],
)
def test_switch_counts_only_with_the_value_that_switches(environ: dict[str, str], names: list[str]) -> None:
    assert [(item.name, item.undo) for item in switched_off(environ)] == [(name, f"unset {name}") for name in names]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("certifi/cacert.pem,{hash},6\n", False),
        ("certifi/cacert.pem,sha256=AAAA,6\n", True),
        ("certifi/cacert.pem,,\n", False),
        ("certifi/__init__.py,,\n", False),
        ("certifi/gone/cacert.pem,sha256=AAAA,6\n", False),
    ],
)
def test_certifi_is_changed_when_its_file_is_not_the_one_of_the_record(
    record: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = base64.urlsafe_b64encode(sha256(b"roots\n").digest()).rstrip(b"=").decode()
    (tmp_path / "certifi").mkdir()
    (tmp_path / "certifi/cacert.pem").write_bytes(b"roots\n")
    information = tmp_path / "certifi-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: certifi\nVersion: 1\n")
    (information / "RECORD").write_text(record.format(hash=f"sha256={digest}"))
    # Not this environment's own: a company may have changed that one.
    monkeypatch.syspath_prepend(tmp_path)
    assert changed_certifi() is expected


def test_what_others_may_write_is_found(tmp_path: Path) -> None:
    modes = {"ours": 0o644, "group": 0o664, "world": 0o646}
    for name, mode in modes.items():
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    paths = [tmp_path / name for name in (*modes, "nosuch")]
    assert [path.name for path in writable_by_others(paths)] == ["group", "world"]


def test_what_another_user_owns_is_found(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a file away")
    (tmp_path / "theirs").touch()
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    assert writable_by_others([tmp_path / "theirs"]) == [tmp_path / "theirs"]


def process(proc: Path, pid: int, command: bytes, environ: bytes, ticks: int) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "cmdline").write_bytes(command)
    (folder / "environ").write_bytes(environ)
    fields = " ".join(["S", *["0"] * 18, str(ticks), *["0"] * 5])
    (folder / "stat").write_text(f"{pid} (a b) c) {fields}\n")


def test_workers_of_this_home_are_read_from_proc(tmp_path: Path) -> None:
    proc, bundle, home = tmp_path / "proc", tmp_path / "bundle.pem", tmp_path / "home"
    bundle.touch()
    os.utime(bundle, (2000, 2000))
    proc.mkdir()
    ticks = os.sysconf("SC_CLK_TCK")
    worker = b"python\0-P\0-m\0edge_backend\0"
    ours = f"SSL_CERT_FILE={bundle}\0EDGE_HOME={home}\0".encode()
    process(proc, 5, worker, ours, 999 * ticks)
    process(proc, 7, worker, ours, 1001 * ticks)
    process(proc, 8, worker, f"EDGE_HOME={home}\0".encode(), 1001 * ticks)
    process(proc, 9, worker, b"EDGE_HOME=/another\0", 0)
    process(proc, 10, b"python\0server.py\0", ours, 0)
    (proc / "11").mkdir()
    found = [(item.pid, item.bundle, item.is_outdated) for item in read_workers(proc, home, 1000.0)]
    assert found == [(5, str(bundle), True), (7, str(bundle), False), (8, "", True)]


@pytest.mark.parametrize(("state_at", "is_outdated"), [(None, False), (1999, False), (2001, True)])
def test_worker_with_a_bundle_of_its_server_is_as_old_as_that(
    state_at: int | None, is_outdated: bool, tmp_path: Path
) -> None:
    proc, bundle, state = tmp_path / "proc", tmp_path / "bundle.pem", tmp_path / "home/trust/state.json"
    bundle.write_bytes(OF_SERVER + b"and roots")
    os.utime(bundle, (2000, 2000))
    if state_at is not None:
        state.parent.mkdir(parents=True)
        state.touch()
        os.utime(state, (state_at, state_at))
    environ = f"SSL_CERT_FILE={bundle}\0EDGE_HOME={tmp_path / 'home'}\0".encode()
    # Started long after both: it took the place of one that died.
    process(proc, 5, b"python\0-P\0-m\0edge_backend\0", environ, 9999 * os.sysconf("SC_CLK_TCK"))
    assert read_workers(proc, tmp_path / "home", 1000.0) == [Worker(5, str(bundle), is_outdated, is_of_server=True)]


def test_without_proc_there_are_no_workers(tmp_path: Path) -> None:
    assert read_workers(tmp_path / "proc", tmp_path, 0.0) == []
