"""docs/reference/trust-stores.md says what is."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.cli_trust.output import TrustRefused
from edge.cli_trust.targets import ALL, EDGE, TARGETS, NeedsRoot
from edge.errors import ConfigError, EdgeError
from edge_certs.files import MAX_FILE_SIZE
from edge_certs.trust import fetch
from edge_certs.trust.anchors import MAX_ANCHORS
from edge_certs.trust.store import MIN_FINGERPRINT
from edge_certs.trust.stores import alpine, arch, debian, docker, redhat, suse
from edge_certs.trust.stores.anchor_folder import Layout
from edge_certs.trust.stores.java import PACKAGE_FOLDERS
from edge_certs.trust.stores.nss import TRUST
from edge_certs.trust.stores.place import NAME_DIGITS
from edge_certs.trust.stores.targets import KINDS

PAGE = (Path(__file__).parents[4] / "docs/reference/trust-stores.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
TEXT = " ".join(PAGE.split())

SYSTEMS = {
    "Debian, Ubuntu": debian.LAYOUT,
    "Alpine": alpine.LAYOUT,
    "Fedora, RHEL": redhat.LAYOUT,
    "Arch": arch.LAYOUT,
    "openSUSE, SLES": suse.LAYOUT,
}


def row(name: str) -> list[str]:
    [found] = [cells for cells in ROWS if cells[0] == name]
    return found


@pytest.mark.parametrize("name", SYSTEMS)
def test_row_of_a_system_is_its_layout(name: str) -> None:
    layout: Layout = SYSTEMS[name]
    _, file, command, bundle = row(name)
    assert file == f"`{layout.folder}/NAME{layout.suffix}`"
    assert command.startswith(f"`{' '.join(layout.refresh)}`")
    assert bundle == f"`{layout.bundle[0]}`"


def test_every_target_has_its_row_and_every_kind_of_store_is_there() -> None:
    assert [cells[0] for cells in ROWS if cells[0].strip("`") in TARGETS] == [f"`{target}`" for target in TARGETS]
    assert row(f"`{EDGE}`")
    assert f"`{ALL}` is those that are there" in TEXT
    stores = [cells for cells in ROWS if len(cells) == 4 and cells[0] not in ("store", "---")]
    # Firefox's profiles are NSS databases.
    assert len(stores) == len(KINDS) - 1


def test_exit_codes_are_those_of_the_errors() -> None:
    documented = [int(cells[0]) for cells in ROWS if cells[0].isdigit()]
    assert documented == [0, *sorted(kind.exit_code for kind in (EdgeError, ConfigError, NeedsRoot, TrustRefused))]


def test_limits_are_those_of_the_source() -> None:
    assert MAX_FILE_SIZE == 1024 * 1024
    assert f"at most 1 MiB and {MAX_ANCHORS} certificates" in TEXT
    assert (
        f"given up after {fetch.TOTAL_TIMEOUT:g} seconds, after {fetch.STEP_TIMEOUT:g} without a byte, "
        f"and after {fetch.MAX_REDIRECTS} redirections"
    ) in TEXT
    assert f"a fingerprint needs {MIN_FINGERPRINT} digits" in TEXT
    assert f"`edge-trust-` and {NAME_DIGITS} digits of the SHA-256" in TEXT


def test_words_of_the_stores_are_those_of_the_source() -> None:
    assert row("NSS")[1] == f"NAME, with trust `{TRUST}`"
    assert row("Docker")[1] == f"`{docker.FOLDER}/REGISTRY/NAME.crt`"
    assert all(f"`{folder}`" in row("`java`")[2] for folder in PACKAGE_FOLDERS)


def test_every_store_is_said_to_be_run_or_recorded() -> None:
    section = PAGE.partition("## What was run, and what was not")[2].partition("\n## ")[0]
    cells = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    run, recorded = (" ".join(column) for column in zip(*cells, strict=True))
    assert all(word in run for word in ("Debian", "NSS", "Firefox", "Java", "Docker"))
    assert all(word in recorded for word in ("Alpine", "Fedora", "Arch", "openSUSE", "macOS", "Windows"))
