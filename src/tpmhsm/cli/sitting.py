"""One sitting over a ceremony's file: every act page by page, then all signatures in one file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App
from tpmhsm.cli.deciding import confirm, show_first
from tpmhsm.cli.files import STDIO, check_free, naming
from tpmhsm.cli.options import Out
from tpmhsm.errors import ApprovalRefusedError, TpmHsmError, UsageError

if TYPE_CHECKING:
    from tpmhsm.approval.ceremony import Ceremony
    from tpmhsm.approval.identity import Identity
    from tpmhsm.approval.sitting import Sitting
    from tpmhsm.store import Transaction


def ceremony_of(app: App, what: Sequence[str]) -> Ceremony | None:
    """The ceremony in the one file that was named, or None when it is something else."""
    from pathlib import Path

    from tpmhsm.approval.ceremony import MAX_CEREMONY, is_ceremony, parse_ceremony

    found = []
    for one in what:
        with suppress(OSError, ValueError, TpmHsmError):
            if one != STDIO and Path(one).is_file():
                data = app.read(one, limit=MAX_CEREMONY)
                found += [(one, data)] if is_ceremony(data) else []
    if not found:
        return None
    if len(what) > 1:
        raise UsageError("a ceremony is approved alone", hint=f"tpmhsm approve {found[0][0]}")
    with naming(*found[0], "a ceremony"):
        return parse_ceremony(found[0][1])


def target_of(ceremony: Ceremony, name: str) -> str:
    """The file that the host will want."""
    return f"{ceremony.founding.group.name}-{name}.approval"


def approve_ceremony(
    app: App, ceremony: Ceremony, name: str, person: Identity, expected: str | None, out: Out
) -> None:
    """Show all acts, take the digits of each, and only then sign them all."""
    from tpmhsm.requests.memory import StoredMemory

    target = out.claim(target_of(ceremony, name))
    store = app.own_store()
    with store.reading() as tx:
        shown = _look(ceremony, tx, person, name)
    _decide(app, shown, expected)
    with store.transaction() as tx:
        # once more: another approval may have been made while the person was reading
        found = _look(ceremony, tx, person, name)
        found.check_seen(shown)
        for entries in found.entries:
            StoredMemory(tx).keep(entries)
        tx.audit.append("approve-ceremony", {"digest": ceremony.digest.hex()})
    given = found.sign(person)
    out.write(given.data, target)
    if target != STDIO:
        app.note(f"take {target} to the host and run tpmhsm ceremony {target}")
    app.done(_facts(found, name, target), "", made="" if out.out else target)


def deny_ceremony(
    app: App, ceremony: Ceremony, name: str, person: Identity, reason: str, out: Out
) -> None:
    """Refuse the first act in which the person has a part: the rest falls with it."""
    from tpmhsm.approval.approve import make_denial
    from tpmhsm.approval.sitting import first_of

    request = first_of(ceremony, person)
    denial = make_denial(request, person, name, reason)
    target = out.claim(f"{request.id}-{name}.denial")
    out.write(denial.data, target)
    if target != STDIO:
        app.note(f"take {target} to the host and run tpmhsm ceremony {target}")
    found = {"request": request.id, "approver": name, "file": target}
    app.done(found, "", made="" if out.out else target)


def _look(ceremony: Ceremony, tx: Transaction, person: Identity, name: str) -> Sitting:
    from tpmhsm.approval.sitting import review_ceremony
    from tpmhsm.policy import moments
    from tpmhsm.requests.memory import StoredMemory

    return review_ceremony(ceremony, StoredMemory(tx), person, name, moments.now())


def _decide(app: App, shown: Sitting, expected: str | None) -> None:
    from tpmhsm.approval.sitting import overview

    ceremony = shown.ceremony
    if expected is not None and expected.lower() != ceremony.digest.hex():
        raise ApprovalRefusedError(
            "the ceremony asks for other acts than --expect says",
            code="other-bytes",
            hint="--expect takes the SHA-256 that tpmhsm ceremony prints on the host, not the "
            f"file's own (sha256sum); here it is {ceremony.digest.hex()}: give that only if the "
            "meeting has the same",
            details={"digest": ceremony.digest.hex(), "expected": expected.lower()},
        )
    if expected is None:
        show_first(lambda width: overview(shown, width))
    elif app.talks:
        click.echo(overview(shown), err=True)
    for one in shown.reviews:
        confirm(app, one, None if expected is None else one.request.digest.hex())


def _facts(found: Sitting, name: str, target: str) -> dict[str, Any]:
    first = found.reviews[0]
    return {
        "approver": name,
        "ceremony": found.ceremony.digest.hex(),
        "group": {"name": first.request.group.name, "id": first.request.group.id.hex()},
        "fingerprint": " ".join(first.group.fingerprint),
        "first_use": first.first_use,
        "approved": [one.request.id for one in found.reviews if one.acts],
        "past": [one.id for one in found.past],
        "file": target,
    }


def check_target(ceremony: Ceremony, name: str, out: Out) -> None:
    """Refuse an output that is there before anybody is asked for anything."""
    check_free(out.path(target_of(ceremony, name)), force=out.force)
