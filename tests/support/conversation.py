"""A chip on a bare swtpm for one test module, with a leak check after each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.swtpm import RecordingDoor, bare_swtpm
from tests.support.templates import STORAGE

from tpmhsm.tpm.chip import Chip
from tpmhsm.wire.commands import Create, CreatePrimary, Load
from tpmhsm.wire.constants import RH
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import SensitiveCreate

__all__ = ["bare_swtpm", "clean_chip", "key_under", "primary"]


@contextmanager
def clean_chip(path: Path) -> Iterator[tuple[Chip, RecordingDoor]]:
    """A chip and its door; at the end all that it made is flushed and nothing else is there."""
    door = RecordingDoor(path)
    try:
        chip = Chip(door)
        assert chip.leaks() == []
        try:
            yield chip, door
        finally:
            honest = Chip(door)
            door.change_command = door.change_response = lambda data: data
            made = chip.created
            left = honest.leaks()
            for handle in left:
                honest.flush(handle)
        assert sorted(left) == sorted(made), "the chip lost count of what it made"
    finally:
        door.close()


def primary(chip: Chip, public: Public = STORAGE, auth: bytes = b"") -> tuple[int, Public, bytes]:
    """Handle, public area and Name of a new primary key in the owner's hierarchy."""
    made = chip.send(CreatePrimary(RH.OWNER, SensitiveCreate(auth), public, b"", ()))
    return made.object_handle, made.out_public, made.name


def key_under(chip: Chip, parent: int, public: Public, auth: bytes = b"") -> int:
    """The handle of a new key under a parent."""
    made = chip.send(Create(parent, SensitiveCreate(auth), public, b"", ()))
    return chip.send(Load(parent, made.out_private, made.out_public)).object_handle
