"""Clauses on the protection of keys, and which answers of a judgement an auditor may use for them.

No certification is claimed, and none follows: each clause asks for more than a chip can say, which
`beyond` names. The clauses are told in our words; the documents themselves decide.

CA/Browser Forum Baseline Requirements for TLS server certificates, and for code signing; PCI DSS
v4.0.1; AICPA Trust Services Criteria (2017, points of focus 2022); Regulation (EU) 910/2014.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tpmhsm.attest.verdicts import QUESTIONS, Answer, Judgement, Question

DISCLAIMER = (
    "This table is no certification and no audit opinion. It says which of the answers above speak "
    "to a clause, and what the clause asks for that no chip can say."
)


@dataclass(frozen=True)
class Clause:
    """One clause: `source` and `number`, what it `asks` in our words, the `questions` whose answers
    speak to it, and what lies `beyond` evidence of this kind.
    """

    source: str
    number: str
    asks: str
    questions: tuple[Question, ...]
    beyond: str

    def answer(self, judgement: Judgement) -> Answer:
        """`proven` if all its questions are, `refuted` if one is."""
        found = {judgement.verdict(question).answer for question in self.questions}
        if "refuted" in found:
            return "refuted"
        return "proven" if found == {"proven"} else "not-proven"

    def encode(self, judgement: Judgement) -> dict[str, Any]:
        """JSON-ready; names are stable."""
        return {
            "source": self.source,
            "clause": self.number,
            "asks": self.asks,
            "questions": [QUESTIONS[question] for question in self.questions],
            "answer": self.answer(judgement),
            "beyond": self.beyond,
        }


_TLS = "CA/B Forum Baseline Requirements (TLS)"
_CODE = "CA/B Forum Baseline Requirements (code signing)"
_PCI = "PCI DSS v4.0.1"
_SOC = "SOC 2 (Trust Services Criteria)"
_EIDAS = "eIDAS, Regulation (EU) 910/2014"

CLAUSES = (
    Clause(
        _TLS,
        "5.2.2",
        "The CA's private key is backed up, stored and recovered under dual control at least, by "
        "people in trusted roles, in a physically secured place.",
        ("leave", "agree", "roster"),
        "Who the people are, that their roles are trusted ones, the room.",
    ),
    Clause(
        _TLS,
        "6.1.1.1",
        "The CA's key pair is made within a cryptographic module, under the control of several "
        "people, by a script, and the ceremony is logged and witnessed.",
        ("kind", "born", "agree", "log"),
        "The script, the witnesses, the room; whether the module meets the CA's own policy.",
    ),
    Clause(
        _TLS,
        "6.2.7",
        "The CA's private key is protected in a system or device that was validated: FIPS 140 "
        "level 3, or a Common Criteria profile or target of EAL 4 or higher.",
        ("maker", "kind", "born", "leave"),
        "The validation. Many TPMs have FIPS 140 level 1 or 2 or EAL 4; the maker's certificate "
        "names the model, and the lists of NIST and of Common Criteria say what it has.",
    ),
    Clause(
        _CODE,
        "6.2.7.4.2",
        "The CA makes sure that a subscriber's key is made and kept in a suitable hardware module; "
        "an attestation by the maker's certificate, which says so, is one of the ways.",
        ("maker", "kind", "born", "leave"),
        "The module's validation (FIPS 140 level 2 or EAL 4+), and that the CA checked this file.",
    ),
    Clause(
        _PCI,
        "3.6.1.2",
        "Secret and private keys for stored account data are kept encrypted by a key as strong, or "
        "in a secure cryptographic device, or as shares.",
        ("kind", "born", "leave"),
        "What the key is used for; whether the assessor takes this chip as such a device.",
    ),
    Clause(
        _PCI,
        "3.7.7",
        "Procedures prevent that keys are exchanged for others without authority.",
        ("born", "agree", "roster", "fresh"),
        "The procedures, and that relying systems compare the key with the one named here.",
    ),
    Clause(
        _SOC,
        "CC6.1",
        "Logical access to protected assets is restricted; keys are protected while they are made, "
        "kept, used and destroyed.",
        ("kind", "born", "leave", "agree", "roster"),
        "That the control worked over the whole period; destruction; all other assets.",
    ),
    Clause(
        _SOC,
        "CC7.2",
        "Components are monitored for anomalies, and what is found is looked into.",
        ("log", "fresh"),
        "Who reads the log, how often, and what they do.",
    ),
    Clause(
        _EIDAS,
        "Annex II, 1 (a) and (b)",
        "Signature creation data are kept confidential, and practically occur only once.",
        ("kind", "born", "leave"),
        "A TPM is no qualified device unless it was certified as one (articles 30 and 31).",
    ),
    Clause(
        _EIDAS,
        "Annex II, 1 (d)",
        "The legitimate signatory can reliably protect the signature creation data against use by "
        "others.",
        ("agree", "roster"),
        "As above; and who the signatory is.",
    ),
)
"""In the order in which they are shown."""
