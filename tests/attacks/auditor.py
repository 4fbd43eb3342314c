"""Root, who writes evidence at the chip, and the auditor who judges it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from tests.attacks.house import House
from tests.attest.collecting import (
    NONCE,
    Collector,
    bond_of,
    trusting,
)

from tpmhsm.attest.format import (
    Evidence,
)
from tpmhsm.attest.verdicts import Judgement
from tpmhsm.attest.verify import verify_evidence
from tpmhsm.tpm import objects
from tpmhsm.tpm.objects import Loaded
from tpmhsm.wire.commands import (
    CreatePrimary,
)
from tpmhsm.wire.constants import RH
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import EccPoint, SensitiveCreate


class Auditor:
    """Who judges: with one activation, pinned roots, a nonce."""

    def __init__(self, house: House, honest: Evidence) -> None:
        self.house = house
        self.honest = honest
        self.bond = bond_of(honest)
        self.trusted = trusting(house.app.home, self.bond)

    def judge(self, evidence: Evidence, **changes: Any) -> Judgement:
        return verify_evidence(evidence, replace(self.trusted, **changes), NONCE)

    def refutes(self, evidence: Evidence, question: Any, code: str, **changes: Any) -> Judgement:
        """It is refuted on this question, for this reason."""
        judged = self.judge(evidence, **changes)
        codes = [one.code for one in judged.verdict(question).findings if one.answer == "refuted"]
        assert code in codes, (judged.verdict(question).answer, codes, judged.sentence)
        assert judged.verdict(question).answer == "refuted"
        return judged

    def lacks(self, evidence: Evidence, question: Any, code: str, **changes: Any) -> Judgement:
        """It is not proven, for this reason, and nothing is refuted."""
        judged = self.judge(evidence, **changes)
        verdict = judged.verdict(question)
        assert verdict.answer == "not-proven", judged.sentence
        assert code in [one.code for one in verdict.findings], verdict
        assert judged.answered("refuted") == ()
        return judged


def of_root(house: House) -> Any:
    """Root's conversation with the chip, as a collector."""
    return house.app.device.transaction()


def collecting(chip: Any, ak: Loaded | None = None, nonce: bytes = NONCE) -> Collector:
    return Collector(chip, ak or objects.attestation_key(chip), nonce)


def another_ak(chip: Any, template: Public, hierarchy: RH = RH.ENDORSEMENT) -> Loaded:
    """A primary key of root's making."""
    made = chip.send(CreatePrimary(hierarchy, SensitiveCreate(), template, b"", ()))
    return Loaded(made.object_handle, made.out_public, made.name)


TWIN = ec.generate_private_key(ec.SECP256R1())
"""Root's own key, in software."""

OTHER_AK = objects.ATTESTATION_KEY_TEMPLATE.replace(unique=EccPoint(b"\x01" * 32, bytes(32)))


def sealed(house: House, evidence: Evidence) -> Evidence:
    """The chip seals whatever root wrote."""
    with of_root(house) as chip:
        return collecting(chip).sealed(evidence)


def with_group(evidence: Evidence, **changes: Any) -> Evidence:
    return replace(evidence, groups=(replace(evidence.groups[0], **changes),))


def with_key(evidence: Evidence, **changes: Any) -> Evidence:
    return replace(evidence, keys=(replace(evidence.keys[0], **changes), *evidence.keys[1:]))
