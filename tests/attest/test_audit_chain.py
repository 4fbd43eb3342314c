"""A proof of the log, judged: whatever is changed in it, it is not complete any more."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attest.audits import AK, AT, KEY, NONCE, World, public_of, told

from tpmhsm.attest.audit_chain import LogJudgement, judge_log
from tpmhsm.attest.audit_proof import Entry, LogProof, proof_of, read_proof
from tpmhsm.attest.audit_records import Audited, Checkpoint, read_record, read_records
from tpmhsm.attest.statements import AK_ATTRIBUTES
from tpmhsm.errors import ParseError
from tpmhsm.policy.documents import encode_json
from tpmhsm.store.audit import entry_hash
from tpmhsm.wire.constants import CC
from tpmhsm.wire.names import name_of_public


def judged(proof: LogProof, nonce: bytes | None = NONCE) -> LogJudgement:
    return judge_log(proof, AK, (name_of_public(KEY),), nonce)


def codes(found: LogJudgement) -> set[str]:
    return {one.code for one in found.findings}


def test_an_honest_log_is_complete() -> None:
    found = judged(told().prove())
    assert (found.answer, found.signatures, found.checkpoints) == ("proven", 6, 3)
    assert found.words.startswith("complete: each of the 6 signatures that the chip made from")
    assert judged(told().prove(), None).answer == "proven"
    assert judge_log(told().prove().encode(), AK).answer == "proven"


def test_what_is_counted_as_a_signature() -> None:
    """TPM2_CertifyX509 makes one, too; quotes and certifications are said not to count."""
    assert "the one signature that" in judged(told(1).prove()).words
    assert "the chip signed nothing" in judged(told(0).prove()).words
    world = told(2)
    record = Audited(AT, CC.CertifyX509, name_of_public(KEY), b"\0\0", b"signed", b"")
    world.records.append(world.audited(record))
    found = judged(world.prove())
    assert (found.answer, found.signatures) == ("proven", 3)
    assert any("1 over something else" in note for note in found.notes)
    assert "quotes" in found.notes[-1]


def test_a_digest_that_went_encrypted_is_told_by_the_signature() -> None:
    world = told()
    world.sign(2, encrypted=True)
    proof = world.prove()
    assert judged(proof).answer == "proven"
    place = len(proof.records) - 3
    record = proof.records[place]
    assert isinstance(record, Audited)
    lie = record._replace(digest=b"\x01" * 32)
    found = judged(replace(proof, records=_with(proof.records, place, lie)))
    assert (found.answer, codes(found)) == ("refuted", {"signature-changed"})


def _with(items: tuple[Any, ...], place: int, item: Any) -> tuple[Any, ...]:
    return (*items[:place], item, *items[place + 1 :])


def test_a_reset_is_harmless_when_nothing_was_open() -> None:
    world = told()
    world.checkpoint()
    world.reset(orderly=True)
    world.sign()
    assert judged(world.prove()).answer == "proven"
    world.sign()
    world.reset(orderly=True)  # what was signed is lost all the same
    found = judged(world.prove())
    assert (found.answer, codes(found)) == ("not-proven", {"chip-reset"})
    assert "after it had signed" in found.words


def test_a_reset_without_notice_is_not_proven_even_if_the_count_fits() -> None:
    world = told()
    world.checkpoint()
    world.reset()
    world.sign()
    found = judged(world.prove())
    assert (found.answer, codes(found)) == ("not-proven", {"chip-reset"})
    assert "without notice" in found.words


def test_more_is_missing_than_resets_explain() -> None:
    world = told()
    kept = list(world.records)
    for _ in range(2):
        world.sign()
        world.checkpoint()
    world.reset()
    world.records[len(kept) :] = []
    found = judged(world.prove())
    assert "checkpoint-removed" in codes(found)


def test_what_was_before_a_key_does_not_count_against_it() -> None:
    world = World()
    world.start()
    world.sign(2)
    world.reset()
    mark = world.checkpoint().mark
    world.make_key(mark)
    world.sign(2)
    proof = world.prove()
    found = judged(proof)
    assert found.answer == "proven"
    assert any("before these keys were made: the chip was reset" in note for note in found.notes)
    found = judged(replace(proof, keys=(replace(proof.keys[0], data=b""),)))
    assert codes(found) == {"key-imported", "chip-reset"}


def test_another_key_of_the_chip_attested() -> None:
    other = public_of(5, AK_ATTRIBUTES)
    found = judge_log(told().prove(), other, (), NONCE)
    assert (found.answer, codes(found)) == ("refuted", {"checkpoint-forged"})


def test_a_key_that_the_log_does_not_know() -> None:
    found = judge_log(told().prove(), AK, (b"\x00\x0b" + bytes(32),), NONCE)
    assert (found.answer, codes(found)) == ("not-proven", {"key-unknown"})


def test_no_checkpoint_no_answer() -> None:
    proof = replace(told().prove(), records=(), numbers=())
    assert codes(judged(proof)) == {"no-checkpoint"}


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_any_record_moved_dropped_or_doubled_is_found(data: st.DataObject) -> None:
    proof = told().prove()
    count = len(proof.records)
    first = next(i for i, r in enumerate(proof.records) if isinstance(r, Checkpoint))
    one = data.draw(st.integers(first + 1, count - 1), label="place")
    records = list(proof.records)
    act = data.draw(st.sampled_from(("drop", "double", "move")), label="act")
    if act == "drop":
        del records[one]
    elif act == "double":
        records.insert(one, records[one])
    else:
        two = data.draw(st.integers(first + 1, count - 1))
        records[one], records[two] = records[two], records[one]
    numbers = tuple(range(1, len(records) + 1))
    changed = replace(proof, records=tuple(records), numbers=numbers)
    found = judged(changed)
    assert tuple(records) == proof.records or found.answer != "proven", (act, one, found.words)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_bit_of_a_record_counts(data: st.DataObject) -> None:
    proof = told().prove()
    first = next(i for i, r in enumerate(proof.records) if isinstance(r, Checkpoint))
    place = data.draw(st.integers(first, len(proof.records) - 1), label="place")
    record = proof.records[place]
    fields = record._asdict() if isinstance(record, Audited) else dict(vars(record))
    changeable = sorted(k for k, v in fields.items() if isinstance(v, bytes) and v)
    name = data.draw(st.sampled_from(changeable), label="field")
    value = bytearray(fields[name])
    bit = data.draw(st.integers(0, len(value) * 8 - 1), label="bit")
    value[bit // 8] ^= 1 << bit % 8
    fields[name] = bytes(value)
    forged = type(record)(**fields)
    found = judged(replace(proof, records=_with(proof.records, place, forged)))
    assert found.answer != "proven", (place, name, bit)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_entry_changed_is_found(data: st.DataObject) -> None:
    proof = told().prove()
    place = data.draw(st.integers(0, len(proof.entries) - 1))
    name = data.draw(st.sampled_from(("at", "actor", "act", "facts", "hash")))
    entry = replace(proof.entries[place], **{name: "x"})
    found = judged(replace(proof, entries=_with(proof.entries, place, entry)))
    assert found.answer == "refuted"
    dropped = proof.entries[:place] + proof.entries[place + 1 :]
    assert judged(replace(proof, entries=dropped)).answer == "refuted"


def test_the_parent_must_be_there_after_the_last_checkpoint() -> None:
    world = told()
    proof = world.prove()
    for parent in (world.certified_parent(b"another"), replace(proof.parent, attest=b"")):
        assert codes(judged(replace(proof, parent=parent))) == {"chip-cleared"}


# ── the file ─────────────────────────────────────────────────────────────────


def test_a_proof_is_read_as_it_was_written() -> None:
    world = told()
    world.sign(encrypted=True)
    proof = replace(world.prove(), documents=(b"der",))
    assert read_proof(encode_json(proof.encode())) == proof


def test_entries_hash_as_the_database_does() -> None:
    row = {"seq": 7, "at": "t", "actor": "Ä\n", "act": "a", "facts": '{"x":"é"}', "prev": "00"}
    assert Entry(**row, hash="").computed == entry_hash(row)


def test_torn_records_are_passed_over() -> None:
    record = Audited(1, 0x15D, b"n" * 34, b"s", b"a", b"d")
    whole, torn = record.encode(), record.encode()[:-3]
    assert read_records(torn + whole + torn) == ([record], len(torn) + len(whole))
    assert read_records(b"TJ" * 40 + whole)[0] == [record]
    with pytest.raises(ParseError):
        read_record(whole + b"x")
    with pytest.raises(ParseError):
        read_record(torn)


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = [at] if at else []
    for name, inner in items:
        more = isinstance(inner, (dict, list)) and inner
        found += _paths(inner, (*at, name)) if more else [(*at, name)]
    return found


WRONG = st.sampled_from(
    [None, 0, -1, 1 << 70, "", "x", "\ud800", "00", "AAAA", [], {}, [1], True, ["a"] * 6]
)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_hostile_proof_is_refused_in_words(data: st.DataObject) -> None:
    """Never another error than ParseError, and never complete by accident."""
    document = json.loads(encode_json(told(2).prove().encode()))
    path = data.draw(st.sampled_from(_paths(document)), label="path")
    wrong = data.draw(WRONG, label="wrong")
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    before = path[0] == "records" and path[1:2] < (2,)  # the first checkpoint
    same = inner[path[-1]] == wrong
    inner[path[-1]] = wrong
    try:
        found = judged(proof_of(document))
    except ParseError:
        return
    harmless = path[0] in ("made", "nonce", "ak", "documents") or path[-1] in ("at", "label", "n")
    assert same or before or harmless or found.answer != "proven", (path, wrong)
