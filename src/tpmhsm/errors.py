"""The tree of errors.

    TpmHsmError                 everything this package raises on purpose
    ├── UsageError              wrong usage or bad input
    │   ├── ParseError          bytes that are not what they should be
    │   ├── NotFoundError       no such key, group, certificate, file …
    │   └── ExistsError         a name or file that is taken
    ├── RefusedError            somebody who may refuse did
    │   ├── ChipRefusedError    the chip: a TPM return code says why
    │   ├── VerificationError   a verifier: a signature, path or digest is wrong
    │   └── ApprovalRefusedError  the approver's tool will not sign this
    ├── WaitingError            the act waits for people
    ├── DeviceError             the chip is missing, locked out or failed
    └── StoreError              the database is missing, busy, full or failed

Errors carry data, not prose alone: `code` is a stable word for programs, `message` says what went
wrong and where, `hint` says what to do next, `details` has JSON-ready facts. They know no exit
codes and no HTTP: whoever stands at the edge maps them once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class TpmHsmError(Exception):
    """The base class. `message` in words, `hint` the next step or empty."""

    default_code: ClassVar[str] = "error"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code
        self.details: dict[str, Any] = dict(details or {})


class UsageError(TpmHsmError):
    """Wrong usage or bad input."""

    default_code = "usage"


class ParseError(UsageError):
    """Bytes that are not what they should be."""

    default_code = "parse"


class NotFoundError(UsageError):
    """No such thing."""

    default_code = "not-found"


class ExistsError(UsageError):
    """The name or file is taken."""

    default_code = "exists"


class RefusedError(TpmHsmError):
    """Refused by somebody who may refuse."""

    default_code = "refused"


class ChipRefusedError(RefusedError):
    """The chip refused a command. `rc` is the TPM's return code, `command` the command's name."""

    default_code = "chip-refused"

    def __init__(
        self,
        message: str,
        *,
        rc: int,
        command: str,
        hint: str = "",
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        facts = {"rc": f"0x{rc:03x}", "command": command, **(details or {})}
        super().__init__(message, hint=hint, code=code, details=facts)
        self.rc = rc
        self.command = command


class VerificationError(RefusedError):
    """A signature, a path or a digest does not hold."""

    default_code = "verification-failed"


class ApprovalRefusedError(RefusedError):
    """The approver's tool will not sign this."""

    default_code = "approval-refused"


class WaitingError(TpmHsmError):
    """The act asked for waits for approvals; `request` is the request's id."""

    default_code = "waiting"

    def __init__(
        self,
        message: str,
        *,
        request: int,
        hint: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, hint=hint, details={"request": request, **(details or {})})
        self.request = request


class DeviceError(TpmHsmError):
    """The chip is missing, locked out or failed."""

    default_code = "device"


class StoreError(TpmHsmError):
    """The database is missing, busy, full or failed."""

    default_code = "store"
