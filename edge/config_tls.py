"""The settings of TLS: certificates from files, those of development, and what is offered."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge.errors import ConfigError
from edge.options import Kind, Option, choice, file, files, names, setting, switch, text_of

# What workers are not to find in their environment.
KEY_PASSWORD_VARIABLES = ("EDGE_KEY_PASSWORD", "EDGE_SSL_KEYFILE_PASSWORD", "EDGE_KEYFILE_PASSWORD")


def secret() -> Kind:
    """A password: any text."""

    def parse(value: object) -> str:
        if not isinstance(value, str) or not value:
            raise ConfigError("***: no password; use text")
        return value

    return Kind("TEXT", parse)


# Also the numbers of Python's `ssl.PROTOCOL_*` that others are given: of "any version", and of TLS 1.2.
_VERSIONS = {"2": "tls1.2", "17": "tls1.2", "5": "tls1.2", "tls1.2": "tls1.2", "tls1.3": "tls1.3"}


def cipher_list() -> Kind:
    """Ciphers, in the words of OpenSSL."""

    def parse(value: object) -> str:
        import ssl  # 10 ms, which the help does not need

        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(text_of(value))
        except (ssl.SSLError, ValueError):  # the latter of NUL
            advice = "use names such as ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305"
            raise ConfigError(f"{value!r}: OpenSSL knows none of these ciphers; {advice}") from None
        return text_of(value)

    return Kind("NAMES", parse)


def version() -> Kind:
    """A version of TLS that is still in use."""

    def parse(value: object) -> str:
        number = int(value) if isinstance(value, int) else value
        word = str(number).lower().replace("tlsv", "tls").replace("_", ".")
        if word in ("tls1", "tls1.0", "tls1.1", "3", "4"):
            raise ConfigError(f"{value!r}: TLS 1.0 and 1.1 are broken (RFC 8996); use tls1.2 or tls1.3")
        if word not in _VERSIONS:
            raise ConfigError(f"{value!r}: unknown; use tls1.2 or tls1.3")
        return _VERSIONS[word]

    return Kind("tls1.2|tls1.3", parse)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A PEM chain and its key; without a key, it is looked for beside the chain and inside it."""

    cert: Path
    key: Path | None = None


_KEY = Option(
    (
        "--key",
        "--ssl-keyfile",
        "--keyfile",
    ),
    files(),
    "key of the certificate at the same place; repeatable",
    "privkey.pem or NAME.key beside it, or inside it",
)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """What TLS is served with; plain HTTP when there are neither certificates nor `dev`."""

    certificates: tuple[CertificateFiles, ...] = setting(
        (),
        files(),
        "--cert",
        "--ssl-certfile",
        "--certfile",
        "--ssl-certificate",
        shown="none",
        help="certificate chain in PEM, or PKCS#12 with its key; repeatable",
        beside=(_KEY,),
    )
    dev: bool = setting(False, switch(), "--dev", help="HTTPS on localhost:8443 with a certificate made here")
    dev_names: tuple[str, ...] = setting(
        (), names(), "--dev-name", shown="none", help="name or address that --dev serves besides localhost; repeatable"
    )
    dev_authority: str = setting(
        "", file(), "--dev-authority", shown="the root of this user", help="intermediate for --dev in a container"
    )
    http2: Literal["auto", "on", "off"] = setting(
        "auto",
        choice("auto", "on", "off"),
        "--http2",
        help="offer HTTP/2 over TLS; auto = if its fast codec is installed",
    )
    key_password: str = setting(
        "",
        secret(),
        "--key-password",
        "--ssl-keyfile-password",
        "--keyfile-password",
        shown="none",
        help="what opens encrypted keys and PKCS#12; better as EDGE_KEY_PASSWORD",
        is_secret=True,
    )
    ciphers: str = setting(
        "",
        cipher_list(),
        "--ciphers",
        "--ssl-ciphers",
        shown="Mozilla's intermediate level",
        help="ciphers of TLS 1.2, as OpenSSL names them; those of TLS 1.3 are fixed",
    )
    least_version: Literal["tls1.2", "tls1.3"] = setting(
        "tls1.2", version(), "--tls-min-version", "--ssl-version", "--ssl-protocol-min", help="least version of TLS"
    )


def pair_files(parsed: Mapping[str, Any]) -> tuple[CertificateFiles, ...]:
    """Return the chains that were read, each with the key at the same place, if there is one."""
    certs, keys = parsed.get("cert", ()), parsed.get("key", ())
    return tuple(CertificateFiles(cert, keys[i] if i < len(keys) else None) for i, cert in enumerate(certs))
