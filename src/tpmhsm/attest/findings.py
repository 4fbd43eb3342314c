"""Findings as they are collected: what was looked at, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from tpmhsm.attest.verdicts import FILE_SAYS, Answer, Finding, Proof, Question
from tpmhsm.errors import TpmHsmError


class Findings:
    """All findings on one file, in the order in which they were made."""

    def __init__(self) -> None:
        self.items: list[Finding] = []

    def add(
        self,
        question: Question,
        answer: Answer,
        code: str,
        words: str,
        *,
        proof: Iterable[Proof] = (),
        subject: str = "",
    ) -> None:
        """One more."""
        self.items.append(Finding(question, answer, code, words, tuple(proof), subject))

    @contextmanager
    def refuting(
        self,
        questions: Question | tuple[Question, ...],
        about: str,
        proof: Iterable[Proof] = (),
        subject: str = "",
    ) -> Iterator[None]:
        """Whatever does not hold inside refutes these questions: `about` begins the sentence."""
        try:
            yield
        except TpmHsmError as error:
            kept = tuple(proof)
            for question in (questions,) if isinstance(questions, str) else questions:
                words = f"{about}: {error.message}."
                self.add(question, "refuted", error.code, words, proof=kept, subject=subject)

    def rest_on(self, code: str, why: str, spared: Iterable[Question] = ()) -> None:
        """What seemed proven is not: it rests on something unproven; `why` is a sentence."""
        kept = (*spared,)
        demoted = [one for one in self.items if one.answer == "proven" and one.question not in kept]
        for question in dict.fromkeys(one.question for one in demoted):
            self.add(question, "not-proven", code, why)
        for place, one in enumerate(self.items):
            if one in demoted:
                words = FILE_SAYS + one.words
                self.items[place] = replace(one, answer="not-proven", words=words)
        self.items.sort(key=lambda one: one.code != code)
