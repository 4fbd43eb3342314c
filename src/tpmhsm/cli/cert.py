"""`tpmhsm cert`: certificates and chains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, facts, pass_app, table
from tpmhsm.cli.files import STDIO
from tpmhsm.cli.options import Out, out_options
from tpmhsm.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from cryptography import x509

    from tpmhsm.store.certificates import CertificateRow

PURPOSES = ("server", "client", "email", "code", "timestamp", "ocsp", "any")


@click.group(epilog="Example: tpmhsm cert verify web.pem --trust root.pem --host www.example.com")
def cert() -> None:
    """Certificates: import, list, show, chain, verify, export, delete."""


def find(app: App, reference: str) -> CertificateRow:
    """A stored certificate by what people call it: a CA's name, the first host in it, its subject,
    id, serial, or the first digits of its SHA-256. Of several for one host, the newest.
    """
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
        return tx.certificates.get(reference)


def loaded(rows: list[CertificateRow]) -> list[x509.Certificate]:
    """The rows as objects."""
    from cryptography import x509

    return [x509.load_der_x509_certificate(row.der) for row in rows]


def bundle_ders(app: App, sha256: str, form: str) -> list[bytes]:
    """DER of a stored certificate with the chain that `form` wants (leaf, chain, fullchain)."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from tpmhsm.pki.chains import build_chain, export_bundle

    with app.store.reading() as tx:
        pool = loaded(tx.certificates.all())
        wanted = tx.certificates.find(sha256)
    if wanted is None:
        raise NotFoundError(f"there is no certificate {sha256}")
    chain = build_chain(loaded([wanted])[0], pool)
    return [c.public_bytes(Encoding.DER) for c in export_bundle(chain, form)]


def bundle_data(bundle: list[bytes], *, der: bool) -> bytes:
    """As PEM, or as DER when it is one certificate."""
    from tpmhsm.pki.load import to_pem

    if der and len(bundle) != 1:
        raise UsageError(
            f"DER holds one certificate; there are {len(bundle)}", hint="leave --der out: PEM"
        )
    return bundle[0] if der else b"".join(to_pem(one) for one in bundle)


@cert.command("import", epilog="Example: tpmhsm cert import root.pem")
@click.argument("files", nargs=-1, required=True, metavar="F…")
@click.option("--name", default="", help="What to call it, for a single certificate.")
@pass_app
def import_(app: App, files: tuple[str, ...], name: str) -> None:
    """Store certificates, PEM or DER; all of them or none."""
    from tpmhsm.ca.records import certificate_row
    from tpmhsm.pki.load import load_certificates

    certificates = [c for f in files for c in load_certificates(app.read(f), f)]
    if name and len(certificates) != 1:
        raise UsageError(f"--name is for one certificate; there are {len(certificates)}")
    with app.store.transaction() as tx:
        rows = [
            tx.certificates.add(certificate_row(c, source="imported", name=name))
            for c in certificates
        ]
        tx.audit.append("cert-import", {"sha256": [row.sha256 for row in rows]})
    keys = _keys(app)
    items = [row_json(row, keys) for row in rows]
    app.emit(
        {"items": items}, "\n".join(f"stored {i['subject']} {i['sha256'][:16]}" for i in items)
    )


def _keys(app: App) -> dict[str, str]:
    """Labels of chip keys by the hash of their public key."""
    return {row.spki_sha256: row.label for row in app.keyring.all()}


def row_json(row: CertificateRow, keys: dict[str, str]) -> dict[str, Any]:
    """One stored certificate's facts."""
    from tpmhsm.pki.describe import describe_certificate

    found = describe_certificate(row.der)
    return {
        "id": row.id,
        "name": row.name,
        **found,
        "key_label": keys.get(row.spki_sha256),
        "authority": row.authority,
        "source": row.source,
    }


@cert.command("list", epilog="Example: tpmhsm cert list")
@pass_app
def list_(app: App) -> None:
    """All stored certificates."""
    with app.store.reading() as tx:
        rows = tx.certificates.all()
    keys = _keys(app)
    items = [row_json(row, keys) for row in rows]
    app.emit(
        {"items": items},
        lambda: table(
            ("ID", "SUBJECT", "ISSUER", "KEY", "DAYS LEFT", "SHA-256"),
            [
                (str(i["id"]), _subject(i), i["issuer"], i["key_label"] or "",
                 str(i["days_left"]), i["sha256"][:16])
                for i in items
            ],
            empty="no certificates; tpmhsm cert import FILE…",
        ),
    )  # fmt: skip


def _subject(item: dict[str, Any]) -> str:
    return item["subject"] or ", ".join(item["sans"]) or "(empty)"


@cert.command(epilog="Example: tpmhsm cert show web.pem")
@click.argument("what", metavar="NAME|FILE")
@pass_app
def show(app: App, what: str) -> None:
    """One certificate, stored or in a file (the first of a bundle, and how many there are)."""
    from tpmhsm.pki.describe import certificate_lines, describe_certificate

    if what != STDIO and not _is_file(what) and not _looks_like_file(what):
        row = find(app, what)
        found = row_json(row, _keys(app))
        more = [("Name", row.name), ("Key", found["key_label"] or ""), ("Source", row.source)]
    else:
        from tpmhsm.pki.load import certificate_ders

        ders = certificate_ders(app.read(what), what)
        found = describe_certificate(ders[0])
        found["certificates"] = len(ders)
        more = [("Also here", f"{len(ders) - 1} more certificates" if len(ders) > 1 else "")]
    app.emit(found, lambda: facts([*certificate_lines(found), *more]))


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
    """All chains as a tree, or one certificate's chain up to its root."""
    from tpmhsm.pki.chains import build_chain, chain_tree, tree_lines

    with app.store.reading() as tx:
        pool = loaded(tx.certificates.all())
    if name is not None:
        pool = build_chain(loaded([find(app, name)])[0], pool)
    tree = chain_tree(pool)
    app.emit({"items": tree}, lambda: "\n".join(tree_lines(tree)) or "no certificates")


@cert.command()
@click.argument("file", metavar="F")
@click.option("--trust", "--roots", "trust", multiple=True, metavar="F",
              help="Trusted roots; the stored roots by default.")  # fmt: skip
@click.option("--untrusted", multiple=True, metavar="F", help="Intermediates.")
@click.option("--crl", "crls", multiple=True, metavar="F", help="CRLs; then all are checked.")
@click.option("--purpose", type=click.Choice(PURPOSES), default="any", show_default=True)
@click.option("--host", metavar="H", help="The name or address it must be for.")
@click.option("--at", metavar="TIME", help="At this time instead of now, RFC 3339.")
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
) -> None:
    """Check a certificate's chain up to a trusted root, and say in words why it fails.

    Certificates after the first in F are taken as intermediates.

    \b
    Example:
      tpmhsm cert verify web.pem --trust root.pem --purpose server --host www.example.com
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    from tpmhsm.cli.times import parse_time
    from tpmhsm.pki.load import certificate_ders, load_crls
    from tpmhsm.pki.verify import VerifyOptions, verify_certificate

    leaf, *others = certificate_ders(app.read(file), file)
    roots = [one for f in trust for one in certificate_ders(app.read(f), f)]
    others += [one for f in untrusted for one in certificate_ders(app.read(f), f)]
    if not trust:
        roots, stored = _stored(app)
        others += stored
    options = VerifyOptions(
        purpose=purpose,
        host=host or "",
        at=parse_time(at) if at else None,
        crls=tuple(
            one.public_bytes(Encoding.DER) for f in crls for one in load_crls(app.read(f), f)
        ),
        require_crl=bool(crls),
    )
    found = verify_certificate(leaf, roots, others, options).facts
    app.emit(found, lambda: _verified(found))


def _verified(found: dict[str, Any]) -> str:
    lines = [click.style("valid", fg="green", bold=True)]
    for depth, item in enumerate(reversed(found["chain"])):
        who = item["subject"] or ", ".join(item["sans"]) or f"serial {item['serial']}"
        lines.append(f"{'   ' * depth}└─ {who}  {item['days_left']} days left")
    return "\n".join([*lines, *(f"note: {note}" for note in found["notes"])])


def _stored(app: App) -> tuple[list[bytes], list[bytes]]:
    """The stored certificates: roots, and all others."""
    with app.store.reading() as tx:
        rows = tx.certificates.all()
    roots = [row.der for row in rows if row.is_ca and row.subject == row.issuer]
    return roots, [row.der for row in rows if row.der not in roots]


@cert.command()
@click.argument("name")
@click.option("--form", type=click.Choice(["leaf", "chain", "fullchain"]), default="leaf",
              show_default=True)  # fmt: skip
@click.option("--chain", "form", flag_value="chain", help="The same as --form chain.")
@click.option("--fullchain", "form", flag_value="fullchain", help="The same as --form fullchain.")
@out_options(der=True)
@pass_app
def export(app: App, name: str, form: str, out: Out) -> None:
    """Write a certificate, its chain, or both.

    \b
    Example:
      tpmhsm cert export www.example.com --fullchain --out web.pem
    """
    target = out.claim()
    row = find(app, name)
    bundle = bundle_ders(app, row.sha256, form)
    if not bundle:
        raise NotFoundError(
            f"nothing stands between {name} and its root: there is no chain to write",
            hint="--fullchain writes the certificate and what is above it, without the root",
        )
    data = bundle_data(bundle, der=out.der)
    if app.as_json and target == STDIO:
        pem = bundle_data(bundle, der=False).decode()
        app.emit({"name": name, "form": form, "pem": pem})
        return
    out.write(data)
    if target != STDIO:
        app.emit({"name": name, "form": form, "file": target}, f"wrote {target}")


@cert.command(epilog="Example: tpmhsm cert delete 3f1c9b07")
@click.argument("name")
@pass_app
def delete(app: App, name: str) -> None:
    """Take a stored certificate off the lists. Authorities keep theirs."""
    row = find(app, name)
    with app.store.transaction() as tx:
        users = [a.name for a in tx.authorities.all() if a.certificate == row.sha256]
        if users:
            raise UsageError(
                f"this is the certificate of the authority {users[0]!r}", code="in-use"
            )
        tx.certificates.delete(row.sha256)
        tx.audit.append("cert-delete", {"sha256": row.sha256})
    app.emit({"deleted": row.sha256}, f"deleted {row.subject} {row.sha256[:16]}")
