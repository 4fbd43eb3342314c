"""`tpmhsm key import`: a private key out of a file, into the chip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tpmhsm.cli.app import App, pass_app
from tpmhsm.cli.pins import pin_options
from tpmhsm.cli.secrets import Secret, passphrase_options
from tpmhsm.errors import UsageError

if TYPE_CHECKING:
    from tpmhsm.keys.births import Use
    from tpmhsm.pki.private_keys import PrivateFile
    from tpmhsm.store import Transaction

COPIES = (
    "this key is marked as imported for ever: copies of it may exist outside, and obey no policy"
)


@click.command("import")
@click.argument("names", metavar="[LABEL] FILE", nargs=-1, required=True)
@click.option("--use", type=click.Choice(["sign", "decrypt"]), default="sign", show_default=True,
              help="Never both.")  # fmt: skip
@click.option("--hash", "hash_name", type=click.Choice(["sha256", "sha384", "sha1"]),
              default="sha256", show_default=True,
              help="Fixed with the key, for ever; sha1 for OAEP alone.")  # fmt: skip
@click.option("--policy", metavar="TEXT|FILE", help="What the chip demands; open by default.")
@passphrase_options
@pin_options
@pass_app
def import_(
    app: App,
    names: tuple[str, ...],
    use: Use,
    hash_name: str,
    policy: str | None,
    secret: Secret,
) -> None:
    """Bring an existing private key into the chip: PEM, DER or PKCS #12, encrypted or not.

    Certificates in the file are kept, too. The label is the file's name unless one is given. The
    key does not leave the chip again; the file is yours to destroy.

    \b
    Example:
      tpmhsm key import old-ca old-ca.p12 --policy 'quorum(officers)'
    """
    from tpmhsm.cli.key import key_json
    from tpmhsm.cli.policy import policy_text
    from tpmhsm.keys.births import Wanted
    from tpmhsm.pki.private_keys import read_private_file
    from tpmhsm.policy.published import read_policy

    label, file = _label_and_file(names)
    text = policy_text(app, policy) if policy is not None else "open"
    has_pin = read_policy(text).has_pin
    found = read_private_file(app.read(file), file, secret.source())
    _check(app, found)
    pin = app.pins.new_pin_of(label) if has_pin else b""
    wanted = Wanted(label, found.alg, text, hash_name, use, pin)

    def keep(tx: Transaction) -> None:
        from tpmhsm.ca.records import certificate_row

        for raw in found.certificates:
            tx.certificates.add(certificate_row(raw, source="imported"))

    with app.progress(f"the chip takes the key in ({found.alg})"):
        row = app.keyring.importing.bring(wanted, found.key, keep)
    if policy is None:
        app.note(f"note: the policy is `open`: anyone with this machine can {use} with this key")
    app.note(f"note: {COPIES}")
    if not found.encrypted:
        app.note(f"note: {file} is not encrypted: whoever can read it has the key")
    kept = len(found.certificates)
    words = f", with {kept} certificate{'' if kept == 1 else 's'}" if kept else ""
    app.done(
        {**key_json(row), "certificates": kept},
        f"imported {row.label}: {row.alg}, {row.policy}, into {app.device.describe()}{words}",
    )


def _label_and_file(names: tuple[str, ...]) -> tuple[str, str]:
    """UsageError for more than a label and a file, and where the file's name is no label."""
    from tpmhsm.policy.documents import check_label

    if len(names) > 2:
        raise UsageError("one key at a time: a label, if you like, and a file")
    file = names[-1]
    if len(names) == 2:
        return check_label(names[0], "key label"), file
    label = Path(file).name.partition(".")[0]
    try:
        return check_label(label, "key label"), file
    except UsageError as error:
        error.hint = f"tpmhsm key import LABEL {file}"
        raise


def _check(app: App, found: PrivateFile) -> None:
    """UsageError for a key that is weak, or known to be in others' hands."""
    from tpmhsm.pki.findings import warnings_of
    from tpmhsm.pki.key_checks import check_spki, usual_digest
    from tpmhsm.pki.keys import sha256_hex

    for words in warnings_of(check_spki(found.spki)):
        app.note(f"note: {words}")
    with app.store.reading() as tx:
        barred = tx.barred_keys.among({sha256_hex(found.spki), usual_digest(found.spki)})
    if why := next(iter(barred.values()), ""):
        raise UsageError(
            f"the key is compromised: {why}",
            code="key-known",
            hint="tpmhsm key create LABEL makes a new one",
        )
