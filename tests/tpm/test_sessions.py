"""Sessions: every combination works on a chip, and whoever stands between is found out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.conversation import bare_swtpm, clean_chip, key_under, primary
from tests.support.swtpm import RecordingDoor
from tests.support.templates import DECRYPTING_RSA, SIGNING, STORAGE, STORAGE_RSA

from tpmhsm.errors import ChipRefusedError, DeviceError, UsageError, VerificationError
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.salts import SaltKey
from tpmhsm.tpm.sessions import (
    Bind,
    HmacSession,
    Password,
    start_hmac,
    start_policy,
    start_trial,
)
from tpmhsm.wire import commands as c
from tpmhsm.wire.cfb import cfb_decrypt, cfb_encrypt
from tpmhsm.wire.constants import ALG, CC, RH, NvAttributes, ObjectAttributes
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import (
    NULL_HASHCHECK,
    NULL_SCHEME,
    EccPoint,
    KeyedHashScheme,
    NvPublic,
    SensitiveCreate,
)

Both = tuple[Chip, RecordingDoor]
NV = NvPublic(0x01800010, ALG.SHA256, 0x02060006, b"", 16)
SECRET = b"a secret of the caller's"


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


@pytest.fixture
def index(both: Both) -> Iterator[int]:
    chip, door = both
    chip.send(c.NV_DefineSpace(RH.OWNER, b"index pin", NV))
    yield NV.nv_index
    door.change_command = door.change_response = lambda data: data
    Chip(door).send(c.NV_UndefineSpace(RH.OWNER, NV.nv_index))


def sign(handle: int) -> c.Sign:
    return c.Sign(handle, b"d" * 32, NULL_SCHEME, NULL_HASHCHECK)


def salt_key(chip: Chip, public: Public = STORAGE) -> SaltKey:
    return SaltKey(*primary(chip, public))


def policy_digest(chip: Chip, *commands: object) -> bytes:
    trial = start_trial(chip)
    for make in commands:
        chip.send(make(trial.handle))  # type: ignore[operator]
    digest = chip.send(c.PolicyGetDigest(trial.handle)).policy_digest
    chip.flush(trial.handle)
    return digest


def guarded(digest: bytes) -> Public:
    attributes = SIGNING.attributes & ~ObjectAttributes.USER_WITH_AUTH
    return SIGNING.replace(
        attributes=attributes | ObjectAttributes.ADMIN_WITH_POLICY, auth_policy=digest
    )


# --- HMAC sessions ----------------------------------------------------------------------------


@pytest.mark.parametrize("encrypt", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("bound", [None, b"", b"owner"], ids=["unbound", "bound", "bound-secret"])
@pytest.mark.parametrize("salted", [None, STORAGE, STORAGE_RSA], ids=["unsalted", "ecc", "rsa"])
def test_every_kind_of_hmac_session(
    chip: Chip, salted: Public | None, bound: bytes | None, encrypt: bool
) -> None:
    if encrypt and salted is None and bound is None:
        with pytest.raises(UsageError, match="salted or bound"):
            start_hmac(chip, encrypt=True)
        return
    key = salt_key(chip, salted) if salted else None
    if bound:
        chip.send(c.HierarchyChangeAuth(RH.OWNER, bound))
    try:
        bind = Bind(RH.OWNER, bound) if bound is not None else None
        session = start_hmac(chip, salt_key=key, bind=bind, encrypt=encrypt)
        session.auth_value = bound or b""
        for _ in range(3):  # nonces roll
            made = chip.send(
                c.CreatePrimary(RH.OWNER, SensitiveCreate(b"pin\0"), SIGNING, b"outside", ()),
                session,
            )
            session.auth_value = b"pin"
            assert chip.send(sign(made.object_handle), session).signature.sig_alg == ALG.ECDSA
            session.auth_value = b"nip"
            with pytest.raises(ChipRefusedError) as e:
                chip.send(sign(made.object_handle), session)
            assert e.value.code == "chip-auth"
            chip.flush(made.object_handle)
            session.auth_value = bound or b""
    finally:
        if bound:
            chip.send(c.HierarchyChangeAuth(RH.OWNER, b""), Password(bound))


def test_what_is_encrypted_is_not_on_the_wire(both: Both, index: int) -> None:
    chip, door = both
    session = start_hmac(chip, salt_key=salt_key(chip), encrypt=True)
    session.auth_value = b"index pin"
    content = b"sixteen octets!!"
    chip.send(c.NV_Write(index, index, content, 0), session)
    assert content not in door.commands[-1]
    assert b"index pin" not in door.commands[-1]
    assert chip.send(c.NV_Read(index, index, 16, 0), session).data == content
    assert content not in door.responses[-1]


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 100])
def test_an_extra_session_encrypts(both: Both, size: int) -> None:
    """The entity is authorized by a password, the parameters are encrypted by a session."""
    chip, door = both
    key = salt_key(chip)
    session = start_hmac(chip, salt_key=key, encrypt=True)
    assert len(chip.send(c.GetRandom(16), session).random_bytes) == 16
    sealed = Public(
        ALG.KEYEDHASH,
        ALG.SHA256,
        ObjectAttributes.USER_WITH_AUTH
        | ObjectAttributes.FIXED_TPM
        | ObjectAttributes.FIXED_PARENT
        | ObjectAttributes.NO_DA,
        b"",
        _keyed_hash(),
        b"",
    )
    data = (SECRET * 5)[: size or 1]
    made = chip.send(
        c.Create(key.handle, SensitiveCreate(b"pw", data), sealed, b"", ()), Password(), session
    )
    assert size < 15 or data not in door.commands[-1]
    item = chip.send(c.Load(key.handle, made.out_private, made.out_public)).object_handle
    assert chip.send(c.Unseal(item), Password(b"pw"), session).out_data == data
    assert size < 15 or data not in door.responses[-1]


def _keyed_hash() -> object:
    from tpmhsm.wire.public import KeyedHashParms

    return KeyedHashParms(KeyedHashScheme(ALG.NULL))


def test_two_sessions_where_the_second_encrypts(chip: Chip) -> None:
    """The first session's HMAC then covers the second's nonce."""
    key = salt_key(chip)
    first = start_hmac(chip)
    second = start_hmac(chip, salt_key=key, encrypt=True)
    for _ in range(2):
        made = chip.send(
            c.Create(key.handle, SensitiveCreate(b"pw"), SIGNING, b"", ()), first, second
        )
        handle = chip.send(
            c.Load(key.handle, made.out_private, made.out_public), first, second
        ).object_handle
        chip.flush(handle)


def test_two_entities_two_sessions(chip: Chip) -> None:
    parent = salt_key(chip)
    one = key_under(chip, parent.handle, SIGNING, b"one")
    a, b = start_hmac(chip, salt_key=parent, encrypt=True), start_hmac(chip)
    command = c.GetTime(RH.ENDORSEMENT, one, b"q", NULL_SCHEME)
    b.auth_value = b"one"
    chip.send(command, a, b)
    chip.send(command, Password(), b)
    b.auth_value = b"two"
    with pytest.raises(ChipRefusedError) as e:
        chip.send(command, a, b)
    assert e.value.rc == 0xAA2


def test_last_ends_the_session(chip: Chip) -> None:
    session = start_hmac(chip, salt_key=salt_key(chip))
    session.last = True
    primary_with(chip, session)
    assert session.ended
    assert session.handle not in chip.created
    with pytest.raises(ChipRefusedError, match="not loaded"):
        primary_with(chip, session)


def test_a_refused_command_does_not_end_it(chip: Chip) -> None:
    session = start_policy(chip)
    session.last = True
    handle, _, _ = primary(chip, SIGNING)
    with pytest.raises(ChipRefusedError):
        chip.send(sign(handle), session)
    assert session.handle in chip.created


def primary_with(chip: Chip, session: HmacSession) -> int:
    command = c.CreatePrimary(RH.OWNER, SensitiveCreate(), SIGNING, b"", ())
    return chip.send(command, session).object_handle


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("value", [b"", b"new", b"zeros\0\0"])
def test_changing_the_value_that_the_session_proves(chip: Chip, bound: bool, value: bytes) -> None:
    session = start_hmac(chip, bind=Bind(RH.OWNER) if bound else None)
    chip.send(c.HierarchyChangeAuth(RH.OWNER, value), session)
    session.auth_value = value
    chip.send(c.HierarchyChangeAuth(RH.OWNER, b""), session)


def test_clear_under_a_session(chip: Chip) -> None:
    chip.send(c.HierarchyChangeAuth(RH.LOCKOUT, b"lock"))
    session = start_hmac(chip)
    session.auth_value = b"lock"
    chip.send(c.Clear(RH.LOCKOUT), session)
    session.auth_value = b""
    chip.send(c.DictionaryAttackLockReset(RH.LOCKOUT), session)


def test_changing_an_index_value(chip: Chip) -> None:
    """NV_ChangeAuth needs a policy; with PolicyAuthValue the HMAC changes with the value."""
    steps = (
        c.PolicyAuthValue,
        lambda s: c.PolicyCommandCode(s, CC.NV_ChangeAuth),
    )
    digest = policy_digest(chip, *steps)
    public = NV.replace(auth_policy=digest)
    chip.send(c.NV_DefineSpace(RH.OWNER, b"old", public))
    try:
        session = start_policy(chip, salt_key=salt_key(chip), encrypt=True)
        for old, new in ((b"old", b"new"), (b"new", b"newer\0")):
            for step in steps:
                chip.send(step(session.handle))
            session.with_value = True
            session.auth_value = old
            chip.send(c.NV_ChangeAuth(public.nv_index, new), session)
        chip.send(c.NV_Write(public.nv_index, public.nv_index, b"1", 0), Password(b"newer"))
    finally:
        chip.send(c.NV_UndefineSpace(RH.OWNER, public.nv_index))


# --- policy sessions --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "salted", "bound", "encrypted"])
def test_policy_sessions_sign(chip: Chip, kind: str) -> None:
    digest = policy_digest(chip, lambda s: c.PolicyCommandCode(s, CC.Sign))
    key = salt_key(chip)
    handle = key_under(chip, key.handle, guarded(digest))
    session = start_policy(
        chip,
        salt_key=key if kind in ("salted", "encrypted") else None,
        bind=Bind(RH.OWNER) if kind == "bound" else None,
        encrypt=kind == "encrypted",
    )
    for _ in range(2):
        chip.send(c.PolicyCommandCode(session.handle, CC.Sign))
        assert chip.send(sign(handle), session).signature.sig_alg == ALG.ECDSA
    with pytest.raises(ChipRefusedError) as e:
        chip.send(sign(handle), session)
    assert e.value.rc == 0x99D
    with pytest.raises(ChipRefusedError) as e:
        chip.send(sign(handle))
    assert e.value.rc == 0x12F


def test_an_unkeyed_policy_session_has_an_empty_hmac(both: Both) -> None:
    chip, door = both
    digest = policy_digest(chip, lambda s: c.PolicyCommandCode(s, CC.Sign))
    handle, _, _ = primary(chip, guarded(digest))
    session = start_policy(chip)
    chip.send(c.PolicyCommandCode(session.handle, CC.Sign))
    chip.send(sign(handle), session)
    area = door.commands[-1][18 : 18 + 27]
    assert area[:6] == session.handle.to_bytes(4, "big") + b"\0\x10"
    assert area[22:27] == b"\x01\0\0" + b"\0\x20"  # continueSession, no HMAC, then the digest


@pytest.mark.parametrize("salted", [False, True])
@pytest.mark.parametrize("plain", [False, True], ids=["auth-value", "password"])
def test_policies_with_a_pin(both: Both, salted: bool, plain: bool) -> None:
    chip, door = both
    step = c.PolicyPassword if plain else c.PolicyAuthValue
    digest = policy_digest(chip, c.PolicyAuthValue)
    key = salt_key(chip)
    handle = key_under(chip, key.handle, guarded(digest), b"the pin")
    session = start_policy(chip, salt_key=key if salted else None, encrypt=salted and not plain)
    session.with_password, session.with_value = plain, not plain
    for value, code in ((b"the pin", ""), (b"another", "chip-auth"), (b"", "chip-auth")):
        chip.send(c.PolicyRestart(session.handle))
        chip.send(step(session.handle))
        session.auth_value = value
        if not code:
            chip.send(sign(handle), session)
            assert (value in door.commands[-1]) == plain
            continue
        with pytest.raises(ChipRefusedError) as e:
            chip.send(sign(handle), session)
        assert e.value.code == code


def test_policy_session_beside_a_session_that_encrypts(chip: Chip) -> None:
    digest = policy_digest(chip, lambda s: c.PolicyCommandCode(s, CC.Sign))
    key = salt_key(chip)
    handle = key_under(chip, key.handle, guarded(digest))
    session = start_policy(chip)
    chip.send(c.PolicyCommandCode(session.handle, CC.Sign))
    other = start_hmac(chip, salt_key=key, encrypt=True)
    assert chip.send(sign(handle), session, other).signature.sig_alg == ALG.ECDSA


def test_a_trial_authorizes_nothing(chip: Chip) -> None:
    digest = policy_digest(chip, lambda s: c.PolicyCommandCode(s, CC.Sign))
    assert (
        digest
        == hashlib.sha256(
            bytes(32) + CC.PolicyCommandCode.to_bytes(4, "big") + CC.Sign.to_bytes(4, "big")
        ).digest()
    )
    handle, _, _ = primary(chip, guarded(digest))
    trial = start_trial(chip)
    chip.send(c.PolicyCommandCode(trial.handle, CC.Sign))
    with pytest.raises(ChipRefusedError):
        chip.send(sign(handle), trial)


def test_nonces_have_sixteen_octets(both: Both) -> None:
    chip, door = both
    session = start_policy(chip)
    assert len(session.nonce_tpm) == 16
    assert door.commands[-1][18:20] == b"\0\x10"


def test_a_nonce_of_another_length_is_refused(both: Both) -> None:
    chip, door = both

    def shorten(data: bytes) -> bytes:
        size = (len(data) - 1).to_bytes(4, "big")
        return data[:2] + size + data[6:14] + b"\0\x0f" + data[16:-1]

    door.change_response = shorten
    with pytest.raises(DeviceError, match="15 octets"):
        start_policy(chip)


# --- somebody in between ----------------------------------------------------------------------


def test_the_salt_key_is_pinned_by_its_name(chip: Chip) -> None:
    handle, public, name = primary(chip)
    assert isinstance(public.unique, EccPoint)
    with pytest.raises(VerificationError, match="not the one that is known"):
        SaltKey(handle, public.replace(unique=EccPoint(public.unique.y, public.unique.x)), name)
    with pytest.raises(VerificationError):
        SaltKey(handle, public, name[:-1] + bytes([name[-1] ^ 1]))
    with pytest.raises(VerificationError):
        SaltKey(handle, public, b"")


def test_only_decryption_keys_salt(chip: Chip) -> None:
    with pytest.raises(UsageError, match="decryption key"):
        salt_key(chip, SIGNING)


@pytest.mark.parametrize("public", [STORAGE, DECRYPTING_RSA], ids=["ecc", "rsa"])
def test_salts_differ(chip: Chip, public: Public) -> None:
    key = salt_key(chip, public)
    (one, a), (two, b) = key.salt(), key.salt()
    assert one != two
    assert a != b
    assert len(one) == len(two) == 32


def test_another_key_at_the_handle_is_found_out(chip: Chip) -> None:
    """The session starts, because the salt is only a number; but nothing it says is believed."""
    known = salt_key(chip)
    other, _, _ = primary(chip, STORAGE.replace(unique=EccPoint(b"\x01" * 32, b"")))
    with pytest.raises(ChipRefusedError):
        session = start_hmac(chip, salt_key=SaltKey(other, known.public, known.name))
        primary_with(chip, session)


@pytest.mark.parametrize("salted", [False, True])
def test_any_changed_bit_of_an_answer_is_noticed(both: Both, salted: bool, index: int) -> None:
    chip, door = both
    session = start_hmac(chip, salt_key=salt_key(chip) if salted else None, encrypt=salted)
    session.auth_value = b"index pin"
    chip.send(c.NV_Write(index, index, b"sixteen octets!!", 0), session)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(8 * 10, 8 * 80 - 1))
    def check(bit: int) -> None:
        nonce = session.nonce_tpm

        def flip(data: bytes) -> bytes:
            if data[:2] != b"\x80\x02":
                return data
            changed = bytearray(data)
            changed[bit // 8 % len(data)] ^= 1 << bit % 8
            return bytes(changed)

        door.change_response = flip
        chip_nonce = None
        try:
            with pytest.raises((VerificationError, DeviceError, ChipRefusedError)):
                chip.send(c.NV_Read(index, index, 16, 0), session)
        finally:
            door.change_response = lambda data: data
            chip_nonce = _true_nonce(door.responses[-1], bit)
        assert nonce != chip_nonce
        session.nonce_tpm = chip_nonce  # go on from where the chip is

    check()
    assert chip.send(c.NV_Read(index, index, 16, 0), session).data == b"sixteen octets!!"


def _true_nonce(changed: bytes, bit: int) -> bytes:
    data = bytearray(changed)
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    end = 14 + int.from_bytes(data[10:14], "big")
    return bytes(data[end + 2 : end + 18])


def test_a_changed_command_is_refused(both: Both, index: int) -> None:
    chip, door = both
    session = start_hmac(chip, salt_key=salt_key(chip))
    session.auth_value = b"index pin"

    def other_content(data: bytes) -> bytes:
        return data.replace(b"sixteen octets!!", b"sixteen octets!?")

    door.change_command = other_content
    with pytest.raises(ChipRefusedError) as e:
        chip.send(c.NV_Write(index, index, b"sixteen octets!!", 0), session)
    assert e.value.code == "chip-auth"


def test_a_replayed_command_is_refused(both: Both, index: int) -> None:
    chip, door = both
    session = start_hmac(chip, salt_key=salt_key(chip))
    session.auth_value = b"index pin"
    chip.send(c.NV_Write(index, index, b"sixteen octets!!", 0), session)
    answer = door.send(door.commands[-1])
    assert int.from_bytes(answer[6:10], "big") & 0xFF == 0xA2


def test_an_answer_without_hmac_is_noticed(both: Both, index: int) -> None:
    chip, door = both
    session = start_hmac(chip, salt_key=salt_key(chip))
    session.auth_value = b"index pin"

    def strip(data: bytes) -> bytes:
        if data[:2] != b"\x80\x02":
            return data
        return data[:2] + (len(data) - 32).to_bytes(4, "big") + data[6:-34] + b"\0\0"

    door.change_response = strip
    with pytest.raises(VerificationError, match="HMAC"):
        chip.send(c.NV_Write(index, index, b"sixteen octets!!", 0), session)


# --- the cipher -------------------------------------------------------------------------------


def test_cfb_known_answer() -> None:
    """SP 800-38A, F.3.13 (CFB128-AES128)."""
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    iv = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
    plain = bytes.fromhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51")
    secret = bytes.fromhex("3b3fd92eb72dad20333449f8e83cfb4ac8a64537a0b3a93fcde3cdad9f1ce58b")
    assert cfb_encrypt(key, iv, plain) == secret
    assert cfb_decrypt(key, iv, secret) == plain


@given(st.binary(min_size=16, max_size=16), st.binary(max_size=70))
def test_cfb_round_trip(key: bytes, data: bytes) -> None:
    secret = cfb_encrypt(key, key, data)
    assert len(secret) == len(data)
    assert cfb_decrypt(key, key, secret) == data
    assert NvAttributes.WRITTEN == 1 << 29
