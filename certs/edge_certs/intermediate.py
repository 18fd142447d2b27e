"""An authority below the local root: what containers and edge processes sign with, so that the root's key stays away.

It lives for a month, may sign servers' certificates only (path length 0), and for the same names as the root. As a file
it is one PEM text: its key, its certificate, the root's certificate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from edge_certs.errors import CertificateError
from edge_certs.leaf import CLOCK_SKEW, ORGANIZATION, encode_key, key_usage, permitted_subtrees, sign_leaf
from edge_certs.x509 import Certificate, check_dates, is_authority, parse_chain, parse_key

INTERMEDIATE_LIFETIME = timedelta(days=30)

ADVICE = "make it again on the machine that has the root: edge compose init"


@dataclass(frozen=True, slots=True)
class Intermediate:
    """A certificate that signs servers' certificates, with its key and the `root` that signed it."""

    certificate: x509.Certificate
    root: x509.Certificate
    _key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def sign(
        cls, root: x509.Certificate, root_key: ec.EllipticCurvePrivateKey, now: datetime, lifetime: timedelta
    ) -> Intermediate:
        """Return a new one, signed by `root`; `now` is in UTC."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([ORGANIZATION, x509.NameAttribute(x509.NameOID.COMMON_NAME, "edge local intermediate")])
        constraints = root.extensions.get_extension_for_class(x509.NameConstraints).value
        root_key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
        builder = (
            x509.CertificateBuilder(root.subject, name, key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCK_SKEW)
            .not_valid_after(min(now + lifetime, root.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(key_usage(authority=True), critical=True)
            # The root's hold for it, too; a client that looks at no trust anchor's extensions sees them here.
            .add_extension(constraints, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(root_key_id, critical=False)
        )
        return cls(builder.sign(root_key, SHA256()), root, key)

    @classmethod
    def parse(cls, content: bytes, now: datetime) -> Intermediate:
        """Return what `encode` made; `now` is in UTC.

        Raises CertificateError: it is something else, damaged, or outside of its dates.
        """
        chain = parse_chain(content)
        key, _ = parse_key(content)
        if len(chain) != 2 or not isinstance(key, ec.EllipticCurvePrivateKey) or not _belong(chain, key):
            raise CertificateError("not an intermediate of a local root, its key and the root's certificate", ADVICE)
        try:
            check_dates(chain[0], now)
        except CertificateError as error:
            raise CertificateError(error.found, ADVICE) from error
        return cls(chain[0], chain[1], key)

    def encode(self) -> bytes:
        """Return it as PEM: the key, its certificate, the root's certificate. It is a secret."""
        certificates = (self.certificate, self.root)
        return encode_key(self._key) + b"".join(each.public_bytes(Encoding.PEM) for each in certificates)

    def issue(self, names: Sequence[str], now: datetime) -> Certificate:
        """Return a new certificate with a new key, both in memory only, for the hosts and IP addresses `names`.

        Its chain has this intermediate's certificate, too. It is valid for 30 days from `now` (UTC), or as long as
        that one.

        Raises CertificateError: there is no name, one of them is outside of what the root may sign, or the intermediate
        has expired.
        """
        try:
            check_dates(self.certificate, now)
        except CertificateError as error:
            raise CertificateError(f"intermediate of the local root: {error.found}", ADVICE) from error
        leaf = sign_leaf(names, self.certificate, self._key, now)
        return replace(leaf, chain_pem=leaf.chain_pem + self.certificate.public_bytes(Encoding.PEM))


def _belong(chain: Sequence[x509.Certificate], key: ec.EllipticCurvePrivateKey) -> bool:
    intermediate, root = chain
    if not (is_authority(intermediate) and is_authority(root) and permitted_subtrees(intermediate)):
        return False
    try:
        intermediate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return intermediate.public_key() == key.public_key()
