"""`--user` and `--group`: root binds and reads keys, and whoever reads what clients send is somebody else."""

from __future__ import annotations

import contextlib
import errno
import grp
import json
import os
import pwd
import re
import shutil
import signal
import ssl
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from edge import control
from tests.process.acme_site import sites
from tests.process.server import Authority, RawClient, Server, clean_environment, running, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# What it is asked for is what it tries: files to read, sockets to connect to, processes to signal.
APPLICATION = """
import json, os, signal, socket

def attempt(kind, what):
    try:
        if kind == "read":
            with open(what, "rb") as file:
                file.read(1)
        elif kind == "list":
            os.listdir(what)
        elif kind == "connect":
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(what)
        elif kind == "signal":
            os.kill(what, 0)
        elif kind == "become":
            os.setuid(what)
    except OSError as error:
        return error.errno
    return 0

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    asked = json.loads((await receive())["body"] or b"[]")
    answer = {
        "pid": os.getpid(),
        "names": [os.environ.get(name) for name in ("HOME", "USER", "LOGNAME")],
        "roots": os.environ.get("SSL_CERT_FILE", ""),
        "tried": [attempt(*item) for item in asked],
    }
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
"""
DENIED = (errno.EACCES, errno.EPERM)


def account() -> pwd.struct_passwd:
    """Somebody without rights; of all that are there, who is in most groups."""
    others = [item for item in pwd.getpwall() if 0 < item.pw_uid < 60_000] or [pwd.getpwnam("nobody")]
    return max(others, key=lambda item: len(os.getgrouplist(item.pw_name, item.pw_gid)))


def usable_python(environ: Mapping[str, str]) -> str:
    """Return a Python of this version that anybody may run, with what is installed for this one."""
    for python in (sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin") or ""):
        command = [python, "-c", "import sys, edge_backend.process; print(sys.version_info[:2])"]
        with contextlib.suppress(OSError):
            found = subprocess.run(
                command, check=False, capture_output=True, text=True, env=dict(environ), user="nobody", group="nogroup"
            )
            if found.stdout.strip() == str(sys.version_info[:2]):
                return python
    pytest.skip("needs a Python of this version, and a checkout, that the user nobody may read")


class Place:
    """A folder that everybody may enter, and what it takes to serve there as somebody else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o755)
        self.authority = Authority(folder)
        self.authority.key.chmod(0o600)
        (folder / "home").mkdir(mode=0o700)
        self.user = account()
        environ = clean_environment()
        own = sysconfig.get_paths()["purelib"]
        self.environ = {
            "PYTHONPATH": os.pathsep.join((environ["PYTHONPATH"], own)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "EDGE_HOME": str(folder / "home"),
        }
        python = usable_python({**environ, **self.environ})
        self.wrapper: tuple[str, ...] = (
            () if python == sys.executable else ("sh", "-c", 'shift; exec "$0" "$@"', python)
        )

    def serve(self, *arguments: str, **environ: str) -> contextlib.AbstractContextManager[Server]:
        """Serve with TLS on any port, as `user`."""
        options = ["--user", self.user.pw_name, "--cert", str(self.authority.cert), "--bind", "127.0.0.1:0"]
        return running(
            self.folder, APPLICATION, *options, *arguments, wrapper=self.wrapper, environ={**self.environ, **environ}
        )

    def ask(self, server: Server, *attempts: tuple[str, Any]) -> dict[str, Any]:
        body = json.dumps(attempts).encode()
        with RawClient(server.port, self.authority.client_context()) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            status, _, answer = client.receive_response()
        assert status == 200
        return dict(json.loads(answer))


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        yield Place(Path(folder))


def who(pid: int) -> dict[str, list[int]]:
    """The real, effective, saved and file-system ids of a process, and its groups."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: [int(word) for word in lines[name].split()] for name in ("Uid", "Gid", "Groups")}


def expected(user: pwd.struct_passwd, gid: int | None = None) -> dict[str, list[int]]:
    gid = user.pw_gid if gid is None else gid
    groups = sorted(set(os.getgrouplist(user.pw_name, gid)))
    return {"Uid": [user.pw_uid] * 4, "Gid": [gid] * 4, "Groups": groups}


def assert_dropped(server: Server, user: pwd.struct_passwd, gid: int | None = None, others: Sequence[int] = ()) -> None:
    others = others or wait_until(
        lambda: server.workers() and server.edges() and server.children(), "edges and workers run"
    )
    for pid in others:
        wait_until(lambda: who(pid) == expected(user, gid), f"process {pid} is {user.pw_name}: {who(pid)}")  # noqa: B023
    assert who(server.process.pid)["Uid"] == [0] * 4


def test_only_the_master_is_root_and_workers_cannot_get_at_keys(place: Place) -> None:
    options = ("--workers", "2", "--edges", "2", "--access-logfile", str(place.folder / "access.log"))
    with place.serve(*options, "--metrics", f"unix:{place.folder}/metrics") as server:
        wait_until(lambda: len(server.children()) == 4, "two edges and two workers run")
        assert_dropped(server, place.user)
        run_dir = control.find_server({"EDGE_HOME": place.environ["EDGE_HOME"]}).path
        master, [edge, _] = server.process.pid, server.edges()
        attempts: list[tuple[str, Any]] = [
            ("read", str(place.authority.key)),
            *(("read", f"/proc/{pid}/{name}") for pid in (master, edge) for name in ("mem", "environ", "maps")),
            *(("list", f"/proc/{pid}/fd") for pid in (master, edge)),
            ("connect", str(run_dir / "control.sock")),
            ("list", str(run_dir)),
            ("list", place.environ["EDGE_HOME"]),
            ("signal", master),
            ("become", 0),
        ]
        answer = place.ask(server, *attempts)
        refused = dict(zip(attempts, answer["tried"], strict=True))
        assert {item: code for item, code in refused.items() if code not in DENIED} == {}
        assert answer["names"] == [place.user.pw_dir, place.user.pw_name, place.user.pw_name]
        wait_until((place.folder / "access.log").read_text, "the request is logged")
        # What is refused to it is there: the same by root.
        assert place.authority.key.read_bytes()
        status = run_dir.stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, place.user.pw_gid, 0o710)
        status = (place.folder / "metrics").stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, place.user.pw_gid, 0o660)


def served_serial(place: Place, server: Server) -> str:
    with RawClient(server.port, place.authority.client_context()) as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        return str(client.sock.getpeercert()["serialNumber"])  # type: ignore[index]


def test_reload_reads_a_key_that_only_root_may_read(place: Place) -> None:
    with place.serve() as server:
        before, first = served_serial(place, server), place.ask(server)["pid"]
        place.authority.issue("localhost", "localhost", "127.0.0.1")
        place.authority.key.chmod(0o600)
        assert control.reload({"EDGE_HOME": place.environ["EDGE_HOME"]}, timeout=60) == 1
        wait_until(lambda: served_serial(place, server) != before, "the new certificate serves")
        wait_until(lambda: place.ask(server)["pid"] != first, "the new worker serves")
        wait_until(lambda: len(server.children()) == 2, "the old worker has ended")
        assert_dropped(server, place.user)
        assert place.ask(server, ("read", str(place.authority.key)))["tried"] == [errno.EACCES]


def test_whatever_takes_the_place_of_the_dead_is_the_same_user(place: Place) -> None:
    with place.serve() as server:
        for kill in (server.workers, server.edges):
            [pid] = kill()
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: pid not in server.children() and len(server.children()) == 2, "it is replaced")  # noqa: B023
            assert_dropped(server, place.user)
        wait_until(lambda: place.ask(server)["pid"] in server.workers(), "the new ones serve")


def test_server_that_takes_over_drops_what_it_got_back(place: Place) -> None:
    with place.serve("--bind", f"unix:{place.folder}/edge.sock") as server:
        assert stat.S_IMODE((place.folder / "edge.sock").stat().st_mode) == 0o660
        assert (place.folder / "edge.sock").stat().st_gid == place.user.pw_gid
        new = control.ask(control.find_server(place.environ), "upgrade", timeout=60)["pid"]
        text = Path(f"/proc/{new}/task/{new}/children").read_text()
        assert [who(int(pid)) for pid in text.split()] == [expected(place.user)] * 2
        assert place.ask(server, ("read", str(place.authority.key)))["tried"] == [errno.EACCES]


def test_master_needs_four_rights_of_root_and_no_other(place: Place) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv")
    rights = "-all,+chown,+kill,+setgid,+setuid"
    place.wrapper = ("setpriv", "--bounding-set", rights, "--no-new-privs", *place.wrapper)
    with place.serve("--bind", f"unix:{place.folder}/edge.sock") as server:
        held = Path(f"/proc/{server.process.pid}/status").read_text()
        assert re.search(r"^CapEff:\t0*e1$", held, re.MULTILINE)
        assert_dropped(server, place.user)
        place.authority.key.chmod(0o600)
        assert control.reload(place.environ, timeout=60) == 1
        for kill in (server.workers, server.edges):
            pid = kill()[0]
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: pid not in server.children() and len(server.children()) == 2, "it is replaced")  # noqa: B023
        assert_dropped(server, place.user)
        assert control.ask(control.find_server(place.environ), "upgrade", timeout=60)["pid"]
        assert place.ask(server)["names"][1] == place.user.pw_name


def test_group_takes_the_place_of_the_first_one(place: Place) -> None:
    other = next(item for item in grp.getgrall() if item.gr_gid not in (0, place.user.pw_gid))
    with place.serve("--group", other.gr_name) as server:
        assert_dropped(server, place.user, other.gr_gid)


def test_user_may_be_a_number_without_an_account(place: Place) -> None:
    with place.serve("--user", "54321", "--group", "54322") as server:
        assert place.ask(server)["names"] == ["/", "54321", "54321"]
        worker, edge = *server.workers(), *server.edges()
        assert who(worker) == who(edge) == {"Uid": [54321] * 4, "Gid": [54322] * 4, "Groups": [54322]}


def test_workers_can_read_the_roots_that_were_added(place: Place) -> None:
    command = [sys.executable, "-m", "edge", "trust", "add", str(place.authority.root)]
    environ = clean_environment(EDGE_HOME=place.environ["EDGE_HOME"])
    subprocess.run(command, check=True, env=environ, cwd=place.folder, capture_output=True)
    with place.serve() as server:
        bundle = place.ask(server)["roots"]
        assert bundle.startswith(place.environ["EDGE_HOME"])
        assert place.ask(server, ("read", bundle), ("list", str(Path(bundle).parent)))["tried"] == [0, errno.EACCES]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--user", "no-such"], "--user 'no-such': no such user here; use one that exists, or its number"),
        (["--user", "nobody", "--group", "no-such"], "--group 'no-such': no such group here; use one that exists"),
        (["--user", "54321"], "--user '54321': no account has that number, so its group is not known; add --group"),
        (["--user", "root"], "--user 'root': it is root that edges and workers are not to be; use another account"),
        (["--group", "nogroup"], "--group 'nogroup': without --user it is for nothing; add --user"),
    ],
)
def test_user_that_cannot_be_ends_the_start(arguments: list[str], message: str, tmp_path: Path) -> None:
    environ = clean_environment(EDGE_HOME=str(tmp_path / "home"))
    with Server([*arguments, "--port", "0", "application:app"], cwd=tmp_path, environ=environ) as server:
        assert server.wait_end() == 2
        [line] = server.errors
        assert line.startswith(f"edge: {message}")


def test_who_is_not_root_cannot_become_another(place: Place) -> None:
    environ = clean_environment(**place.environ)
    arguments = ["--user", "nobody", "--port", "0", "application:app"]
    gid = place.user.pw_gid
    with Server(
        arguments,
        cwd=place.folder,
        environ=environ,
        wrapper=place.wrapper,
        user=place.user.pw_uid,
        group=gid,
        extra_groups=[gid],
    ) as server:
        assert server.wait_end() == 2
        assert server.errors == [
            "edge: --user 'nobody': only root can become another user; start as root, or leave out --user"
        ]


def test_edges_answer_an_authority_out_of_a_home_that_only_root_may_list(place: Place) -> None:
    pebble = place.folder / "pebble"
    pebble.mkdir()
    with contextlib.contextmanager(sites)(pebble) as site:
        options = ["--acme-directory", site.authority.directory, "--acme-ca-root", str(site.authority.ca_file)]
        options += ["--bind", f"127.0.0.1:{site.tls}", "--http-bind", f"127.0.0.1:{site.http}"]
        options += ["--user", place.user.pw_name, "--acme", "web.test", "--acme", "tls.test"]
        with running(place.folder, APPLICATION, *options, wrapper=place.wrapper, environ=place.environ) as server:
            for name in ("web.test", "tls.test"):
                site.wait_issued(name)
            home = Path(place.environ["EDGE_HOME"])
            assert stat.S_IMODE(home.stat().st_mode) == 0o711
            key = home / "live" / "web.test" / "privkey.pem"
            assert (key.stat().st_uid, stat.S_IMODE(key.stat().st_mode)) == (0, 0o600)
            assert_dropped(server, place.user, others=(*server.workers(), *server.edges()))
            [keeper] = server.keepers()
            assert who(keeper)["Uid"] == [0] * 4  # what makes keys is not whom workers are


def test_python_that_the_user_may_not_run_ends_the_start(place: Place) -> None:
    closed = place.folder / "closed"
    closed.mkdir(mode=0o700)
    link = closed / "python3"
    link.symlink_to(sys.executable)
    (place.folder / "application.py").write_text(APPLICATION)
    environ = clean_environment(**place.environ)
    arguments = ["--user", place.user.pw_name, "--port", "0", "application:app"]
    wrapper = ("sh", "-c", 'shift; exec "$0" "$@"', str(link))
    with Server(arguments, cwd=place.folder, environ=environ, wrapper=wrapper) as server:
        assert server.wait_end() == 2
        assert server.errors[-1] == (
            f"edge: --user {place.user.pw_name!r}: cannot run {link}: permission denied; "
            "let that user read it and what it imports"
        )


def test_home_that_the_user_may_not_enter_ends_the_start_where_it_has_to(place: Place) -> None:
    closed = place.folder / "closed"
    closed.mkdir(mode=0o700)
    options = ["--acme", "example.test", "--acme-directory", "https://127.0.0.1:1/", "--user", place.user.pw_name]
    environ = clean_environment(**{**place.environ, "EDGE_HOME": str(closed / "home")})
    with Server([*options, "application:app"], cwd=place.folder, environ=environ) as server:
        assert server.wait_end() == 2
        [line] = server.errors
        assert f"--user {place.user.pw_name!r}: may not enter {str(closed / 'home')!r}" in line


def test_run_directory_is_where_the_user_may_enter(place: Place) -> None:
    closed = place.folder / "run"
    closed.mkdir(mode=0o700)
    with place.serve(XDG_RUNTIME_DIR=str(closed)) as server:
        assert list(closed.iterdir()) == []
        assert place.ask(server)["pid"] in server.workers()
        assert control.find_server(place.environ).pid == server.process.pid
