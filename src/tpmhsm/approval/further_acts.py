"""The acts of requests other than signatures over bytes that people saw.

The custodians' (founding, changes of the roster) and the officers' (windows, budgets, decryptions).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from tpmhsm.approval.acts import Act, OfPeople, officers
from tpmhsm.approval.request import BACKUP, Request
from tpmhsm.attest.statements import decrypting_key, key_for, signing_key
from tpmhsm.errors import ParseError
from tpmhsm.policy.ahash import live_preimage
from tpmhsm.policy.bound import BoundCommand, bound_decrypt, bound_increment, bound_roster_write
from tpmhsm.policy.budgets import parse_grant
from tpmhsm.policy.copying import parse_copy
from tpmhsm.policy.people import Threshold
from tpmhsm.policy.refs import Purpose, policy_ref
from tpmhsm.policy.tree import roster_name
from tpmhsm.policy.windows import WindowDocument, describe_seconds, parse_window


@dataclass(frozen=True)
class Opening(OfPeople):
    """A window: any signature by one key, for some seconds from the start of one live session.

    The chip holds it to that key by PolicyNameHash, which stands in the roster before the ladder,
    and by the key's Name in the policyRef.
    """

    what: str
    window: WindowDocument
    ladder: int
    people: Threshold
    cp_hash: ClassVar[bytes] = b""

    @cached_property
    def policy_ref(self) -> bytes:
        """What the approval is for, 32 bytes: a window, of this key."""
        one = self.window
        return policy_ref("window", one.group, one.epoch, self.ladder, one.key_name)

    @property
    def preimage(self) -> bytes:
        """The 52 bytes that are signed with SHA-256: nonceTPM ‖ -seconds ‖ policyRef."""
        return live_preimage(self.window.nonce, -self.window.seconds, b"", self.policy_ref)


AnyAct = Act | Opening


def _founding(request: Request) -> tuple[Act, ...]:
    group, roster = request.group, request.asked_roster
    return (
        *_custodians(request, "start the epoch counter", "epoch",
                     bound_increment(group, written=False)),
        *_custodians(request, "move the epoch counter", "epoch",
                     bound_increment(group, written=True)),
        *_custodians(request, f"write the roster of epoch {roster.epoch}", "roster",
                     bound_roster_write(group, roster, written=False)),
    )  # fmt: skip


def _change(request: Request) -> tuple[Act, ...]:
    group, roster = request.group, request.asked_roster
    return (
        *_custodians(request, "move the epoch counter", "epoch",
                     bound_increment(group, written=True)),
        *_custodians(request, f"write the roster of epoch {roster.epoch}", "roster",
                     bound_roster_write(group, roster, written=True)),
    )  # fmt: skip


def _custodians(
    request: Request, what: str, purpose: Purpose, bound: BoundCommand
) -> tuple[Act, ...]:
    group = request.group
    return tuple(
        Act(what, bound, purpose, group.id, None, number, threshold)
        for number, threshold in enumerate(group.custodians, 1)
    )


def _decryption(request: Request) -> tuple[Act, ...]:
    assert request.key is not None and request.roster is not None  # noqa: S101 - Request's own rule
    bound = bound_decrypt(decrypting_key(request.key.public).public, request.content)
    what = f"decrypt {len(request.content):,} bytes"
    return officers(request.roster, what, "decrypt", bound)


def _granting(request: Request) -> tuple[Act, ...]:
    assert request.key is not None and request.roster is not None  # noqa: S101 - Request's own rule
    grant, roster = parse_grant(request.content), request.roster
    if (grant.group, grant.key) != (roster.group, signing_key(request.key.public).name):
        raise ParseError("request: the budget is of another group or key")
    bound = grant.bound(roster_name(request.group))
    what = f"grant {grant.total:,} signatures in all"
    return officers(roster, what, "budget", bound, grant.nonce)


def _opening(request: Request) -> tuple[Opening, ...]:
    assert request.key is not None and request.roster is not None  # noqa: S101 - Request's own rule
    window, roster = parse_window(request.content), request.roster
    name = signing_key(request.key.public).name
    if (window.group, window.epoch, window.key_name) != (roster.group, roster.epoch, name):
        raise ParseError("request: the window is of another group, epoch or key")
    what = f"open the key for {describe_seconds(window.seconds)}"
    return tuple(
        Opening(what, window, number, threshold)
        for number, threshold in enumerate(roster.officers, 1)
    )


def _copy(request: Request) -> tuple[Act, ...]:
    assert request.key is not None  # noqa: S101 - Request's own rule
    copy = parse_copy(request.content)
    if (copy.group, copy.key) != (request.group.id, key_for(BACKUP, request.key.public).name):
        raise ParseError("request: the copy is of another group or key")
    return _custodians(request, f'copy "{request.key.label}" to that chip', "duplicate", copy.bound)


FURTHER: dict[str, Callable[[Request], tuple[AnyAct, ...]]] = {
    "group": _founding,
    "roster": _change,
    "window": _opening,
    "budget": _granting,
    "decrypt": _decryption,
    BACKUP: _copy,
}
"""By the request's kind."""
