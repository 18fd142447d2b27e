"""Which certificate a client of `--dev` gets, by the name that it asks for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.certificates import DevMaker
from edge.config_tls import TlsSettings
from edge_certs.ca import LocalAuthority
from edge_certs.errors import CertificateError
from edge_certs.x509 import parse_chain
from tests.certs.forge import NOW


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def maker(home: Path, monkeypatch: pytest.MonkeyPatch) -> DevMaker:
    monkeypatch.setenv("EDGE_HOME", str(home))
    return DevMaker.open(TlsSettings(dev=True, dev_names=("api.test", "*.shop.internal", "10.0.0.7")))


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        (None, ""),
        ("localhost", ""),
        ("LOCALHOST.", ""),
        ("app.localhost", "app.localhost"),
        ("App.LocalHost.", "app.localhost"),
        ("deep.app.localhost", "deep.app.localhost"),
        ("with_underscore.localhost", "with_underscore.localhost"),
        ("api.test", ""),
        ("x.api.test", ""),
        ("de.shop.internal", "de.shop.internal"),
        ("shop.internal", ""),
        ("www.example.com", ""),
        (".localhost", ""),
        ("-.localhost", ""),
        ("a..localhost", ""),
        ("*.localhost", ""),
        ("app.localhost.example.com", ""),
        (f"{'a' * 64}.localhost", ""),
    ],
)
def test_name_is_chosen_for_a_client(maker: DevMaker, asked: str | None, chosen: str) -> None:
    assert maker.choose(asked) == chosen


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True),
        ("app.localhost", True),
        ("api.test", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("10.0.0.7", True),
        ("10.0.0.8", False),
        ("www.example.com", False),
    ],
)
def test_hosts_that_are_served_are_known(maker: DevMaker, host: str, known: bool) -> None:
    assert maker.is_known(host) is known


def test_first_certificate_has_every_name(maker: DevMaker) -> None:
    names = ("localhost", "*.localhost", "api.test", "*.shop.internal", "127.0.0.1", "::1", "10.0.0.7")
    assert maker.make("").names == names
    assert maker.make("app.localhost").names == ("app.localhost",)


def test_what_signs_is_an_intermediate_and_never_the_root(maker: DevMaker, home: Path) -> None:
    [_, signer] = parse_chain(maker.make("").chain_pem)
    root = (home / "dev/root.pem").read_bytes()
    assert signer != parse_chain(root)[0]
    signer.verify_directly_issued_by(parse_chain(root)[0])
    assert "key" not in repr(maker).lower()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("www.example.com", "name 'www.example.com': the local root may sign only for localhost, test, internal"),
        ("8.8.8.8", "name '8.8.8.8': the local root may sign only for"),
        ("https://x.test", "name 'https://x.test': neither a host name in ASCII nor an IP address"),
    ],
)
def test_name_that_the_root_may_not_sign_is_refused(
    name: str, found: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_HOME", str(home))
    maker = DevMaker.open(TlsSettings(dev=True, dev_names=(name,)))
    with pytest.raises(CertificateError) as caught:
        maker.make("")
    assert str(caught.value).startswith(found)


def test_intermediate_of_a_container_takes_the_place_of_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_HOME", str(tmp_path / "empty"))
    now = datetime.now(UTC)
    intermediate = LocalAuthority.open(tmp_path / "host", now).delegate(now)
    path = tmp_path / "authority.pem"
    path.write_bytes(intermediate.encode())
    maker = DevMaker.open(TlsSettings(dev=True, dev_authority=str(path)))
    assert parse_chain(maker.make("").chain_pem)[1] == intermediate.certificate
    assert not (tmp_path / "empty").exists()
    assert maker.remark.startswith(f"certificate for localhost signed by {path}, valid until ")


def test_expired_intermediate_is_refused_with_its_cure(tmp_path: Path) -> None:
    past = NOW.replace(year=2020)
    path = tmp_path / "authority.pem"
    path.write_bytes(LocalAuthority.open(tmp_path, past).delegate(past).encode())
    with pytest.raises(CertificateError) as caught:
        DevMaker.open(TlsSettings(dev=True, dev_authority=str(path)))
    assert str(caught.value).startswith(f"dev authority {path}: expired at 2020-03-31T12:00Z, now is ")
    assert str(caught.value).endswith("; make it again on the machine that has the root: edge compose init")
