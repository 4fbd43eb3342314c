"""A conversation with one chip: typed commands in, typed responses or errors in words out.

    chip = Chip(door)
    made = chip.send(GetRandom(16))
    chip.send(NV_Read(RH.OWNER, index, 8, 0), Password(b"…"))

A chip is used by one thread, inside one transaction. It remembers the handles of everything that
it brought to life, so that nothing is left behind: TPMs have room for three objects and three
sessions.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tpmhsm.attest.audit_records import AUDITED, Audited
from tpmhsm.errors import ChipRefusedError, DeviceError, ParseError, VerificationError
from tpmhsm.tpm.exchange import Exchange
from tpmhsm.tpm.sessions import (
    EMPTY_ANSWER,
    EMPTY_AREA,
    EMPTY_PASSWORD,
    Auth,
    Password,
    Session,
)
from tpmhsm.wire.codec import Structure
from tpmhsm.wire.commands import FlushContext, GetCapability, NV_ReadPublic, ReadPublic
from tpmhsm.wire.constants import CAP, CC, HT, RC, RH
from tpmhsm.wire.framing import (
    Command,
    Layout,
    Reply,
    build,
    encode_handles,
    encode_parameters,
    handles_of,
    layout_of,
    parse_response,
    split_response,
)
from tpmhsm.wire.names import handle_name, name_of_nv, name_of_public
from tpmhsm.wire.rc import base_code, is_retry, rc_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tpmhsm.tpm.door import Door
    from tpmhsm.tpm.journal import Journal

R = TypeVar("R", bound=Structure)

PATIENCE = 20.0
"""Seconds in which a command is sent again when the chip says RETRY, YIELDED, TESTING, NV_RATE."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.25
_HANDLES_AT_A_TIME = 64

_NV_CHANGES = frozenset(
    {
        *(CC.NV_DefineSpace, CC.NV_UndefineSpace, CC.NV_UndefineSpaceSpecial, CC.NV_Write),
        *(CC.NV_Increment, CC.NV_Extend, CC.NV_SetBits, CC.NV_WriteLock, CC.NV_ReadLock),
    }
)
_GIVES_NAME = frozenset(
    {CC.Load, CC.LoadExternal, CC.CreatePrimary, CC.ReadPublic, CC.NV_ReadPublic}
)
_HIERARCHIES = {int(RH.OWNER): "owner", int(RH.ENDORSEMENT): "endorsement"}
_NOTEWORTHY = _NV_CHANGES | _GIVES_NAME | {CC.FlushContext, CC.SequenceComplete, CC.Clear}


class Chip:
    """One conversation through a door (anything with `send(bytes) -> bytes`).

    `commands` counts what was sent. `created` are the transient objects and sessions that this
    conversation made and has not flushed. `shelf` is the directory where sessions wait that
    outlive it (`tpmhsm.tpm.live`), if there is one. `passwords` gives that of the owner or the
    endorsement hierarchy (RH), or nothing; it is asked when the chip does not take the empty one.
    `journal` takes the commands that the chip audits.
    """

    def __init__(
        self,
        door: Door,
        *,
        patience: float = PATIENCE,
        shelf: Path | None = None,
        passwords: Callable[[int], bytes] | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.commands = 0
        self.journal = journal
        self._passwords = passwords
        self.shelf = shelf
        self._door = door
        self._patience = patience
        self._created: dict[int, None] = {}
        self._names: dict[int, bytes] = {}

    def send(self, command: Command[R], *auths: Auth) -> R:
        """Send a command and return its typed response.

        `auths` stand for the handles that need authorization, in order; for those not given an
        empty password is sent. Further ones are sessions for encryption or audit.

        Raises ChipRefusedError (the chip's refusal in words), DeviceError (the chip cannot, or
        answers what no TPM would), VerificationError (a response HMAC or a Name is wrong),
        UsageError (values that fit no command).
        """
        kind = type(command)
        layout = layout_of(kind)
        handles, parameters = encode_handles(command), encode_parameters(command)
        exchange = None
        area = EMPTY_AREA * layout.auths
        if auths:
            auths += (EMPTY_PASSWORD,) * (layout.auths - len(auths))
            exchange = Exchange(command, layout, auths)
            names = self._names_for(command) if exchange.hashed else ()
            parameters, area = exchange.protect(names, parameters)
        data = build(layout.code, handles, parameters, area)
        try:
            reply = self._converse(data, layout, sessions=bool(area))
            if reply.rc:
                if base_code(reply.rc) == RC.BAD_AUTH and not auths:
                    return self._with_password(command, handles, layout.auths, reply.rc)
                raise rc_error(reply.rc, kind.__name__)
            if self.journal is not None and layout.code in AUDITED:
                self._write_down(self.journal, command, parameters, reply)
            if reply.handle:
                self._created[int.from_bytes(reply.handle, "big")] = None
            if exchange is not None:
                reply = reply._replace(parameters=exchange.verify(reply))
            elif reply.auth_area != EMPTY_ANSWER * layout.auths:
                raise VerificationError("an HMAC in the response to an empty password")
            response = parse_response(kind, reply)
            self._note(command, layout, auths, response)
        except ParseError as e:
            raise DeviceError(f"the chip's answer to {kind.__name__} makes no sense: {e}") from e
        return cast("R", response)

    def _write_down(
        self, journal: Journal, command: Command[Any], parameters: bytes, reply: Reply
    ) -> None:
        """An audited command goes into the journal before anything else can fail."""
        names = b"".join(self._names_for(command))
        digest = getattr(command, "digest", b"")
        code = int(command.CODE)
        journal.add(Audited(int(time.time()), code, names, parameters, reply.parameters, digest))

    def _with_password(self, command: Command[R], handles: bytes, auths: int, rc: int) -> R:
        """Once more, where a hierarchy has a password after all. Neither that of the owner nor that
        of the endorsement hierarchy is under dictionary attack protection (Part 1 §19.8).
        """
        asked = [int.from_bytes(handles[4 * i : 4 * i + 4], "big") for i in range(auths)]
        named = [_HIERARCHIES[handle] for handle in asked if handle in _HIERARCHIES]
        ask = self._passwords or (lambda _: b"")
        found = {handle: ask(handle) for handle in asked if handle in _HIERARCHIES}
        if any(found.values()):
            return self.send(command, *(Password(found.get(handle, b"")) for handle in asked))
        error = rc_error(rc, type(command).__name__)
        if named:
            error.hint = f"the {named[0]} hierarchy has a password: a file with it is named in"
            error.hint += f" tpmhsm.toml, [device] {named[0]}_auth_file"
        raise error

    def _converse(self, data: bytes, layout: Layout, *, sessions: bool) -> Reply:
        pause, deadline = _FIRST_PAUSE, 0.0
        while True:
            self.commands += 1
            answer = self._door.send(data)
            reply = split_response(answer, handle=layout.response_handle, sessions=sessions)
            if not is_retry(reply.rc):
                return reply
            now = time.monotonic()
            deadline = deadline or now + self._patience
            if now + pause > deadline:
                return reply
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    # --- Names ------------------------------------------------------------------------------------

    def pin(self, handle: int, name: bytes) -> None:
        """Say what the Name behind a handle must be; authorizations will cover it.

        If something else is there, commands with an HMAC or a cpHash-bound policy fail.
        """
        self._names[handle] = name

    def name_of(self, handle: int) -> bytes:
        """The Name behind a handle: pinned, computed when it was loaded, or else asked for.

        A Name that is asked for is computed from the public area the chip shows; who must not trust
        the way to the chip pins Names.
        """
        handle_type = handle >> 24
        if handle_type not in (HT.NV_INDEX, HT.TRANSIENT, HT.PERSISTENT):
            return handle_name(handle)
        if handle not in self._names:
            if handle_type == HT.NV_INDEX:
                self.send(NV_ReadPublic(handle))
            else:
                self.send(ReadPublic(handle))
        return self._names[handle]

    def _names_for(self, command: Command[Any]) -> tuple[bytes, ...]:
        return tuple([self.name_of(handle) for handle in handles_of(command)])

    # --- what was made ----------------------------------------------------------------------------

    def _note(self, command: Any, layout: Layout, auths: tuple[Auth, ...], response: Any) -> None:
        for auth in auths:
            if isinstance(auth, Session) and auth.ended:
                self.forget(auth.handle)
        code = layout.code
        if code not in _NOTEWORTHY:
            return
        if code in _GIVES_NAME:
            self._learn_name(command, code, response)
        elif code == CC.FlushContext:
            self.forget(command.flush_handle)
        elif code == CC.SequenceComplete:
            self.forget(command.sequence_handle)
        elif code == CC.Clear:
            self._names.clear()
        else:
            index = command.public_info.nv_index if code == CC.NV_DefineSpace else command.nv_index
            self._names.pop(index, None)

    def _learn_name(self, command: Any, code: int, response: Any) -> None:
        if code == CC.NV_ReadPublic:
            handle, said = command.nv_index, response.nv_name
            computed = name_of_nv(response.nv_public)
        else:
            handle = command.object_handle if code == CC.ReadPublic else response.object_handle
            said = response.name
            shown = command.in_public if code in (CC.Load, CC.LoadExternal) else response.out_public
            computed = name_of_public(shown)
        if said != computed:
            raise VerificationError(
                f"the Name of 0x{handle:08x} is not that of its public area",
                details={"name": said.hex(), "computed": computed.hex()},
            )
        self._names.setdefault(handle, computed)

    @property
    def created(self) -> tuple[int, ...]:
        """Handles of the transient objects and sessions made here and not flushed yet."""
        return tuple(self._created)

    def forget(self, handle: int) -> None:
        """Leave the flushing of a handle to somebody else, or say that it is gone."""
        self._created.pop(handle, None)
        self._names.pop(handle, None)

    def flush(self, handle: int) -> None:
        """Remove a transient object or session; it is no error when it is gone already."""
        try:
            self.send(FlushContext(handle))
        except ChipRefusedError as e:
            if base_code(e.rc) != RC.HANDLE:
                raise
            self.forget(handle)

    def flush_all(self) -> None:
        """Flush everything made here, the latest first.

        Goes on after a failure and then raises the first: DeviceError, ChipRefusedError.
        """
        failure: Exception | None = None
        for handle in reversed(self.created):
            try:
                self.flush(handle)
            except (ChipRefusedError, DeviceError) as e:
                failure = failure or e
        if failure is not None:
            raise failure

    def leaks(self) -> list[int]:
        """All transient objects and all sessions, loaded or saved, whoever made them.

        A saved policy session may be listed as if it were an HMAC session, with the same last
        three octets; it can be flushed by either handle.
        """
        first = (HT.TRANSIENT, HT.HMAC_SESSION, HT.POLICY_SESSION)
        return [handle for kind in first for handle in self.handles(kind)]

    def handles(self, kind: int) -> list[int]:
        """The handles of one type (`HT`) that exist in the chip, in rising order."""
        found: list[int] = []
        start = kind << 24
        while True:
            answer = self.send(GetCapability(CAP.HANDLES, start, _HANDLES_AT_A_TIME))
            found += answer.data.items
            if not answer.more_data or not answer.data.items:
                return found
            start = found[-1] + 1
