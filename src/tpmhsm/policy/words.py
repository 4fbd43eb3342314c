"""A key's policy in words: who can use it, what is not protected, what root could still do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tpmhsm.errors import UsageError
from tpmhsm.policy.explain import STATIC, Groups
from tpmhsm.policy.model import All, Any, Budget, Open, Pcr, Policy, Quorum, Window
from tpmhsm.policy.normal import Alternative, normal_form
from tpmhsm.policy.people import describe_rule
from tpmhsm.policy.rosters import explain_now

if TYPE_CHECKING:
    from tpmhsm.policy.compile import KeyPolicy

OPEN = (
    "Anyone with this machine can use the key: whoever may talk to its TPM, so root too.",
    "The key itself cannot be copied out of the chip.",
)
SOFTWARE_PCRS = (
    "the PCRs of a software TPM prove nothing: root starts it anew and extends them as it likes"
)


def explain_policy(policy: Policy, groups: Groups | None = None) -> list[str]:
    """Return sentences, one a line: what the chip demands, what is not protected, what root can do.

    `groups` has the groups known here; an unknown one is described by its label alone. What no key
    can have is described too, with the reason in the last line.
    """
    known = groups or {}
    if isinstance(policy, Open):
        return list(OPEN)
    try:
        alternatives = normal_form(policy)
    except UsageError as e:
        return [*_roughly(policy, known), f"No key can have this policy: {e.message}."]
    lines = []
    if len(alternatives) > 1:
        lines.append(f"Any one of these {len(alternatives)} will do; the weakest decides:")
    for number, one in enumerate(alternatives, 1):
        head = f"{number}. " if len(alternatives) > 1 else ""
        lines.append(f"{head}{_demands(one, known)}")
    lines += _people(alternatives, known)
    return [*lines, *_not_protected(alternatives)]


def explain_use(*, decrypts: bool, imported: bool) -> list[str]:
    """Return what must be known of a key before its policy: that it decrypts, that it was imported.
    Nothing of a key that the chip made to sign.
    """
    lines = []
    if imported:
        lines.append(
            "This key was imported, not made in the chip: copies of it may exist outside. Whoever "
            "has one needs no policy, no PIN and no approval; the chip cannot know of it."
        )
    if decrypts:
        lines += [
            "This key decrypts and never signs: what is said of signatures holds for decryptions.",
            "Whoever has this machine reads what is decrypted. What officers approved it can have "
            "decrypted again, until the officers change. A decryption key has no windows.",
        ]
    return lines


def explain_copies(policy: KeyPolicy, groups: Groups | None = None) -> list[str]:
    """Return sentences on who may have a key copied to another chip; none for one that stays."""
    lines = []
    for label in policy.backup:
        known = (groups or {}).get(label)
        whose = f", {describe_rule(known[0].custodians)}," if known else ""
        lines += [
            f'The key may leave this chip: custodians of "{label}"{whose} can have it copied to '
            "another one, together. Each of them asks that chip first; the chip here checks only "
            "that the copy is for the storage key that they approved.",
            "Where a copy is, the same approvals count, and each chip knows only what it did "
            "itself. An officer is out when the change is in force on every chip that has the "
            "group: tpmhsm group export, group join.",
        ]
        if policy.has_pin:
            lines.append("A copy has the same PIN; each chip counts wrong ones for itself.")
        if policy.windows:
            lines.append("A window is opened on each chip by itself.")
    return lines


_OF_IMPORTED = (
    ("The key itself cannot be copied", "What is in the chip cannot be copied"),
    ("obody else can sign:", "obody else can sign with what is in the chip:"),
    ("at the key's birth", "when the key was imported"),
)


def of_imported(lines: Iterable[str]) -> list[str]:
    """The sentences of `explain_policy` as they hold for an imported key: a policy binds what is in
    the chip, and no copy.
    """
    found = list(lines)
    for words, instead in _OF_IMPORTED:
        found = [line.replace(words, instead) for line in found]
    return found


def demands_in_words(alternative: Alternative) -> str:
    """'the PIN, and PCRs 0, 7 (sha256) as they were at the key's birth': all but the group."""
    parts = [_pcrs(pcr) for pcr in alternative.pcrs]
    if alternative.pin:
        parts.append("the PIN")
    if alternative.budget:
        parts.append(f'a unit of the budget that officers of "{alternative.budget}" granted')
    return ", and ".join(parts)


def _pcrs(pcr: Pcr) -> str:
    numbers = ", ".join(map(str, pcr.pcrs))
    return f"PCRs {numbers} ({pcr.bank}) as they were at the key's birth"


def _demands(one: Alternative, known: Groups) -> str:
    """One alternative as a sentence."""
    parts = []
    rule = f" ({describe_rule(known[one.group][1].officers)})" if one.group in known else ""
    if one.window:
        parts.append(f'that officers of "{one.group}"{rule} have opened the key for a time')
    elif rule:
        whose = describe_rule(known[one.group][1].officers)
        parts.append(f'the approvals of {whose}, officers of "{one.group}", over the very bytes')
    elif one.group:
        parts.append(f'approvals by officers of "{one.group}", over the very bytes')
    if rest := demands_in_words(one):
        parts.append(rest)
    return f"Each signature takes {', and '.join(parts)}. The chip checks that."


def _people(alternatives: tuple[Alternative, ...], known: Groups) -> list[str]:
    lines = []
    labels = dict.fromkeys(g for one in alternatives for g in (one.group, one.budget) if g)
    if all(one.group for one in alternatives):
        closed = any(one.window for one in alternatives)
        who = "While it is closed nobody else can sign" if closed else "Nobody else can sign"
        lines.append(f"{who}: not root on this machine, not the owner of the TPM.")
    lines += [
        line
        for label in dict.fromkeys(one.budget for one in alternatives if one.budget)
        for line in _grants(label, known)
    ]
    for label in labels:
        if label not in known:
            lines.append(f'The group "{label}" is not known here, so who they are cannot be said.')
            continue
        group, roster = known[label]
        if group.static:
            lines += [f'The group "{label}" is static: {line}.' for line in STATIC]
            continue
        lines.append(
            f'The officers of "{label}" (epoch {roster.epoch}) are replaced by its custodians: '
            f"{describe_rule(group.custodians)}. So the custodians, together, decide who signs, "
            "and whether this key may ever be opened for a time without approvals."
        )
        lines += explain_now(label, roster)
    if any(label not in known or not known[label][0].static for label in labels):
        lines.append("Custodians are fixed for the life of the group.")
    return lines


def _grants(label: str, known: Groups) -> list[str]:
    rule = f": {describe_rule(known[label][1].officers)}" if label in known else ""
    return [
        f'Officers of "{label}" grant units in advance{rule}. The chip counts them, across '
        "restarts, and refuses when they are used up; nobody but those officers can add to them, "
        "neither root nor the owner of the TPM.",
        "'tpmhsm key grant KEY N' asks them for N more; 'tpmhsm key show KEY' says what is left.",
    ]


def _not_protected(alternatives: tuple[Alternative, ...]) -> list[str]:
    lines = []
    if any(one.window for one in alternatives):
        lines += _about_window(alternatives)
    if any(one.budget for one in alternatives):
        lines += _about_budget(alternatives)
    if any(one.pin for one in alternatives):
        lines += _about_pin(alternatives)
    if any(one.pcrs for one in alternatives):
        lines += _about_pcrs(alternatives)
    return lines


def _about_window(alternatives: tuple[Alternative, ...]) -> list[str]:
    alone = any(one.window and not one.budget for one in alternatives)
    group = next(one.group for one in alternatives if one.window)
    return [
        "While it is open anyone with this machine signs what they like, root too, and nobody sees "
        "what"
        + ("; a budget beside it limits how often." if alone else ", as often as units last."),
        "The chip ends a window by its own clock, and at any reset, restart or suspend; its owner "
        "can make that clock slower, and a window up to 17 % longer. A session that was filled "
        "inside a window signs once more until the end, also after the officers have changed.",
        f"To the chip this is quorum({group}): approvals over the very bytes would do, too, and a "
        f"key of quorum({group}) can be opened as well. Only the roster tells them apart: the "
        "custodians decide which keys may be opened (tpmhsm group change GROUP --open KEY).",
    ]


def _about_budget(alternatives: tuple[Alternative, ...]) -> list[str]:
    alone = any(one.budget and not one.group and not one.pin for one in alternatives)
    lines = []
    if alone:
        lines.append(
            "Not protected: whoever has the machine, root too, signs what it likes until the units "
            "are gone. A grant says how many signatures, not which."
        )
    return [
        *lines,
        "Root can use units up, or remove the chip's count: then nothing is signed by it until the "
        "officers grant again; what was used up is not given back.",
        "A unit is used up as soon as the chip is asked, also when the signature is then refused "
        "or lost, by a wrong PIN or a power failure.",
    ]


def _about_pin(alternatives: tuple[Alternative, ...]) -> list[str]:
    alone = any(one.pin and not one.group and not one.budget for one in alternatives)
    counted = any(one.pin and not one.group for one in alternatives)
    then = (
        ", and then signs until the units are gone."
        if counted
        else "; it still needs the approvals."
    )
    return [
        "The chip counts wrong PINs and locks itself for a time after too many; so does an unclean "
        "stop. 'tpmhsm device show' says how many, and for how long.",
        "Not protected: root on this machine reads the PIN when it is typed here"
        + (", and then signs what it likes." if alone else then),
        "Root can lock the PIN out by wrong ones, and reset the count unless the chip is "
        "sealed (tpmhsm device seal): then it may go on guessing, so choose a long PIN.",
        "Nobody can change the PIN: not root, and not you.",
    ]


def _about_pcrs(alternatives: tuple[Alternative, ...]) -> list[str]:
    lines = [
        "PCRs say what was started, not who asks: in that state every program that may talk to "
        "the TPM is inside."
    ]
    if any(one.pcrs and not one.group and not one.pin for one in alternatives):
        lines.append("Not protected: root on the machine in that state signs what it likes.")
    lost = [one for one in alternatives if one.pcrs]
    what = "the key" if len(lost) == len(alternatives) else "that alternative"
    lines.append(
        f"An update of what is measured (firmware, boot loader) ends {what} for good: nobody can "
        "approve the new state. PCRs that custodians approve again stand in a group's roster: "
        "tpmhsm group change GROUP --pcr."
    )
    lines.append(f"{SOFTWARE_PCRS[0].upper()}{SOFTWARE_PCRS[1:]}.")
    if any(pcr.bank == "sha1" for one in alternatives for pcr in one.pcrs):
        lines.append("SHA-1 is broken: choose the sha256 bank where there is one.")
    return lines


# ── what no key can have ─────────────────────────────────────────────────────────────────────


def _roughly(policy: Policy, known: Groups) -> list[str]:
    if isinstance(policy, All | Any):
        head = "All of these are demanded:" if isinstance(policy, All) else "One of these will do:"
        return [head, *(f"  {line}" for part in policy.parts for line in _roughly(part, known))]
    if isinstance(policy, Budget):
        return [_demands(Alternative(budget=policy.group), known)]
    if isinstance(policy, Window):
        return [_demands(Alternative(policy.group, window=True), known)]
    if isinstance(policy, Open):
        return [OPEN[0]]
    group = policy.group if isinstance(policy, Quorum) else ""
    pcrs = (policy,) if isinstance(policy, Pcr) else ()
    return [_demands(Alternative(group, pcrs, pin=not group and not pcrs), known)]
