"""The folders of other programs, as those programs lay them out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from edge_certs.errors import CertificateError
from edge_certs.imports import Found, Import, Result, adopt, find_certificates, find_mkcert_root, import_certificate
from edge_certs.state import CertificateState, Issuance, Status
from edge_certs.storage import Storage
from tests.certs.forge import DAY, NOW, Forged, forge, ordinary_user


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "home")


def write(leaf: Forged, cert: Path, key: Path) -> None:
    for path, content in ((cert, leaf.pem), (key, leaf.key_pem)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def certbot(folder: Path, *names: str) -> None:
    """`archive/NAME/fullchain1.pem`, to which `live/NAME/fullchain.pem` leads, and a README beside the names."""
    for name in names:
        archive, live = folder / "archive" / name, folder / "live" / name
        write(forge(name), archive / "fullchain1.pem", archive / "privkey1.pem")
        live.mkdir(parents=True)
        for file in ("fullchain", "privkey"):
            (live / f"{file}.pem").symlink_to(f"../../archive/{name}/{file}1.pem")
    (folder / "live" / "README").write_text("This directory contains your keys and certificates.")


def caddy(folder: Path, authority: str, name: str) -> None:
    base = folder / "certificates" / authority / name
    write(forge(name.replace("wildcard_", "*")), base / f"{name}.crt", base / f"{name}.key")
    (base / f"{name}.json").write_text("{}")


def found(path: Path) -> list[tuple[str, str]]:
    return [(item.program, str(item.cert.relative_to(path))) for item in find_certificates(path)]


def imported(path: Path, storage: Storage, *, dry_run: bool = False) -> list[Import]:
    return [import_certificate(item, storage, NOW, dry_run=dry_run) for item in find_certificates(path)]


@pytest.mark.parametrize("part", ["", "live", "live/b.example"])
def test_folder_of_certbot_is_known_from_each_of_its_levels(tmp_path: Path, part: str) -> None:
    certbot(tmp_path, "a.example", "b.example")
    names = ["b.example"] if part.endswith("b.example") else ["a.example", "b.example"]
    base = tmp_path / "live"
    expected = [("certbot", str((base / name / "fullchain.pem").relative_to(tmp_path / part))) for name in names]
    assert found(tmp_path / part) == expected


@pytest.mark.parametrize("part", ["", "certificates"])
def test_folder_of_caddy_is_known(tmp_path: Path, part: str) -> None:
    caddy(tmp_path, "acme-v02.api.letsencrypt.org-directory", "a.example")
    caddy(tmp_path, "local", "wildcard_.b.example")
    (tmp_path / "pki").mkdir()
    assert [program for program, _ in found(tmp_path / part)] == ["caddy", "caddy"]


def test_certificates_of_mkcert_and_of_a_mounted_secret_are_known(tmp_path: Path) -> None:
    write(forge("localhost"), tmp_path / "localhost+2.pem", tmp_path / "localhost+2-key.pem")
    write(forge("a.example"), tmp_path / "tls.crt", tmp_path / "tls.key")
    (tmp_path / "lonely-key.pem").write_bytes(forge().key_pem)
    assert found(tmp_path) == [("mkcert", "localhost+2.pem"), ("cert-manager", "tls.crt")]


def test_key_of_mkcerts_root_is_never_taken(tmp_path: Path) -> None:
    write(forge(), tmp_path / "rootCA.pem", tmp_path / "rootCA-key.pem")
    assert find_mkcert_root(tmp_path) == tmp_path / "rootCA.pem"
    with pytest.raises(CertificateError, match="no certificate of certbot"):
        find_certificates(tmp_path)
    assert find_mkcert_root(tmp_path / "none") is None


def test_file_is_taken_with_the_key_that_was_named(tmp_path: Path) -> None:
    assert find_certificates(tmp_path / "a.pem", tmp_path / "b.key") == [
        Found("file", tmp_path / "a.pem", tmp_path / "b.key")
    ]


def test_folder_without_any_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CertificateError) as caught:
        find_certificates(tmp_path)
    assert str(caught.value) == (
        f"folder {tmp_path}: no certificate of certbot, Caddy, mkcert or cert-manager in it; "
        "name such a folder, as /etc/letsencrypt, or the certificate file itself"
    )


def test_folder_that_is_closed_is_said_to_be(tmp_path: Path) -> None:
    certbot(tmp_path, "a.example")
    (tmp_path / "live").chmod(0o000)
    with ordinary_user(), pytest.raises(CertificateError, match=r": permission denied; run this as a user who may"):
        find_certificates(tmp_path)


def test_what_is_found_is_in_the_storage_then(tmp_path: Path, storage: Storage) -> None:
    certbot(tmp_path, "a.example")
    caddy(tmp_path / "caddy", "local", "wildcard_.b.example")
    results = [*imported(tmp_path, storage), *imported(tmp_path / "caddy", storage)]
    assert [(item.name, item.result) for item in results] == [
        ("a.example", Result.IMPORTED),
        ("*.b.example", Result.IMPORTED),
    ]
    for item in results:
        current = storage.lineage(item.name).current()
        assert current is not None
        assert item.certificate is not None
        assert current.fingerprint == item.certificate.fingerprint
    privkey = storage.home / "live/a.example/privkey.pem"
    assert privkey.resolve().stat().st_mode & 0o777 == 0o600


def test_importing_twice_changes_nothing(tmp_path: Path, storage: Storage) -> None:
    certbot(tmp_path, "a.example")
    imported(tmp_path, storage)
    before = os.readlink(storage.home / "live/a.example")
    assert [item.result for item in imported(tmp_path, storage)] == [Result.UNCHANGED]
    assert os.readlink(storage.home / "live/a.example") == before


def test_dry_run_writes_nothing(tmp_path: Path, storage: Storage) -> None:
    certbot(tmp_path, "a.example")
    assert [item.result for item in imported(tmp_path, storage, dry_run=True)] == [Result.IMPORTED]
    assert not storage.home.exists()


def test_certificate_that_is_valid_for_longer_is_not_replaced(tmp_path: Path, storage: Storage) -> None:
    longer = forge("a.example", dates=(NOW - DAY, NOW + 60 * DAY))
    storage.lineage("a.example").install(longer.pem, longer.key_pem)
    certbot(tmp_path, "a.example")
    [item] = imported(tmp_path, storage)
    assert item.result is Result.REFUSED
    assert item.problem == (
        f"certificate {tmp_path}/live/a.example/fullchain.pem: the one for 'a.example' that is there is valid for "
        "longer; nothing is to be done"
    )


def test_one_that_cannot_be_used_leaves_the_others(tmp_path: Path, storage: Storage) -> None:
    certbot(tmp_path, "a.example", "b.example", "c.example")
    live = tmp_path / "live"
    (live / "a.example/privkey.pem").resolve().write_bytes(forge().key_pem)
    half = live / "b.example/fullchain.pem"
    half.resolve().write_bytes(half.read_bytes()[:200])
    results = imported(tmp_path, storage)
    assert [item.result for item in results] == [Result.REFUSED, Result.REFUSED, Result.IMPORTED]
    assert results[0].problem.startswith(
        f"certificate {live}/a.example/fullchain.pem: the key in {live}/a.example/privkey.pem does not belong to it; "
    )
    assert results[1].problem == f"certificate {half}: line 1: 'CERTIFICATE' begins and never ends; " + (
        "copy the file again, all of it"
    )


def test_certificate_without_names_is_refused(tmp_path: Path, storage: Storage) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    key = ec.generate_private_key(ec.SECP256R1())
    empty = x509.Name([])
    builder = x509.CertificateBuilder(empty, empty, key.public_key()).serial_number(1)
    nameless = Forged(builder.not_valid_before(NOW - DAY).not_valid_after(NOW + DAY).sign(key, SHA256()), key)
    write(nameless, tmp_path / "tls.crt", tmp_path / "tls.key")
    [item] = imported(tmp_path, storage)
    assert (item.result, item.problem) == (
        Result.REFUSED,
        "certificate without a name; get one with subject alternative names",
    )


def test_certificate_of_certbot_is_kept_under_the_name_that_was_asked_for_first(
    tmp_path: Path, storage: Storage
) -> None:
    live = tmp_path / "live/shop.example"
    # As Let's Encrypt has them: sorted.
    write(forge("api.shop.example", "shop.example"), live / "fullchain.pem", live / "privkey.pem")
    [done] = imported(tmp_path, storage)
    assert (done.name, done.result) == ("shop.example", Result.IMPORTED)


def put(storage: Storage, *names: str, under: str = "") -> str:
    leaf = forge(*names)
    storage.lineage(under or names[0]).install(leaf.pem, leaf.key_pem)
    return leaf.certificate.fingerprint(SHA256()).hex()


def test_imported_certificate_is_found_whichever_name_is_first(storage: Storage) -> None:
    fingerprint = put(storage, "api.shop.example", "shop.example")
    adopt(storage, ("shop.example", "api.shop.example"))
    certificate = storage.lineage("shop.example").current()
    assert certificate is not None
    assert certificate.fingerprint == fingerprint
    assert [lineage.name for lineage in storage.lineages()] == ["shop.example"]
    adopt(storage, ("api.shop.example", "shop.example"))
    assert [lineage.name for lineage in storage.lineages()] == ["api.shop.example"]


def test_certificate_that_is_there_is_not_exchanged_for_another(storage: Storage) -> None:
    fingerprint = put(storage, "shop.example")
    put(storage, "api.shop.example", "shop.example")
    adopt(storage, ("shop.example", "api.shop.example"))
    certificate = storage.lineage("shop.example").current()
    assert certificate is not None
    assert certificate.fingerprint == fingerprint


def test_certificate_that_will_not_do_or_that_somebody_keeps_is_left_alone(storage: Storage) -> None:
    put(storage, "api.shop.example")
    put(storage, "www.shop.example", "shop.example")
    kept = Issuance(("www.shop.example", "shop.example"), "https://ca.example/dir", ("http-01",))
    storage.lineage("www.shop.example").save_state(CertificateState(kept, Status.VALID, 0.5))
    damaged = storage.lineage("old.shop.example")
    put(storage, "old.shop.example")
    (damaged.live / "privkey.pem").unlink()
    adopt(storage, ("shop.example", "api.shop.example"))
    adopt(storage, ("shop.example", "www.shop.example"))
    adopt(storage, ("shop.example", "old.shop.example"))
    with storage.locked_names(["api.shop.example"]):
        adopt(storage, ("mail.shop.example", "api.shop.example"))
    assert storage.lineage("shop.example").current() is None
    assert len(storage.lineages()) == 3
