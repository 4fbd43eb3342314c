"""A window: officers open one key for some seconds; until then, or a reset, it signs unattended.

What they approve is a document, whose live part is the nonceTPM of a policy session that waits in
the chip. Each approval gives a ticket (TPM2_PolicySigned with a negative expiration, TCG TPM 2.0
Library Part 3 §23.3), and TPM2_PolicyTicket walks the officers' ladder with it while it lasts. The
chip counts the seconds from the start of that session, so from when the window was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.policy.ahash import NONCE_SIZE
from tpmhsm.policy.documents import Fields, canonical, parse_canonical

WINDOW_FORMAT = "tpmhsm/window/1"

LONGEST = 24 * 3600
"""Seconds. Whoever opens a key tomorrow again decides tomorrow again: a window holds whatever
happens to its officers meanwhile, and the chip's clock may be made slower by 17 %."""

SHORTEST = 3
"""Seconds. Less is over before it is used."""

KEY_NAME = 34


@dataclass(frozen=True)
class WindowDocument:
    """What officers approve: `key_name` (34 bytes) may sign anything for `seconds` from the start
    of the session with this nonceTPM (16 bytes), under the roster of this group and epoch.
    """

    group: bytes
    epoch: int
    key_name: bytes
    nonce: bytes
    seconds: int

    def __post_init__(self) -> None:
        if (len(self.group), len(self.key_name)) != (32, KEY_NAME) or self.epoch < 1:
            raise UsageError("a window is of one group and epoch, for one key's Name")
        if len(self.nonce) != NONCE_SIZE:
            raise UsageError("a nonceTPM that people sign has 16 bytes", code="nonce-length")
        check_seconds(self.seconds)

    @cached_property
    def encoded(self) -> bytes:
        """The canonical bytes."""
        return canonical(
            {
                "format": WINDOW_FORMAT,
                "group": self.group.hex(),
                "epoch": self.epoch,
                "key": self.key_name.hex(),
                "nonce": self.nonce.hex(),
                "seconds": self.seconds,
            }
        )


@lru_cache(16)
def parse_window(data: bytes) -> WindowDocument:
    """Read a window's document. ParseError unless it is valid and canonical."""
    what = "window"
    fields = Fields(parse_canonical(data, what), what)
    fields.expect("format", WINDOW_FORMAT)
    try:
        found = WindowDocument(
            fields.hex("group", 32),
            fields.number("epoch", 1),
            fields.hex("key", KEY_NAME),
            fields.hex("nonce", NONCE_SIZE),
            fields.number("seconds", 1),
        )
    except ParseError:
        raise
    except UsageError as e:
        raise ParseError(f"{what}: {e.message}") from None
    fields.done()
    return found


def check_seconds(seconds: int) -> None:
    """UsageError unless a window may be this long."""
    if not SHORTEST <= seconds <= LONGEST:
        raise UsageError(
            f"a window of {describe_seconds(seconds)}: it lasts {SHORTEST} seconds to "
            f"{LONGEST // 3600} hours",
            code="window-length",
            hint="--for 15m; when it ends the officers can open the key again",
        )


def describe_seconds(seconds: int) -> str:
    """'15 minutes', '1 hour 30 minutes', '45 seconds'."""
    found = []
    for size, word in ((3600, "hour"), (60, "minute"), (1, "second")):
        count, seconds = divmod(seconds, size)
        if count:
            found.append(f"{count} {word}{'' if count == 1 else 's'}")
    return " ".join(found) or "0 seconds"
