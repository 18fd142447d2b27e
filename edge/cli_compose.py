"""`edge compose`: local HTTPS that is trusted, between containers and from the host."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge.cli_group import Commands
from edge.cli_trust.output import dry_option, explained, json_option, print_json
from edge.errors import ConfigError

if TYPE_CHECKING:
    from edge_certs.compose import Project
    from edge_certs.intermediate import Intermediate

# In the order in which Compose itself looks for them.
FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
OVERRIDE = "compose.override.yaml"
HEADING = "# Made by edge compose init; run that again to renew it, and whenever services change.\n"


@click.group("compose", cls=Commands, invoke_without_command=True)
@click.pass_context
def compose_group(context: click.Context) -> int:
    """Trusted local HTTPS in a compose project."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        return ConfigError.exit_code
    return 0


@compose_group.command("init")
@click.option("--file", "-f", metavar="FILE", help=f"The compose file [default: {FILES[0]} and its other names]")
@click.option("--edge", "edges", multiple=True, metavar="SERVICE", help="Service with edge [default: by command]")
@dry_option
@json_option
def init_command(file: str | None, edges: tuple[str, ...], dry_run: bool, as_json: bool) -> int:
    """Write what mounts an intermediate of the local root into services with edge, and lets all services trust it.

    Beside the compose file: compose.override.yaml, which Compose reads by itself, and a folder .edge, which is to stay
    out of version control. The intermediate lives for 30 days; the key of the root never enters a container.
    """
    from edge_certs.compose import make_override

    path = _find(file)
    project = _read(path, edges)
    override = path.with_name(OVERRIDE)
    _check_ours(override)
    user, group = _owner()
    content = HEADING + _dump(make_override(project, f"{user}:{group}"))
    with explained():
        files, until = _files(path.parent, override, content, dry_run=dry_run)
    if as_json:
        rows = {"edges": project.names, "files": [str(item) for item in files], "dry_run": dry_run}
        print_json({**rows, "valid_until": until.isoformat()})
        return 0
    for item in files:
        click.echo(f"{'would write' if dry_run else 'written'} {item}")
    for service, name in project.names.items():
        click.echo(f"service {service} is https://{name} for the others")
    click.echo(f"the intermediate is valid until {until.date()}; then, or earlier: edge compose init")
    return 0


def _find(file: str | None) -> Path:
    if file is not None and not os.path.lexists(file):
        raise ConfigError(f"compose file {file}: no such file; correct --file")
    if file is not None:
        return Path(file)
    found = next((Path(name) for name in FILES if os.path.lexists(name)), None)
    if found is None:
        raise ConfigError(f"no {FILES[0]} here; run it where that is, or name the file with --file")
    return found


def _read(path: Path, edges: tuple[str, ...]) -> Project:
    import yaml

    from edge_certs.compose import read_project
    from edge_certs.errors import CertificateError, naming, place
    from edge_certs.files import read_file

    try:
        content = yaml.load(read_file(path, "compose file"), _loader())
        with naming(f"compose file {place(path)}"):
            if not isinstance(content, Mapping):
                raise CertificateError("no services in it", "name a compose file with --file")
            return read_project(content, edges)
    except yaml.YAMLError as error:
        words = " ".join(str(error).split())
        raise ConfigError(f"compose file {place(path)}: not YAML: {words}; correct it") from None
    except CertificateError as error:
        raise ConfigError(str(error)) from error


def _loader() -> Any:
    """A loader that passes over Compose's own tags (`!reset`, `!override`): they are for merging."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_multi_constructor("!", lambda loader, suffix, node: None)
    return Loader


def _check_ours(override: Path) -> None:
    if override.exists() and not override.read_text("utf-8", "replace").startswith(HEADING.partition(";")[0]):
        raise ConfigError(
            f"{override}: not made by edge compose init, so it stays; move it to a file of another name, and "
            "name that with docker compose -f"
        )


def _files(folder: Path, override: Path, content: str, *, dry_run: bool) -> tuple[list[Path], datetime]:
    """Write what is missing or will not do for long, and return it with the instant at which the intermediate ends."""
    from edge_certs.ca import LocalAuthority
    from edge_certs.compose import AUTHORITY, BUNDLE, FOLDER, ROOTS
    from edge_certs.files import edge_home, write_private, write_public

    now = datetime.now(UTC)
    home = edge_home(os.environ)
    own = folder / FOLDER
    if dry_run:
        from edge_certs.intermediate import INTERMEDIATE_LIFETIME

        return [own / AUTHORITY, own / BUNDLE, own / ROOTS, override], now + INTERMEDIATE_LIFETIME
    authority = LocalAuthority.open(home, now).delegate(now)
    write_public(own / ".gitignore", b"*\n")
    write_private(own / AUTHORITY, authority.encode())
    if os.geteuid() == 0:
        os.chown(own / AUTHORITY, *_owner())
    bundle, roots = _bundles(home, authority)
    write_public(own / BUNDLE, bundle)
    write_public(own / ROOTS, roots)
    # The folder itself is closed to others, as it is made; a container's user passes it by the mount.
    write_public(override, content.encode())
    written = [own / AUTHORITY, own / BUNDLE, own / ROOTS, override]
    return written, authority.certificate.not_valid_after_utc


def _owner() -> tuple[int, int]:
    """Who may read the intermediate, and so whom containers run as."""
    from edge_certs.compose import IMAGE_USER

    return (os.geteuid(), os.getegid()) if os.geteuid() else (IMAGE_USER, IMAGE_USER)


def _bundles(home: Path, authority: Intermediate) -> tuple[bytes, bytes]:
    """All roots, and those that are not public."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from edge_certs.trust.bundle import Source, encode_bundle, read_base
    from edge_certs.trust.store import TrustStore

    added = [anchor.certificate for anchor in TrustStore(home).anchors()]
    own = [
        Source("edge trust", tuple(each.public_bytes(Encoding.DER) for each in added)),
        Source("the local root", (authority.root.public_bytes(Encoding.DER),)),
    ]
    return encode_bundle([*read_base("both"), *own]), encode_bundle(own)


def _dump(content: Mapping[str, Any]) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True  # anchors made by a machine are for no one to read

    text: str = yaml.dump(content, Dumper=Dumper, sort_keys=False, width=120)
    return text
