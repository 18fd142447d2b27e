"""docs/reference/certificates.md says what is: its numbers are those of the source, its tree is what lies there."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

from edge_certs.ledger import ASKED_PERIOD, KEPT, LETS_ENCRYPT_LIMITS, MAX_ASKED
from edge_certs.renewal import (
    BACK_OFF,
    BACK_OFF_JITTER,
    EMERGENCY_FRACTION_LEFT,
    FRACTION_LEFT,
    JITTER_FRACTION,
    LAST_BACK_OFF,
    MAX_JITTER,
    SHORT_FRACTION_LEFT,
    SHORT_LIFETIME,
)
from edge_certs.storage import KEPT_VERSIONS
from tests.certs.authority import Said
from tests.certs.keeping import Bench, keeping

PAGE = (Path(__file__).parents[2] / "docs/reference/certificates.md").read_text()
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def tree() -> list[re.Pattern[str]]:
    """Return patterns of the paths in the page's tree; NAME and TOKEN stand for anything."""
    [block] = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    patterns = []
    for line in block.splitlines():
        words = re.match(r"([^\s,]+(?:, [^\s,]+)*)", line)
        assert words is not None
        first, *others = words[1].split(", ")
        folder = first.rpartition("/")[0]
        for path in (first, *(f"{folder}/{other}" for other in others)):
            text = re.sub("AUTHORITY|NAME|TOKEN|0001", "[^/]+", path.replace(".", r"\."))
            patterns.append(re.compile(text + (".*" if text.endswith("/") else "")))
    return patterns


def test_every_file_is_in_the_tree_and_everything_in_the_tree_is_a_file(tmp_path: Path) -> None:
    seen: set[str] = set()

    def look(home: Path) -> None:
        seen.update(str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir() or path.is_symlink())
        for link in (home / "live").glob("*"):
            seen.update(f"live/{link.name}/{path.name}" for path in link.iterdir())

    async def act(bench: Bench) -> None:
        home = bench.storage.home
        for kind in ("http-01", "tls-alpn-01"):
            bench.issuance = bench.want(f"{kind}.example", kinds=(kind,))
            bench.authority.production.on_prove = lambda: look(home)
            bench.authority.production.instead["finalize"] = [Said(502, b"")]
            await bench.settle()
            look(home)
            await bench.wait()
        look(home)

    keeping(tmp_path, act)
    patterns = tree()
    lost = [path for path in sorted(seen) if not any(pattern.fullmatch(path) for pattern in patterns)]
    assert lost == []
    assert [pattern.pattern for pattern in patterns if not any(map(pattern.fullmatch, seen))] == []


def test_numbers_of_the_page_are_those_of_the_source() -> None:
    text = " ".join(PAGE.split())
    assert f"the attempts of the last {KEPT.days} days" in text
    assert f"the last {KEPT_VERSIONS} are kept" in text
    assert (FRACTION_LEFT, SHORT_FRACTION_LEFT, EMERGENCY_FRACTION_LEFT) == (1 / 3, 1 / 2, 1 / 20)
    assert f"or one half when it is under {SHORT_LIFETIME.days} days" in text
    assert (JITTER_FRACTION, MAX_JITTER) == (1 / 50, DAY)
    assert "up to one 50th of the lifetime, and at most a day, earlier" in text
    assert (*BACK_OFF, LAST_BACK_OFF) == (MINUTE, 10 * MINUTE, 100 * MINUTE, DAY)
    assert BACK_OFF_JITTER == 1 / 10
    assert "is 1 minute later, then 10, then 100, then a day, each up to a tenth more" in text
    assert f"it gets {MAX_ASKED} in {ASKED_PERIOD // HOUR} hours" in text
    limits = LETS_ENCRYPT_LIMITS
    assert f"{limits.orders} orders of an account in {limits.orders_period // HOUR} hours" in text
    assert f"{limits.same_names} certificates for the same names in {limits.same_names_period.days} days" in text


def test_fields_of_the_ledger_are_those_of_the_file(tmp_path: Path) -> None:
    async def act(bench: Bench) -> None:
        await bench.settle()
        path = bench.storage.authority(bench.issuance.directory).folder / "ledger.json"
        [attempt] = json.loads(path.read_text())["attempts"]
        rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
        assert rows == list(attempt)

    keeping(tmp_path, act)
