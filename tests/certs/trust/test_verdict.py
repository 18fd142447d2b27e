from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

from edge_certs.trust.bundle import Source
from edge_certs.trust.handshake import Verified
from edge_certs.trust.verdict import Verdict, find_root, judge, order_chain
from tests.certs.forge import AUTHORITY, Forged, forge

URL = "http://pki.corp.example/root.crt"
AIA = x509.AuthorityInformationAccess(
    [
        x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier("http://ocsp/")),
        x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(URL)),
    ]
)


ROOT = forge(extensions=[AUTHORITY], common_name="root")
MIDDLE = forge(issuer=ROOT, extensions=[AUTHORITY], common_name="middle")
LEAF = forge(issuer=MIDDLE, extensions=[AIA], common_name="leaf")
STRANGER = forge(extensions=[AUTHORITY], common_name="stranger")


def source(name: str, *forged: Forged) -> Source:
    return Source(name, tuple(item.certificate.public_bytes(Encoding.DER) for item in forged))


@pytest.mark.parametrize(
    ("presented", "chain"),
    [
        ([LEAF], [LEAF]),
        ([LEAF, MIDDLE], [LEAF, MIDDLE]),
        ([LEAF, ROOT, STRANGER, MIDDLE], [LEAF, MIDDLE, ROOT]),
        ([LEAF, STRANGER], [LEAF]),
        ([ROOT, MIDDLE], [ROOT]),
        ([], []),
    ],
)
def test_chain_goes_from_the_server_up_and_leaves_out_what_does_not_belong(
    presented: list[Forged], chain: list[Forged]
) -> None:
    assert order_chain([item.certificate for item in presented]) == [item.certificate for item in chain]


@pytest.mark.parametrize(
    ("code", "is_public_name", "verdict"),
    [
        (0, True, Verdict.PUBLIC),
        (0, False, Verdict.PUBLIC),
        (19, True, Verdict.INTERCEPTED),
        (20, True, Verdict.INTERCEPTED),
        (18, False, Verdict.PRIVATE),
        (10, True, Verdict.DEFECTIVE),
        (62, False, Verdict.DEFECTIVE),
    ],
)
def test_verdict_is_by_what_the_public_roots_say_and_by_the_name(
    code: int, is_public_name: bool, verdict: Verdict
) -> None:
    assert judge(Verified(code, "why"), is_public_name=is_public_name) is verdict


def test_root_that_is_presented_is_found_there() -> None:
    root = find_root([LEAF.certificate, MIDDLE.certificate, ROOT.certificate], [source("certifi", STRANGER)])
    assert (root.name, root.certificate, root.found_in) == ("CN=root", ROOT.certificate, "what the server presents")


def test_root_that_is_presented_and_known_is_named_by_where_it_is_known() -> None:
    assert find_root([ROOT.certificate], [source("nobody"), source("the system", ROOT)]).found_in == "the system"


def test_root_that_is_not_presented_is_looked_up_by_name_and_signature() -> None:
    impostor = forge(extensions=[AUTHORITY], common_name="root")
    known = [source("impostor", impostor), source("the system", STRANGER, ROOT), source("later", ROOT)]
    root = find_root([LEAF.certificate, MIDDLE.certificate], known)
    assert (root.name, root.certificate, root.found_in) == ("CN=root", ROOT.certificate, "the system")


def test_root_that_nobody_has_is_named_with_where_the_certificate_says_it_is() -> None:
    root = find_root([LEAF.certificate], [source("certifi", STRANGER)])
    assert (root.name, root.certificate, root.found_in, root.issuer_urls) == ("CN=middle", None, "", (URL,))


def test_certificate_that_cannot_be_parsed_is_passed_over() -> None:
    damaged = Source("damaged", (b"0\x82" + ROOT.certificate.subject.public_bytes(),))
    assert find_root([MIDDLE.certificate], [damaged]).certificate is None
