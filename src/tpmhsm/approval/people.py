"""Foundings of groups and changes of rosters, as a person has to see them."""

from __future__ import annotations

from tpmhsm.approval.cards import key_words
from tpmhsm.approval.content import Content, Flag, Row
from tpmhsm.approval.memory import Memory
from tpmhsm.approval.request import Request
from tpmhsm.approval.screen import groups_of
from tpmhsm.policy.group import RosterDocument
from tpmhsm.policy.people import Member, Thresholds, members_of


def people_facts(request: Request) -> dict[str, str]:
    """Short facts of the roster that is asked for. ParseError when the content is none."""
    asked = request.asked_roster
    return {
        "group": request.group.name,
        "epoch": str(asked.epoch),
        "officers": rule_words(asked.officers),
        "keys": " ".join(f"{m.name}={m.chip_name.hex()[4:20]}" for m in members_of(asked.officers)),
    }


def read_people(request: Request, memory: Memory) -> Content:
    """Decode a roster: of a new group, or of the next epoch. ParseError when it is none."""
    asked = request.asked_roster
    if request.roster is None:
        return _founding(request, asked, memory)
    return _change(request, request.roster, asked)


def _founding(request: Request, asked: RosterDocument, memory: Memory) -> Content:
    group = request.group
    device, flags = _device(request, memory)
    rows = [
        Row("Group", group.name, f"id {group.id.hex()[:16]}…"),
        Row("Governed", f"by {rule_words(group.custodians)}, for ever"),
        Row("Officers", rule_words(asked.officers), f"epoch {asked.epoch}"),
        device,
        *_key_rows(members_of(group.custodians), members_of(asked.officers)),
    ]
    if _keys(group.custodians) == _keys(asked.officers):
        flags.append(Flag("PERMANENT", "the officers govern too: a lost quorum cannot be replaced"))
    return Content(
        f'new group "{group.name}"', tuple(rows), tuple(flags), facts=people_facts(request)
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


def _change(request: Request, old: RosterDocument, new: RosterDocument) -> Content:
    before, after = _by_key(old.officers), _by_key(new.officers)
    added = [after[key] for key in after if key not in before]
    removed = [before[key] for key in before if key not in after]
    rows = [
        Row("Group", request.group.name, f"id {request.group.id.hex()[:16]}…"),
        Row("Officers", rule_words(new.officers), f"epoch {new.epoch}"),
        Row("Until now", rule_words(old.officers), f"epoch {old.epoch}"),
        Row("Added", ", ".join(m.name for m in added) or "nobody"),
        Row("Removed", ", ".join(m.name for m in removed) or "nobody"),
        *_key_rows(tuple(added), ()),
    ]
    return Content(
        f'new officers of "{request.group.name}"',
        tuple(rows),
        tuple(_change_flags(old, new, added, removed)),
        facts=people_facts(request),
    )


def _change_flags(
    old: RosterDocument, new: RosterDocument, added: list[Member], removed: list[Member]
) -> list[Flag]:
    flags = [Flag("NEW OFFICER", f"{m.name} can approve from epoch {new.epoch} on") for m in added]
    flags += [Flag("REMOVED", f"{m.name} can approve no longer") for m in removed]
    for was, is_ in zip(old.officers, new.officers, strict=False):
        if is_.m * was.n < was.m * is_.n:
            flags.append(Flag("FEWER", f"{is_.m} of {is_.n} suffice, until now {was.m} of {was.n}"))
        elif (is_.m, is_.n) != (was.m, was.n):
            flags.append(Flag("RULE", f"{is_.m} of {is_.n}, until now {was.m} of {was.n}"))
    flags += [
        Flag("RENAMED", f"{was.name}'s key is called {is_.name} from epoch {new.epoch} on")
        for was, is_ in _renamed(old, new)
    ]
    if not added and not removed and not flags:
        flags.append(Flag("NO CHANGE", "the same people: this only moves the epoch"))
    names = {m.name for m in removed} & {m.name for m in added}
    flags += [Flag("NEW KEY", f"{name} gets another key") for name in sorted(names)]
    return flags


def _renamed(old: RosterDocument, new: RosterDocument) -> list[tuple[Member, Member]]:
    """Keys that stay and get another name: as it was, as it is to be."""
    before, after = _by_key(old.officers), _by_key(new.officers)
    return [
        (before[key], after[key])
        for key in before
        if key in after and before[key].name != after[key].name
    ]


def rule_words(rule: Thresholds) -> str:
    """Words for a rule: '2 of 3 (alice, bob, carol)'."""
    return " and ".join(threshold.describe() for threshold in rule)


def _keys(rule: Thresholds) -> set[bytes]:
    return {member.chip_name for member in members_of(rule)}


def _by_key(rule: Thresholds) -> dict[bytes, Member]:
    return {member.chip_name: member for member in members_of(rule)}


def _key_rows(*lists: tuple[Member, ...]) -> list[Row]:
    people = {member.chip_name: member for members in lists for member in members}
    return [Row("Key", key_words(m.key), m.name) for m in people.values()]
