"""A window to be opened, as a person sees it: what the machine may do then, and until when."""

from __future__ import annotations

from hashlib import sha256

from tpmhsm.approval.content import Content, Flag, Row
from tpmhsm.approval.memory import Memory
from tpmhsm.approval.request import Request
from tpmhsm.attest.statements import ChipKey
from tpmhsm.errors import ApprovalRefusedError
from tpmhsm.policy.windows import describe_seconds, parse_window

LONG = 3600
"""Seconds from which on a window is called long."""

STRETCH = 17
"""Per cent by which the chip's owner can make its clock slower (TPM2_ClockRateAdjust), measured."""


def window_facts(content: bytes) -> dict[str, str]:
    """Short facts of a window. ParseError when the content is none."""
    found = parse_window(content)
    return {"seconds": str(found.seconds), "epoch": str(found.epoch), "nonce": found.nonce.hex()}


def read_window(request: Request, key: ChipKey, memory: Memory) -> Content:
    """Decode a window. ApprovalRefusedError for one of another key, epoch or group, and where the
    custodians have not allowed that this key is opened.
    """
    window, roster = parse_window(request.content), request.roster
    assert roster is not None  # noqa: S101 - Request's own rule
    if (window.group, window.epoch, window.key_name) != (roster.group, roster.epoch, key.name):
        raise ApprovalRefusedError(
            "the window is of another key, group or epoch than the request says",
            code="other-window",
        )
    if key.name not in roster.windows:
        raise ApprovalRefusedError(
            "the custodians have not allowed that this key is opened: the roster in force does not"
            " list it",
            code="window-not-allowed",
        )
    words = describe_seconds(window.seconds)
    rows = (
        Row("Key", key.words, "KEY"),
        Row("Open", f"for {words} at most, counted by the chip"),
        Row("From", "when it was asked for; waiting for approvals takes from it"),
        Row("Ends", "then, or earlier at any reset, restart or suspend of the chip"),
        Row("Allows", "the machine signs ANYTHING with this key, and nobody is asked"),
        Row("Session", window.nonce.hex(), "counts in this session alone"),
    )
    return Content(
        f"open a key for {words}",
        rows,
        tuple(_flags(key, memory, window.seconds)),
        facts=window_facts(request.content),
    )


def _flags(key: ChipKey, memory: Memory, seconds: int) -> list[Flag]:
    flags = [Flag("ANYTHING", "root on that machine signs what it likes until then; you see none")]
    certified = [one for one in memory.certified(sha256(key.spki).digest()) if one.ca]
    if certified:
        names = certified[0].subject
        flags.append(Flag("CA KEY", f"of {names}: it can issue any certificate that CA can"))
    if seconds > LONG:
        flags.append(Flag("LONG", "short windows, asked for more often, give less away"))
    flags.append(Flag("STRETCH", f"the chip's owner can slow its clock: up to {STRETCH} % longer"))
    flags.append(Flag("ROSTER", "what begins inside it is signed, even if officers are removed"))
    return flags
