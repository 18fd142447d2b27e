"""The stores of this system for real: its own tools change them, its own programs go by them.

The system's and Java's are copies in a namespace; that this machine's own are as they were is looked at in the end.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from edge_certs.trust.installations import Installations
from edge_certs.trust.leftovers import leftovers
from tests.interop import firefox
from tests.process.server import DEADLINE, clean_environment
from tests.process.system_tree import SystemTree, fingerprint_of_stores, need_tree
from tests.process.tls_proxy import site

PYTHON = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=20).read().decode())"
JAVA = """
import java.net.URI;
import java.net.http.*;
public class Client {
    public static void main(String[] words) throws Exception {
        var answer = HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(words[0])).build(),
            HttpResponse.BodyHandlers.ofString());
        System.out.println(answer.body());
    }
}
"""
CHROMIUM = (
    *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"),
)


@dataclass(frozen=True)
class Corporate:
    """The intranet of a company: a site, and the root that signed it."""

    url: str
    root: Path
    authority: trustme.CA


@pytest.fixture
def corporate(tmp_path: Path) -> Iterator[Corporate]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "corp.pem"))
    with site(authority, "localhost") as port:
        yield Corporate(f"https://localhost:{port}/", tmp_path / "corp.pem", authority)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[SystemTree]:
    need_tree()
    before = fingerprint_of_stores()
    yield SystemTree(tmp_path / "tree")
    assert fingerprint_of_stores() == before


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    scrubbed = clean_environment(EDGE_HOME=str(tmp_path / "home"), HOME=str(tmp_path))
    return {name: value for name, value in scrubbed.items() if not name.startswith(("XDG_", "SUDO_", "JAVA"))}


def edge_trust(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "edge", "trust", *arguments]


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_programs_that_go_by_the_system_trust_a_root_from_add_to_remove(
    corporate: Corporate, tree: SystemTree, environ: dict[str, str]
) -> None:
    programs = {"urllib": [sys.executable, "-c", PYTHON, corporate.url]}
    if shutil.which("curl"):
        programs["curl"] = ["curl", "--silent", "--show-error", "--noproxy", "*", corporate.url]

    def answers() -> dict[str, str]:
        done = {name: tree.run(*command, environ=environ) for name, command in programs.items()}
        return {name: item.stdout.strip() or item.stderr for name, item in done.items()}

    bundle = tree.copy_of("/etc/ssl/certs/ca-certificates.crt")
    before = bundle.read_bytes()
    assert all("certificate" in text for text in answers().values())
    added = ok(tree.run(*edge_trust("add", str(corporate.root), "--to", "system", "--yes"), environ=environ))
    assert "\ninstalled: system /usr/local/share/ca-certificates; programs that run already see it after a " in added
    assert set(answers().values()) == {"ok"}
    assert "  edge, system  " in ok(tree.run(*edge_trust("list"), environ=environ))
    again = ok(tree.run(*edge_trust("add", str(corporate.root), "--to", "system", "--yes"), environ=environ))
    assert again.endswith("unchanged: system /usr/local/share/ca-certificates\n")
    ok(tree.run(*edge_trust("remove", "corp", "--yes"), environ=environ))
    assert all("certificate" in text for text in answers().values())
    assert bundle.read_bytes() == before
    assert list(tree.copies["/usr/local/share/ca-certificates"].glob("edge-*")) == []


def test_command_of_the_system_that_fails_leaves_nothing_behind(
    corporate: Corporate, tree: SystemTree, environ: dict[str, str]
) -> None:
    folder = tree.copies["/usr/local/share/ca-certificates"]
    before = sorted(folder.iterdir())
    # The system's command wants a temporary file, and there is no folder for it.
    environ["TMPDIR"] = "/nosuch"
    done = tree.run(*edge_trust("add", str(corporate.root), "--to", "system", "--yes"), environ=environ)
    assert done.returncode == 1
    assert "installed" not in done.stdout
    assert done.stderr.startswith(
        "edge: system /usr/local/share/ca-certificates: command 'update-ca-certificates': exit"
    )
    assert done.stderr.count("\n") == 1
    assert sorted(folder.iterdir()) == before
    assert Installations(Path(environ["EDGE_HOME"])).all() == []


def test_kill_while_the_systems_command_runs_is_seen_and_ended(
    corporate: Corporate, tree: SystemTree, environ: dict[str, str]
) -> None:
    hook = tree.copies["/etc/ca-certificates/update.d"] / "kill"
    hook.write_text('#!/bin/sh\nkill -KILL "$EDGE_PID"\n')
    hook.chmod(0o755)
    add = edge_trust("add", str(corporate.root), "--to", "system", "--yes")
    # The shell becomes the command, and so their process id is the same.
    done = tree.run("sh", "-c", 'EDGE_PID=$$ exec "$@"', "sh", *add, environ=environ)
    assert done.returncode == -signal.SIGKILL
    hook.unlink()
    home = Path(environ["EDGE_HOME"])
    [found] = leftovers(home)
    assert found.text == "installing or removing a root in system was interrupted"
    program, trust, *words = found.command.split()
    assert (program, trust) == ("edge", "trust")
    assert "removed: system" in ok(tree.run(*edge_trust(*words, "--yes"), environ=environ))
    assert leftovers(home) == []
    assert list(tree.copies["/usr/local/share/ca-certificates"].glob("edge-*")) == []
    added = ok(tree.run(*add, environ=environ))
    assert "\ninstalled: system " in added


class JavaClient:
    """A program that goes by the roots of Java: an HTTPS client, or keytool where nothing can be compiled."""

    def __init__(self, tree: SystemTree, corporate: Corporate, folder: Path) -> None:
        self._tree = tree
        self._store = folder / "store"
        if shutil.which("javac") is not None:
            (folder / "Client.java").write_text(JAVA)
            self._command = ["java", str(folder / "Client.java"), corporate.url]
            self._refusal = "unable to find valid certification path"
        else:
            leaf = folder / "leaf.pem"
            corporate.authority.issue_cert("intranet.corp.example").cert_chain_pems[0].write_to_path(str(leaf))
            command = f"keytool -importcert -trustcacerts -file {leaf} -keystore {self._store} -storepass changeit"
            self._command = command.split()
            # It asks when there is no way from the certificate to a root.
            self._refusal = "Trust this certificate?"

    def trusts(self, environ: dict[str, str]) -> bool:
        """Whether it trusts what the corporate root has signed."""
        done = self._tree.run(*self._command, environ=environ)
        self._store.unlink(missing_ok=True)
        is_refused = self._refusal in done.stdout + done.stderr
        # No other failure is a verdict on the root; keytool's exit code does not say what it has decided.
        assert is_refused or done.returncode == 0, done.stderr
        return not is_refused


def test_java_trusts_a_root_from_add_to_remove(
    corporate: Corporate, tree: SystemTree, environ: dict[str, str], tmp_path: Path
) -> None:
    if shutil.which("keytool") is None:
        pytest.skip("needs keytool of default-jre-headless")
    client = JavaClient(tree, corporate, tmp_path)
    assert not client.trusts(environ)
    added = ok(tree.run(*edge_trust("add", str(corporate.root), "--to", "java", "--yes"), environ=environ))
    assert "\ninstalled: java " in added
    assert "; restart what runs on Java" in added
    assert client.trusts(environ)
    ok(tree.run(*edge_trust("remove", "corp", "--yes"), environ=environ))
    assert not client.trusts(environ)


def browse(url: str, environ: dict[str, str], profile: Path) -> str:
    """Return the page that Chromium shows, and what it says about its failures."""
    done = subprocess.run(
        [*CHROMIUM, f"--user-data-dir={profile}", "--dump-dom", url],
        env=environ,
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("folder", [".pki/nssdb", ".local/share/pki/nssdb"])
def test_chromium_accepts_a_site_after_add_to_nss(
    folder: str, corporate: Corporate, environ: dict[str, str], tmp_path: Path
) -> None:
    """Chromium before M146, or one with an old folder, and Chromium since then with none."""
    for tool in ("chromium", "certutil"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    if folder == ".pki/nssdb":
        (tmp_path / folder).mkdir(parents=True)
    profile = tmp_path / "profile"
    assert "ERR_CERT_AUTHORITY_INVALID" in browse(corporate.url, environ, profile)
    added = ok(
        subprocess.run(
            edge_trust("add", str(corporate.root), "--to", "nss"),
            env=environ,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    )
    assert added.endswith(f"installed: nss {tmp_path / folder}; restart the browser\n")
    assert ">ok</pre>" in browse(corporate.url, environ, profile)
    assert (tmp_path / ".pki").exists() == (folder == ".pki/nssdb")


def test_firefox_accepts_a_site_after_add_to_firefox(
    corporate: Corporate, environ: dict[str, str], tmp_path: Path
) -> None:
    """In a profile where Firefox itself makes it, with the database that it makes when it is first started."""
    for tool in ("firefox-esr", "certutil"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}")
    make = ["firefox-esr", "--headless", "--no-remote", "-CreateProfile", "corp"]
    subprocess.run(make, env=environ, capture_output=True, timeout=2 * DEADLINE, check=True)
    [listing] = tmp_path.rglob("profiles.ini")
    [profile] = [path.parent for path in listing.parent.rglob("times.json")]
    firefox.prepare(profile)
    assert "SEC_ERROR_UNKNOWN_ISSUER" in firefox.show(corporate.url, profile, environ)
    command = edge_trust("add", str(corporate.root), "--to", "firefox")
    added = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert ok(added).endswith(f"installed: firefox {profile}; restart Firefox\n")
    assert firefox.show(corporate.url, profile, environ) == "ok"
