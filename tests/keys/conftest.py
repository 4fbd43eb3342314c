"""Machines to run commands on."""

from tests.support.machines import (
    bare,
    governed,
    governed_template,
    place,
    plain,
    plain_template,
)

__all__ = ["bare", "governed", "governed_template", "place", "plain", "plain_template"]
