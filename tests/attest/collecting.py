"""Evidence from a chip by raw commands: nothing of the collector is used, so neither vouches for
the other. Whoever plays root changes a part, or what the chip is asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.approval.doubles import card
from tests.attacks.house import PEOPLE, House

from tpmhsm.attest.device_findings import Bond, Trusted
from tpmhsm.attest.format import (
    AttestationPart,
    BudgetEvidence,
    CreationPart,
    DeviceClaims,
    EndorsementPart,
    Evidence,
    GroupEvidence,
    KeyEvidence,
    QuoteEvidence,
    Statement,
)
from tpmhsm.attest.roots import PinnedRoot
from tpmhsm.policy.documents import encode_json, parse_json
from tpmhsm.policy.group import GroupDocument, RosterDocument
from tpmhsm.policy.pcrs import ALGORITHMS
from tpmhsm.store.keys import KeyRow
from tpmhsm.tpm import evidence as device
from tpmhsm.tpm import nv, objects, software
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.objects import Loaded
from tpmhsm.wire.codec import decode, encode
from tpmhsm.wire.commands import (
    CertifyCreation,
    GetTime,
    NV_Certify,
    PCR_Read,
    Quote,
)
from tpmhsm.wire.constants import RH, NvAttributes
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.structures import NULL_SCHEME, Ticket, pcr_selection

NONCE = sha256(b"the verifier's nonce").digest()[:20]
MADE = datetime(2026, 11, 23, 12, tzinfo=UTC)
PCRS = tuple(range(8))
KEYS = ("root", "open")


@dataclass
class Collector:
    """One conversation with a chip; `ak` signs, over `nonce`."""

    chip: Chip
    ak: Loaded
    nonce: bytes = NONCE
    said: list[str] = field(default_factory=list)

    @property
    def frame(self) -> Evidence:
        """A file with nothing in it but the attestation key."""
        claims = DeviceClaims("software TPM", "IBM", "SW   TPM", "2019.10.23.2", "2.0")
        part = AttestationPart(encode(self.ak.public))
        return Evidence(MADE, self.nonce, claims, (), (part,))

    def over(self, purpose: Any, subject: bytes = b"") -> bytes:
        return self.frame.qualifying(purpose, subject)

    def endorsements(self) -> tuple[EndorsementPart, ...]:
        found = device.endorsement(self.chip)
        return (EndorsementPart(found.public, found.certificate),)

    def creation(self, row: KeyRow, key: Loaded) -> CreationPart:
        ticket = decode(Ticket, row.creation_ticket)
        told = self.chip.send(
            CertifyCreation(
                self.ak.handle,
                key.handle,
                self.over("creation", key.name),
                row.creation_hash,
                NULL_SCHEME,
                ticket,
            )
        )
        said = (told.certify_info, encode(told.signature))
        return CreationPart(*said, row.creation_data, row.creation_parent)

    def key(self, row: KeyRow, *, created: bool = True) -> KeyEvidence:
        parent = objects.storage_parent(self.chip)
        loaded = objects.load_key(self.chip, parent, row.public, row.private)
        creation = self.creation(row, loaded) if created else None
        self.chip.flush(loaded.handle)
        return KeyEvidence(
            row.label, row.use, row.public, row.policy, row.policy_document, creation
        )

    def index(self, purpose: Any, subject: bytes, index: int) -> Statement:
        public = nv.read_public(self.chip, index).public
        who = index if public.attributes & NvAttributes.AUTHREAD else RH.OWNER
        told = self.chip.send(
            NV_Certify(
                self.ak.handle,
                who,
                index,
                self.over(purpose, subject),
                NULL_SCHEME,
                public.data_size,
                0,
            )
        )
        return Statement(told.certify_info, encode(told.signature))

    def group(self, group: GroupDocument, roster: RosterDocument) -> GroupEvidence:
        return GroupEvidence(
            group.encoded,
            roster.encoded,
            tuple(map(card_of, PEOPLE)),
            self.index("counter", group.id, group.counter_index),
            self.index("roster", group.id, group.roster_index),
        )

    def budget(self, row: KeyRow, group: str, index: int) -> BudgetEvidence:
        public = nv.read_public(self.chip, index).public
        said = self.index("budget", name_of_public(row.public), index)
        return BudgetEvidence(row.label, group, encode(public), said)

    def quote(self) -> QuoteEvidence:
        selection = (pcr_selection(ALGORITHMS["sha256"], PCRS),)
        values = self.chip.send(PCR_Read(selection)).pcr_values
        told = self.chip.send(Quote(self.ak.handle, self.over("quote"), NULL_SCHEME, selection))
        return QuoteEvidence(
            told.quoted,
            encode(told.signature),
            {"sha256": dict(zip(PCRS, values, strict=True))},
        )

    def sealed(self, evidence: Evidence) -> Evidence:
        """The same with the chip's time over its seal."""
        over = evidence.qualifying("time", evidence.seal)
        told = self.chip.send(GetTime(RH.ENDORSEMENT, self.ak.handle, over, NULL_SCHEME))
        return replace(evidence, time=Statement(told.time_info, encode(told.signature)))

    def file(self, house: House, labels: tuple[str, ...] = KEYS) -> Evidence:
        """A whole file of a house."""
        state = house.app.groups.active("officers")
        rows = [house.app.keyring.get(label) for label in labels]
        return self.sealed(
            replace(
                self.frame,
                eks=self.endorsements(),
                keys=tuple(map(self.key, rows)),
                groups=(self.group(state.group, state.roster),),
                quote=self.quote(),
            )
        )


def card_of(name: str) -> bytes:
    return encode_json(parse_json(card(name).data, "card"))


def collect(house: House, labels: tuple[str, ...] = KEYS) -> Evidence:
    """A whole and honest file of a house."""
    with house.app.device.transaction() as chip:
        return Collector(chip, objects.attestation_key(chip)).file(house, labels)


def bond_of(evidence: Evidence) -> Bond:
    """What an activation that worked proves."""
    return Bond(evidence.eks[0].public, name_of_public(evidence.aks[0].public), "the chip answered")


def localca(home: Path) -> tuple[bytes, tuple[bytes, ...]]:
    """The CA of a home's software TPM: its root, and what is between (DER)."""
    folder = software.directory_of(home) / "chip" / "localca"
    found = [
        x509.load_pem_x509_certificate(path.read_bytes())
        for path in sorted(folder.glob("*cert.pem"))
    ]
    (root,) = [one for one in found if one.issuer == one.subject]
    rest = tuple(one.public_bytes(Encoding.DER) for one in found if one != root)
    return root.public_bytes(Encoding.DER), rest


def trusting(
    home: Path, bond: Bond | None, kind: str | None = "emulator", at: datetime | None = None
) -> Trusted:
    """A verifier who has pinned a home's CA as `kind`, or (None) nothing."""
    root, between = localca(home)
    roots = (PinnedRoot.of(root, "swtpm", kind),) if kind else ()
    return Trusted(roots, between, at or datetime.now(UTC).replace(microsecond=0), bond)
