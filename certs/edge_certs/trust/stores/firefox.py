"""Firefox on Linux: an NSS database in each profile, wherever the package, the snap or the flatpak keeps them.

On macOS and Windows, Firefox reads the system's roots (since version 120), so there is nothing to do for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from edge_certs.trust.stores.machine import Machine
from edge_certs.trust.stores.nss import DATABASE, NssDatabase

TARGET = "firefox"


def firefox_places(machine: Machine) -> list[NssDatabase]:
    """Return the database of each profile that Firefox has made, sorted."""
    found = {profile for folder in _folders(machine) for profile in folder.glob("*/") if (profile / DATABASE).is_file()}
    return [NssDatabase(machine, str(profile), TARGET) for profile in sorted(found)]


def _folders(machine: Machine) -> Iterator[Path]:
    config = machine.environ.get("XDG_CONFIG_HOME", "")
    flatpak = machine.home / ".var/app/org.mozilla.firefox"
    yield machine.home / ".mozilla/firefox"
    # Firefox 147 and later, for new profiles.
    yield (Path(config) if os.path.isabs(config) else machine.home / ".config") / "mozilla/firefox"
    yield machine.home / "snap/firefox/common/.mozilla/firefox"
    yield flatpak / ".mozilla/firefox"
    yield flatpak / "config/mozilla/firefox"
