"""What `tpmhsm status` shows to people: at most 24 lines of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import click

WIDTH, HEIGHT = 80, 24

ROOM = 6
"""Lines that what needs people has in any case, if it wants them."""

_LABEL = 10
_STEP = 6
_MOST = 4

_FRESH = (
    ("tpmhsm ceremony --officers 2:alice.card,bob.card,carol.card",
     "people, a root and an issuer that no one of them can use alone"),
    ("tpmhsm key create LABEL", "a key in the chip, for a try"),
)  # fmt: skip

_OPEN = "open: anyone with this machine"
_TODAY = {
    "issued": ("certificate", "certificates"),
    "crl": ("CRL", "CRLs"),
    "csr": ("CSR", "CSRs"),
    "signed": ("file", "files"),
    "decrypted": ("message", "messages"),
}


def screen(found: dict[str, Any]) -> str:
    """The facts of `tpmhsm.cli.status.collect` in words: what is broken, what needs people, the
    rest as far as there is room.
    """
    todo = found["todo"]
    if not todo and _is_fresh(found):
        head = click.style("all is well, and nothing is made yet", fg="green", bold=True)
        fresh = [line for do, why in _FRESH for line in (f"  {do}", f"      {why}")]
        return "\n".join([head, *fresh, *_below(found, _MOST)])
    wanted = min(sum(len(_item(one)) for one in todo), ROOM)
    sizes = (_below(found, most) for most in range(_MOST, 0, -1))
    below = next((one for one in sizes if len(one) + wanted < HEIGHT), _below(found, 1))
    lines = _todo_lines(todo, HEIGHT - 1 - len(below))
    return "\n".join([_head(todo), *lines, *below])


def _is_fresh(found: dict[str, Any]) -> bool:
    return not (found["keys"]["count"] or found["groups"] or found["authorities"])


def _head(todo: Sequence[dict[str, Any]]) -> str:
    if not todo:
        return click.style("all is well", fg="green", bold=True)
    broken = sum(one["urgent"] for one in todo)
    needed = len(todo) - broken
    said = []
    if broken:
        words = "1 thing is broken" if broken == 1 else f"{broken} things are broken"
        said.append(click.style(words, fg="red", bold=True))
    if needed:
        words = "1 thing needs you" if needed == 1 else f"{needed} things need you"
        said.append(click.style(words, fg="yellow", bold=True))
    return ", ".join(said)


def _todo_lines(todo: Sequence[dict[str, Any]], room: int) -> list[str]:
    """What needs people, as much of it as there is room for."""
    lines: list[str] = []
    for number, item in enumerate(todo):
        new = _item(item)
        rest = len(todo) - number
        if len(lines) + len(new) > room - (1 if rest > 1 else 0):
            return [*lines, f"  ! and {rest} more (tpmhsm status --json lists all)"]
        lines += new
    return lines


def _item(item: dict[str, Any]) -> list[str]:
    """One thing, and its next step in up to two lines: half a command is none."""
    mark = click.style("!", fg="red" if item["urgent"] else "yellow", bold=True)
    steps = wrap(item["next"], WIDTH - _STEP, break_on_hyphens=False)
    if len(steps) > 2:
        steps = [steps[0], " ".join(steps[1:])]
    return [
        f"  {mark} {_cut(item['what'], WIDTH - 4)}",
        *(" " * _STEP + _cut(one, WIDTH - _STEP) for one in steps),
    ]


def _below(found: dict[str, Any], most: int) -> list[str]:
    """How all stands; of each kind at most so many lines."""
    ends, database = found["certificates"], found["database"]
    issued = f"{ends['valid']:,} valid"
    if ends["next_end"]:
        issued += f", the next ends {ends['next_end']}"
    blocks = [
        ("Device", [_device(found["device"])]),
        ("Keys", _keys(found["keys"])),
        ("Budgets", [_budget(one) for one in found["keys"]["budgets"]] or None),
        ("Open", [_window(one) for one in found["keys"]["windows"]] or None),
        ("Today", [_today(found["today"])]),
        ("People", [_group(one) for one in found["groups"]]),
        ("CAs", [_authority(one) for one in found["authorities"]]),
        ("Issued", [issued]),
        ("Log", [_log(database)] if database["ok"] else None),
        ("Database", [database["where"]]),
    ]
    return [line for name, lines in blocks if lines is not None
            for line in _block(name, lines, most)]  # fmt: skip


def _device(device: dict[str, Any]) -> str:
    return str(device["where"]) + ("" if device["ok"] else " does not answer")


def _keys(keys: dict[str, Any]) -> list[str]:
    by_count = sorted(keys["policies"].items(), key=lambda item: -item[1])
    return [f"{count} {_OPEN if policy == 'open' else policy}" for policy, count in by_count]


def _budget(one: dict[str, Any]) -> str:
    return f"{one['key']}: {one['left']:,} of {one['granted']:,} left"


def _window(one: dict[str, Any]) -> str:
    return f"{one['key']} until {one['ends']}, by {one['group']}"


def _today(counts: dict[str, int]) -> str:
    said = [f"{n:,} {_TODAY[act][n != 1]}" for act, n in counts.items() if n]
    return ", ".join(said) + " signed" * bool(said) if said else "nothing signed"


def _group(one: dict[str, Any]) -> str:
    state = "" if one["state"] == "active" else f" ({one['state']})"
    return f"{one['name']}: {one['officers']}{state}, {one['spare']} may be lost"


def _authority(one: dict[str, Any]) -> str:
    left = "" if one["days_left"] is None else f", {one['days_left']} days left"
    crl = (one["revocation"] or {}).get("crl")
    until = f", CRL until {crl['next_update'][:10]}" if crl else ""
    return f"{one['name']} ({one['state']}{left}){until}"


def _log(database: dict[str, Any]) -> str:
    words = f"{database['log_entries']:,} entries, unbroken"
    at = database.get("log_certified")
    return f"{words}; certified by the chip {at[:16].replace('T', ' ')} UTC" if at else words


def _block(name: str, values: list[str], most: int) -> list[str]:
    shown = values or ["none"]
    more = len(shown) - most
    if more > 0 and most == 1:
        shown = [f"{_cut(shown[0], WIDTH - _LABEL - 16)}, and {more} more"]
    elif more > 0:
        shown = [*shown[: most - 1], f"and {more + 1} more"]
    label = click.style(f"{name:{_LABEL}}", bold=True)
    first, *rest = (_cut(one, WIDTH - _LABEL) for one in shown)
    return [label + first, *(" " * _LABEL + one for one in rest)]


def _cut(line: str, width: int = WIDTH) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"
