"""One call out, as a library of the application makes it, in a process of its own: `python -m edge_certs.trust.calls`.

Arguments are the library and the https URL. Prints one JSON object: `state` ("ok", "refused", "failed" or "absent"),
`detail`, `version` and `certifi` (what `certifi.where()` answers there). Nothing of the library's verification is
touched, and "ok" means that it took the server's certificate, whatever the server then answered.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
import urllib.request
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from urllib.error import HTTPError
from urllib.parse import urlsplit

# Seconds that a connection and each answer may take: a proxy that makes certificates on the spot needs some of them.
TIMEOUT = 15.0

# As Python and BoringSSL say it; then what grpc and botocore say of a certificate of another name.
_REFUSED = re.compile(
    r"CERTIFICATE_VERIFY_FAILED(?:\] certificate verify failed)?:? *([^(\n]*)"
    r"|(Peer name \S+ is not in peer certificate)|(hostname '[^']*' doesn't match .*)"
)
# A message may quote all that a server said.
_MAX_DETAIL = 300
# grpc speaks HTTP/2 alone, and says so of any other server after it has verified its certificate.
_NO_HTTP2 = "missing selected ALPN property"


def call_urllib(url: str) -> None:
    """As the standard library calls out."""
    try:
        urllib.request.urlopen(url, timeout=TIMEOUT).close()
    except HTTPError as error:
        error.close()


def call_urllib3(url: str) -> None:
    """As urllib3 does; it knows no variables, so the proxy that they name is given to it."""
    urllib3 = import_module("urllib3")
    proxy = _proxy(url)
    with urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager() as pool:
        pool.request("GET", url, timeout=TIMEOUT, retries=False)


def call_requests(url: str) -> None:
    """As requests does by default."""
    import_module("requests").get(url, timeout=TIMEOUT)


def call_httpx(url: str) -> None:
    """As httpx does by default."""
    import_module("httpx").get(url, timeout=TIMEOUT)


def call_aiohttp(url: str) -> None:
    """As aiohttp does, told to go through the proxy that variables name, as the others do by themselves."""
    asyncio.run(_call_aiohttp(url))


def call_boto3(url: str) -> None:
    """As boto3 does, by one request to the URL as an S3 endpoint, with keys that are nobody's."""
    boto3, exceptions = import_module("boto3"), import_module("botocore.exceptions")
    config = import_module("botocore.config").Config(
        retries={"total_max_attempts": 1}, connect_timeout=TIMEOUT, read_timeout=TIMEOUT
    )
    keys = {"aws_access_key_id": "edge", "aws_secret_access_key": "edge"}
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", config=config, **keys)
    try:
        client.list_buckets()
    except (exceptions.ClientError, import_module("botocore.parsers").ResponseParserError):
        return  # an answer, but not S3's


def call_grpc(url: str) -> str:
    """As grpc does, by a method that no server has; returns what was left unverified."""
    grpc = import_module("grpc")
    host = urlsplit(url).netloc.rpartition("@")[2]
    target = host if urlsplit(url).port else f"{host}:443"
    with grpc.secure_channel(target, grpc.ssl_channel_credentials()) as channel:
        try:
            channel.unary_unary("/edge.Trust/Check")(b"", timeout=TIMEOUT)
        except grpc.RpcError as error:
            if _NO_HTTP2 in error.details():
                return "no HTTP/2 there, so grpc did not come to compare the name"
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise ConnectionError(error.details()) from None
    return ""


def call_certifi(url: str) -> None:
    """As whoever writes `verify=certifi.where()`, the most common cure of all."""
    context = ssl.create_default_context(cafile=import_module("certifi").where())
    try:
        urllib.request.urlopen(url, timeout=TIMEOUT, context=context).close()
    except HTTPError as error:
        error.close()


CALLS: Mapping[str, Callable[[str], str | None]] = {
    "urllib": call_urllib,
    "urllib3": call_urllib3,
    "requests": call_requests,
    "httpx": call_httpx,
    "aiohttp": call_aiohttp,
    "boto3": call_boto3,
    "grpc": call_grpc,
    "certifi": call_certifi,
}
# What `pip` calls a library, where it calls it otherwise; the standard library has no version of its own.
DISTRIBUTIONS = {"grpc": "grpcio", "urllib": ""}


def attempt(library: str, url: str) -> dict[str, str]:
    """Return what a call by `library` to `url` came to; see the module for the keys."""
    found = _version(library)
    if found is None:
        return {"state": "absent", "detail": "not installed", "version": "", "certifi": ""}
    state, detail = _outcome(library, url)
    return {"state": state, "detail": detail, "version": found, "certifi": _certifi()}


def classify(text: str) -> tuple[str, str]:
    """Return the state and the detail for the error message `text` of a library that uses OpenSSL or BoringSSL."""
    match = _REFUSED.search(text)
    if match is None:
        return "failed", " ".join(text.split())[:_MAX_DETAIL]
    found = next(filter(None, match.groups()), "certificate verify failed")
    return "refused", found.strip().removesuffix(": OK").rstrip(".")


async def _call_aiohttp(url: str) -> None:
    aiohttp = import_module("aiohttp")
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    async with aiohttp.ClientSession(trust_env=True, timeout=timeout) as session, session.get(url):
        pass


def _outcome(library: str, url: str) -> tuple[str, str]:
    try:
        return "ok", CALLS[library](url) or ""
    except Exception as error:
        # Libraries have no exception in common, and some wrap the one that says why.
        return classify(f"{type(error).__name__}: {error}")


def _version(library: str) -> str | None:
    name = DISTRIBUTIONS.get(library, library)
    if not name:
        return ".".join(map(str, sys.version_info[:3]))
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _certifi() -> str:
    try:
        return str(import_module("certifi").where())
    except ImportError:
        return ""


def _proxy(url: str) -> str:
    host = urlsplit(url).netloc
    return "" if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get("https", "")


if __name__ == "__main__":
    print(json.dumps(attempt(*sys.argv[1:])))
