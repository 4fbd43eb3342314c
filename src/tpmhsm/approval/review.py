"""Every check before a person is asked. A `Review` exists only when all of them passed.

    review      find the approver, check time, device, people, epochs, key and content
    Review      what is shown (`display.render`), and the proof that `approve.make_approval` wants

The order matters little: each check stands alone, and the first that fails refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tpmhsm.approval import standing
from tpmhsm.approval.acts import acts_of, rule_of
from tpmhsm.approval.content import Content, Flag, few, read_content
from tpmhsm.approval.further_acts import AnyAct
from tpmhsm.approval.guarded import check_guarded_key
from tpmhsm.approval.memory import Entries, GrantedTotal, Memory, PinnedGroup, PinnedKey
from tpmhsm.approval.request import BACKUP, Request
from tpmhsm.approval.shared import own_budgets
from tpmhsm.approval.verify import verify_approval, verify_denial
from tpmhsm.attest.statements import ChipKey, key_for
from tpmhsm.errors import ParseError, UsageError, VerificationError
from tpmhsm.policy import moments
from tpmhsm.policy.approver import key_identity
from tpmhsm.policy.group import RosterDocument
from tpmhsm.policy.people import Member, describe_rule, needed, still_needed

if TYPE_CHECKING:
    from tpmhsm.approval.identity import Identity

CLOCKS = timedelta(hours=1)
"""How much later than here it may be on the host without a word."""

LONGEST = timedelta(days=366)
"""Requests that stay open for longer are unusual: a host of this program gives them 30 days."""

_SEAL = object()


@dataclass(frozen=True)
class Review:
    """A request that passed every check, for one approver, at one time.

    `acts` are those on whose ladders the approver is; `entries` what to remember after the
    approval was made; `first_use` says that the group's fingerprint must be compared aloud;
    `approved` and `denied` are the others whose signatures hold; `policy_words` says which rule
    the approval counts towards; `touch` that the key waits for a touch before each signature.
    """

    request: Request
    approver: Member
    identity: str
    now: datetime
    content: Content
    acts: tuple[AnyAct, ...]
    entries: Entries
    group: PinnedGroup
    first_use: bool
    key_words: str
    flags: tuple[Flag, ...]
    approved: tuple[str, ...]
    denied: tuple[tuple[str, str], ...]
    already: bool
    needed: int
    policy_words: str = ""
    touch: bool = False
    seal: object = field(default=None, repr=False, compare=False)

    @property
    def completes(self) -> bool:
        """Whether this approval is the last one needed."""
        rule, before = rule_of(self.request), self.approved
        after = still_needed(rule, (*before, self.approver.name))
        return not self.already and still_needed(rule, before) > after == 0

    def check(self) -> None:
        """UsageError unless `review` itself made this: the checks must have run."""
        if self.seal is not _SEAL:
            raise UsageError("a review is made by review(), which checks the request")


def review(
    request: Request,
    memory: Memory,
    identity: Identity,
    name: str,
    now: datetime,
    *,
    imported: bool = False,
    founded: RosterDocument | None = None,
    looks: bool = False,
) -> Review:
    """Check a request for one approver: `identity` with its claimed `name` (empty: by key alone).
    `imported`: the person knows that the key was imported, and takes it. `founded`: the roster that
    is founded in the same sitting, which no chip certifies yet. `looks`: an officer who has no part
    in the founding sees it, and signs nothing.

    ApprovalRefusedError, with a stable `code`, when the approver's tool will not sign it;
    ParseError when the request's parts do not fit together.
    """
    try:
        return _review(request, memory, identity, name, now, imported, founded, looks)
    except ParseError:
        raise
    except UsageError as e:
        raise ParseError(f"request: {e.message}") from None


def _review(  # noqa: PLR0917 (those of `review`)
    request: Request,
    memory: Memory,
    identity: Identity,
    name: str,
    now: datetime,
    imported: bool,
    founded: RosterDocument | None,
    looks: bool,
) -> Review:
    approver = standing.find_approver(request, name, identity.public_key, looks=looks)
    standing.check_time(request, now)
    standing.check_use(request)
    pinned = memory.pinned_group(request.group.id)
    ek, flags = standing.check_device(request, memory, pinned)
    standing.check_people(request, memory, pinned)
    flags += standing.two_cards(request, memory)
    key = None if request.key is None else key_for(request.kind, request.key.public)
    key_pin: PinnedKey | None = None
    key_flags: list[Flag] = []
    counted: tuple[GrantedTotal, ...] = ()
    if key is not None:
        key_pin, key_flags = standing.check_key(request, key, memory, imported=imported)
        counted = own_budgets(request, key, memory)
    epochs, epoch_flags = standing.check_epochs(request, memory, founded)
    content = read_content(request, key, memory, now)
    group = standing.group_pin(request, ek, pinned)
    votes = _votes(request, approver)
    return Review(
        request=request,
        approver=approver,
        identity=identity.description,
        now=now,
        content=content,
        acts=tuple(act for act in acts_of(request) if act.concerns(approver.key)),
        entries=Entries(
            group=group,
            key=key_pin,
            epochs=epochs,
            certified=content.certified,
            certificate=content.issued,
            crl=content.crl,
            granted=content.granted,
            counted=counted,
        ),
        group=group,
        first_use=pinned is None,
        key_words=_key_words(request, key, first=key_pin is not None),
        flags=(
            *_own_key(identity),
            *flags,
            *epoch_flags,
            *key_flags,
            *_claim_flags(request, now),
            *votes.flags,
        ),
        approved=votes.approved,
        denied=votes.denied,
        already=votes.already,
        needed=needed(rule_of(request)),
        policy_words=_policy_words(request, key),
        touch=identity.kind == "yubikey",
        seal=_SEAL,
    )


def _key_words(request: Request, key: ChipKey | None, *, first: bool) -> str:
    if request.key is None or key is None:
        return ""
    state = "PINNED"
    if first:
        state = "NEW, IMPORTED" if key.imported else "NEW, evidence verified"
    kind = "key" if key.decrypts else "signing key"
    return f'{kind} "{request.key.label}": {state}'


def _policy_words(request: Request, key: ChipKey | None) -> str:
    """The rule that the approval counts towards: people by name, and what else the chip wants."""
    rule = describe_rule(rule_of(request))
    if request.key is None or key is None or request.kind == BACKUP:
        return f'custodians of "{request.group.name}": {rule}'
    if request.kind in ("budget", "window"):
        return f'officers of "{request.group.name}": {rule}'
    policy = check_guarded_key(key, request.group, request.key.policy)
    name = request.group.name
    own = " or ".join(one.text for one in policy.alternatives if one.group == name)
    return f"{own.replace('window(', 'quorum(')}: {rule}"


def _own_key(identity: Identity) -> list[Flag]:
    """What there is to say against the key that would sign."""
    cautions = () if identity.token is None else identity.token.cautions
    return [Flag("YOUR KEY", words) for words in cautions]


def _claim_flags(request: Request, now: datetime) -> Iterator[Flag]:
    stated = request.claims.texts.get("digest")
    if stated is not None and stated != request.digest.hex():
        yield Flag("CLAIM", "the host states another SHA-256 than that of these bytes")
    if request.created > now + CLOCKS:
        yield Flag("CLOCK", f"asked at {moments.stamp(request.created)}, which is to come")
    if request.expires > now + LONGEST:
        yield Flag("EXPIRY", f"open until {moments.stamp(request.expires)}, longer than usual")


@dataclass(frozen=True)
class _Votes:
    approved: tuple[str, ...]
    denied: tuple[tuple[str, str], ...]
    already: bool
    flags: tuple[Flag, ...]


def _votes(request: Request, approver: Member) -> _Votes:
    """Count the approvals and denials that hold, each person once; name those that do not."""
    approved: dict[tuple[str, int, int], str] = {}
    denied: dict[str, str] = {}
    odd: list[Flag] = []
    for approval in request.approvals:
        try:
            member = verify_approval(request, approval).member
            approved[key_identity(member.key)] = member.name
        except VerificationError as e:
            odd.append(Flag("NOT COUNTED", e.message))
    for denial in request.denials:
        try:
            denied[verify_denial(request, denial).name] = denial.reason
        except VerificationError as e:
            odd.append(Flag("NOT COUNTED", e.message))
    flags = few(odd)
    mine = key_identity(approver.key)
    if mine in approved:
        flags.append(Flag("ALREADY", "you have approved this before"))
    others = tuple(name for key, name in approved.items() if key != mine)
    flags += [Flag("DENIED", f"by {name}: {reason}") for name, reason in denied.items()]
    return _Votes(others, tuple(denied.items()), mine in approved, tuple(flags))
