"""`tpmhsm ca revoke`, `hold`, `release` and `crl`: revocation, and the lists that say so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, facts, pass_app
from tpmhsm.cli.crl_files import publish, published_crl
from tpmhsm.cli.files import STDIO
from tpmhsm.cli.options import Out, out_options, reason_option, wait_option
from tpmhsm.cli.pins import use_options
from tpmhsm.cli.waiting import settled
from tpmhsm.errors import NotFoundError, UsageError, WaitingError

if TYPE_CHECKING:
    from tpmhsm.ca.crls import Made
    from tpmhsm.ca.revocation import Outcome, Which
    from tpmhsm.store.requests import RequestRow

MAX_PEM = 1 << 20
"""CRLs up to this size stand in --json as PEM."""

_which = click.argument("which", metavar="SERIAL|FILE")


@click.command()
@click.argument("name")
@_which
@click.option("--reason", metavar="R", help="keyCompromise, superseded, … (RFC 5280); default: "
              "unspecified.")  # fmt: skip
@click.option("--invalidity-date", "invalidity", metavar="TIME",
              help="Since when the certificate is not to be trusted, RFC 3339.")  # fmt: skip
@pass_app
def revoke(app: App, name: str, which: str, reason: str | None, invalidity: str | None) -> None:
    """Revoke a certificate for good. Verifiers learn of it from the next CRL.

    SERIAL is decimal, or hexadecimal with 0x, colons or letters; digits that would be two
    certificates' serials are refused. What names a file is a file, with a certificate in it.

    \b
    Example:
      tpmhsm ca revoke issuing web.pem --reason keyCompromise
      tpmhsm ca crl issuing
    """
    from tpmhsm.cli.times import parse_time

    since = parse_time(invalidity) if invalidity else None
    meant = read_which(app, which)
    _tell(app, name, app.revocations.revoke(name, meant, reason, since))


@click.command(epilog="Example: tpmhsm ca hold issuing 0x4f1c9b0752aae310")
@click.argument("name")
@_which
@pass_app
def hold(app: App, name: str, which: str) -> None:
    """Suspend a certificate until it is released or revoked. SERIAL as for revoke."""
    _tell(app, name, app.revocations.hold(name, read_which(app, which)))


@click.command(epilog="Example: tpmhsm ca release issuing 0x4f1c9b0752aae310")
@click.argument("name")
@_which
@pass_app
def release(app: App, name: str, which: str) -> None:
    """End a hold: the certificate is off the next CRL. SERIAL as for revoke."""
    _tell(app, name, app.revocations.release(name, read_which(app, which)))


def read_which(app: App, text: str) -> Which:
    """A serial, or the first certificate in a file. Raises UsageError, ParseError."""
    from tpmhsm.ca.revocation import Which
    from tpmhsm.pki.load import certificate_ders

    if text == STDIO or Path(text).is_file() or "/" in text:
        return Which(der=certificate_ders(app.read(text), text)[0], what=text)
    try:
        from tpmhsm.ca.targets import readings

        readings(text)
    except UsageError:
        if "." in text:  # was meant as a file
            raise NotFoundError(f"there is no file {text}") from None
        raise
    return Which(serial=text)


def _tell(app: App, name: str, outcome: Outcome) -> None:
    found = outcome.facts
    again = "" if outcome.changed else " (nothing changed: it was so before)"
    states = {"revoked": "revoked", "held": "on hold", "released": "released, good again"}
    if outcome.changed:
        app.note(f"verifiers learn of it from the next CRL: tpmhsm ca crl {name}")
    if outcome.note:
        app.note(f"note: {outcome.note}")
    app.done(
        {**found, "changed": outcome.changed},
        lambda: facts(
            [
                ("Authority", name),
                ("Subject", found["subject"]),
                ("Serial", found["serial"]),
                ("State", states[found["state"]] + again),
                ("Reason", found["reason"] if found["state"] == "revoked" else ""),
                ("Since", found["revoked"] if found["state"] != "released" else ""),
                ("Invalid since", found["invalidity_date"]),
            ]
        ),
    )


@click.command()
@click.argument("name")
@click.option("--days", type=click.IntRange(1), help="How long it is good; crl_days of "
              "tpmhsm.toml, or 7 (180 for CAs that certify CAs alone).")  # fmt: skip
@reason_option()
@click.option(
    "--older",
    is_flag=True,
    help="Though the last CRL bears a later time: this clock is right, it was not then.",
)
@click.option("--existing", is_flag=True, help="Write the last CRL again; nothing is signed.")
@use_options
@wait_option
@out_options("beside HOME/public/crl/NAME.crl.", der=True)
@pass_app
def crl(
    app: App,
    name: str,
    days: int | None,
    reason: str,
    older: bool,
    existing: bool,
    wait: bool,
    out: Out,
) -> None:
    """Make the next full CRL, and write it where `base_url` says that it will be found.

    HOME/public is what a web server at base_url has to serve: crl/NAME.crl, and ca/NAME.cer, the
    authority's certificate. base_url stands under [ca.NAME] in HOME/tpmhsm.toml.

    \b
    Example:
      tpmhsm ca crl issuing --out issuing.crl.pem
    """
    if out.out:
        out.claim()
    if existing:
        if days is not None:
            raise UsageError("--days is for a new CRL, --existing for the last one")
        made = app.crls.latest_made(name)
    else:
        made = _make(app, name, days, reason, older, wait, out)
    file = publish(app, name, made)
    if out.out and not (app.as_json and out.out == STDIO):
        out.write(made.der if out.der else _pem(made.der))
    pem = _pem(made.der).decode() if app.as_json and len(made.der) <= MAX_PEM else None
    data = {**made.facts, "file": str(file), "out": out.out, "pem": pem}
    if out.out == STDIO and not app.as_json:
        if app.talks:
            click.echo(crl_words(data), err=True)
        return
    app.done(data, lambda: crl_words(data), made="" if out.out else str(file))


def _make(
    app: App, name: str, days: int | None, reason: str, older: bool, wait: bool, out: Out
) -> Made:
    published = published_crl(app, name)

    def act() -> Made:
        return app.crls.make(name, days=days, reason=reason, published=published, older=older)

    def after(_row: RequestRow) -> Made:
        return app.crls.latest_made(name)

    try:
        return settled(app, wait, act, after)
    except WaitingError:
        if out.out and out.out != STDIO:
            app.note(
                f"{out.out} is not written yet: tpmhsm ca crl {name} --existing --out {out.out}"
                " writes it when it is signed"
            )
        raise


def crl_words(found: dict[str, Any]) -> str:
    """A CRL's facts for people."""
    count = found["entries"]
    return facts(
        [
            ("CRL", f"{found['number']} of {found['ca_name']}"),
            ("Lists", f"{count:,} certificate{'' if count == 1 else 's'}"),
            ("Made", found["this_update"]),
            ("Next by", found["next_update"]),
            ("File", found["file"]),
            ("Also in", found["out"] if found["out"] != STDIO else ""),
        ]
    )


def _pem(der: bytes) -> bytes:
    from tpmhsm.pki.load import to_pem

    return to_pem(der, "X509 CRL")


VERBS: tuple[click.Command, ...] = (revoke, hold, release, crl)
