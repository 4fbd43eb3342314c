"""The door to PKCS #11 modules: find one, list its tokens, log in without locking anything.

A module is foreign code in this process: what it raises is translated here (`speaking`), what it
says of itself is shown as its own words. Needs python-pkcs11 (`pip install 'tpmhsm[pkcs11]'`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpmhsm.approval.tokens import TokenInfo
from tpmhsm.errors import DeviceError, NotFoundError, RefusedError, TpmHsmError, UsageError

if TYPE_CHECKING:
    import pkcs11

    from tpmhsm.approval.pkcs11_uri import Pkcs11Uri

PROXY = "p11-kit-proxy"
"""p11-kit's module, which has the tokens of all modules that the system knows."""

FOLDERS = ("/usr/lib*/pkcs11", "/usr/lib/*/pkcs11", "/usr/local/lib/pkcs11", "/usr/lib/softhsm",
           "/usr/lib*", "/usr/lib/*-linux-*", "/usr/local/lib")  # fmt: skip
"""Where modules are looked for by name."""

_OFFERED = ("opensc-pkcs11", "libykcs11", "libsofthsm2", "onepin-opensc-pkcs11")

Pin = Callable[[str], bytes]
"""From a prompt in words to a PIN."""


def find_module(uri: Pkcs11Uri, setting: str) -> str:
    """Return the path of the module: the URI's, else the setting's, else p11-kit's.

    NotFoundError when there is none, with the modules that are on this machine.
    """
    if path := uri.module_path or (setting if not uri.module_name else ""):
        if not Path(path).is_file():
            raise NotFoundError(f"there is no PKCS #11 module {path}", hint=_offer())
        return path
    name = uri.module_name or PROXY
    for stem in (name, f"lib{name}"):
        if found := _installed(stem):
            return found
    if uri.module_name:
        raise NotFoundError(f"no PKCS #11 module is named {name!a}", hint=_offer())
    raise UsageError(
        "which PKCS #11 module speaks to the token? The URI does not say, nor does tpmhsm.toml",
        code="no-module",
        hint=_offer(),
    )


def _installed(stem: str) -> str:
    for pattern in FOLDERS:
        for path in sorted(Path("/").glob(f"{pattern[1:]}/{stem}.so")):
            if path.is_file():
                return str(path)
    return ""


def _offer() -> str:
    here = [path for stem in _OFFERED if (path := _installed(stem))]
    path = here[0] if here else "/…/module.so"
    more = f"; also here: {', '.join(here[1:])}" if here[1:] else ""
    return (
        f"?module-path={path} at the end of the URI, or pkcs11_module under [approver] in "
        f"tpmhsm.toml{more}"
    )


def load_module(path: str) -> Any:
    """Load a module: a `pkcs11.lib`.

    UsageError when python-pkcs11 is missing, or the file is no module.
    """
    try:
        import pkcs11
    except ImportError:
        raise UsageError(
            "PKCS #11 tokens need the package python-pkcs11, which is not installed",
            code="not-installed",
            hint="pip install 'tpmhsm[pkcs11]'",
        ) from None
    try:
        return pkcs11.lib(os.fspath(path))
    except Exception as error:  # noqa: BLE001 - a module is foreign code
        reason = str(error).removeprefix(f"OS exception while loading {path}: ")
        reason = reason.removeprefix(f"{path}: ") or type(error).__name__
        raise UsageError(f"{path} cannot be used as a PKCS #11 module: {reason}") from None


def info_of(token: pkcs11.Token) -> TokenInfo:
    """What a token says of itself."""
    serial = token.serial.rstrip(b"\0 ").decode("utf-8", "replace")
    return TokenInfo(token.label, token.manufacturer_id, token.model, serial)


def find_token(module: Any, uri: Pkcs11Uri) -> pkcs11.Token:
    """Return the one token that a URI names.

    DeviceError when there is none, UsageError when there are several; both list what is there.
    """
    with speaking("the PKCS #11 module"):
        present = list(_tokens(module))
        found = [token for token in present if _fits(module, token, uri)]
    if len(found) == 1:
        return found[0]
    if found:
        lines = "\n".join(f"  pkcs11:slot-id={t.slot.slot_id}  {info_of(t).words}" for t in found)
        raise UsageError(
            f"{len(found)} tokens match:\n{lines}",
            code="several-tokens",
            hint="serial=… in the URI names one; or leave one alone in its reader",
        )
    there = ", ".join(info_of(token).words for token in present)
    raise DeviceError(
        "no token of this description is there" + (f"; there is {there}" if there else ""),
        code="no-token",
        hint="put it in" if not there else "is the URI right? Put the right one in",
    )


def _tokens(module: Any) -> Iterator[pkcs11.Token]:
    import pkcs11

    for slot in module.get_slots(token_present=True):
        try:
            token = slot.get_token()
        except (pkcs11.TokenNotPresent, pkcs11.TokenNotRecognised, pkcs11.DeviceRemoved):
            continue
        if token.flags & pkcs11.TokenFlag.TOKEN_INITIALIZED:
            yield token


def _fits(module: Any, token: pkcs11.Token, uri: Pkcs11Uri) -> bool:
    info, slot = info_of(token), token.slot
    said = {
        "token": info.label,
        "manufacturer": info.manufacturer,
        "serial": info.serial,
        "model": info.model,
        "library-manufacturer": module.manufacturer_id,
        "library-description": module.library_description,
        "library-version": ".".join(map(str, module.library_version)),
        "slot-manufacturer": slot.manufacturer_id,
        "slot-description": slot.slot_description,
        "slot-id": str(slot.slot_id),
    }
    return all(said[name] == wanted for name, wanted in uri.token.items())


def log_in(token: pkcs11.Token, pin: Pin, *, write: bool = False) -> tuple[pkcs11.Session, str]:
    """Open a session as the token's user; returns it with the PIN ("" where a PIN pad asked).

    It stops before the last try, which a wrong PIN would make lock the token. RefusedError with the
    code wrong-pin, pin-last-try, pin-locked or no-pin; DeviceError when the token went away.
    """
    import pkcs11

    what = info_of(token).words
    with speaking(what):
        fresh = token.slot.get_token()
    _check_tries(fresh.flags, what)
    if fresh.flags & pkcs11.TokenFlag.PROTECTED_AUTHENTICATION_PATH:
        with speaking(what):
            return token.open(rw=write, user_pin=pkcs11.PROTECTED_AUTH), ""
    try:
        secret = pin(f"PIN of {what}").decode()
    except UnicodeDecodeError:
        raise RefusedError(f"{what}: a PIN is UTF-8 text", code="wrong-pin") from None
    try:
        with speaking(what):
            return token.open(rw=write, user_pin=secret), secret
    except RefusedError as error:
        if error.code == "wrong-pin":
            error.message += _after_a_wrong_pin(token)
        raise


def _check_tries(flags: int, what: str) -> None:
    """Refuse before anybody types what the token would not take, or what could lock it."""
    from pkcs11 import TokenFlag

    if flags & TokenFlag.USER_PIN_LOCKED:
        raise _locked(what)
    if not flags & TokenFlag.USER_PIN_INITIALIZED:
        raise RefusedError(
            f"{what} has no user PIN yet",
            code="no-pin",
            hint="pkcs11-tool --module M --login --login-type so --init-pin",
        )
    if not flags & TokenFlag.LOGIN_REQUIRED:
        raise RefusedError(f"{what} asks for no PIN: whoever holds it could approve", code="no-pin")
    if flags & TokenFlag.USER_PIN_FINAL_TRY:
        raise RefusedError(
            f"{what} has one try of its PIN left: another wrong one locks it, so none is made here",
            code="pin-last-try",
            hint="if you are sure of the PIN, log in once with the token's own program: that sets "
            "the count back",
        )


def _locked(what: str) -> RefusedError:
    return RefusedError(
        f"{what}: its PIN is locked after too many wrong ones",
        code="pin-locked",
        hint="its PUK, or the security officer's PIN, sets a new one, with the token's own program",
    )


def _after_a_wrong_pin(token: pkcs11.Token) -> str:
    """What the token says of the tries that remain; PKCS #11 has no number for it."""
    import pkcs11

    try:
        flags = token.slot.get_token().flags
    except pkcs11.PKCS11Error:
        return ""
    if flags & pkcs11.TokenFlag.USER_PIN_LOCKED:
        return "; it is locked now"
    if flags & pkcs11.TokenFlag.USER_PIN_FINAL_TRY:
        return "; one try is left, and it is not made here"
    if flags & pkcs11.TokenFlag.USER_PIN_COUNT_LOW:
        return "; the token counts wrong PINs, and tries are left"
    return ""


@contextmanager
def speaking(what: str) -> Iterator[None]:
    """Errors of a module in the block become ours, about `what`."""
    try:
        yield
    except TpmHsmError:
        raise
    except Exception as error:
        raise _translated(error, what) from error


_GONE = ("DeviceRemoved", "TokenNotPresent", "SessionClosed", "SessionHandleInvalid",
         "ObjectHandleInvalid", "KeyHandleInvalid", "SlotIDInvalid")  # fmt: skip
_REFUSALS = {
    "PinIncorrect": ("wrong-pin", "wrong PIN"),
    "PinInvalid": ("wrong-pin", "wrong PIN"),
    "PinLenRange": ("wrong-pin", "wrong PIN: none of its length is taken"),
    "PinExpired": ("pin-expired", "its PIN has expired: set a new one"),
    "UserPinNotInitialized": ("no-pin", "it has no user PIN yet"),
    "UserNotLoggedIn": ("token-refused", "it did not sign: not touched in time, or logged out"),
    "FunctionCancelled": ("token-refused", "it was told not to sign"),
    "FunctionRejected": ("token-refused", "it was told not to sign"),
}


def _translated(error: Exception, what: str) -> TpmHsmError:
    name = type(error).__name__
    if name in _REFUSALS:
        code, words = _REFUSALS[name]
        return RefusedError(f"{what}: {words}", code=code)
    if name == "PinLocked":
        return _locked(what)
    if name in _GONE:
        return DeviceError(
            f"{what} was removed", code="token-removed", hint="put it in and begin again"
        )
    text = str(error).strip()
    reason = f"{name}: {text}" if text else name
    return DeviceError(f"{what} failed: {reason}", code="token-failed")
