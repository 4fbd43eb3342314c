"""The journal: what the chip audits, in its order, and only from when it is there."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from tpmhsm.attest.audit_records import Audited, read_records
from tpmhsm.errors import StoreError
from tpmhsm.tpm import audit, objects
from tpmhsm.tpm.device import Device
from tpmhsm.tpm.journal import HEADER_SIZE, NAME, Journal, read_journal
from tpmhsm.wire.constants import CC

RECORD = Audited(1, CC.Sign, b"n" * 34, b"sent", b"answered", b"d" * 32)


def test_without_a_file_nothing_is_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / NAME)
    journal.add(RECORD)
    journal.flush()
    journal.close()
    assert list(tmp_path.iterdir()) == []
    assert read_journal(tmp_path / NAME, "", 0) == ("", 0, b"")


def test_what_is_new_is_read_from_where_one_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path / NAME)
    journal.begin()
    journal.add(RECORD)
    name, start, data = read_journal(journal.path, "", 0)
    assert (start, read_records(data)) == (HEADER_SIZE, ([RECORD], len(data)))
    journal.add(RECORD)
    assert read_journal(journal.path, name, start + len(data))[2] == data
    journal.begin()  # another file: from its beginning
    other, start, data = read_journal(journal.path, name, start + len(data))
    assert (other != name, start, data) == (True, HEADER_SIZE, b"")
    assert os.stat(journal.path).st_mode & 0o777 == 0o600
    journal.close()


def test_a_file_that_is_none_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"something else")
    assert read_journal(tmp_path / NAME, "", 0) == ("", 0, b"")


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    """RLIMIT_FSIZE cuts a write short, as a full disk does."""
    journal = Journal(tmp_path / NAME)
    journal.begin()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HEADER_SIZE + 20, hard))
    try:
        with pytest.raises(StoreError) as caught:
            journal.add(RECORD)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == "journal"
    journal.add(RECORD)  # what was torn is passed over
    _, _, data = read_journal(journal.path, "", 0)
    assert read_records(data)[0] == [RECORD]
    journal.close()


def test_the_chip_audits_and_the_journal_has_it(device: Device, software_home: Path) -> None:
    """Nothing more is sent for a signature."""
    with device.transaction() as chip:
        assert not audit.is_on(chip)
        audit.switch_on(chip)
        assert audit.is_on(chip)
        parent = objects.storage_parent(chip)
        made = objects.create_key(chip, parent, "p256", None)
        key = objects.load_key(chip, parent, made.public, made.private)
        before = chip.commands
        objects.sign_digest(chip, key, bytes(32))
        assert chip.commands == before + 1
        assert not (software_home / NAME).exists()
        chip.flush(key.handle)
    Journal(software_home / NAME).begin()
    with device.transaction() as chip:
        parent = objects.storage_parent(chip)
        key = objects.load_key(chip, parent, made.public, made.private)
        before = chip.commands
        objects.sign_digest(chip, key, b"\x01" * 32)
        assert chip.commands == before + 1
        chip.flush(key.handle)
    _, _, data = read_journal(software_home / NAME, "", 0)
    (record,), _ = read_records(data)
    assert isinstance(record, Audited)
    assert (record.names, record.digest, record.is_plain) == (made.name, b"\x01" * 32, True)
