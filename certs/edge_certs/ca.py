"""The local authority: certificates for this machine's own names, from a root that can sign for no others.

The root carries critical name constraints: whoever steals its key gets localhost and private addresses, not the
internet. Its certificate and key are two files; the key is written first, so that the certificate's presence says
"complete", and an interrupted start is finished with the key that is there. A root that is on disk is never replaced
by itself: browsers trust it, and a second one would only break them without a word.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge_certs.errors import CertificateError, naming, place
from edge_certs.files import locked, read_file, user_name, write_private
from edge_certs.x509 import (
    Certificate,
    check_dates,
    describe,
    is_authority,
    parse_chain,
    parse_key,
    read_certificate,
)

KEY_NAME = "root.key"

ROOT_LIFETIME = timedelta(days=3652)

# In memory and made anew at each start: short, so that one that leaks is soon worth nothing.
LEAF_LIFETIME = timedelta(days=30)

# Containers and virtual machines run behind their host's clock after a sleep.
CLOCK_SKEW = timedelta(hours=1)

# A root signs leaves, and one intermediate for containers, so that its own key never enters one.
PATH_LENGTH = 1

# Names that no public authority signs: RFC 6761 (localhost, test), RFC 8375 (home.arpa), ICANN 2024 (internal),
# loopback, RFC 1918 and RFC 4193.
PERMITTED_HOSTS = ("localhost", "test", "internal", "home.arpa")
PERMITTED_NETWORKS = ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")

ORGANIZATION = x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "edge local authority")

# The most that a common name may have (RFC 5280 appendix A.1, ub-common-name).
MAX_COMMON_NAME = 64

# Labels of letters, digits, hyphens, and the underscore that compose files like; at most 253 octets (RFC 1035 2.3.4).
HOST = re.compile(r"(?=.{1,253}\Z)(?:\*\.)?(?:(?!-)[a-z0-9_-]{1,63}(?<!-)\.)*(?!-)[a-z0-9_-]{1,63}(?<!-)")


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

    def issue(self, names: Sequence[str], now: datetime) -> Certificate:
        """Return a new certificate with a new key, both in memory only, for the hosts and IP addresses `names`.

        It is valid for 30 days from `now` (UTC), or as long as the root.

        Raises CertificateError: there is no name, one of them is outside of what the root may sign, or the root has
        expired.
        """
        if not names:
            raise CertificateError("no name to make a certificate for", "name at least one, such as 'localhost'")
        subjects = list(dict.fromkeys(_general_name(name) for name in names))
        _check_permitted(subjects, self._root)
        with _restorable(self.root_path), naming(f"certificate {place(self.root_path)}"):
            check_dates(self._root, now)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _leaf_builder(subjects, key.public_key(), self, now).sign(self._key, SHA256())
        return describe([leaf], _encode_key(key), None, None)


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
        write_private(key_path, _encode_key(key))
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
    if not _permitted(root):
        raise CertificateError("no critical name constraints, so not a root that edge made")


def _permitted(root: x509.Certificate) -> list[x509.GeneralName]:
    try:
        constraints = root.extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound:
        return []
    return list(constraints.value.permitted_subtrees or ()) if constraints.critical else []


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
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(_constraints(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, SHA256())


def _leaf_builder(
    names: Sequence[x509.GeneralName], public: ec.EllipticCurvePublicKey, authority: LocalAuthority, now: datetime
) -> x509.CertificateBuilder:
    # No common name: OpenSSL holds one that looks like a host to the root's constraints when there are only addresses.
    # Both key identifiers: Python 3.13 refuses a chain without them.
    root = authority._root
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority._key.public_key())
    return (
        x509.CertificateBuilder(root.subject, x509.Name([ORGANIZATION]), public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(min(now + LEAF_LIFETIME, root.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(issuer_key, critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _constraints() -> x509.NameConstraints:
    hosts = [x509.DNSName(host) for host in PERMITTED_HOSTS]
    networks = [x509.IPAddress(ip_network(network)) for network in PERMITTED_NETWORKS]
    return x509.NameConstraints(permitted_subtrees=[*hosts, *networks], excluded_subtrees=None)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        host = name.lower()
    if HOST.fullmatch(host):
        return x509.DNSName(host)
    raise CertificateError(
        f"name {name!r}: neither a host name in ASCII nor an IP address", "write it without scheme, port or brackets"
    )


def _check_permitted(names: Sequence[x509.GeneralName], root: x509.Certificate) -> None:
    permitted = _permitted(root)
    for name in names:
        if not any(_is_within(name, subtree) for subtree in permitted):
            allowed = ", ".join(str(subtree.value) for subtree in permitted)
            raise CertificateError(
                f"name {str(name.value)!r}: the local root may sign only for {allowed} and what is below them",
                "choose such a name, or pass a certificate from a public authority with --cert",
            )


def _is_within(name: x509.GeneralName, subtree: x509.GeneralName) -> bool:
    match name, subtree:
        case x509.DNSName(value=host), x509.DNSName(value=parent):
            return f".{host}".endswith(f".{parent}")
        case (
            x509.IPAddress(value=IPv4Address() | IPv6Address() as address),
            x509.IPAddress(value=IPv4Network() | IPv6Network() as network),
        ):
            return address in network
        case _:
            return False


def _encode_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
