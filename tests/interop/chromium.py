"""Headless Chromium, driven over the DevTools protocol."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.process.server import DEADLINE, clean_environment, wait_until

_LISTENING = re.compile(r"DevTools listening on (ws://\S+)")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    "--remote-debugging-port=0",
)


class Browser:
    """A running browser; its pages are opened with `open`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    def call(self, method: str, *, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=DEADLINE))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, url: str) -> Page:
        """Open a page in a new window."""
        target = self.call("Target.createTarget", url=url)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, session)


class Page:
    """One window."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        result = self._browser.call(
            "Runtime.evaluate", session=self._session, expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """Return the first true value of a JavaScript expression."""
        return wait_until(lambda: self._evaluate_if_loaded(expression), expression)

    def _evaluate_if_loaded(self, expression: str) -> Any:
        try:
            return self.evaluate(expression)
        except AssertionError as error:
            # Between two documents there is none in which anything could be evaluated.
            if "execution context" in str(error).lower():
                return None
            raise


@contextlib.contextmanager
def browsing(folder: Path, root: Path | None, *flags: str, home: Path | None = None) -> Iterator[Browser]:
    """Run Chromium in a new home, in which `root` is trusted besides the public authorities, or in `home` as it is."""
    for tool in ("chromium", "certutil"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if home is None:
        home = folder / "browser"
        _make_home(home, root)
    # Its profile goes on being written to while it ends.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            ["chromium", *_FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"],
            env=clean_environment(HOME=str(home), XDG_DATA_HOME=str(home / ".local/share")),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        lines: list[str] = []
        reader = threading.Thread(target=_collect, args=(process, lines))
        reader.start()
        try:
            address = wait_until(lambda: _LISTENING.search("\n".join(list(lines))), "Chromium's debugging port")[1]
            with connect(address, proxy=None, max_size=None) as socket:
                yield Browser(socket)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            reader.join(DEADLINE)
            assert process.stderr is not None
            process.stderr.close()


def _make_home(home: Path, root: Path | None) -> None:
    # Chromium reads this database unless ~/.pki/nssdb exists.
    database = home / ".local/share/pki/nssdb"
    database.mkdir(parents=True)
    place = f"sql:{database}"
    subprocess.run(["certutil", "-N", "-d", place, "--empty-password"], check=True, timeout=DEADLINE)
    if root is not None:
        command = ["certutil", "-A", "-d", place, "-t", "C,,", "-n", "test root", "-i", str(root)]
        subprocess.run(command, check=True, timeout=DEADLINE)


def _collect(process: subprocess.Popen[str], lines: list[str]) -> None:
    assert process.stderr is not None
    lines.extend(iter(process.stderr.readline, ""))
