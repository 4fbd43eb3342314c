"""`tpmhsm ca`: certificate authorities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, facts, pass_app, table
from tpmhsm.cli.files import STDIO
from tpmhsm.cli.issuing import (
    Choices,
    Limits,
    deliver,
    issue_options,
    limit_options,
    show_issued,
    to_stdout,
)
from tpmhsm.cli.options import Out
from tpmhsm.cli.revoked import own_state, revocation_json, revocation_lines
from tpmhsm.cli.revoking import VERBS
from tpmhsm.cli.waiting import settled
from tpmhsm.errors import NotFoundError, RefusedError, UsageError

if TYPE_CHECKING:
    from tpmhsm.store.authorities import AuthorityRow


@click.group(epilog="Example: tpmhsm ca create root-ca --key root --subject CN=Root,O=Example")
def ca() -> None:
    """Authorities: create, install, sign, issue, revoke, hold, release, crl, list, show."""


for verb in VERBS:
    ca.add_command(verb)


@ca.command()
@click.argument("name")
@click.option("--key", required=True, metavar="LABEL", help="A key in the chip.")
@click.option("--subject", required=True, metavar="DN", help="RFC 4514, as CN=Root,O=Example.")
@click.option("--issuer", metavar="CA", help="The authority above; none for a root.")
@click.option("--profile", metavar="P", help="root, limited-root or intermediate; by --issuer.")
@click.option("--external", is_flag=True, help="Write a CSR for another CA; then ca install.")
@limit_options
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
    limits: Limits,
    choices: Choices,
    out: Out,
) -> None:
    """Make an authority: a root, an intermediate, or (--external) one under a CA elsewhere.

    The same command again goes on with what was interrupted.

    \b
    Example:
      tpmhsm ca create issuing --key issuing --issuer root-ca --subject CN=Issuing \\
        --permit dns:example.com
    """
    if external:
        if issuer:
            raise UsageError("--external is for an issuer elsewhere", hint="leave --issuer out")
        _create_external(app, name, key, subject, limits, choices, out)
        return
    options = choices.options(limits)
    deliver(
        app,
        name,
        choices,
        out,
        lambda: app.authorities.create(
            name,
            key,
            subject,
            issuer=issuer,
            profile=profile,
            options=options,
            reason=choices.reason,
        ),
    )


def _create_external(
    app: App,
    name: str,
    key: str,
    subject: str,
    limits: Limits,
    choices: Choices,
    out: Out,
) -> None:
    from tpmhsm.cli.csr import PROFILES, write_csr
    from tpmhsm.pki.csr import CsrContent
    from tpmhsm.pki.names import parse_dn

    target = out.claim(f"{name}.csr")
    content = CsrContent(
        parse_dn(subject),
        key_usage=PROFILES["intermediate"][0],
        ca=True,
        path_length=limits.path_length,
    )
    app.authorities.remember_external(name, key, subject)
    pem = write_csr(app, key, content, choices.reason, choices.wait, out, target)
    found = {"ca_name": name, "file": target, "csr_pem": pem}
    words = f"wrote {target}: have it certified, then tpmhsm ca install {name} CERT CHAIN…"
    if target != STDIO or app.as_json:
        app.done(found, words, made="" if out.out else target)


@ca.command(epilog="Example: tpmhsm ca install issuing issuing.pem root.pem")
@click.argument("name")
@click.argument("files", nargs=-1, required=True, metavar="CERT…")
@pass_app
def install(app: App, name: str, files: tuple[str, ...]) -> None:
    """Give an external authority the certificate that its CA made, with its chain."""
    from tpmhsm.pki.load import load_certificates

    loaded = [c for file in files for c in load_certificates(app.read(file), file)]
    issued = app.authorities.install(name, loaded)
    show_issued(app, name, issued, Out(None, force=False))


@ca.command()
@click.argument("name")
@click.argument("csrs", nargs=-1, required=True, metavar="CSR…")
@click.option("--profile", default="tls-server", show_default=True, metavar="P",
              help="tls-server, tls-client, intermediate.")  # fmt: skip
@click.option("--require-evidence", "evidence", is_flag=True,
              help="Only if the CSR proves that its key is in a TPM.")  # fmt: skip
@limit_options
@issue_options
@pass_app
def sign(
    app: App,
    name: str,
    csrs: tuple[str, ...],
    profile: str,
    evidence: bool,
    limits: Limits,
    choices: Choices,
    out: Out,
) -> None:
    """Certify CSRs, by a profile. With several, --out names a directory.

    When the key's policy wants people, each CSR becomes a request that waits for them.

    \b
    Example:
      tpmhsm ca sign issuing web.csr --profile tls-server --out web.pem
    """
    options = choices.options(limits)
    if len(csrs) > 1:
        from tpmhsm.cli.signing import sign_all

        sign_all(app, name, csrs, profile, options, choices, out, evidence=evidence)
        return
    (csr,) = csrs
    data = app.read(csr)
    deliver(
        app,
        name,
        choices,
        to_stdout(app, out),
        lambda: app.authorities.sign(
            name,
            data,
            profile=profile,
            what=csr,
            options=options,
            reason=choices.reason,
            repeat=False,
            evidence=evidence,
        ),
    )


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
    choices: Choices,
    out: Out,
) -> None:
    """Key in the chip, CSR and certificate in one.

    \b
    Example:
      tpmhsm ca issue issuing --host www.example.com --out web.pem
    """
    from tpmhsm.cli.csr_evidence import made_bundle
    from tpmhsm.pki.csr import CsrContent
    from tpmhsm.pki.names import parse_dn
    from tpmhsm.pki.sans import format_san, host_san

    sans = tuple(host_san(host) for host in hosts)
    label = key or format_san(sans[0]).partition(":")[2].replace("*", "wildcard").replace(":", ".")
    options = choices.options()
    app.authorities.certificate(name)
    out = to_stdout(app, out)
    if out.out:
        out.claim()
    content = CsrContent(subject=parse_dn(""), sans=sans)
    new = _ensure_key(app, label, alg)
    bundle = made_bundle(app, label) if app.authorities.wants_evidence(name, profile) else b""
    csr = settled(
        app, choices.wait, lambda: app.desk.make_csr(label, content, choices.reason, bundle)
    )
    try:
        deliver(
            app,
            name,
            choices,
            out,
            lambda: app.authorities.sign(
                name,
                csr,
                profile=profile,
                options=options,
                reason=choices.reason,
                repeat=False,
            ),
        )
    except (UsageError, RefusedError):
        if new and not app.keyring.users(label):  # refused: nothing is left of it
            app.keyring.delete(label)
            app.note(f"the key {label} is deleted again")
        raise


def _ensure_key(app: App, label: str, alg: str) -> bool:
    """Make the key unless there is one; says whether it is new."""
    try:
        app.keyring.get(label)
    except NotFoundError:
        app.keyring.create(label, alg, policy="open")
        app.note(f"made the key {label}: {alg}, open, in {app.device.describe()}")
        return True
    return False


def _is_imported(app: App, label: str) -> bool:
    """Whether an authority's key was not made in the chip."""
    from tpmhsm.keys.births import was_imported

    with app.store.reading() as tx:
        row = tx.keys.find(label)
    return row is not None and was_imported(row)


def key_words(found: dict[str, Any]) -> str:
    """The key's label, and that it was imported."""
    from tpmhsm.cli.key import IMPORTED

    return f"{found['key']} ({IMPORTED})" if found["key_imported"] else str(found["key"])


def ca_json(app: App, row: AuthorityRow) -> dict[str, Any]:
    """One authority's facts."""
    settings = row.settings or {}
    found: dict[str, Any] = {
        "name": row.name,
        "state": row.state,
        "key": row.key_label,
        "key_imported": _is_imported(app, row.key_label),
        "profile": row.profile,
        "subject": row.subject,
        "issuer": row.issuer,
        "external": bool(settings.get("external")),
        "request": settings.get("request"),
        "created": row.created,
        "certificate": None,
        "revocation": revocation_json(app, row.name),
        "revoked": own_state(app, row),
    }
    if row.certificate:
        from tpmhsm.ca.records import certificate_facts

        found["certificate"] = certificate_facts(app.authorities.certificate(row.name))
    return found


def state_of(found: dict[str, Any]) -> str:
    """An authority's state for people: revoked and held stand before active."""
    return str((found["revoked"] or found)["state"])


@ca.command("list", epilog="Example: tpmhsm ca list")
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
                (i["name"], state_of(i), i["subject"], i["key"],
                 i["issuer"] or ("elsewhere" if i["external"] else "itself"), left(i))
                for i in found
            ],
            empty="no authorities; tpmhsm ca create NAME --key LABEL --subject DN",
        ),
    )  # fmt: skip


@ca.command(epilog="Example: tpmhsm ca show issuing")
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
            [("CA", f"{name} ({state_of(found)})"), ("Key", key_words(found)),
             ("Issuer CA", found["issuer"]), *lines, *revocation_lines(found["revocation"])]
        ),
    )  # fmt: skip
