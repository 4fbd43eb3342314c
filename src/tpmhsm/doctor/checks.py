"""All checks, in the order in which a person wants to read them."""

from __future__ import annotations

from tpmhsm.doctor import chip_checks, home_checks, machine_checks, people_checks
from tpmhsm.doctor.facts import Facts
from tpmhsm.doctor.judging import Registry, Verdict, judge

CHECKS: Registry = (
    home_checks.CHECKS | machine_checks.CHECKS | chip_checks.CHECKS | people_checks.CHECKS
)
"""Every check by its stable name."""


def examine(facts: Facts) -> list[Verdict]:
    """What all checks find."""
    return judge(facts, CHECKS.items())
