from __future__ import annotations

import ssl
import warnings
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.ca import LocalAuthority
from edge_certs.inspection import PUBLIC
from edge_certs.known_roots import ADDED, LOCAL, _parse, read_known_roots
from edge_certs.trust.anchors import parse_anchors
from edge_certs.trust.store import TrustStore
from edge_certs.x509 import parse_chain
from tests.certs.forge import AUTHORITY, forge

NOW = datetime.now(UTC)


def test_roots_are_those_of_the_public_those_added_and_the_local_one(tmp_path: Path) -> None:
    from certifi import contents

    corporate = forge(extensions=[AUTHORITY], dates=(NOW.replace(year=2020), NOW.replace(year=2100)))
    TrustStore(tmp_path).add(parse_anchors(corporate.pem), "corp", NOW, "")
    local = LocalAuthority.open(tmp_path, NOW)
    known = read_known_roots(tmp_path)
    [own] = parse_chain(local.root_path.read_bytes())
    assert known.roots.words_for(corporate.certificate) == ADDED
    assert known.roots.words_for(own) == LOCAL
    public = parse_chain(
        contents().encode().partition(b"-----END CERTIFICATE-----\n")[0] + b"-----END CERTIFICATE-----\n"
    )[0]
    assert known.roots.words_for(public) == PUBLIC
    context = ssl.create_default_context(cadata=known.pem)
    assert context.cert_store_stats()["x509_ca"] > 100


def test_without_anything_of_ones_own_there_are_the_public_ones(tmp_path: Path) -> None:
    assert read_known_roots(tmp_path / "none").pem.count("BEGIN") > 100
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_parsed_is_passed_over_without_a_warning() -> None:
    good = forge().certificate
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _parse([b"\x30\x00", good.public_bytes(Encoding.DER), b""]) == [good]
