"""Every published vector of policies, recomputed with our code."""

from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tpmhsm.policy import steps
from tpmhsm.policy.ahash import a_hash, a_hash_preimage, live_preimage
from tpmhsm.policy.approver import approver_name, approver_public, check_signature
from tpmhsm.policy.ladder import Ladder, end_of
from tpmhsm.policy.people import Member, Threshold, ladders
from tpmhsm.policy.refs import policy_ref
from tpmhsm.policy.tree import (
    COUNTER_ATTRIBUTES,
    COUNTER_SIZE,
    ROSTER_ATTRIBUTES,
    ROSTER_SIZE,
    as_written,
    index_policy,
    roster_content,
)
from tpmhsm.wire.constants import CC
from tpmhsm.wire.names import cp_hash, name_of_nv
from tpmhsm.wire.structures import NvPublic

h = bytes.fromhex


def keys(vectors):
    return {a["id"]: load_pem_public_key(a["spki_pem"].encode()) for a in vectors["approvers"]}


def test_approvers(vectors):
    for a in vectors["approvers"]:
        key = load_pem_public_key(a["spki_pem"].encode())
        assert approver_public(key).hex() == a["tpmt_public"]
        assert approver_name(key).hex() == a["name"]


def test_policy_refs(vectors):
    for v in vectors["policy_refs"]:
        f = v["fields"]
        ref = policy_ref(f["purpose"], h(f["group"]), f["epoch"], f["ladder"], h(f["subject"]))
        assert ref.hex() == v["sha256"] == sha256(h(v["preimage"])).hexdigest()


MAKERS = {
    "TPM2_PolicyCommandCode": lambda i: steps.CommandCode(int(i["code"], 16)),
    "TPM2_PolicyAuthValue": lambda i: steps.AuthValue(),
    "TPM2_PolicyPassword": lambda i: steps.AuthValue(),
    "TPM2_PolicyNvWritten": lambda i: steps.NvWritten(bool(i["writtenSet"])),
    "TPM2_PolicyPCR": lambda i: steps.Pcr(h(i["tpml_pcr_selection"]), h(i["pcr_digest"])),
    "TPM2_PolicySecret": lambda i: steps.Secret(h(i["entity_name"]), h(i["policy_ref"])),
    "TPM2_PolicyNameHash": lambda i: steps.NameHash.of(*map(h, i["names"])),
    "TPM2_PolicyCounterTimer": lambda i: steps.CounterTimer(
        h(i["operandB"]), i["offset"], int(i["operation"], 16)
    ),
    "TPM2_PolicyDuplicationSelect": lambda i: steps.DuplicationSelect(
        h(i["new_parent_name"]), h(i["object_name"])
    ),
    "TPM2_PolicyOR": lambda i: steps.Or(tuple(map(h, i["branches"]))),
    "TPM2_PolicyNV": lambda i: steps.Nv(
        h(i["nv_name"]), h(i["operandB"]), i["offset"], int(i["operation"], 16)
    ),
    "TPM2_PolicyAuthorizeNV": lambda i: steps.AuthorizeNv(h(i["nv_name"])),
}


def test_steps(vectors):
    for v in vectors["steps"]:
        step = MAKERS[v["command"]](v["inputs"])
        assert step.extend(h(v["start"])).hex() == v["digest"], v["id"]


def test_signed(vectors):
    names = {a["id"]: h(a["name"]) for a in vectors["approvers"]}
    for v in vectors["signed"]:
        step = steps.Signed(names[v["approver"]], h(v["policy_ref"]))
        assert step.extend(h(v["start"])).hex() == v["digest"]


def a_ladder(vectors, v):
    names = {a["id"]: h(a["name"]) for a in vectors["approvers"]}
    return Ladder(v["m"], tuple(names[a] for a in v["approvers"]), h(v["policy_ref"]))


def test_ladders(vectors):
    for v in vectors["ladders"]:
        ladder, start = a_ladder(vectors, v), h(v["start"])
        states = ladder.states(start)
        assert ladder.digest(start).hex() == v["digest"]
        assert len(states) == v["states"]
        if "state_digests" in v:
            assert {f"{i},{c}": d.hex() for (i, c), d in states.items()} == v["state_digests"]


def test_joint_ladders(vectors):
    for v in vectors["joint_ladders"]:
        both = [a_ladder(vectors, part) for part in v["ladders"]]
        assert end_of(both[:1], h(v["start"])).hex() == v["after_first"]
        assert end_of(both, h(v["start"])).hex() == v["digest"]


def a_threshold(vectors, v):
    from tpmhsm.policy.approver import spki_of

    found = keys(vectors)
    return Threshold(v["m"], tuple(Member(a, spki_of(found[a])) for a in v["approvers"]))


def nv_of(v):
    return NvPublic(
        nv_index=int(v["index"], 16),
        name_alg=int(v["nameAlg"], 16),
        attributes=int(v["attributes"], 16),
        auth_policy=h(v["authPolicy"]),
        data_size=v["dataSize"],
    )


def test_nv_names(vectors):
    for v in vectors["worked_example"]["nv"]:
        index = nv_of(v)
        assert name_of_nv(index).hex() == v["name_unwritten"]
        assert int(as_written(index).attributes) == int(v["attributes_written"], 16)
        assert name_of_nv(as_written(index)).hex() == v["name_written"]


def test_worked_indices(vectors):
    example = vectors["worked_example"]
    group, rule = h(example["group"]), (a_threshold(vectors, example["custodians"]),)
    counter, roster = example["nv"][:2]
    epoch = index_policy(ladders(rule, "epoch", group), CC.NV_Increment)
    write = index_policy(ladders(rule, "roster", group), CC.NV_Write)
    assert epoch.hex() == counter["authPolicy"]
    assert write.hex() == roster["authPolicy"]
    assert int(counter["attributes"], 16) == COUNTER_ATTRIBUTES
    assert int(roster["attributes"], 16) == ROSTER_ATTRIBUTES
    assert (counter["dataSize"], roster["dataSize"]) == (COUNTER_SIZE, ROSTER_SIZE)


def test_worked_roster(vectors):
    """The example has each CommandCode after its ladder: the same steps in another order."""
    example = vectors["worked_example"]
    counter, roster_index = example["nv"][:2]
    epoch = example["epoch"].to_bytes(8, "big")
    prefix = steps.Nv(h(counter["name_written"]), epoch).extend(steps.START)
    assert prefix.hex() == example["roster"]["prefix_policy_nv"]
    group, rule = h(example["group"]), (a_threshold(vectors, example["officers"]),)
    end = end_of(ladders(rule, "sign", group, example["epoch"]), prefix)
    leaf = steps.CommandCode(CC.Sign).extend(end)
    assert leaf.hex() == example["roster"]["leaves"][0]["digest"]
    branches = steps.Or(tuple(h(v["digest"]) for v in example["roster"]["leaves"]))
    policy = branches.extend(steps.START)
    assert policy.hex() == example["roster"]["policy"]
    key = (steps.AuthorizeNv(h(roster_index["name_written"])), steps.CommandCode(CC.Sign))
    assert steps.digest_of(key, policy).hex() == example["keys"][1]["authPolicy"]


def test_roster_content_layout(vectors, monkeypatch):
    from tpmhsm.policy import tree
    from tpmhsm.policy.group import RosterDocument

    example = vectors["worked_example"]["roster"]
    monkeypatch.setattr(tree, "roster_policy", lambda group, roster: h(example["policy"]))
    monkeypatch.setattr(RosterDocument, "hash", h(example["document_sha256"]))
    rule = (a_threshold(vectors, vectors["worked_example"]["officers"]),)
    assert (
        roster_content(None, RosterDocument(bytes(32), 3, rule)).hex() == example["index_content"]
    )


def test_cp_hashes(vectors):
    for v in vectors["cphash"]:
        found = cp_hash(int(v["code"], 16), tuple(map(h, v["names"])), h(v["parameters"]))
        assert found.hex() == v["cphash"], v["id"]


def preimage(v):
    if v["nonceTPM"]:
        parts = h(v["nonceTPM"]), v["expiration"], h(v["cpHash"]), h(v["policyRef"])
        return live_preimage(*parts)
    return a_hash_preimage(h(v["cpHash"]), h(v["policyRef"]))


def test_a_hashes(vectors):
    people = keys(vectors)
    for v in vectors["ahash"]:
        assert preimage(v).hex() == v["preimage"]
        assert sha256(preimage(v)).hexdigest() == v["ahash"]
        example = v["example"]
        check_signature(people[example["approver"]], preimage(v), h(example["tpmt_signature"]))
        if not v["nonceTPM"]:
            assert a_hash(h(v["cpHash"]), h(v["policyRef"])).hex() == v["ahash"]


def test_a_vector_that_is_changed_fails(vectors):
    """The comparison itself: one bit of one Name changes the ladder."""
    v = vectors["ladders"][6]
    ladder = a_ladder(vectors, v)
    first = bytes([*ladder.names[0][:-1], ladder.names[0][-1] ^ 1])
    other = replace(ladder, names=(first, *ladder.names[1:]))
    assert other.digest(h(v["start"])).hex() != v["digest"]


@pytest.mark.parametrize("kind", ["sha1"])
def test_the_chip_would_take_sha1_we_do_not(kind):
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from tests.policy.makers import key

    from tpmhsm.errors import VerificationError

    raw = key(0).sign(b"x", ec.ECDSA(hashes.SHA1()))
    from tpmhsm.policy.approver import tpmt_signature

    forged = b"\x00\x18\x00\x04" + tpmt_signature(key(0).public_key(), raw)[4:]
    with pytest.raises(VerificationError):
        check_signature(key(0).public_key(), b"x", forged)
