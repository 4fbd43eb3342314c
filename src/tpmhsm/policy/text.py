"""Policy text: what people write after --policy.

    POLICY = "open" | "pin" | "pcr(" BANK ":" N {"," N} ")"
           | ("quorum" | "budget" | "window") "(" GROUP ")"
           | ("all" | "any") "(" POLICY "," POLICY {"," POLICY} ")"

Spaces and line ends around words do not matter; `#` begins a comment that ends with its line.
"""

from __future__ import annotations

import re
from typing import NoReturn

from tpmhsm.errors import ParseError
from tpmhsm.policy.documents import check_label
from tpmhsm.policy.model import All, Any, Budget, Open, Pcr, Pin, Policy, Quorum, Window

MAX_TEXT = 1 << 16
MAX_DEPTH = 16

BANKS = ("sha1", "sha256", "sha384", "sha512")
_GROUPED: dict[str, type[Quorum | Budget | Window]] = {
    "quorum": Quorum,
    "budget": Budget,
    "window": Window,
}
_COMBINED: dict[str, type[All | Any]] = {"all": All, "any": Any}
_COMMENT = re.compile(r"#[^\n]*")


def parse_policy(text: str) -> Policy:
    """Return the policy that `text` says. ParseError pointing at the place where it fails."""
    if len(text) > MAX_TEXT:
        raise ParseError(f"policy text: longer than {MAX_TEXT} characters")
    reader = _Reader(_COMMENT.sub(lambda m: " " * len(m[0]), text))
    policy = reader.policy(0)
    reader.end()
    return policy


def format_policy(policy: Policy) -> str:
    """Return the text that `parse_policy` reads back as `policy`."""
    if isinstance(policy, All | Any):
        return f"{policy.kind}({', '.join(format_policy(part) for part in policy.parts)})"
    if isinstance(policy, Pcr):
        return f"pcr({policy.bank}:{','.join(map(str, policy.pcrs))})"
    if isinstance(policy, Open | Pin):
        return policy.kind
    return f"{policy.kind}({policy.group})"


class _Reader:
    """A recursive-descent reader over one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def fail(self, why: str) -> NoReturn:
        line = self.text.count("\n", 0, self.at) + 1
        column = self.at - (self.text.rfind("\n", 0, self.at) + 1) + 1
        raise ParseError(
            f"policy text, line {line}, column {column}: {why}",
            hint="open · pin · pcr(sha256:0,2,7) · quorum(GROUP) · budget(GROUP) · window(GROUP)"
            " · all(…, …) · any(…, …)",
        )

    def skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def take(self, mark: str) -> bool:
        self.skip()
        if self.text.startswith(mark, self.at):
            self.at += len(mark)
            return True
        return False

    def need(self, mark: str) -> None:
        if not self.take(mark):
            self.fail(f"{mark!r} expected")

    def until(self, marks: str) -> str:
        """The text before the next of `marks`, without outer spaces."""
        self.skip()
        start = self.at
        while self.at < len(self.text) and self.text[self.at] not in marks:
            self.at += 1
        return self.text[start : self.at].strip()

    def end(self) -> None:
        self.skip()
        if self.at != len(self.text):
            self.fail("nothing more expected")

    def policy(self, depth: int) -> Policy:
        if depth > MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH}")
        self.skip()
        start = self.at
        word = self.until("(),\n \t\r")
        if word == "open":
            return Open()
        if word == "pin":
            return Pin()
        if word not in _GROUPED and word not in _COMBINED and word != "pcr":
            self.at = start
            self.fail(f"no such policy: {word[:40]!r}" if word else "a policy expected")
        self.need("(")
        found = self.inside(word, depth)
        self.need(")")
        return found

    def inside(self, word: str, depth: int) -> Policy:
        if word in _GROUPED:
            return _GROUPED[word](self.group())
        if word == "pcr":
            return self.pcr()
        parts = [self.policy(depth + 1)]
        while self.take(","):
            parts.append(self.policy(depth + 1))
        if len(parts) < 2:
            self.fail(f"{word}(…) joins at least two")
        return _COMBINED[word](tuple(parts))

    def group(self) -> str:
        label = self.until("(),\n")
        return check_label(label, "policy text: group", ParseError)

    def pcr(self) -> Pcr:
        bank = self.until(":,()")
        if bank not in BANKS:
            self.fail(f"no such PCR bank: {bank[:20]!r} ({', '.join(BANKS)})")
        self.need(":")
        numbers = [self.number()]
        while self.take(","):
            numbers.append(self.number())
        if len(set(numbers)) != len(numbers):
            self.fail("a PCR stands twice")
        return Pcr(bank, tuple(sorted(numbers)))

    def number(self) -> int:
        word = self.until(",()")
        if not re.fullmatch(r"[0-9]{1,2}", word) or int(word) > 23:
            self.fail(f"a PCR is a number from 0 to 23: {word[:20]!r}")
        return int(word)
