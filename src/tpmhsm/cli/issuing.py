"""What all commands that issue certificates share: choices, waiting for people, the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tpmhsm.cli.app import App, facts
from tpmhsm.cli.files import STDIO
from tpmhsm.cli.options import Out, out_options, packed, reason_option, wait_option
from tpmhsm.cli.pins import use_options
from tpmhsm.cli.waiting import settled
from tpmhsm.errors import TpmHsmError, UsageError, WaitingError

if TYPE_CHECKING:
    from tpmhsm.ca.issuance import Issued
    from tpmhsm.pki.options import IssueOptions
    from tpmhsm.store.requests import RequestRow

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Limits:
    """What a CA certificate may be limited to."""

    path_length: int | None
    permit: tuple[str, ...]
    exclude: tuple[str, ...]


@dataclass(frozen=True)
class Choices:
    """Choices that every issuance has."""

    days: int | None
    not_after: str | None
    policy_oid: tuple[str, ...]
    reason: str
    wait: bool
    chain: bool

    def options(self, limits: Limits | None = None) -> IssueOptions:
        """The same as the profiles know them. Raises UsageError."""
        from tpmhsm.cli.times import parse_time
        from tpmhsm.pki.options import IssueOptions

        if self.days is not None and self.not_after is not None:
            raise UsageError("--days and --not-after both say when it ends; give one")
        end = parse_time(self.not_after) if self.not_after else None
        if limits is None:
            return IssueOptions(days=self.days, not_after=end, policies=self.policy_oid)
        return IssueOptions(
            days=self.days,
            not_after=end,
            path_length=limits.path_length,
            permitted=limits.permit,
            excluded=limits.exclude,
            policies=self.policy_oid,
        )


limit_options = packed(
    "limits",
    Limits,
    click.option("--path-length", type=click.IntRange(0), help="How many CAs may stand below."),
    click.option(
        "--permit",
        multiple=True,
        metavar="TYPE:NAME",
        help="Name constraint: only below this, as dns:example.com; repeatable.",
    ),
    click.option("--exclude", multiple=True, metavar="TYPE:NAME", help="Nothing below this."),
)


def issue_options(command: F) -> F:
    """The options of `Choices` and `Out`."""
    with_pin = use_options(command)
    with_out = out_options("stdout for sign and issue; see cert export.", der=True)(with_pin)
    return packed(
        "choices",
        Choices,
        click.option("--days", type=click.IntRange(1, 36525), help="Lifetime; the profile's."),
        click.option("--not-after", metavar="TIME", help="Its end instead, RFC 3339."),
        click.option(
            "--policy-oid",
            multiple=True,
            metavar="OID",
            help="A certificate policy, as 2.23.140.1.2.1 (domain validated); repeatable.",
        ),
        reason_option(),
        wait_option,
        click.option("--chain", is_flag=True, help="Write the chain below the root as well."),
    )(with_out)


def deliver(app: App, name: str, choices: Choices, out: Out, act: Callable[[], Issued]) -> None:
    """Have it issued, now or when people agree; write it where asked, say what was issued."""
    if out.der and choices.chain:
        raise UsageError("DER holds one certificate", hint="leave --der out: a chain is PEM")
    if out.out:
        out.claim()
    try:
        issued = settled(app, choices.wait, act, issued_by)
    except WaitingError as error:
        if out.out and out.out != STDIO:
            app.note(f"{out.out} is not written yet: cert export writes it when it is issued")
        raise error
    try:
        show_issued(app, name, issued, out, chain=choices.chain)
    except TpmHsmError as error:
        sha256 = issued.facts["sha256"]
        error.details.setdefault("sha256", sha256)
        error.hint = f"the certificate is issued and kept; tpmhsm cert export {sha256[:16]} --out F"
        raise


def to_stdout(app: App, out: Out) -> Out:
    """A certificate that nobody named a file for goes to stdout, its facts to stderr."""
    return out if out.out or app.as_json else replace(out, out=STDIO)


def issued_by(row: RequestRow) -> Issued:
    """What an executed request has issued."""
    from tpmhsm.ca.issuance import Issued

    return Issued(row.result)


def show_issued(app: App, name: str, issued: Issued, out: Out, *, chain: bool = False) -> None:
    """Write the certificate where asked, say what was issued."""
    from tpmhsm.cli.exporting import bundle_data, bundle_ders
    from tpmhsm.pki.describe import certificate_lines

    found = issued.facts
    for note in issued.notes:
        app.note(f"note: {note}")
    if out.out and not (app.as_json and out.out == STDIO):
        bundle = bundle_ders(app, found["sha256"], "fullchain" if chain else "leaf")
        out.write(bundle_data(bundle, der=out.der))
    words = facts([("Authority", name), *certificate_lines(found)])
    if out.out == STDIO and not app.as_json:
        app.note(words, styled=True)
        return
    app.done({**found, "ca_name": name, "notes": list(issued.notes), "file": out.out}, words)
