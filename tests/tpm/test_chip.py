"""The conversation: typed answers, refusals in words, patience, Names, nothing left behind."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.conversation import bare_swtpm, clean_chip, key_under, primary
from tests.support.swtpm import RecordingDoor
from tests.support.templates import SIGNING, STORAGE

from tpmhsm.errors import (
    ChipRefusedError,
    DeviceError,
    TpmHsmError,
    UsageError,
    VerificationError,
)
from tpmhsm.tpm import chip as chip_module
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.sessions import Password, start_hmac, start_policy
from tpmhsm.wire import commands as c
from tpmhsm.wire.codec import encode
from tpmhsm.wire.constants import ALG, CC, HT, RH, NvAttributes, ObjectAttributes
from tpmhsm.wire.names import handle_name, name_of_nv, name_of_public
from tpmhsm.wire.structures import (
    NULL_HASHCHECK,
    NULL_SCHEME,
    EccPoint,
    EccSignature,
    NvPublic,
    Signature,
)

INDEX = NvPublic(0x01800010, ALG.SHA256, 0x02060006, b"", 8)
Both = tuple[Chip, RecordingDoor]


@pytest.fixture(scope="module")
def swtpm() -> Iterator[Path]:
    with bare_swtpm() as path:
        yield path


@pytest.fixture
def both(swtpm: Path) -> Iterator[Both]:
    with clean_chip(swtpm) as both:
        yield both


@pytest.fixture
def chip(both: Both) -> Chip:
    return both[0]


def sign(handle: int) -> c.Sign:
    return c.Sign(handle, b"d" * 32, NULL_SCHEME, NULL_HASHCHECK)


class Script:
    """A door that gives prepared answers."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.sent: list[bytes] = []

    def send(self, command: bytes) -> bytes:
        self.sent.append(command)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def close(self) -> None:
        pass


def answer(body: bytes = b"", rc: int = 0, tag: int = 0x8001) -> bytes:
    return struct.pack(">HII", tag, 10 + len(body), rc) + body


def test_typed_answers(chip: Chip) -> None:
    before = chip.commands
    assert len(chip.send(c.GetRandom(16)).random_bytes) == 16
    assert chip.commands == before + 1


def test_passwords(both: Both) -> None:
    chip, door = both
    handle, _, _ = primary(chip)
    key = key_under(chip, handle, SIGNING, b"pin")
    assert chip.send(sign(key), Password(b"pin")).signature.sig_alg == ALG.ECDSA
    assert b"pin" in door.commands[-1]
    for wrong in (Password(b"nip"), Password()):
        with pytest.raises(ChipRefusedError) as e:
            chip.send(sign(key), wrong)
        assert (e.value.rc, e.value.code) == (0x9A2, "chip-auth")
        assert e.value.command == "Sign"


def test_given_passwords_come_first_and_empty_ones_follow(chip: Chip) -> None:
    chip.send(c.HierarchyChangeAuth(RH.OWNER, b"owner"))
    try:
        parent, _, _ = primary_as(chip, Password(b"owner"))
        chip.send(c.NV_DefineSpace(RH.OWNER, b"", INDEX), Password(b"owner"))
        args = c.NV_Certify(parent, RH.OWNER, INDEX.nv_index, b"", NULL_SCHEME, 8, 0)
        chip.send(c.NV_Write(INDEX.nv_index, INDEX.nv_index, b"12345678", 0))
        chip.send(args, Password(), Password(b"owner"))
        with pytest.raises(ChipRefusedError) as e:
            chip.send(args, Password())
        assert e.value.rc == 0x9A2 + 0x100
    finally:
        chip.send(c.NV_UndefineSpace(RH.OWNER, INDEX.nv_index), Password(b"owner"))
        chip.send(c.HierarchyChangeAuth(RH.OWNER, b""), Password(b"owner"))


def primary_as(chip: Chip, auth: Password) -> tuple[int, object, bytes]:
    from tpmhsm.wire.structures import SensitiveCreate

    made = chip.send(c.CreatePrimary(RH.OWNER, SensitiveCreate(), SIGNING, b"", ()), auth)
    return made.object_handle, made.out_public, made.name


def test_refusals_name_command_and_reason(chip: Chip) -> None:
    with pytest.raises(ChipRefusedError, match=r"ReadPublic.*nothing at this handle") as e:
        chip.send(c.ReadPublic(0x81FFFFFF))
    assert e.value.details == {"rc": "0x18b", "command": "ReadPublic"}


def test_a_full_chip_is_a_device_error(chip: Chip) -> None:
    with pytest.raises(DeviceError, match="no room for another object") as e:
        for _ in range(4):
            primary(chip)
    assert e.value.code == "chip-full"
    assert len(chip.created) == 3
    chip.flush_all()
    assert (chip.created, chip.leaks()) == ((), [])


def test_created_is_what_is_there(chip: Chip) -> None:
    handle, _, _ = primary(chip)
    session = start_policy(chip)
    context = chip.send(c.ContextSave(handle)).context
    loaded = chip.send(c.ContextLoad(context)).loaded_handle
    sequence = chip.send(c.HashSequenceStart(b"", ALG.SHA256)).sequence_handle
    assert sorted(chip.created) == sorted((handle, session.handle, loaded, sequence))
    assert sorted(chip.leaks()) == sorted(chip.created)
    chip.send(c.SequenceComplete(sequence, b"", RH.NULL))
    assert sequence not in chip.created
    chip.flush(loaded)
    chip.send(c.ContextSave(session.handle))
    assert {h & 0xFFFFFF for h in chip.leaks()} == {handle & 0xFFFFFF, session.handle & 0xFFFFFF}
    assert len(chip.leaks()) == 2  # a saved session counts
    for listed in chip.leaks():  # and is flushed by the handle it is listed with
        chip.send(c.FlushContext(listed))
    chip.forget(session.handle)
    assert chip.leaks() == []


def test_flushing_what_is_gone_is_no_error(both: Both) -> None:
    chip, door = both
    handle, _, _ = primary(chip)
    other = Chip(door)
    other.flush(handle)
    assert chip.created == (handle,)
    chip.flush(handle)
    assert chip.created == ()


def test_forgotten_handles_are_somebody_elses(chip: Chip) -> None:
    handle, _, _ = primary(chip)
    chip.forget(handle)
    chip.flush_all()
    assert chip.leaks() == [handle]
    chip.flush(handle)
    assert chip.leaks() == []


def test_flush_all_goes_on_after_a_failure() -> None:
    door = Script(answer(struct.pack(">I", 0x80000000) + encode(c.LoadResponse(0, b""))[4:]))
    chip = Chip(door)
    chip._created = {0x80000000: None, 0x80000001: None}
    door.answers = [answer(rc=0x101)]
    with pytest.raises(DeviceError, match="failure mode"):
        chip.flush_all()
    assert len(door.sent) == 2


def test_handles_in_pages() -> None:
    def page(more: bool, *handles: int) -> bytes:
        return answer(struct.pack(f">BII{len(handles)}I", more, 1, len(handles), *handles))

    door = Script(page(True, 0x81000001, 0x81000002), page(False, 0x81000005))
    assert Chip(door).handles(HT.PERSISTENT) == [0x81000001, 0x81000002, 0x81000005]
    assert door.sent[1][14:18] == bytes.fromhex("81000003")


# --- patience ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rc", [0x922, 0x908, 0x90A, 0x920])
def test_it_tries_again(rc: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(chip_module.time, "sleep", pauses.append)
    door = Script(answer(rc=rc), answer(rc=rc), answer(b"\0\1x"))
    chip = Chip(door)
    assert chip.send(c.GetRandom(1)).random_bytes == b"x"
    assert door.sent == [door.sent[0]] * 3
    assert chip.commands == 3
    assert pauses == [0.002, 0.004]


def test_it_does_not_try_for_ever() -> None:
    door = Script(answer(rc=0x922))
    with pytest.raises(DeviceError, match="busy") as e:
        Chip(door, patience=0.05).send(c.GetRandom(1))
    assert e.value.code == "chip-busy"
    assert 2 < len(door.sent) < 10


# --- Names ------------------------------------------------------------------------------------


def test_names_are_learned_or_asked_for(chip: Chip) -> None:
    handle, public, name = primary(chip)
    before = chip.commands
    assert chip.name_of(handle) == name == name_of_public(public)
    assert chip.name_of(RH.OWNER) == handle_name(RH.OWNER)
    assert chip.name_of(0x02000000) == handle_name(0x02000000)
    assert chip.name_of(16) == handle_name(16)
    assert chip.commands == before
    chip.forget(handle)
    assert chip.name_of(handle) == name
    assert chip.commands == before + 1
    chip.flush(handle)


def test_names_of_indices_follow_their_writing(chip: Chip) -> None:
    chip.send(c.NV_DefineSpace(RH.OWNER, b"", INDEX))
    try:
        assert chip.name_of(INDEX.nv_index) == name_of_nv(INDEX)
        chip.send(c.NV_Write(INDEX.nv_index, INDEX.nv_index, b"12345678", 0))
        written = INDEX.replace(attributes=INDEX.attributes | NvAttributes.WRITTEN)
        assert chip.name_of(INDEX.nv_index) == name_of_nv(written)
    finally:
        chip.send(c.NV_UndefineSpace(RH.OWNER, INDEX.nv_index))
    with pytest.raises(ChipRefusedError):
        chip.name_of(INDEX.nv_index)


def test_a_pinned_name_is_what_authorizations_cover(chip: Chip) -> None:
    handle, _, _ = primary(chip)
    key = key_under(chip, handle, SIGNING, b"pin")
    session = start_hmac(chip)
    session.auth_value = b"pin"
    chip.send(sign(key), session)
    chip.pin(key, b"\0\x0b" + b"?" * 32)
    with pytest.raises(ChipRefusedError) as e:
        chip.send(sign(key), session)
    assert e.value.rc == 0x9A2


def _forged_name(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("what", ["ReadPublic", "NV_ReadPublic", "LoadExternal"])
def test_a_name_that_is_not_that_of_the_public_area(both: Both, what: str) -> None:
    chip, door = both
    handle, public, _ = primary(chip)
    chip.send(c.NV_DefineSpace(RH.OWNER, b"", INDEX))
    external = public.replace(
        attributes=public.attributes
        & ~(ObjectAttributes.FIXED_TPM | ObjectAttributes.FIXED_PARENT)
        & ~ObjectAttributes.SENSITIVE_DATA_ORIGIN
        & ~ObjectAttributes.RESTRICTED,
        parameters=SIGNING.replace(parameters=public.parameters).parameters,
    )
    command = {
        "ReadPublic": c.ReadPublic(handle),
        "NV_ReadPublic": c.NV_ReadPublic(INDEX.nv_index),
        "LoadExternal": c.LoadExternal(None, _unrestricted(external), RH.NULL),
    }[what]
    try:
        chip.send(command)
        door.change_response = _forge_name_of(what)
        with pytest.raises(VerificationError, match="is not that of its public area"):
            chip.send(command)
    finally:
        door.change_response = lambda data: data
        chip.send(c.NV_UndefineSpace(RH.OWNER, INDEX.nv_index))


def _unrestricted(public: object) -> object:
    from tpmhsm.wire.public import EccParms, Public
    from tpmhsm.wire.structures import NULL_SYM, AsymScheme, KdfScheme

    assert isinstance(public, Public)
    scheme, kdf = AsymScheme(ALG.NULL), KdfScheme(ALG.NULL)
    return public.replace(parameters=EccParms(NULL_SYM, scheme, 3, kdf))


def _forge_name_of(what: str):  # type: ignore[no-untyped-def]
    """ReadPublic has a qualified Name after the Name; the others end with the Name."""
    last = 36 + 1 if what == "ReadPublic" else 1

    def forge(data: bytes) -> bytes:
        return data[:-last] + bytes([data[-last] ^ 1]) + data[len(data) - last + 1 :]

    return forge


# --- answers that make no sense ---------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.booleans(), st.booleans())
def test_any_answer_is_understood_or_an_error_of_ours(
    body: bytes, sessions: bool, framed: bool
) -> None:
    tag = 0x8002 if sessions else 0x8001
    door = Script(answer(body, tag=tag) if framed else body)
    for command in (c.GetRandom(4), sign(0x80000000), c.ReadClock(), c.ReadPublic(1), c.Clear(1)):
        with_error = Chip(door, patience=0)
        try:
            with_error.send(command)
        except TpmHsmError:
            continue


@pytest.mark.parametrize(
    "data",
    [b"", answer(b"\0\2x"), answer(b"\0\1xx"), answer(b"\0\1x") + b"x", answer(b"", tag=0x8002)],
)
def test_answers_that_make_no_sense(data: bytes) -> None:
    with pytest.raises(DeviceError, match="the chip's answer to GetRandom makes no sense"):
        Chip(Script(data)).send(c.GetRandom(1))


def test_a_password_needs_no_hmac_in_the_answer() -> None:
    signature = encode(Signature(ALG.ECDSA, EccSignature(ALG.SHA256, b"r", b"s")))
    body = struct.pack(">I", len(signature)) + signature
    for auth in ((), (Password(),)):
        good = Chip(Script(answer(body + bytes.fromhex("0000010000"), tag=0x8002)))
        good.send(sign(0x80000000), *auth)
        bad = Chip(Script(answer(body + bytes.fromhex("00000100014d"), tag=0x8002)))
        with pytest.raises(VerificationError):
            bad.send(sign(0x80000000), *auth)


def test_values_that_fit_no_command(chip: Chip) -> None:
    before = chip.commands
    with pytest.raises(UsageError):
        chip.send(c.GetRandom(1 << 20))
    assert chip.commands == before


def test_codes_of_a_resource_manager() -> None:
    with pytest.raises(ChipRefusedError, match="on the way to it"):
        Chip(Script(answer(rc=0xB0143))).send(c.GetRandom(1))
    assert CC.GetRandom == 0x17B
    assert STORAGE.unique == EccPoint(b"", b"")
