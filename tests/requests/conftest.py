"""Machines to run commands on, and a house with approvers."""

from tests.attacks.conftest import built, house
from tests.support.machines import (
    bare,
    governed,
    governed_template,
    place,
    plain,
    plain_template,
)

__all__ = [
    "bare",
    "built",
    "governed",
    "governed_template",
    "house",
    "place",
    "plain",
    "plain_template",
]
