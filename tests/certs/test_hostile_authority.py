"""Whatever an authority sends: nothing hangs, the old certificate goes on serving, and honesty ends the trouble."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import timedelta
from itertools import islice
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x448

from edge_certs.ledger import KEPT, Outcome
from edge_certs.storage import MAX_ORDER_FAILURES
from tests.certs.forge import NOW, forge
from tests.certs.hostile import DAY, NAMES, SIGNER, Hostile, Victim, attacked, http, refusal

Attack = Callable[[Hostile], bytes]

DEEP = b"[" * 200_000
LONG = "a" * 900_000
LATER = (NOW + 85 * DAY).isoformat()
CHUNKED = b"HTTP/1.1 200 X\r\nreplay-nonce: bm9uY2U\r\ntransfer-encoding: chunked\r\n\r\n"
BOMB = gzip.compress(gzip.compress(b"\0" * 50_000_000))
MINUTE = timedelta(minutes=1)

# At any request: what no HTTP client, JSON parser or reader of dates may choke on.
ANYWHERE: dict[str, Attack] = {
    "redirects without end": lambda it: http(b"", f"location: {it.base}/order", status=302),
    "a page that says 200": lambda it: http(b"<html>", "content-type: text/html"),
    "a page that says it is a problem": lambda it: http(
        b"<html>", "content-type: application/problem+json", status=400
    ),
    "an array": lambda it: http([]),
    "nothing": lambda it: http(b""),
    "nested without end": lambda it: http(DEEP),
    "refusal nested without end": lambda it: http(DEEP, status=400),
    "octets that are no text": lambda it: http(b"\xff\xfe\x00"),
    "two MiB": lambda it: http(b"x" * 2_000_000),
    "chunks without end": lambda it: CHUNKED + b"100000\r\n" + b"x" * 0x100000 + b"\r\n10\r\n" + b"x" * 10,
    "fields without end": lambda it: http(b"{}", *(f"x-{n}: {'y' * 1000}" for n in range(1000))),
    "packed twice": lambda it: http(BOMB, "content-encoding: gzip, gzip"),
    "no HTTP": lambda it: b"\0" * 1000,
    "length that is none": lambda it: b"HTTP/1.1 200 X\r\ncontent-length: -1\r\n\r\n",
    "broken off": lambda it: http(b"{}" * 500)[:-600],
    "type of a megabyte": lambda it: refusal(LONG),
    "identifiers of a megabyte": lambda it: refusal(
        "dns", subproblems=[{"identifier": {"value": LONG}, "detail": "x"}]
    ),
    "type that is a list": lambda it: http({"type": [], "detail": {}, "subproblems": 7}, status=400),
    "refusal with line ends": lambda it: refusal("x\r\n2026 ERROR all is lost", detail="\r\n\x1b[31mred"),
    "ten years of patience": lambda it: refusal("rateLimited", "retry-after: 315360000", status=429),
    "patience that is past": lambda it: refusal("serverInternal", "retry-after: -5", status=503),
    "date out of range": lambda it: refusal("x", "retry-after: Fri, 31 Dec 9999 23:59:59 -2359", status=503),
    "zone out of range": lambda it: refusal("x", f"retry-after: Mon, 01 Jan 2026 00:00:00 +{'9' * 30}", status=503),
}

# At one request: what makes sense in form, and none in substance.
PRECISELY: dict[str, tuple[str, Attack]] = {
    "every nonce refused": ("order", lambda it: refusal("badNonce")),
    "nonces that are none": ("nonce", lambda it: http(b"", nonce="no nonce")),
    "reason for a revocation refused": ("order", lambda it: refusal("badRevocationReason")),
    "order without a place": ("order", lambda it: http(it.order())),
    "order at a place that is none": ("order", lambda it: http({"status": "processing"}, "location: https://[::1")),
    "order at a port that is none": ("order", lambda it: http({"status": "processing"}, "location: https://h:99999/")),
    "order invalid at once": ("order", lambda it: http({"status": "invalid"}, "location: /order-1")),
    "order invalid in the end": ("order-1", lambda it: http(it.order(status="invalid", error={"type": []}))),
    "order that is never ready": ("finalize", lambda it: refusal("orderNotReady", status=403)),
    "order that never ends": ("finalize", lambda it: http({"status": "processing"}, "retry-after: 315360000")),
    "status of a megabyte": ("order-1", lambda it: http({"status": LONG})),
    "proofs without end": (
        "order",
        lambda it: http(it.order(authorizations=[f"{it.base}/authz-{NAMES[0]}"] * 5000), "location: /order-1"),
    ),
    "proofs in the clear": (
        "order",
        lambda it: http(it.order(authorizations=["http://localhost/" + LONG]), "location: /order-1"),
    ),
    "proof for another name": (f"authz-{NAMES[0]}", lambda it: http(it.authorization("bank.example"))),
    "token that leaves the folder": (
        f"authz-{NAMES[0]}",
        lambda it: http(
            it.authorization(
                NAMES[0], challenges=[{"type": "http-01", "url": "/p", "token": "../../live/x", "status": "pending"}]
            )
        ),
    ),
    "for another key": ("chain", lambda it: http(it.sign(key=ec.generate_private_key(ec.SECP256R1()).public_key()))),
    "for a key that is none": ("chain", lambda it: http(it.sign(key=x448.X448PrivateKey.generate().public_key()))),
    "for other names": ("chain", lambda it: http(it.sign("bank.example"))),
    "for one of the names": ("chain", lambda it: http(it.sign(NAMES[0]))),
    "chain of a hundred": ("chain", lambda it: http(it.chain + SIGNER.pem * 99)),
    "chain that leads elsewhere": ("chain", lambda it: http(it.chain + forge(common_name="Nobody").pem)),
    "chain by a namesake": ("chain", lambda it: http(it.chain + forge(common_name="Hostile Root").pem)),
    "chain the other way round": ("chain", lambda it: http(SIGNER.pem + it.chain)),
    "half a chain": ("chain", lambda it: http(it.chain[:-100])),
    "expired when it comes": ("chain", lambda it: http(it.sign(since=-100 * DAY))),
    "not valid yet": ("chain", lambda it: http(it.sign(since=1000 * DAY))),
}

# Where the first are sent, in turn; what is said to the request for a nonce has no content.
WHERE = ("dir", "account", "order", f"authz-{NAMES[0]}", "prove", "order-1", "finalize", "chain")
GENERAL = {path: list(islice(ANYWHERE.items(), number, None, len(WHERE))) for number, path in enumerate(WHERE)}
PRECISE = {
    path: [(name, attack) for name, (at, attack) in PRECISELY.items() if at == path]
    for path in dict.fromkeys(path for path, _ in PRECISELY.values())
}
ATTACKS = [
    pytest.param(path, attacks, id=f"{kind} at {path}")
    for kind, known in (("nonsense", GENERAL), ("harm", PRECISE))
    for path, attacks in known.items()
]


@pytest.mark.parametrize(("path", "attacks"), ATTACKS)
def test_answer_that_means_harm_harms_nothing(tmp_path: Path, path: str, attacks: list[tuple[str, Attack]]) -> None:
    async def act(victim: Victim) -> None:
        await victim.settle()
        before = victim.certificate.fingerprint
        for name, attack in attacks:
            victim.authority.attacks = {path: attack}
            await _endure(victim, path, name)
            if path == "prove" and victim.state.last_error == "":
                before = victim.certificate.fingerprint  # it was proven: what is said to that means nothing
            assert victim.certificate.fingerprint == before, name
        victim.authority.attacks = {}
        for _ in range(MAX_ORDER_FAILURES + 1):
            victim.wait()
            await victim.settle()
            if victim.certificate.fingerprint != before:
                break
        assert victim.certificate.fingerprint != before
        assert victim.certificate.names == NAMES
        assert victim.state.last_error == ""

    attacked(tmp_path, act)


async def _endure(victim: Victim, path: str, name: str) -> None:
    """Try to renew while the authority attacks."""
    if path == "account":
        victim.storage.authority(victim.settings.directory).forget()
    victim.wait()
    asked = len(victim.authority.asked)
    assert await victim.settle() >= MINUTE, name
    assert len(victim.authority.asked) - asked < 200, name
    if path == "prove":
        return
    state = victim.state
    assert state.last_error, name
    assert state.last_error.isprintable()
    assert len(state.last_error) < 5000, name
    assert state.next_at is not None
    assert state.next_at <= victim.now + KEPT, name
    attempt = victim.storage.authority(victim.settings.directory).ledger().attempts[-1]
    assert attempt.outcome is Outcome.FAILED, name


@pytest.mark.parametrize(("kind", "status"), [("unauthorized", 403), ("malformed", 404), ("malformed", 400)])
def test_certificate_of_another_account_is_renewed(tmp_path: Path, kind: str, status: int) -> None:
    """As one that certbot got: Let's Encrypt says when to renew it, and lets nobody else say what replaces it."""

    async def act(victim: Victim) -> None:
        await victim.settle()
        before = victim.certificate.fingerprint
        window = {"start": (victim.now + 10 * DAY).isoformat(), "end": (victim.now + 12 * DAY).isoformat()}

        def refuse(it: Hostile) -> bytes:
            if it.payload.get("replaces"):
                return refusal(kind, status=status)
            return it.honest("order", it.payload)

        victim.authority.attacks = {"ari": lambda it: http({"suggestedWindow": window}), "order": refuse}
        victim.wait_until_asked()
        await victim.settle()
        assert victim.state.reason == "the authority's window"
        victim.wait()
        victim.authority.attacks.pop("ari")
        await victim.settle()
        assert victim.certificate.fingerprint != before
        assert victim.authority.replaced[-1] is None
        attempt = victim.storage.authority(victim.settings.directory).ledger().attempts[-1]
        # What is no renewal in the authority's eyes counts against its limits.
        assert (attempt.outcome, attempt.is_renewal) == (Outcome.ISSUED, False)

    attacked(tmp_path, act)


WINDOWS: dict[str, Attack] = {
    "before all dates": lambda it: http({"suggestedWindow": {"start": "0001-01-01T00:00:00+14:00", "end": LATER}}),
    "after all dates": lambda it: http({"suggestedWindow": {"start": LATER, "end": "9999-12-31T23:59:59-14:00"}}),
    "explained for ever": lambda it: http(
        {"suggestedWindow": {"start": LATER, "end": LATER}, "explanationURL": "\N{PILE OF POO}" * 200_000}
    ),
    "explained in lines": lambda it: http(
        {"suggestedWindow": {"start": LATER, "end": LATER}, "explanationURL": "x\r\nERROR all is lost"}
    ),
    "nested without end": lambda it: http(DEEP),
    "redirects": lambda it: http(b"", f"location: {it.base}/ari", status=307),
    "ten years of patience": lambda it: refusal("rateLimited", "retry-after: 315360000", status=429),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_window_that_means_harm_neither_stops_nor_hurries_a_renewal(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(victim: Victim) -> None:
        victim.authority.attacks = {"ari": WINDOWS[name]}
        await victim.settle()
        before = victim.certificate.fingerprint
        for _ in range(2):
            victim.wait_until_asked()
            await victim.settle()
            assert victim.certificate.fingerprint == before
        assert all(record.getMessage().isprintable() for record in caplog.records)
        # By its dates, or in its last twentieth whatever the window says.
        victim.authority.clock.now_is = NOW + 86 * DAY
        await victim.settle()
        assert victim.certificate.fingerprint != before

    attacked(tmp_path, act)


def test_authority_that_is_gone_in_the_middle_keeps_no_order_for_ever(tmp_path: Path) -> None:
    async def act(victim: Victim) -> None:
        await victim.settle()
        before = victim.certificate.fingerprint
        elsewhere = {"order": lambda it: http(it.order(), "location: https://localhost:1/order-1")}
        victim.authority.attacks = elsewhere
        for _ in range(MAX_ORDER_FAILURES):
            victim.wait()
            victim.authority.attacks = elsewhere
            victim.authority.status = "pending"
            victim.authority.attacks[f"authz-{NAMES[0]}"] = lambda it: b""
            await victim.settle()
            assert victim.certificate.fingerprint == before
        victim.authority.attacks = {}
        victim.wait()
        await victim.settle()
        assert victim.certificate.fingerprint != before

    attacked(tmp_path, act)
