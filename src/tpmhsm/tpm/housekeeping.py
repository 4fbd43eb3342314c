"""The few commands that keep a software TPM's house, as plain bytes over a door.

The keeper process lives as long as the software TPM and must stay small, so it does not load the
tables of `tpmhsm.wire`; and a chip is cleaned up after somebody who may have died in the middle of
anything, so nothing here depends on what a session or a handle was for.
"""

from __future__ import annotations

import struct

from tpmhsm.errors import DeviceError
from tpmhsm.tpm.door import Door

_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_SHUTDOWN, _GET_CAPABILITY, _FLUSH, _HIERARCHY_CONTROL = 0x145, 0x17A, 0x165, 0x121
_CAP_HANDLES, _CAP_TPM_PROPERTIES = 1, 6
_PT_LOCKOUT_COUNTER = 0x20E
_SU_CLEAR = 0
_RH_PLATFORM = 0x4000000C
_EMPTY_PASSWORD = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
_GONE = (0x18B, 0x1CB)  # TPM_RC_HANDLE, as handle and as parameter: flushed already

# What does not survive the one who made it: loaded and saved sessions, transient objects
# (Part 2, section 7.2: the handle type is the upper octet).
_FIRST_HANDLES = (0x02000000, 0x03000000, 0x80000000)


def greet(door: Door) -> None:
    """Ask something harmless, to see whether the chip is alive. Raises DeviceError."""
    _exchange(door, _GET_CAPABILITY, struct.pack(">III", _CAP_HANDLES, _FIRST_HANDLES[0], 1))


def leftovers(door: Door) -> list[int]:
    """The handles of all transient objects and sessions in the chip, whoever made them."""
    return [handle for first in _FIRST_HANDLES for handle in _handles(door, first)]


def flush_everything(door: Door) -> int:
    """Flush every transient object and session; returns how many there were.

    For a chip that belongs to one holder at a time. Raises DeviceError when the chip will not.
    """
    found = leftovers(door)
    for handle in found:
        code, _ = _exchange(door, _FLUSH, struct.pack(">I", handle))
        if code not in (0, *_GONE):
            raise DeviceError(f"the TPM would not let go of handle 0x{handle:08x} (0x{code:03x})")
    return len(found)


def disable_platform_hierarchy(door: Door) -> None:
    """TPM2_HierarchyControl: platformAuth is empty after each start-up, and firmware is us."""
    body = struct.pack(">I", _RH_PLATFORM) + _EMPTY_PASSWORD + struct.pack(">IB", _RH_PLATFORM, 0)
    code, _ = _exchange(door, _HIERARCHY_CONTROL, body, _SESSIONS)
    if code:
        raise DeviceError(f"the software TPM did not start in good order (0x{code:03x})")


def shut_down(door: Door) -> None:
    """TPM2_Shutdown(CLEAR), so that the next start does not count as a failed try. With STATE the
    chip's audit of signatures would go on, but could prove nothing any more: what is signed after
    the state was saved is forgotten with the power.
    """
    _exchange(door, _SHUTDOWN, struct.pack(">H", _SU_CLEAR))


def failed_tries(door: Door) -> int:
    """Wrong PINs that are counted now. They come back while the chip runs, and only then."""
    asked = struct.pack(">III", _CAP_TPM_PROPERTIES, _PT_LOCKOUT_COUNTER, 1)
    code, body = _exchange(door, _GET_CAPABILITY, asked)
    if code or len(body) < 17:
        return 0
    tag, value = struct.unpack_from(">II", body, 9)
    return int(value) if tag == _PT_LOCKOUT_COUNTER else 0


def _handles(door: Door, first: int) -> list[int]:
    """TPM2_GetCapability(TPM_CAP_HANDLES), all pages."""
    found: list[int] = []
    while True:
        code, body = _exchange(door, _GET_CAPABILITY, struct.pack(">III", _CAP_HANDLES, first, 64))
        if code:
            raise DeviceError(f"the TPM would not list its handles (0x{code:03x})")
        more, _, count = struct.unpack_from(">BII", body)
        found += struct.unpack_from(f">{count}I", body, 9)
        if not more or not count:
            return found
        first = found[-1] + 1


def _exchange(door: Door, code: int, body: bytes, tag: int = _NO_SESSIONS) -> tuple[int, bytes]:
    response = door.send(struct.pack(">HII", tag, 10 + len(body), code) + body)
    return int.from_bytes(response[6:10], "big"), response[10:]
