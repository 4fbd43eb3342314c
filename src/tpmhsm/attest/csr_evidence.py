"""What the evidence in a CSR proves of the CSR's key, judged by what a CA pinned.

Proven is: the chip of an attestation key that somebody pinned vouches for holds this key, cannot
give it away, and made it. Not proven, and not needed: freshness. The statement speaks of one key
for ever, and the CSR itself shows that its sender has that key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from tpmhsm.attest import csr_bundle
from tpmhsm.attest.aik_certificates import (
    AIK_USAGE,
    AttestationKey,
    judge_attestation_key,
)
from tpmhsm.attest.believed import Believed
from tpmhsm.attest.csr_bundle import Bundle, Statement
from tpmhsm.attest.public_keys import spki_of_public
from tpmhsm.attest.statements import MADE_HERE, check_attestation_key
from tpmhsm.attest.tpm_signatures import WEAK, check_tpm_signature
from tpmhsm.attest.webauthn import read_attestation_object, verify_statement
from tpmhsm.errors import ParseError, TpmHsmError, VerificationError
from tpmhsm.pki.path_certificate import PathCertificate, read_path_certificate
from tpmhsm.pki.signatures import split_signed
from tpmhsm.pki.tbs import read_request_info
from tpmhsm.wire.attest import Attest, CertifyInfo, CreationInfo
from tpmhsm.wire.codec import decode
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import Public

KNOWN = (csr_bundle.TPM_CERTIFY, csr_bundle.TPM_CREATION, csr_bundle.WEBAUTHN)

CLASS_UNKNOWN = "class unknown"
"""Of a chip, where what was pinned names no class: it may be software."""


@dataclass(frozen=True)
class ProvenKey:
    """What is proven. `how` is 'certify', 'creation' or 'webauthn'; `kind` a key of `roots.KINDS`,
    or empty; `ak_name` empty unless the attestation key's public area was shown.
    """

    public: bytes = field(repr=False)
    name: bytes
    how: str
    kind: str
    ak_name: bytes
    certified: AttestationKey | None = None
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """One sentence, for screens and logs."""
        made = "made in it" if self.how == "creation" else "kept in it"
        return f"in {self.device}, {made}, cannot leave it"

    @property
    def device(self) -> str:
        """Which chip, as far as it is known."""
        names = self.certified.names if self.certified else None
        model = f", which calls itself {names.maker} {names.model}" if names else ""
        return f"a TPM ({self.kind or CLASS_UNKNOWN}){model}"

    @property
    def facts(self) -> dict[str, Any]:
        """JSON-ready, for the audit log and `csr show`."""
        found: dict[str, Any] = {
            "name": self.name.hex(),
            "proof": self.how,
            "device_class": self.kind or CLASS_UNKNOWN,
            "attestation_key": self.ak_name.hex(),
            "root": sha256(self.certified.root).hexdigest() if self.certified else "",
        }
        names = self.certified.names if self.certified else None
        return {**found, "claims": f"{names.maker} {names.model}"} if names else found


def verify_csr_evidence(csr: bytes, believed: Believed, at: datetime) -> ProvenKey:
    """Verify that the key of a CSR (DER) is in a chip, by what is pinned, at that moment.

    VerificationError with the code of what does not hold: no-evidence, untrusted-root, other-key,
    not-fixed, unrestricted, bad-signature … The CSR's own signature is `verify_csr`'s.
    """
    info = split_signed(csr, "a CSR")[0]
    bundle = csr_bundle.find_in_info(info)
    if bundle is None:
        raise VerificationError(
            "the CSR has no evidence that its key is in a TPM",
            code="no-evidence",
            hint="tpmhsm csr create LABEL --evidence makes one that has",
        )
    return verify_bundle(bundle, read_request_info(info).spki, believed, at)


def verify_bundle(bundle: Bundle, spki: bytes, believed: Believed, at: datetime) -> ProvenKey:
    """Verify that one of a bundle's statements proves where this key is; errors as above."""
    first: TpmHsmError | None = None
    for statement in bundle.of_type(*KNOWN):
        try:
            proven = _verify(bundle, statement, believed, at)
            _check_key(proven, spki)
        except (VerificationError, ParseError) as error:
            first = first or error
        else:
            return proven
    raise first or VerificationError(
        "the CSR's evidence has no statement of a kind that is known here",
        code="no-evidence",
        details={"types": [one.type for one in bundle.statements]},
    )


def _verify(bundle: Bundle, statement: Statement, believed: Believed, at: datetime) -> ProvenKey:
    if statement.type == csr_bundle.WEBAUTHN:
        return _webauthn(statement, believed, at)
    given = csr_bundle.read_tpm_evidence(statement.der)
    signer = _signer(bundle, given.attest, given.signature, believed, at)
    body = decode(Attest, given.attest)
    name = name_of_public(given.public)
    match body.attested:
        case CertifyInfo(name=certified):
            how = "certify"
        case CreationInfo(object_name=certified):
            how = "creation"
        case _:
            raise _refused("the chip attested something else than a key", "other-kind")
    if not name or certified != name:
        raise _refused("the chip certified another key than the statement shows", "other-name")
    return ProvenKey(given.public, name, how, signer.kind, signer.name, signer.certified)


def _webauthn(statement: Statement, believed: Believed, at: datetime) -> ProvenKey:
    """A statement as browsers get it. What it was made for is not asked: see the module's head."""
    found = read_attestation_object(csr_bundle.read_octets(statement.der)).statement
    x5c = (*found.x5c, *believed.intermediates)
    proven = verify_statement(replace(found, x5c=x5c), None, believed.roots, at)
    key = proven.attestation_key
    return ProvenKey(
        proven.public, proven.name, "webauthn", believed.roots[key.root], b"", key, proven.weak
    )


# ── who signed ───────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Signer:
    kind: str
    name: bytes
    certified: AttestationKey | None


def _signer(
    bundle: Bundle, attest: bytes, signature: bytes, believed: Believed, at: datetime
) -> _Signer:
    """The attestation key that signed, if it is one to be believed."""
    shown = _shown_keys(bundle)
    candidates = {**{one.spki: None for one in _leaves(bundle)}, **dict.fromkeys(shown)}
    for spki in candidates:
        if _has_signed(spki, attest, signature):
            return _judge(bundle, spki, shown.get(spki), believed, at)
    raise _refused(
        "the statement is signed by no attestation key that the evidence shows",
        "bad-signature",
        "the attestation key's certificate belongs into the evidence: csr create --ak-certificate",
    )


def _has_signed(spki: bytes, attest: bytes, signature: bytes) -> bool:
    try:
        used = check_tpm_signature(spki, attest, signature)
    except VerificationError:
        return False
    if used in WEAK:
        raise _refused(f"the chip signed with {used.upper()}, which is not relied on", "weak-hash")
    return True


def _judge(
    bundle: Bundle, spki: bytes, public: bytes | None, believed: Believed, at: datetime
) -> _Signer:
    name = b""
    if public is not None:
        try:
            check_attestation_key(public)
        except ParseError as error:
            raise _refused(error.message, "unrestricted") from None
        name = name_of_public(public)
        if name in believed.names:
            return _Signer("", name, None)
    found = _certified(bundle, spki, believed, at)
    if found is None:
        raise _refused(
            f"nobody who is believed vouches for the attestation key {name.hex()}",
            "unknown-ak",
            "ask its chip: tpmhsm attest challenge, with evidence of its host; then name the key "
            "that answered: csr verify --ak, or evidence_keys in tpmhsm.toml",
        )
    return _Signer(believed.roots[found.root], name, found)


def _certified(
    bundle: Bundle, spki: bytes, believed: Believed, at: datetime
) -> AttestationKey | None:
    """The attestation key by one of its certificates, of which several CAs may have made one; None
    if there is none. VerificationError says what is wrong with the first.
    """
    others = [*bundle.certificates, *believed.intermediates]
    first: VerificationError | None = None
    for leaf in _leaves(bundle):
        if leaf.spki == spki:
            try:
                return judge_attestation_key([leaf.raw, *others], believed.roots, at)
            except VerificationError as error:
                first = first or error
    if first:
        raise first
    return None


def _shown_keys(bundle: Bundle) -> Mapping[bytes, bytes]:
    """Public areas of attestation keys, by their keys (SubjectPublicKeyInfo)."""
    areas = [csr_bundle.read_octets(one.der) for one in bundle.of_type(csr_bundle.AK_PUBLIC)]
    return {spki_of_public(area): area for area in areas}


def _leaves(bundle: Bundle) -> Iterator[PathCertificate]:
    """Certificates of no CA; those of attestation keys first."""
    found = []
    for raw in bundle.certificates:
        try:
            found.append(read_path_certificate(raw))
        except ParseError:  # some makers' certificates of endorsement keys: of no use here
            continue
    own = [one for one in found if not one.is_ca]
    return iter(sorted(own, key=lambda one: AIK_USAGE not in (one.usages or ())))


# ── the key ──────────────────────────────────────────────────────────────────


def _check_key(proven: ProvenKey, spki: bytes) -> None:
    if spki_of_public(proven.public) != spki:
        raise _refused("the evidence is for another key than the CSR's", "other-key")
    attributes = decode(Public, proven.public).attributes
    missing = [bit.name for bit in MADE_HERE if not attributes & bit]
    if missing:
        raise _refused(
            f"the key may leave its chip, or was not made there: it lacks {_camel(missing)}",
            "not-fixed",
        )


def _camel(names: list[str | None]) -> str:
    """As the TCG writes them: fixedTPM, fixedParent, sensitiveDataOrigin."""
    known = {"FIXED_TPM": "fixedTPM", "FIXED_PARENT": "fixedParent"}
    return ", ".join(known.get(name or "", "sensitiveDataOrigin") for name in names)


def _refused(words: str, code: str, hint: str = "") -> VerificationError:
    return VerificationError(words, code=code, hint=hint)
