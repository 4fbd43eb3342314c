"""Evidence that an authority demands with a CSR before it certifies the key.

The demand is this host's: whoever is root here can take it back, and approvers see the evidence
on their own machines. Nothing is read and nothing imported where nothing is demanded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpmhsm.errors import UsageError, VerificationError

if TYPE_CHECKING:
    from tpmhsm.attest.believed import Believed
    from tpmhsm.ca.settings import AuthoritySettings

_MOST = 1 << 24
"""Bytes of a file of roots."""


@dataclass(frozen=True)
class Demand:
    """By whom an attestation key must be vouched for."""

    believed: Believed


@dataclass(frozen=True)
class Evidence:
    """What was proven of a key: `facts` for the audit log, `words` for people, further `notes`."""

    facts: Mapping[str, Any]
    words: str
    notes: tuple[str, ...] = ()

    @property
    def all_notes(self) -> tuple[str, ...]:
        """For whoever asked for the certificate."""
        return (f"evidence: the key is {self.words}", *(f"evidence: {n}" for n in self.notes))


def demand_of(
    settings: AuthoritySettings, name: str, profile: str, *, asked: bool = False
) -> Demand | None:
    """What an authority demands for a profile, or because it was `asked` for this once.

    UsageError when nobody is named who could be believed, or a file cannot be read.
    """
    if not asked and not settings.wants_evidence(profile):
        return None
    from tpmhsm.attest.believed import read_believed

    files = [(file, _read(file)) for file in settings.evidence_roots]
    believed = read_believed(files, settings.evidence_keys)
    if not believed:
        raise UsageError(
            f"{name!r} demands evidence, and nobody is named whose word counts",
            code="no-roots",
            hint=f'tpmhsm.toml: [ca.{name}] evidence_roots = ["attestation-ca.pem"], or '
            'evidence_keys = ["000b…"]',
        )
    return Demand(believed)


def _read(file: str) -> bytes:
    try:
        if Path(file).stat().st_size > _MOST:
            raise UsageError(f"{file}: a file of roots has at most {_MOST >> 20} MiB")
        return Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the roots for evidence: {error}") from error


def check_evidence(demand: Demand | None, csr: bytes) -> Evidence | None:
    """What a CSR (DER, or empty where there is none) proves of its key; None if nothing is
    demanded. VerificationError, with the code of what is missing.
    """
    if demand is None:
        return None
    from tpmhsm.attest.csr_evidence import verify_csr_evidence

    if not csr:
        raise VerificationError(
            "evidence is demanded, and a key without a CSR brings none",
            code="no-evidence",
            hint="tpmhsm csr create LABEL --evidence makes a CSR that has it",
        )
    proven = verify_csr_evidence(csr, demand.believed, datetime.now(UTC))
    return Evidence(proven.facts, proven.words, proven.notes)
