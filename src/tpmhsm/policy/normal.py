"""The normal form of a policy: alternatives, each a set of demands that all must be met.

One chip policy can say: any of these alternatives; in each at most one group, the machine's state,
and the PIN. What a policy says beyond that, or says in a misleading way, is refused by its name.
The order in which a policy was written makes no difference: alternatives are sorted by their text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from tpmhsm.errors import UsageError
from tpmhsm.policy.model import All, Any, Budget, Open, Pcr, Pin, Policy, Quorum, Window
from tpmhsm.policy.pcrs import UNPROTECTED
from tpmhsm.policy.text import BANKS, format_policy

MAX_ALTERNATIVES = 64
"""Two levels of PolicyOR; more is no policy that a person can check."""


@dataclass(frozen=True)
class Alternative:
    """Demands that all must be met: approvals of `group` (empty: of nobody), `pcrs` (one entry a
    bank, in the order of `BANKS`), the PIN, and a unit of what the group `budget` granted. Nothing
    at all is what `open` demands. With `window` the group opens the key for a time instead of
    approving each signature: to the chip both are the same policy, and the group's roster decides.
    """

    group: str = ""
    pcrs: tuple[Pcr, ...] = ()
    pin: bool = False
    budget: str = ""
    window: bool = False

    @property
    def policy(self) -> Policy:
        """The same as a policy."""
        parts: list[Policy] = []
        if self.group:
            parts.append(Window(self.group) if self.window else Quorum(self.group))
        parts += [Budget(self.budget)] if self.budget else []
        parts += [*self.pcrs, *([Pin()] if self.pin else [])]
        if len(parts) < 2:
            return parts[0] if parts else Open()
        return All(tuple(parts))

    @property
    def text(self) -> str:
        """The same as text."""
        return format_policy(self.policy)

    @property
    def demands(self) -> frozenset[tuple[str, ...]]:
        """Each demand alone: of two alternatives one may demand more than the other."""
        found: set[tuple[str, ...]] = {("group", self.group)} if self.group else set()
        found |= {("pin",)} if self.pin else set()
        found |= {("budget", self.budget)} if self.budget else set()
        return frozenset(found | {("pcr", p.bank, str(n)) for p in self.pcrs for n in p.pcrs})


def normal_form(policy: Policy) -> tuple[Alternative, ...]:
    """Return the alternatives of a policy, in canonical order; for `open` one without demands.

    UsageError, with a stable `code`, for what one chip policy cannot say or what would mislead.
    """
    if isinstance(policy, Open):
        return (Alternative(),)
    found = _expand(policy)
    _refuse_useless(found)
    return tuple(sorted(found, key=lambda alternative: alternative.text))


def policy_of(alternatives: Sequence[Alternative]) -> Policy:
    """Return the canonical policy of a normal form."""
    parts = tuple(alternative.policy for alternative in alternatives)
    return parts[0] if len(parts) == 1 else Any(parts)


def _expand(policy: Policy) -> list[Alternative]:
    if isinstance(policy, All | Any):
        parts = _parts(policy)
        if isinstance(policy, Any):
            return _few([a for part in parts for a in part])
        joined = [Alternative()]
        for part in parts:
            joined = _few([_join(a, b) for a in joined for b in part])
        return joined
    if isinstance(policy, Pcr):
        return [Alternative(pcrs=(_protecting(policy),))]
    if isinstance(policy, Budget):
        return [Alternative(budget=policy.group)]
    if isinstance(policy, Quorum | Window):
        return [Alternative(policy.group, window=isinstance(policy, Window))]
    return [Alternative(pin=True)]


def _parts(policy: All | Any) -> list[list[Alternative]]:
    """The parts' alternatives. Refused: `open`, which takes part in nothing, and equal parts."""
    found: list[list[Alternative]] = []
    for part in policy.parts:
        if isinstance(part, Open):
            _refuse_open(policy)
        alternatives = _expand(part)
        if any(set(alternatives) == set(other) for other in found):
            _refuse(
                f"{policy.kind}(…) says {format_policy(part)} twice",
                "policy-duplicate",
                "say it once: a second time demands nothing more",
            )
        found.append(alternatives)
    return found


def _refuse_open(policy: All | Any) -> NoReturn:
    if isinstance(policy, Any):
        _refuse(
            "any(…) with open in it is open: nobody would need the other parts",
            "policy-open-inside",
            "write open alone if you mean it, or leave it out",
        )
    _refuse(
        "all(…) with open in it: open demands nothing",
        "policy-open-inside",
        "leave open out: the other parts say it all",
    )


def _join(a: Alternative, b: Alternative) -> Alternative:
    if a.group and b.group and a.group != b.group:
        _refuse(
            f"all(…) over two groups, {a.group} and {b.group}: one chip policy holds one roster",
            "policy-two-groups",
            "make one group whose rule joins both: --officers '2:alice,bob,carol+1:dave,erin'",
            groups=[a.group, b.group],
        )
    if a.budget and b.budget and a.budget != b.budget:
        _refuse(
            f"all(…) over two budgets, of {a.budget} and {b.budget}: each signature would use up a "
            "unit of both, and the smaller one decides",
            "policy-two-budgets",
            f"leave one out, or let one group grant and the other approve: "
            f"all(quorum({a.budget}), budget({b.budget}))",
            groups=[a.budget, b.budget],
        )
    if a.group and b.group and a.window != b.window:
        _refuse(
            f"all(…) over quorum({a.group}) and window({a.group}): to the chip both are one "
            "demand, which approvals or an open window meet",
            "policy-redundant",
            f"window({a.group}) alone, or quorum({a.group}): such a key can be opened, too, where "
            "the custodians allow it",
        )
    group, budget, window = a.group or b.group, a.budget or b.budget, a.window or b.window
    return Alternative(group, _banks((*a.pcrs, *b.pcrs)), a.pin or b.pin, budget, window)


def _banks(pcrs: Iterable[Pcr]) -> tuple[Pcr, ...]:
    """One entry a bank: the chip compares all of them with one command."""
    found: dict[str, set[int]] = {}
    for pcr in pcrs:
        found.setdefault(pcr.bank, set()).update(pcr.pcrs)
    return tuple(Pcr(bank, tuple(sorted(found[bank]))) for bank in BANKS if bank in found)


def _protecting(pcr: Pcr) -> Pcr:
    for number in pcr.pcrs:
        if why := UNPROTECTED.get(number):
            _refuse(
                f"{format_policy(pcr)}: PCR {number} protects nothing: {why}",
                "policy-pcr-unprotected",
                "leave it out; PCRs 0 to 7 are the firmware's, 8 to 15 the operating system's",
            )
    return pcr


def _few(alternatives: list[Alternative]) -> list[Alternative]:
    """Each once, and not too many. What was written twice in one node is refused before."""
    found = list(dict.fromkeys(alternatives))
    if len(found) > MAX_ALTERNATIVES:
        _refuse(
            f"this policy has more than {MAX_ALTERNATIVES} alternatives when it is written out",
            "policy-too-wide",
            "a group whose rule is M of N says in one word what many alternatives say",
        )
    return found


def _refuse_useless(alternatives: list[Alternative]) -> None:
    """An alternative that demands more than another is never needed, and what it demands more
    protects nothing: whoever reads the policy would think that it does.
    """
    for one in alternatives:
        for other in alternatives:
            if one is not other and one.demands >= other.demands:
                _refuse(
                    f"{one.text} beside {other.text}: the second alone will do, so what the first "
                    "demands more protects nothing",
                    "policy-redundant",
                    f"leave {one.text} out, or demand more of {other.text}",
                )


def _refuse(message: str, code: str, hint: str, **details: object) -> NoReturn:
    raise UsageError(message, code=code, hint=hint, details=details)
