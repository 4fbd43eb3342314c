"""Evidence of this home's chip, keys and groups, collected for whoever asks.

All of it is said in one transaction with the chip, which keeps nothing of it. What the chip refuses
to say (an index that somebody removed) is left out and noted: a verifier then does not find it
proven.
"""

from __future__ import annotations

import secrets
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tpmhsm.attest.format import (
    AttestationPart,
    BudgetEvidence,
    CopyEvidence,
    CreationPart,
    DeviceClaims,
    EndorsementPart,
    Evidence,
    GroupEvidence,
    KeyEvidence,
    ParentEvidence,
    Purpose,
    QuoteEvidence,
    Statement,
    qualifying,
)
from tpmhsm.errors import ChipRefusedError, NotFoundError, StoreError
from tpmhsm.keys.births import was_imported
from tpmhsm.keys.choice import policy_of_row
from tpmhsm.keys.host import load_host
from tpmhsm.keys.receiving import receiving_name
from tpmhsm.policy import moments
from tpmhsm.policy.budgets import budget_nv
from tpmhsm.policy.people import members_of
from tpmhsm.policy.tree import counter_nv, roster_nv
from tpmhsm.tpm import attesting, audit, capabilities, evidence, nv, objects
from tpmhsm.tpm.receiving import certify_parent
from tpmhsm.wire.codec import encode
from tpmhsm.wire.constants import RC
from tpmhsm.wire.rc import base_code

if TYPE_CHECKING:
    from tpmhsm.keys.groups import Groups, GroupState
    from tpmhsm.keys.host import HostDevice
    from tpmhsm.store import Store
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.tpm.attesting import Birth, RsaKey
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.device import Device
    from tpmhsm.wire.structures import NvPublic

RSA_SETTING = "rsa-attestation-key"
NONCE_SIZE = 32

_BIRTH = ("name", "data", "hash", "ticket")
_GONE = (RC.HANDLE, RC.NV_UNINITIALIZED)


@dataclass(frozen=True)
class Wanted:
    """What is asked for: `labels` of keys (none: all keys and groups), the verifier's `nonce` (or
    empty), the firmware's `event_log`, `ak_certificates` (DER, the first AK's, then issuers') and
    whether the RSA attestation key is to be there. `audit`: the log's proof; `copies`: of keys.
    """

    labels: tuple[str, ...] = ()
    nonce: bytes = b""
    event_log: bytes | None = None
    ak_certificates: tuple[bytes, ...] = ()
    rsa: bool = True
    audit: Mapping[str, Any] | None = None
    copies: tuple[CopyEvidence, ...] = ()


@dataclass(frozen=True)
class Collected:
    """The evidence, how many commands it took, and in words what is not in it."""

    evidence: Evidence
    commands: int
    notes: tuple[str, ...]


@dataclass
class _Session:
    """One collection: the chip, its attestation key, the nonce, and what is noted."""

    chip: Chip
    ak: objects.Loaded
    nonce: bytes
    notes: list[str] = field(default_factory=list)

    def over(self, purpose: Purpose, subject: bytes = b"") -> bytes:
        return qualifying(self.nonce, purpose, subject)

    def certify(self, index: NvPublic, over: bytes, what: str) -> Statement | None:
        """What stands in an index; None when it is gone or was never written."""
        try:
            said = nv.certify(self.chip, self.ak, index.nv_index, over, index)
        except ChipRefusedError as error:
            if base_code(error.rc) not in _GONE:
                raise
            self.notes.append(f"the {what} is not in the chip, or was never written")
            return None
        return _statement(said)


def collect(store: Store, device: Device, groups: Groups, wanted: Wanted) -> Collected:
    """Ask the chip for everything. Raises NotFoundError for an unknown label, RefusedError for
    another chip, DeviceError, ChipRefusedError.
    """
    host, rows = load_host(store), _rows(store, wanted.labels)
    states = _groups(store, groups, rows if wanted.labels else None)
    cards, certificates = _cards(store, states), _certificates(store, rows)
    born, receiving = load_birth(store), receiving_name(store)
    with device.transaction() as chip:
        ak = objects.attestation_key(chip, host.ak_name)
        session = _Session(chip, ak, wanted.nonce or secrets.token_bytes(NONCE_SIZE))
        rsa = _rsa_key(session, born) if wanted.rsa else None
        quoted = attesting.quote_all(chip, ak, session.over("quote"))
        found = Evidence(
            made=moments.now(),
            nonce=session.nonce,
            device=_device(chip, device),
            eks=_endorsements(session),
            aks=_attestation_keys(session, wanted.ak_certificates, rsa, next(iter(quoted.pcrs))),
            keys=_keys(session, host, rows, groups, certificates),
            groups=tuple(_group(session, state, cards) for state in states),
            budgets=tuple(one for row in rows for one in _budgets(session, row, groups)),
            parent=_parent(session, receiving) if receiving else None,
            copies=wanted.copies,
            quote=QuoteEvidence(quoted.statement.attest, quoted.statement.signature, quoted.pcrs),
            event_log=wanted.event_log,
            audit=wanted.audit,
        )
        sealed = attesting.time(chip, ak, session.over("time", found.seal))
        found = replace(found, time=_statement(sealed))
    if rsa is not None and rsa.birth != born:
        _save_birth(store, rsa.birth)
    return Collected(found, chip.commands, tuple(session.notes))


# ── what the database knows ──────────────────────────────────────────────────


def _rows(store: Store, labels: tuple[str, ...]) -> list[KeyRow]:
    with store.reading() as tx:
        return [tx.keys.get(label) for label in labels] if labels else tx.keys.all()


def _groups(store: Store, groups: Groups, rows: list[KeyRow] | None) -> list[GroupState]:
    """The groups in force; of some keys those that their policies name."""
    if rows is None:
        names = [row.name for row in groups.all() if row.state == "active"]
    else:
        policies = [policy_of_row(row, groups) for row in rows]
        names = sorted({label for policy in policies for label in policy.rosters})
    return [groups.active(name) for name in names]


def _cards(store: Store, states: list[GroupState]) -> dict[bytes, bytes]:
    """Cards by SubjectPublicKeyInfo."""
    if not states:
        return {}
    with store.reading() as tx:
        return {row.spki: row.card for row in tx.approvers.all()}


def _certificates(store: Store, rows: list[KeyRow]) -> dict[str, tuple[bytes, ...]]:
    with store.reading() as tx:
        return {
            row.spki_sha256: tuple(
                kept.der for kept in tx.certificates.all(spki_sha256=row.spki_sha256)
            )
            for row in rows
        }


# ── what the chip says ───────────────────────────────────────────────────────


def _device(chip: Chip, device: Device) -> DeviceClaims:
    found = capabilities.properties(chip)
    facts = evidence.facts_of(found)
    return DeviceClaims(
        kind=device.kind,
        manufacturer=facts.manufacturer,
        vendor=facts.vendor,
        firmware=facts.firmware,
        specification=facts.specification,
        properties=found,
    )


def _endorsements(session: _Session) -> tuple[EndorsementPart, ...]:
    found = evidence.endorsements(session.chip)
    if not any(one.certificate for one in found):
        session.notes.append(
            "the chip keeps no EK certificate: no maker vouches for it, unless the maker has one"
            " to fetch"
        )
    return tuple(
        EndorsementPart(one.public, one.certificate, one.nv_index, one.chain) for one in found
    )


def _rsa_key(session: _Session, born: Birth | None) -> RsaKey | None:
    try:
        found = attesting.rsa_attestation_key(session.chip, born)
    except ChipRefusedError as error:
        session.notes.append(f"no RSA attestation key: {error.message}")
        return None
    if found.transient:
        session.notes.append("the chip has no room to keep the RSA attestation key: made anew")
    return found


def _attestation_keys(
    session: _Session, certificates: tuple[bytes, ...], rsa: RsaKey | None, bank: str
) -> tuple[AttestationPart, ...]:
    first = AttestationPart(encode(session.ak.public), certificates)
    if rsa is None:
        return (first,)
    chip, key, name = session.chip, rsa.loaded, rsa.loaded.name
    itself = attesting.certify_itself(chip, rsa, session.over("creation", name))
    second = AttestationPart(
        public=encode(key.public),
        certified=_statement(audit.certify(chip, session.ak, key, session.over("ak", name))),
        creation=CreationPart(itself.attest, itself.signature, rsa.birth.data),
        quote=_statement(attesting.quote(chip, key, session.over("quote"), bank)),
    )
    if rsa.transient:
        chip.flush(key.handle)
    return first, second


def _keys(
    session: _Session,
    host: HostDevice,
    rows: list[KeyRow],
    groups: Groups,
    certificates: Mapping[str, tuple[bytes, ...]],
) -> tuple[KeyEvidence, ...]:
    parent = objects.storage_parent(session.chip, host.parent_name) if rows else None
    return tuple(
        KeyEvidence(
            label=row.label,
            use=row.use,
            public=row.public,
            policy=row.policy,
            document=row.policy_document,
            creation=_creation(session, parent, row) if parent else None,
            certificates=certificates[row.spki_sha256],
        )
        for row in rows
    )


def _creation(session: _Session, parent: objects.Loaded, row: KeyRow) -> CreationPart | None:
    """Three commands: load, certify, flush. None for a key that was imported, or is a copy."""
    if was_imported(row) or not row.creation_ticket:
        why = "was imported: the chip cannot say where it is from"
        if row.parent:
            why = "is a copy: the chip that made it says so, in evidence of its own"
        session.notes.append(f"key {row.label!r} {why}")
        return None
    chip = session.chip
    loaded = objects.load_key(chip, parent, row.public, row.private)
    created = objects.CreatedKey(
        row.public,
        row.private,
        loaded.name,
        row.creation_data,
        row.creation_hash,
        row.creation_ticket,
    )
    over = session.over("creation", loaded.name)
    said = objects.certify_creation(chip, session.ak, loaded, created, over)
    chip.flush(loaded.handle)
    return CreationPart(said.attest, said.signature, row.creation_data, row.creation_parent)


def _group(session: _Session, state: GroupState, cards: Mapping[bytes, bytes]) -> GroupEvidence:
    """Two commands; none for a static group."""
    group, roster = state.group, state.roster
    people = {one.spki for rule in (group.custodians, roster.officers) for one in members_of(rule)}
    found = GroupEvidence(
        document=group.encoded,
        roster=roster.encoded,
        cards=tuple(card.strip() for spki, card in sorted(cards.items()) if spki in people),
    )
    if group.static:
        return found
    counter, held = counter_nv(group, written=True), roster_nv(group, written=True)
    name = group.name
    return replace(
        found,
        counter=session.certify(
            counter, session.over("counter", group.id), f"epoch counter of {name!r}"
        ),
        held=session.certify(held, session.over("roster", group.id), f"roster of {name!r}"),
    )


def _budgets(session: _Session, row: KeyRow, groups: Groups) -> list[BudgetEvidence]:
    """One command each."""
    policy = policy_of_row(row, groups)
    found = []
    for label, index in policy.budgets.items():
        area = budget_nv(index, policy.indices[label], written=True)
        over = session.over("budget", bytes.fromhex(row.name))
        said = session.certify(area, over, f"budget of {row.label!r} granted by {label!r}")
        found.append(BudgetEvidence(row.label, label, encode(area), said))
    return found


def _parent(session: _Session, name: bytes) -> ParentEvidence | None:
    """Four commands; none while nobody has asked for the storage key that takes copies."""
    chip = session.chip
    try:
        parent = objects.receiving_parent(chip, name)
    except NotFoundError:
        session.notes.append("the storage key that takes copies is not in the chip any more")
        return None
    said = certify_parent(chip, session.ak, parent, session.over("parent", name))
    return ParentEvidence(encode(parent.public), _statement(said))


def _statement(said: objects.Attestation) -> Statement:
    return Statement(said.attest, said.signature)


# ── the RSA key's birth, which the chip does not keep ────────────────────────


def load_birth(store: Store) -> Birth | None:
    """What is kept of the RSA attestation key; None while there is none. Raises StoreError."""
    with store.reading() as tx:
        kept = tx.settings.get(RSA_SETTING)
    if kept is None:
        return None
    try:
        return attesting.Birth(*(b64decode(kept[name]) for name in _BIRTH))
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"the database {store.words} says nothing sensible of its RSA attestation key",
            code="corrupt",
        ) from error


def _save_birth(store: Store, birth: Birth) -> None:
    kept = {name: b64encode(getattr(birth, name)).decode() for name in _BIRTH}
    with store.transaction() as tx:
        tx.settings.set(RSA_SETTING, kept)
