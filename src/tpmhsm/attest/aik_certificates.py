"""Certificates of attestation keys: their profile, their path to a pinned root.

Somebody who verified that the key lives in a chip beside an endorsement key says so with such a
certificate. WebAuthn Level 3 §8.3.1; TCG EK Credential Profile 2.5 §3.2.9 for the names of a TPM.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from tpmhsm.attest.makers import MAKERS, known_letters
from tpmhsm.errors import ParseError, VerificationError
from tpmhsm.pki import der
from tpmhsm.pki.general_names import attribute_texts
from tpmhsm.pki.path_certificate import PathCertificate, read_path_certificate
from tpmhsm.pki.verify import VerifyOptions, verify_certificate

AIK_USAGE = "2.23.133.8.3"
"""tcg-kp-AIKCertificate: the key signs what the chip itself says, and nothing else."""
AAGUID = "1.3.6.1.4.1.45724.1.1.4"
_SAN = "2.5.29.17"
_EMPTY_NAME = b"\x30\x00"
_MANUFACTURER, _MODEL, _VERSION = "2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3"


@dataclass(frozen=True)
class TpmNames:
    """What a certificate says of the chip. Hints: anyone can type them.

    `letters` of the maker as in `makers`, empty when it is unknown; `maker` in words or the digits.
    """

    letters: str
    maker: str
    model: str
    version: str


@dataclass(frozen=True)
class AttestationKey:
    """A certified attestation key: `spki` DER; `chain` DER, its certificate first, root last."""

    spki: bytes
    chain: tuple[bytes, ...]
    names: TpmNames | None

    @property
    def root(self) -> bytes:
        """The pinned certificate that the path ends at, DER."""
        return self.chain[-1]


def judge_attestation_key(
    chain: Sequence[bytes], roots: Iterable[bytes], at: datetime, *, webauthn: bool = False
) -> AttestationKey:
    """Check the certificate that stands first, by way of the others, against pinned roots (DER).

    `webauthn` demands all of §8.3.1; without it a subject is allowed and the TPM's names may be
    missing, as other attestation CAs issue them. VerificationError says what does not hold.
    """
    leaf = _read(chain[0])
    faults = [*_usage_faults(leaf), *(_webauthn_faults(leaf) if webauthn else ())]
    if faults:
        raise VerificationError(
            f"the attestation key's certificate {faults[0]}",
            code="aik-certificate",
            hint="it was not made for an attestation key of a TPM",
        )
    roots = tuple(roots)
    if not roots:
        raise VerificationError(
            "no root is pinned that certifies attestation keys",
            code="untrusted-root",
            hint="name one with --trust FILE",
        )
    try:
        found = verify_certificate(chain[0], roots, chain[1:], VerifyOptions(at=at))
    except VerificationError as error:
        foreign = error.details.get("reason") in _FOREIGN
        raise VerificationError(
            f"the attestation key's certificate: {error.message}",
            code="untrusted-root" if foreign else "aik-path",
            hint="name who certifies attestation keys: --trust, or evidence_roots in tpmhsm.toml"
            if foreign
            else error.hint,
            details=error.details,
        ) from None
    return AttestationKey(leaf.spki, found.chain, tpm_names(leaf))


_FOREIGN = ("untrusted-root", "unknown-issuer", "bad-signature")


def aaguid_of(certificate: bytes) -> bytes | None:
    """The authenticator model that the certificate is for, 16 bytes; None if it names none."""
    item = _read(certificate).extensions.get(AAGUID)
    if item is None:
        return None
    value = der.read_whole(item.value)
    if value.tag != der.OCTET_STRING or len(value.content) != 16 or item.critical:
        raise ParseError("the certificate's authenticator model (aaguid) is malformed")
    return value.content


def tpm_names(certificate: PathCertificate) -> TpmNames | None:
    """Maker, model and version in the alternative names; None when they are not all there."""
    found = [name.raw for name in certificate.sans or () if name.kind == "dirname"]
    for name in found:
        texts = [attribute_texts(name, oid) for oid in (_MANUFACTURER, _MODEL, _VERSION)]
        if all(len(some) == 1 for some in texts):
            (maker,), (model,), (version,) = texts
            letters = known_letters(maker)
            return TpmNames(letters, MAKERS.get(letters, maker), model, version)
    return None


def _read(raw: bytes) -> PathCertificate:
    try:
        return read_path_certificate(raw)
    except ParseError as error:
        raise ParseError(f"the attestation key's certificate: {error.message}") from error


def _usage_faults(leaf: PathCertificate) -> Iterator[str]:
    if leaf.version != 3:
        yield f"is of version {leaf.version}, not 3"
    if AIK_USAGE not in (leaf.usages or ()):
        yield f"is for no attestation key: it lacks the extended key usage {AIK_USAGE}"
    if leaf.is_ca:
        yield "is a CA's"
    if leaf.key_usage is not None and "digitalSignature" not in leaf.key_usage:
        yield "does not allow its key to sign"


def _webauthn_faults(leaf: PathCertificate) -> Iterator[str]:
    if leaf.subject != _EMPTY_NAME:
        yield "names a subject, which WebAuthn leaves empty"
    if leaf.basic is None:
        yield "does not say that it is no CA's"
    if not leaf.is_critical(_SAN):
        yield "does not name its TPM in critical alternative names"
    names = tpm_names(leaf)
    if names is None:
        yield "does not name a TPM: maker, model and version are not in its alternative names"
    elif not names.letters:
        yield f"names a maker that the TCG does not know: {names.maker}"
