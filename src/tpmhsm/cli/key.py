"""`tpmhsm key`: keys in the chip, by label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, facts, pass_app, table
from tpmhsm.cli.decrypting import decrypt, derive
from tpmhsm.cli.files import STDIO
from tpmhsm.cli.granting import budget_json, budgets_of, grant
from tpmhsm.cli.key_backup import backup, copies_json, copies_rows, restore
from tpmhsm.cli.key_import import import_
from tpmhsm.cli.opening import close, closed_words, open_, window_json, window_words
from tpmhsm.cli.options import Out, out_options, reason_option, wait_option
from tpmhsm.cli.pins import pin_options, use_options
from tpmhsm.cli.waiting import settled
from tpmhsm.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from tpmhsm.keys.births import Use
    from tpmhsm.policy.compile import KeyPolicy
    from tpmhsm.store.keys import KeyRow

ALGORITHMS = ("p256", "p384", "rsa2048", "rsa3072", "rsa4096")


@click.group(epilog="Example: tpmhsm key create root --policy 'quorum(officers)'")
def key() -> None:
    """Keys that live in the chip and never leave it: to sign, or to decrypt."""


def key_json(row: KeyRow) -> dict[str, Any]:
    """One key's facts."""
    from tpmhsm.keys.births import was_imported

    return {
        "label": row.label,
        "alg": row.alg,
        "hash": row.hash,
        "use": row.use,
        "imported": was_imported(row),
        "policy": row.policy,
        "name": row.name,
        "spki_sha256": row.spki_sha256,
        "created": row.created,
    }


@key.command()
@click.argument("label")
@click.option("--alg", type=click.Choice(ALGORITHMS), default="p256", show_default=True)
@click.option("--hash", "hash_name", type=click.Choice(["sha256", "sha384", "sha1"]),
              default="sha256", show_default=True,
              help="Fixed with the key, for ever; sha1 for OAEP alone.")  # fmt: skip
@click.option("--use", type=click.Choice(["sign", "decrypt"]), default="sign", show_default=True,
              help="Never both.")  # fmt: skip
@click.option("--policy", metavar="TEXT|FILE", help="What the chip demands; open by default.")
@click.option("--backup-to", default="", metavar="GROUP",
              help="Its custodians may have the key copied to another chip; for ever.")  # fmt: skip
@pin_options
@pass_app
def create(
    app: App,
    label: str,
    alg: str,
    hash_name: str,
    use: Use,
    policy: str | None,
    backup_to: str,
) -> None:
    """Make a key in the chip.

    \b
    Example:
      tpmhsm key create root --alg p384 --hash sha384 --policy 'quorum(officers)'
      tpmhsm key create web --policy pin
      tpmhsm key create root --policy 'quorum(officers)' --backup-to officers
      tpmhsm key create box --use decrypt --alg rsa2048
    """
    from tpmhsm.cli.policy import policy_text
    from tpmhsm.policy.published import read_policy

    if policy is None:
        app.note(f"note: the policy is `open`: anyone with this machine can {use} with this key")
    text = policy_text(app, policy) if policy is not None else "open"
    wanted = read_policy(text)
    pin = app.pins.new_pin_of(label) if wanted.has_pin else b""
    with app.progress(f"the chip makes a key ({alg})"):
        row = app.keyring.create(
            label,
            alg,
            policy=text,
            hash_name=hash_name,
            pin=pin,
            use=use,
            backup_to=backup_to,
        )
    for note in _notes(app, label, app.keyring.policy(row)):
        app.note(f"note: {note}")
    app.done(
        key_json(row), f"made {row.label}: {row.alg}, {row.policy}, in {app.device.describe()}"
    )


IMPORTED = "imported, not made in the chip: copies may exist outside, and obey no policy"


def _alg(row: KeyRow) -> str:
    """'p256'; 'p384 sha384' where the hash is not the usual one."""
    return row.alg if row.hash == "sha256" else f"{row.alg} {row.hash}"


def _use(row: KeyRow) -> str:
    """'sign', 'decrypt', 'sign, imported'."""
    from tpmhsm.keys.births import was_imported

    return f"{row.use}, imported" if was_imported(row) else row.use


def _notes(app: App, key_label: str, policy: KeyPolicy) -> list[str]:
    """What whoever makes such a key must know."""
    from tpmhsm.policy.explain import STATIC
    from tpmhsm.policy.words import SOFTWARE_PCRS

    found = []
    for label in policy.groups:
        if app.groups.state(label).group.static:
            found += [f"group {label!r} is static: {line}" for line in STATIC]
    found += [
        f"custodians of {label!r} may have it copied to another chip: tpmhsm key backup {key_label}"
        for label in policy.backup
    ]
    if policy.has_pin:
        from tpmhsm.tpm.pins import duration
        from tpmhsm.tpm.probe import lockout

        with app.device.transaction() as chip:
            state = lockout(chip)
        found.append(
            f"after {state.max_tries} wrong PINs the chip locks PINs out; one try comes back every "
            f"{duration(state.recovery)}, and an unclean stop costs one. A lost PIN cannot be reset"
        )
    if policy.granting:
        found.append(
            f"nothing is granted yet: tpmhsm key grant {key_label} N asks officers of "
            f"{' or '.join(policy.granting)}"
        )
    if policy.windows:
        found.append(
            f"it is closed, and may not be opened yet: tpmhsm group change {policy.windows[0]} "
            f"--open {key_label} asks the custodians, then tpmhsm key open {key_label} --for 15m "
            "the officers"
        )
    if policy.has_pcrs:
        found.append("an update of what is measured ends what the PCRs guard, for good")
        if app.device.kind == "software TPM":
            found.append(SOFTWARE_PCRS)
    return found


for verb in (grant, open_, close, decrypt, derive, import_, backup, restore):
    key.add_command(verb)


@key.command("list", epilog="Example: tpmhsm key list")
@pass_app
def list_(app: App) -> None:
    """All keys."""
    rows = app.keyring.all()
    budgets = budgets_of(app, rows)

    head = ["LEFT"] if budgets else []

    def left(row: KeyRow) -> list[str]:
        return [", ".join(f"{one.left:,}" for one in budgets.get(row.label, [])) for _ in head]

    def shown(row: KeyRow) -> dict[str, Any]:
        return {**key_json(row), "budgets": [budget_json(b) for b in budgets.get(row.label, [])]}

    app.emit(
        {"items": [shown(row) for row in rows]},
        lambda: table(
            ("LABEL", "POLICY", *head, "ALG", "USE", "SPKI SHA-256"),
            [(r.label, r.policy, *left(r), _alg(r), _use(r), r.spki_sha256[:16]) for r in rows],
            empty="no keys; tpmhsm key create LABEL",
        ),
    )


@key.command(epilog="Example: tpmhsm key show web")
@click.argument("label")
@pass_app
def show(app: App, label: str) -> None:
    """One key, with its certificates."""
    row = app.keyring.get(label)
    certificates = app.keyring.certificates(row)
    budgets = budgets_of(app, [row]).get(label, [])
    window = app.keyring.windows.of(row)
    found = {
        **key_json(row),
        "budgets": [budget_json(one) for one in budgets],
        "window": window_json(window) if window else None,
        **copies_json(app, row),
        "public_pem": app.keyring.public_pem(row),
        "policy_document": app.keyring.published(row),
        "certificates": [{"sha256": c.sha256, "subject": c.subject} for c in certificates],
    }
    app.emit(
        found,
        lambda: facts(
            [
                ("Key", row.label),
                ("Algorithm", f"{row.alg}, {row.hash}"),
                ("Use", _use(row)),
                ("Origin", IMPORTED if found["imported"] else ""),
                ("Policy", row.policy),
                ("Demands", found["policy_document"].rstrip() if row.policy_document else ""),
                ("Budget", "\n".join(one.words for one in budgets)),
                ("Window", window_words(window) if window else closed_words(app, row)),
                *copies_rows(found),
                ("Name", row.name),
                ("SPKI SHA-256", row.spki_sha256),
                ("Created", row.created),
                ("Certificates", "\n".join(f"{c.subject} {c.sha256[:16]}" for c in certificates)),
            ]
        ),
    )


@key.command()
@click.argument("label")
@click.argument("file", metavar="FILE")
@reason_option()
@use_options
@wait_option
@out_options("FILE.sig by default, stdout for stdin.")
@pass_app
def sign(app: App, label: str, file: str, reason: str, wait: bool, out: Out) -> None:
    """Sign a file: ECDSA (DER) or RSASSA-PKCS1-v1_5, over SHA-256 unless the key says otherwise.

    \b
    Example:
      tpmhsm key sign web hello.txt --out hello.sig
      openssl dgst -sha256 -verify web.pub -signature hello.sig hello.txt
    """
    target = out.claim(STDIO if file == STDIO else f"{file}.sig")
    data = app.read(file)
    signature = settled(
        app, wait, lambda: app.desk.sign_file(label, data, name=file, reason=reason)
    )
    found = {"key": label, "file": file, "signature": target}
    if app.as_json and target == STDIO:
        from base64 import b64encode

        app.emit({**found, "signature_base64": b64encode(signature).decode()})
        return
    out.write(signature, target)
    if target != STDIO:
        app.done(found, f"wrote {target}", made="" if out.out else target)


@key.command()
@click.argument("label")
@click.argument("file", metavar="FILE")
@click.option("--signature", required=True, metavar="S", help="The signature's file.")
@pass_app
def verify(app: App, label: str, file: str, signature: str) -> None:
    """Check a file's signature by this key; in software.

    \b
    Example:
      tpmhsm key verify web hello.txt --signature hello.sig
    """
    if file == signature == STDIO:
        raise UsageError("file and signature cannot both be read from stdin")
    row = app.keyring.get(label)
    app.keyring.verify(row, app.read(file), app.read(signature))
    app.emit({"key": label, "file": file, "valid": True}, f"{file}: signed by {label}")


@key.command()
@click.argument("label")
@click.option("--tss2", is_flag=True, help="The wrapped key, for tpm2-tools and OpenSSL here.")
@out_options(der=True)
@pass_app
def export(app: App, label: str, tss2: bool, out: Out) -> None:
    """The public key (SubjectPublicKeyInfo).

    With --tss2 the key itself, as a TSS2 PRIVATE KEY that only this chip can open.

    \b
    Example:
      tpmhsm key export web --out web.pub
    """
    target = out.claim()
    row = app.keyring.get(label)
    if tss2:
        from tpmhsm.keys.tss2 import PEM_LABEL

        name, data, pem = "tss2_pem", app.keyring.tss2(row), PEM_LABEL
    else:
        name, data, pem = "public_pem", row.spki, "PUBLIC KEY"
    from tpmhsm.pki.load import to_pem

    text = to_pem(data, pem)
    if app.as_json and target == STDIO:
        app.emit({"label": label, name: text.decode()})
        return
    out.write(data if out.der else text)
    if target != STDIO:
        app.done({"label": label, "file": target}, f"wrote {target}")


def _ask_label(label: str) -> None:
    """RefusedError unless the person at the terminal types the label; without one nothing."""
    from tpmhsm.cli.prompts import ask, at_terminal

    if not at_terminal():
        return
    typed = ask(f"Nothing brings a deleted key back. Type {label} to delete it: ")
    if typed.strip() != label:
        raise RefusedError("this is not its label: nothing was deleted", code="not-confirmed")


@key.command(epilog="Example: tpmhsm key delete web")
@click.argument("label")
@click.option("--force", is_flag=True, help="Also a key that an authority or request uses.")
@click.option("--yes", is_flag=True, help="Ask nothing; without a terminal nothing is asked.")
@pass_app
def delete(app: App, label: str, force: bool, yes: bool) -> None:
    """Forget a key. Its wrapped private part is wiped; the record of it stays.

    At a terminal the label must be typed once more: nothing brings a key back.
    """
    if not yes:
        _ask_label(app.keyring.get(label).label)
    row = app.keyring.delete(label, force=force)
    app.done(key_json(row), f"deleted {label}")
