"""What `edge serve --acme` wants kept, and what serves meanwhile."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.acme import KeptCertificates
from edge.config_acme import AcmeSettings
from edge.errors import ConfigError
from edge_certs.errors import CertificateError
from edge_certs.ledger import STAGING
from edge_certs.state import CertificateState, Status
from edge_certs.storage import Storage
from tests.certs.forge import forge

NOW = datetime.now(UTC)


def kept(home: Path, *certificates: tuple[str, ...], **more: object) -> KeptCertificates:
    settings = AcmeSettings(certificates or (("shop.test",),), **more)  # type: ignore[arg-type]
    return KeptCertificates.open(settings, {"EDGE_HOME": str(home)}, "info")


def install(home: Path, *names: str) -> bytes:
    leaf = forge(*names, dates=(NOW, NOW.replace(year=NOW.year + 1)))
    Storage(home).lineage(names[0]).install(leaf.pem, leaf.key_pem)
    return leaf.pem


def test_placeholder_serves_each_name_without_a_certificate(tmp_path: Path) -> None:
    install(tmp_path, "shop.test")
    certificates = kept(tmp_path, ("shop.test", "www.shop.test"), ("other.test",)).load(NOW)
    assert [certificate.names for certificate in certificates] == [("shop.test",), ("www.shop.test",), ("other.test",)]


def test_certificate_is_watched_by_its_link_alone(tmp_path: Path) -> None:
    install(tmp_path, "shop.test")
    found = kept(tmp_path)
    [certificate] = found.load(NOW)
    assert (certificate.cert_path, certificate.key_path) == (None, None)
    [files] = found.files
    assert (files.cert, files.key) == (tmp_path / "live" / "shop.test" / "fullchain.pem", None)


def test_damaged_certificate_is_as_good_as_none_at_the_start_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(tmp_path, "shop.test")
    (tmp_path / "live" / "shop.test" / "privkey.pem").write_text("")
    found = kept(tmp_path)
    with pytest.raises(CertificateError, match="the file is empty"):
        found.load(NOW)
    with caplog.at_level(logging.WARNING, "edge.master"):
        [placeholder] = found.load(NOW, is_start=True)
    assert placeholder.names == ("shop.test",)
    assert caplog.messages[0].startswith("shop.test: certificate not used: key ")


def test_settings_become_what_the_keeper_has_to_know(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(forge().pem)
    settings = AcmeSettings(
        (("Shop.TEST.", "*.shop.test"), ("2001:DB8::1",)),
        email="a@shop.test",
        dns_hook="/bin/hook",
        profile="shortlived",
        chain="Root",
        ca_root=str(tmp_path / "ca.pem"),
    )
    found = KeptCertificates.open(settings, {"EDGE_HOME": str(tmp_path / "home")}, "debug")
    keeper = found.keeper
    assert [each.names for each in keeper.certificates] == [("shop.test", "*.shop.test"), ("2001:db8::1",)]
    assert {(each.profile, each.root, each.dns_hook) for each in keeper.certificates} == {
        ("shortlived", "Root", "/bin/hook")
    }
    assert keeper.authority.contacts == ("a@shop.test",)
    assert keeper.authority.staging == STAGING
    assert keeper.authority.ca_root == str(tmp_path / "ca.pem")
    assert (keeper.home, keeper.log_level) == (tmp_path / "home", "debug")


def test_other_authority_has_no_staging_environment_unless_it_is_named(tmp_path: Path) -> None:
    assert kept(tmp_path, directory="https://ca.test/dir").keeper.authority.staging == ""
    named = kept(tmp_path, directory="https://ca.test/dir", staging="https://ca.test/try")
    assert named.keeper.authority.staging == "https://ca.test/try"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (AcmeSettings((("no name",),)), "name 'no name': not a host name or an IP address; write it as in "),
        (AcmeSettings((("shop.test",), ("Shop.test", "x.test"))), "--acme: 'shop.test' is given twice; leave out one"),
        (AcmeSettings((("a.test",),), eab_kid="k", eab_key="a b"), "--acme-eab-key: 3 characters that are not base64u"),
        (AcmeSettings((("a.test",),), ca_root="/missing.pem"), "CA root /missing.pem: no such file; name a PEM file"),
        (AcmeSettings((("a.test",),), ca_root="/dev/null"), "CA root /dev/null: not a regular file"),
        (AcmeSettings((("a.test",),), directory="https://"), "authority 'https://': not an https URL"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(tmp_path: Path, settings: AcmeSettings, message: str) -> None:
    with pytest.raises((ConfigError, CertificateError)) as caught:
        KeptCertificates.open(settings, {"EDGE_HOME": str(tmp_path / "home")}, "info")
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "home").exists()


def test_challenge_that_nothing_here_can_answer_is_left_out(tmp_path: Path) -> None:
    left = kept(tmp_path, ("a.test",), ("b.test",)).without("http-01")
    assert [each.kinds for each in left.keeper.certificates] == [("tls-alpn-01",)] * 2
    with pytest.raises(ConfigError) as caught:
        kept(tmp_path, challenges=("http-01",)).without("http-01")
    assert str(caught.value) == "--acme-challenge http-01: no listener for plain HTTP; add --http-bind :80"


def test_operator_is_told_which_names_have_no_certificate(tmp_path: Path) -> None:
    install(tmp_path, "a.test")
    assert kept(tmp_path, ("a.test",)).remark == ""
    assert kept(tmp_path, ("a.test",), ("b.test", "c.test"), ("d.test",)).remark == (
        "no certificate yet for b.test, c.test, d.test: it is ordered now, and a self-signed one serves until then"
    )


def test_status_says_what_is_known(tmp_path: Path) -> None:
    found = kept(tmp_path, ("a.test",), ("b.test",), ("c.test",))
    storage = Storage(tmp_path)
    state = CertificateState(
        found.keeper.certificates[0], Status.FAILED, 0.5, datetime(2027, 3, 1, tzinfo=UTC), "because", "it failed"
    )
    storage.lineage("a.test").save_state(state)
    (tmp_path / "state" / "b.test.json").write_text("{")
    first, second, third = found.status()
    assert first == {
        "name": "a.test",
        "names": ("a.test",),
        "status": "failed",
        "not_after": None,
        "next_at": "2027-03-01T00:00:00+00:00",
        "reason": "because",
        "last_error": "it failed",
    }
    assert second["status"] == "failed"
    assert "damaged" in str(second["last_error"])
    assert third == {"name": "c.test", "status": "missing", "last_error": ""}
