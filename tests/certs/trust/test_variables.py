from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from pathlib import Path

import certifi
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.errors import CertificateError
from edge_certs.files import MAX_FILE_SIZE, LockHeld, locked, write_public
from edge_certs.trust import variables
from edge_certs.trust.bundle import Source, encode_bundle, encode_pem
from edge_certs.trust.store import TrustStore
from edge_certs.trust.variables import (
    BUNDLE_VARIABLES,
    EXTRA_VARIABLES,
    OF_SERVER,
    encode_merged,
    merged_bundle,
    parse_merged,
    refresh_bundles,
    stale_bundles,
    write_server_trust,
    write_trust,
)
from tests.certs.forge import AUTHORITY, NOW, Forged, forge

ADDED = forge(extensions=[AUTHORITY])
OWN = forge(extensions=[AUTHORITY])
ANOTHER = forge(extensions=[AUTHORITY])


def pem(root: Forged) -> bytes:
    return encode_pem(root.certificate.public_bytes(Encoding.DER)).encode()


def holds(path: Path | None, *roots: Forged) -> list[bool]:
    assert path is not None
    content = path.read_bytes()
    return [pem(root) in content for root in roots]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    TrustStore(home).add([ADDED.certificate], "corp", NOW, "")
    return home


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "own.pem"
    path.write_bytes(OWN.pem)
    return str(path)


def test_every_variable_names_the_one_bundle_and_those_that_add_the_roots_alone(home: Path) -> None:
    trust = write_trust(home, {})
    assert trust.bundle == home / "trust/bundle.pem"
    assert trust.extra == home / "trust/extra.pem"
    expected = dict.fromkeys(BUNDLE_VARIABLES, str(trust.bundle)) | dict.fromkeys(EXTRA_VARIABLES, str(trust.extra))
    assert trust.variables == expected
    assert holds(trust.bundle, ADDED) == holds(trust.extra, ADDED) == [True]
    assert trust.bundle.read_bytes().count(b"BEGIN") > 100
    assert trust.extra.read_bytes().count(b"BEGIN") == 1


def test_postgres_is_left_alone(home: Path) -> None:
    assert "PGSSLROOTCERT" not in write_trust(home, {}).variables


def test_bundle_and_extra_are_readable_for_whoever_mounts_them(home: Path) -> None:
    trust = write_trust(home, {})
    assert trust.extra is not None
    assert [path.stat().st_mode & 0o777 for path in (trust.bundle, trust.extra)] == [0o644, 0o644]


def test_bundle_that_is_there_is_not_written_again(home: Path) -> None:
    before = write_trust(home, {}).bundle.stat()
    after = write_trust(home, {}).bundle.stat()
    # Not all of it: reading the file may change the time of its last access.
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_bundle_follows_what_is_added_and_removed(home: Path) -> None:
    store = TrustStore(home)
    store.add([ANOTHER.certificate], "another", NOW, "")
    assert holds(write_trust(home, {}).bundle, ADDED, ANOTHER) == [True, True]
    store.remove("corp")
    assert holds(write_trust(home, {}).bundle, ADDED, ANOTHER) == [False, True]


def test_without_any_root_nothing_is_named_as_extra(tmp_path: Path) -> None:
    trust = write_trust(tmp_path, {})
    assert trust.extra is None
    assert set(trust.variables) == set(BUNDLE_VARIABLES)
    assert not (tmp_path / "trust/extra.pem").exists()


@pytest.mark.parametrize("name", [*BUNDLE_VARIABLES, *EXTRA_VARIABLES, "SSL_CERT_DIR"])
def test_what_the_operator_set_is_merged_in(name: str, home: Path, own: str) -> None:
    trust = write_trust(home, {name: own})
    assert holds(trust.bundle, ADDED, OWN) == holds(trust.extra, ADDED, OWN) == [True, True]
    assert f"# 1 from the operator's {own}\n".encode() in trust.bundle.read_bytes()


def test_folders_of_the_operator_are_merged_in(home: Path, tmp_path: Path, own: str) -> None:
    (tmp_path / "hashed").mkdir()
    (tmp_path / "hashed/0a1b2c3d.0").write_bytes(ANOTHER.pem)
    trust = write_trust(home, {"SSL_CERT_DIR": f"{tmp_path}/hashed:{tmp_path}/nosuch", "REQUESTS_CA_BUNDLE": own})
    assert holds(trust.bundle, ADDED, OWN, ANOTHER) == [True, True, True]


def test_environment_with_files_of_its_own_has_a_bundle_of_its_own(home: Path, own: str) -> None:
    plain, merged = write_trust(home, {}), write_trust(home, {"SSL_CERT_FILE": own})
    assert plain.bundle != merged.bundle
    assert holds(plain.bundle, OWN) == [False]
    assert write_trust(home, {"REQUESTS_CA_BUNDLE": own}).bundle == merged.bundle


def test_environment_that_names_our_bundle_already_keeps_what_was_merged(home: Path, own: str) -> None:
    first = write_trust(home, {"SSL_CERT_FILE": own})
    second = write_trust(home, first.variables)
    assert second.variables == first.variables
    assert holds(second.bundle, ADDED, OWN) == [True, True]


def test_root_that_was_removed_does_not_come_back_from_our_own_bundle(home: Path) -> None:
    first = write_trust(home, {})
    TrustStore(home).remove("corp")
    assert holds(write_trust(home, first.variables).bundle, ADDED) == [False]


def test_public_file_of_the_operator_needs_no_bundle_of_its_own(home: Path) -> None:
    trust = write_trust(home, {"REQUESTS_CA_BUNDLE": certifi.where()})
    assert trust.bundle == home / "trust/bundle.pem"
    assert trust.variables.keys() == {*BUNDLE_VARIABLES, *EXTRA_VARIABLES}


def test_relative_path_of_the_operator_is_kept_for_other_folders(
    home: Path, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(own).parent)
    trust = write_trust(home, {"SSL_CERT_FILE": "own.pem"})
    assert trust.variables["EDGE_TRUST_MERGED"] == own
    assert holds(trust.bundle, OWN) == [True]


def test_file_of_the_operator_that_is_missing_is_remarked_and_the_rest_goes_on(home: Path, tmp_path: Path) -> None:
    trust = write_trust(home, {"SSL_CERT_FILE": f"{tmp_path}/nosuch"})
    assert holds(trust.bundle, ADDED) == [True]
    [remark] = trust.remarks
    assert remark.startswith(f"SSL_CERT_FILE is not merged: bundle {tmp_path}/nosuch: no such file; ")


@pytest.mark.parametrize("base", ["none", "certifi"])
def test_other_public_roots_have_a_bundle_of_their_own(base: str, home: Path) -> None:
    trust = write_trust(home, {}, base)
    assert trust.bundle.name not in ("bundle.pem", write_trust(home, {}, "both").bundle.name)
    assert trust.bundle.read_bytes().endswith(merged_bundle(home, {}, base))
    assert (trust.bundle.read_bytes().count(b"BEGIN") == 1) is (base == "none")


def test_bundle_alone_writes_nothing(home: Path, own: str) -> None:
    before = sorted(home.rglob("*"))
    content = merged_bundle(home, {"SSL_CERT_FILE": own}, "both")
    assert pem(ADDED) in content
    assert pem(OWN) in content
    assert sorted(home.rglob("*")) == before
    assert content == merged_bundle(home, {"SSL_CERT_FILE": own}, "both")


def test_link_to_our_folder_is_known_as_ours(home: Path, tmp_path: Path) -> None:
    write_trust(home, {})
    (tmp_path / "link").symlink_to(home)
    linked = os.path.join(tmp_path, "link/trust/bundle.pem")
    assert "EDGE_TRUST_MERGED" not in write_trust(home, {"SSL_CERT_FILE": linked}).variables


def test_bundles_that_variables_name_already_follow_what_is_added_and_removed(home: Path, own: str) -> None:
    made = [write_trust(home, {}), write_trust(home, {"SSL_CERT_FILE": own}), write_trust(home, {}, "none")]
    TrustStore(home).remove("corp")
    TrustStore(home).add([ANOTHER.certificate], "another", NOW, "")
    assert refresh_bundles(home) == 3
    assert [holds(trust.bundle, ADDED, ANOTHER, OWN) for trust in made] == [
        [False, True, False],
        [False, True, True],
        [False, True, False],
    ]
    assert [holds(trust.extra, ADDED, ANOTHER) for trust in made] == [[False, True]] * 3
    assert [write_trust(home, {}).bundle, write_trust(home, {"SSL_CERT_FILE": own}).bundle] == [
        trust.bundle for trust in made[:2]
    ]


def test_bundle_of_a_file_that_is_gone_is_written_without_it(home: Path, own: str) -> None:
    trust = write_trust(home, {"SSL_CERT_FILE": own})
    os.unlink(own)
    assert refresh_bundles(home) == 2
    assert holds(trust.bundle, ADDED, OWN) == [True, False]


def test_last_root_that_is_removed_is_not_left_in_any_file(home: Path) -> None:
    trust = write_trust(home, {})
    TrustStore(home).remove("corp")
    refresh_bundles(home)
    assert holds(trust.bundle, ADDED) == holds(trust.extra, ADDED) == [False]


@pytest.mark.parametrize("content", [b"", b"# edge trust recipe: {}\n", b"# edge trust recipe: [\n", b"7\n"])
def test_file_beside_the_bundles_that_is_not_ours_is_left_alone(content: bytes, home: Path) -> None:
    path = home / "trust/bundle-mine.pem"
    path.write_bytes(content)
    assert refresh_bundles(home) == 1
    assert path.read_bytes() == content


def test_nothing_to_refresh_makes_no_folder(tmp_path: Path) -> None:
    assert refresh_bundles(tmp_path / "home") == 0
    assert list(tmp_path.iterdir()) == []


def test_bundle_larger_than_any_file_that_is_taken_in_is_written_again(home: Path) -> None:
    trust = write_trust(home, {})
    trust.bundle.write_bytes(trust.bundle.read_bytes() + b"#" * MAX_FILE_SIZE)
    assert refresh_bundles(home) == 1
    assert holds(trust.bundle, ADDED) == [True]
    assert trust.bundle.stat().st_size < MAX_FILE_SIZE


def test_bundle_is_made_and_written_under_a_lock(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two commands at once: what the slower one had read is not to be written over what the faster one wrote."""
    found: list[bool] = []

    def is_locked() -> bool:
        try:
            with locked(home / "locks/trust-bundles.lock", 0.0):
                return False
        except LockHeld:
            return True

    def encode_seen(sources: Sequence[Source]) -> bytes:
        found.append(is_locked())
        return encode_bundle(sources)

    def write_seen(path: Path, content: bytes) -> None:
        assert found[-1]
        assert is_locked()
        write_public(path, content)

    monkeypatch.setattr(variables, "encode_bundle", encode_seen)
    monkeypatch.setattr(variables, "write_public", write_seen)
    write_trust(home, {})
    assert found == [False, False, True, True]
    write_trust(home, {})
    assert found[4:] == [False, False]


def test_added_root_has_its_bundle_at_once_so_that_a_server_need_not_write(home: Path) -> None:
    assert refresh_bundles(home) == 1
    before = {path: path.stat() for path in home.rglob("*")}
    trust = write_trust(home, {"SSL_CERT_FILE": certifi.where()})
    assert holds(trust.bundle, ADDED) == holds(trust.extra, ADDED) == [True]
    after = {path: path.stat() for path in home.rglob("*")}
    assert {path: (item.st_ino, item.st_mtime_ns) for path, item in after.items()} == {
        path: (item.st_ino, item.st_mtime_ns) for path, item in before.items()
    }


NAMES = ("zürich.pem", "a:b.pem", "100%25:.pem", "a b'c.pem", os.fsdecode(b"\xff.pem"))


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_file_of_the_operator_may_have_any_name(name: str, home: Path, own: str) -> None:
    path = os.path.join(os.path.dirname(own), name)
    os.rename(own, path)
    first = write_trust(home, {"SSL_CERT_FILE": path})
    assert first.bundle.read_bytes().isascii()
    again = write_trust(home, first.variables)
    assert (again.bundle, again.remarks) == (first.bundle, ())
    refresh_bundles(home)
    assert holds(first.bundle, ADDED, OWN) == [True, True]
    assert stale_bundles(home) == []


def test_merged_files_are_named_so_that_they_can_be_read_again() -> None:
    paths = [f"/x/{name}" for name in NAMES]
    assert parse_merged(encode_merged(paths)) == paths
    assert encode_merged(["/etc/own.pem", "/b"]) == "/etc/own.pem:/b"
    assert parse_merged("") == []


RUBBISH = encode_pem(b"0\x03\x02\x01\x05").encode() + b"\n"


@pytest.mark.parametrize("with_root", [True, False])
def test_certificate_that_openssl_cannot_read_is_left_out_and_remarked(
    with_root: bool, home: Path, tmp_path: Path
) -> None:
    """In the bundle, it would keep every client from loading any root."""
    path = tmp_path / "own.pem"
    path.write_bytes(RUBBISH + (OWN.pem if with_root else b""))
    trust = write_trust(home, {"REQUESTS_CA_BUNDLE": str(path)})
    assert holds(trust.bundle, ADDED, OWN) == [True, with_root]
    assert RUBBISH not in trust.bundle.read_bytes()
    ssl.create_default_context(cafile=str(trust.bundle))
    assert trust.remarks == (f"REQUESTS_CA_BUNDLE: {path}: 1 certificates left out: OpenSSL cannot read them",)


def test_bundle_of_a_company_may_be_larger_than_a_certificate(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.pem"
    path.write_bytes(OWN.pem + b"# a word on each root\n" * (MAX_FILE_SIZE // 20))
    assert holds(write_trust(home, {"SSL_CERT_FILE": str(path)}).bundle, OWN) == [True]


def test_comment_in_certifis_own_file_may_be_in_any_script(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cacert.pem"
    path.write_bytes("# Zürich\n".encode() + OWN.pem)
    monkeypatch.setattr(certifi, "where", lambda: str(path))
    assert holds(write_trust(home, {}, "certifi").bundle, OWN) == [True]


def test_folder_that_cannot_be_locked_is_an_error(home: Path) -> None:
    (home / "locks").rename(home / "elsewhere")
    (home / "locks").touch()
    with pytest.raises(CertificateError, match=r"^cannot make folder .*locks: "):
        write_trust(home, {})


def source_of(root: Forged) -> Source:
    return Source("corp.pem", (root.certificate.public_bytes(Encoding.DER),))


def test_bundle_of_one_server_has_its_roots_besides_all_others_and_lies_in_its_folder(
    home: Path, own: str, tmp_path: Path
) -> None:
    before = sorted(home.rglob("*"))
    trust = write_server_trust(tmp_path / "run", home, {"SSL_CERT_FILE": own}, [source_of(ANOTHER)])
    assert holds(trust.bundle, ADDED, OWN, ANOTHER) == [True, True, True]
    assert holds(trust.extra, ADDED, OWN, ANOTHER) == [True, True, True]
    assert trust.bundle.read_bytes().count(b"BEGIN") > 100 > Path(str(trust.extra)).read_bytes().count(b"BEGIN")
    assert {trust.bundle.parent, Path(str(trust.extra)).parent} == {tmp_path / "run"}
    assert {trust.variables[name] for name in BUNDLE_VARIABLES} == {str(trust.bundle)}
    assert {trust.variables[name] for name in EXTRA_VARIABLES} == {str(trust.extra)}
    assert trust.variables["EDGE_TRUST_MERGED"] == own
    assert trust.bundle.read_bytes().startswith(OF_SERVER)
    assert trust.bundle.stat().st_mode & 0o777 == 0o644
    assert (sorted(home.rglob("*")), refresh_bundles(home)) == (before, 1)


def test_bundle_of_one_server_that_is_written_anew_leaves_the_one_before(home: Path, tmp_path: Path) -> None:
    first = write_server_trust(tmp_path, home, {}, [source_of(OWN)])
    again = write_server_trust(tmp_path, home, {}, [source_of(OWN)])
    other = write_server_trust(tmp_path, home, {}, [source_of(ANOTHER)])
    assert first == again != other
    assert holds(first.bundle, OWN, ANOTHER) == [True, False]
    assert holds(other.bundle, OWN, ANOTHER) == [False, True]
