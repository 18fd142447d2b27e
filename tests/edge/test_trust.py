from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from edge.trust import Outbound, WorkerTrust, worker_trust
from edge_certs.errors import CertificateError
from edge_certs.pem import parse_blocks
from edge_certs.trust.outbound import outbound_context
from edge_certs.trust.store import TrustStore
from tests.certs.forge import AUTHORITY, DAY, NOW, forge, ordinary_user

ROOT = forge(extensions=[AUTHORITY])
CORPORATE = trustme.CA().cert_pem.bytes()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    TrustStore(tmp_path / "home").add([ROOT.certificate], "corp", NOW, "")
    return tmp_path / "home"


def test_without_added_roots_workers_have_the_environment_as_it_is_and_nothing_is_written(tmp_path: Path) -> None:
    environ = {"EDGE_HOME": str(tmp_path / "home"), "SSL_CERT_FILE": "/own.pem"}
    assert worker_trust(environ) == WorkerTrust(environ, "")
    assert list(tmp_path.iterdir()) == []


def test_with_an_added_root_workers_are_told_of_a_bundle_with_it(home: Path) -> None:
    trust = worker_trust({"EDGE_HOME": str(home), "LANG": "C"})
    assert trust.ca_bundle == trust.environ["SSL_CERT_FILE"] == trust.environ["REQUESTS_CA_BUNDLE"]
    assert (trust.environ["LANG"], trust.environ["EDGE_HOME"]) == ("C", str(home))
    assert ROOT.pem in Path(trust.ca_bundle).read_bytes()


def test_what_cannot_be_merged_is_logged(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "edge.master"):
        worker_trust({"EDGE_HOME": str(home), "SSL_CERT_FILE": "/nosuch.pem"})
    warning, information = caplog.messages
    assert warning.startswith("trust: SSL_CERT_FILE is not merged: bundle /nosuch.pem: no such file")
    assert information.startswith("trust: workers call out with 1 added roots and all public ones, in ")


def test_damaged_store_ends_the_start(home: Path) -> None:
    (home / "trust/state.json").write_text("{")
    with pytest.raises(CertificateError, match="damaged"):
        worker_trust({"EDGE_HOME": str(home)})


@pytest.fixture
def closed_home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        TrustStore(Path(folder)).add([ROOT.certificate], "corp", NOW, "")
        yield Path(folder)


def test_home_of_another_user_is_warned_of_and_the_start_goes_on(
    closed_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    environ = {"EDGE_HOME": str(closed_home)}
    with ordinary_user():
        assert worker_trust(environ) == WorkerTrust(environ, "")
    assert caplog.messages == [f"trust: this user may not read {closed_home}/trust; workers start without added roots"]


def test_user_without_a_home_has_added_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4294967000)
    assert worker_trust({"LANG": "C"}) == WorkerTrust({"LANG": "C"}, "")


@pytest.fixture
def corporate(tmp_path: Path) -> Path:
    path = tmp_path / "corp.pem"
    path.write_bytes(CORPORATE)
    return path


def blocks(content: bytes) -> set[bytes]:
    return {block.pem for block in parse_blocks(content)}


def test_root_of_this_server_is_in_the_bundle_of_its_run_directory(
    home: Path, corporate: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = sorted(home.rglob("*"))
    outbound = Outbound.read([corporate], tmp_path / "run")
    with caplog.at_level(logging.INFO, "edge.master"):
        trust = worker_trust({"EDGE_HOME": str(home)}, None, outbound)
    assert Path(trust.ca_bundle).parent == tmp_path / "run"
    assert trust.environ["SSL_CERT_FILE"] == trust.environ["REQUESTS_CA_BUNDLE"] == trust.ca_bundle
    assert blocks(CORPORATE) | blocks(ROOT.pem) < blocks(Path(trust.ca_bundle).read_bytes())
    assert sorted(home.rglob("*")) == before
    assert caplog.messages == [
        f"trust: workers call out with 1 added roots and those of {corporate} and all public ones, in {trust.ca_bundle}"
    ]


def test_user_without_a_home_trusts_the_root_of_this_server(
    corporate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbound = Outbound.read([corporate], tmp_path / "run")
    monkeypatch.setattr(os, "geteuid", lambda: 4294967000)
    trust = worker_trust({"LANG": "C"}, None, outbound)
    assert blocks(CORPORATE) < blocks(Path(trust.ca_bundle).read_bytes())


def test_without_the_option_nothing_is_written_into_the_run_directory(tmp_path: Path) -> None:
    environ = {"EDGE_HOME": str(tmp_path / "home")}
    outbound = Outbound.read([], tmp_path)
    outbound.publish()
    assert worker_trust(environ, None, outbound) == WorkerTrust(environ, "")
    assert list(tmp_path.iterdir()) == []


def test_process_that_renews_certificates_trusts_what_is_published_now(corporate: Path, tmp_path: Path) -> None:
    home, own = tmp_path / "home", tmp_path / "own.pem"
    own.write_bytes(trustme.CA().cert_pem.bytes())
    outbound = Outbound.read([corporate], tmp_path / "run")
    environ = outbound.of_keeper({"EDGE_TRUST_MERGED": str(own), "LANG": "C"})
    assert environ["LANG"] == "C"

    def count() -> int:
        return len(outbound_context(home, environ).get_ca_certs())

    without = count()
    outbound.publish()
    assert count() == without + 1
    Outbound(tmp_path / "run").publish()
    assert count() == without
    assert without == len(outbound_context(home, {"EDGE_TRUST_MERGED": str(own)}).get_ca_certs())


def test_what_is_wrong_with_a_root_and_leaves_it_of_use_is_logged(
    corporate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    today = datetime.now(UTC)
    corporate.write_bytes(forge(extensions=[AUTHORITY], dates=(today - DAY, today + DAY)).pem)
    monkeypatch.setattr("sys.version_info", (3, 13))
    Outbound.read([corporate], tmp_path / "run")
    assert f"outbound CA {corporate}: 'CN=Shop.Example': no key usage: Python 3.13" in caplog.text
