"""What an approver's tool remembers between approvals.

It is written only after an approval was made: `approve.make_approval` returns the approval, and
`review.Review.entries` what is to be remembered then. `InMemory` is for tools without a disk; a
home's database implements the same protocol.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from tpmhsm.approval.cards import Card, DeviceCard


@dataclass(frozen=True)
class PinnedGroup:
    """A group that this home has approved for. `document` is the group document's bytes."""

    group_id: bytes
    fingerprint: tuple[str, ...]
    ak_name: bytes
    document: bytes


@dataclass(frozen=True)
class PinnedKey:
    """A key whose evidence was verified: its Name, the label it had then, its TPMT_PUBLIC."""

    name: bytes
    label: str
    group_id: bytes
    public: bytes


@dataclass(frozen=True)
class Epoch:
    """A roster that was approved, or certified by the chip, for one epoch of a group."""

    group_id: bytes
    epoch: int
    roster_digest: bytes


@dataclass(frozen=True)
class Certified:
    """A public key that was approved for a certificate or CSR: SHA-256 of its SPKI, and as what."""

    spki_sha256: bytes
    subject: str
    ca: bool


@dataclass(frozen=True)
class ApprovedCrl:
    """The newest CRL that was approved for a key (its Name): number, date, SHA-256 of the
    TBSCertList, and `entries`, the DER content of its revokedCertificates.
    """

    key_name: bytes
    number: int
    this_update: datetime
    digest: bytes
    entries: bytes = field(repr=False)


@dataclass(frozen=True)
class ApprovedCertificate:
    """The last certificate that was approved for a signing key (its Name), of one holder: SHA-256
    of what it is made out to. `tbs` is the TBSCertificate.
    """

    key_name: bytes
    holder: bytes
    tbs: bytes = field(repr=False)


@dataclass(frozen=True)
class GrantedTotal:
    """A total that was approved for the budget index with this written Name, as that of the key
    with the Name `key_name`; `nonce` is that of the live session for a first write, else empty.
    A total of 0: nothing was approved, that key counts on the index.
    """

    index_name: bytes
    key_name: bytes
    total: int
    nonce: bytes = b""


@dataclass(frozen=True)
class Granted:
    """What is remembered of a budget: the highest total (0: none was approved), the nonces of all
    first writes, and the Names of the keys that count on it.
    """

    total: int
    firsts: frozenset[bytes] = frozenset()
    keys: frozenset[bytes] = frozenset()

    @classmethod
    def of(cls, all_of_them: Sequence[GrantedTotal]) -> Granted | None:
        """From all that was approved for one index; None for nothing."""
        if not all_of_them:
            return None
        firsts = frozenset(one.nonce for one in all_of_them if one.nonce)
        keys = frozenset(one.key_name for one in all_of_them)
        return cls(max(one.total for one in all_of_them), firsts, keys)


@dataclass(frozen=True)
class Live:
    """The epoch counter of a group, certified by its chip over a nonce that this home made."""

    group_id: bytes
    counter: int
    nonce: bytes


@dataclass(frozen=True)
class SecondChip:
    """A further chip of a group, as it answered a challenge of this home (`nonce`): its `card`, the
    Name of the storage key under which it takes copies, the group's counter there, and what `kind`
    of chip this home's pinned roots make it; empty when no maker vouches for it.
    """

    group_id: bytes
    card: DeviceCard
    parent_name: bytes
    counter: int
    kind: str = ""
    nonce: bytes = b""


@dataclass(frozen=True)
class Entries:
    """New memories, to be kept after an approval was made. All are safe to keep twice."""

    group: PinnedGroup | None = None
    key: PinnedKey | None = None
    epochs: tuple[Epoch, ...] = ()
    certified: tuple[Certified, ...] = ()
    certificate: ApprovedCertificate | None = None
    crl: ApprovedCrl | None = None
    granted: GrantedTotal | None = None
    counted: tuple[GrantedTotal, ...] = ()
    live: Live | None = None
    second: SecondChip | None = None


class Memory(Protocol):
    """A home's memory, read during a review."""

    def trusted_cards(self) -> Sequence[Card]:
        """Approvers' cards that came from outside the CA host, this home's own ones included."""
        ...

    def own_cards(self) -> Sequence[Card]:
        """Cards that were made in this home: they date its memory."""
        ...

    def device_cards(self) -> Sequence[DeviceCard]:
        """Devices' cards that came from outside the CA host."""
        ...

    def pinned_group(self, group_id: bytes) -> PinnedGroup | None:
        """The pin of a group, or None before the first approval."""
        ...

    def pinned_key(self, name: bytes) -> PinnedKey | None:
        """The pin of the key with this Name, or None."""
        ...

    def pinned_keys(self, group_id: bytes) -> Sequence[PinnedKey]:
        """All pinned keys of a group."""
        ...

    def epochs(self, group_id: bytes) -> Mapping[int, bytes]:
        """The roster digest of every epoch that is remembered of a group."""
        ...

    def certified(self, spki_sha256: bytes) -> Sequence[Certified]:
        """Under which subjects a public key was approved before."""
        ...

    def approved_certificate(self, key_name: bytes, holder: bytes) -> bytes | None:
        """The TBSCertificate that was approved last for a key and a holder, or None."""
        ...

    def approved_crl(self, key_name: bytes) -> ApprovedCrl | None:
        """The CRL with the greatest number that was approved for the key with this Name."""
        ...

    def granted(self, index_name: bytes) -> Granted | None:
        """What was approved for the budget index with this written Name, or None."""
        ...

    def challenges(self) -> Collection[bytes]:
        """The nonces that this home made and that were not answered yet."""
        ...

    def live_since(self, group_id: bytes) -> int | None:
        """The counter of a group when its chip first answered a nonce of this home, or None."""
        ...

    def second_chips(self, group_id: bytes) -> Sequence[SecondChip]:
        """The further chips of a group that answered challenges of this home."""
        ...


@dataclass
class InMemory:
    """A memory that ends with the process."""

    cards: list[Card] = field(default_factory=list)
    own: list[Card] = field(default_factory=list)
    devices: list[DeviceCard] = field(default_factory=list)
    groups: dict[bytes, PinnedGroup] = field(default_factory=dict)
    keys: dict[bytes, PinnedKey] = field(default_factory=dict)
    rosters: dict[bytes, dict[int, bytes]] = field(default_factory=dict)
    known: list[Certified] = field(default_factory=list)
    certificates: dict[tuple[bytes, bytes], bytes] = field(default_factory=dict)
    crls: dict[bytes, ApprovedCrl] = field(default_factory=dict)
    totals: list[GrantedTotal] = field(default_factory=list)
    nonces: set[bytes] = field(default_factory=set)
    lives: dict[bytes, int] = field(default_factory=dict)
    seconds: dict[tuple[bytes, bytes], SecondChip] = field(default_factory=dict)

    def trusted_cards(self) -> Sequence[Card]:
        """Cards from outside, and own ones."""
        return [*self.cards, *self.own]

    def own_cards(self) -> Sequence[Card]:
        """Cards made here."""
        return self.own

    def device_cards(self) -> Sequence[DeviceCard]:
        """Devices' cards from outside."""
        return self.devices

    def pinned_group(self, group_id: bytes) -> PinnedGroup | None:
        """The pin of a group."""
        return self.groups.get(group_id)

    def pinned_key(self, name: bytes) -> PinnedKey | None:
        """The pin of a key."""
        return self.keys.get(name)

    def pinned_keys(self, group_id: bytes) -> Sequence[PinnedKey]:
        """All pins of a group's keys."""
        return [key for key in self.keys.values() if key.group_id == group_id]

    def epochs(self, group_id: bytes) -> Mapping[int, bytes]:
        """Rosters by epoch."""
        return self.rosters.get(group_id, {})

    def certified(self, spki_sha256: bytes) -> Sequence[Certified]:
        """Earlier subjects of a key."""
        return [one for one in self.known if one.spki_sha256 == spki_sha256]

    def approved_certificate(self, key_name: bytes, holder: bytes) -> bytes | None:
        """The last certificate of a holder."""
        return self.certificates.get((key_name, holder))

    def approved_crl(self, key_name: bytes) -> ApprovedCrl | None:
        """The newest CRL of a key."""
        return self.crls.get(key_name)

    def granted(self, index_name: bytes) -> Granted | None:
        """Totals of a budget."""
        return Granted.of([one for one in self.totals if one.index_name == index_name])

    def challenges(self) -> Collection[bytes]:
        """Nonces without an answer."""
        return self.nonces

    def live_since(self, group_id: bytes) -> int | None:
        """The first live counter."""
        return self.lives.get(group_id)

    def second_chips(self, group_id: bytes) -> Sequence[SecondChip]:
        """Further chips."""
        return [one for one in self.seconds.values() if one.group_id == group_id]

    def keep(self, entries: Entries) -> None:
        """Remember; nothing that is already known is changed."""
        if entries.group is not None:
            self.groups.setdefault(entries.group.group_id, entries.group)
        if entries.key is not None:
            self.keys.setdefault(entries.key.name, entries.key)
        for epoch in entries.epochs:
            self.rosters.setdefault(epoch.group_id, {}).setdefault(epoch.epoch, epoch.roster_digest)
        self.known += [one for one in entries.certified if one not in self.known]
        granted = [*entries.counted, *([entries.granted] if entries.granted else [])]
        self.totals += [one for one in granted if one not in self.totals]
        if entries.live is not None:
            self.lives.setdefault(entries.live.group_id, entries.live.counter)
            self.nonces.discard(entries.live.nonce)
        if (chip := entries.second) is not None:
            self.seconds[chip.group_id, chip.card.ak_name] = chip
            self.nonces.discard(chip.nonce)
        if (one := entries.certificate) is not None:
            self.certificates[one.key_name, one.holder] = one.tbs
        if (crl := entries.crl) is not None:
            known = self.crls.get(crl.key_name)
            if known is None or crl.number >= known.number:
                self.crls[crl.key_name] = crl
