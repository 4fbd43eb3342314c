"""The policy document: a policy in TOML, as it is given to --policy and published with a key.

    format = "tpmhsm/policy/1"

    [[any]]
    quorum = "officers"
    pcr = ["sha256:0,2,7"]

    [[any]]
    pin = true

    [roster]
    officers = "000b…"          # Name of the group's roster index; of a static group the digest
                                # at the end of its ladders

    [budget]
    officers = "0x01800003"     # NV index that counts budget("officers") of this key

    [measured.sha256]
    0 = "3d45…"                 # PCRs at the key's birth

    [backup]
    officers = "91c0…"          # digest at the end of the ladders of the custodians who may have
                                # the key copied to another chip

`command = "RSA_Decrypt"` (or `"ECDH_ZGen"`) after the format says that the key decrypts.

Each `[[any]]` is an alternative, and demands all that stands in it; `open = true` stands in the
place of all of them. `[roster]`, `[budget]` and `[measured]` are filled in when a key is made: with
them anyone recomputes the authPolicy without a chip. Text and document give the same `KeyPolicy`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any as Anything

from tpmhsm.errors import ParseError
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.documents import Fields, check_label
from tpmhsm.policy.model import All, Any, Budget, Open, Pin, Policy, Quorum, Window
from tpmhsm.policy.normal import Alternative, normal_form
from tpmhsm.policy.pcrs import read_measured
from tpmhsm.policy.text import MAX_TEXT, format_policy, parse_policy
from tpmhsm.wire.constants import CC

FORMAT = "tpmhsm/policy/1"

_WHAT = "policy document"
_IS_DOCUMENT = re.compile(r"^\s*format\s*=", re.MULTILINE)
_GROUPED: dict[str, type[Quorum | Budget | Window]] = {
    "quorum": Quorum,
    "budget": Budget,
    "window": Window,
}


def read_policy(text: str) -> KeyPolicy:
    """Read a policy, as text or as a document. ParseError for what is neither, UsageError (with
    its own `code`) for what a key cannot have.
    """
    if is_document(text):
        return _read_document(text)
    return KeyPolicy.of(parse_policy(text))


def is_document(text: str) -> bool:
    """Whether a text means to be a document rather than policy text."""
    return bool(_IS_DOCUMENT.search(text))


def format_document(policy: KeyPolicy) -> str:
    """Return the canonical document; two equal policies have the same one, byte for byte."""
    blocks = [f'format = "{FORMAT}"']
    if policy.command != CC.Sign:
        blocks[0] += f'\ncommand = "{policy.command.name}"'
    if policy.is_open:
        blocks[0] += "\nopen = true"
    else:
        blocks += [_alternative(one) for one in policy.alternatives]
    if policy.indices:
        names = (f'"{label}" = "{policy.indices[label].hex()}"' for label in sorted(policy.indices))
        blocks.append("\n".join(["[roster]", *names]))
    if policy.budgets:
        lines = (f'"{label}" = "0x{policy.budgets[label]:08x}"' for label in sorted(policy.budgets))
        blocks.append("\n".join(["[budget]", *lines]))
    for bank, values in sorted(policy.measured.items()):
        lines = (f'{number} = "{values[number].hex()}"' for number in sorted(values))
        blocks.append("\n".join([f"[measured.{bank}]", *lines]))
    for label, end in policy.backup.items():
        blocks.append(f'[backup]\n"{label}" = "{end.hex()}"')
    return "\n\n".join(blocks) + "\n"


def _alternative(one: Alternative) -> str:
    lines = ["[[any]]"]
    if one.group:
        lines.append(f'{"window" if one.window else "quorum"} = "{one.group}"')
    if one.budget:
        lines.append(f'budget = "{one.budget}"')
    if one.pcrs:
        said = ", ".join(f'"{format_policy(pcr)[4:-1]}"' for pcr in one.pcrs)
        lines.append(f"pcr = [{said}]")
    if one.pin:
        lines.append("pin = true")
    return "\n".join(lines)


def _read_document(text: str) -> KeyPolicy:
    import tomllib

    if len(text) > MAX_TEXT:
        raise ParseError(f"{_WHAT}: longer than {MAX_TEXT} characters")
    try:
        value = tomllib.loads(text)
    except (ValueError, RecursionError) as e:
        raise ParseError(f"{_WHAT}: not TOML: {e}") from None
    fields = Fields(value, _WHAT)
    fields.expect("format", FORMAT)
    alternatives = normal_form(_policy(fields))
    measured = read_measured(value.get("measured", {}), _WHAT)
    policy = KeyPolicy(alternatives, _rosters(value), measured, _budgets(value))
    policy = replace(policy, backup=_backup(value))
    fields.allow("roster", "measured", "budget", "backup")
    command = _command(fields)
    fields.done()
    _check_facts(policy)
    return policy.for_command(command) if command != CC.Sign else policy


def _command(fields: Fields) -> CC:
    """What the key is for: nothing is said of one that signs."""
    if not fields.has("command"):
        return CC.Sign
    name = fields.text("command")
    if name not in (CC.RSA_Decrypt.name, CC.ECDH_ZGen.name):
        raise ParseError(f"{_WHAT}: command is RSA_Decrypt or ECDH_ZGen, or not there: {name[:20]}")
    return CC[name]


def _policy(fields: Fields) -> Policy:
    if fields.has("open"):
        _true(fields, "open")
        if fields.has("any"):
            raise ParseError(f"{_WHAT}: open, and alternatives beside it")
        return Open()
    parts = [_one(Fields(item, f"{_WHAT}: any")) for item in fields.list("any")]
    if not parts:
        raise ParseError(f"{_WHAT}: no alternative; open = true says that there are no demands")
    return parts[0] if len(parts) == 1 else Any(tuple(parts))


def _one(fields: Fields) -> Policy:
    parts: list[Policy] = [
        kind(fields.label(word)) for word, kind in _GROUPED.items() if fields.has(word)
    ]
    if fields.has("pcr"):
        for item in fields.list("pcr"):
            if not isinstance(item, str):
                raise ParseError(f'{_WHAT}: pcr is a list of texts such as "sha256:0,2,7"')
            parts.append(parse_policy(f"pcr({item})"))
    if fields.has("pin"):
        _true(fields, "pin")
        parts.append(Pin())
    fields.done()
    if not parts:
        raise ParseError(f"{_WHAT}: an alternative without demands; open = true says that")
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def _true(fields: Fields, key: str) -> None:
    if not fields.flag(key):
        raise ParseError(f"{_WHAT}: {key} = true, or not at all")


def _rosters(value: dict[str, Anything]) -> dict[str, bytes]:
    found = Fields(value.get("roster", {}), f"{_WHAT}: roster")
    labels = list(value["roster"]) if "roster" in value else []
    names = {check_label(label, _WHAT, ParseError): found.hex(label) for label in labels}
    if any(len(name) not in (32, 34) for name in names.values()):
        raise ParseError(f"{_WHAT}: roster: a Name has 34 bytes, a static group's digest 32")
    return names


def _budgets(value: dict[str, Anything]) -> dict[str, int]:
    found = Fields(value.get("budget", {}), f"{_WHAT}: budget")
    indices = {label: found.text(label) for label in value.get("budget", {})}
    for label, index in indices.items():
        check_label(label, _WHAT, ParseError)
        if not re.fullmatch("0x01[89ab][0-9a-f]{5}", index):
            raise ParseError(f"{_WHAT}: budget: no NV index of the owner's: {index[:20]!r}")
    return {label: int(index, 16) for label, index in indices.items()}


def _backup(value: dict[str, Anything]) -> dict[str, bytes]:
    found = Fields(value.get("backup", {}), f"{_WHAT}: backup")
    labels = [check_label(label, _WHAT, ParseError) for label in value.get("backup", {})]
    if "backup" in value and len(labels) != 1:
        raise ParseError(f"{_WHAT}: backup: one group")
    return {label: found.hex(label, 32) for label in labels}


def _check_facts(policy: KeyPolicy) -> None:
    """Facts are there for what the policy names and nothing else, or not at all."""
    named = {
        (pcr.bank, number) for one in policy.alternatives for pcr in one.pcrs for number in pcr.pcrs
    }
    held = {(bank, number) for bank, values in policy.measured.items() for number in values}
    if policy.measured and held != named:
        raise ParseError(f"{_WHAT}: the measured PCRs are not those of the policy")
    if policy.indices and set(policy.indices) != set(policy.rosters):
        raise ParseError(f"{_WHAT}: the rosters are not those of the policy's groups")
    if policy.budgets and set(policy.budgets) != set(policy.granting):
        raise ParseError(f"{_WHAT}: the budgets' indices are not those of the policy's budgets")
    if not set(policy.backup) <= set(policy.groups):
        raise ParseError(f"{_WHAT}: the group whose custodians have the key copied is no other one")
