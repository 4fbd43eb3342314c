"""One approver's sitting over a ceremony: each act is reviewed with what the acts before it leave.

Nothing is signed before everything was seen. An act in which the person has no part is left out,
but for the founding: under which group and people the rest counts, everybody has to see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from tpmhsm.approval import display, standing
from tpmhsm.approval.acts import rule_of
from tpmhsm.approval.approve import make_approval
from tpmhsm.approval.batch import unseen
from tpmhsm.approval.ceremony import LIVE_KINDS, Ceremony, CeremonyApproval, check_ceremony
from tpmhsm.approval.content import Row
from tpmhsm.approval.memory import (
    Certified,
    Entries,
    Granted,
    InMemory,
    Memory,
    PinnedGroup,
    PinnedKey,
)
from tpmhsm.approval.request import Request
from tpmhsm.approval.review import Review, review
from tpmhsm.approval.screen import groups_of
from tpmhsm.errors import ApprovalRefusedError
from tpmhsm.policy.approver import key_identity
from tpmhsm.policy.people import members_of
from tpmhsm.policy.visible import escape

if TYPE_CHECKING:
    from tpmhsm.approval.identity import Identity


class Layered:
    """A memory with what this sitting adds to it, which is kept only when everything was signed.
    What no founding adds is as it is below.
    """

    def __init__(self, below: Memory) -> None:
        self._below = below
        self._added = InMemory()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)

    @property
    def memory(self) -> Memory:
        """The same by its protocol."""
        return cast("Memory", self)

    def keep(self, entries: Entries) -> None:
        """Remember for the rest of the sitting."""
        self._added.keep(entries)

    def pinned_group(self, group_id: bytes) -> PinnedGroup | None:
        """What is known stays."""
        return self._below.pinned_group(group_id) or self._added.pinned_group(group_id)

    def pinned_key(self, name: bytes) -> PinnedKey | None:
        """What is known stays."""
        return self._below.pinned_key(name) or self._added.pinned_key(name)

    def pinned_keys(self, group_id: bytes) -> Sequence[PinnedKey]:
        """Both."""
        return [*self._below.pinned_keys(group_id), *self._added.pinned_keys(group_id)]

    def epochs(self, group_id: bytes) -> Mapping[int, bytes]:
        """What is known stays."""
        return {**self._added.epochs(group_id), **self._below.epochs(group_id)}

    def certified(self, spki_sha256: bytes) -> Sequence[Certified]:
        """Both."""
        return [*self._below.certified(spki_sha256), *self._added.certified(spki_sha256)]

    def approved_certificate(self, key_name: bytes, holder: bytes) -> bytes | None:
        """The later one."""
        added = self._added.approved_certificate(key_name, holder)
        return added or self._below.approved_certificate(key_name, holder)

    def granted(self, index_name: bytes) -> Granted | None:
        """Both."""
        below, added = self._below.granted(index_name), self._added.granted(index_name)
        if below is None or added is None:
            return below or added
        total, firsts = max(below.total, added.total), below.firsts | added.firsts
        return Granted(total, firsts, below.keys | added.keys)


@dataclass(frozen=True)
class Sitting:
    """A ceremony that passed every check, for one approver, at one time.

    `reviews` are the acts that are shown, in order; `past` those whose time is over, which the host
    asks for anew; `others` those in which the person has no part.
    """

    ceremony: Ceremony
    reviews: tuple[Review, ...]
    past: tuple[Request, ...] = ()
    others: tuple[Request, ...] = ()

    @property
    def entries(self) -> tuple[Entries, ...]:
        """What to remember, act by act, in one transaction."""
        return tuple(one.entries for one in self.reviews)

    def check_seen(self, shown: Sitting) -> None:
        """Refuse (`changed-since`) what was not on the screen of an earlier look."""
        if [r.request.id for r in shown.reviews] != [r.request.id for r in self.reviews]:
            raise _changed("an act that was shown is past")
        for before, now in zip(shown.reviews, self.reviews, strict=True):
            if new := unseen(before, now):
                raise _changed(f"act {now.request.id} has a warning that was not shown: {new[0]}")

    def sign(self, identity: Identity) -> CeremonyApproval:
        """Approve every act in which the person has a part."""
        approvals = tuple(make_approval(one, identity) for one in self.reviews if one.acts)
        return CeremonyApproval(self.ceremony.digest, approvals)


def _changed(why: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(why, code="changed-since", hint="approve once more")


def overview(sitting: Sitting, width: int = display.WIDTH) -> str:
    """What is to come, in lines of at most `width` columns."""
    ceremony, first = sitting.ceremony, sitting.reviews[0]
    left = f"CEREMONY · {escape(ceremony.founding.group.name)}"
    right = f"{escape(first.approver.name)}, {escape(first.identity)}"
    digits = groups_of(ceremony.digest.hex())
    return "\n".join([
        *display.two_sides(left, right, width),
        display.rule_line("what you are asked, in this order", width),
        *(
            line
            for one in ceremony.requests
            for line in display.row_lines(_asked(sitting, one), width)
        ),
        display.rule_line("all of it together", width),
        *display.row_lines(Row("SHA-256", digits), width),
    ])  # fmt: skip


def _asked(sitting: Sitting, request: Request) -> Row:
    reviewed = next((one for one in sitting.reviews if one.request is request), None)
    label = f"Act {request.id}"
    if request in sitting.past:
        return Row(label, f"{request.kind}: its time is over, the host asks for it anew")
    if reviewed is None:
        return Row(label, f"{request.kind}: not yours to approve, not shown")
    facts = reviewed.content.facts
    whose = facts.get("subject") or facts.get("officers") or reviewed.key_words
    note = "" if reviewed.acts else "you see it, and sign nothing"
    return Row(label, f"{reviewed.content.title}: {whose}", note)


def review_ceremony(
    ceremony: Ceremony, memory: Memory, identity: Identity, name: str, now: datetime
) -> Sitting:
    """Check all acts of a ceremony for one approver. Errors as `review`, and `check_ceremony`'s."""
    founded = check_ceremony(ceremony)
    layer = Layered(memory)
    reviews: list[Review] = []
    past: list[Request] = []
    others: list[Request] = []
    for request in ceremony.requests:
        mine = _has_part(request, identity)
        if not mine and request is not ceremony.founding:
            others.append(request)
        elif request.kind in LIVE_KINDS and now >= request.expires:
            past.append(request)
        else:
            found = review(
                request, layer.memory, identity, name, now, founded=founded, looks=not mine
            )
            layer.keep(found.entries)
            reviews.append(found)
    if not any(one.acts for one in reviews):
        raise standing.refuse("nothing is left in this ceremony that you could approve", "expired")
    return Sitting(ceremony, tuple(reviews), tuple(past), tuple(others))


def first_of(ceremony: Ceremony, identity: Identity) -> Request:
    """The first act in which a person has a part. ApprovalRefusedError (`not-a-member`)."""
    found = next((one for one in ceremony.requests if _has_part(one, identity)), None)
    if found is None:
        raise standing.refuse("you have no part in this ceremony", "not-a-member")
    return found


def _has_part(request: Request, identity: Identity) -> bool:
    wanted = key_identity(identity.public_key)
    return any(key_identity(member.key) == wanted for member in members_of(rule_of(request)))
