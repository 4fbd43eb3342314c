"""The published aHash vectors: the same bytes, and real signatures by real approvers."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tpmhsm.approval.acts import Act, check_act_signature
from tpmhsm.approval.identity import check_signable
from tpmhsm.errors import ApprovalRefusedError, VerificationError
from tpmhsm.policy.approver import spki_of
from tpmhsm.policy.bound import BoundCommand
from tpmhsm.policy.people import Member, Threshold


def approver(vectors: Any, identifier: str) -> Any:
    found = next(a for a in vectors["approvers"] if a["id"] == identifier)
    return load_pem_public_key(found["spki_pem"].encode())


def acts(vectors: Any) -> list[tuple[Any, Act, Any]]:
    """Every vector that an Act can express: no nonce, expiration 0, a cpHash."""
    refs = {r["sha256"]: r["fields"] for r in vectors["policy_refs"]}
    commands = {c["cphash"]: c for c in vectors["cphash"]}
    found = []
    for vector in vectors["ahash"]:
        ref, command = refs.get(vector["policyRef"]), commands.get(vector["cpHash"])
        if ref is None or command is None or vector["nonceTPM"]:
            continue
        key = approver(vectors, vector["example"]["approver"])
        bound = BoundCommand(
            int(command["code"], 16),  # type: ignore[arg-type]
            tuple(bytes.fromhex(n) for n in command["names"]),
            bytes.fromhex(command["parameters"]),
        )
        act = Act(
            vector["id"],
            bound,
            ref["purpose"],
            bytes.fromhex(ref["group"]),
            ref["epoch"],
            ref["ladder"],
            Threshold(1, (Member("someone", spki_of(key)),)),
        )
        found.append((vector, act, key))
    return found


def test_acts_have_the_published_hashes_and_signatures(vectors: Any) -> None:
    found = acts(vectors)
    assert len(found) >= 5
    for vector, act, key in found:
        assert act.cp_hash.hex() == vector["cpHash"]
        assert act.preimage.hex() == vector["preimage"]
        assert act.a_hash.hex() == vector["ahash"]
        signature = bytes.fromhex(vector["example"]["tpmt_signature"])
        check_act_signature(key, act, signature)
        broken = signature[:-1] + bytes([signature[-1] ^ 1])
        with pytest.raises(VerificationError):
            check_act_signature(key, act, broken)


def test_windows_and_live_nonces_do_not_pass_the_key(vectors: Any) -> None:
    """Blank cheques (no cpHash), tickets (negative expiration) and nonces: not in this version."""
    checked = 0
    for vector in vectors["ahash"]:
        preimage = bytes.fromhex(vector["preimage"])
        if vector["nonceTPM"] or vector["expiration"] or not vector["cpHash"]:
            checked += 1
            with pytest.raises(ApprovalRefusedError):
                check_signable(preimage)
        else:
            check_signable(preimage)
    assert checked >= 3
