"""Machines to back up."""

from tests.support.machines import bare, governed, governed_template, place, plain, plain_template

__all__ = ["bare", "governed", "governed_template", "place", "plain", "plain_template"]
