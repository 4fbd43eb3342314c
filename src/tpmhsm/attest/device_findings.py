"""Which chip, which maker, what kind of chip: endorsement keys, their certificates, the bond.

Only a pinned root decides what kind of chip it is, and it speaks of the endorsement key (EK). That
the attestation key (AK) sits beside it, in the same chip, is proven by activation alone: EK
certificates are public, and anybody can put another chip's into a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

from tpmhsm.attest.findings import Findings
from tpmhsm.attest.format import DeviceClaims, EndorsementPart, Evidence
from tpmhsm.attest.public_keys import spki_of_public
from tpmhsm.attest.verdicts import CLASS_WORDS, Answer, DeviceClass, Link, Proof
from tpmhsm.errors import ParseError, VerificationError
from tpmhsm.pki.names import format_dn_der
from tpmhsm.wire.codec import decode
from tpmhsm.wire.constants import ObjectAttributes
from tpmhsm.wire.public import Public

if TYPE_CHECKING:
    from tpmhsm.attest.ek_certificates import EkJudgement
    from tpmhsm.attest.roots import PinnedRoot
    from tpmhsm.attest.witness import Witness

A = ObjectAttributes
_EK = A.FIXED_TPM | A.FIXED_PARENT | A.SENSITIVE_DATA_ORIGIN | A.RESTRICTED | A.DECRYPT

SOFTWARE_WORDS = (
    "software TPM, whose keys are files that whoever runs the machine can read, copy and put back"
)


@dataclass(frozen=True)
class Bond:
    """Proof that an AK sits beside an EK: `ek` TPMT_PUBLIC, `ak` the AK's Name (34 bytes), `words`
    how it was proven.
    """

    ek: bytes
    ak: bytes
    words: str
    proof: tuple[Proof, ...] = ()


@dataclass(frozen=True)
class Trusted:
    """What a verifier brings: pinned `roots`, further CA certificates (DER), the time for which
    certificates are judged, and the bond, if there is one.
    """

    roots: tuple[PinnedRoot, ...]
    intermediates: tuple[bytes, ...]
    at: datetime
    bond: Bond | None = None


@dataclass(frozen=True)
class Endorsed:
    """One EK of the file: `fault` says why it is not believed; `judged` is None without a
    certificate, or with one that cannot be read.
    """

    place: int
    part: EndorsementPart
    judged: EkJudgement | None = None
    fault: tuple[str, str] = ("", "")

    @property
    def holds(self) -> bool:
        """Whether its certificate is its own, and leads to a pinned root."""
        return self.judged is not None and self.judged.holds and not self.fault[0]

    @property
    def path(self) -> str:
        """Where it stands."""
        return f"eks[{self.place}]"

    @property
    def proof(self) -> tuple[Proof, ...]:
        """Its bytes."""
        found = [Proof.of(f"{self.path}.public", self.part.public, "the endorsement key")]
        if self.part.certificate is not None:
            what = "the endorsement key's certificate"
            found.append(Proof.of(f"{self.path}.certificate", self.part.certificate, what))
        return tuple(found)

    @property
    def label(self) -> str:
        """'EK 1a2b3c4d 5e6f7081': the digits are its public area's SHA-256."""
        digits = sha256(self.part.public).hexdigest()
        return f"EK {digits[:8]} {digits[8:16]}"


@dataclass(frozen=True)
class DeviceView:
    """What is known of the device. `stands`: the AK is bonded to an EK of a pinned root; else `why`
    says in words what is missing.
    """

    device_class: DeviceClass
    maker: str
    stands: bool
    why: str
    links: tuple[Link, ...]


def judge_device(
    evidence: Evidence, witness: Witness, trusted: Trusted, findings: Findings
) -> DeviceView:
    """Find on `chip`, `maker` and `kind`; return what the other answers rest on."""
    eks = [_endorsed(place, ek, trusted) for place, ek in enumerate(evidence.eks)]
    for one in eks:
        if one.fault[0]:
            findings.add("chip", "refuted", *one.fault, proof=one.proof)
    if witness.fault:
        words = f"What the file calls an attestation key is none: {witness.fault}."
        findings.add("chip", "refuted", "attestation-key", words, proof=(witness.proof,))
    bonded = _bonded(eks, witness, trusted.bond, findings)
    shown = bonded or next((one for one in eks if one.holds), None) or next(iter(eks), None)
    view = _view(evidence, witness, shown, bonded, trusted)
    _chip(view, bonded, witness, findings)
    _maker(view, shown, bonded, findings)
    _kind(view, evidence.device, shown, bonded, findings)
    return view


def says_software(claims: DeviceClaims) -> bool:
    """Whether a device calls itself software. A hint, but nobody lies so."""
    said = f"{claims.vendor} {claims.manufacturer}".upper().split()
    return claims.kind == "software TPM" or "SW" in said or "SWTPM" in said


# ── endorsement keys ─────────────────────────────────────────────────────────


def _endorsed(place: int, part: EndorsementPart, trusted: Trusted) -> Endorsed:
    judged = None
    try:
        _check_ek(part.public)
        if part.certificate is not None:
            more = (*trusted.intermediates, *part.chain)
            judged = _judge(part.certificate, trusted.roots, more, trusted.at)
            _check_same(part, judged)
    except (ParseError, VerificationError) as error:
        words = f"The endorsement key {place + 1} of the file is not believed: {error.message}."
        return Endorsed(place, part, judged, (error.code, words))
    broken = judged.broken if judged else ()
    if broken:
        told = "; ".join(one.words for one in broken)
        words = f"The certificate of the endorsement key {place + 1} does not hold: {told}."
        return Endorsed(place, part, judged, (f"ek-certificate-{broken[0].reason}", words))
    return Endorsed(place, part, judged)


@lru_cache(64)
def _judge(
    certificate: bytes,
    roots: tuple[PinnedRoot, ...],
    intermediates: tuple[bytes, ...],
    at: datetime,
) -> EkJudgement:
    from tpmhsm.attest.ek_certificates import judge_ek

    return judge_ek(certificate, roots, intermediates, at)


def _check_ek(public: bytes) -> None:
    area = decode(Public, public)
    if area.attributes & (_EK | A.SIGN) != _EK:
        raise VerificationError(
            "its public area is not that of a key that only decrypts, in its chip alone",
            code="ek-attributes",
        )


def _check_same(part: EndorsementPart, judged: EkJudgement) -> None:
    if spki_of_public(part.public) != judged.spki:
        raise VerificationError(
            "the certificate is for another endorsement key than the one in the file, so it is "
            "another chip's",
            code="ek-certificate-of-another-key",
        )


# ── the bond ─────────────────────────────────────────────────────────────────


def _bonded(
    eks: Sequence[Endorsed], witness: Witness, bond: Bond | None, findings: Findings
) -> Endorsed | None:
    """The EK that the AK is proven to sit beside."""
    if bond is None or witness.fault:
        return None
    if bond.ak != witness.name:
        words = (
            "The activation was for another attestation key than the one that signed this file: "
            "the chip that answered the challenge is not the chip that speaks here."
        )
        findings.add("chip", "refuted", "activation-of-another-key", words, proof=bond.proof)
        return None
    found = next((one for one in eks if one.part.public == bond.ek), None)
    if found is None:
        words = (
            "The activation was for an endorsement key that is not in this file: another chip's."
        )
        findings.add("chip", "refuted", "activation-of-another-chip", words, proof=bond.proof)
    return found if found and not found.fault[0] else None


def _view(
    evidence: Evidence,
    witness: Witness,
    shown: Endorsed | None,
    bonded: Endorsed | None,
    trusted: Trusted,
) -> DeviceView:
    root = shown.judged.root if shown and shown.judged and shown.holds else None
    stands = bonded is not None and bonded.holds
    named: DeviceClass = root.kind if root else "unproven"  # type: ignore[assignment]
    if named in ("discrete", "firmware", "virtual") and not stands:
        named = "unproven"
    if named == "unproven" and says_software(evidence.device):
        named = "software"
    maker = root.maker if root else ""
    why = "" if stands else _missing(witness, shown, bonded)
    return DeviceView(named, maker, stands, why, _links(shown, bonded, witness, trusted))


def _missing(witness: Witness, shown: Endorsed | None, bonded: Endorsed | None) -> str:
    if witness.fault:
        return "what signed this file is no attestation key."
    if bonded is None:
        return (
            "nothing proves that the key that signed this file sits in a chip: it was not "
            "activated (tpmhsm attest challenge)."
        )
    return "the chip is not proven to be anybody's: " + _why_no_root(shown)


def _why_no_root(shown: Endorsed | None) -> str:
    if shown is None or shown.part.certificate is None:
        return "there is no certificate for its endorsement key."
    if shown.judged is None or not shown.judged.faults:
        return "the certificate of its endorsement key does not hold."
    return f"{shown.judged.faults[0].words}."


# ── the three answers ────────────────────────────────────────────────────────


def _chip(view: DeviceView, bonded: Endorsed | None, witness: Witness, findings: Findings) -> None:
    if bonded is None:
        words = f"Which chip this is remains open: {view.why}"
        findings.add("chip", "not-proven", "not-activated", words, proof=(witness.proof,))
        return
    proof = (*bonded.proof, witness.proof)
    if view.stands:
        words = f"It is the chip with the endorsement key {bonded.label[3:]}; the key that signed "
        words += "this file sits in it, as only that chip could answer."
        findings.add("chip", "proven", "activated", words, proof=proof)
        return
    words = f"The key that signed this file sits beside the endorsement key {bonded.label[3:]}, "
    words += f"but {view.why}"
    findings.add("chip", "not-proven", "no-pinned-root", words, proof=proof)


def _maker(
    view: DeviceView, shown: Endorsed | None, bonded: Endorsed | None, findings: Findings
) -> None:
    proof = shown.proof if shown else ()
    if view.stands and bonded:
        words = f"{view.maker or 'The maker of the pinned root'}, whose root certificate is pinned "
        words += "here, certified the chip's endorsement key."
        if view.device_class == "emulator":
            words = "No maker of chips: the root certificate that is pinned here is an emulator's "
            words += "own, made by whoever runs it. It certified the endorsement key."
        findings.add("maker", "proven", "pinned-root", words, proof=proof)
        return
    hint = shown.judged.hints.text if shown and shown.judged else ""
    said = f" The certificate calls it {hint[:100]!r}; anybody can write that." if hint else ""
    if view.maker:
        words = f"The file has a certificate of {view.maker}, but {view.why}"
        findings.add("maker", "not-proven", "not-activated", words, proof=proof)
        return
    words = "Nobody whose root certificate is pinned here vouches for the chip: "
    words += _why_no_root(shown) + said
    findings.add("maker", "not-proven", "no-pinned-root", words, proof=proof)


def _kind(
    view: DeviceView,
    claims: DeviceClaims,
    shown: Endorsed | None,
    bonded: Endorsed | None,
    findings: Findings,
) -> None:
    proof = shown.proof if shown else ()
    named = view.device_class
    hardware = named in ("discrete", "firmware")
    if hardware and says_software(claims):
        words = "The pinned root stands for hardware, but the device calls itself a software TPM."
        findings.add("kind", "refuted", "class-contradicted", words, proof=proof)
    elif view.stands:
        words = f"It is {CLASS_WORDS[named]}, by the pinned root of {view.maker or 'its maker'}."
        if named == "emulator":
            words = f"It is an emulator: a {SOFTWARE_WORDS}. The pinned root says so."
        findings.add("kind", "proven", named, words, proof=proof)
    elif named in ("emulator", "software"):
        words = f"Not proven to be hardware. It is said to be a {SOFTWARE_WORDS}."
        findings.add("kind", "not-proven", f"{named}-tpm", words, proof=proof)
    else:
        words = f"Not proven to be hardware: {view.why}"
        findings.add("kind", "not-proven", "not-proven-hardware", words, proof=proof)


# ── the picture ──────────────────────────────────────────────────────────────


def _links(
    shown: Endorsed | None, bonded: Endorsed | None, witness: Witness, trusted: Trusted
) -> tuple[Link, ...]:
    links = [] if shown is None else _endorsement_links(shown)
    sits: Answer = "proven" if bonded else "not-proven"
    how = "the chip answered a challenge (activation)" if bonded else "not activated"
    if bonded and trusted.bond:
        how = trusted.bond.words or how
    if witness.fault:
        sits, how = "refuted", witness.fault
    label = f"AK {witness.name.hex()[4:12]} {witness.name.hex()[12:20]}" if witness.name else "AK"
    return (*links, Link("ak", label, len(links) - 1, sits, how, witness.proof))


def _endorsement_links(shown: Endorsed) -> list[Link]:
    links: list[Link] = []
    judged = shown.judged
    for place, der in enumerate(reversed(judged.chain[1:] if judged else ())):
        pinned = judged is not None and judged.root is not None and place == 0
        how = "pinned here" if pinned else "its signature holds"
        answer: Answer = "proven" if pinned or links else "not-proven"
        if not pinned and not links:
            how = "not pinned here"
        kind: str = "root" if pinned else "intermediate"
        proof = Proof(f"certificate {_subject(der)}", sha256(der).hexdigest(), "a CA certificate")
        links.append(Link(kind, _subject(der), place - 1, answer, how, proof))  # type: ignore[arg-type]
    held: Answer = "refuted" if shown.fault[0] else "proven" if shown.holds else "not-proven"
    how = shown.fault[1] or ("certified by its maker" if shown.holds else _why_no_root(shown))
    links.append(Link("ek", shown.label, len(links) - 1, held, how, shown.proof[-1]))
    return links


def _subject(der: bytes) -> str:
    from tpmhsm.pki.path_certificate import read_path_certificate_loosely

    try:
        return format_dn_der(read_path_certificate_loosely(der).subject)[:200]
    except ParseError:
        return "certificate"
