"""What an authority has revoked, and how its CRL does: for `ca show` and `status`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tpmhsm.cli.app import App
from tpmhsm.cli.crl_files import is_published

if TYPE_CHECKING:
    from tpmhsm.store.revocations import CrlRow


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


def todo_of(app: App, name: str, found: dict[str, Any]) -> list[dict[str, str]]:
    """What `status` says of an authority's CRL: changes that no CRL has, one that is due or over,
    one that is not where verifiers look. Nothing while one waits for people: that is said already.
    """
    with app.store.reading() as tx:
        last, waiting = tx.crls.latest(name), tx.crls.waiting(name)
    if waiting is not None and (last is None or waiting.number > last.number):
        return []
    again = f"tpmhsm ca crl {name}"
    if what := _is_wanted(app, name, last, found["unlisted"]):
        return [{"what": what, "next": again}]
    if last is not None and not is_published(app, name, last.sha256):
        what = f"the CRL {last.number} of {name} is not in its file"
        return [{"what": what, "next": f"{again} --existing"}]
    return []


def _is_wanted(app: App, name: str, last: CrlRow | None, unlisted: int) -> str:
    """Why a new CRL should be made, in words; empty when none is needed."""
    from tpmhsm.ca.crls import is_due

    now = datetime.now(UTC)
    if last is not None and now > datetime.fromisoformat(last.next_update):
        return f"the CRL of {name} is over since {last.next_update}"
    if unlisted:
        changes = "1 change" if unlisted == 1 else f"{unlisted:,} changes"
        return f"no CRL of {name} has {changes} yet"
    if last is None:
        promised = app.settings.of(name).base_url
        return f"certificates of {name} name a CRL, and there is none yet" if promised else ""
    return f"the CRL of {name} is due by {last.next_update}" if is_due(last, now) else ""
