"""`edge trust dockerfile`: the lines by which an image trusts what was added here."""

from __future__ import annotations

import os

import click

from edge.cli_trust.output import explained

# `edge_certs.trust.dockerfile.FAMILIES`, written out so that --help does not load it; a test holds them together.
FAMILIES = ("debian", "alpine", "rhel", "distroless")


@click.command("dockerfile")
@click.option("--base", type=click.Choice(FAMILIES), default="debian", help="What it is made of [default: debian]")
def dockerfile_command(base: str) -> int:
    """Print the lines of a Dockerfile by which an image trusts the roots that were added."""
    from edge_certs.files import edge_home
    from edge_certs.trust.dockerfile import encode_dockerfile
    from edge_certs.trust.variables import extra_sources

    with explained():
        click.echo(encode_dockerfile(base, extra_sources(edge_home(os.environ), os.environ)))
    return 0
