"""Foundings of groups and changes of rosters, as a person has to see them."""

from __future__ import annotations

from tpmhsm.approval.cards import key_words
from tpmhsm.approval.content import Content, Flag, Row
from tpmhsm.approval.demands import demands_facts, read_demands
from tpmhsm.approval.lookalike import alike
from tpmhsm.approval.memory import Memory
from tpmhsm.approval.request import Request
from tpmhsm.approval.screen import groups_of, suspicions
from tpmhsm.policy.changes import Change
from tpmhsm.policy.group import RosterDocument
from tpmhsm.policy.people import Member, Thresholds, describe_rule, members_of, needed


def people_facts(request: Request) -> dict[str, str]:
    """Short facts of the roster that is asked for. ParseError when the content is none."""
    asked = request.asked_roster
    return {
        "group": request.group.name,
        "epoch": str(asked.epoch),
        "officers": describe_rule(asked.officers),
        "keys": " ".join(f"{m.name}={m.chip_name.hex()[4:20]}" for m in members_of(asked.officers)),
        **demands_facts(asked),
    }


def read_people(request: Request, memory: Memory) -> Content:
    """Decode a roster: of a new group, or of the next epoch. ParseError when it is none."""
    asked = request.asked_roster
    if request.roster is None:
        return _founding(request, asked, memory)
    return _change(request, request.roster, asked, memory)


def _founding(request: Request, asked: RosterDocument, memory: Memory) -> Content:
    group = request.group
    device, flags = _device(request, memory)
    demands = read_demands(request, None, asked, memory)
    keys, key_flags = _keys_shown(
        request, memory, members_of(group.custodians), members_of(asked.officers)
    )
    rows = [
        Row("Group", group.name, f"id {group.id.hex()[:16]}…"),
        Row("Governed", f"by {describe_rule(group.custodians)}, for ever"),
        Row("Officers", describe_rule(asked.officers), f"epoch {asked.epoch}"),
        device,
        *demands.rows,
        *keys,
    ]
    flags += key_flags
    flags += _name_flags(request, memory, asked)
    flags += _rule_flags(asked.officers, "officer")
    flags += _rule_flags(group.custodians, "custodian")
    if _keys(group.custodians) == _keys(asked.officers):
        flags.append(Flag("PERMANENT", "the officers govern too: a lost quorum cannot be replaced"))
    return Content(
        f'new group "{group.name}"',
        tuple(rows),
        (*flags, *demands.flags),
        demands.listings,
        facts=people_facts(request),
    )


def _device(request: Request, memory: Memory) -> tuple[Row, list[Flag]]:
    """The group's device by its AK; what kind it is, the host only claims, unless its card came
    from outside.
    """
    card = request.device
    known = next((c for c in memory.device_cards() if c.ak_name == card.ak_name), None)
    ak = f"AK {groups_of(card.ak_name.hex()[4:20])}"
    if known is not None:
        row = Row("Device", f"{known.label}, {known.kind}, {ak}", "card trusted")
    else:
        row = Row("Device", ak, "no card from outside the host")
    kind = card.kind if known is None else known.kind
    if kind == "software TPM":
        return row, [Flag("SOFTWARE TPM", "whoever holds its state file can roll it back")]
    return row, [Flag("UNPROVEN", f"nothing here proves that the device is {kind}")]


def _change(request: Request, old: RosterDocument, new: RosterDocument, memory: Memory) -> Content:
    change = Change(old.officers, new.officers)
    demands = read_demands(request, old, new, memory)
    people = [] if change.same and demands.words else [change.words()]
    keys, key_flags = _keys_shown(request, memory, change.added)
    rows = [
        Row("Group", request.group.name, f"id {request.group.id.hex()[:16]}…"),
        Row("Change", "; ".join([*people, *demands.words])),
        Row("Officers", describe_rule(new.officers), f"epoch {new.epoch}"),
        Row("Until now", describe_rule(old.officers), f"epoch {old.epoch}"),
        Row("You then", f"approve nothing of epoch {old.epoch}, no other change to {new.epoch}"),
        *demands.rows,
        *keys,
    ]
    flags = [*_change_flags(request, change, new.epoch), *key_flags]
    flags += _name_flags(request, memory, old, new)
    if change.same and not demands.words:
        flags.append(Flag("NO CHANGE", "the same people: this only moves the epoch"))
    what = "officers" if people else "roster"
    return Content(
        f'new {what} of "{request.group.name}"',
        tuple(rows),
        (*flags, *demands.flags),
        demands.listings,
        facts=people_facts(request),
    )


def _change_flags(request: Request, change: Change, epoch: int) -> list[Flag]:
    governing = _keys(request.group.custodians)
    flags = [
        Flag("NEW OFFICER", f"{m.name} can approve from epoch {epoch} on") for m in change.added
    ]
    flags += [Flag("REMOVED", f"{m.name} can approve no longer") for m in change.removed]
    flags += [
        Flag("STILL GOVERNS", f"{m.name} stays a custodian, who can help to change officers")
        for m in change.removed
        if m.chip_name in governing
    ]
    flags += _number_flags(change)
    flags += _rule_flags(change.after, "officer")
    flags += [
        Flag("RENAMED", f"{was.name}'s key is called {is_.name} from epoch {epoch} on")
        for was, is_ in change.renamed
    ]
    return flags + [Flag("NEW KEY", f"{name} gets another key") for name in change.rekeyed]


def _number_flags(change: Change) -> list[Flag]:
    """How the numbers change, and whether fewer people, or only new ones, can approve now."""
    flags = []
    if change.newcomers_suffice:
        flags.append(Flag("NEWCOMERS", "those who are added suffice, without anybody of until now"))
    weaker = {id(was) for was, _ in change.weaker}
    for was, fewest in change.weaker:
        names = ", ".join(m.name for m in was.members)
        who = f"only {fewest}" if fewest else "nobody"
        flags.append(Flag("WEAKER", f"{who} of ({names}) is needed any more, until now {was.m}"))
    for was, is_ in ((was, is_) for was, is_ in change.ladders if was and id(was) not in weaker):
        if is_ is None or (is_.m, is_.n) == (was.m, was.n):
            continue
        words = f"{is_.m} of {is_.n}{{}}, until now {was.m} of {was.n}"
        if is_.m * was.n < was.m * is_.n:
            flags.append(Flag("FEWER", words.format(" suffice")))
        else:
            flags.append(Flag("RULE", words.format("")))
    return flags


def _name_flags(request: Request, memory: Memory, *rosters: RosterDocument) -> list[Flag]:
    """Names that are not what they look like, or look like another's whom this home knows."""
    rules = [request.group.custodians, *(roster.officers for roster in rosters)]
    people = {member.name for rule in rules for member in members_of(rule)}
    known = {card.name for card in (*memory.trusted_cards(), *memory.own_cards())}
    names = [request.group.name, *sorted(people)]
    flags = [Flag("LOOK-ALIKE", f"{name}: {why}") for name in names for why in suspicions(name)]
    return flags + [
        Flag("LOOK-ALIKE", f"{' and '.join(group)}: different people whose names look alike")
        for group in alike(people | known)
        if people & set(group)
    ]


def _rule_flags(rule: Thresholds, role: str) -> list[Flag]:
    """Rules that hang on one person."""
    if needed(rule) == 1:
        return [Flag("ALONE", f"one {role} alone suffices: a single stolen key decides")]
    return [
        Flag("NO SPARE", f"each {role} of ({', '.join(m.name for m in t.members)}) is needed")
        for t in rule
        if t.m == t.n
    ]


def _keys(rule: Thresholds) -> set[bytes]:
    return {member.chip_name for member in members_of(rule)}


def _keys_shown(
    request: Request, memory: Memory, *lists: tuple[Member, ...]
) -> tuple[list[Row], list[Flag]]:
    """Each person's key, and where it is if the card says that it is in a YubiKey."""
    people = {member.chip_name: member for members in lists for member in members}
    cards = [*memory.trusted_cards(), *request.cards]
    rows, flags = [], []
    for member in people.values():
        rows.append(Row("Key", key_words(member.key), member.name))
        proofs = [c.proof for c in cards if c.spki == member.spki and c.proof is not None]
        # an attestation speaks for itself, whoever brought the card
        if attested := next((p for p in proofs if p.attested), None):
            rows.append(Row("", attested.words))
        elif proofs:
            flags.append(Flag("UNPROVEN", f"{member.name}'s key is {proofs[0].words}"))
        tokens = [c.token for c in cards if c.spki == member.spki and c.token is not None]
        flags += [Flag("UNPROVEN", f"{member.name}'s key: {t.unproven}") for t in tokens[:1]]
    return rows, flags
