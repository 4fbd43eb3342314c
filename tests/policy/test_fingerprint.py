"""The eight words."""

from importlib.resources import files

import pytest
from tests.policy import makers

from tpmhsm.errors import UsageError
from tpmhsm.policy.fingerprint import fingerprint


def test_word_list():
    words = files("tpmhsm.policy").joinpath("words.txt").read_text("ascii").split()
    assert len(words) == len(set(words)) == 2048
    assert len({word[:4] for word in words}) == 2048
    assert words == sorted(words)


def test_fingerprint():
    group = makers.group()
    words = fingerprint(group, makers.EK)
    assert len(words) == 8
    assert words == fingerprint(group, makers.EK)


def test_fingerprint_of_these_very_facts():
    """Pinned: two releases must read the same words aloud."""
    group = makers.group()
    assert " ".join(fingerprint(group, makers.EK)) == PINNED


PINNED = "garden rely behind brick dinner embody chase injury"


def test_other_facts_give_other_words():
    group = makers.group()
    other = makers.group(nonce=bytes(32))
    assert fingerprint(group, makers.EK) != fingerprint(other, makers.EK)


def test_other_device():
    group = makers.group()
    with pytest.raises(UsageError, match="EK certificate"):
        fingerprint(group, b"another certificate")
