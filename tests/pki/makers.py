"""Software keys that stand where the chip's keys stand, and chains issued by them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from tpmhsm.pki.applicant import Applicant, applicant_from_csr
from tpmhsm.pki.csr import CsrContent, build_csr
from tpmhsm.pki.issue import Prepared, assemble, prepare
from tpmhsm.pki.names import parse_dn
from tpmhsm.pki.options import IssueOptions
from tpmhsm.pki.profiles import get_profile
from tpmhsm.pki.sans import parse_sans

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


@functools.cache
def key(alg: str = "p256", number: int = 0) -> Any:
    """One key for each pair of arguments: making RSA keys is slow."""
    if alg.startswith("rsa"):
        return rsa.generate_private_key(65537, int(alg[3:]))
    curve = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}[alg]
    return ec.generate_private_key(curve)


def sign(private: Any, prepared: Prepared) -> bytes:
    """What the chip does with the bytes."""
    algorithm = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}[
        prepared.hash_name
    ]
    if isinstance(private, rsa.RSAPrivateKey):
        return private.sign(prepared.tbs, padding.PKCS1v15(), algorithm)
    return private.sign(prepared.tbs, ec.ECDSA(algorithm))


@dataclass(frozen=True)
class Authority:
    key: Any
    certificate: x509.Certificate


def applicant(private: Any, subject: str, *sans: str) -> Applicant:
    content = CsrContent(parse_dn(subject), parse_sans(sans))
    return applicant_from_csr(build_csr(private, content))


def root(alg: str = "p256", subject: str = "CN=Example Root,O=Example,C=DE", **options: Any):
    private = key(alg, hash(subject))
    now = options.pop("now", NOW)
    prepared = prepare(
        get_profile("root"), applicant(private, subject), None, IssueOptions(**options), now
    )
    return Authority(private, assemble(prepared, sign(private, prepared)))


def issue(
    issuer: Authority,
    profile: str,
    subject: str,
    *sans: str,
    alg: str = "p256",
    now: datetime = NOW,
    **options: Any,
) -> Authority:
    private = key(alg, hash((profile, subject)))
    prepared = prepare(
        get_profile(profile),
        applicant(private, subject, *sans),
        issuer.certificate,
        IssueOptions(**options),
        now,
    )
    return Authority(private, assemble(prepared, sign(issuer.key, prepared)))


def pem(*certificates: x509.Certificate | Authority) -> bytes:
    found = [c.certificate if isinstance(c, Authority) else c for c in certificates]
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in found)
