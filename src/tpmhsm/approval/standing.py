"""Who asks, who is asked, and whether this home may trust what the request says of people.

First use, pins, epochs: the rules of the approver's memory. Cards that travelled through the host
prove nothing; a group is known by its id, which hashes everything that makes it what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from tpmhsm.approval.acts import rule_of
from tpmhsm.approval.cards import Card
from tpmhsm.approval.content import Flag
from tpmhsm.approval.guarded import check_guarded_key, policy_flags
from tpmhsm.approval.lookalike import skeleton
from tpmhsm.approval.memory import Epoch, Memory, PinnedGroup, PinnedKey
from tpmhsm.approval.request import BACKUP, PEOPLE_KINDS, SIGN_KINDS, KeyPart, Request
from tpmhsm.approval.screen import suspicions
from tpmhsm.attest.statements import ChipKey, check_state
from tpmhsm.errors import ApprovalRefusedError, VerificationError
from tpmhsm.policy import moments
from tpmhsm.policy.approver import key_identity
from tpmhsm.policy.fingerprint import fingerprint
from tpmhsm.policy.group import GroupDocument, RosterDocument, check_pair
from tpmhsm.policy.people import Member, describe_rule, members_of
from tpmhsm.policy.published import format_document
from tpmhsm.policy.rosters import uses_in_words

FOUNDING = 0
"""The epoch under which a memory notes that it saw the founding: no roster has it."""


IMPORTED = Flag(
    "IMPORTED",
    "this key was not made in the chip: copies may exist outside, and whoever has one uses it"
    " without you",
)


def refuse(message: str, code: str, hint: str = "", **details: object) -> ApprovalRefusedError:
    """Return the refusal to raise."""
    return ApprovalRefusedError(message, code=code, hint=hint, details=details)


def find_approver(request: Request, name: str, key: object, *, looks: bool = False) -> Member:
    """Return the member with this key. ApprovalRefusedError when there is none, or it is not
    `name` (empty: whoever it is). `looks`: an officer of a founding will do.
    """
    role = "officers" if request.kind in SIGN_KINDS or looks else "custodians"
    rule = request.asked_roster.officers if looks else rule_of(request)
    wanted = key_identity(key)  # type: ignore[arg-type]
    member = next((m for m in members_of(rule) if key_identity(m.key) == wanted), None)
    words = describe_rule(rule)
    if member is None:
        known = any(m.name == name for m in members_of(rule))
        reason = f"{name} has another key there" if known else f"{name or 'this key'} is not there"
        raise refuse(f"the {role} who may approve this are {words}: {reason}", "not-a-member")
    if name and member.name != name:
        raise refuse(f"this is {member.name}'s key, not {name}'s", "not-a-member")
    return member


def check_time(request: Request, now: datetime) -> None:
    """Refuse an expired request."""
    if now >= request.expires:
        raise refuse(
            f"the request expired at {moments.stamp(request.expires)}",
            "expired",
            hint="the host can ask again",
        )


def check_use(request: Request) -> None:
    """Refuse what the custodians do not let these officers be asked for: the chip would, too."""
    if request.barred and request.roster is not None:
        words = uses_in_words(request.roster)
        raise refuse(
            f"officers of this roster cannot be asked to {request.barred}: it allows {words}",
            "use-not-in-roster",
            hint="the host asks for what no approval can do; the custodians can change that",
        )


def check_device(
    request: Request, memory: Memory, pinned: PinnedGroup | None
) -> tuple[bytes, list[Flag]]:
    """Return what the group's `device.ek` hashes, and flags.

    Refuses a device card that is not of the group's device: its AK signs the evidence. At first
    use that AK must be on a device's card from outside the host, if there are any; the label is
    the host's word and compared with nothing. Later it is pinned: the group's id covers it. A
    further chip of the group is taken once it has answered a challenge of this home.
    """
    group, device = request.group, request.device
    if pinned is not None and memory.second_chips(group.id):
        from tpmhsm.approval.second_chips import cautions, second_chip

        if found := second_chip(device, group.id, memory):
            return device.ek_evidence, cautions(found)
    ek = device.find_ek(group.device_ek)
    if device.ak_name != group.device_ak or ek is None:
        raise refuse("the device card in the request is not of the group's device", "other-device")
    held = {card.ak_name for card in memory.device_cards()}
    if pinned is not None or device.ak_name in held:
        return ek, []
    if held:
        raise refuse(
            "first use: none of the devices' cards in this home is of the group's device",
            "other-device",
            hint="get its card from the device's owner, not from the CA host, then:"
            " tpmhsm trust add host.card",
        )
    words = "its card did not come to you from outside the host: compare the words"
    return ek, [Flag("DEVICE", words)]


def rosters_of(request: Request) -> list[RosterDocument]:
    """Return all rosters of a request: in force, asked for."""
    found = [] if request.roster is None else [request.roster]
    if request.kind in PEOPLE_KINDS:
        found.append(request.asked_roster)
    for roster in found:
        check_pair(request.group, roster)
    return found


def check_people(request: Request, memory: Memory, pinned: PinnedGroup | None) -> None:
    """Refuse people whose cards this home does not hold from outside the host.

    Foundings and first use: all members. Later: those whom a change adds.
    """
    officers = [m for roster in rosters_of(request) for m in members_of(roster.officers)]
    governing = members_of(request.group.custodians)
    people = [*governing, *officers]
    if pinned is not None and request.kind != "group":
        # a known key under another name is not known: it needs a card with that name
        ours = (*governing, *_officers_known(request, memory))
        known = {(m.chip_name, m.name) for m in ours}
        people = [person for person in people if (person.chip_name, person.name) not in known]
    held = _check_cards(people, memory.trusted_cards())
    if request.kind == "group":
        _check_founders(request, held)


def two_cards(request: Request, memory: Memory) -> list[Flag]:
    """Flags for members of whom this home trusts two cards with different keys."""
    officers = [m for roster in rosters_of(request) for m in members_of(roster.officers)]
    names = {m.name for m in (*members_of(request.group.custodians), *officers)}
    keys: dict[str, set[tuple[str, int, int]]] = {}
    for card in memory.trusted_cards():
        keys.setdefault(card.name, set()).add(key_identity(card.key))
    twice = sorted(name for name in names if len(keys.get(name, ())) > 1)
    return [
        Flag("TWO CARDS", f"you trust two cards of {name} with different keys: one is wrong or old")
        for name in twice
    ]


def _officers_known(request: Request, memory: Memory) -> tuple[Member, ...]:
    """The officers of the roster in force, if it is one: this home approved it, or the chip
    certifies it over this content. By the host's word alone nobody is known.
    """
    roster = request.roster
    if roster is None:
        return ()
    known = known_epochs(request, memory)
    check_known(roster, known)
    if roster.epoch in known or check_state_of(request) == roster.epoch:
        return members_of(roster.officers)
    return ()


def _check_cards(people: Iterable[Member], cards: Sequence[Card]) -> list[list[Card]]:
    """Return the trusted cards of each person; refuse if one has none."""
    held: list[list[Card]] = []
    missing = []
    for person in people:
        named = [card for card in cards if card.name == person.name]
        found = [card for card in named if _is_of(card, person)]
        if named and not found:
            raise refuse(
                f"{person.name}'s card that you trust is not the one in the request",
                "card-differs",
                hint=f"ask {person.name}, not the CA host, which card is right",
                name=person.name,
            )
        if not named:
            missing.append(person.name)
        held.append(found)
    if missing:
        names = sorted(set(missing))
        raise refuse(
            f"first use: this home does not hold the cards of {', '.join(names)}",
            "cards-missing",
            hint="get them from the people, not from the CA host, then: tpmhsm trust add "
            + " ".join(f"{name}.card" for name in names),
            missing=names,
        )
    return held


def _is_of(card: Card, person: Member) -> bool:
    same = key_identity(card.key) == key_identity(person.key)
    return same and person.contribution in (b"", card.contribution)


def _check_founders(request: Request, held: Iterable[list[Card]]) -> None:
    """The group's id must contain what every founding member contributed, and nothing else."""
    founders = set(request.group.founders)
    by_person = [founders & {card.contribution for card in cards} for cards in held]
    if not all(by_person) or set().union(*by_person) != founders:
        raise refuse("the group's id is not made of its members' contributions", "founders-differ")


def check_state_of(request: Request) -> int | None:
    """Return the epoch counter that the chip certifies over this very content, or None.

    ApprovalRefusedError when there is a certification and it does not hold.
    """
    if request.state is None or request.roster is None:
        return None
    try:
        return check_state(
            request.state,
            request.device.ak_public,
            request.group,
            request.roster,
            request.digest,
        )
    except VerificationError as e:
        raise refuse(f"the chip's certified state does not hold: {e.message}", "state") from None


def check_epochs(
    request: Request, memory: Memory, founded: RosterDocument | None = None
) -> tuple[tuple[Epoch, ...], list[Flag]]:
    """Return what to remember of epochs, and flags. Refuses lower epochs, two rosters for one
    epoch, a change that is not the certified epoch plus one, and a memory that was lost.

    `founded` is the roster that the same sitting founds: no chip can certify yet that it is in
    force, and an approval under it counts only when its custodians have founded it.
    """
    known = known_epochs(request, memory)
    if request.kind == "group":
        return _founding_epochs(request, memory, known)
    assert request.roster is not None  # noqa: S101 - Request's own rule
    check_known(request.roster, known)
    if request.kind == "roster":
        return _change_epochs(request, memory, known)
    return _sign_epochs(request, known, founded)


def known_epochs(request: Request, memory: Memory) -> dict[int, bytes]:
    """Return the roster digests that this home knows, by epoch."""
    return known_rosters(memory, request.group.id)


def known_rosters(memory: Memory, group_id: bytes) -> dict[int, bytes]:
    """The same of any group."""
    return {e: d for e, d in memory.epochs(group_id).items() if e != FOUNDING}


def check_known(roster: RosterDocument, known: dict[int, bytes]) -> None:
    """Refuse a second roster for an epoch."""
    if known.get(roster.epoch, roster.hash) != roster.hash:
        raise refuse(
            f"two rosters for epoch {roster.epoch}: this is not the one this home knows",
            "two-rosters",
            hint=f"if you approved another change to epoch {roster.epoch} and it was overtaken, you"
            " abstain in it: the others approve without you, also the next change (tpmhsm group"
            f" change), and from epoch {roster.epoch + 1} on you approve again. If you approved"
            " none, somebody shows different people different officers: talk",
        )


def _founding_epochs(
    request: Request, memory: Memory, known: dict[int, bytes]
) -> tuple[tuple[Epoch, ...], list[Flag]]:
    asked, group = request.asked_roster, request.group
    check_known(asked, known)
    if known and asked.epoch not in known:
        raise refuse("this group was founded before, with another epoch", "two-rosters")
    flags = []
    if not _is_dated(group, memory):
        flags.append(
            Flag("MEMORY", "your card was not made in this home: have you approved elsewhere?")
        )
    return (
        Epoch(group.id, FOUNDING, group.id),
        Epoch(group.id, asked.epoch, asked.hash),
    ), flags


def _is_dated(group: GroupDocument, memory: Memory) -> bool:
    """Whether this home's memory reaches back to before the group: it saw the founding, or made a
    card whose contribution is in the group's id.
    """
    own = {card.contribution for card in memory.own_cards()}
    return FOUNDING in memory.epochs(group.id) or bool(own & set(group.founders))


def first_epoch(group: GroupDocument, memory: Memory, answered: int | None = None) -> int | None:
    """Return the first epoch for which this home can approve a change; None while it cannot know.

    A memory that reaches back to the founding knows all it approved. Any other one knows it from
    the first counter that the chip certified over its own nonce (`answered`, if it keeps none yet):
    what it has forgotten was for one epoch more at most, for which it abstains.
    """
    if _is_dated(group, memory):
        return 1
    since = memory.live_since(group.id)
    since = answered if since is None else since
    return None if since is None else since + 2


def _change_epochs(
    request: Request, memory: Memory, known: dict[int, bytes]
) -> tuple[tuple[Epoch, ...], list[Flag]]:
    asked, current = request.asked_roster, request.roster
    assert current is not None  # noqa: S101 - Request's own rule
    counter = check_state_of(request)
    if counter is None:
        raise refuse("the chip does not certify the roster in force", "state")
    if current.epoch > counter:
        raise refuse(
            f"a roster for epoch {current.epoch} is written and the counter is at {counter}:"
            " finish that change, or pass its epoch",
            "two-rosters",
        )
    if asked.epoch != counter + 1:
        raise refuse(
            f"the roster is for epoch {asked.epoch}; the chip certifies {counter},"
            f" so the next is {counter + 1}",
            "wrong-epoch",
        )
    check_known(asked, known)
    if known and asked.epoch < max(known):
        raise _lower(asked.epoch, known)
    _check_memory(request, asked, memory)
    flags = []
    if not memory.epochs(request.group.id):
        flags.append(
            Flag("MEMORY", "this home remembers nothing of this group: restored from a backup?")
        )
    if counter > current.epoch:
        flags.append(
            Flag(
                "EPOCH", f"the counter is at {counter}: the roster {current.epoch} is not in force"
            )
        )
    return (
        Epoch(request.group.id, current.epoch, current.hash),
        Epoch(request.group.id, asked.epoch, asked.hash),
    ), flags


def _check_memory(request: Request, asked: RosterDocument, memory: Memory) -> None:
    """Refuse what this home may have approved otherwise and forgotten. What the request certifies
    does not help: without a nonce of this tool's own, root may have kept it.
    """
    first = first_epoch(request.group, memory)
    if first is None:
        raise refuse(
            "this home's memory does not reach back to the founding: it cannot know which roster"
            f" you approved for epoch {asked.epoch} before",
            "memory-lost",
            hint="use the home that approved before; if it is lost, tpmhsm trust challenge begins"
            " anew, and you abstain for one epoch",
        )
    if asked.epoch < first:
        raise refuse(
            f"this home's memory begins with epoch {first - 2}: it may have approved another roster"
            f" for epoch {asked.epoch} before, and abstains",
            "memory-abstains",
            hint=f"the other custodians pass that epoch; you approve from epoch {first} on",
        )


def _lower(epoch: int, known: dict[int, bytes]) -> ApprovalRefusedError:
    return refuse(
        f"epoch {epoch} is past: this home knows epoch {max(known)}",
        "lower-epoch",
        hint="a roster that was approved and regretted is withdrawn only by passing its epoch",
    )


def _sign_epochs(
    request: Request, known: dict[int, bytes], founded: RosterDocument | None
) -> tuple[tuple[Epoch, ...], list[Flag]]:
    roster = request.roster
    assert roster is not None  # noqa: S101 - Request's own rule
    if request.group.static:  # `check_pair` knows the one roster that it has
        return (Epoch(request.group.id, roster.epoch, roster.hash),), []
    counter = check_state_of(request)
    if known and roster.epoch < max(known):
        raise refuse(
            f"epoch {roster.epoch} is past: this home knows epoch {max(known)}",
            "lower-epoch",
            hint=f"if you approved the change to epoch {max(known)} and it still waits, the others"
            " finish it, and the host asks for this anew; if it was given up, they approve another"
            " change to pass that epoch",
        )
    if counter is None and roster == founded:
        return (Epoch(request.group.id, roster.epoch, roster.hash),), []
    if counter is None:
        raise refuse(
            f"the chip does not certify that epoch {roster.epoch} is in force",
            "epoch-not-certified",
            hint="ask the host for a request with the chip's certified state",
        )
    if counter != roster.epoch:
        raise refuse(
            f"the roster is of epoch {roster.epoch}, the chip certifies {counter}:"
            " it is not in force",
            "wrong-epoch",
        )
    return (Epoch(request.group.id, roster.epoch, roster.hash),), []


def group_pin(request: Request, ek: bytes, pinned: PinnedGroup | None) -> PinnedGroup:
    """Return the group's pin, the one that is known or a new one with the eight words."""
    group = request.group
    if pinned is not None:
        return pinned
    words = fingerprint(group, ek)
    return PinnedGroup(group.id, words, group.device_ak, group.encoded)


def _check_birth(request: Request, key: ChipKey, part: KeyPart) -> None:
    """VerificationError unless the asking device made the key; or the group's own device did, for a
    further chip of the group may hold a copy.
    """
    origin, group = request.origin, request.group
    try:
        part.check_birth(request.device.ak_public, key)
    except VerificationError:
        if origin is None:
            raise
        if origin.ak_name != group.device_ak or origin.find_ek(group.device_ek) is None:
            raise VerificationError("its birthplace is not the group's own device") from None
        part.check_birth(origin.ak_public, key)


def check_key(
    request: Request, key: ChipKey, memory: Memory, *, imported: bool = False
) -> tuple[PinnedKey | None, list[Flag]]:
    """Return the key's new pin (None if it is pinned already), and flags.

    Refuses a key that is not guarded by this group, and at first use one whose birth in the
    group's device is not certified by the device's AK. A key that was imported has no birth there:
    it is refused unless the person says that they know (`imported`), and flagged every time.
    """
    part, group = request.key, request.group
    assert part is not None  # noqa: S101 - Request's own rule
    pinned = memory.pinned_key(key.name)
    try:
        policy = check_guarded_key(key, group, part.policy)
        if pinned is None and not key.imported:
            _check_birth(request, key, part)
    except VerificationError as e:
        raise refuse(f'key "{part.label}": {e.message}', "key-evidence") from None
    if key.imported and pinned is None and not imported:
        raise refuse(
            f'key "{part.label}" was not made in the chip but imported: copies of it may exist'
            " outside, and whoever has one uses it without you",
            "imported-key",
            hint="approve it knowingly with --imported, or ask for a key that the chip makes",
        )
    granting = request.kind == "budget"
    if group.name not in (policy.granting if granting else policy.groups):
        what = "grants no budget of" if granting else "approves no use of"
        raise refuse(f'"{group.name}" {what} this key: {policy.text}', "no-part")
    if request.kind == BACKUP:
        policy.copy_way()
    flags = [IMPORTED] if key.imported else []
    flags += policy_flags(policy, group, granting=granting, copying=request.kind == BACKUP)
    flags += [Flag("LOOK-ALIKE", f"{part.label}: {why}") for why in suspicions(part.label)]
    if pinned is not None and pinned.label != part.label:
        flags.append(Flag("KEY", f'the host says "{part.label}", you know it as "{pinned.label}"'))
    if part.policy not in (policy.text, format_document(policy)):
        flags.append(Flag("CLAIM", f"the host says the key's policy is {part.policy[:40]}"))
    others = {k.label for k in memory.pinned_keys(group.id) if k.name != key.name}
    if part.label in others:
        flags.append(Flag("OTHER KEY", f'not the "{part.label}" that you approved for before'))
    like = sorted(one for one in others if skeleton(one) == skeleton(part.label))
    if found := [one for one in like if one != part.label]:
        words = f'"{part.label}" is not "{found[0]}", for which you approved before'
        flags.append(Flag("LOOK-ALIKE", words))
    if pinned is not None:
        return None, flags
    return PinnedKey(key.name, part.label, group.id, key.public), flags
