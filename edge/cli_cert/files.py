"""`edge cert import` and `edge cert export`: from other programs' folders, and into other programs' forms."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli_cert.output import (
    dry_option,
    explained,
    home,
    json_option,
    named,
    now,
    print_json,
    print_table,
    printable,
)
from edge.errors import ConfigError

if TYPE_CHECKING:
    from edge_certs.exports import ExportedFile
    from edge_certs.imports import Import
    from edge_certs.x509 import Certificate

# `edge_certs.exports.FORMATS`, written out so that --help does not load it; a test holds them together.
FORMATS = ("pem", "pkcs12", "kubernetes", "secret")


@click.command("import")
@click.argument("path", metavar="FOLDER|FILE")
@click.option("--key", "key_file", metavar="FILE", help="Private key of the file [default: beside it, or inside it]")
@dry_option
@json_option
def import_command(path: str, key_file: str | None, dry_run: bool, as_json: bool) -> int:
    """Copy certificates that certbot, Caddy, mkcert or cert-manager keep, or a file, into edge's storage."""
    from edge_certs.imports import Result, find_certificates, find_mkcert_root, import_certificate
    from edge_certs.storage import Storage

    folder = Path(path)
    with named():
        root = find_mkcert_root(folder)
        found = find_certificates(folder, Path(key_file) if key_file else None) if root is None else _pairs(folder)
    with explained():
        storage = Storage(home())
        moment = now()
        done = [import_certificate(each, storage, moment, dry_run=dry_run) for each in found]
    note = "" if root is None else _trust_root(root, dry_run=dry_run)
    if as_json:
        print_json({"certificates": [_encode(item) for item in done], "dry_run": dry_run})
    else:
        for item in done:
            click.echo(_line(item, dry_run=dry_run), err=item.result is Result.REFUSED)
    if note:
        click.echo(note, err=as_json)
    return int(any(item.result is Result.REFUSED for item in done))


def _pairs(folder: Path) -> list[Any]:
    """In mkcert's CAROOT there need be no other certificate than the root."""
    from edge_certs.errors import CertificateError
    from edge_certs.imports import find_certificates

    try:
        return list(find_certificates(folder))
    except CertificateError:
        return []


def _trust_root(root: Path, *, dry_run: bool) -> str:
    """Let the application trust what mkcert signed; what edge itself signs comes from a root that can do less harm."""
    from edge_certs.files import read_file
    from edge_certs.trust.anchors import parse_anchors
    from edge_certs.trust.store import TrustStore
    from edge_certs.trust.variables import refresh_bundles

    with explained():
        certificates = parse_anchors(read_file(root, "root certificate"))
        store = TrustStore(home())
        change = store.plan if dry_run else store.add
        additions = change(certificates, "mkcert", now(), "")
        if not dry_run:
            refresh_bundles(home())
    verb = "would trust" if dry_run else "trusts"
    if not any(item.is_new for item in additions):
        verb = "unchanged: trusts"
    return (
        f"{verb} mkcert's root in what calls out (label 'mkcert'); its key, which can sign for every site, stays where "
        "it is: edge cert dev --install makes browsers trust edge's own root"
    )


def _line(item: Import, *, dry_run: bool) -> str:
    from edge_certs.imports import Result

    if item.result is Result.REFUSED:
        return f"refused {item.problem}"
    assert item.certificate is not None
    verb = "would import" if dry_run and item.result is Result.IMPORTED else item.result.value
    names = ", ".join(item.certificate.names)
    return printable(f"{verb} {names} from {item.found.program}, valid until {item.certificate.not_after.date()}")


def _encode(item: Import) -> dict[str, Any]:
    certificate = item.certificate
    return {
        "name": item.name,
        "names": list(certificate.names) if certificate else [],
        "program": item.found.program,
        "file": str(item.found.cert),
        "result": item.result.value,
        "problem": item.problem,
        "not_after": certificate.not_after.isoformat() if certificate else None,
    }


@click.command("export")
@click.argument("name", metavar="NAME|FILE")
@click.option("--format", "kind", type=click.Choice(FORMATS), default="pem", help="What to write [default: pem]")
@click.option("--out", metavar="FOLDER", default=".", help="Where to write it [default: the current folder]")
@click.option("--key", "key_file", metavar="FILE", help="Private key of the file [default: beside it, or inside it]")
@click.option("--password-file", metavar="FILE", help="First line is the password of the PKCS#12 file; - is stdin")
@click.option("--secret-name", metavar="NAME", help="Name of the Kubernetes Secret [default: made of the first name]")
@dry_option
@json_option
def export_command(
    name: str,
    kind: str,
    out: str,
    key_file: str | None,
    password_file: str | None,
    secret_name: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Write a certificate and its key as PEM files, PKCS#12, a Kubernetes mount, or the manifest of a Secret."""
    from edge_certs.files import write_private, write_public

    with named():
        certificate = _certificate(name, key_file)
        files = _exported(certificate, kind, password_file, secret_name)
    with explained():
        for file in files if not dry_run else ():
            write = write_private if file.is_secret else write_public
            write(Path(out) / file.name, file.content)
    rows = [(str(Path(out) / file.name), "0600" if file.is_secret else "0644") for file in files]
    if as_json:
        print_json({"files": [{"path": path, "mode": mode} for path, mode in rows], "dry_run": dry_run})
    else:
        print_table(("would write" if dry_run else "written", "mode"), rows)
    return 0


def _certificate(name: str, key_file: str | None) -> Certificate:
    from edge_certs.csr import parse_name
    from edge_certs.errors import CertificateError
    from edge_certs.storage import Storage
    from edge_certs.x509 import read_certificate

    if Path(name).is_file():
        return read_certificate(Path(name), Path(key_file) if key_file else None, now())
    lineage = Storage(home()).lineage(parse_name(name))
    if (certificate := lineage.current()) is None:
        raise CertificateError(f"certificate {name!r}: neither in the storage nor a file", "see edge cert list")
    return certificate


def _exported(certificate: Certificate, kind: str, password_file: str | None, name: str | None) -> list[ExportedFile]:
    from edge_certs import exports

    match kind:
        case "pkcs12":
            return exports.export_pkcs12(certificate, _password(password_file))
        case "kubernetes":
            return exports.export_kubernetes(certificate)
        case "secret":
            return exports.export_secret(certificate, name or exports.secret_name(certificate))
        case _:
            return exports.export_pem(certificate)


def _password(file: str | None) -> str:
    if file == "-":
        return sys.stdin.readline().rstrip("\r\n")
    if file is not None:
        from edge_certs.files import read_file

        return read_file(Path(file), "password").decode("utf-8", "replace").partition("\n")[0].rstrip("\r")
    if not sys.stdin.isatty():
        raise ConfigError("--format pkcs12: no password; give it with --password-file FILE, or on a terminal")
    password: str = click.prompt("Password of the PKCS#12 file", hide_input=True, confirmation_prompt=True, err=True)
    return password
