"""What git, pip and curl are told about roots in files of their own, which variables do not show."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from configparser import ConfigParser, Error
from dataclasses import dataclass
from pathlib import Path

from edge_certs.errors import CertificateError
from edge_certs.trust.stores.machine import Machine

# Where pip looks, by its word for the scope (pip config --help); the later ones are stronger.
PIP_FILES = (
    ("global", "/etc/xdg/pip/pip.conf"),
    ("global", "/etc/pip.conf"),
    ("user", "~/.pip/pip.conf"),
    ("user", "~/.config/pip/pip.conf"),
    ("site", f"{sys.prefix}/pip.conf"),
)


# A line of a .curlrc (curl(1), --config): dashes are optional for long options, and space, "=" or ":" is behind them.
_CURL_LINE = re.compile(r"\s*(?:--?)?(insecure|k|cacert)(?:[\s=:]+(.*))?")


@dataclass(frozen=True, slots=True)
class Setting:
    """`name` says which tool and which setting; `undo` is the command of a shell that takes it back."""

    name: str
    value: str
    undo: str


def read_settings(machine: Machine) -> Iterator[Setting]:
    """Yield the settings that name roots (`... cert`, `... sslCAInfo`) or turn verification off, and no others."""
    yield from _git(machine)
    if machine.environ.get("PIP_CONFIG_FILE") != "/dev/null":
        for scope, path in PIP_FILES:
            file = machine.home / path[2:] if path.startswith("~/") else machine.path(path)
            yield from _pip(scope, file)
    yield from _curl(machine)


def is_switch(setting: Setting) -> bool:
    """Return whether the setting turns verification off, and does not name roots."""
    return setting.name.endswith(("sslVerify", "trusted-host", "insecure"))


def _git(machine: Machine) -> Iterator[Setting]:
    pattern = r"^http\.(.*\.)?(sslcainfo|sslverify)$"
    try:
        done = machine.run(("git", "config", "--show-scope", "--null", "--get-regexp", pattern))
    except CertificateError:
        return  # there is no git
    # Scope, and behind it the name and the value in one, each ended by NUL; git writes names in lower case.
    words = done.output.decode("utf-8", "replace").split("\0")
    for scope, text in zip(words[::2], words[1::2], strict=False):
        name, _, value = text.partition("\n")
        undo = f"git config --{scope} --unset-all {name}"
        if name.endswith("sslcainfo"):
            yield Setting("git http.sslCAInfo", value, undo)
        elif value.lower() in ("false", "no", "off", "0"):
            yield Setting("git http.sslVerify", value, undo)


def _pip(scope: str, file: Path) -> Iterator[Setting]:
    # Raw: a proxy's password may have a % in it.
    parser = ConfigParser(interpolation=None)
    try:
        parser.read(file, "utf-8")
    except (Error, OSError, UnicodeDecodeError):
        return  # pip says so itself
    for section, options in _sections(parser).items():
        for name in ("cert", "trusted-host"):
            if value := options.get(name, "").strip():
                undo = f"{sys.executable} -m pip config --{scope} unset {section}.{name}"
                yield Setting(f"pip {name}", value, undo)


def _curl(machine: Machine) -> Iterator[Setting]:
    """Of the files in which curl looks, the first that is there counts."""
    folders = [(machine.environ.get("CURL_HOME"), ".curlrc"), (machine.environ.get("XDG_CONFIG_HOME"), "curlrc")]
    files = [Path(folder, name) for folder, name in folders if folder] + [machine.home / ".curlrc"]
    file = next((path for path in files if os.path.isfile(path)), None)
    if file is None:
        return
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return  # curl cannot read it, either
    for line in lines:
        match = _CURL_LINE.fullmatch(line)
        if match is None:
            continue
        option, value = match[1], (match[2] or "").strip().strip('"')
        # With a suffix, as sed of macOS and of the BSDs wants one.
        undo = rf"sed -E -i.bak '/^[[:space:]]*-*{option}([[:space:]=:]|$)/d' {shlex.quote(str(file))}"
        yield (
            Setting("curl cacert", value, undo) if option == "cacert" else Setting("curl insecure", line.strip(), undo)
        )


def _sections(parser: ConfigParser) -> Mapping[str, Mapping[str, str]]:
    return {section: {name.replace("_", "-"): value for name, value in parser.items(section)} for section in parser}
