"""Files that verifiers will find below `public` in the home: an authority's newest CRL, and its own
certificate.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tpmhsm.cli.app import App
from tpmhsm.cli.files import read_input, write_output
from tpmhsm.errors import UsageError
from tpmhsm.policy.documents import check_label

if TYPE_CHECKING:
    from tpmhsm.ca.crls import Made
    from tpmhsm.store.requests import RequestRow

_ENDINGS = {"crl": "crl", "ca": "cer"}

MAX_CRL = 128 << 20
"""A CRL larger than this many bytes is not looked at: two million entries have 80 MB."""


def crl_file(app: App, name: str) -> Path:
    """Where an authority's CRL is published: the path below base_url, in the home's `public`."""
    return _file(app, "crl", name)


def certificate_file(app: App, name: str) -> Path:
    """Where an authority's certificate is published, for those who have only what it issued."""
    return _file(app, "ca", name)


def _file(app: App, folder: str, name: str) -> Path:
    """UsageError for a name that could be one of another folder: it may have come in a backup."""
    check_label(name, "an authority's name")
    return app.home / "public" / folder / f"{name}.{_ENDINGS[folder]}"


def published_crl(app: App, name: str) -> bytes:
    """The CRL in the file; nothing when the database knows it, or it cannot be read."""
    known = app.crls.latest(name)
    if known is not None and is_published(app, name, known.sha256):
        return b""
    file = crl_file(app, name)
    try:
        return read_input(str(file), limit=MAX_CRL)
    except UsageError:  # none yet, or nothing of ours
        return b""


def publish(app: App, name: str, made: Made) -> Path:
    """Write a CRL (DER) to its file, whole or not at all; a newer one if there is one by now. The
    authority's certificate (DER) is written where certificates say that it is found.

    Raises UsageError; the CRL is in the database all the same.
    """
    file, newest = crl_file(app, name), app.crls.latest(name)
    if newest is not None and newest.number != made.facts["number"]:
        made = app.crls.latest_made(name)
    try:
        _write(file, made.der)
        _write(certificate_file(app, name), _certificate(app, name))
    except (OSError, UsageError) as error:
        why = error.message if isinstance(error, UsageError) else str(error)
        raise UsageError(
            f"the CRL is signed and kept, but not in its file: {why}",
            hint=f"tpmhsm ca crl {name} --existing writes it",
            code="not-published",
        ) from error
    return file


def _write(file: Path, der: bytes) -> None:
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_output(str(file), der, force=True)


def _certificate(app: App, name: str) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return app.authorities.certificate(name).public_bytes(Encoding.DER)


def publish_executed(app: App, row: RequestRow) -> None:
    """After a request was executed: if it was for a CRL, write the authority's newest one."""
    if row.kind != "crl" or row.state != "executed":
        return
    name = row.result["ca_name"]
    file = publish(app, name, app.crls.latest_made(name))
    app.note(f"CRL {row.result['number']} of {name} is signed: {file}")


def is_published(app: App, name: str, sha256: str) -> bool:
    """Whether the file holds the CRL of this SHA-256."""
    return _sha256_of(crl_file(app, name)) == sha256


def is_certificate_published(app: App, name: str) -> bool:
    """Whether the authority's certificate is where the certificates that it issued say."""
    with app.store.reading() as tx:
        wanted = tx.authorities.get(name).certificate
    return _sha256_of(certificate_file(app, name)) == wanted


def _sha256_of(file: Path) -> str:
    """Hexadecimal; empty for a file that cannot be read."""
    from hashlib import file_digest

    try:
        with file.open("rb") as opened:
            return file_digest(opened, "sha256").hexdigest()
    except OSError:
        return ""
