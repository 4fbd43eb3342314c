"""Further attestation keys of a file: certified by the first, for verifiers of other algorithms."""

from __future__ import annotations

from tpmhsm.attest.findings import Findings
from tpmhsm.attest.format import AttestationPart, Evidence
from tpmhsm.attest.statements import check_attest, check_attestation_key
from tpmhsm.attest.verdicts import Proof
from tpmhsm.attest.witness import Witness
from tpmhsm.errors import ParseError, VerificationError
from tpmhsm.wire.attest import CertifyInfo, CreationInfo
from tpmhsm.wire.constants import ST
from tpmhsm.wire.names import name_of_public


def judge_further_aks(evidence: Evidence, witness: Witness, findings: Findings) -> None:
    """Refute `chip` where one of them is not what the file says; find nothing else."""
    for place, part in enumerate(evidence.aks[1:], 1):
        path = f"aks[{place}]"
        proof = (Proof.of(f"{path}.public", part.public, "a further attestation key"),)
        about = f"The attestation key {place + 1} of the file"
        with findings.refuting("chip", about, proof):
            check_attestation_key(part.public)
            _check_certified(path, part, witness)
            _check_own(evidence, part)


def _check_certified(path: str, part: AttestationPart, witness: Witness) -> None:
    if part.certified is None:
        raise ParseError("the first attestation key does not certify it", code="not-certified")
    name = name_of_public(part.public)
    info = witness.hear(f"{path}.certified", part.certified, "ak", name)
    if not isinstance(info, CertifyInfo) or info.name != name:
        raise VerificationError("the first one certified another key", code="other-key")


def _check_own(evidence: Evidence, part: AttestationPart) -> None:
    """What it signs itself, by its own scheme."""
    name = name_of_public(part.public)
    if part.creation is not None:
        over = evidence.qualifying("creation", name)
        one = part.creation
        info = check_attest(part.public, one.attest, one.signature, ST.ATTEST_CREATION, over)
        if not isinstance(info, CreationInfo) or info.object_name != name:
            raise VerificationError("it certifies another key's creation", code="other-key")
    if part.quote is not None:
        over = evidence.qualifying("quote")
        quote = check_attest(
            part.public, part.quote.attest, part.quote.signature, ST.ATTEST_QUOTE, over
        )
        _check_same_pcrs(evidence, quote)


def _check_same_pcrs(evidence: Evidence, quote: object) -> None:
    from tpmhsm.attest.moment_findings import check_quoted
    from tpmhsm.wire.attest import QuoteInfo

    if evidence.quote is not None and isinstance(quote, QuoteInfo):
        check_quoted(quote, evidence.quote.pcrs)
