"""Copies of keys to other chips: custodians are asked, whoever asked gets the file.

The approved request is kept, the copy is not: the same command again has the chip make another one,
for the same chip alone. So the file may be lost at any time, and nobody is asked twice.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

from tpmhsm.approval.backup_file import BackupFile
from tpmhsm.approval.live import Answer, parse_answer
from tpmhsm.approval.request import BACKUP, Claims
from tpmhsm.errors import RefusedError, UsageError
from tpmhsm.policy.copying import CopyDocument
from tpmhsm.requests.drafts import register
from tpmhsm.requests.execution import finish, still_waits, votes_by_act

if TYPE_CHECKING:
    from tpmhsm.approval.request import Request
    from tpmhsm.keys.groups import Groups
    from tpmhsm.keys.keyring import Keyring
    from tpmhsm.requests.ledger import Ledger
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.keys import KeyRow


class Copies:
    """Copies of the keys of a home."""

    def __init__(self, store: Store, keyring: Keyring, groups: Groups, ledger: Ledger) -> None:
        self._store = store
        self._keyring = keyring
        self._groups = groups
        self._ledger = ledger

    def backup(self, label: str, evidence: bytes, *, reason: str = "") -> bytes:
        """The backup file of a key, for the chip that gave this evidence (`group certify`).

        Raises WaitingError while custodians must approve; UsageError `not-to-be-copied` for a key
        that stays in its chip, `no-parent` for evidence without a storage key; RefusedError
        `same-chip`, `other-group`, ChipRefusedError.
        """
        row = self._keyring.get(label)
        policy = self._keyring.policy(row)
        policy.copy_way()
        (name,) = policy.backup
        asked = self._asked(row, name, parse_answer(evidence))
        digest = sha256(asked.encoded).hexdigest()
        for request in reversed(self._ledger.of_key(BACKUP, label, "waiting", "executed")):
            if request.digest == digest:
                if self._ledger.missing(request):
                    raise self._ledger.waiting(request.id)
                return self.execute(request.id)
        draft = self._ledger.drafts.of_grant(
            BACKUP, row, name, asked.encoded, Claims(reason=reason)
        )
        with self._store.transaction() as tx:
            number = register(tx, draft)
        raise self._ledger.waiting(number)

    def _asked(self, row: KeyRow, group: str, answer: Answer) -> CopyDocument:
        state = self._groups.active(group)
        if answer.group.id != state.group.id:
            raise RefusedError(
                f"the evidence is of another group than the {group!r} that guards {row.label!r}",
                code="other-group",
                hint=f"tpmhsm group export {group} here, group join on the other host",
            )
        if answer.parent is None:
            raise UsageError(
                "the evidence shows no storage key that takes copies",
                code="no-parent",
                hint="tpmhsm trust challenge CARD on a custodian's machine, of that chip's card; "
                "group certify --challenge on its host",
            )
        device = answer.device
        own = self._ledger.drafts.own_card()
        if device.ak_name == own.ak_name:
            raise RefusedError("the evidence is of this very chip", code="same-chip")
        ek = sha256(device.ek_evidence).digest()
        name = bytes.fromhex(row.name)
        return CopyDocument(state.group.id, name, answer.parent.public, ek, device.ak_name)

    def execute(self, number: int) -> bytes:
        """What the chip gives for an approved request, again if it was executed before.

        It is on record before it is given. Raises WaitingError while approvals are missing.
        """
        row = self._ledger.must_go_on(number)
        request = self._ledger.request(number)
        (votes,) = votes_by_act(request)
        key = self._keyring.get(row.key or "")
        from tpmhsm.policy.copying import parse_copy

        copy = parse_copy(request.content)
        wrapped = self._keyring.backups.copy(key, copy, votes)
        with self._store.transaction() as tx:
            file = _file(tx, key, request, vars(wrapped))
            if still_waits(tx, row):
                finish(tx, row, {"copied": True, "device": copy.device_ak.hex()})
            told = {"request": number, "key": key.label, "device": copy.device_ak.hex()}
            tx.audit.append("copied", told)
        return file.data

    def restore(self, file: BackupFile, label: str = "") -> KeyRow:
        """Take a key in from a backup; `label` for another one than it had.

        What the chip holds and what the database says are looked at again: restoring twice is
        restoring once. Raises ExistsError for a taken label, RefusedError `unknown-group` before
        this host joined the group, VerificationError for a file whose parts do not fit.
        """
        from tpmhsm.requests.restoring import restore

        return restore(self._store, self._keyring, self._groups, file, label)


def _file(tx: Transaction, key: KeyRow, request: Request, wrapped: dict[str, bytes]) -> BackupFile:
    return BackupFile(
        request=replace(request, claims=replace(request.claims, texts={})),
        key={
            "alg": key.alg,
            "hash": key.hash,
            "use": key.use,
            "policy": key.policy,
            "document": key.policy_document,
            "created": key.created,
        },
        creation={"data": key.creation_data, "hash": key.creation_hash},
        wrapped=wrapped,
        certificates=_certificates(tx, key),
        authorities=_authorities(tx, key),
    )


def _authorities(tx: Transaction, key: KeyRow) -> tuple[dict[str, str], ...]:
    return tuple(
        {
            "name": one.name,
            "profile": one.profile,
            "subject": one.subject,
            "certificate": one.certificate or "",
        }
        for one in tx.authorities.all()
        if one.key_label == key.label and one.state == "active"
    )


def _certificates(tx: Transaction, key: KeyRow) -> tuple[bytes, ...]:
    """The key's own, and those of the authorities above, as far as they are here."""
    found = [one.der for one in tx.certificates.all(spki_sha256=key.spki_sha256)]
    authorities = {one.name: one for one in tx.authorities.all()}
    for own in [one for one in authorities.values() if one.key_label == key.label]:
        above = authorities.get(own.issuer or "")
        while above is not None and above.certificate:
            der = tx.certificates.get(above.certificate).der
            found += [] if der in found else [der]
            above = authorities.get(above.issuer or "") if above.issuer != above.name else None
    return tuple(found)
