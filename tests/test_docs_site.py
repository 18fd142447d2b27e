"""The site: one command builds it without a warning or a network, and no link in what was built leads nowhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.process.server import DEADLINE, ROOT, clean_environment

DOCS = ROOT / "docs"
DECISIONS = DOCS / "design/decisions"
# What a browser fetches by itself when it shows a page; where a link leads to is fetched when somebody follows it.
FETCHED = {("link", "href"), ("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src")}
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d+)?")
_WITHOUT_NETWORK = ("unshare", "--user", "--map-root-user", "--net")


@dataclass(slots=True)
class Page:
    """What a page of the site defines and where it leads to."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)


class Reader(HTMLParser):
    """Gathers the anchors and links of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.page = Page()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name == "id":
                self.page.anchors.add(value)
            elif name in ("href", "src"):
                self.page.links.append(value)
                if (tag, name) in FETCHED and dict(attrs).get("rel") != "canonical":
                    self.page.fetched.append(value)


def without_network() -> list[str]:
    """Return the words before a command that has no network, or none where the system does not let a user do that."""
    if shutil.which("unshare") is None:
        return []
    tried = subprocess.run([*_WITHOUT_NETWORK, "true"], capture_output=True, timeout=DEADLINE, check=False)
    return [*_WITHOUT_NETWORK] if tried.returncode == 0 else []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as docs/contributing.md says, in a copy, and return the folder of the site."""
    folder = tmp_path_factory.mktemp("documentation")
    shutil.copy(ROOT / "zensical.toml", folder)
    shutil.copytree(DOCS, folder / "docs")
    command = [*without_network(), sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(
        command, cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "warning" not in said.lower()
    assert "no issues found" in said.lower()
    return folder / "site"


def test_every_page_is_in_the_site_and_no_link_of_it_leads_nowhere(built: Path) -> None:
    pages = {path: Reader(path.read_text()).page for path in built.rglob("*.html")}
    for source in DOCS.rglob("*.md"):
        name = source.relative_to(DOCS).with_suffix("")
        assert (built / name.parent if name.name == "index" else built / name) / "index.html" in pages
    wrong = [
        f"{path.relative_to(built)}: {link}"
        for path, page in pages.items()
        for link in page.links
        # The page for what is not found is shown at any depth, so its links are those of the root.
        if path.name != "404.html" and not leads_somewhere(link, path, pages)
    ]
    assert wrong == []


def leads_somewhere(link: str, path: Path, pages: dict[Path, Page]) -> bool:
    """Return whether the link leads to a file and an anchor; of a link to elsewhere, whether it is well-formed."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return parts.scheme == "https" and _HOST.fullmatch(parts.netloc) is not None
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return False
    return not parts.fragment or target not in pages or unquote(parts.fragment) in pages[target].anchors


def test_lists_tables_and_blocks_are_shown_as_such(built: Path) -> None:
    # Markdown on a code host takes a list right behind a line of text; Python's wants an empty line between them.
    for path in built.rglob("*.html"):
        for text in re.findall(r"<p>(.*?)</p>", path.read_text(), re.DOTALL):
            prose = re.sub(r"<code>.*?</code>", "", text, flags=re.DOTALL)
            assert re.search(r"^(- |\d+\. |\|)|```|\]\(", prose, re.MULTILINE) is None, (
                f"{path.parent.name}: {text[:200]}"
            )


def test_pages_fetch_nothing_from_elsewhere(built: Path) -> None:
    fetched = {link for path in built.rglob("*.html") for link in Reader(path.read_text()).page.fetched}
    assert fetched
    assert [link for link in fetched if urlsplit(link).netloc] == []
    styles = "".join(path.read_text() for path in built.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", styles) == []


def listed(entries: list[object]) -> list[str]:
    """Return the pages of the navigation, in its order."""
    found: list[str] = []
    for entry in entries:
        values = list(entry.values()) if isinstance(entry, dict) else [entry]
        for value in values:
            found += listed(value) if isinstance(value, list) else [str(value)]
    return found


def test_navigation_names_every_page_once() -> None:
    pages = listed(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])
    there = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if not page.name[0].isdigit()}
    assert set(pages) == there, "zensical.toml: nav has to name each page under docs/ but the decisions"
    assert len(pages) == len(there)


def test_index_of_the_decisions_names_each_by_its_title() -> None:
    titles = {page.name: page.read_text().partition("\n")[0] for page in DECISIONS.glob("[0-9]*.md")}
    lines = (DECISIONS / "index.md").read_text().splitlines()
    entries = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
    assert entries == [f"[{title.removeprefix('# ')}]({name})" for name, title in sorted(titles.items())]


def test_decisions_are_numbered_one_after_the_other() -> None:
    pages = sorted(DECISIONS.glob("[0-9]*.md"))
    for number, page in enumerate(pages, start=1):
        text = page.read_text()
        assert page.name.startswith(f"{number:04}-")
        assert re.match(rf"# {number}\. .+\n\n20\d\d-\d\d-\d\d\n\n\*\*Context\.\*\*", text), page.name
