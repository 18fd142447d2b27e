import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from edge import cli
from edge.config import build_settings
from edge.lookup import find_warnings, look_up, try_import
from edge.workers import plans_for
from tests.process.server import ROOT

NOW = datetime.now(UTC)
APPLICATION = "async def app(scope, receive, send): ...\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "shop.py").write_text(APPLICATION)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(ROOT / part) for part in ("", "backend", "certs")))
    return tmp_path


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(folder: Path, authority: trustme.CA) -> Path:
    issued = authority.issue_cert("shop.example", not_after=NOW + timedelta(days=3, hours=1))
    (folder / "shop.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (folder / "shop.key").write_bytes(issued.private_key_pem.bytes())
    (folder / "shop.key").chmod(0o644)
    return folder / "shop.pem"


def problems(**options: object) -> tuple[str, ...]:
    settings = build_settings({"app": "shop:app", **options})
    return look_up(settings, os.environ, NOW, imports=False).problems


def test_certificates_are_read_as_clients_see_them(certificate: Path) -> None:
    settings = build_settings({"app": "shop:app", "cert": "shop.pem"})
    facts = look_up(settings, os.environ, NOW, imports=True)
    (found,) = facts.certificates
    assert (found.place, found.names, found.days_left(NOW)) == ("shop.pem", ("shop.example",), 3)
    assert (found.key_type, found.key.place, found.key.mode) == ("ecdsa", "shop.key", 0o644)
    assert any("which signed it, is missing" in remark for remark in found.remarks)
    assert facts.listening == ("https://[::]:443", "http://[::]:80")
    assert facts.problems == ()
    assert facts.spool_room > 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "no such file or directory; use a file that this user may read"),
        ("[1]", "not a table of settings; see logging.config in Python's documentation"),
        ("{}", ""),
    ],
)
def test_file_for_logs_is_read_and_nothing_of_it_is_done(folder: Path, text: str | None, reason: str) -> None:
    if text is not None:
        (folder / "logs.json").write_text(text)
    assert problems(log_config="logs.json") == ((f"--log-config logs.json: {reason}",) if reason else ())


def test_rsa_keys_are_measured(folder: Path, authority: trustme.CA) -> None:
    issued = authority.issue_cert("shop.example", key_type=trustme.KeyType.RSA)
    (folder / "rsa.pem").write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    settings = build_settings({"app": "shop:app", "cert": "rsa.pem"})
    (found,) = look_up(settings, os.environ, NOW, imports=False).certificates
    assert (found.key_type, found.key_bits, found.key.place) == ("rsa", 2048, "rsa.pem")


def break_certificate(folder: Path) -> dict[str, object]:
    return {"cert": "nosuch.pem"}


def break_client_authority(folder: Path) -> dict[str, object]:
    return {"cert": "shop.pem", "client_ca": "nosuch-ca.pem"}


def break_owner(folder: Path) -> dict[str, object]:
    return {"uds": "a.sock", "uds_owner": "nosuch-user"}


def break_group(folder: Path) -> dict[str, object]:
    return {"uds": "a.sock", "uds_group": "nosuch-group"}


def break_pid_file(folder: Path) -> dict[str, object]:
    return {"pid": "nosuch-folder/edge.pid"}


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (break_certificate, "certificate nosuch.pem: no such file"),
        (break_client_authority, "client authority nosuch-ca.pem: no such file"),
        (break_owner, "'nosuch-user': no such user or group here"),
        (break_group, "'nosuch-group': no such user or group here"),
        (break_pid_file, "pid file 'nosuch-folder/edge.pid': its folder is not there"),
    ],
)
def test_what_would_keep_it_from_starting_is_found(
    folder: Path, certificate: Path, broken: Callable[[Path], dict[str, object]], reason: str
) -> None:
    (problem,) = problems(**broken(folder))
    assert problem.startswith(reason)


def test_interpreter_that_is_none_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "edge.toml").write_text('[[site]]\n[[site.route]]\napp = "shop:app"\npython = "nosuch-python"\n')
    assert cli.main(["check"]) == 2
    assert "error: python = 'nosuch-python': no program there" in capsys.readouterr().out


def test_root_of_an_upstream_that_is_not_there_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = '[[site]]\n[[site.route]]\npath = "/"\nupstream = "https://a.internal"\nca_root = "nosuch.pem"\n'
    (folder / "edge.toml").write_text(text)
    assert cli.main(["check"]) == 2
    assert "error: CA root nosuch.pem: no such file" in capsys.readouterr().out


def test_root_for_calls_out_is_shown_and_trusted_by_the_import(
    folder: Path, authority: trustme.CA, capsys: pytest.CaptureFixture[str]
) -> None:
    authority.cert_pem.write_to_path(str(folder / "corp.pem"))
    line = (folder / "corp.pem").read_text().splitlines()[4]
    (folder / "shop.py").write_text(
        f"import os\nwith open(os.environ['SSL_CERT_FILE']) as file:\n    assert {line!r} in file.read()\n"
        + APPLICATION
    )
    options = ["check", "shop:app", "--max-connections", "10", "--spool-max", "1MiB", "--outbound-ca", "corp.pem"]
    assert cli.main(options) == 0
    assert "outbound CA: corp.pem, OU=Testing CA #" in capsys.readouterr().out
    assert cli.main([*options, "--json", "--no-import"]) == 0
    [told] = json.loads(capsys.readouterr().out)["outbound_ca"]
    assert (told["file"], len(told["subjects"])) == ("corp.pem", 1)
    assert not (folder / "home").exists()


def test_root_for_calls_out_that_is_of_no_use_is_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "corp.pem").write_text("garbage")
    assert cli.main(["check", "shop:app", "--no-import", "--outbound-ca", "corp.pem"]) == 2
    assert "error: outbound CA corp.pem: not PEM: no line" in capsys.readouterr().out


def test_folder_that_cannot_be_read_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "public").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    assert problems(static=["/=public"])[0].endswith("public': not for this user to read; change its mode")


def test_import_that_takes_too_long_is_given_up(folder: Path) -> None:
    (folder / "slow.py").write_text("import threading\nthreading.Event().wait()\n")
    (plan,) = plans_for(build_settings({"app": "slow:app", "startup_timeout": "500ms"})).values()
    assert (
        try_import(plan).problem == "application 'slow:app': its import took longer than 0.5 s; raise startup_timeout"
    )


def test_interpreter_that_gives_no_answer_is_told(folder: Path) -> None:
    (folder / "gone.py").write_text("import os\nos._exit(7)\n")
    (plan,) = plans_for(build_settings({"app": "gone:app"})).values()
    assert try_import(plan).problem.endswith("ended with 7; see above")


def test_application_that_has_files_sent_is_told_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "shop.py").write_text(APPLICATION + "FIELDS = [(b'X-Accel-Redirect', b'/a')]\n")
    options = ["check", "shop:app", "--max-connections", "10", "--spool-max", "1MiB"]
    assert cli.main(options) == 1
    assert f"warning: application: {folder}/shop.py has files sent by X-Accel-Redirect" in capsys.readouterr().out
    (folder / "files").mkdir()
    assert cli.main([*options, "--sendfile-root", "files"]) == 0


def test_command_says_nothing_is_to_be_mended(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "edge.toml").write_text('[pool]\nworkers = 2\n[[site]]\nhosts = "a.example"\n')
    assert cli.main(["check", "shop:app", "--max-connections", "10", "--spool-max", "1MiB"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "listening on http://127.0.0.1:8000",
        "site a.example",
        "  /  application shop:app, 2 workers",
        "limits: body 100MiB, header fields 32KiB; of each edge process 10 connections, of each worker 100 requests, "
        "1024 that wait",
        "trusted proxies: nobody",
    ]


def test_command_warns_with_an_exit_code_of_its_own(certificate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--cert", "shop.pem", "--max-connections", "10", "--acme", "b.example", "shop:app", "--no-import"]
    assert cli.main(["check", *options]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "certificate for shop.example: 3 days left, ecdsa, shop.pem" in lines
    assert "certificate for b.example: ordered from https://acme-v02.api.letsencrypt.org/directory" in lines
    assert "warning: certificate shop.pem: it expires in 3 days; renew it" in lines
    assert "warning: key shop.key: mode 644, everybody may read it; chmod 600" in lines


def test_command_refuses_with_strict_what_it_warns_of(certificate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--cert", "shop.pem", "--max-connections", "10", "--spool-max", "1MiB", "shop:app", "--no-import"]
    assert cli.main(["check", "--strict", *options]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert "error: key shop.key: mode 644, everybody may read it; chmod 600" in lines
    assert "error: certificate shop.pem: it expires in 3 days; renew it" in lines
    assert not [line for line in lines if line.startswith("warning:")]
    assert cli.main(["check", "--strict", *options[2:]]) == 0


def test_what_strict_refuses_is_judged_by_where_the_server_listens(folder: Path) -> None:
    values = {"app": "shop:app", "acme": "a.example", "acme_challenge": "http-01", "max_connections": 10}
    settings = build_settings({**values, "spool_max": "1MiB", "strict": True, "bind": ":8443", "user": "nobody"})
    (text,) = find_warnings(settings, ["https://[::]:8443"])
    assert text.startswith("acme: http-01 alone, and nothing listens on port 80")
    assert find_warnings(settings, ["https://[::]:443", "http://[::]:80"]) == []


def test_what_cannot_work_in_any_case_is_no_warning(folder: Path) -> None:
    values = {"app": "shop:app", "cert": "nosuch.pem", "max_connections": 10, "spool_max": "1MiB", "strict": True}
    assert find_warnings(build_settings(values), []) == []


def test_command_says_what_would_not_start(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "nosuch:app"]) == 2
    assert "error: application 'nosuch:app': no module named 'nosuch'" in capsys.readouterr().out
    assert cli.main(["check", "nosuch:app", "--no-import", "--max-connections", "10", "--spool-max", "1MiB"]) == 0
    capsys.readouterr()
    assert cli.main(["check", "shop:app", "--max-body", "x"]) == 2
    assert capsys.readouterr().err.startswith("edge: --max-body 'x': not a size")


def test_command_gives_all_of_it_as_json(certificate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--cert", "shop.pem", "shop:app", "--no-import", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["certificates"][0]["days_left"] == 3
    assert told["sites"] == [{"hosts": [], "routes": [{"path": "/", "to": told["sites"][0]["routes"][0]["to"]}]}]
    assert {"warning"} <= {finding["level"] for finding in told["findings"]}
    assert told["limits"]["max_body"] == 100 * 2**20
