"""`tpmhsm attest der` and `webauthn`: what a chip says, in the formats of others."""

from __future__ import annotations

from typing import Any

import click

from tpmhsm.cli.app import App, facts, pass_app
from tpmhsm.cli.files import STDIO
from tpmhsm.cli.options import Out, named_after, out_options


@click.command(epilog="Example: tpmhsm attest der ca.evidence --out ca.der")
@click.argument("file", metavar="EVIDENCE")
@out_options("EVIDENCE with .der by default.")
@pass_app
def der(app: App, file: str, out: Out) -> None:
    """Write the keys of an evidence file as DER, for programs that read no other.

    By draft-ietf-rats-pkix-key-attestation. It carries no signature of its own, for a TPM signs
    nothing but its own structures: those stand in it as claims, and docs/evidence.md says what a
    reader may conclude.
    """
    from tpmhsm.attest.key_attestation import key_attestation_of, read_key_attestation
    from tpmhsm.cli.attest_challenge import read_evidence

    default = named_after(file, ".der")
    target = out.claim(default)
    data = key_attestation_of(read_evidence(app, file))
    out.write(data, default)
    if target == STDIO:
        return
    keys = [one.label for one in read_key_attestation(data).keys]
    app.note("it has no signature of its own: only the chip's statements in it prove anything")
    app.done(
        {"file": target, "keys": keys},
        f"wrote {target}: {', '.join(keys)}",
        made="" if out.out else target,
    )


@click.command(
    epilog="Example: tpmhsm attest webauthn reg.cbor --client-data client.json --trust ms.cer"
)
@click.argument("file", metavar="F")
@click.option("--client-data", required=True, metavar="F", help="clientDataJSON, byte for byte.")
@click.option("--trust", multiple=True, required=True, metavar="F",
              help="A root that certifies attestation keys, or a list of them.")  # fmt: skip
@click.option("--at", metavar="TIME", help="The moment that certificates must be valid at.")
@pass_app
def webauthn(app: App, file: str, client_data: str, trust: tuple[str, ...], at: str | None) -> None:
    """Verify a WebAuthn attestation object of the format tpm, as Windows makes them.

    By WebAuthn Level 3, section 8.3: who certified the attestation key, that it speaks of this
    credential's key and of this registration.
    """
    from datetime import UTC, datetime

    from tpmhsm.attest.believed import read_believed
    from tpmhsm.attest.webauthn import verify_registration
    from tpmhsm.cli.times import parse_time

    believed = read_believed([(one, app.read(one)) for one in trust])
    proven = verify_registration(
        app.read(file),
        app.read(client_data),
        believed.roots,
        parse_time(at) if at else datetime.now(UTC),
        believed.intermediates,
    )
    found = _facts(proven, believed.roots[proven.attestation_key.root])
    app.emit(found, lambda: facts(_lines(found)))


def _facts(proven: Any, kind: str) -> dict[str, Any]:
    from hashlib import sha256

    names = proven.attestation_key.names
    return {
        "valid": True,
        "name": proven.name.hex(),
        "spki_sha256": sha256(proven.spki).hexdigest(),
        "algorithm": proven.algorithm,
        "device_class": kind or "class unknown",
        "claims": f"{names.maker} {names.model} {names.version.removeprefix('id:')}",
        "root": sha256(proven.attestation_key.root).hexdigest(),
        "notes": list(proven.weak),
    }


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("Verdict", "the statement holds: this key is in a TPM that the pinned root vouches for"),
        ("Class", found["device_class"]),
        ("Calls itself", found["claims"]),
        ("Key", found["spki_sha256"]),
        ("Name", found["name"]),
        ("Signed", found["algorithm"]),
        ("Root", found["root"]),
        ("Note", "\n".join(found["notes"])),
    ]
