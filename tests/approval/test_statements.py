"""Statements, and the rule that keeps them apart from approvals."""

from __future__ import annotations

import ast
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.approval.doubles import World, identity

import tpmhsm
from tpmhsm.approval.identity import (
    A_HASH_SIZE,
    LONGEST_A_HASH,
    check_signable,
)
from tpmhsm.approval.statements import (
    prove_possession,
    sign_statement,
    verify_possession,
)
from tpmhsm.errors import ApprovalRefusedError, ParseError, UsageError, VerificationError
from tpmhsm.policy.tagged import (
    CARD,
    POSSESSION,
    SHORTEST_STATEMENT,
    STATEMENT_TAGS,
    statement_bytes,
)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=4))
def test_no_statement_is_as_short_as_an_approval(document: dict[str, str]) -> None:
    try:
        message = statement_bytes(CARD, {**document, "format": CARD})
    except UsageError:
        return
    assert len(message) >= SHORTEST_STATEMENT > LONGEST_A_HASH
    assert message.startswith(CARD.encode() + b"\0")


@given(st.binary(max_size=300))
def test_a_key_signs_two_shapes_and_nothing_else(message: bytes) -> None:
    preimage = len(message) == A_HASH_SIZE and message[:4] == bytes(4)
    statement = len(message) > 128 and any(message.startswith(t.encode()) for t in STATEMENT_TAGS)
    if preimage or statement:
        return
    with pytest.raises(ApprovalRefusedError):
        check_signable(message)


@pytest.mark.parametrize(
    "message",
    [
        bytes(4) + b"\xff" * 128,  # a preimage with something behind it
        CARD.encode() + b"\0" + b"x" * 40,  # a tag, but short enough to be a preimage
        CARD.encode() + b"x" * 200,  # no end of the tag
        b"tpmhsm/other/1\0" + b"x" * 200,
        b"\0\0\0\1" + bytes(64),  # an expiration
        b"\xff\xff\xff\xff" + bytes(64),  # a negative one: a ticket
    ],
)
def test_messages_between_the_two_shapes_are_refused(message: bytes) -> None:
    with pytest.raises(ApprovalRefusedError):
        check_signable(message)


def test_a_possession_challenge_shaped_as_an_approval_is_only_hashed(world: World) -> None:
    """The attack: root sends an aHash preimage as the challenge of a proof of possession."""
    from tpmhsm.approval.acts import acts_of
    from tpmhsm.policy.approver import check_signature, tpmt_signature

    challenge = acts_of(world.founding())[0].preimage
    alice = identity("alice")
    alice.signed.clear()
    proof = prove_possession(alice, challenge, "host")
    (signed,) = alice.signed
    assert challenge not in signed
    assert sha256(challenge).hexdigest().encode() in signed
    assert len(signed) > 128
    key = verify_possession(proof, challenge, "host")
    assert key == alice.public_key
    from tpmhsm.policy.documents import Fields, parse_json

    signature = Fields(parse_json(proof, "proof"), "proof").base64("signature")
    with pytest.raises(VerificationError):
        check_signature(key, challenge, tpmt_signature(key, signature))


def test_proofs_are_for_one_challenge_and_purpose() -> None:
    proof = prove_possession(identity("alice"), b"nonce", "host")
    for challenge, purpose in ((b"other", "host"), (b"nonce", "elsewhere")):
        with pytest.raises(VerificationError):
            verify_possession(proof, challenge, purpose)
    with pytest.raises(VerificationError):
        verify_possession(proof.replace(b'"purpose":"host"', b'"purpose":"hosx"'), b"nonce", "hosx")
    with pytest.raises(UsageError):
        prove_possession(identity("alice"), bytes(70_000), "host")
    with pytest.raises(ParseError):
        verify_possession(b"{}", b"nonce", "host")


@pytest.mark.parametrize("tag", ["tpmhsm/card/2", "", "x"])
def test_unknown_tags_are_not_signed(tag: str) -> None:
    with pytest.raises(UsageError):
        sign_statement(identity("alice"), tag, {"text": "x" * 200})


def test_short_documents_are_not_signed() -> None:
    with pytest.raises(UsageError, match="longer than 128"):
        sign_statement(identity("alice"), POSSESSION, {"a": "b"})


def test_approver_keys_sign_behind_two_doors_only() -> None:
    """In the whole product an identity's `sign` is called at exactly two places."""
    calls = []
    for path in Path(tpmhsm.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "sign"
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "identity"
            ):
                calls.append(path.name)
    assert sorted(calls) == ["acts.py", "statements.py"]
