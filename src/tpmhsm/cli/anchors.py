"""Whom `cert verify` believes when no --trust is given: our own authorities, and what somebody
trusted by `cert trust`. What was only imported helps to build a path, and ends none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, pass_app, table
from tpmhsm.errors import StoreError, UsageError, VerificationError

if TYPE_CHECKING:
    from tpmhsm.store import Transaction
    from tpmhsm.store.certificates import CertificateRow


def stored_anchors(app: App) -> tuple[list[bytes], list[bytes]]:
    """DER of what is trusted here, and of all other CA certificates that are kept.

    A root of ours is trusted, and so is an authority of ours below a CA elsewhere, unless that
    CA's root is trusted itself: then what stands above it limits it. Raises StoreError.
    """
    try:
        store = app.store
    except StoreError as error:
        error.hint = f"name the root: cert verify F --trust ROOT; or {error.hint}"
        raise
    with store.reading() as tx:
        roots = anchors_of(tx)
        others = [row.der for row in tx.certificates.cas() if row.der not in roots]
    if not roots:
        raise UsageError(
            "nothing is trusted here: this home has no authority, and no root that was trusted",
            hint="cert verify F --trust ROOT for once, tpmhsm cert trust ROOT for good",
            code="nothing-trusted",
        )
    return roots, others


def anchors_of(tx: Transaction) -> list[bytes]:
    """DER of all that is trusted."""
    trusted = {row.sha256 for row in tx.trusted_roots.all()}
    told = [row for sha256 in sorted(trusted) if (row := tx.certificates.find(sha256))]
    tops = [a.certificate for a in tx.authorities.all() if a.certificate and not a.issuer]
    ours = [row for sha256 in tops if (row := tx.certificates.find(sha256))]
    held = [row for row in ours if not _ends_in(tx, row, trusted)]
    return list(dict.fromkeys(row.der for row in (*told, *held)))


def _ends_in(tx: Transaction, row: CertificateRow, trusted: set[str]) -> bool:
    """Whether a certificate of ours has another one above it that is trusted."""
    from hashlib import sha256

    from tpmhsm.cli.exporting import above, is_linkable
    from tpmhsm.pki.chains import build_chain

    if not trusted or row.subject == row.issuer or not is_linkable(row.der):
        return False
    chain = build_chain(row.der, *above(tx, [row]))
    return any(sha256(one).hexdigest() in trusted for one in chain[1:])


def explain_untrusted(app: App, error: VerificationError) -> None:
    """Name the next command where a path ends in a root that is kept and not trusted."""
    if error.details.get("reason") != "untrusted-root":
        return
    with app.store.reading() as tx:
        kept = tx.certificates.issuers_of(str(error.details.get("certificate", "")))
    if kept:
        error.message += "; it was imported, and that alone makes nobody trusted"
        error.hint = (
            f"if you trust it: tpmhsm cert trust {kept[0].sha256[:16]}; for once, --trust FILE"
        )
    else:
        error.hint = "if you trust it: --trust FILE for once, tpmhsm cert trust FILE for good"


@click.command()
@click.argument("what", nargs=-1, metavar="[NAME|FILE]…")
@click.option("--remove", is_flag=True, help="Trust them no more.")
@pass_app
def trust(app: App, what: Sequence[str], remove: bool) -> None:
    """Trust certificates as roots, for cert verify without --trust; alone: list what is trusted.

    A file is stored, too, and only its first certificate is trusted. The roots of authorities
    here are trusted anyhow.

    \b
    Example:
      tpmhsm cert trust partner-root.pem
      tpmhsm cert trust --remove 3f1c9b07
    """
    if not what:
        if remove:
            raise UsageError("name what is not to be trusted", hint="tpmhsm cert trust lists all")
        _list(app)
        return
    rows = [_row(app, one, keep=not remove) for one in what]
    items: list[dict[str, Any]] = []
    with app.store.transaction() as tx:
        for row in rows:
            act = tx.trusted_roots.remove if remove else tx.trusted_roots.add
            changed = act(row.sha256)
            if changed:
                name = "cert-distrust" if remove else "cert-trust"
                tx.audit.append(name, {"sha256": row.sha256})
            items.append({**_json(row), "trusted": not remove, "changed": changed})
    done = "not trusted any more:" if remove else "trusted:"
    words = [f"{done} {i['subject'] or '(empty)'} {i['sha256'][:16]}" for i in items]
    app.done({"items": items}, "\n".join(words))


def _row(app: App, what: str, *, keep: bool) -> CertificateRow:
    """The stored certificate that is meant; the first of a file is stored first if `keep`."""
    from hashlib import sha256

    from tpmhsm.cli.cert import find, names_file
    from tpmhsm.cli.importing import keep as keep_all

    if not names_file(what):
        return find(app, what)
    from tpmhsm.pki.load import certificate_ders

    der = certificate_ders(app.read(what), what)[0]
    if not keep:
        return find(app, sha256(der).hexdigest())
    return keep_all(app, [der], "")[0][0]


def _json(row: CertificateRow) -> dict[str, Any]:
    return {"subject": row.subject, "sha256": row.sha256, "not_after": row.not_after or None}


def _list(app: App) -> None:
    from hashlib import sha256

    with app.store.reading() as tx:
        since = {row.sha256: row.since for row in tx.trusted_roots.all()}
        digests = [sha256(der).hexdigest() for der in anchors_of(tx)]
        rows = [row for digest in digests if (row := tx.certificates.find(digest))]
    items = [{**_json(row), "since": since.get(row.sha256)} for row in rows]
    app.emit(
        {"items": items},
        lambda: table(
            ("SUBJECT", "TRUSTED", "UNTIL", "SHA-256"),
            [
                (i["subject"], i["since"] or "an authority here", i["not_after"] or "",
                 i["sha256"][:16])
                for i in items
            ],
            empty="nothing is trusted; tpmhsm cert trust ROOT",
        ),
    )  # fmt: skip
