"""What an authority has revoked, and how its CRL does: for `ca show`, `status`, `cert verify`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tpmhsm.cli.app import App
from tpmhsm.cli.crl_files import is_certificate_published, is_published
from tpmhsm.errors import StoreError, VerificationError

if TYPE_CHECKING:
    from tpmhsm.store.authorities import AuthorityRow
    from tpmhsm.store.revocations import CrlRow, RevocationRow


def revocation_json(app: App, name: str) -> dict[str, Any]:
    """How many certificates an authority has revoked and holds, and its last CRL (or null)."""
    from tpmhsm.ca.crls import crl_facts

    with app.store.reading() as tx:
        counts, last = tx.revocations.count(name), tx.crls.latest(name)
        unlisted = tx.revocations.changes(name, last.upto if last else 0)
    return {**counts, "unlisted": unlisted, "crl": crl_facts(last) if last else None}


def revocation_lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    """(label, text) pairs of `revocation_json`."""
    held = f", {found['held']:,} held" if found["held"] else ""
    last = found["crl"]
    lines = [("Revoked", f"{found['revoked']:,}{held}" if found["revoked"] or held else "")]
    if last:
        lines.append(("CRL", f"{last['number']}, next by {last['next_update']}"))
    if found["unlisted"]:
        lines.append(("Not on a CRL", f"{found['unlisted']:,} changes"))
    return lines


def refuse_revoked_here(app: App, chain: Sequence[Mapping[str, Any]], at: str) -> None:
    """VerificationError when an authority of this home has revoked or holds one of the chain
    (facts as of `verify_certificate`, leaf first) at that moment, RFC 3339.
    """
    with app.store.reading() as tx:
        for item in reversed(chain):
            kept = tx.certificates.find(item["sha256"])
            if kept is None or kept.authority is None:
                continue
            known = tx.revocations.find(kept.authority, kept.serial)
            if known is None or known.state == "released" or known.revoked_at > at:
                continue
            raise _revoked_here(item, known, chain)


def _revoked_here(
    item: Mapping[str, Any], known: RevocationRow, chain: Sequence[Mapping[str, Any]]
) -> VerificationError:
    who = _who(item)
    did = "is held" if known.state == "held" else "was revoked"
    why = "" if known.state == "held" else f" ({known.reason})"
    return VerificationError(
        f"{who} {did} by {known.authority!r} here, {known.revoked_at}{why}",
        hint="--crl judges by a CRL instead, as others do",
        details={
            "reason": "revoked",
            "certificate": item["subject"],
            "chain": [one["subject"] for one in chain],
        },
    )


def refuse_listed_here(app: App, found: dict[str, Any]) -> None:
    """Judge a path (facts of `verify_certificate`) by the CRLs that the authorities here made, as
    far as they were in force then; what they settle is noted. VerificationError for what is listed.

    A home without a database has none.
    """
    from tpmhsm.pki.crl_file import REASONS, read_path_crl

    chain, at = found["chain"], found["at"]
    try:
        store = app.store
    except StoreError:
        return
    with store.reading() as tx:
        names = {a.certificate: a.name for a in tx.authorities.all() if a.certificate}
        for item, issuer in reversed(list(pairwise(chain))):
            name = names.get(issuer["sha256"])
            row = tx.crls.latest(name) if name else None
            if row is None or not row.this_update <= at <= row.next_update:
                continue
            crl = read_path_crl(tx.crls.der(row))
            words = f"CRL {row.number} of {name!r}, which is kept here"
            if entry := crl.find(int(item["serial"], 16), crl.issuer_key):
                raise _listed_here(item, f"{REASONS[entry.reason]}; {words}", chain)
            found["crl_checked"].append(item["sha256"])
            found["notes"] = [n for n in found["notes"] if not n.startswith("revocation was not")]
            found["notes"].append(f"{_who(item)} is not on {words}")


def _who(item: Mapping[str, Any]) -> str:
    return item["subject"] or ", ".join(item["sans"]) or f"serial {item['serial']}"


def _listed_here(
    item: Mapping[str, Any], why: str, chain: Sequence[Mapping[str, Any]]
) -> VerificationError:
    return VerificationError(
        f"{_who(item)} was revoked: {why}",
        hint="--crl judges by a CRL of yours instead",
        details={
            "reason": "revoked",
            "certificate": item["subject"],
            "chain": [one["subject"] for one in chain],
        },
    )


def own_state(app: App, row: AuthorityRow) -> dict[str, str] | None:
    """How the authority above has revoked or holds this one: its certificate; None when it is
    good, or known elsewhere.
    """
    if not row.certificate or not row.issuer:
        return None
    with app.store.reading() as tx:
        kept = tx.certificates.find(row.certificate)
        known = tx.revocations.find(row.issuer, kept.serial) if kept else None
    if known is None or known.state == "released":
        return None
    return {"state": known.state, "reason": known.reason, "revoked": known.revoked_at}


def todo_of(app: App, name: str, found: dict[str, Any]) -> list[dict[str, str]]:
    """What `status` says of an authority's CRL: changes that no CRL has, one that is due or over,
    one that is not where verifiers look, or its certificate. Nothing while one waits for people:
    that is said already.
    """
    with app.store.reading() as tx:
        last, waiting = tx.crls.latest(name), tx.crls.waiting(name)
    if waiting is not None and (last is None or waiting.number > last.number):
        return []
    again = f"tpmhsm ca crl {name}"
    if what := _is_wanted(app, name, last, found["unlisted"]):
        over = {"urgent": "yes"} if last is not None and _is_over(last) else {}
        return [{"what": what, "next": again, **over}]
    if last is not None and not is_published(app, name, last.sha256):
        what = f"the CRL {last.number} of {name} is not in its file"
        return [{"what": what, "next": f"{again} --existing"}]
    if last is not None and not is_certificate_published(app, name):
        what = f"the certificate of {name} is not in its file"
        return [{"what": what, "next": f"{again} --existing"}]
    return []


def _is_over(crl: CrlRow) -> bool:
    return datetime.now(UTC) > datetime.fromisoformat(crl.next_update)


def _is_wanted(app: App, name: str, last: CrlRow | None, unlisted: int) -> str:
    """Why a new CRL should be made, in words; empty when none is needed."""
    from tpmhsm.ca.crls import is_due

    now = datetime.now(UTC)
    if last is not None and _is_over(last):
        return f"the CRL of {name} is over since {last.next_update}"
    if unlisted:
        changes = "1 change" if unlisted == 1 else f"{unlisted:,} changes"
        return f"no CRL of {name} has {changes} yet"
    if last is None:
        promised = app.settings.of(name).base_url
        return f"certificates of {name} name a CRL, and there is none yet" if promised else ""
    return f"the CRL of {name} is due by {last.next_update}" if is_due(last, now) else ""
