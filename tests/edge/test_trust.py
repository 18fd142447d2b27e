from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.trust import WorkerTrust, worker_trust
from edge_certs.errors import CertificateError
from edge_certs.trust.store import TrustStore
from tests.certs.forge import AUTHORITY, NOW, forge, ordinary_user

ROOT = forge(extensions=[AUTHORITY])


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
