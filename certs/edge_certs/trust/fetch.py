"""A root from a URL: over HTTPS that is verified, or over plain HTTP when its fingerprint is known."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from edge_certs.errors import CertificateError
from edge_certs.files import MAX_FILE_SIZE

# Each wait for the network, and all of it: a portal of a company that is slower than this is down.
STEP_TIMEOUT = 5.0
TOTAL_TIMEOUT = 20.0
# From http to https, from a short name to the full one, to a page's new place; more is a loop.
MAX_REDIRECTS = 5
USER_AGENT = "edge-trust"

HTTP_ADVICE = "use https, or give the SHA-256 of the certificate with --fingerprint"
UNTRUSTED_ADVICE = "fetch the file by other means, or from an http URL with --fingerprint"


def fetch(url: str, context: ssl.SSLContext, *, is_pinned: bool) -> bytes:
    """Return what `url` holds, at most `MAX_FILE_SIZE` bytes, in at most `TOTAL_TIMEOUT` seconds.

    `is_pinned` says that the content's fingerprint will be checked: only then may it come over plain HTTP, at the
    beginning or after a redirection. Proxies are those of the environment.

    Raises CertificateError: it is refused, does not come, comes from nobody that `context` trusts, or is too large.
    """
    with _explained(url):
        return asyncio.run(_fetch(httpx.URL(url), context, is_pinned=is_pinned))


async def _fetch(url: httpx.URL, context: ssl.SSLContext, *, is_pinned: bool) -> bytes:
    target = url
    async with (
        asyncio.timeout(TOTAL_TIMEOUT),
        httpx.AsyncClient(verify=context, timeout=STEP_TIMEOUT, headers={"user-agent": USER_AGENT}) as client,
    ):
        for _ in range(MAX_REDIRECTS + 1):
            if target.scheme != "https" and not is_pinned:
                raise CertificateError(f"{target}: plain http, which anybody on the way can change", HTTP_ADVICE)
            if not target.host or not 0 < (target.port or 443) < 65536:
                raise httpx.InvalidURL("it has no host, or a port above 65535")
            async with client.stream("GET", target) as response:
                if not response.has_redirect_location:
                    return await _content(response)
                target = target.join(response.headers["location"])
    raise CertificateError(f"{url}: more than {MAX_REDIRECTS} redirections", "name the file's own URL")


async def _content(response: httpx.Response) -> bytes:
    if response.status_code != httpx.codes.OK:
        answer = f"{response.status_code} {response.reason_phrase}".rstrip()
        raise CertificateError(f"{response.url}: the answer is {answer}", "name another URL")
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > MAX_FILE_SIZE:
            raise CertificateError(f"{response.url}: more than {MAX_FILE_SIZE} bytes", "name the certificate's own URL")
    return bytes(content)


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.InvalidURL as error:
        raise CertificateError(f"{url!r}: not a URL: {str(error).lower()}", "name it as https://HOST/FILE") from error
    except (TimeoutError, httpx.TimeoutException) as error:
        raise CertificateError(f"{url}: no complete answer in time", "try again later") from error
    except httpx.HTTPError as error:
        untrusted = next((item for item in _causes(error) if isinstance(item, ssl.SSLCertVerificationError)), None)
        if untrusted is not None:
            found = f"{url}: its certificate is not trusted: {untrusted.verify_message}"
            raise CertificateError(found, UNTRUSTED_ADVICE) from error
        words = str(error).strip() or "the connection broke without an answer"
        raise CertificateError(
            f"{url}: {words.splitlines()[0][:300].lower()}", "check the URL and the way there"
        ) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__
