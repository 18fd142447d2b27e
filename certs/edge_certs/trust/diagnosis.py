"""What is wrong with the trust of a machine, each with the command that mends it (pure).

*Broken* is what makes calls fail or lets others in, a *warning* what will, or does for some; the rest is not named.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import PurePath

from cryptography import x509

from edge_certs.trust.anchors import without_warnings
from edge_certs.trust.defects import Severity, find_defects
from edge_certs.trust.store import Anchor
from edge_certs.trust.survey import Condition, Place, Worker
from edge_certs.trust.toolsettings import Setting
from edge_certs.trust.variables import BUNDLE_VARIABLES, EXTRA_VARIABLES, MERGED_VARIABLE
from edge_certs.x509 import PARSE_ERRORS

# An IT department gives out a new root some weeks before the old one ends.
SOON = timedelta(days=30)
# What makes each system's bundle anew, and what brings its roots; by ID of os-release(5).
REFRESH = {
    "debian": "update-ca-certificates",
    "alpine": "update-ca-certificates",
    "suse": "update-ca-certificates",
    "redhat": "update-ca-trust",
    "arch": "update-ca-trust",
}
INSTALL = {
    "debian": "apt-get install --yes --reinstall ca-certificates",
    "alpine": "apk add ca-certificates",
    "suse": "zypper install --force ca-certificates ca-certificates-mozilla",
    "redhat": "dnf reinstall ca-certificates",
    "arch": "pacman -S ca-certificates",
}
# Systems whose command passes over files with another name, and takes one certificate a file (their manual pages).
CRT_ONLY = ("debian", "alpine")


class Weight(Enum):
    """How much a finding matters."""

    BROKEN = "broken"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: `code` for programs, `subject` and `text` for people, `command` for a shell."""

    code: str
    weight: Weight
    subject: str
    text: str
    command: str


@dataclass(frozen=True, slots=True)
class Known:
    """What other roots are held against: Mozilla's, this system's, those that were added, and the time (UTC)."""

    public: frozenset[bytes]
    system: frozenset[bytes]
    added: frozenset[bytes]
    now: datetime


def broken(code: str, subject: str, text: str, command: str) -> Finding:
    """Return a finding that makes `doctor` fail."""
    return Finding(code, Weight.BROKEN, subject, text, command)


def warning(code: str, subject: str, text: str, command: str) -> Finding:
    """Return a finding that does not."""
    return Finding(code, Weight.WARNING, subject, text, command)


def group(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings, the worst first, those that say the same and are mended by the same command as one."""
    subjects: dict[tuple[str, Weight, str, str], list[str]] = {}
    for item in findings:
        subjects.setdefault((item.code, item.weight, item.text, item.command), []).append(item.subject)
    merged = [
        Finding(code, weight, ", ".join(names), text, command)
        for (code, weight, text, command), names in subjects.items()
    ]
    return sorted(merged, key=lambda item: item.weight is not Weight.BROKEN)


def diagnose_variable(place: Place, known: Known) -> Iterator[Finding]:
    """Yield what is wrong with what the variable or the tool's setting `place.name` names."""
    if place.name == MERGED_VARIABLE:
        if place.condition not in (Condition.PEM, Condition.FOLDER):
            text = f"names {place.path!r}, which edge merged once: {place.condition.value}"
            yield warning("merged-file-gone", place.name, text, place.undo)
        return
    if place.condition is Condition.FOLDER and place.name != "SSL_CERT_DIR":
        yield broken("names-a-folder", place.name, f"{_conditioned(place)}, not a file", place.undo)
    elif place.name == "SSL_CERT_DIR":
        yield from _diagnose_folder(place)
    elif place.condition is not Condition.PEM:
        yield _unusable(place)
    else:
        yield from _diagnose_roots(place, known)


def diagnose_system(place: Place | None, system: str, known: Known) -> Iterator[Finding]:
    """Yield what is wrong with the system's bundle (None: there is none); `system` is a key of `INSTALL` or empty."""
    install = INSTALL.get(system, "")
    if place is None:
        yield warning("no-system-roots", "system", "no file with this system's roots", install)
    elif place.condition is not Condition.PEM:
        yield broken("system-roots-unusable", "system", _conditioned(place), install)
    elif not place.certificates & known.public:
        yield broken("system-without-public", "system", f"{place.path!r}: no public root in it", install)
    elif expired := list(_expired(place.certificates - known.public, known.now)):
        text = f"{place.path!r} holds {len(expired)} expired roots, such as {expired[0]}"
        yield warning("system-expired", "system", text, install)


def diagnose_local(places: Iterable[Place], system: str, bundle: Place | None) -> Iterator[Finding]:
    """Yield what is wrong with the files in the folder for an administrator's own roots."""
    refresh = REFRESH.get(system, "")
    trusted = bundle.certificates if bundle is not None else frozenset()
    for place in places:
        path, quoted = PurePath(place.path), shlex.quote(place.path)
        renamed = shlex.quote(str(path.with_suffix(".crt")))
        if system in CRT_ONLY and path.suffix != ".crt":
            text = f"{refresh} passes over it, as its name does not end in .crt"
            yield warning("local-name-ignored", place.path, text, f"mv {quoted} {renamed} && {refresh}")
        elif place.condition is Condition.DER:
            convert = f"openssl x509 -inform der -in {quoted} -out {quoted}.tmp && mv {quoted}.tmp {quoted}"
            text = f"DER, which {refresh} takes and nobody trusts"
            yield warning("local-der", place.path, text, f"{convert} && {refresh}")
        elif place.condition is not Condition.PEM:
            yield warning("local-unusable", place.path, place.condition.value, f"rm {quoted} && {refresh}")
        elif system in CRT_ONLY and place.blocks > 1:
            # Out of the way first: a root that the system trusts already would not be installed again.
            aside = shlex.quote(str(path.with_suffix(".pem")))
            split = f"edge trust add {aside} --to system --yes && rm {aside}"
            text = f"{place.blocks} certificates in one file, of which the hashed folder gets one"
            yield warning("local-several", place.path, text, f"mv {quoted} {aside} && {refresh} && {split}")
        elif not place.certificates <= trusted:
            yield warning("local-not-in-use", place.path, "not in the system's bundle yet", refresh)


def diagnose_certifi(place: Place, *, is_changed: bool) -> Iterator[Finding]:
    """Yield what is wrong with the application's certifi."""
    reinstall = "python -m pip install --force-reinstall --no-deps certifi"
    if place.condition is not Condition.PEM:
        yield broken("certifi-unusable", "certifi", _conditioned(place), reinstall)
    elif is_changed:
        text = f"{place.path!r} was changed after it was installed; the next upgrade undoes that"
        yield warning("certifi-changed", "certifi", text, reinstall)


def diagnose_anchors(anchors: Iterable[Anchor], now: datetime, *, is_strict: bool) -> Iterator[Finding]:
    """Yield what is wrong with the roots that were added; `is_strict` when this Python is 3.13 or later."""
    for anchor in anchors:
        subject = f"root {anchor.label!r}"
        remove = f"edge trust remove {anchor.sha256}"
        ends = anchor.certificate.not_valid_after_utc
        for defect in find_defects(anchor.certificate, now):
            if defect.severity is Severity.REFUSES:
                yield broken(f"root-{defect.code}", subject, defect.text, remove)
            elif defect.severity is Severity.STRICT:
                make = broken if is_strict else warning
                yield make(f"root-{defect.code}", subject, f"{defect.text}; ask for a new one", "")
        if now < ends < now + SOON:
            text = f"expires at {ends:%Y-%m-%d}; ask for the next one, then add it"
            yield warning("root-expires", subject, text, "edge trust add FILE")


def diagnose_workers(workers: Iterable[Worker], bundles: Sequence[str]) -> Iterator[Finding]:
    """Yield the workers that do not call out with today's roots; `bundles` are edge's, none when no root was added."""
    for worker in workers:
        subject = f"worker {worker.pid}"
        if bundles and worker.bundle not in bundles and not worker.is_of_server:
            text = "was started before a root was added"
        elif bundles and worker.is_outdated:
            text = "was started before the roots changed, and its libraries may hold the old ones"
        else:
            continue
        yield warning("worker-with-old-roots", subject, text, "edge reload")


def diagnose_switches(switches: Iterable[Setting]) -> Iterator[Finding]:
    """Yield one for each variable or setting by which nothing, or not everything, is verified."""
    for setting in switches:
        text = f"{setting.value!r} switches the verification off: whoever is in between reads and writes all"
        yield broken("verification-off", setting.name, text, setting.undo)


def _diagnose_folder(place: Place) -> Iterator[Finding]:
    if place.condition is not Condition.FOLDER:
        yield _unusable(place)
    elif not place.is_hashed:
        text = f"{place.path!r} has no file named by its hash, and OpenSSL looks for no other"
        command = f"openssl rehash {shlex.quote(place.path)}"
        yield broken("folder-not-hashed", place.name, text, command)


def _diagnose_roots(place: Place, known: Known) -> Iterator[Finding]:
    quoted = shlex.quote(place.path)
    is_whole = place.name not in EXTRA_VARIABLES and known.public != frozenset()
    if is_whole and not place.certificates & known.public:
        text = f"{place.path!r} has no public root: whoever reads it loses every public site"
        yield broken("no-public-roots", place.name, text, f"edge trust add {quoted} && {place.undo}")
    elif missing := known.added - place.certificates:
        text = f"{place.path!r} lacks {len(missing)} of {len(known.added)} added roots"
        # A variable of edge takes the place of the one before; a setting is not to be stronger.
        first = "" if place.name in (*BUNDLE_VARIABLES, *EXTRA_VARIABLES) else f"{place.undo} && "
        yield warning("lacks-added-roots", place.name, text, f'{first}eval "$(edge trust env)"')
    # Those of the system are the system's to drop.
    for name in _expired(place.certificates - known.public - known.system - known.added, known.now):
        text = f"{place.path!r} holds {name}"
        yield warning("expired-root", place.name, text, place.undo)


def _expired(ders: Iterable[bytes], now: datetime) -> Iterator[str]:
    for der in sorted(ders):
        try:
            with without_warnings():
                certificate = x509.load_der_x509_certificate(der)
        except PARSE_ERRORS:
            continue  # OpenSSL may know it, and no date is no finding
        ends = certificate.not_valid_after_utc
        if ends < now:
            yield f"{certificate.subject.rfc4514_string()!r}, expired at {ends:%Y-%m-%d}"


def _unusable(place: Place) -> Finding:
    quoted = shlex.quote(place.path)
    if place.condition is Condition.UNREADABLE:
        return broken("unreadable", place.name, _conditioned(place), f"chmod a+r {quoted}")
    if place.condition is Condition.DER:
        return broken("der", place.name, _conditioned(place), f"edge trust add {quoted} && {place.undo}")
    code = "missing" if place.condition is Condition.MISSING else "no-certificates"
    return broken(code, place.name, _conditioned(place), place.undo)


def _conditioned(place: Place) -> str:
    return f"{place.path!r}: {place.condition.value}"
