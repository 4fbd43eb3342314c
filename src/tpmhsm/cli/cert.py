"""`tpmhsm cert`: certificates and chains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.anchors import explain_untrusted, stored_anchors, trust
from tpmhsm.cli.app import App, facts, pass_app, table
from tpmhsm.cli.exporting import FORMATS
from tpmhsm.cli.files import STDIO
from tpmhsm.cli.options import Out, out_options
from tpmhsm.cli.secrets import Secret, passphrase_options
from tpmhsm.errors import NotFoundError, UsageError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tpmhsm.store.certificates import CertificateRow, Wanted
    from tpmhsm.store.revocations import RevocationRow

IN_TREE = 1000
"""Certificates that `cert chain` shows at most, beside those of CAs."""

PURPOSES = ("server", "client", "email", "code", "timestamp", "ocsp", "any")


@click.group(epilog="Example: tpmhsm cert verify web.pem --trust root.pem --host www.example.com")
def cert() -> None:
    """Certificates: import, list, show, chain, trust, verify, export, delete."""


def find(app: App, reference: str) -> CertificateRow:
    """A stored certificate by what people call it: a CA's name, the first host in it, its subject,
    id, serial, or the first digits of its SHA-256. Of several for one host, the newest.
    """
    if reference[:2].lower() == "0x":  # a serial, spelt as `ca revoke` takes it
        reference = reference[2:]
    with app.store.reading() as tx:
        authority = tx.authorities.find(reference)
        if authority is not None and authority.certificate:
            found = tx.certificates.find(authority.certificate)
            if found is not None:
                return found
        if authority is not None and not tx.certificates.find_all(reference):
            raise NotFoundError(
                f"the authority {reference!r} has no certificate yet",
                hint=f"tpmhsm ca show {reference}",
            )
        called = tx.certificates.find_all(reference.removeprefix("dns:"))
        if called and called[0].name and all(row.name == called[0].name for row in called):
            return called[-1]  # of several for one host, the newest
        try:
            return tx.certificates.get(reference)
        except NotFoundError as error:
            if _is_file(reference):
                error.hint = f"it is a file: tpmhsm cert import {reference} stores what is in it"
            raise


@cert.command("import")
@click.argument("files", nargs=-1, required=True, metavar="F…")
@click.option("--name", default="", help="What to call it, for a single certificate.")
@click.option("--skip-bad", is_flag=True, help="Store the others when some cannot be read.")
@passphrase_options
@pass_app
def import_(app: App, files: tuple[str, ...], name: str, skip_bad: bool, secret: Secret) -> None:
    """Store certificates: PEM, DER, PKCS#7, PKCS#12, in any mixture. All of them, or none.

    Certificates that break rules are stored and marked. Private keys are never stored.

    \b
    Example:
      tpmhsm cert import root.pem intermediates.p7b
    """
    from tpmhsm.cli import importing

    found = importing.gather(files, secret.source())
    importing.refuse_bad(found, skip=skip_bad)
    importing.check_name(name, found)
    kept = importing.keep(app, list(found.certificates), name)
    found_rows = rows_json(app, [row for row, _ in kept])
    items = [{**item, "new": new} for item, (_, new) in zip(found_rows, kept, strict=True)]
    app.done(
        {"items": items, "skipped": found.skipped, "repeated": found.repeated},
        lambda: importing.words(items, found),
    )


def _keys(app: App) -> dict[str, str]:
    """Labels of chip keys by the hash of their public key."""
    return {row.spki_sha256: row.label for row in app.keyring.all()}


def rows_json(app: App, rows: Sequence[CertificateRow]) -> list[dict[str, Any]]:
    """Stored certificates' facts."""
    keys = _keys(app)
    with app.store.reading() as tx:
        revoked = tx.revocations.of((row.authority, row.serial) for row in rows if row.authority)
    return [row_json(row, keys, revoked.get((row.authority or "", row.serial))) for row in rows]


def row_json(
    row: CertificateRow, keys: dict[str, str], revocation: RevocationRow | None = None
) -> dict[str, Any]:
    """One stored certificate's facts; `revocation` is null unless it is revoked or held."""
    from tpmhsm.pki.describe import describe_certificate

    found = describe_certificate(row.der)
    return {
        "id": row.id,
        "name": row.name,
        **found,
        "key_label": keys.get(row.spki_sha256),
        "authority": row.authority,
        "source": row.source,
        "revocation": revocation
        and {
            "state": revocation.state,
            "reason": revocation.reason,
            "revoked": revocation.revoked_at,
            "invalidity_date": revocation.invalidity or None,
        },
    }


@cert.command("list")
@click.option("--name", default="", help="Of this host or person, or anything below this domain.")
@click.option("--serial", default="", metavar="HEX", help="Of this serial number.")
@click.option("--key", default="", metavar="LABEL|HEX", help="Of this key, or its SPKI's SHA-256.")
@click.option("--sha256", default="", metavar="HEX", help="Whose SHA-256 begins so.")
@click.option("--ca", default="", metavar="CA", help="Issued by this authority.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@click.option("--before", type=click.IntRange(1), metavar="ID", help="Older than this one.")
@pass_app
def list_(app: App, /, limit: int, **asked: Any) -> None:
    """Stored certificates, the newest first: all, or those that fit every option.

    \b
    Example:
      tpmhsm cert list --name example.com --limit 20
    """
    wanted = _wanted(app, **asked)
    with app.store.reading() as tx:
        rows = tx.certificates.page(wanted, limit + 1)
    more, rows = len(rows) > limit, rows[:limit]
    items = rows_json(app, rows)
    app.emit(
        {"items": items, "more": more},
        lambda: table(
            ("ID", "SUBJECT", "ISSUER", "KEY", "DAYS LEFT", "SHA-256"),
            [
                (str(i["id"]), _subject(i), i["issuer"], i["key_label"] or "",
                 _left(i), i["sha256"][:16])
                for i in items
            ],
            empty="no certificates fit" if any(asked.values())
            else "no certificates; tpmhsm cert import FILE…",
        ),
    )  # fmt: skip
    if more:
        app.note(f"there are more: --before {rows[-1].id} lists older ones")


def _wanted(
    app: App, *, name: str, serial: str, key: str, sha256: str, ca: str, before: int | None
) -> Wanted:
    from tpmhsm.store.certificates import Wanted

    spki = ""
    if key:
        known = {row.label: row.spki_sha256 for row in app.keyring.all()}
        spki = known.get(key) or _digits(key, "--key")
    if ca:
        app.authorities.get(ca)
    return Wanted(
        name=_a_labels(name.removeprefix("dns:").removeprefix("*.")),
        serial=_digits(serial, "--serial"),
        sha256=_digits(sha256, "--sha256"),
        spki_sha256=spki,
        authority=ca,
        before=before,
    )


def _a_labels(name: str) -> str:
    """A host name beyond ASCII as certificates have it; any other name as it is."""
    if name.isascii() or "." not in name:
        return name
    from tpmhsm.pki.hosts import normalize_host

    try:
        return normalize_host(name)
    except UsageError:
        return name


def _digits(text: str, option: str) -> str:
    digits = "".join(text.split()).replace(":", "").lower().removeprefix("0x")
    if digits.strip("0123456789abcdef"):
        hint = "tpmhsm key list shows all keys" if option == "--key" else ""
        raise UsageError(f"{option} {text!r} is not hexadecimal", hint=hint)
    return digits


def _left(item: dict[str, Any]) -> str:
    state = item["revocation"] and item["revocation"]["state"]
    return f"{item['days_left']}{f', {state}' if state else ''}"


def _subject(item: dict[str, Any]) -> str:
    return item["subject"] or ", ".join(item["sans"]) or "(empty)"


@cert.command(epilog="Example: tpmhsm cert show web.pem")
@click.argument("what", metavar="NAME|FILE")
@click.option("--extensions", "--all", "every", is_flag=True,
              help="Every extension, known or not: OID, criticality, value.")  # fmt: skip
@pass_app
def show(app: App, what: str, every: bool) -> None:
    """One certificate, stored or in a file (the first of a bundle, and how many there are)."""
    from tpmhsm.pki.describe import certificate_lines, describe_certificate

    if not names_file(what):
        row = find(app, what)
        raw = row.der
        (found,) = rows_json(app, [row])
        more = [
            ("Revoked", _revoked(found)),
            ("Name", row.name),
            ("Key", found["key_label"] or ""),
            ("Source", row.source),
        ]
    else:
        from tpmhsm.pki.load import certificate_ders

        ders = certificate_ders(app.read(what), what)
        raw = ders[0]
        found = describe_certificate(raw)
        found["certificates"] = len(ders)
        more = [("Also here", f"{len(ders) - 1} more certificates" if len(ders) > 1 else "")]
    words = facts([*certificate_lines(found), *more])
    if every:
        from tpmhsm.pki.extension_view import extension_lines, extensions_of

        found["extensions"] = extensions_of(raw)
        words += f"\n\n{extension_lines(found['extensions'])}"
    app.emit(found, words)


def _revoked(item: dict[str, Any]) -> str:
    """`2026-07-01T12:00:00Z, keyCompromise`; empty for a certificate that is good."""
    found = item["revocation"]
    if not found:
        return ""
    since = f", invalid since {found['invalidity_date']}" if found["invalidity_date"] else ""
    words = "on hold" if found["state"] == "held" else found["reason"]
    return f"{found['revoked']}, {words}{since}"


def names_file(what: str) -> bool:
    """Whether this is a file, or meant as one; else it is what a certificate is called."""
    return what == STDIO or _is_file(what) or _looks_like_file(what)


def _is_file(what: str) -> bool:
    try:
        return Path(what).exists()
    except (OSError, ValueError):
        return False


def _looks_like_file(what: str) -> bool:
    return "/" in what or what.endswith((".pem", ".crt", ".cer", ".der"))


@cert.command(epilog="Example: tpmhsm cert chain www.example.com")
@click.argument("name", required=False)
@pass_app
def chain(app: App, name: str | None) -> None:
    """All chains as a tree, or one certificate's chain up to its root.

    Of very many certificates the newest alone stand below the CAs; all are in cert list.
    """
    from tpmhsm.cli.exporting import above, is_linkable, linkable
    from tpmhsm.pki.chains import build_chain, chain_tree, tree_lines
    from tpmhsm.store.certificates import Wanted

    row = find(app, name) if name is not None else None
    with app.store.reading() as tx:
        if row is None:
            newest = tx.certificates.page(Wanted(), IN_TREE + 1)
            pool, own = above(tx, newest)
            rows = [*tx.certificates.cas(), *newest[:IN_TREE]]
            pool = [*pool, *linkable([one.der for one in rows])]
        else:
            newest = []
            pool, own = above(tx, [row])
            pool = build_chain(row.der, pool, own) if is_linkable(row.der) else [row.der]
    tree = chain_tree(pool, own=own)
    app.emit({"items": tree}, lambda: "\n".join(tree_lines(tree)) or "no certificates")
    if len(newest) > IN_TREE:
        app.note(f"the newest {IN_TREE:,} certificates are shown; tpmhsm cert chain NAME shows one")


@cert.command()
@click.argument("file", metavar="F")
@click.option("--trust", "--roots", "trust", multiple=True, metavar="F",
              help="Trusted roots; by default those of cert trust.")  # fmt: skip
@click.option("--untrusted", multiple=True, metavar="F", help="Intermediates.")
@click.option("--crl", "crls", multiple=True, metavar="F", help="CRLs; then all are checked.")
@click.option("--purpose", type=click.Choice(PURPOSES), default="any", show_default=True)
@click.option("--host", metavar="H", help="The host, address or mailbox it must be for.")
@click.option("--at", metavar="TIME", help="At this time instead of now, RFC 3339.")
@click.option("--max-depth", type=click.IntRange(0), metavar="N",
              help="At most so many intermediate CAs.")  # fmt: skip
@click.option("--policy", "policies", multiple=True, metavar="OID",
              help="A certificate policy that is acceptable; any by default.")  # fmt: skip
@click.option("--explicit-policy", is_flag=True, help="A policy must hold along the whole path.")
@click.option("--inhibit-mapping", is_flag=True, help="CAs may not map policies.")
@click.option("--inhibit-any", is_flag=True, help="anyPolicy stands for no policy.")
@pass_app
def verify(
    app: App,
    file: str,
    trust: tuple[str, ...],
    untrusted: tuple[str, ...],
    crls: tuple[str, ...],
    purpose: str,
    host: str | None,
    at: str | None,
    max_depth: int | None,
    policies: tuple[str, ...],
    explicit_policy: bool,
    inhibit_mapping: bool,
    inhibit_any: bool,
) -> None:
    """Check a certificate's chain up to a trusted root, and say in words why it fails.

    Certificates after the first in F are taken as intermediates. The purposes server and email
    also apply the Baseline Requirements; any is RFC 5280 alone. Without --crl, what
    the authorities here have revoked is refused; with --trust, what is on their CRLs.

    \b
    Example:
      tpmhsm cert verify web.pem --trust root.pem --purpose server --host www.example.com
    """
    from tpmhsm.cli.times import parse_time
    from tpmhsm.pki.crl_file import MAX_SIZE, crl_ders
    from tpmhsm.pki.load import certificate_ders
    from tpmhsm.pki.verify import VerifyOptions, verify_certificate

    leaf, *others = certificate_ders(app.read(file), file)
    roots = [one for f in trust for one in certificate_ders(app.read(f), f)]
    others += [one for f in untrusted for one in certificate_ders(app.read(f), f)]
    if not trust:
        roots, stored = stored_anchors(app)
        others += stored
    options = VerifyOptions(
        purpose=purpose,
        host=host or "",
        at=parse_time(at) if at else None,
        crls=tuple(one for f in crls for one in crl_ders(app.read(f, limit=MAX_SIZE), f)),
        require_crl=bool(crls),
        max_depth=max_depth,
        policies=policies,
        explicit_policy=explicit_policy,
        inhibit_mapping=inhibit_mapping,
        inhibit_any=inhibit_any,
    )
    try:
        found = verify_certificate(leaf, roots, others, options).facts
    except VerificationError as error:
        if not trust:
            explain_untrusted(app, error)
        raise
    if not crls:
        from tpmhsm.cli.revoked import refuse_listed_here, refuse_revoked_here

        if trust:
            refuse_listed_here(app, found)
        else:
            refuse_revoked_here(app, found["chain"], found["at"])
    app.emit(found, lambda: _verified(found))


def _verified(found: dict[str, Any]) -> str:
    lines = [click.style("valid", fg="green", bold=True)]
    for depth, item in enumerate(reversed(found["chain"])):
        who = item["subject"] or ", ".join(item["sans"]) or f"serial {item['serial']}"
        lines.append(f"{'   ' * depth}└─ {who}  {item['days_left']} days left")
    return "\n".join([*lines, *(f"note: {note}" for note in found["notes"])])


@cert.command()
@click.argument("name")
@click.option("--form", type=click.Choice(["leaf", "chain", "fullchain"]), default="leaf",
              show_default=True)  # fmt: skip
@click.option("--chain", "form", flag_value="chain", help="The same as --form chain.")
@click.option("--fullchain", "--full-chain", "form", flag_value="fullchain",
              help="The same as --form fullchain.")  # fmt: skip
@click.option("--format", "format_", type=click.Choice(FORMATS), default="pem", show_default=True)
@out_options(der=True)
@passphrase_options
@pass_app
def export(app: App, name: str, form: str, format_: str, out: Out, secret: Secret) -> None:
    """Write a certificate, its chain, or both; never a key.

    A PKCS#12 file is encrypted only when a passphrase is given: certificates are public.

    \b
    Example:
      tpmhsm cert export www.example.com --fullchain --out web.pem
      tpmhsm cert export root-ca --format pkcs12 --out trust.p12
    """
    from tpmhsm.cli.exporting import bundle_ders, encoded, passphrase_of

    target = out.claim()
    row = find(app, name)
    bundle = bundle_ders(app, row.sha256, form)
    if not bundle:
        raise NotFoundError(
            f"nothing stands between {name} and its root: there is no chain to write",
            hint="--fullchain writes the certificate and what is above it, without the root",
        )
    passphrase = passphrase_of(format_, secret.source(confirm=True), given=secret.given)
    to_json = app.as_json and target == STDIO
    der = out.der and not (to_json and format_ == "pem")
    data = encoded(bundle, format_, der=der, name=row.name, passphrase=passphrase)
    what = {"name": name, "form": form, "format": format_}
    if to_json:
        app.emit({**what, **_as_text(data)})
        return
    out.write(data)
    if target != STDIO:
        app.done({**what, "file": target}, f"wrote {target}")


def _as_text(data: bytes) -> dict[str, str]:
    if data.startswith(b"-----BEGIN "):
        return {"pem": data.decode()}
    from base64 import b64encode

    return {"base64": b64encode(data).decode()}


@cert.command(epilog="Example: tpmhsm cert delete 3f1c9b07")
@click.argument("name")
@pass_app
def delete(app: App, name: str) -> None:
    """Take a stored certificate off the lists. Authorities keep theirs.

    Of several that have the name none is taken: name one by its SHA-256. `cert import` of the same
    file undoes it, and what an authority here issued can still be revoked.
    """
    row = find(app, name)
    with app.store.reading() as tx:
        if tx.authorities.find(name) is None and len(tx.certificates.find_all(name)) > 1:
            tx.certificates.get(name)  # refuses
    with app.store.transaction() as tx:
        users = [a.name for a in tx.authorities.all() if a.certificate == row.sha256]
        if users:
            raise UsageError(
                f"this is the certificate of the authority {users[0]!r}", code="in-use"
            )
        tx.certificates.delete(row.sha256)
        tx.trusted_roots.remove(row.sha256)
        tx.audit.append("cert-delete", {"sha256": row.sha256})
    app.done({"deleted": row.sha256}, f"deleted {row.subject} {row.sha256[:16]}")


cert.add_command(trust)
