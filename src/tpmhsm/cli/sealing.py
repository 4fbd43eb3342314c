"""Sealing the lockout hierarchy from the command line: options, the recovery file, words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tpmhsm.cli.files import check_free, read_input, write_output
from tpmhsm.cli.options import packed
from tpmhsm.cli.secrets import Secret, passphrase_options
from tpmhsm.errors import UsageError

if TYPE_CHECKING:
    from tpmhsm.keys.host import HostDevice
    from tpmhsm.tpm.hierarchies import Hierarchies
    from tpmhsm.tpm.probe import Lockout

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Keeping:
    """Where the password of the lockout hierarchy goes: `--recovery FILE`, `--force`."""

    recovery: str | None
    force: bool

    def check(self) -> None:
        """Refuse a file that cannot be written, before anything is done."""
        if self.recovery is not None:
            check_free(self.recovery, force=self.force)

    def keeper(self, host: HostDevice, secret: Secret) -> Callable[[bytes], None] | None:
        """What writes the recovery file; None when nobody is to keep the password. Asks for the
        passphrase at once.
        """
        if self.recovery is None:
            return None
        from tpmhsm.keys.recovery import make_recovery

        path, force = self.recovery, self.force
        passphrase = secret.source(confirm=True)(f"New passphrase for {path}: ")

        def keep(password: bytes) -> None:
            file = make_recovery(password, host.kind, host.ak_name, passphrase)
            write_output(path, file.encode(), force=force, secret=True)

        return keep


def keeping_options(command: F) -> F:
    """Add --recovery and --force, as the argument `keeping`, and those for passphrases."""
    return packed(
        "keeping",
        Keeping,
        click.option(
            "--recovery",
            metavar="FILE",
            help="Write the lockout hierarchy's password, encrypted: to be kept elsewhere.",
        ),
        click.option("--force", is_flag=True, help="Overwrite an existing file."),
    )(passphrase_options(command))


def limits_options(command: F) -> F:
    """Add --tries and --every."""
    command = click.option("--every", type=click.IntRange(60, 31 * 86400), default=3600,
        show_default=True, metavar="SECONDS", help="Running time for one try to come back.",
    )(command)  # fmt: skip
    return click.option("--tries", type=click.IntRange(1, 1000), default=10, show_default=True,
        metavar="N", help="Wrong PINs until the chip takes none.",
    )(command)  # fmt: skip


@dataclass(frozen=True)
class Known:
    """The password that the lockout hierarchy has: from a recovery file, or as it is in a file."""

    file: str | None
    auth_file: str | None

    def value(self, host: HostDevice, secret: Secret) -> bytes:
        """The password; empty when neither was named. Raises UsageError, RefusedError."""
        if self.file is not None and self.auth_file is not None:
            raise UsageError("one password, from the one file or from the other")
        if self.auth_file is not None:
            return AuthSecret(self.auth_file).source()("")
        if self.file is None:
            return b""
        from tpmhsm.cli.files import naming
        from tpmhsm.keys.recovery import parse_recovery

        data = read_input(self.file)
        with naming(self.file, data, "a recovery file"):
            found = parse_recovery(data)
            return found.open(secret.source()(f"Passphrase for {self.file}: "), host.ak_name)


class AuthSecret(Secret):
    """A hierarchy's password, as another program set it."""

    word = "password"
    option = "auth"


AUTH_FILE_HELP = "Read the password from a file's first line, if another program set it."


# ── words ────────────────────────────────────────────────────────────────────────────────────


def lockout_json(state: Lockout) -> dict[str, Any]:
    """The state, and the moments at which it ends at the latest (null: nothing to wait for)."""
    from tpmhsm.tpm.pins import deadline

    waits = state.tries > 0
    return {
        **asdict(state),
        "next_try_by": deadline(state.recovery) if waits else None,
        "all_tries_by": deadline(state.recovery * state.tries) if waits else None,
    }


def lockout_words(state: Lockout) -> str:
    """How many wrong PINs, when they come back, what ends a lockout."""
    from tpmhsm.tpm.pins import deadline, duration

    back = f"one try comes back every {duration(state.recovery)} that the chip runs"
    if not state.tries:
        return f"none; {state.max_tries} are allowed, {back}"
    until = f"the next by {deadline(state.recovery)}"
    if state.tries > 1:
        until += f", all by {deadline(state.recovery * state.tries)}"
    if not state.active:
        return f"{state.tries} of {state.max_tries}; {back}:\n{until}"
    now = "tpmhsm device unlock" + (" --recovery FILE" if state.lockout_auth_set else "")
    return (
        f"PINs are refused after {state.tries} wrong ones (an unclean stop counts as one)\n"
        f"{back}:\n{until}\nor now: {now}"
    )


def hierarchies_words(found: Hierarchies) -> list[tuple[str, str]]:
    """A line for each hierarchy: how it stands, and what that means."""
    owner = "has a password" if found.owner_set else "no password: other programs make keys by it"
    endorsement = "has a password" if found.endorsement_set else "no password"
    lockout = "no password: root sets the count of wrong PINs back; tpmhsm device seal closes it"
    if found.lockout_set:
        lockout = "sealed: only its password sets the count of wrong PINs back"
    platform = "off until the next start"
    if found.platform_on:
        platform = "on, with a password (the firmware's)"
    if found.platform_open:
        platform = "open: the firmware left it without a password; tpmhsm device seal closes it"
    return [
        ("owner hierarchy", owner if found.owner_on else "off until the next start"),
        ("endorsement", endorsement if found.endorsement_on else "off until the next start"),
        ("lockout", lockout),
        ("platform", platform),
    ]


def sealed_words(keeping: Keeping, state: Lockout, old: str | None = None) -> str:
    """What was done, and what that means."""
    from tpmhsm.tpm.pins import duration

    told = f"{state.max_tries} wrong PINs, then one try every {duration(state.recovery)}"
    if keeping.recovery is None:
        return f"sealed, nobody has the password: {told}"
    void = f"\n{old} is void: destroy it, for the chip counts its password as a wrong one"
    return (
        f"sealed: {told}\nwrote {keeping.recovery}: keep it elsewhere than on this machine;\n"
        f"with it and its passphrase tpmhsm device unlock ends a lockout{void if old else ''}"
    )
