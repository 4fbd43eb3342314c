"""Checks of what people have to do: groups that can lose nobody, and what `status` names. Pure."""

from __future__ import annotations

from tpmhsm.doctor.facts import Facts, Trouble
from tpmhsm.doctor.judging import (
    Check,
    Judged,
    Registry,
    Unseen,
    attention,
    broken,
    check,
    records_of,
)

CHECKS: Registry = {}

_OF_STATUS = {
    "requests": (
        "people gave their approvals for it, and they end with the request",
        "none is approved and not executed",
    ),
    "budgets": ("the chip refuses the next signature when nothing is left", "none ends soon"),
    "windows": ("the chip refuses signatures when the window ends", "none ends soon"),
    "authorities": (
        "what an authority certified is worth nothing after its own end",
        "none ends soon",
    ),
    "crls": ("verifiers refuse everything of an authority whose CRL is over", "none is due"),
    "certificates": ("whoever relies on them is refused on that day", "none ends soon"),
    "sealing": ("whoever can set the count back can try PINs without end", ""),
}
"""Why each kind of what `status` names matters, and what is said when it names nothing."""


@check(CHECKS, "people")
def people(facts: Facts) -> Judged:
    """Whether each group can lose somebody."""
    groups = records_of(facts).groups
    for group in groups:
        if group.spare == 0:
            yield attention(
                f"group {group.name} ({group.officers}) can lose no officer",
                where=f"group {group.name}",
                why="when one is ill or gone nothing can be approved"
                + (", for good: a static group never changes" if group.static else ""),
                next=f"tpmhsm group change {group.name} --officers RULE, with more people"
                if not group.static
                else "tpmhsm group create NAME --static, with more people, for new keys",
            )
        if group.custodians_spare == 0 and not group.static:
            yield attention(
                f"group {group.name} ({group.custodians}) can lose no custodian",
                where=f"group {group.name}",
                why="when one is gone its officers can never be replaced again",
                next="tpmhsm group create NAME --custodians RULE, with more people, for new keys",
            )
    return ", ".join(f"{group.name}: {group.spare} may be lost" for group in groups)


def _needs(name: str, why: str, well: str) -> Check:
    def judged(facts: Facts) -> Judged:
        if isinstance(facts.needs, Trouble):
            raise Unseen(facts.needs.message)
        for need in facts.needs:
            if need.about == name:
                yield (broken if need.urgent else attention)(
                    need.what, where="this home", why=why, next=need.next
                )
        return well

    return judged


for _name, _words in _OF_STATUS.items():
    check(CHECKS, _name)(_needs(_name, *_words))
