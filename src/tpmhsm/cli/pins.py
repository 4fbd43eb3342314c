"""PINs of keys: from a prompt, a file or a descriptor. `@pin_options` stands at every command that
may have to sign; the PIN is asked for when a key's policy wants it, and not otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import click

from tpmhsm.cli.secrets import Ask, Secret
from tpmhsm.errors import UsageError

if TYPE_CHECKING:
    from tpmhsm.cli.app import App

F = TypeVar("F", bound=Callable[..., Any])


class PinSecret(Secret):
    """Where a PIN comes from."""

    word: ClassVar[str] = "PIN"
    option: ClassVar[str] = "pin"


class ManagementSecret(Secret):
    """Where a YubiKey's management key comes from."""

    word: ClassVar[str] = "management key"
    option: ClassVar[str] = "management-key"


class PinSource:
    """`tpmhsm.keys.choice.Pins` for one run of the command line; each PIN is asked for once."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._secret = PinSecret(app.pin_file, app.pin_fd)

    @property
    def group(self) -> str:
        """Whose approvals were asked for by --by; empty: the policy's first group's."""
        return self._app.by

    @property
    def given(self) -> bool:
        """Whether --pin-file or --pin-fd named it."""
        return self._secret.given

    @cached_property
    def _ask(self) -> Ask:
        return self._secret.source()

    def pin_of(self, label: str) -> bytes:
        """The PIN of a key that exists."""
        return self._ask(f"PIN of key {label}: ")

    def new_pin_of(self, label: str) -> bytes:
        """The PIN of a key that is made now: typed twice."""
        return self._secret.source(confirm=True)(f"PIN for the new key {label}: ")


def identity_secret(app: App, identity: str, secret: Secret) -> Ask:
    """Where the secret of `-i` comes from: for a token --pin-file, for a file --passphrase-file."""
    from tpmhsm.approval.identity import scheme_of

    if scheme_of(identity) == "file":
        return secret.source()
    if secret.given:
        raise UsageError(f"{identity} has a PIN, no passphrase", hint="--pin-file F, or --pin-fd N")
    return PinSecret(app.pin_file, app.pin_fd).source()


def module_of(app: App, identity: str) -> str:
    """The PKCS #11 module that the home's settings name, for an identity in a token."""
    from tpmhsm.approval.identity import scheme_of

    return app.settings.pkcs11_module if scheme_of(identity) == "pkcs11" else ""


def _take(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    from tpmhsm.cli.app import App

    app = ctx.find_object(App)
    if app is not None and value is not None:
        setattr(app, param.name or "", value)


def pin_options(command: F) -> F:
    """Add --pin-file and --pin-fd to a command; the keyring is told, not the command."""
    common: dict[str, Any] = {"expose_value": False, "callback": _take}
    command = click.option(
        "--pin-fd", type=int, metavar="N", help="Read it from an open descriptor.", **common
    )(command)
    return click.option(
        "--pin-file",
        metavar="F",
        help="Read the key's PIN, if its policy wants one, from a file's first line.",
        **common,
    )(command)


def use_options(command: F) -> F:
    """`pin_options`, and --by where a request may be made."""
    return click.option(
        "--by",
        metavar="GROUP",
        help="Whose approvals, if the key's policy has several groups.",
        expose_value=False,
        callback=_take,
    )(pin_options(command))
