"""One attempt to get a certificate: the account, what is trusted on the way, and what is handed over."""

from __future__ import annotations

import ssl
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from edge_certs.errors import CertificateError
from edge_certs.files import LockHeld
from edge_certs.issuance import ACCOUNT_TIMEOUT, Purpose, rotate, trusted_context
from edge_certs.jws import AccountKey
from edge_certs.settings import AuthoritySettings, KeeperSettings
from edge_certs.storage import Account
from edge_certs.trust.anchors import parse_anchors
from edge_certs.trust.store import TrustStore
from tests.certs.forge import NOW
from tests.certs.keeping import Bench, keeping


def test_settings_come_back_as_they_were_handed_over(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        authority = replace(bench.settings, kid="kid-1", mac_key="a2V5")
        settings = KeeperSettings(tmp_path, authority, (bench.issuance, bench.want("b.example", root="Root")), "debug")
        line = settings.encode()
        assert line.count(b"\n") == 1
        assert KeeperSettings.decode(line) == settings
        assert "a2V5" not in repr(settings)

    keeping(tmp_path, act)


def test_binding_is_there_when_the_authority_gave_one() -> None:
    assert AuthoritySettings("https://ca.example/dir").binding is None
    binding = AuthoritySettings("https://ca.example/dir", kid="kid-1", mac_key="a2V5").binding
    assert binding is not None
    assert (binding.kid, binding.mac_key) == ("kid-1", b"key")


@pytest.mark.parametrize(("failures", "first"), [(0, "a"), (1, "b"), (2, "c"), (3, "a")])
def test_another_challenge_is_first_after_each_failure(failures: int, first: str) -> None:
    assert rotate(("a", "b", "c"), failures)[0] == first
    assert sorted(rotate(("a", "b", "c"), failures)) == ["a", "b", "c"]


def test_no_challenge_stays_none() -> None:
    assert rotate((), 3) == ()


def test_account_is_waited_for_while_another_process_makes_it(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        folder = bench.storage.authority(bench.issuance.directory)
        made = Account(bench.issuance.directory, "https://ca.example/acct/9", (), AccountKey.generate())
        issuer = bench.restart().issuer
        with ExitStack() as held:
            held.enter_context(folder.locked())

            async def other(seconds: float) -> None:
                folder.save(made)
                held.close()

            issuer.sleep = other
            async with issuer.client(bench.issuance.directory) as client:
                assert client.session.account == made.url
        assert bench.authority.production.count("account") == 0

    keeping(tmp_path, act)


def test_account_that_another_process_keeps_is_given_up(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        issuer = bench.restart().issuer
        with bench.storage.authority(bench.issuance.directory).locked(), pytest.raises(LockHeld):
            async with issuer.client(bench.issuance.directory):
                pass
        assert bench.clock.now() > NOW + ACCOUNT_TIMEOUT

    keeping(tmp_path, act)


def test_roots_that_were_added_are_trusted_on_the_way(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        bench.settings = replace(bench.settings, ca_root="")
        state = await bench.settle()
        assert "its certificate is not trusted" in state.last_error
        roots = parse_anchors((tmp_path / "ca.pem").read_bytes())
        TrustStore(bench.storage.home).add(roots, "corp", NOW, "")
        await bench.wait()
        assert bench.certificate.names == bench.issuance.names

    keeping(tmp_path, act)


def test_root_of_a_private_authority_is_the_only_one(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    assert len(trusted_context(tmp_path, {}, str(tmp_path / "ca.pem")).get_ca_certs()) == 1
    context = trusted_context(tmp_path, {}, "")
    assert len(context.get_ca_certs()) > 50
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_root_that_cannot_be_read_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(CertificateError, match=r"^CA file .*/ca\.pem: no certificates can be read from it; name a PEM"):
        trusted_context(tmp_path, {}, str(tmp_path / "ca.pem"))


def test_rehearsal_leaves_no_certificate(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        certificate = await bench.restart().issuer.obtain(bench.issuance, Purpose(is_staging=True))
        assert certificate.names == bench.issuance.names
        assert bench.storage.lineage(bench.issuance.names[0]).current() is None
        assert bench.storage.lineage(bench.issuance.names[0]).order() is None

    keeping(tmp_path, act)
