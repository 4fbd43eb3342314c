"""What an approver's tool remembers is never overwritten."""

from dataclasses import replace

import pytest

from tpmhsm.errors import ExistsError, UsageError
from tpmhsm.store.second_chips import SecondChipRow


def test_pins_are_made_once(tx):
    pinned = tx.memory.pin_group("aa", "eight words", "000b01", b"doc")
    assert tx.memory.pin_group("aa", "eight words", "000b01", b"doc") == pinned
    for other in (("x", "000b01", b"doc"), ("eight words", "000b02", b"doc")):
        with pytest.raises(ExistsError):
            tx.memory.pin_group("aa", *other)
    with pytest.raises(ExistsError):
        tx.memory.pin_group("aa", "eight words", "000b01", b"other")
    assert tx.memory.pinned_groups() == [pinned]
    key = tx.memory.pin_key("000b77", "root", "aa", b"public")
    assert tx.memory.pin_key("000b77", "root", "aa", b"public") == key
    with pytest.raises(ExistsError):
        tx.memory.pin_key("000b77", "other", "aa", b"public")
    assert tx.memory.pinned_keys("aa") == tx.memory.pinned_keys() == [key]
    tx.memory.unpin_group("aa")
    assert tx.memory.pinned_group("aa") is None
    assert tx.memory.pinned_key("000b77") is None


def test_an_epoch_has_one_roster(tx):
    assert tx.memory.highest_epoch("aa") is None
    tx.memory.remember_epoch("aa", 5, "r5")
    tx.memory.remember_epoch("aa", 2, "r2")
    tx.memory.remember_epoch("aa", 5, "r5")
    tx.memory.remember_epoch("bb", 9, "r9")
    for epoch in (2, 5):
        with pytest.raises(ExistsError, match=f"epoch {epoch}"):
            tx.memory.remember_epoch("aa", epoch, "other")
    for bad in (-1, 1 << 63):
        with pytest.raises(UsageError):
            tx.memory.remember_epoch("aa", bad, "r")
    highest = tx.memory.highest_epoch("aa")
    assert (highest.epoch, highest.roster_digest) == (5, "r5")
    assert [(row.epoch, row.roster_digest) for row in tx.memory.epochs("aa")] == [
        (2, "r2"),
        (5, "r5"),
    ]
    assert tx.memory.roster_of("aa", 3) is None
    tx.memory.unpin_group("aa")
    assert tx.memory.highest_epoch("aa").epoch == 5


def test_certified_keys(tx):
    assert tx.memory.subjects_of("aa") == []
    tx.memory.remember_certified("aa", "CN=one")
    tx.memory.remember_certified("aa", "CN=two")
    tx.memory.remember_certified("aa", "CN=one")
    assert tx.memory.subjects_of("aa") == ["CN=one", "CN=two"]
    tx.memory.remember_certified("aa", "CN=two", ca=True)
    tx.memory.remember_certified("aa", "CN=two")
    assert [row.ca for row in tx.memory.certified("aa")] == [False, True]


def test_the_newest_answer_of_a_second_chip_counts(tx):
    row = SecondChipRow("aa", "000b01", b"card", "000b77", 4, "")
    tx.second_chips.remember(row)
    tx.second_chips.remember(replace(row, ak_name="000b02"))
    tx.second_chips.remember(replace(row, counter=5, kind="discrete", parent_name="000b78"))
    one, two = tx.second_chips.of_group("aa")
    assert (one.counter, one.kind, one.parent_name) == (5, "discrete", "000b78")
    assert (two.ak_name, two.counter) == ("000b02", 4)
    assert one.checked and tx.second_chips.of_group("bb") == []
