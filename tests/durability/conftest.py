"""Machines to run commands on."""

from tests.support.machines import governed, governed_template, place, plain, plain_template

__all__ = ["governed", "governed_template", "place", "plain", "plain_template"]
