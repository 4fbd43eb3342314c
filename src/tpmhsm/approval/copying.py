"""A copy of a key to a further chip, as a custodian sees it: which key, which chip, what follows.

The chip that the copy is for must have answered a challenge of this very home: nothing that the
host shows counts (`tpmhsm.approval.second_chips`).
"""

from __future__ import annotations

from hashlib import sha256

from tpmhsm.approval.content import Content, Flag, Row
from tpmhsm.approval.memory import Memory, SecondChip
from tpmhsm.approval.request import Request
from tpmhsm.approval.screen import groups_of
from tpmhsm.approval.second_chips import cautions, must_know_parent
from tpmhsm.attest.statements import ChipKey
from tpmhsm.policy.copying import parse_copy


def copy_facts(content: bytes) -> dict[str, str]:
    """Short facts of a copy. ParseError when the content is none."""
    found = parse_copy(content)
    return {
        "key": found.key.hex(),
        "parent": found.parent_name.hex(),
        "device": found.device_ak.hex(),
    }


def read_copy(request: Request, key: ChipKey, memory: Memory) -> Content:
    """Decode a copy. ApprovalRefusedError for a chip that this home has not asked, whose storage
    key is another one, or whose counter is behind (`must_know_parent`).
    """
    copy = parse_copy(request.content)
    chip = must_know_parent(copy, memory)
    card = chip.card
    rows = (
        Row("Key", key.words, "KEY"),
        Row("Copy to", f"{card.label}, AK {groups_of(card.ak_name.hex()[4:20])}", "you asked it"),
        Row("Kept by", f"its storage key {groups_of(copy.parent_name.hex()[4:20])}", "certified"),
        Row("Epoch", f"{chip.counter} was in force there when you asked"),
        Row("Then", f"both {_act(key)} by the same approvals; neither knows what the other does"),
    )
    return Content(
        "copy a key to another chip",
        rows,
        tuple(_flags(key, chip, memory)),
        facts=copy_facts(request.content),
    )


def _act(key: ChipKey) -> str:
    return "decrypt" if key.decrypts else "sign"


def _flags(key: ChipKey, chip: SecondChip, memory: Memory) -> list[Flag]:
    flags = [
        Flag("FOR EVER", "nothing takes a copy back; your approval makes more of them, there"),
        Flag("REMOVALS", "an officer is out only when the change is in force on that chip, too"),
    ]
    certified = [one for one in memory.certified(sha256(key.spki).digest()) if one.ca]
    if certified:
        names = certified[0].subject
        flags.append(Flag("CA KEY", f"of {names}: both chips can issue as that CA"))
    return [*flags, *cautions(chip)]
