"""What doctor says of each fact. tests/process/test_trust_doctor.py types the commands, and sees that they mend it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.trust.anchors import fingerprint
from edge_certs.trust.diagnosis import (
    Finding,
    Known,
    Weight,
    diagnose_anchors,
    diagnose_certifi,
    diagnose_local,
    diagnose_switches,
    diagnose_system,
    diagnose_variable,
    diagnose_workers,
    group,
)
from edge_certs.trust.store import Anchor
from edge_certs.trust.survey import Condition, Place, Worker
from edge_certs.trust.toolsettings import Setting
from tests.certs.forge import AUTHORITY, DAY, NOW, Forged, forge

PUBLIC, SYSTEM, ADDED, OWN = (forge(extensions=[AUTHORITY]) for _ in range(4))
EXPIRED = forge(extensions=[AUTHORITY], dates=(NOW - 9 * DAY, NOW - 2 * DAY), common_name="Old Root")
ODD = b"0\x03\x02\x01\x00"


def der(*forged: Forged) -> frozenset[bytes]:
    return frozenset(item.certificate.public_bytes(Encoding.DER) for item in forged)


KNOWN = Known(der(PUBLIC), der(PUBLIC, SYSTEM), der(ADDED), NOW)


def place(name: str, condition: Condition = Condition.PEM, *forged: Forged, path: str = "/a b.pem") -> Place:
    return Place(name, path, condition, der(*forged), len(forged), undo=f"unset {name}")


def shown(findings: object) -> list[tuple[str, str, str]]:
    return [(item.code, item.weight.value, item.command) for item in findings]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (place("SSL_CERT_FILE", Condition.PEM, PUBLIC, ADDED), []),
        (place("NODE_EXTRA_CA_CERTS", Condition.PEM, ADDED), []),
        (place("SSL_CERT_FILE", Condition.MISSING), [("missing", "broken", "unset SSL_CERT_FILE")]),
        (place("PIP_CERT", Condition.UNREADABLE), [("unreadable", "broken", "chmod a+r '/a b.pem'")]),
        (place("PIP_CERT", Condition.DER), [("der", "broken", "edge trust add '/a b.pem' && unset PIP_CERT")]),
        (place("PIP_CERT", Condition.EMPTY), [("no-certificates", "broken", "unset PIP_CERT")]),
        (place("PIP_CERT", Condition.DAMAGED), [("no-certificates", "broken", "unset PIP_CERT")]),
        (place("PIP_CERT", Condition.FOREIGN), [("no-certificates", "broken", "unset PIP_CERT")]),
        (place("PIP_CERT", Condition.FOLDER), [("names-a-folder", "broken", "unset PIP_CERT")]),
        (
            place("PIP_CERT", Condition.PEM, OWN),
            [("no-public-roots", "broken", "edge trust add '/a b.pem' && unset PIP_CERT")],
        ),
        (place("PIP_CERT", Condition.PEM, PUBLIC), [("lacks-added-roots", "warning", 'eval "$(edge trust env)"')]),
        (
            place("pip cert", Condition.PEM, PUBLIC),
            [("lacks-added-roots", "warning", 'unset pip cert && eval "$(edge trust env)"')],
        ),
        (place("DENO_CERT", Condition.PEM, OWN), [("lacks-added-roots", "warning", 'eval "$(edge trust env)"')]),
        (
            place("DENO_CERT", Condition.PEM, ADDED, EXPIRED),
            [("expired-root", "warning", "unset DENO_CERT")],
        ),
        (place("SSL_CERT_DIR", Condition.MISSING), [("missing", "broken", "unset SSL_CERT_DIR")]),
        (place("SSL_CERT_DIR", Condition.FOLDER), [("folder-not-hashed", "broken", "openssl rehash '/a b.pem'")]),
        (Place("SSL_CERT_DIR", "/d", Condition.FOLDER, is_hashed=True), []),
        (place("EDGE_TRUST_MERGED", Condition.PEM, OWN), []),
        (place("EDGE_TRUST_MERGED", Condition.MISSING), [("merged-file-gone", "warning", "unset EDGE_TRUST_MERGED")]),
    ],
    ids=lambda value: f"{value.name}-{value.condition.name}" if isinstance(value, Place) else "",
)
def test_variable_is_judged_by_what_it_names(variable: Place, expected: list[tuple[str, str, str]]) -> None:
    assert shown(diagnose_variable(variable, KNOWN)) == expected


def test_variable_is_not_judged_by_public_roots_that_nobody_knows() -> None:
    known = Known(frozenset(), frozenset(), frozenset(), NOW)
    assert shown(diagnose_variable(place("PIP_CERT", Condition.PEM, OWN), known)) == []


def test_expired_root_of_a_variable_is_named_with_its_date() -> None:
    [finding] = diagnose_variable(place("SSL_CERT_FILE", Condition.PEM, PUBLIC, ADDED, EXPIRED), KNOWN)
    assert finding.text == "'/a b.pem' holds 'CN=Old Root', expired at 2027-02-27"


def test_certificate_that_cannot_be_parsed_is_no_finding() -> None:
    odd = Place("SSL_CERT_FILE", "/a", Condition.PEM, der(PUBLIC, ADDED) | {ODD}, 3)
    assert shown(diagnose_variable(odd, KNOWN)) == []


INSTALL = "apt-get install --yes --reinstall ca-certificates"


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (place("system", Condition.PEM, PUBLIC, SYSTEM), []),
        (None, [("no-system-roots", "warning", INSTALL)]),
        (place("system", Condition.EMPTY), [("system-roots-unusable", "broken", INSTALL)]),
        (place("system", Condition.PEM, OWN), [("system-without-public", "broken", INSTALL)]),
        (place("system", Condition.PEM, PUBLIC, EXPIRED), [("system-expired", "warning", INSTALL)]),
    ],
)
def test_system_is_judged_by_its_bundle(system: Place | None, expected: list[tuple[str, str, str]]) -> None:
    assert shown(diagnose_system(system, "debian", KNOWN)) == expected


def test_system_that_is_not_known_has_no_command() -> None:
    assert shown(diagnose_system(None, "", KNOWN)) == [("no-system-roots", "warning", "")]


BUNDLE = place("system", Condition.PEM, PUBLIC, OWN)
REFRESH = "update-ca-certificates"
SPLIT = f"mv /l/a.crt /l/a.pem && {REFRESH} && edge trust add /l/a.pem --to system --yes && rm /l/a.pem"


@pytest.mark.parametrize(
    ("file", "system", "expected"),
    [
        (place("local", Condition.PEM, OWN, path="/l/a.crt"), "debian", []),
        (
            place("local", Condition.PEM, OWN, path="/l/a b.pem"),
            "alpine",
            [("local-name-ignored", "warning", f"mv '/l/a b.pem' '/l/a b.crt' && {REFRESH}")],
        ),
        (place("local", Condition.PEM, OWN, path="/l/a.pem"), "redhat", []),
        (
            place("local", Condition.DER, path="/l/a.crt"),
            "debian",
            [
                (
                    "local-der",
                    "warning",
                    f"openssl x509 -inform der -in /l/a.crt -out /l/a.crt.tmp && mv /l/a.crt.tmp /l/a.crt && {REFRESH}",
                )
            ],
        ),
        (
            place("local", Condition.EMPTY, path="/l/a.crt"),
            "redhat",
            [("local-unusable", "warning", "rm /l/a.crt && update-ca-trust")],
        ),
        (
            place("local", Condition.PEM, OWN, ADDED, path="/l/a.crt"),
            "debian",
            [("local-several", "warning", SPLIT)],
        ),
        (
            place("local", Condition.PEM, ADDED, path="/l/a.crt"),
            "suse",
            [("local-not-in-use", "warning", REFRESH)],
        ),
    ],
)
def test_administrators_file_is_judged_by_what_its_system_does(
    file: Place, system: str, expected: list[tuple[str, str, str]]
) -> None:
    assert shown(diagnose_local([file], system, BUNDLE)) == expected


def test_without_a_bundle_no_local_file_is_in_use() -> None:
    assert shown(diagnose_local([place("local", Condition.PEM, OWN, path="/l/a.crt")], "debian", None)) == [
        ("local-not-in-use", "warning", REFRESH)
    ]


@pytest.mark.parametrize(
    ("certifi", "is_changed", "codes"),
    [
        (place("certifi", Condition.PEM, PUBLIC), False, []),
        (place("certifi", Condition.PEM, PUBLIC), True, ["certifi-changed"]),
        (place("certifi", Condition.MISSING), False, ["certifi-unusable"]),
    ],
)
def test_certifi_is_judged(certifi: Place, is_changed: bool, codes: list[str]) -> None:
    assert [finding.code for finding in diagnose_certifi(certifi, is_changed=is_changed)] == codes


def anchor(forged: Forged) -> Anchor:
    return Anchor(fingerprint(forged.certificate), "corp", NOW, "", forged.certificate)


GOOD = (x509.SubjectKeyIdentifier.from_public_key(ADDED.key.public_key()),)


@pytest.mark.parametrize(("is_strict", "weight"), [(False, Weight.WARNING), (True, Weight.BROKEN)])
def test_root_that_newer_pythons_refuse_is_broken_for_them(is_strict: bool, weight: Weight) -> None:
    findings = list(diagnose_anchors([anchor(ADDED)], NOW, is_strict=is_strict))
    assert {finding.weight for finding in findings} == {weight}
    assert "root-no-key-usage" in [finding.code for finding in findings]
    assert findings[0].subject == "root 'corp'"


def test_root_that_expired_is_to_be_removed() -> None:
    findings = list(diagnose_anchors([anchor(EXPIRED)], NOW, is_strict=False))
    assert findings[0].code == "root-expired"
    assert findings[0].command == f"edge trust remove {fingerprint(EXPIRED.certificate)}"
    assert "root-expires" not in [finding.code for finding in findings]


@pytest.mark.parametrize(("days", "is_named"), [(1, True), (29, True), (31, False)])
def test_root_that_ends_within_a_month_is_named(days: int, is_named: bool) -> None:
    ending = forge(extensions=[AUTHORITY], dates=(NOW - DAY, NOW + days * DAY))
    codes = [finding.code for finding in diagnose_anchors([anchor(ending)], NOW, is_strict=False)]
    assert ("root-expires" in codes) is is_named


@pytest.mark.parametrize(
    ("worker", "bundles", "text"),
    [
        (Worker(7, "/t/bundle.pem", False), ["/t/bundle.pem"], None),
        (Worker(7, "", True), [], None),
        (Worker(7, "/run/b.pem", False, is_of_server=True), ["/t/bundle.pem"], None),
        (Worker(7, "/run/b.pem", True, is_of_server=True), ["/t/bundle.pem"], "was started before the roots changed"),
        (Worker(7, "/own.pem", True), ["/t/bundle.pem"], "was started before a root was added"),
        (Worker(7, "/t/b.pem", True), ["/t/b.pem"], "was started before the roots changed, and its libraries may hold"),
    ],
)
def test_worker_is_judged_by_the_bundle_that_it_was_told(worker: Worker, bundles: list[str], text: str | None) -> None:
    findings = list(diagnose_workers([worker], bundles))
    assert [finding.command for finding in findings] == ([] if text is None else ["edge reload"])
    if text is not None:
        assert findings[0].subject == "worker 7"
        assert findings[0].text.startswith(text)


def test_switch_that_turns_verification_off_is_broken() -> None:
    switch = Setting("git http.sslVerify", "false", "git config --global --unset-all http.sslverify")
    assert shown(diagnose_switches([switch])) == [("verification-off", "broken", switch.undo)]


def test_same_finding_of_several_is_one_and_the_worst_come_first() -> None:
    late = Finding("a", Weight.WARNING, "one", "text", "command")
    same = Finding("a", Weight.WARNING, "two", "text", "command")
    worst = Finding("b", Weight.BROKEN, "three", "text", "other")
    assert group([late, same, worst]) == [worst, Finding("a", Weight.WARNING, "one, two", "text", "command")]


def test_time_of_these_tests_is_utc() -> None:
    assert datetime(2027, 3, 1, 12, 0, tzinfo=UTC) == NOW
