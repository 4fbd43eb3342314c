"""Sessions that wait in the chip for people: what holds, and when they are gone."""

from __future__ import annotations

import os
import time

import pytest
from tests.policy import makers
from tests.tpm.conftest import left_behind
from tests.tpm.quorums import World

from tpmhsm.errors import ChipRefusedError, DeviceError, RefusedError
from tpmhsm.policy.ahash import live_preimage
from tpmhsm.policy.approver import approver_area
from tpmhsm.tpm import live, software
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.device import Device
from tpmhsm.tpm.sessions import PolicySession, start_policy
from tpmhsm.wire.codec import decode
from tpmhsm.wire.commands import (
    ContextLoad,
    ContextSave,
    GetRandom,
    LoadExternal,
    PolicySigned,
    PolicySignedResponse,
)
from tpmhsm.wire.constants import RH
from tpmhsm.wire.structures import Signature

REF = b"r" * 32
CP = b"c" * 32


def approve(
    chip: Chip, session: PolicySession, person: int, nonce: bytes, seconds: int = 0
) -> PolicySignedResponse:
    """One person's approval over a nonce, shown in a session."""
    cp_hash = b"" if seconds else CP
    message = live_preimage(nonce, -seconds, cp_hash, REF)
    signature = decode(Signature, makers.tpmt_sign(makers.key(person), message))
    area = approver_area(makers.key(person).public_key())
    key = chip.send(LoadExternal(None, area, RH.NULL)).object_handle
    try:
        command = PolicySigned(key, session.handle, nonce, cp_hash, REF, -seconds, signature)
        return chip.send(command)
    finally:
        chip.flush(key)


def in_an_hour() -> float:
    return time.time() + 3600


def gone(chip: Chip, nonce: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        live.resume(chip, nonce)
    assert caught.value.code == "live-session-gone"


def test_it_waits_across_connections_and_all_approvals_are_over_one_nonce(device: Device) -> None:
    with device.transaction() as chip:
        nonce = live.begin(chip, in_an_hour())
        assert (chip.commands, len(nonce), chip.created) == (2, 16, ())
    for _ in range(3):
        with device.transaction() as chip:
            chip.send(GetRandom(8))
    with device.transaction() as chip:
        session = live.resume(chip, nonce)
        assert chip.commands == 1
        for person in (0, 1, 2):
            assert not approve(chip, session, person, nonce).policy_ticket.digest
        chip.flush(session.handle)
        gone(chip, nonce)


def test_the_nonce_is_of_one_session_and_of_no_later_use(device: Device) -> None:
    """0x1cf in another session; and in the same one after it has authorised a command."""
    with device.transaction() as chip:
        first, second = (live.begin(chip, in_an_hour()) for _ in range(2))
        assert first != second
        session = live.resume(chip, second)
        with pytest.raises(ChipRefusedError, check=lambda e: e.rc == 0x1CF):
            approve(chip, session, 0, first)
        chip.flush(session.handle)
        live.drop(chip, first)
        gone(chip, first)


def test_a_used_session_has_another_nonce(chip: Chip) -> None:
    world = World.make(chip)
    key = world.key()
    session = start_policy(chip)
    before = session.nonce_tpm
    approve(chip, session, 0, before)
    assert session.nonce_tpm == before
    with pytest.raises(ChipRefusedError):
        from tpmhsm.tpm.objects import sign_command

        chip.send(sign_command(key, bytes(32)), session)
    approve(chip, session, 1, before)  # a failed use does not change it
    chip.flush(session.handle)
    chip.flush(key.handle)


def test_no_session_survives_a_restart(device: Device, software_home) -> None:
    with device.transaction() as chip:
        nonce = live.begin(chip, in_an_hour())
        shelf = chip.shelf
    assert [path.stem for path in shelf.iterdir()] == [nonce.hex()]
    software.stop(software.directory_of(software_home))
    with device.transaction() as chip:
        gone(chip, nonce)
    assert not list(shelf.iterdir())


def test_what_nobody_waits_for_is_swept(device: Device, software_home) -> None:
    with device.transaction() as chip:
        old = live.begin(chip, time.time() - 1)
    assert len(left_behind(software.directory_of(software_home))) == 1
    with device.transaction() as chip:
        assert chip.commands == 2
        gone(chip, old)


def test_renewed_ones_wait_on(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    with device.transaction() as chip:
        nonces = [live.begin(chip, in_an_hour()) for _ in range(3)]
        before = saved(chip)
    with device.transaction() as chip:
        assert (chip.commands, saved(chip)) == (0, before)
    monkeypatch.setattr(live, "RENEW_AFTER", -1.0)
    with device.transaction() as chip:
        assert chip.commands == 6
        assert not set(before) & set(saved(chip))
        for nonce in nonces:
            session = live.resume(chip, nonce)
            approve(chip, session, 0, nonce)
            chip.flush(session.handle)


def saved(chip: Chip) -> list[bytes]:
    return [path.read_bytes() for path in sorted(chip.shelf.iterdir())]


def test_a_note_keeps_the_tpm_awake(device: Device) -> None:
    with device.transaction() as chip:
        live.keep_awake(chip, "note", in_an_hour())
        assert os.stat(chip.shelf / "note").st_mtime > time.time()
        assert live.is_awake(chip.shelf, "note") and not live.is_awake(chip.shelf, "other")
        live.let_sleep(chip.shelf, "note")
        live.let_sleep(chip.shelf, "note")
        assert not list(chip.shelf.iterdir())


@pytest.mark.long
def test_the_context_counter_goes_on(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others' saves: 0x901 after 65,535 of them, unless what waits is renewed meanwhile."""
    monkeypatch.setattr(live, "RENEW_AFTER", -1.0)
    with device.transaction() as chip:
        nonce = live.begin(chip, in_an_hour())
        other = start_policy(chip)
        for _ in range(2):
            save_and_load(chip, other, 40_000)
            live.keep_up(chip)
        with pytest.raises(DeviceError, check=lambda e: e.code == "chip-context-gap"):
            save_and_load(chip, other, 66_000)
        chip.flush(other.handle)
        session = live.resume(chip, nonce)
        approve(chip, session, 0, nonce)
        chip.flush(session.handle)


def save_and_load(chip: Chip, session: PolicySession, times: int) -> None:
    for _ in range(times):
        chip.send(ContextLoad(chip.send(ContextSave(session.handle)).context))
