"""The clients that `edge trust check` tries: where each looks for its roots, and what its words mean (pure).

Libraries run in the application's interpreter (`edge_certs.trust.calls`), tools as their own commands. Each makes one
call; "ok" is that it took the certificate, whatever the server answered then.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_certs.trust.calls import TIMEOUT, classify

SECONDS = f"{TIMEOUT:g}"
# A package of this name is at no server: what is asked for is the connection, and the wheel is not to be found.
WHEEL = "edge_trust_check-0-py3-none-any.whl"
PIP_OPTIONS = ("--no-deps", "--no-cache-dir", "--disable-pip-version-check", "--no-input", "--retries=0")
# With --dry-run, nothing is broken: it keeps uv from refusing a distribution's Python before it calls anybody.
UV_OPTIONS = ("--break-system-packages", "--python", sys.executable)

# Node follows HTTPS_PROXY from version 24 on and only when told so; the tunnel is made by hand for all of them.
NODE_PROGRAM = """
const target = new URL(process.argv[1]), port = Number(target.port || 443)
const name = target.hostname.replace(/[[\\]]/g, '')
const end = (code, text) => { console.log(text); process.exit(code) }
const connect = socket => {
  const servername = require('net').isIP(name) ? '' : name
  require('tls').connect({host: name, port, servername, socket}, () => end(0, 'ok'))
    .on('error', error => end(1, `${error.code} ${error.message}`))
}
setTimeout(() => end(2, 'timed out'), Number(process.argv[2]) * 1000)
if (!process.env.EDGE_CHECK_PROXY) connect()
else {
  const proxy = new URL(process.env.EDGE_CHECK_PROXY), headers = {}, user = decodeURIComponent(proxy.username)
  const password = decodeURIComponent(proxy.password)
  if (user) headers['Proxy-Authorization'] = 'Basic ' + Buffer.from(`${user}:${password}`).toString('base64')
  const path = `${target.hostname}:${port}`, hostname = proxy.hostname, scheme = proxy.protocol.replace(':', '')
  const options = {hostname, port: proxy.port || (scheme === 'http' ? 80 : 443), method: 'CONNECT', path, headers}
  require(scheme).request(options)
    .on('connect', (answer, socket) => answer.statusCode === 200 ? connect(socket) : end(2, `${answer.statusCode}`))
    .on('error', error => end(2, error.message)).end()
}
"""


@dataclass(frozen=True, slots=True)
class Client:
    """A library or a tool. `variables` name its roots, the first that is set wins; `otherwise` is what it has then.

    With `adds`, what a variable names is added to that. `is_library` is False for a command of its own.
    """

    name: str
    variables: tuple[str, ...]
    otherwise: str
    adds: bool = False
    is_library: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call came to: `state` is "ok", "refused" (the certificate), "failed" (all else) or "absent"."""

    state: str
    detail: str = ""
    version: str = ""
    certifi: str = ""


OPENSSL = "OpenSSL's default"
BUILT_IN = "built in"
CERTIFI = "certifi"

CLIENTS = (
    Client("urllib", ("SSL_CERT_FILE",), OPENSSL),
    Client("urllib3", ("SSL_CERT_FILE",), OPENSSL),
    Client("requests", ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), CERTIFI),
    Client("httpx", ("SSL_CERT_FILE", "SSL_CERT_DIR"), CERTIFI),
    Client("aiohttp", ("SSL_CERT_FILE",), OPENSSL),
    Client("boto3", ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"), CERTIFI),
    Client("grpc", ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",), BUILT_IN),
    Client("certifi", (), CERTIFI),
    Client("curl", ("CURL_CA_BUNDLE", "SSL_CERT_FILE"), "the system's", is_library=False),
    Client("node", ("NODE_EXTRA_CA_CERTS",), BUILT_IN, adds=True, is_library=False),
    Client("git", ("GIT_SSL_CAINFO",), "the system's", is_library=False),
    Client("pip", ("PIP_CERT", "REQUESTS_CA_BUNDLE"), "the system's and its own", adds=True, is_library=False),
    Client("uv", ("SSL_CERT_FILE",), BUILT_IN, is_library=False),
)

# Of a tool's answer, what says that it refused the certificate; the group is the reason.
REFUSALS: Mapping[str, re.Pattern[str]] = {
    "curl": re.compile(r"curl: \(60\) (?:SSL certificate problem: |SSL: )?(.*)"),
    "node": re.compile(r"^(?:UNABLE_|SELF_|DEPTH_|CERT_|ERR_TLS_CERT|INVALID_|HOSTNAME_)\w+ (.*)"),
    "git": re.compile(r"(?:SSL certificate problem: |SSL: )(.*)|(server certificate verification failed)"),
    "uv": re.compile(r"invalid peer certificate: (.*)"),
}
# What it says when it took the certificate, and then the server had nothing for it.
ANSWERS: Mapping[str, re.Pattern[str]] = {
    # 22 is an HTTP status, 52 an empty answer, 1 one that is not HTTP. Not 56: a proxy that refuses gives it too.
    "curl": re.compile(r"curl: \((?:1|22|52)\)"),
    "git": re.compile(r"repository '.*' not found|is this a git repo|could not read Username|URL returned error: \d"),
    "pip": re.compile(r"HTTP error \d+|\bis invalid\b|\b[45]\d\d (?:Client|Server) Error"),
    "uv": re.compile(r"HTTP status|invalid package format|was invalid"),
}


def find_client(name: str) -> Client:
    """Return the client of that name, which must be one of `CLIENTS`."""
    return next(client for client in CLIENTS if client.name == name)


def library_command(python: str, prelude: str, library: str, url: str) -> list[str]:
    """Return the command that calls `url` by `library`; the Python code `prelude` runs before, as a worker's does."""
    program = "import runpy; runpy.run_module('edge_certs.trust.calls', run_name='__main__')"
    # As workers start: the folder that this is called in is not to hide modules of the standard library.
    return [python, "-P", "-c", f"{prelude}\n{program}", library, url]


def tool_command(name: str, program: Sequence[str], url: str) -> list[str]:
    """Return the command that makes the tool `name`, which `program` starts, call `url`."""
    wheel = f"edge-trust-check @ {url.rstrip('/')}/{WHEEL}"
    arguments: Mapping[str, Sequence[str]] = {
        "curl": ("-sS", "-o", os.devnull, "-m", SECONDS, url),
        "node": ("-e", NODE_PROGRAM, url, SECONDS),
        "git": ("ls-remote", url),
        "pip": ("download", *PIP_OPTIONS, f"--timeout={SECONDS}", f"--dest={os.devnull}", wheel),
        "uv": ("pip", "install", "--dry-run", "--no-deps", "--no-cache", *UV_OPTIONS, wheel),
    }
    return [*program, *arguments[name]]


def tool_environment(environ: Mapping[str, str], proxy: str) -> dict[str, str]:
    """Return `environ` with what keeps tools from asking a person, from trying again and from other languages.

    `proxy` is empty without one. It is not among the arguments, which others on the machine can read.
    """
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": SECONDS}
    return {**environ, **quiet, "LC_ALL": "C", "NO_COLOR": "1", "GRPC_VERBOSITY": "NONE", "EDGE_CHECK_PROXY": proxy}


def read_library(output: str) -> Outcome:
    """Return what `edge_certs.trust.calls` printed, or that it ended without a word."""
    try:
        return Outcome(**json.loads(output.splitlines()[-1]))
    except (ValueError, TypeError, IndexError):
        return Outcome("failed", f"no result, but {output[-200:]!r}")


def read_tool(name: str, code: int, output: str) -> Outcome:
    """Return what the tool's exit code and words say."""
    if code == 0 or (name in ANSWERS and ANSWERS[name].search(output)):
        return Outcome("ok")
    if name == "pip":
        return Outcome(*classify(output))
    refusal = REFUSALS[name].search(output)
    if refusal is not None:
        return Outcome("refused", next(filter(None, refusal.groups()), "certificate not accepted"))
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return Outcome("failed", lines[-1] if lines else f"exit code {code}")


def roots_of(client: Client, environ: Mapping[str, str], certifi: str) -> str:
    """Return where `client` looks for its roots in `environ`: the variable that wins and its value, or what it has."""
    name = next((name for name in client.variables if environ.get(name)), "")
    otherwise = certifi if client.otherwise == CERTIFI and certifi else client.otherwise
    if not name:
        return otherwise
    named = f"{name}={environ[name]}"
    return f"{otherwise} and {named}" if client.adds else named
