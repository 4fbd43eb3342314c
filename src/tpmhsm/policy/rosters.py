"""What a roster says besides its people: what officers may be asked for, which keys they may open,
which state of the machine approvals demand; and what a change of that changes, in words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tpmhsm.policy.group import RosterDocument
from tpmhsm.policy.pcrs import Measured, demanded

Naming = Callable[[bytes], str]
"""From a key's Name to what people call it."""

USE_WORDS = {"sign": "signatures", "budget": "budgets", "decrypt": "decryptions"}


def short_name(name: bytes) -> str:
    """A key's Name where nobody knows what it is called: 'key 0a1b2c3d…'."""
    return f"key {name[2:6].hex()}…"


def uses_in_words(roster: RosterDocument) -> str:
    """'signatures, budgets, decryptions'."""
    return ", ".join(USE_WORDS[use] for use in roster.uses)


_UNITS = "units of a budget that were granted are used without"


def state_in_words(measured: Measured) -> str:
    """'PCRs 0, 2, 7 (sha256)'; empty when none are demanded."""
    parts = (f"{', '.join(map(str, pcr.pcrs))} ({pcr.bank})" for pcr in demanded(measured))
    return f"PCRs {' and '.join(parts)}" if measured else ""


def explain_roster(roster: RosterDocument, naming: Naming = short_name) -> list[str]:
    """Sentences for `group explain`."""
    lines = [f"What officers may be asked for: {uses_in_words(roster)}."]
    if roster.windows:
        lines.append(
            f"They may open for some seconds: {_listed(map(naming, roster.windows))}. Until a "
            "window ends, or a restart, anyone with this machine signs with that key."
        )
    else:
        lines.append("They may open no key for a time: that would take the custodians.")
    if roster.measured:
        lines.append(
            f"Every approval, grant and window demands {state_in_words(roster.measured)} as the "
            f"custodians approved them; {_UNITS}. "
            "After an update they approve the new ones (tpmhsm group change --pcr); the keys stay."
        )
    return lines


def explain_now(label: str, roster: RosterDocument) -> list[str]:
    """Sentences for `policy explain`: what the roster in force adds for the group's keys."""
    count = len(roster.windows)
    keys = f"{count} key{'' if count == 1 else 's'}" if count else "no key"
    lines = [f'Now the officers of "{label}" may open {keys} (tpmhsm group show {label}).']
    if roster.measured:
        lines.append(
            f"Besides, approvals, grants and windows demand {state_in_words(roster.measured)} as "
            f"the custodians approved them; {_UNITS}. After an update they approve the new ones, "
            "and the key stays."
        )
    return lines


def roster_differences(
    before: RosterDocument, after: RosterDocument, naming: Naming = short_name
) -> list[str]:
    """What changes besides the people, one clause each; empty when nothing does."""
    opened, closed = opened_keys(before, after), opened_keys(after, before)
    found = [
        _clause("officers may be asked for ", [u for u in after.uses if u not in before.uses]),
        _clause("no longer asked for ", [u for u in before.uses if u not in after.uses]),
        f"allows to open {_listed(map(naming, opened))}" if opened else "",
        f"no longer allows to open {_listed(map(naming, closed))}" if closed else "",
        _state_change(before.measured, after.measured),
    ]
    return [clause for clause in found if clause]


def opened_keys(before: RosterDocument, after: RosterDocument) -> tuple[bytes, ...]:
    """Names of the keys that may be opened by the second roster and not by the first."""
    return tuple(name for name in after.windows if name not in before.windows)


def _state_change(before: Measured, after: Measured) -> str:
    if before == after:
        return ""
    if not after:
        return f"demands {state_in_words(before)} no longer"
    if demanded(before) != demanded(after):
        instead = f", no longer {state_in_words(before)}" if before else ""
        return f"demands {state_in_words(after)} as they are now{instead}"
    moved = [
        f"{number} ({bank})"
        for bank, values in after.items()
        for number, value in sorted(values.items())
        if before[bank][number] != value
    ]
    return f"approves new values of PCRs {_listed(moved)}"


def _clause(head: str, uses: list[str]) -> str:
    return head + _listed(USE_WORDS[use] for use in uses) if uses else ""


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)
