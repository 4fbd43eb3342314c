"""The table of clauses follows the verdicts, and claims nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tpmhsm.attest.clauses import CLAUSES, DISCLAIMER
from tpmhsm.attest.verdicts import QUESTIONS, Answer, Finding, Judgement, verdicts_of

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def judgement(**answers: Answer) -> Judgement:
    found = [Finding(q, answers.get(q, "proven"), "code", "Words.") for q in QUESTIONS]
    return Judgement("", "discrete", verdicts_of(found), "", NOW, NOW, True)


def test_all_proven() -> None:
    assert {one.answer(judgement()) for one in CLAUSES} == {"proven"}


@pytest.mark.parametrize("question", QUESTIONS)
def test_one_answer_decides(question: str) -> None:
    lacking = judgement(**{question: "not-proven"})
    refuted = judgement(**{question: "refuted"})
    for clause in CLAUSES:
        touched = question in clause.questions
        assert clause.answer(lacking) == ("not-proven" if touched else "proven")
        assert clause.answer(refuted) == ("refuted" if touched else "proven")


def test_each_says_what_lies_beyond() -> None:
    assert "no certification" in DISCLAIMER
    assert all(one.beyond and one.asks and one.questions for one in CLAUSES)
    names = [(one.source, one.number) for one in CLAUSES]
    assert len(names) == len(set(names)) == 10
    encoded = [one.encode(judgement()) for one in CLAUSES]
    assert all(set(one) == set(encoded[0]) for one in encoded)
