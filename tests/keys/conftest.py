"""Machines to run commands on."""

from tests.support.machines import bare, governed, place, plain, templates

__all__ = ["bare", "governed", "place", "plain", "templates"]
