"""What authorities issued and revoked, from a backup into a home that has their keys by now.

A second chip has a key by `key restore`, and with it the key's own certificates. What was issued
under it stands in the first host's database: this takes it over, so that it can be revoked here,
and stays revoked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tpmhsm.home.backup import check_readable
from tpmhsm.home.container import SETTINGS, Manifest, Source, read_backup
from tpmhsm.home.restore import crls_after, put_settings, staged, use_up

if TYPE_CHECKING:
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.authorities import AuthorityRow
    from tpmhsm.store.revocations import RevocationRow

_ACTS = {"revoked": "revoke", "held": "hold", "released": "release"}


@dataclass
class Taken:
    """What was taken over: by authority how many certificates were new here; how many revocations;
    by authority the number that its next CRL exceeds. `left`: authorities without a key here.
    """

    certificates: dict[str, int] = field(default_factory=dict)
    revocations: int = 0
    crls: dict[str, int] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    settings: bool | None = None


def take_records(source: Source, home: Path, store: Store) -> tuple[Manifest, Taken]:
    """Take records over from a backup, one transaction; the same backup again changes nothing.

    Raises ParseError, RefusedError for what is no whole backup; StoreError.
    """
    from tpmhsm.store import Store

    with staged(home, beside=False) as stage:
        manifest = read_backup(source, stage)
        check_readable(manifest)
        with Store.create(stage) as backup:
            backup.check()
            with backup.reading() as old, store.transaction() as tx:
                taken = _take(old, tx, manifest)
        if manifest.has(SETTINGS):
            taken.settings = put_settings(stage, home)
    return manifest, taken


def _take(old: Transaction, tx: Transaction, manifest: Manifest) -> Taken:
    taken = Taken()
    for row in _from_the_root(old.authorities.all()):
        if not _adopted(old, tx, row):
            taken.left.append(row.name)
            sum(_certificates(old, tx, row.name, None))  # to be read, and replaced
            continue
        taken.certificates[row.name] = sum(_certificates(old, tx, row.name, row.name))
        taken.revocations += sum(_revocations(old, tx, row.name))
        number = crls_after(old.crls.highest(row.name), manifest.facts["made"])
        if number and not _went_on(tx, manifest, row.name):
            use_up(tx, row.name, max(number, tx.crls.highest(row.name) + 1))
            taken.crls[row.name] = tx.crls.highest(row.name)
    for one in old.barred_keys.all():
        tx.barred_keys.bar(one.spki_sha256, one.why)
    facts = {"backup": manifest.digest, "made": manifest.facts["made"], "crls": taken.crls}
    counts = {"certificates": taken.certificates, "revocations": taken.revocations}
    tx.audit.append("restore-records", facts | counts)
    return taken


def _from_the_root(rows: list[AuthorityRow]) -> Iterator[AuthorityRow]:
    """Active ones, each after the one above it."""
    left = {row.name: row for row in rows if row.state == "active"}
    while left:
        ready = [row for row in left.values() if row.issuer not in left or row.issuer == row.name]
        for row in ready or list(left.values()):
            yield left.pop(row.name)


def _adopted(old: Transaction, tx: Transaction, row: AuthorityRow) -> bool:
    """Whether this home has the authority with that very certificate, by now."""
    certificate = old.certificates.get(row.certificate or "")
    key = tx.keys.find_by_spki(certificate.spki_sha256)
    known = tx.authorities.find(row.name)
    if key is None or (known is not None and known.certificate not in (None, row.certificate)):
        return False
    if tx.certificates.find(certificate.sha256) is None:
        tx.certificates.add(replace(certificate, id=0, source="imported", authority=None))
    if known is None:
        above = tx.authorities.find(row.issuer or "")
        mine = replace(row, id=0, key_label=key.label, issuer=row.issuer if above else None)
        tx.authorities.add(mine)
    elif known.certificate is None:
        tx.authorities.activate(row.name, certificate.sha256)
    return True


def _certificates(old: Transaction, tx: Transaction, name: str, whose: str | None) -> Iterator[int]:
    for row in old.certificates.all(authority=name):
        known = tx.certificates.find(row.sha256)
        if known is None:
            # nobody here reserved its serial, so it was not issued here
            tx.certificates.add(replace(row, id=0, source="imported", authority=whose))
        elif known.authority is None and whose:
            tx.certificates.save(replace(known, authority=whose))
        yield known is None


def _revocations(old: Transaction, tx: Transaction, name: str) -> Iterator[int]:
    for row in old.revocations.each(name):
        known = tx.revocations.find(name, row.serial)
        if known is not None and (known.entry == row.entry or _stands(known, row)):
            continue
        stated = {
            "ca": name,
            "serial": row.serial,
            "reason": row.reason,
            "revoked": row.revoked_at,
            "invalidity": row.invalidity or None,
        }
        changed = tx.audit.append(_ACTS[row.state], stated).seq
        tx.revocations.put(replace(row, id=0, changed=changed))
        yield 1


def _stands(known: RevocationRow, row: RevocationRow) -> bool:
    """Whether what is known here is not changed by a record: for good, or decided later. What is
    revoked in the record is, whenever that was.
    """
    later = known.revoked_at >= row.revoked_at and row.state != "revoked"
    return known.state == "revoked" or later


def _went_on(tx: Transaction, manifest: Manifest, name: str) -> bool:
    """Whether this very backup was taken over before."""
    done = [one.facts for one in tx.audit.each("restore-records")]
    return any(f["backup"] == manifest.digest and name in f["crls"] for f in done)
