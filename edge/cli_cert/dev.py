"""`edge cert dev`: certificates of the local root as files, and the root in the stores of this machine."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from edge.cli_cert.install import TARGETS, install_root, uninstall_root
from edge.cli_cert.output import dry_option, explained, home, json_option, named, now, print_json, printable, show_left
from edge.cli_trust.targets import yes_option
from edge.errors import ConfigError, EdgeError

# As `edge serve --dev` serves, but for the wildcard, which OpenSSL's clients do not take for any name.
DEFAULT_NAMES = ("localhost", "127.0.0.1", "::1")


@click.command("dev")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--out", metavar="FOLDER", default=".", help="Where to write files [default: the current folder]")
@click.option("--install", "verb", flag_value="install", help="Make this machine's browsers and tools trust the root")
@click.option("--uninstall", "verb", flag_value="uninstall", help="Undo exactly that")
@click.option("--to", multiple=True, metavar="TARGETS", help=f"Stores for --install [default: {', '.join(TARGETS)}]")
@yes_option
@dry_option
@json_option
def dev_command(
    names: tuple[str, ...], out: str, verb: str | None, to: tuple[str, ...], is_confirmed: bool, **how: bool
) -> int:
    """Make a certificate of the local root for NAMEs (localhost and its addresses by default), as two files.

    With --install or --uninstall, put the root into the stores of this machine, or take it out of them, instead.
    """
    if verb is not None and names:
        raise ConfigError(f"--{verb}: it is for the root, not for {names[0]!r}; give names in a command of their own")
    if to and verb != "install":
        raise ConfigError("--to: only for --install; leave it out")
    if verb == "uninstall":
        return uninstall_root(is_confirmed=is_confirmed, **how)
    if verb == "install":
        return _install(to, is_confirmed=is_confirmed, **how)
    return _write(names, out, **how)


def _install(to: tuple[str, ...], *, is_confirmed: bool, dry_run: bool, as_json: bool) -> int:
    from edge_certs.ca import LocalAuthority

    with explained():
        root = home() / "dev" / "root.pem"
        if dry_run and not root.exists():
            raise EdgeError(f"local root {root}: not there yet; --install without --dry-run makes it")
        root = LocalAuthority.open(home(), now()).root_path
    return install_root(root, to, is_confirmed=is_confirmed, dry_run=dry_run, as_json=as_json)


def _write(names: tuple[str, ...], out: str, *, dry_run: bool, as_json: bool) -> int:
    from edge_certs.ca import LocalAuthority
    from edge_certs.dev_files import write_dev_files

    moment = now()
    with ExitStack() as rehearsal:
        with explained():
            folder, root = home(), home() / "dev" / "root.pem"
            if dry_run and not root.exists():
                # A rehearsal makes no root, but says what is wrong with a name.
                folder = Path(rehearsal.enter_context(TemporaryDirectory()))
            authority = LocalAuthority.open(folder, moment)
        with named():
            files = write_dev_files(authority, names or DEFAULT_NAMES, Path(out), moment, dry_run=dry_run)
    if as_json:
        print_json(
            {
                "cert": str(files.cert),
                "key": str(files.key),
                "root": str(root),
                "names": list(files.certificate.names),
                "not_after": files.certificate.not_after.isoformat(),
                "new": files.is_new,
                "dry_run": dry_run,
            }
        )
        return 0
    verb = ("would write" if dry_run else "written") if files.is_new else "unchanged:"
    left = show_left(files.certificate.not_after, moment)
    click.echo(printable(f"{verb} {files.cert} and {files.key}"))
    click.echo(printable(f"  for {', '.join(files.certificate.names)}, {left} left, signed by {root}"))
    return 0
