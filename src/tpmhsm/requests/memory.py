"""An approver's memory in the database of the approver's home (`tpmhsm.approval.memory.Memory`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from tpmhsm.approval.cards import Card, DeviceCard, parse_card, parse_device_card
from tpmhsm.approval.memory import (
    ApprovedCertificate,
    ApprovedCrl,
    Certified,
    Entries,
    Granted,
    GrantedTotal,
    PinnedGroup,
    PinnedKey,
    SecondChip,
)

if TYPE_CHECKING:
    from tpmhsm.store import Transaction

APPROVER, OWN, DEVICE = "approver", "own", "device"
"""Kinds of trusted cards: from other people, made in this home, from devices."""


class StoredMemory:
    """The memory over one transaction."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def trusted_cards(self) -> Sequence[Card]:
        """Cards from outside the CA host, own ones, and in the host's own home those it added."""
        rows = self._tx.trusted.all(APPROVER)
        added = [parse_card(row.card) for row in self._tx.approvers.all()]
        return [*(parse_card(row.card) for row in rows), *self.own_cards(), *added]

    def own_cards(self) -> Sequence[Card]:
        """Cards that were made in this home."""
        return [parse_card(row.card) for row in self._tx.trusted.all(OWN)]

    def device_cards(self) -> Sequence[DeviceCard]:
        """Devices' cards from outside the CA host."""
        return [parse_device_card(row.card) for row in self._tx.trusted.all(DEVICE)]

    def pinned_group(self, group_id: bytes) -> PinnedGroup | None:
        """The pin of a group."""
        row = self._tx.memory.pinned_group(group_id.hex())
        if row is None:
            return None
        words = tuple(row.fingerprint.split())
        return PinnedGroup(group_id, words, bytes.fromhex(row.ak_name), row.document)

    def pinned_key(self, name: bytes) -> PinnedKey | None:
        """The pin of a key."""
        row = self._tx.memory.pinned_key(name.hex())
        if row is None:
            return None
        return PinnedKey(name, row.label, bytes.fromhex(row.group_id), row.public)

    def pinned_keys(self, group_id: bytes) -> Sequence[PinnedKey]:
        """All pins of a group's keys."""
        rows = self._tx.memory.pinned_keys(group_id.hex())
        return [PinnedKey(bytes.fromhex(r.name), r.label, group_id, r.public) for r in rows]

    def epochs(self, group_id: bytes) -> Mapping[int, bytes]:
        """Rosters remembered, by epoch."""
        return {
            row.epoch: bytes.fromhex(row.roster_digest)
            for row in self._tx.memory.epochs(group_id.hex())
        }

    def certified(self, spki_sha256: bytes) -> Sequence[Certified]:
        """Under which subjects a key was approved before."""
        rows = self._tx.memory.certified(spki_sha256.hex())
        return [Certified(spki_sha256, row.subject, row.ca) for row in rows]

    def approved_certificate(self, key_name: bytes, holder: bytes) -> bytes | None:
        """The last certificate that was approved for a key and a holder."""
        row = self._tx.memory.approved_certificate(key_name.hex(), holder.hex())
        return row.tbs if row else None

    def approved_crl(self, key_name: bytes) -> ApprovedCrl | None:
        """The newest CRL that was approved for a key."""
        row = self._tx.memory.approved_crl(key_name.hex())
        if row is None:
            return None
        return ApprovedCrl(
            key_name,
            int(row.number),
            datetime.fromisoformat(row.this_update),
            bytes.fromhex(row.digest),
            row.entries,
        )

    def granted(self, index_name: bytes) -> Granted | None:
        """What was approved for a budget."""
        rows = self._tx.memory.granted(index_name.hex())
        return Granted.of(
            [
                GrantedTotal(
                    index_name, bytes.fromhex(row.key_name), row.total, bytes.fromhex(row.nonce)
                )
                for row in rows
            ]
        )

    def challenges(self) -> Collection[bytes]:
        """Nonces without an answer."""
        return [bytes.fromhex(row.nonce) for row in self._tx.memory.challenges()]

    def challenge(self) -> bytes:
        """Make a nonce and keep it; of too many without an answer the oldest is forgotten."""
        from tpmhsm.approval.live import new_nonce

        nonce = new_nonce()
        self.await_answer(nonce)
        return nonce

    def await_answer(self, nonce: bytes) -> None:
        """Keep a nonce that this home made (32 bytes), as `challenge` does."""
        from tpmhsm.approval.live import MAX_CHALLENGES

        for row in self._tx.memory.challenges()[: 1 - MAX_CHALLENGES]:
            self._tx.memory.drop_challenge(row.nonce)
        self._tx.memory.add_challenge(nonce.hex())

    def live_since(self, group_id: bytes) -> int | None:
        """The first live counter of a group."""
        return self._tx.memory.live_since(group_id.hex())

    def second_chips(self, group_id: bytes) -> Sequence[SecondChip]:
        """The further chips of a group."""
        return [
            SecondChip(
                group_id,
                parse_device_card(row.card),
                bytes.fromhex(row.parent_name),
                row.counter,
                row.kind,
            )
            for row in self._tx.second_chips.of_group(group_id.hex())
        ]

    def keep(self, entries: Entries) -> None:
        """Remember, after an approval was made."""
        memory = self._tx.memory
        if entries.group is not None:
            g = entries.group
            memory.pin_group(g.group_id.hex(), " ".join(g.fingerprint), g.ak_name.hex(), g.document)
        if entries.key is not None:
            k = entries.key
            memory.pin_key(k.name.hex(), k.label, k.group_id.hex(), k.public)
        for epoch in entries.epochs:
            memory.remember_epoch(epoch.group_id.hex(), epoch.epoch, epoch.roster_digest.hex())
        for one in entries.certified:
            memory.remember_certified(one.spki_sha256.hex(), one.subject, one.ca)
        for total in (*entries.counted, *([entries.granted] if entries.granted else [])):
            self._keep_granted(total)
        if entries.live is not None:
            memory.remember_live(entries.live.group_id.hex(), entries.live.counter)
            memory.drop_challenge(entries.live.nonce.hex())
        if entries.certificate is not None:
            self._keep_certificate(entries.certificate)
        if entries.crl is not None:
            self._keep_crl(entries.crl)
        if entries.second is not None:
            self._keep_second(entries.second)

    def _keep_second(self, one: SecondChip) -> None:
        from tpmhsm.store.second_chips import SecondChipRow

        self._tx.second_chips.remember(
            SecondChipRow(
                one.group_id.hex(),
                one.card.ak_name.hex(),
                one.card.data,
                one.parent_name.hex(),
                one.counter,
                one.kind,
            )
        )
        self._tx.memory.drop_challenge(one.nonce.hex())

    def _keep_certificate(self, one: ApprovedCertificate) -> None:
        from tpmhsm.store.memory import ApprovedCertificateRow

        row = ApprovedCertificateRow(one.key_name.hex(), one.holder.hex(), one.tbs)
        self._tx.memory.remember_certificate(row)

    def _keep_granted(self, granted: GrantedTotal) -> None:
        from tpmhsm.store.memory import GrantedRow

        index, key, nonce = granted.index_name, granted.key_name, granted.nonce
        row = GrantedRow(index.hex(), nonce.hex(), key.hex(), granted.total)
        self._tx.memory.remember_granted(row)

    def _keep_crl(self, crl: ApprovedCrl) -> None:
        from tpmhsm.policy.moments import stamp
        from tpmhsm.store.memory import ApprovedCrlRow

        self._tx.memory.remember_crl(
            ApprovedCrlRow(
                crl.key_name.hex(),
                str(crl.number),
                stamp(crl.this_update),
                crl.digest.hex(),
                crl.entries,
            )
        )
