"""What an approver sees: first what the bytes say, then what the host claims, then the question.

80 columns, plain text. Names are shown with control and bidi characters escaped, long lists in
full on pages of their own, nothing is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tpmhsm.approval.acts import rule_of
from tpmhsm.approval.content import Flag, Listing, Row
from tpmhsm.approval.paging import Page, Part, paged
from tpmhsm.approval.request import BACKUP, KEY_CLAIM
from tpmhsm.approval.review import Review
from tpmhsm.approval.screen import groups_of, width_of, wrap
from tpmhsm.policy.people import describe_outstanding, still_needed
from tpmhsm.policy.visible import escape

WIDTH = 80
HEIGHT = 24
DIGITS = 4
"""How many hex digits of the digest a person types."""

MAX_CLAIM, MAX_CLAIMS = 400, 12
"""How much of the host's words is shown."""

COMPARED = {
    "certificate": ("digest", "subject", "not_after"),
    "csr": ("digest", "subject"),
    "crl": ("digest", "number", "entries"),
}
"""Claims that are not shown: where they differ from the bytes, a warning says so."""

_NAME = re.compile("[a-z][a-z0-9_]*")

_LABEL = 10
_HEAD, _LONG_HEAD = 15, 20
"""Columns of a warning's head: at least, and a head longer than these moves no other's text."""


def render(review: Review, width: int = WIDTH) -> str:
    """Return everything there is to see, as lines of at most `width` columns."""
    return "\n".join(line for part in _parts(review, width) for line in part.lines)


def pages(review: Review, height: int = HEIGHT, width: int = WIDTH) -> list[Page]:
    """Return the same in pages of at most `height` lines; the signature's part ends the last."""
    return paged(_parts(review, width), height)


def code_of(review: Review) -> str:
    """Return the hex digits that a person types to approve."""
    return review.request.digest.hex()[:DIGITS]


def question(review: Review) -> str:
    """Return the prompt."""
    if not review.acts:
        return f"Type {code_of(review)} to go on: "
    times = f" {len(review.acts)} times" if len(review.acts) > 1 else ""
    then = f", then touch the key{times}" if review.touch else ""
    return f"Type {code_of(review)} to sign{then}: "


def _parts(review: Review, width: int) -> list[Part]:
    content = review.content
    return [
        Part("what is decoded", tuple(_decoded(review, width))),
        *(Part(one.title, tuple(listing_lines(one, width))) for one in content.listings),
        Part("the host's claims", tuple(_claimed(review, width)), whole=True),
        Part("your signature", tuple(_signature(review, width)), whole=True),
    ]


def _decoded(review: Review, width: int) -> Iterator[str]:
    yield from _header(review, width)
    yield rule_line("decoded here, from the bytes you sign", width)
    for row in review.content.rows:
        yield from row_lines(noted(row, review), width)
    yield from flags_lines((*review.flags, *review.content.flags), width)


def _claimed(review: Review, width: int) -> Iterator[str]:
    yield rule_line("the host claims (unchecked)", width)
    for row in claim_rows(review):
        yield from row_lines(row, width)


def _header(review: Review, width: int) -> Iterator[str]:
    left = f"APPROVE {review.request.id} · {escape(review.content.title)}"
    right = f"{escape(review.approver.name)}, {escape(review.identity)}"
    yield from two_sides(left, right, width)


def two_sides(left: str, right: str, width: int) -> Iterator[str]:
    """Two texts at the ends of a line; below each other where they do not fit."""
    gap = width - width_of(left) - width_of(right)
    if gap >= 2:
        yield left + " " * gap + right
        return
    yield from wrap(left, width)
    yield from (" " * max(0, width - width_of(line)) + line for line in wrap(right, width))


def rule_line(title: str, width: int) -> str:
    """A line that begins a part of the screen."""
    start = f"── {title} "
    return start + "─" * max(0, width - width_of(start))


def noted(row: Row, review: Review) -> Row:
    """The signing key's standing is known to the review, not to the bytes."""
    return Row(row.label, row.text, review.key_words) if row.note == "KEY" else row


def row_lines(row: Row, width: int) -> Iterator[str]:
    """A row, cut at the width."""
    lines = wrap(escape(row.text), width - _LABEL)
    note = escape(row.note)
    used = _LABEL + width_of(lines[-1])
    column = width * 9 // 16
    if note and len(lines) == 1 and used + 1 <= column and column + width_of(note) <= width:
        lines[0] += " " * (column - used) + note
    elif note and used + 2 + width_of(note) <= width:
        lines[-1] += "  " + note
    elif note:
        lines += wrap(note, width - _LABEL)
    label = escape(row.label)[: _LABEL - 1]
    yield label.ljust(_LABEL) + lines[0]
    yield from (" " * _LABEL + line for line in lines[1:])


def flags_lines(flags: Sequence[Flag], width: int) -> Iterator[str]:
    """Warnings below each other, cut at the width."""
    heads = [f"{flag.mark} {flag.head}" for flag in flags]
    indent = max([_HEAD, *(width_of(head) + 2 for head in heads if width_of(head) < _LONG_HEAD)])
    for flag, head in zip(flags, heads, strict=True):
        column = max(indent, width_of(head) + 2)
        lines = wrap(escape(flag.text), width - column)
        yield head + " " * (column - width_of(head)) + lines[0]
        yield from (" " * column + line for line in lines[1:])


def listing_lines(listing: Listing, width: int) -> Iterator[str]:
    """A long list in full, each item with its number."""
    yield rule_line(listing.title, width)
    digits = len(str(len(listing.items)))
    for number, item in enumerate(listing.items, 1):
        lines = wrap(escape(item), width - digits - 2)
        yield f"{number:>{digits}}  {lines[0]}"
        yield from (" " * (digits + 2) + line for line in lines[1:])


def claim_rows(review: Review) -> Iterator[Row]:
    """What the host says, and nothing proves."""
    claims, request = review.request.claims, review.request
    reason = f'"{_cut(claims.reason)}"' if claims.reason else "none given"
    yield Row("Reason", reason + (f", {_cut(claims.by)}" if claims.by else ""))
    if claims.profile:
        yield Row("Profile", _cut(claims.profile))
    compared = COMPARED.get(request.kind, ("digest",))
    lines = [
        (name, text)
        for name, text in sorted(claims.texts.items())
        if not name.startswith(KEY_CLAIM) and name not in compared
    ]
    for name, text in lines[:MAX_CLAIMS]:
        # the host chooses the name, too: a strange one could pass for another part of the screen
        label = name.replace("_", " ").capitalize()
        plain = _NAME.fullmatch(name) and len(label) < _LABEL
        yield Row(label, _cut(text)) if plain else Row("Also", _cut(f"{name}: {text}"))
    if len(lines) > MAX_CLAIMS:
        yield Row("More", f"{len(lines) - MAX_CLAIMS:,} further claims, not shown")
    yield Row("Device", f"{request.device.label}, {request.device.kind}")
    same_day = request.created.date() == request.expires.date()
    ends = f"{request.expires:%H:%M}" if same_day else f"{request.expires:%Y-%m-%d}"
    yield Row("Asked", f"{request.created:%Y-%m-%d %H:%M}, expires {ends}")


def _cut(claim: str) -> str:
    """A claim must not scroll the truth away."""
    extra = len(claim) - MAX_CLAIM
    return claim if extra <= 0 else f"{claim[:MAX_CLAIM]}… ({extra:,} more characters)"


def _signature(review: Review, width: int) -> Iterator[str]:
    yield rule_line("your signature", width)
    yield from compare_lines(review, width)
    for row in signature_rows(review):
        yield from row_lines(row, width)
    digits = review.request.digest.hex()
    one = groups_of(digits)
    halves = (
        [one] if _LABEL + len(one) <= width else [groups_of(digits[:32]), groups_of(digits[32:])]
    )
    for label, half in zip(("SHA-256", ""), halves, strict=False):
        yield from row_lines(Row(label, half), width)


def signature_rows(review: Review) -> list[Row]:
    """What the signature is good for, and for what it is not; which rule it counts towards."""
    return [
        Row("Allows", allows_words(review)),
        Row("Not", not_words(review.request.kind)),
        Row("Policy", review.policy_words),
        Row("Count", count_words(review)),
    ]


_NOT = {
    "budget": "to sign by itself, for another key, a higher total or a window",
    "window": "by another key, in another session, after its end, to grant or decrypt",
    "backup": "for another key or chip, to sign, decrypt, grant or open",
    "decrypt": "for another ciphertext or key, in another epoch, to sign, grant or open",
    "group": "for another group, chip or roster, to sign, decrypt, grant or open",
    "roster": "for another roster or epoch, to sign, decrypt, grant or open",
}


def not_words(kind: str) -> str:
    """What an approval of this kind cannot be used for: its policyRef and cpHash say another."""
    return _NOT.get(kind, "for other bytes or keys, in another epoch, to grant, open or decrypt")


def compare_lines(review: Review, width: int) -> Iterator[str]:
    """At first use, the fingerprint that people compare aloud; else nothing."""
    if review.first_use:
        words = " ".join(review.group.fingerprint)
        yield from row_lines(Row("Compare", words), width)
        yield from row_lines(Row("", "aloud with the other members: this is your first use"), width)


def allows_words(review: Review) -> str:
    """What the signature can be used for."""
    request = review.request
    if request.kind == "budget" and request.key is not None and request.roster is not None:
        epoch = f"epoch {request.roster.epoch} only"
        return f'that the budget of "{request.key.label}" is written, nothing else, {epoch}'
    if request.kind == "window" and request.key is not None:
        return f'ANY signature under "{request.key.label}" until it ends, nothing else'
    size = f"{len(request.content):,} bytes"
    if request.kind == "decrypt" and request.key is not None and request.roster is not None:
        epoch = f"epoch {request.roster.epoch} only"
        return f'that "{request.key.label}" decrypts these {size}, nothing else, {epoch}'
    if request.key is not None and request.roster is not None and request.kind != BACKUP:
        epoch = f"epoch {request.roster.epoch} only"
        return f'these {size} under "{request.key.label}", nothing else, {epoch}'
    if not review.acts:
        return "nothing: its custodians decide this, and what follows counts only under it"
    acts = "; ".join(act.what for act in review.acts)
    return f'on "{request.group.name}": {acts}; nothing else'


def count_words(review: Review) -> str:
    """How many have approved, and what is missing."""
    rule = rule_of(review.request)
    have = review.needed - still_needed(rule, review.approved)
    who = f" ({', '.join(review.approved)}, verified)" if review.approved else ""
    text = f"{have} of {review.needed}{who}"
    if len(rule) > 1 and have < review.needed:
        text += f"; to come: {describe_outstanding(rule, review.approved)}"
    if review.already:
        return f"{text}; yours was given before"
    return f"{text}; yours completes it" if review.completes else text
