"""The lines of a Dockerfile by which an image trusts the roots that were added, for each family of base images (pure).

Roots are no secret and stand in the lines themselves, as here-documents, which BuildKit and Podman read: nothing has to
lie in the build's context, and nothing there can be forgotten. An image without a shell gets a finished bundle instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from edge_certs.errors import CertificateError
from edge_certs.trust.bundle import Source, encode_pem
from edge_certs.trust.formats import CONTAINER_FOLDER
from edge_certs.trust.stores.place import NAME_DIGITS
from edge_certs.trust.variables import BUNDLE_VARIABLES, EXTRA_VARIABLES

EXTRA = f"{CONTAINER_FOLDER}/extra.pem"
# No line of a certificate is this, and no shell reads what stands before it.
MARK = "EDGE-TRUST"
# What `edge trust bundle` writes beside the Dockerfile of an image without a shell.
BUNDLE_FILE, EXTRA_FILE = "edge-bundle.pem", "edge-extra.pem"


@dataclass(frozen=True, slots=True)
class _Family:
    """Images with a shell: `folder` takes the roots, one a file, and the commands `refresh` make `bundle` of them."""

    folder: str
    bundle: str
    refresh: tuple[str, ...]


DEBIAN = _Family(
    "/usr/local/share/ca-certificates",
    "/etc/ssl/certs/ca-certificates.crt",
    (
        # Slim images lack the package; Debian's own mirrors are plain HTTP with signatures, so no root is needed.
        "if ! command -v update-ca-certificates > /dev/null; then apt-get update"
        " && apt-get install --yes --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*; fi",
        "update-ca-certificates",
    ),
)
ALPINE = _Family(
    "/usr/local/share/ca-certificates",
    "/etc/ssl/certs/ca-certificates.crt",
    (
        # apk calls out over HTTPS: before it can bring the command, the bundle that it reads must have the roots.
        "cat /usr/local/share/ca-certificates/edge-trust-*.crt >> /etc/ssl/certs/ca-certificates.crt",
        "apk add --no-cache ca-certificates",
        "update-ca-certificates",
    ),
)
RHEL = _Family(
    "/etc/pki/ca-trust/source/anchors",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    ("update-ca-trust",),
)


def encode_dockerfile(base: str, extra: Sequence[Source]) -> str:
    """Return the lines for an image of the family `base`, one of `FAMILIES`, without a line end behind the last.

    `extra` are the roots that are not public.

    Raises CertificateError: there are none.
    """
    roots = sorted({der for source in extra for der in source.certificates}, key=_digest)
    if not roots:
        raise CertificateError("no root was added, and no variable names one", "add one with: edge trust add FILE")
    return FAMILIES[base](roots)


def _with_shell(family: _Family) -> Callable[[Sequence[bytes]], str]:
    def encode(roots: Sequence[bytes]) -> str:
        lines = ["# Roots of edge trust: put this before the first RUN that calls out, and before any USER."]
        for der in roots:
            lines += _here_document(f"{family.folder}/edge-trust-{_digest(der)[:NAME_DIGITS]}.crt", encode_pem(der))
        commands = [
            *family.refresh,
            f"mkdir -p {CONTAINER_FOLDER}",
            f"cat {family.folder}/edge-trust-*.crt > {EXTRA}",
        ]
        return "\n".join([*lines, "RUN " + " \\\n && ".join(commands), _environment(family.bundle)])

    return encode


def _distroless(roots: Sequence[bytes]) -> str:
    bundle = f"{CONTAINER_FOLDER}/bundle.pem"
    return "\n".join(
        [
            "# Roots of edge trust, for an image without a shell. In the folder of the Dockerfile, first:",
            f"#   edge trust bundle --output {BUNDLE_FILE}",
            f"#   edge trust bundle --base none --output {EXTRA_FILE}",
            f"COPY {BUNDLE_FILE} {bundle}",
            f"COPY {EXTRA_FILE} {EXTRA}",
            _environment(bundle),
        ]
    )


def _here_document(path: str, content: str) -> list[str]:
    # Quoted: nothing in it is expanded.
    return [f'COPY <<"{MARK}" {path}', content, MARK]


def _environment(bundle: str) -> str:
    values = dict.fromkeys(BUNDLE_VARIABLES, bundle) | dict.fromkeys(EXTRA_VARIABLES, EXTRA)
    return "ENV " + " \\\n    ".join(f"{name}={value}" for name, value in sorted(values.items()))


def _digest(der: bytes) -> str:
    return sha256(der).hexdigest()


FAMILIES: Mapping[str, Callable[[Sequence[bytes]], str]] = {
    "debian": _with_shell(DEBIAN),
    "alpine": _with_shell(ALPINE),
    "rhel": _with_shell(RHEL),
    "distroless": _distroless,
}
