"""One call out, as a client of the matrix makes it: libraries in this very process, tools as children of it.

The calls are those of `edge trust check`; tests hold them to real servers, so that they can say "refused" and "ok".
"""

from __future__ import annotations

import os
import urllib.request

from edge_certs.trust.attempts import Setting
from edge_certs.trust.attempts import attempt as attempt_tool
from edge_certs.trust.calls import CALLS, classify
from edge_certs.trust.calls import attempt as attempt_library
from edge_certs.trust.clients import CLIENTS, find_client

WITHOUT_ENVIRONMENT = "requests without environment"
NAMES = (*(client.name for client in CLIENTS), WITHOUT_ENVIRONMENT)


def call(name: str, url: str) -> str:
    """Return the state, and behind a colon why, unless it is "ok"."""
    if name == WITHOUT_ENVIRONMENT:
        return _requests_without_environment(url)
    if name in CALLS:
        result = attempt_library(name, url)
        state, detail = result["state"], result["detail"]
    else:
        proxy = urllib.request.getproxies().get("https", "")
        outcome = attempt_tool(find_client(name), Setting("now", os.environ), url, proxy)
        state, detail = outcome.state, outcome.detail
    return state if state == "ok" else f"{state}: {detail}"


def _requests_without_environment(url: str) -> str:
    """As a session that was told to look at no variable: only certifi is left to it, and the proxy by hand."""
    import requests

    with requests.Session() as session:
        session.trust_env = False
        session.proxies = urllib.request.getproxies()
        try:
            session.get(url, timeout=20)
        except requests.exceptions.RequestException as error:
            return ": ".join(classify(str(error)))
    return "ok"
