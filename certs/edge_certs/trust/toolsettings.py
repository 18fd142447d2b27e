"""What git and pip are told about roots in files of their own, which variables do not show."""

from __future__ import annotations

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


def is_switch(setting: Setting) -> bool:
    """Return whether the setting turns verification off, and does not name roots."""
    return setting.name.endswith(("sslVerify", "trusted-host"))


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


def _sections(parser: ConfigParser) -> Mapping[str, Mapping[str, str]]:
    return {section: {name.replace("_", "-"): value for name, value in parser.items(section)} for section in parser}
