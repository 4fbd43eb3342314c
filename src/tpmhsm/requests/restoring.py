"""A key taken in from its backup: by label, with its certificates and authorities.

What the file says is believed as far as it can be recomputed: the Name from the public area, the
policy's digest from its document, the birth from the word of the group's own device. The chip
judges the rest.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tpmhsm.approval.acts import acts_of, rule_of
from tpmhsm.approval.guarded import check_guarded_key
from tpmhsm.approval.request import BACKUP
from tpmhsm.approval.verify import verify_approval
from tpmhsm.attest.statements import key_for
from tpmhsm.errors import ExistsError, NotFoundError, RefusedError, VerificationError
from tpmhsm.policy.people import still_needed

if TYPE_CHECKING:
    from tpmhsm.approval.backup_file import BackupFile
    from tpmhsm.approval.request import Request
    from tpmhsm.keys.groups import Groups
    from tpmhsm.keys.keyring import Keyring
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.keys import KeyRow


def restore(store: Store, keyring: Keyring, groups: Groups, file: BackupFile, label: str) -> KeyRow:
    """Take a key in; see `Copies.restore`."""
    _must_be_joined(groups, file)
    _must_be_approved(file.request)
    row = _row(file, label)
    with store.reading() as tx:
        known = tx.keys.find_by_name(row.name)
        taken = tx.keys.find(row.label)
    if known is None and taken is not None:
        raise ExistsError(
            f"another key named {row.label!r} exists already", hint="key restore FILE --as LABEL"
        )
    taken_in = keyring.backups.take(row, file.copy, file.wrapped)
    with store.transaction() as tx:
        return _keep(tx, file, taken_in)


def _must_be_joined(groups: Groups, file: BackupFile) -> None:
    group = file.request.group
    try:
        found = groups.by_id(group.id.hex())
    except NotFoundError:
        raise RefusedError(
            f"this host has not joined the group {group.name!r} that guards the key",
            code="unknown-group",
            hint=f"tpmhsm group export {group.name} on the first host, group join here",
        ) from None
    groups.active(found.row.name)


def _must_be_approved(request: Request) -> None:
    """The custodians' tools looked at where the key was born. Anybody can wrap another key, which
    he made himself, for the storage key of this chip.
    """
    acts = acts_of(request)
    gave = [verify_approval(request, one, acts).member.name for one in request.approvals]
    if missing := still_needed(rule_of(request), gave):
        raise VerificationError(
            f"{missing} approvals of custodians are missing in the file", code="not-approved"
        )


def _row(file: BackupFile, label: str) -> KeyRow:
    """The record of the key, but for what the chip gives. VerificationError for parts that do not
    fit.
    """
    from tpmhsm.store.keys import KeyRow

    part, request = file.request.key, file.request
    assert part is not None  # noqa: S101 - Request's own rule
    key = key_for(BACKUP, part.public)
    policy = check_guarded_key(key, request.group, part.policy)
    policy.copy_way()
    said = file.key
    if (said["policy"], said["document"]) != (policy.text, part.policy):
        raise VerificationError("the file says another policy than the key has")
    if said["use"] != ("decrypt" if key.decrypts else "sign") or said["hash"] != key.hash_name:
        raise VerificationError("the file says another use than the key has")
    if said["alg"] != key.words.split()[0].replace("-", "").lower():  # "P-256 …", "RSA-2048 …"
        raise VerificationError("the file says another algorithm than the key has")
    home = request.origin or request.device
    part.check_birth(home.ak_public, key)
    return KeyRow(
        label=label or part.label,
        alg=said["alg"],
        hash=said["hash"],
        use=said["use"],
        policy=policy.text,
        policy_document=part.policy,
        public=part.public,
        private=b"",
        name=key.name.hex(),
        spki=key.spki,
        group_id=request.group.id.hex(),
        creation_data=file.creation["data"],
        creation_hash=file.creation["hash"],
        creation_attest=part.attest,
        creation_signature=part.signature,
        creation_parent=part.parent,
        origin=file.origin,
    )


def _keep(tx: Transaction, file: BackupFile, row: KeyRow) -> KeyRow:
    """Keep the key, or put a present one's private part in its place; certificates, authorities."""
    known = tx.keys.find_by_name(row.name)
    if known is not None:
        kept = tx.keys.save(
            replace(known, private=row.private, parent=row.parent, origin=row.origin)
        )
    else:
        kept = tx.keys.add(row)
    _certificates(tx, file)
    made = _authorities(tx, file, kept)
    told = {"label": kept.label, "name": kept.name, "policy": kept.policy, "authorities": made}
    tx.audit.append("key-restore", told)
    return kept


def _certificates(tx: Transaction, file: BackupFile) -> None:
    from tpmhsm.ca.records import certificate_row

    for der in file.certificates:
        tx.certificates.add(certificate_row(der, source="imported"))


def _authorities(tx: Transaction, file: BackupFile, key: KeyRow) -> list[str]:
    """Authorities whose certificate is for this key and came along; those here stay as they are."""
    from tpmhsm.store.authorities import AuthorityRow

    own = {one.sha256: one.subject for one in tx.certificates.all(spki_sha256=key.spki_sha256)}
    made = []
    for one in file.authorities:
        if one["certificate"] in own and tx.authorities.find(one["name"]) is None:
            tx.authorities.add(
                AuthorityRow(
                    one["name"],
                    key.label,
                    one["profile"],
                    own[one["certificate"]],
                    certificate=one["certificate"],
                    state="active",
                )
            )
            made.append(one["name"])
    return made
