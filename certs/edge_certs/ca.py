"""The local authority: certificates for this machine's own names, from a root that can sign for no others.

The root carries critical name constraints: whoever steals its key gets localhost and private addresses, not the
internet. Its certificate and key are two files; the key is written first, so that the certificate's presence says
"complete", and an interrupted start is finished with the key that is there. A root that is on disk is never replaced
by itself: browsers trust it, and a second one would only break them without a word.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.errors import CertificateError, naming, place
from edge_certs.files import locked, read_file, user_name, write_private
from edge_certs.intermediate import INTERMEDIATE_LIFETIME, Intermediate
from edge_certs.leaf import (
    CLOCK_SKEW,
    LEAF_LIFETIME,
    ORGANIZATION,
    encode_key,
    key_usage,
    permitted_subtrees,
    sign_leaf,
)
from edge_certs.x509 import (
    Certificate,
    check_dates,
    is_authority,
    parse_chain,
    parse_key,
    read_certificate,
)

KEY_NAME = "root.key"

ROOT_LIFETIME = timedelta(days=3652)

# A root signs leaves, and one intermediate for containers, so that its own key never enters one.
PATH_LENGTH = 1

# Names that no public authority signs: RFC 6761 (localhost, test), RFC 8375 (home.arpa), ICANN 2024 (internal),
# loopback, RFC 1918 and RFC 4193.
PERMITTED_HOSTS = ("localhost", "test", "internal", "home.arpa")
PERMITTED_NETWORKS = ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")

# The most that a common name may have (RFC 5280 appendix A.1, ub-common-name).
MAX_COMMON_NAME = 64


@dataclass(frozen=True, slots=True)
class LocalAuthority:
    """A root certificate with its key; `root_path` is the PEM file that clients are to trust."""

    root_path: Path
    _root: x509.Certificate = field(repr=False)
    _key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def open(cls, home: Path, now: datetime) -> LocalAuthority:
        """Return the authority under `home`, which is made there when there is none yet; `now` is in UTC.

        Processes that open the same empty folder at once all get the same root.

        Raises CertificateError: the folder cannot be written, or the root that is there cannot be used.
        """
        root_path = home / "dev" / "root.pem"
        if not os.path.lexists(root_path):
            with locked(home / "locks" / "dev.lock"):
                # Whoever had the lock before us may have made it.
                if not os.path.lexists(root_path):
                    _make_root(root_path, now)
        return _load_root(root_path, now)

    def issue(self, names: Sequence[str], now: datetime, lifetime: timedelta = LEAF_LIFETIME) -> Certificate:
        """Return a new certificate with a new key, both in memory only, for the hosts and IP addresses `names`.

        It is valid for `lifetime` from `now` (UTC), or as long as the root.

        Raises CertificateError: there is no name, one of them is outside of what the root may sign, or the root has
        expired.
        """
        self._check_dates(now)
        return sign_leaf(names, self._root, self._key, now, lifetime)

    def delegate(self, now: datetime, lifetime: timedelta = INTERMEDIATE_LIFETIME) -> Intermediate:
        """Return a new intermediate, valid for `lifetime` from `now` (UTC) or as long as the root.

        Raises CertificateError: the root has expired.
        """
        self._check_dates(now)
        return Intermediate.sign(self._root, self._key, now, lifetime)

    def _check_dates(self, now: datetime) -> None:
        with _restorable(self.root_path), naming(f"certificate {place(self.root_path)}"):
            check_dates(self._root, now)


@contextmanager
def _restorable(root_path: Path) -> Iterator[None]:
    """What is on disk belongs to the user's browsers: errors about it say how to get out, nothing is replaced."""
    try:
        yield
    except CertificateError as error:
        raise CertificateError(
            f"local authority: {error.found}",
            f"restore its files, or move {place(root_path.parent)} away for a new root, which must be trusted anew",
        ) from error


def _load_root(root_path: Path, now: datetime) -> LocalAuthority:
    key_path = root_path.with_name(KEY_NAME)
    with _restorable(root_path):
        found = read_certificate(root_path, key_path, now)
        key = _signing_key(found.key_pem, key_path)
        root = parse_chain(found.chain_pem)[0]
        with naming(f"certificate {place(root_path)}"):
            _check_root(root)
    return LocalAuthority(root_path, root, key)


def _make_root(root_path: Path, now: datetime) -> None:
    key_path = root_path.with_name(KEY_NAME)
    if os.path.lexists(key_path):
        # Stopped between the two files: no certificate with this key has left this function.
        with _restorable(root_path):
            key = _signing_key(read_file(key_path, "key"), key_path)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        write_private(key_path, encode_key(key))
    write_private(root_path, _sign_root(key, now).public_bytes(Encoding.PEM))


def _signing_key(pem: bytes, key_path: Path) -> ec.EllipticCurvePrivateKey:
    with naming(f"key {place(key_path)}"):
        key, _ = parse_key(pem)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key
        raise CertificateError("not the ECDSA key that edge made")


def _check_root(root: x509.Certificate) -> None:
    if not is_authority(root):
        raise CertificateError("not the certificate of an authority")
    if not permitted_subtrees(root):
        raise CertificateError("no critical name constraints, so not a root that edge made")


def _sign_root(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    # The user who meets it in a browser's list must be able to tell whose it is.
    maker = f"edge local root {user_name()}@{socket.gethostname()}"
    common_name = maker.encode()[:MAX_COMMON_NAME].decode(errors="ignore")
    name = x509.Name([ORGANIZATION, x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder(name, name, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + ROOT_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=PATH_LENGTH), critical=True)
        .add_extension(key_usage(authority=True), critical=True)
        .add_extension(_constraints(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, SHA256())


def _constraints() -> x509.NameConstraints:
    hosts = [x509.DNSName(host) for host in PERMITTED_HOSTS]
    networks = [x509.IPAddress(ip_network(network)) for network in PERMITTED_NETWORKS]
    return x509.NameConstraints(permitted_subtrees=[*hosts, *networks], excluded_subtrees=None)
