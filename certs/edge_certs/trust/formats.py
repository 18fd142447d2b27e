"""The variables in the words of a shell, a container, a service manager or a CI system (pure)."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping

from edge_certs.errors import CertificateError
from edge_certs.trust.variables import Trust

# Where the files lie in a container: nothing else is there, and any user may read it.
CONTAINER_FOLDER = "/etc/ssl/edge"

# What neither a shell nor the comma-separated --mount takes for its own.
PLAIN_PATH = re.compile(r"[A-Za-z0-9_@%+./-]+")


def encode_variables(trust: Trust, kind: str) -> str:
    """Return the variables of `trust` in the format `kind`, one of `FORMATS`, without a line end behind the last.

    Raises CertificateError: a path holds what the format cannot express.
    """
    for value in trust.variables.values():
        if not value.isprintable():
            raise CertificateError(
                f"path {value!r}: it has a character that is not printable", "set EDGE_HOME to another folder"
            )
    return FORMATS[kind](trust)


def _sh(trust: Trust) -> str:
    return _lines(trust.variables, lambda name, value: f"export {name}={shlex.quote(value)}")


def _fish(trust: Trust) -> str:
    def line(name: str, value: str) -> str:
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"set -gx {name} '{escaped}'"

    return _lines(trust.variables, line)


def _powershell(trust: Trust) -> str:
    def line(name: str, value: str) -> str:
        doubled = value.replace("'", "''")
        return f"$env:{name} = '{doubled}'"

    return _lines(trust.variables, line)


def _dotenv(trust: Trust) -> str:
    def line(name: str, value: str) -> str:
        # Readers differ in what they unescape; between single quotes none does, so only a quote needs the other form.
        quoted = f"'{value}'" if "'" not in value else json.dumps(value, ensure_ascii=False)
        return f"{name}={value if PLAIN_PATH.fullmatch(value) else quoted}"

    return _lines(trust.variables, line)


def _systemd(trust: Trust) -> str:
    def line(name: str, value: str) -> str:
        # systemd.exec(5) and systemd.unit(5): C escapes between quotes, and % begins a specifier.
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
        return f'Environment="{name}={escaped}"'

    return "[Service]\n" + _lines(trust.variables, line)


def _github(trust: Trust) -> str:
    return _lines(trust.variables, lambda name, value: f"{name}={value}")


def _json(trust: Trust) -> str:
    return json.dumps(dict(sorted(trust.variables.items())), indent=2)


def _docker(trust: Trust) -> str:
    """Options of `docker run`, each a word, so that `docker run $(edge trust env --format docker) IMAGE` works."""
    mounts = []
    for inside, outside in _mounts(trust).items():
        if not PLAIN_PATH.fullmatch(outside):
            raise CertificateError(
                f"path {outside!r}: no option of docker can name it without quotes", "set EDGE_HOME to a plainer folder"
            )
        mounts.append(f"--mount type=bind,src={outside},dst={inside},readonly")
    return "\n".join([*mounts, _lines(_inside(trust), lambda name, value: f"--env {name}={value}")])


def _compose(trust: Trust) -> str:
    """A fragment for the top of a compose file; a service takes it by `<<: *edge-trust`."""

    def text(value: str) -> str:
        # JSON is YAML; compose reads `$` as the beginning of a variable.
        return json.dumps(value.replace("$", "$$"), ensure_ascii=False)

    lines = ["x-edge-trust: &edge-trust", "  environment:"]
    lines += [f"    {name}: {text(value)}" for name, value in sorted(_inside(trust).items())]
    lines += ["  volumes:"]
    for inside, outside in _mounts(trust).items():
        lines += [f"    - type: bind\n      source: {text(outside)}\n      target: {inside}\n      read_only: true"]
    return "\n".join(lines)


def _mounts(trust: Trust) -> dict[str, str]:
    files = {f"{CONTAINER_FOLDER}/bundle.pem": str(trust.bundle)}
    if trust.extra is not None:
        files[f"{CONTAINER_FOLDER}/extra.pem"] = str(trust.extra)
    return files


def _inside(trust: Trust) -> dict[str, str]:
    """The operator's own files are not in the container, so nothing there may name them."""
    places = {outside: inside for inside, outside in _mounts(trust).items()}
    return {name: places[value] for name, value in trust.variables.items() if value in places}


def _lines(variables: Mapping[str, str], line: Callable[[str, str], str]) -> str:
    return "\n".join(line(name, value) for name, value in sorted(variables.items()))


FORMATS: Mapping[str, Callable[[Trust], str]] = {
    "sh": _sh,
    "fish": _fish,
    "powershell": _powershell,
    "dotenv": _dotenv,
    "docker": _docker,
    "compose": _compose,
    "systemd": _systemd,
    "github": _github,
    "json": _json,
}
