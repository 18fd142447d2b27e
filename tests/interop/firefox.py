"""Headless Firefox, driven over WebDriver BiDi: which page it shows, or that it shows none."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.process.server import DEADLINE, wait_until

_LISTENING = re.compile(r"WebDriver BiDi listening on (ws://\S+)")
# All but the site on loopback goes to a proxy that nobody runs: no name is looked up, and nothing is called.
_PREFERENCES: dict[str, bool | int | str] = {
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "network.proxy.no_proxies_on": "localhost, 127.0.0.1",
    "network.dns.disablePrefetch": True,
    "network.trr.mode": 5,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "app.update.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "toolkit.telemetry.enabled": False,
}


def prepare(profile: Path) -> None:
    """Write the preferences into a profile's folder, which may be new."""
    profile.mkdir(parents=True, exist_ok=True)
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _PREFERENCES.items()]
    (profile / "user.js").write_text("".join(lines))


def show(url: str, profile: Path, environ: dict[str, str]) -> str:
    """Start Firefox with the profile and return the text of the page, or the error that it shows in its place."""
    process = subprocess.Popen(
        ["firefox-esr", "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port=0"],
        env=environ,
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
        address = wait_until(lambda: _LISTENING.search("".join(list(lines))), "Firefox's debugging port")[1]
        with connect(f"{address}/session", proxy=None) as socket:
            return _read(socket, url)
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(DEADLINE)
        assert process.stderr is not None
        process.stderr.close()


def _read(socket: ClientConnection, url: str) -> str:
    _call(socket, 1, "session.new", capabilities={})
    tree = _call(socket, 2, "browsingContext.getTree")
    context = tree["result"]["contexts"][0]["context"]
    answer = _call(socket, 3, "browsingContext.navigate", context=context, url=url, wait="complete")
    if answer["type"] == "error":
        return str(answer["message"])
    expression = {"expression": "document.body.innerText", "target": {"context": context}, "awaitPromise": False}
    return str(_call(socket, 4, "script.evaluate", **expression)["result"]["result"]["value"])


def _call(socket: ClientConnection, number: int, method: str, **parameters: Any) -> dict[str, Any]:
    socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
    while True:
        answer: dict[str, Any] = json.loads(socket.recv(timeout=DEADLINE))
        if answer.get("id") == number:
            return answer


def _collect(process: subprocess.Popen[str], lines: list[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
