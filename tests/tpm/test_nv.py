"""NV indices: what may be written by whom, and counters that never go back."""

from __future__ import annotations

import hashlib
import os

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tpmhsm.attest.public_keys import public_key_of
from tpmhsm.errors import (
    ChipRefusedError,
    DeviceError,
    NotFoundError,
    UsageError,
    VerificationError,
)
from tpmhsm.tpm import nv, objects
from tpmhsm.tpm.sessions import start_policy
from tpmhsm.wire.attest import Attest, NvCertifyInfo
from tpmhsm.wire.codec import decode
from tpmhsm.wire.commands import NV_Write, PolicyCommandCode
from tpmhsm.wire.constants import ALG, CC, RH
from tpmhsm.wire.constants import NvAttributes as Attribute
from tpmhsm.wire.names import name_of_nv
from tpmhsm.wire.structures import NvPublic, Signature

FIRST = nv.FIRST_INDEX


def policy_for(code: CC) -> bytes:
    """PolicyCommandCode alone (Part 3, section 23.11)."""
    message = bytes(32) + CC.PolicyCommandCode.to_bytes(4, "big") + code.to_bytes(4, "big")
    return hashlib.sha256(message).digest()


def allowed(chip, code: CC):
    session = start_policy(chip)
    session.last = True
    chip.send(PolicyCommandCode(session.handle, code))
    return session


def test_an_ordinary_index(chip):
    index = nv.free_index(chip)
    assert index == FIRST
    made = nv.define_ordinary(chip, index, 74, policy_for(CC.NV_Write))
    assert not made.written
    assert not made.is_counter
    assert made.public.attributes == 0x02060008
    with pytest.raises(ChipRefusedError) as e:
        nv.read(chip, index)
    assert e.value.rc == 0x14A
    data = os.urandom(74)
    nv.write(chip, index, data, allowed(chip, CC.NV_Write))
    after = nv.read_public(chip, index)
    assert after.written
    assert after.name != made.name
    assert after.name == name_of_nv(made.public.replace(attributes=0x22060008))
    assert nv.read(chip, index) == data
    assert nv.read(chip, index, 10, 64) == data[64:]
    nv.undefine(chip, index)
    with pytest.raises(NotFoundError, match="no NV index 0x01800000"):
        nv.read(chip, index)
    with pytest.raises(NotFoundError):
        nv.undefine(chip, index)


def test_nobody_writes_without_the_policy(chip):
    made = nv.define_ordinary(chip, FIRST, 8, policy_for(CC.NV_Write))
    with pytest.raises(ChipRefusedError) as e:
        nv.write(chip, FIRST, bytes(8))
    assert e.value.rc == 0x12F
    with pytest.raises(ChipRefusedError) as e:
        chip.send(NV_Write(RH.OWNER, made.index, bytes(8), 0))
    assert e.value.rc == 0x149


def test_a_large_index_is_read_in_parts(chip):
    attributes = Attribute.AUTHWRITE | Attribute.OWNERREAD | Attribute.NO_DA
    nv.define(chip, NvPublic(FIRST, ALG.SHA256, attributes, b"", 2048))
    data = os.urandom(2048)
    with pytest.raises(UsageError, match="1024 bytes at once"):
        nv.write(chip, FIRST, data)
    nv.write(chip, FIRST, data[:1024])
    nv.write(chip, FIRST, data[1024:], offset=1024)
    assert nv.read(chip, FIRST) == data


def test_a_counter(chip):
    made = nv.define_counter(chip, FIRST, policy_for(CC.NV_Increment))
    assert made.is_counter
    assert made.public.attributes == 0x02060018
    with pytest.raises(ChipRefusedError):
        nv.increment(chip, FIRST)
    nv.increment(chip, FIRST, allowed(chip, CC.NV_Increment))
    value = nv.read_counter(chip, FIRST)
    nv.increment(chip, FIRST, allowed(chip, CC.NV_Increment))
    assert nv.read_counter(chip, FIRST) == value + 1


def test_an_ordinary_index_is_no_counter(chip):
    attributes = Attribute.AUTHWRITE | Attribute.AUTHREAD | Attribute.NO_DA
    nv.define(chip, NvPublic(FIRST, ALG.SHA256, attributes, b"", 8))
    nv.write(chip, FIRST, bytes(8))
    with pytest.raises(VerificationError, match="no counter"):
        nv.read_counter(chip, FIRST)


def test_a_counter_made_anew_goes_on_above_its_old_value(chip):
    policy = policy_for(CC.NV_Increment)
    nv.define_counter(chip, FIRST, policy)
    for _ in range(3):
        nv.increment(chip, FIRST, allowed(chip, CC.NV_Increment))
    old = nv.read_counter(chip, FIRST)
    nv.undefine(chip, FIRST)
    nv.define_counter(chip, FIRST, policy)
    nv.increment(chip, FIRST, allowed(chip, CC.NV_Increment))
    assert nv.read_counter(chip, FIRST) > old


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["increment", "make", "remove", "probe"]), max_size=8))
def test_the_next_counter_value_is_foretold(chip, acts):
    """Whatever was done to other counters before."""
    other = FIRST + 0x100
    policy = policy_for(CC.NV_Increment)
    exists = other in nv.indices(chip)
    for act in acts:
        if act == "probe":
            nv.next_counter_value(chip)
        elif act == "make" and not exists:
            nv.define_counter(chip, other, policy)
            exists = True
        elif act == "remove" and exists:
            nv.undefine(chip, other)
            exists = False
        elif act == "increment" and exists:
            nv.increment(chip, other, allowed(chip, CC.NV_Increment))
    foretold = nv.next_counter_value(chip)
    nv.define_counter(chip, FIRST, policy)
    nv.increment(chip, FIRST, allowed(chip, CC.NV_Increment))
    assert nv.read_counter(chip, FIRST) == foretold
    nv.undefine(chip, FIRST)


def test_next_counter_value_leaves_nothing(chip):
    before = nv.indices(chip)
    first = nv.next_counter_value(chip)
    assert nv.next_counter_value(chip) == first + 1
    assert nv.indices(chip) == before


def test_free_indices(chip):
    nv.define_ordinary(chip, FIRST, 8, bytes(32))
    assert nv.free_index(chip) == FIRST + 1
    assert nv.free_index(chip, after=FIRST + 1) == FIRST + 2
    with pytest.raises(DeviceError, match="no NV index is free"):
        nv.free_index(chip, after=nv.LAST_INDEX)


def test_taken_and_impossible_indices(chip):
    nv.define_ordinary(chip, FIRST, 8, bytes(32))
    with pytest.raises(ChipRefusedError, match="taken") as e:
        nv.define_ordinary(chip, FIRST, 8, bytes(32))
    assert e.value.rc == 0x14C
    written = nv.ordinary_public(FIRST + 1, 8, bytes(32))
    with pytest.raises(UsageError, match="not written before"):
        nv.define(chip, written.replace(attributes=written.attributes | Attribute.WRITTEN))
    with pytest.raises(UsageError, match="no NV index"):
        nv.read_public(chip, 0x81000001)


def test_a_lying_name_is_caught(chip, monkeypatch):
    nv.define_ordinary(chip, FIRST, 8, bytes(32))
    nv.define_ordinary(chip, FIRST + 1, 8, bytes(32))
    send = chip._door.send

    def other_index(command: bytes) -> bytes:
        wanted, other = FIRST.to_bytes(4, "big"), (FIRST + 1).to_bytes(4, "big")
        return send(command.replace(wanted, other))

    monkeypatch.setattr(chip._door, "send", other_index)
    with pytest.raises(VerificationError, match="wrong Name"):
        nv.read_public(chip, FIRST)


def test_content_is_certified(chip):
    ak = objects.attestation_key(chip)
    nv.define_ordinary(chip, FIRST, 74, policy_for(CC.NV_Write))
    data = os.urandom(74)
    nv.write(chip, FIRST, data, allowed(chip, CC.NV_Write))
    attestation = nv.certify(chip, ak, FIRST, b"nonce")
    signature = objects.plain_signature(decode(Signature, attestation.signature))
    key = public_key_of(ak.public)
    key.verify(signature, attestation.attest, ec.ECDSA(hashes.SHA256()))
    attest = decode(Attest, attestation.attest)
    assert isinstance(attest.attested, NvCertifyInfo)
    assert attest.extra_data == b"nonce"
    assert attest.attested.contents == data
    assert attest.attested.index_name == nv.read_public(chip, FIRST).name


def test_an_unwritten_index_is_not_certified(chip):
    ak = objects.attestation_key(chip)
    nv.define_ordinary(chip, FIRST, 74, policy_for(CC.NV_Write))
    with pytest.raises(ChipRefusedError) as e:
        nv.certify(chip, ak, FIRST, b"nonce")
    assert e.value.rc == 0x14A
