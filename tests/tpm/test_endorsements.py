"""Endorsement keys and their certificates, wherever and however a chip keeps them."""

from __future__ import annotations

from hashlib import sha256, sha384

import pytest

from tpmhsm.attest.ek_headers import cut_certificates
from tpmhsm.tpm import evidence, nv
from tpmhsm.tpm.ek_templates import BRANCHES, CHAIN, TEMPLATES
from tpmhsm.wire.codec import encode
from tpmhsm.wire.commands import EvictControl
from tpmhsm.wire.constants import HT, RH
from tpmhsm.wire.names import name_of_public

FIRST = b"\x30\x82\x01\x00" + bytes(range(256))
SECOND = b"\x30\x82\x02\x00" + bytes(512)
STORED = b"\x10\x01\x00" + (len(FIRST) + 2).to_bytes(2, "big") + b"\x10\x02"

RSA_4096 = 0x01C0001E
"""Chips take a minute for it."""


@pytest.mark.parametrize(
    "data",
    [
        FIRST,
        FIRST + bytes(900),
        FIRST + b"\xff" * 900,
        STORED + FIRST,
        STORED + FIRST + b"\xff" * 90,
        b"\x10\x02" + FIRST,
        len(FIRST).to_bytes(2, "big") + FIRST,
        len(FIRST).to_bytes(4, "little") + FIRST + bytes(7),
    ],
)
def test_one_certificate_cleanly_cut(data):
    assert cut_certificates(data) == (FIRST,)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x30", FIRST[:-1], b"\x10\x01\x01\x01\x04" + FIRST, STORED + FIRST[:-1], b"\xff" * 99],
)
def test_no_certificate(data):
    assert cut_certificates(data) == ()


def test_a_chain_behind_it():
    assert cut_certificates(FIRST + SECOND + FIRST + bytes(40)) == (FIRST, SECOND, FIRST)


def test_all_keys_with_their_certificates(chip):
    before = chip.commands
    found = evidence.endorsements(chip)
    assert [one.nv_index for one in found] == [0x01C00002, 0x01C00016]
    # the indices; of each its public area, TPM_PT_NV_BUFFER_MAX, and one or two reads
    assert chip.commands - before <= 9
    for one in found:
        made = evidence._primary(chip, TEMPLATES[one.nv_index])
        assert encode(made) == one.public
    assert chip.leaks() == []


def test_a_chain_that_the_chip_keeps(chip, monkeypatch):
    real, pieces = nv.read, {CHAIN[0]: (FIRST + SECOND)[:300], CHAIN[1]: (FIRST + SECOND)[300:]}
    monkeypatch.setattr(nv, "indices", lambda chip: [0x01C00016, *pieces])
    monkeypatch.setattr(nv, "read", lambda chip, at: pieces[at] if at in pieces else real(chip, at))
    (found,) = evidence.endorsements(chip)
    assert found.nv_index == 0x01C00016
    assert found.chain == (FIRST, SECOND)


def test_a_chip_that_keeps_none(chip, monkeypatch):
    monkeypatch.setattr(nv, "indices", lambda chip: [])
    (found,) = evidence.endorsements(chip)
    assert (found.certificate, found.nv_index, found.chain) == (None, None, ())


@pytest.mark.parametrize("index", [i for i in TEMPLATES if i != RSA_4096])
def test_each_template_s_key_is_found_again(chip, index):
    for handle in chip.handles(HT.PERSISTENT):
        chip.send(EvictControl(RH.OWNER, handle, handle))
    public = evidence._primary(chip, TEMPLATES[index])
    if public is None:
        pytest.skip(f"this chip makes no key of template 0x{index:08x}")
    loaded = evidence.load_endorsement(chip, public)
    assert loaded.name == name_of_public(public)
    chip.flush(loaded.handle)


def test_a_nonce_makes_another_key(chip, monkeypatch):
    monkeypatch.setattr(nv, "indices", lambda chip: [0x01C0000B])
    monkeypatch.setattr(nv, "read", lambda chip, at: b"nonce of the maker's")
    ours = evidence._template(chip, 0x01C0000A, nv.indices(chip))
    made = evidence._primary(chip, ours)
    assert made != evidence._primary(chip, TEMPLATES[0x01C0000A])
    assert evidence.load_endorsement(chip, made).public == made


def test_the_branches_of_the_high_range_are_those_of_its_policies():
    """TCG EK Credential Profile, B.6.5: PolicyB = OR(PolicyA, PolicyC)."""
    for policy, branches in BRANCHES.items():
        digest = {32: sha256, 48: sha384}[len(policy)]
        joined = bytes(len(policy)) + 0x171.to_bytes(4, "big") + b"".join(branches)
        assert digest(joined).digest() == policy
        secret = bytes(len(policy)) + 0x151.to_bytes(4, "big") + RH.ENDORSEMENT.to_bytes(4, "big")
        assert digest(digest(secret).digest()).digest() == branches[0]
