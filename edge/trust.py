"""What workers are told to trust when they call out: the roots of `edge trust add` and of `--outbound-ca`, with all
public ones.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge.account import let_in
from edge_backend.identity import Identity
from edge_certs.errors import CertificateError
from edge_certs.files import edge_home, write_public
from edge_certs.trust.bundle import Source, encode_bundle
from edge_certs.trust.root_files import RootFile, read_root_files
from edge_certs.trust.store import TrustStore
from edge_certs.trust.variables import (
    MERGED_VARIABLE,
    encode_merged,
    parse_merged,
    write_server_trust,
    write_trust,
)

logger = logging.getLogger("edge.master")


@dataclass(frozen=True, slots=True)
class WorkerTrust:
    """The environment for workers, and the bundle that certifi answers with there; empty when no root was added."""

    environ: Mapping[str, str]
    ca_bundle: str


@dataclass(frozen=True, slots=True)
class Outbound:
    """The roots of `--outbound-ca`. `folder` is for what is made of them: the run directory, as all ends with it."""

    folder: Path
    files: Sequence[RootFile] = ()

    @classmethod
    def read(cls, paths: Sequence[Path], folder: Path) -> Outbound:
        """Return what is in the files of `--outbound-ca`.

        Raises CertificateError: one of them is of no use.
        """
        files = read_root_files(paths, datetime.now(UTC))
        for file in files:
            for remark in file.remarks:
                logger.warning("%s", remark)
        return cls(folder, files)

    @property
    def sources(self) -> list[Source]:
        """What is in the files."""
        return [file.source for file in self.files]

    def publish(self) -> None:
        """Let the process that renews certificates trust these roots from now on, and those of before no more.

        Raises CertificateError: the folder cannot be written.
        """
        if self.files:
            write_public(self._published, encode_bundle(self.sources))
        else:
            self._published.unlink(missing_ok=True)

    def of_keeper(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the environment for that process: it trusts what is published whenever it calls out."""
        merged = [*parse_merged(environ.get(MERGED_VARIABLE, "")), str(self._published)]
        return {**environ, MERGED_VARIABLE: encode_merged(merged)}

    @property
    def _published(self) -> Path:
        return self.folder / "outbound.pem"


def worker_trust(
    environ: Mapping[str, str], identity: Identity | None = None, outbound: Outbound | None = None
) -> WorkerTrust:
    """Write the merged bundle and return what makes workers use it; without more roots, nothing is written or changed.

    Raises CertificateError: there are roots, and they cannot be read or the bundle not be written; ConfigError:
    workers run as `identity`, which cannot get at the bundle.
    """
    home = _readable_home(environ)
    added = len(TrustStore(home).anchors()) if home is not None else 0
    if outbound is not None and outbound.files:
        # Who has no home has added nothing, and neither has who looks for it in the run directory.
        trust = write_server_trust(outbound.folder, home or outbound.folder, environ, outbound.sources)
        more = f" and those of {', '.join(file.source.name for file in outbound.files)}"
    elif home is not None and added:
        trust, more = write_trust(home, environ), ""
        if identity is not None:
            let_in(identity, trust.bundle.parent, home)
    else:
        return WorkerTrust(environ, "")
    for remark in trust.remarks:
        logger.warning("trust: %s", remark)
    logger.info("trust: workers call out with %d added roots%s and all public ones, in %s", added, more, trust.bundle)
    return WorkerTrust({**environ, **trust.variables}, str(trust.bundle))


def _readable_home(environ: Mapping[str, str]) -> Path | None:
    """None where nothing can have been added: no home for this user, as in a container, or one of another's."""
    try:
        home = edge_home(environ)
    except CertificateError:
        return None
    store = TrustStore(home)
    if store.is_readable:
        return home
    # As when a service keeps the HOME of whoever started it: it never had anything there.
    logger.warning("trust: this user may not read %s; workers start without added roots", store.folder)
    return None
