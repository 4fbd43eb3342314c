"""The published aHash vectors: the same bytes, and real signatures by real approvers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from tests.approval.doubles import identity

from tpmhsm.approval.acts import Act
from tpmhsm.approval.further_acts import Opening
from tpmhsm.approval.identity import check_signable
from tpmhsm.approval.verify import check_act_signature
from tpmhsm.errors import ApprovalRefusedError, UsageError, VerificationError
from tpmhsm.policy.approver import spki_of
from tpmhsm.policy.bound import BoundCommand
from tpmhsm.policy.people import Member, Threshold
from tpmhsm.policy.windows import WindowDocument
from tpmhsm.wire.constants import CC


def approver(vectors: Any, identifier: str) -> Any:
    found = next(a for a in vectors["approvers"] if a["id"] == identifier)
    return load_pem_public_key(found["spki_pem"].encode())


def acts(vectors: Any) -> list[tuple[Any, Act, Any]]:
    """Every vector of one command, with a live nonce or without."""
    refs = {r["sha256"]: r["fields"] for r in vectors["policy_refs"]}
    commands = {c["cphash"]: c for c in vectors["cphash"]}
    found = []
    for vector in vectors["ahash"]:
        ref, command = refs.get(vector["policyRef"]), commands.get(vector["cpHash"])
        if ref is None or command is None:
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
            bytes.fromhex(vector["nonceTPM"]),
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


def test_windows_have_the_published_hashes_and_signatures(vectors: Any) -> None:
    refs = {r["sha256"]: r["fields"] for r in vectors["policy_refs"]}
    windows = [vector for vector in vectors["ahash"] if not vector["cpHash"]]
    assert len(windows) == 2
    for vector in windows:
        ref, key = refs[vector["policyRef"]], approver(vectors, vector["example"]["approver"])
        window = WindowDocument(
            bytes.fromhex(ref["group"]),
            ref["epoch"],
            bytes.fromhex(ref["subject"]),
            bytes.fromhex(vector["nonceTPM"]),
            -vector["expiration"],
        )
        someone = Threshold(1, (Member("someone", spki_of(key)),))
        act = Opening(vector["id"], window, ref["ladder"], someone)
        assert act.preimage.hex() == vector["preimage"]
        check_act_signature(key, act, bytes.fromhex(vector["example"]["tpmt_signature"]))
        other = Opening(vector["id"], replace(window, seconds=601), ref["ladder"], someone)
        with pytest.raises(VerificationError):
            check_act_signature(key, other, bytes.fromhex(vector["example"]["tpmt_signature"]))


def test_the_published_shapes_pass_the_key_and_no_others(vectors: Any) -> None:
    """A blank cheque (no cpHash) but for a window, a ticket with a cpHash, another nonce's length:
    nothing of that has a shape that the key signs.
    """
    for vector in vectors["ahash"]:
        preimage = bytes.fromhex(vector["preimage"])
        check_signable(preimage)
        nonce, cp_hash = bytes.fromhex(vector["nonceTPM"]), bytes.fromhex(vector["cpHash"])
        ref = bytes.fromhex(vector["policyRef"])
        ticket = (-600).to_bytes(4, "big", signed=True)
        long = (-86401).to_bytes(4, "big", signed=True)
        for odd in (
            bytes(4) + ref,
            ticket + ref,
            ticket + (cp_hash or bytes(32)) + ref,
            (nonce or bytes(16)) + bytes(4) + ref,
            (nonce or bytes(16)) + long + ref,
            (nonce or bytes(16)) + ticket + (cp_hash or bytes(32)) + ref,
            bytes(20) + ticket + ref,
            b"\1" * 32 + ticket + ref,
            b"\1" * 32 + bytes(4) + (cp_hash or bytes(32)) + ref,
        ):
            with pytest.raises(ApprovalRefusedError):
                check_signable(odd)


@pytest.mark.parametrize("size", [0, 8, 15, 17, 32])
def test_a_nonce_of_another_length(size: int) -> None:
    someone = Threshold(1, (Member("someone", spki_of(identity("alice").public_key)),))
    if size:
        with pytest.raises(UsageError, match="16 bytes"):
            bound = BoundCommand(CC.NV_Write, (), b"")
            Act("x", bound, "budget", bytes(32), 1, 1, someone, bytes(size))
    with pytest.raises(UsageError, match="16 bytes"):
        WindowDocument(bytes(32), 1, bytes(34), bytes(size), 600)


@pytest.mark.parametrize("seconds", [-600, 0, 2, 86401, 1 << 31])
def test_a_window_has_a_length(seconds: int) -> None:
    with pytest.raises(UsageError, match="3 seconds to 24 hours"):
        WindowDocument(bytes(32), 1, bytes(34), bytes(16), seconds)
