"""`tpmhsm ca`: certificate authorities."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tpmhsm.cli.app import App, facts, pass_app, table
from tpmhsm.errors import NotFoundError

if TYPE_CHECKING:
    from tpmhsm.ca.authority import Issued
    from tpmhsm.pki.options import IssueOptions
    from tpmhsm.store.authorities import AuthorityRow

F = TypeVar("F", bound=Callable[..., Any])


@click.group(epilog="Example: tpmhsm ca create root-ca --key root --subject CN=Root,O=Example")
def ca() -> None:
    """Authorities: create, install, sign, issue, list, show."""


def issue_options(command: F) -> F:
    """Choices that every issuance has."""
    for option in (
        click.option("--days", type=click.IntRange(1, 36525), help="Lifetime; the profile's."),
        click.option("--not-after", metavar="TIME", help="Its end instead, RFC 3339."),
        click.option("--reason", default="", help="Shown to approvers as the host's claim."),
        click.option("-o", "--out", metavar="F", help="Where the certificate goes."),
        click.option("--chain", is_flag=True, help="Write the chain below the root as well."),
        click.option("--der", is_flag=True, help="DER instead of PEM."),
        click.option("--force", is_flag=True, help="Overwrite an existing file."),
    ):
        command = option(command)
    return command


def options_of(days: int | None, not_after: str | None, **more: Any) -> IssueOptions:
    """The choices as the profiles know them."""
    from tpmhsm.pki.options import IssueOptions

    return IssueOptions(days=days, not_after=moment(not_after), **more)


def moment(text: str | None) -> datetime | None:
    """An RFC 3339 time, or a date. Raises UsageError."""
    if text is None:
        return None
    from tpmhsm.cli.times import parse_time

    return parse_time(text)


def show_issued(
    app: App, name: str, issued: Issued, out: str | None, chain: bool, der: bool, force: bool
) -> None:
    """Write the certificate where asked, say what was issued."""
    from tpmhsm.cli.cert import bundle_ders, write_certificate
    from tpmhsm.pki.describe import certificate_lines

    found = issued.facts
    for note in issued.notes:
        app.note(f"note: {note}")
    if out:
        bundle = bundle_ders(app, found["sha256"], "fullchain" if chain else "leaf")
        write_certificate(app, out, bundle, der=der, force=force)
    words = facts([("Authority", name), *certificate_lines(found)])
    if out == "-" and not app.as_json:
        app.note(words)
        return
    app.emit({**found, "ca_name": name, "notes": list(issued.notes), "file": out}, words)


@ca.command()
@click.argument("name")
@click.option("--key", required=True, metavar="LABEL", help="A key in the chip.")
@click.option("--subject", required=True, metavar="DN", help="RFC 4514, as CN=Root,O=Example.")
@click.option("--issuer", metavar="CA", help="The authority above; none for a root.")
@click.option("--profile", metavar="P", help="root or intermediate; by --issuer when not given.")
@click.option("--external", is_flag=True, help="Write a CSR for another CA; then ca install.")
@click.option("--path-length", type=click.IntRange(0), help="How many CAs may stand below.")
@click.option("--permit", multiple=True, metavar="TYPE:NAME",
              help="Name constraint: only below this, as dns:example.com; repeatable.")  # fmt: skip
@click.option("--exclude", multiple=True, metavar="TYPE:NAME", help="Nothing below this.")
@issue_options
@pass_app
def create(
    app: App,
    name: str,
    key: str,
    subject: str,
    issuer: str | None,
    profile: str | None,
    external: bool,
    path_length: int | None,
    permit: tuple[str, ...],
    exclude: tuple[str, ...],
    days: int | None,
    not_after: str | None,
    reason: str,
    out: str | None,
    chain: bool,
    der: bool,
    force: bool,
) -> None:
    """Make an authority: a root, an intermediate, or (--external) one under a CA elsewhere.

    \b
    Example:
      tpmhsm ca create issuing --key issuing --issuer root-ca --subject CN=Issuing \\
        --permit dns:example.com
    """
    if external:
        _create_external(app, name, key, subject, path_length, out, der, force)
        return
    issued = app.authorities.create(
        name,
        key,
        subject,
        issuer=issuer,
        profile=profile,
        options=options_of(
            days, not_after, path_length=path_length, permitted=permit, excluded=exclude
        ),
        reason=reason,
    )
    show_issued(app, name, issued, out, chain, der, force)


def _create_external(
    app: App,
    name: str,
    key: str,
    subject: str,
    path_length: int | None,
    out: str | None,
    der: bool,
    force: bool,
) -> None:
    from tpmhsm.cli.csr import PROFILES
    from tpmhsm.pki.csr import CsrContent
    from tpmhsm.pki.load import to_pem
    from tpmhsm.pki.names import parse_dn

    content = CsrContent(
        parse_dn(subject), key_usage=PROFILES["intermediate"][0], ca=True, path_length=path_length
    )
    app.authorities.remember_external(name, key, subject)
    raw = app.desk.make_csr(key, content)
    target = out or f"{name}.csr"
    app.write(target, raw if der else to_pem(raw, "CERTIFICATE REQUEST"), force=force)
    if target != "-":
        app.emit(
            {"ca_name": name, "file": target},
            f"wrote {target}: have it certified, then tpmhsm ca install {name} CERT CHAIN…",
        )


@ca.command()
@click.argument("name")
@click.argument("files", nargs=-1, required=True, metavar="CERT…")
@pass_app
def install(app: App, name: str, files: tuple[str, ...]) -> None:
    """Give an external authority the certificate that its CA made, with its chain."""
    from tpmhsm.pki.load import load_certificates

    loaded = [c for file in files for c in load_certificates(app.read(file), file)]
    issued = app.authorities.install(name, loaded)
    show_issued(app, name, issued, None, False, False, False)


@ca.command()
@click.argument("name")
@click.argument("csr", metavar="CSR")
@click.option("--profile", default="tls-server", show_default=True, metavar="P",
              help="tls-server, tls-client, intermediate.")  # fmt: skip
@click.option("--path-length", type=click.IntRange(0), help="For an intermediate.")
@click.option("--permit", multiple=True, metavar="TYPE:NAME", help="For an intermediate.")
@click.option("--exclude", multiple=True, metavar="TYPE:NAME", help="For an intermediate.")
@issue_options
@pass_app
def sign(
    app: App,
    name: str,
    csr: str,
    profile: str,
    path_length: int | None,
    permit: tuple[str, ...],
    exclude: tuple[str, ...],
    days: int | None,
    not_after: str | None,
    reason: str,
    out: str | None,
    chain: bool,
    der: bool,
    force: bool,
) -> None:
    """Certify a CSR, by a profile.

    \b
    Example:
      tpmhsm ca sign issuing web.csr --profile tls-server --out web.pem
    """
    options = options_of(
        days, not_after, path_length=path_length, permitted=permit, excluded=exclude
    )
    issued = app.authorities.sign(
        name, app.read(csr), profile=profile, what=csr, options=options, reason=reason
    )
    show_issued(app, name, issued, out, chain, der, force)


@ca.command()
@click.argument("name")
@click.option("--host", "hosts", multiple=True, required=True, metavar="H",
              help="Host name or IP address; repeatable.")  # fmt: skip
@click.option("--key", metavar="LABEL", help="The key; one named after the first host by default.")
@click.option("--alg", default="p256", show_default=True, help="When the key is made.")
@click.option("--profile", default="tls-server", show_default=True, metavar="P")
@issue_options
@pass_app
def issue(
    app: App,
    name: str,
    hosts: tuple[str, ...],
    key: str | None,
    alg: str,
    profile: str,
    days: int | None,
    not_after: str | None,
    reason: str,
    out: str | None,
    chain: bool,
    der: bool,
    force: bool,
) -> None:
    """Key in the chip, CSR and certificate in one.

    \b
    Example:
      tpmhsm ca issue issuing --host www.example.com --out web.pem
    """
    from tpmhsm.pki.csr import CsrContent
    from tpmhsm.pki.names import parse_dn
    from tpmhsm.pki.sans import format_san, host_san

    sans = tuple(host_san(host) for host in hosts)
    label = key or format_san(sans[0]).partition(":")[2].replace("*", "wildcard").replace(":", ".")
    app.authorities.certificate(name)
    try:
        app.keyring.get(label)
    except NotFoundError:
        app.keyring.create(label, alg, policy="open")
        app.note(f"made the key {label}: {alg}, open, in {app.device.describe()}")
    csr = app.desk.make_csr(label, CsrContent(subject=parse_dn(""), sans=sans))
    issued = app.authorities.sign(
        name, csr, profile=profile, options=options_of(days, not_after), reason=reason
    )
    show_issued(app, name, issued, out, chain, der, force)


def ca_json(app: App, row: AuthorityRow) -> dict[str, Any]:
    """One authority's facts."""
    settings = row.settings or {}
    found: dict[str, Any] = {
        "name": row.name,
        "state": row.state,
        "key": row.key_label,
        "profile": row.profile,
        "subject": row.subject,
        "issuer": row.issuer,
        "external": bool(settings.get("external")),
        "request": settings.get("request"),
        "created": row.created,
        "certificate": None,
    }
    if row.certificate:
        from cryptography.hazmat.primitives.serialization import Encoding

        from tpmhsm.pki.describe import describe_certificate
        from tpmhsm.pki.load import to_pem

        certificate = app.authorities.certificate(row.name)
        found["certificate"] = {
            **describe_certificate(certificate),
            "pem": to_pem(certificate.public_bytes(Encoding.DER)).decode(),
        }
    return found


@ca.command("list")
@pass_app
def list_(app: App) -> None:
    """All authorities."""
    found = [ca_json(app, row) for row in app.authorities.all()]

    def left(item: dict[str, Any]) -> str:
        if item["certificate"]:
            return f"{item['certificate']['days_left']}"
        return f"request {item['request']}" if item["request"] else "-"

    app.emit(
        {"items": found},
        lambda: table(
            ("CA", "STATE", "SUBJECT", "KEY", "ISSUER", "DAYS LEFT"),
            [
                (i["name"], i["state"], i["subject"], i["key"],
                 i["issuer"] or ("elsewhere" if i["external"] else "itself"), left(i))
                for i in found
            ],
            empty="no authorities; tpmhsm ca create NAME --key LABEL --subject DN",
        ),
    )  # fmt: skip


@ca.command()
@click.argument("name")
@pass_app
def show(app: App, name: str) -> None:
    """One authority and its certificate."""
    from tpmhsm.pki.describe import certificate_lines

    found = ca_json(app, app.authorities.get(name))
    lines = certificate_lines(found["certificate"]) if found["certificate"] else []
    app.emit(
        found,
        lambda: facts(
            [("CA", f"{name} ({found['state']})"), ("Key", found["key"]),
             ("Issuer CA", found["issuer"]), *lines]
        ),
    )  # fmt: skip
