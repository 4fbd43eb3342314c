"""The entry point: global options, lazy nouns, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import click

from tpmhsm import __version__
from tpmhsm.cli.app import App
from tpmhsm.cli.globals import default_home, global_options
from tpmhsm.cli.lazy import LazyGroup
from tpmhsm.cli.prompts import stopped
from tpmhsm.cli.words import json_text, lines
from tpmhsm.errors import (
    DeviceError,
    RefusedError,
    StoreError,
    TpmHsmError,
    UsageError,
    WaitingError,
)

EXIT_CODES: tuple[tuple[type[TpmHsmError], int], ...] = (
    (UsageError, 2),
    (WaitingError, 3),
    (DeviceError, 4),
    (StoreError, 5),
    (RefusedError, 1),
)

# name → (module under tpmhsm.cli, attribute, the line in --help)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "init": ("top", "init", "Set up this home: database, chip, keys of the chip's own"),
    "status": ("top", "status", "Is all well, and what needs people"),
    "show": ("top", "show", "Say what any file or TLS server is: certificate, CRL, key …"),
    "approve": ("approve", "approve", "Look at a request and sign it as an approver"),
    "deny": ("approve", "deny", "Refuse a request, with a reason"),
    "backup": ("backup", "backup", "Database and wrapped keys into one file, while others work"),
    "restore": ("backup", "restore", "Put a backup into this home, and prove it against the chip"),
    "ceremony": ("ceremony", "ceremony", "Group, root and issuer with one file to approve"),
    "demo": ("demo", "demo", "The whole story in 20 seconds; --attack: be root on the CA host"),
    "version": ("top", "version", "The version"),
    "device": ("device", "device", "The TPM: show, probe, export its card, stop"),
    "approver": ("approver", "approver", "People who approve: create, add, list, show"),
    "group": ("group", "group", "Groups of people: create, change, show, explain"),
    "trust": ("trust", "trust", "On an approver's machine: cards from outside the host"),
    "key": ("key", "key", "Keys in the chip: create, import, list, sign, decrypt, delete"),
    "policy": ("policy", "policy", "What a key demands: check, explain, digest"),
    "csr": ("csr", "csr", "PKCS#10 requests: create, show, verify"),
    "cert": ("cert", "cert", "Certificates: import, list, show, chain, trust, verify, export"),
    "ca": ("ca", "ca", "Authorities: create, install, sign, issue, revoke, crl, show"),
    "minutes": ("minutes", "minutes", "The minutes of a ceremony: verify, print"),
    "attest": ("attest", "attest", "Evidence: collect, challenge, respond, certify, roots"),
    "audit": ("audit", "audit", "The log of all acts: list, prove that it is complete, verify"),
    "doctor": ("doctor", "doctor", "What is wrong with this set-up; store: is what is kept true"),
    "request": ("request", "request", "Approval requests: list, show, export, import, execute"),
}


EPILOG = """\b
Example:
  tpmhsm init
  tpmhsm key create web
  tpmhsm csr create web --subject CN=www.example.com --san dns:www.example.com

\b
Exit codes: 0 done, 1 refused, 2 wrong usage or bad input, 3 waits for approvals,
4 the device failed, 5 the database failed.
Completion: eval "$(_TPMHSM_COMPLETE=bash_source tpmhsm)"; zsh_source, fish_source.
"""


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, "--version", prog_name="tpmhsm", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Make the TPM 2.0 chip of this machine an HSM and a certificate authority.

    The options below may stand anywhere on the line.
    """
    ctx.call_on_close(ctx.ensure_object(App).close)
    ctx.color = colour()


cli.params += global_options(hidden=False)


def exit_code(error: TpmHsmError) -> int:
    """The exit code of the contract for an error."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)


def colour() -> bool | None:
    """False where no colours are wanted (https://no-color.org), None to decide by the terminal."""
    return False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None


def report(error: TpmHsmError, *, as_json: bool) -> None:
    """Say what went wrong: JSON on stdout, or words on stderr with the next step."""
    if as_json:
        body: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
        body.update({k: v for k, v in error.details.items() if k not in body})
        document: dict[str, Any] = {"error": body}
        if isinstance(error, WaitingError):  # no failure: the request stands for the result
            document |= {"id": error.request, "state": "waiting", **error.details}
        _last_words(json_text(document), err=False)
        return
    if isinstance(error, WaitingError):
        said = [lines(error.message)]
    else:
        said = [f"{click.style('error:', fg='red', bold=True)} {lines(error.message)}"]
    if error.hint:
        said.append(f"  {click.style('next:', bold=True)} {lines(error.hint)}")
    _last_words("\n".join(said), err=True)


def _last_words(text: str, *, err: bool) -> None:
    """Where they cannot be written either (a full disk, a closed pipe), the exit code must do."""
    try:
        click.echo(text, err=err, color=colour())
    except OSError:
        stream = sys.stderr if err else sys.stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _as_ours(error: BaseException) -> TpmHsmError:
    """Translate what other libraries raise at the edge."""
    if isinstance(error, TpmHsmError):
        return error
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return UsageError("a command is missing", hint=_help_of(error.ctx))
    if isinstance(error, click.ClickException):
        context = error.ctx if isinstance(error, click.UsageError) else None
        return UsageError(error.format_message(), hint=_help_of(context))
    if isinstance(error, (click.Abort, KeyboardInterrupt, EOFError)):
        return stopped("stopped", hint="what was not finished is begun again by the same command")
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return UsageError(f"{error.strerror or error}{where}", code="os-error")
    return TpmHsmError(
        f"this is a fault of TPM HSM: {type(error).__name__}: {error}",
        code="internal",
        hint="run it again with -vv and report what it prints",
    )


def _help_of(context: click.Context | None) -> str:
    return f"{context.command_path} --help" if context else ""


def run(arguments: list[str]) -> int:
    """Run one command and give its exit code; prints its errors."""
    app = App(home=default_home().absolute())
    try:
        outcome = cli.main(arguments, prog_name="tpmhsm", standalone_mode=False, obj=app)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (Exception, KeyboardInterrupt) as error:
        # an error on the line itself may come before --json was read
        as_json = app.as_json or (isinstance(error, click.UsageError) and "--json" in arguments)
        if isinstance(error, click.exceptions.NoArgsIsHelpError) and not as_json:
            click.echo(error.format_message(), err=True)
            return 2
        if app.verbosity > 1 and not isinstance(error, (TpmHsmError, click.ClickException)):
            raise
        ours = _as_ours(error)
        report(ours, as_json=as_json)
        return exit_code(ours)
    return outcome if isinstance(outcome, int) else 0


def main() -> NoReturn:
    """The console script."""
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError) and not code:
            report(_as_ours(error), as_json=False)
            code = 2
        # or else Python tries again, and says so, when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(code)
