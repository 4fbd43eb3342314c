"""Fixtures of the tests with cards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from unittest import mock

import pytest
from tests.support.machines import bare, governed, governed_template, place, plain, plain_template
from tests.tokens.readers import Readers, running

__all__ = ["bare", "governed", "governed_template", "place", "plain", "plain_template"]


@pytest.fixture(scope="session")
def both_readers() -> Iterator[Readers]:
    """A daemon with two readers, once for each worker."""
    with running() as readers:
        yield readers


@pytest.fixture
def readers(both_readers: Readers) -> Iterator[Readers]:
    """The same; the second is empty, in the first may be a card of no importance.

    Other tests of the same process are told of no daemon: a card would be found where none belongs.
    """
    with mock.patch.dict(os.environ, both_readers.environment):
        yield both_readers
        both_readers.leave()
