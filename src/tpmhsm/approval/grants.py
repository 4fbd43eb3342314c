"""A budget to be granted, as a person sees it: how much before, how much used, how much then.

What was granted and used is never the host's word: the chip certifies it over this very content.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from tpmhsm.approval.content import Content, Flag, Row
from tpmhsm.approval.guarded import check_guarded_key
from tpmhsm.approval.memory import Granted, GrantedTotal, Memory
from tpmhsm.approval.request import Request
from tpmhsm.attest.statements import ChipKey, check_budget
from tpmhsm.errors import ApprovalRefusedError, VerificationError
from tpmhsm.policy.budgets import Counted, Grant, budget_name, parse_grant
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.normal import Alternative
from tpmhsm.policy.tree import roster_name
from tpmhsm.policy.words import demands_in_words

MANY = 100_000
"""More signatures at once than this are marked."""


def grant_facts(content: bytes) -> dict[str, str]:
    """Short facts of a grant. ParseError when the content is none."""
    found = parse_grant(content)
    return {
        "total": f"{found.total:,}",
        "index": f"0x{found.index:08x}",
        "first": "yes" if found.first else "no",
    }


def read_budget(request: Request, key: ChipKey, memory: Memory) -> Content:
    """Decode a grant. ApprovalRefusedError for another key's or group's index, for a total that is
    not more than before, and for one without the chip's word of what was granted and used.
    """
    grant = parse_grant(request.content)
    assert request.key is not None  # noqa: S101 - Request's own rule
    policy = check_guarded_key(key, request.group, request.key.policy)
    _check_index(request, grant, key, policy)
    name = budget_name(grant.index, roster_name(request.group))
    before = _before(request, grant, name)
    known = memory.granted(name)
    if known is not None and not known.total:
        known = None
    _check_total(grant, before, known)
    after = max(0, grant.total - before.used)
    rows = (
        Row("Key", key.words, "KEY"),
        Row("Grants", f"{grant.total - before.total:,} more signatures, seen by nobody"),
        Row("So far", _so_far(grant, before, known)),
        Row("New total", f"{grant.total:,}"),
        Row("Then", f"this key may sign {after:,} more{_besides(request, key, policy)}"),
        Row("Counted", f"by the chip, in NV index 0x{grant.index:08x} of this key"),
        *([Row("Session", grant.nonce.hex(), "counts in this session alone")]
          if grant.first else []),
    )  # fmt: skip
    return Content(
        f"grant a key {grant.total - before.total:,} signatures",
        rows,
        tuple(_flags(key, memory, grant, before, known)),
        facts=grant_facts(request.content),
        granted=GrantedTotal(name, key.name, grant.total, grant.nonce),
    )


def _check_index(request: Request, grant: Grant, key: ChipKey, policy: KeyPolicy) -> None:
    label = request.group.name
    if (grant.group, grant.key) != (request.group.id, key.name):
        raise _refuse("the grant is for another key or group than the request says", "other-budget")
    if label not in policy.granting:
        raise _refuse(f'"{label}" grants this key no budget: {policy.text}', "other-budget")
    if policy.budgets.get(label) != grant.index:
        raise _refuse("the NV index is not the one that counts this key's budget", "other-budget")


def _before(request: Request, grant: Grant, name: bytes) -> Counted:
    """What the chip certifies over this content; nothing of an index that was never written."""
    if grant.first:
        return Counted(0, 0)
    if request.budget is None:
        raise _refuse("the chip does not certify what was granted and used so far", "state")
    try:
        return check_budget(request.budget, request.device.ak_public, name, request.digest)
    except VerificationError as e:
        raise _refuse(f"the chip's certified count does not hold: {e.message}", "state") from None


def _check_total(grant: Grant, before: Counted, known: Granted | None) -> None:
    if not grant.first and grant.total <= before.total:
        raise _refuse(
            f"the new total is {grant.total:,}, and {before.total:,} are granted already",
            "lower-total",
        )
    if not grant.first and known is not None and grant.total < known.total:
        raise _refuse(
            f"the new total is {grant.total:,}; you approved {known.total:,} before",
            "lower-total",
            "somebody replayed an older grant: the host can put back the highest one",
        )


def _so_far(grant: Grant, before: Counted, known: Granted | None) -> str:
    if grant.first:
        if known is None:
            return "nothing that this home knows of; older grants come on top"
        return f"{known.total:,} granted, as far as this home knows"
    return f"{before.total:,} granted, {before.used:,} used, {before.left:,} left"


def _besides(request: Request, key: ChipKey, policy: KeyPolicy) -> str:
    """What else each of those signatures takes."""
    found = []
    for one in policy.alternatives:
        if one.budget == request.group.name:
            parts = [_people(request, key, one)] if one.group else []
            parts += [words] if (words := demands_in_words(replace(one, budget=""))) else []
            if not parts:
                return " without anybody"
            found.append(" and ".join(parts))
    return f"; each takes {' or '.join(found)} too"


def _people(request: Request, key: ChipKey, one: Alternative) -> str:
    """A roster lets officers open a key whatever its policy calls them."""
    asked = f'approvals by "{one.group}"'
    roster = request.roster if one.group == request.group.name else None
    opened = one.window or roster is None or key.name in roster.windows
    return f"{asked}, or none while it is open," if opened else asked


def _flags(
    key: ChipKey, memory: Memory, grant: Grant, before: Counted, known: Granted | None
) -> list[Flag]:
    flags = [Flag("UNATTENDED", "whoever has the machine chooses what they are, root too")]
    certified = [one for one in memory.certified(sha256(key.spki).digest()) if one.ca]
    if certified:
        names = certified[0].subject
        flags.append(Flag("CA KEY", f"of {names}: it can issue any certificate that CA can"))
    if memory.pinned_key(key.name) is None:
        words = "each key that names this NV index uses the units: do you know it?"
        flags.append(Flag("NEW KEY", words))
    if grant.first and known is not None and known.firsts != {grant.nonce}:
        flags.append(_again(grant, known))
    elif known is not None and len(known.firsts) > 1:
        flags.append(_anew(grant, known))
    if grant.total - before.total > MANY:
        flags.append(Flag("MANY", f"{grant.total - before.total:,} at once"))
    return flags


def _again(grant: Grant, known: Granted) -> Flag:
    """A first write where there was one before: nothing tells how much of that was used, and what
    was granted then can be replayed on top of this.
    """
    highest = max(grant.total, known.total)
    most = highest * (1 + (len(known.firsts - {grant.nonce}) or 1))
    return Flag(
        "AGAIN",
        f"you granted this budget {known.total:,} before, and it was made anew, or that session "
        f"was lost. Earlier grants can be used again: count with {most:,} signatures in all",
    )


def _anew(grant: Grant, known: Granted) -> Flag:
    """Of several first writes each may come yet, and the later grants after it."""
    times = len(known.firsts)
    words = f"first granted {times} times: count with {times * grant.total:,} signatures in all"
    return Flag("MADE ANEW", words)


def _refuse(message: str, code: str, hint: str = "") -> ApprovalRefusedError:
    return ApprovalRefusedError(message, code=code, hint=hint)
