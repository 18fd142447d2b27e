"""One call out, as each library makes it: `trust_clients.py LIBRARY URL`. Prints `ok`, or `refused` and why."""

from __future__ import annotations

import asyncio
import sys


def by_urllib(url: str) -> str:
    """As the standard library calls out."""
    import urllib.request

    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read().decode())


def by_requests(url: str) -> str:
    """As requests does by default."""
    import requests

    return requests.get(url, timeout=20).text


def by_requests_without_environment(url: str) -> str:
    """As a requests session that was told to look at no variable: only certifi is left to it, and the proxy by hand."""
    import urllib.request

    import requests

    with requests.Session() as session:
        session.trust_env = False
        session.proxies = urllib.request.getproxies()
        return session.get(url, timeout=20).text


def by_httpx(url: str) -> str:
    """As httpx does by default."""
    import httpx

    return httpx.get(url, timeout=20).text


def by_certifi(url: str) -> str:
    """As whoever writes `verify=certifi.where()`, the most common cure of all."""
    import ssl
    import urllib.request

    import certifi

    context = ssl.create_default_context(cafile=certifi.where())
    with urllib.request.urlopen(url, timeout=20, context=context) as answer:
        return str(answer.read().decode())


def by_aiohttp(url: str) -> str:
    """As aiohttp does, told to go through the proxy that variables name, as all others do."""
    return asyncio.run(_aiohttp(url))


async def _aiohttp(url: str) -> str:
    import aiohttp

    async with aiohttp.ClientSession(trust_env=True) as session, session.get(url) as answer:
        return await answer.text()


def by_curl(url: str) -> str:
    """As a subprocess of the application does."""
    import subprocess

    done = subprocess.run(["curl", "-sS", "-m", "20", url], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(done.stderr)
    return done.stdout


LIBRARIES = {
    "urllib": by_urllib,
    "requests": by_requests,
    "requests without environment": by_requests_without_environment,
    "httpx": by_httpx,
    "certifi": by_certifi,
    "aiohttp": by_aiohttp,
    "curl": by_curl,
}


def call(library: str, url: str) -> str:
    """Return `ok`, or `refused: ` and the error in one line."""
    try:
        return LIBRARIES[library](url)
    except Exception as error:
        return f"refused: {type(error).__name__}: {error}".replace("\n", " ")


if __name__ == "__main__":
    print(call(*sys.argv[1:]))
