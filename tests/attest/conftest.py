"""Machines to run commands on."""

from tests.support.machines import bare, place

__all__ = ["bare", "place"]
