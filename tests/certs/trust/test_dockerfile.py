"""The lines themselves; tests/process/test_trust_image.py does what they say."""

from __future__ import annotations

import re

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from edge.cli_trust import dockerfile as command
from edge_certs.errors import CertificateError
from edge_certs.trust.anchors import fingerprint
from edge_certs.trust.bundle import Source
from edge_certs.trust.dockerfile import FAMILIES, encode_dockerfile
from tests.certs.forge import AUTHORITY, Forged, forge

ROOTS = [forge(extensions=[AUTHORITY]) for _ in range(2)]


def source(*forged: Forged) -> Source:
    return Source("edge trust add", tuple(item.certificate.public_bytes(Encoding.DER) for item in forged))


def test_choices_in_the_help_are_the_families() -> None:
    assert set(command.FAMILIES) == set(FAMILIES)


@pytest.mark.parametrize("base", ["debian", "alpine", "rhel"])
def test_each_root_is_a_file_of_its_own_named_by_its_fingerprint(base: str) -> None:
    lines = encode_dockerfile(base, [source(*ROOTS), source(ROOTS[0])])
    copied = re.findall(
        r'^COPY <<"EDGE-TRUST" \S+/edge-trust-([0-9a-f]{16})\.crt\n(.*?)^EDGE-TRUST$', lines, re.M | re.S
    )
    expected = {fingerprint(item.certificate)[:16]: item.pem.decode() for item in ROOTS}
    assert dict(copied) == expected
    assert [name for name, _ in copied] == sorted(expected)


@pytest.mark.parametrize("base", sorted(FAMILIES))
def test_lines_are_the_same_for_the_same_roots_in_any_order(base: str) -> None:
    lines = encode_dockerfile(base, [source(*ROOTS)])
    assert lines == encode_dockerfile(base, [source(ROOTS[1]), source(ROOTS[0])])
    assert lines == lines.strip()


def test_alpine_appends_before_apk_calls_out_and_makes_the_bundle_last() -> None:
    [run] = re.findall(r"^RUN (.*?)\nENV", encode_dockerfile("alpine", [source(ROOTS[0])]), re.M | re.S)
    words = [command.split()[0] for command in re.split(r" \\\n && ", run)]
    assert words == ["cat", "apk", "update-ca-certificates", "mkdir", "cat"]


@pytest.mark.parametrize("base", sorted(FAMILIES))
def test_without_roots_there_is_nothing_to_print(base: str) -> None:
    with pytest.raises(
        CertificateError, match="no root was added, and no variable names one; add one with: edge trust"
    ):
        encode_dockerfile(base, [])
