"""Clients of HTTP/2 for the command line, which trust an authority of ours alone."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.process.server import Authority, clean_environment


def run(tool: str, *arguments: str, authority: Authority, content: bytes = b"") -> str:
    """Run a client that trusts the authority; return all that it prints."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    environ = clean_environment(SSL_CERT_FILE=str(authority.root))
    done = subprocess.run(
        [tool, *arguments],
        input=content,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environ,
        timeout=60,
        check=False,
    )
    output = done.stdout.decode("latin-1")
    assert done.returncode == 0, output
    return output


def curl(*arguments: str, authority: Authority, content: bytes = b"") -> str:
    options = ["--silent", "--show-error", "--noproxy", "*", "--cacert", str(authority.root), "--http2"]
    return run(
        "curl", *options, "-w", " %{http_version} %{http_code}", *arguments, authority=authority, content=content
    )
