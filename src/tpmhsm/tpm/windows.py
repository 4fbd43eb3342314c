"""Windows, opened in the chip: officers' approvals over a live nonce become tickets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpmhsm.errors import UsageError
from tpmhsm.policy.people import Member
from tpmhsm.policy.plan import Given, Held
from tpmhsm.policy.tree import check_branch
from tpmhsm.policy.tree import window as branch_of
from tpmhsm.wire.codec import encode
from tpmhsm.wire.commands import LoadExternal, PolicySigned
from tpmhsm.wire.constants import RH

if TYPE_CHECKING:
    from tpmhsm.policy.group import RosterDocument
    from tpmhsm.policy.plan import Approvals
    from tpmhsm.policy.windows import WindowDocument
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.sessions import PolicySession


def open_window(
    chip: Chip,
    live: PolicySession,
    window: WindowDocument,
    roster: RosterDocument,
    approvals: Approvals,
) -> dict[int, Held]:
    """Return a ticket for each approval that the roster wants, by the officer's index.

    `live` is the session whose nonce the window has; it is flushed. Three commands an approval, and
    one. Raises UsageError for too few approvals, and for a key that the roster does not list;
    ChipRefusedError when the chip does not take an approval.
    """
    branch = branch_of(window.key_name)
    found: dict[int, Held] = {}
    try:
        check_branch(roster, branch)
        first = 0
        for ladder, threshold in zip(branch.ladders(roster), roster.officers, strict=True):
            own = sorted(i for i in approvals if first <= i < first + threshold.n)[: threshold.m]
            if len(own) < threshold.m:
                raise UsageError(f"{len(own)} of the {threshold.m} approvals that a window needs")
            for index in own:
                given = Given(threshold.members[index - first], approvals[index])
                found[index] = _ticket(chip, live, window, ladder.policy_ref, given)
            first += threshold.n
    finally:
        chip.flush(live.handle)
    return found


def _ticket(
    chip: Chip, live: PolicySession, window: WindowDocument, policy_ref: bytes, given: Given
) -> Held:
    """LoadExternal, PolicySigned, flush.

    The approver's key is loaded under the NULL hierarchy, whose proof is new after each reset:
    tickets of others come to life again with a restored state of a software TPM.
    """
    member: Member = given.member
    loaded = chip.send(LoadExternal(None, member.public, RH.NULL)).object_handle
    try:
        answer = chip.send(
            PolicySigned(
                auth_object=loaded,
                policy_session=live.handle,
                nonce_tpm=window.nonce,
                cp_hash_a=b"",
                policy_ref=policy_ref,
                expiration=-window.seconds,
                auth=given.parsed,
            )
        )
    finally:
        chip.flush(loaded)
    return Held(member, answer.timeout, encode(answer.policy_ticket))
