"""`tpmhsm attest challenge` and `respond`: is the key that signed the evidence in that chip?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tpmhsm.cli.app import App, pass_app
from tpmhsm.cli.files import STDIO, naming, read_input, write_output
from tpmhsm.cli.options import Out, named_after, out_options
from tpmhsm.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from tpmhsm.attest.credential import Kept
    from tpmhsm.attest.device_findings import Bond
    from tpmhsm.attest.format import EndorsementPart, Evidence

FOLDER = "challenges"
"""Where a verifier keeps the secrets of challenges, in the home."""


@click.command(epilog="Example: tpmhsm attest challenge ca.evidence --out ca.challenge")
@click.argument("evidence", metavar="EVIDENCE")
@click.option("--ek", "place", type=int, metavar="N", help="This one of its endorsement keys (1…).")
@out_options("EVIDENCE with .challenge by default.")
@pass_app
def challenge(app: App, evidence: str, place: int | None, out: Out) -> None:
    """Make a secret that only the chip of some evidence can open, if its attestation key is there.

    The host answers with `attest respond`; then `attest verify EVIDENCE --response R` knows which
    chip it is. The secret stays in this home, and in the challenge encrypted for that chip.
    """
    from tpmhsm.attest.credential import make_challenge
    from tpmhsm.policy import moments

    default = named_after(evidence, ".challenge")
    target = out.claim(default)
    found = read_evidence(app, evidence)
    number, part = _endorsement_key(app, found, place)
    with naming(evidence):
        kept = make_challenge(part.public, found.aks[0].public, moments.now())
    keep_challenge(app, kept)
    out.write(kept.challenge.encoded, default)
    if target == STDIO:
        return
    facts = {
        "file": target,
        "challenge": kept.challenge.digest.hex(),
        "ek": number,
        "certificate": part.certificate is not None,
        "ak": kept.challenge.ak_name.hex(),
    }
    if part.certificate is None:
        app.note("that endorsement key has no certificate: the answer will name no maker")
    app.done(
        facts,
        f"{target}: for endorsement key {number} of {evidence}\n"
        f"on the host: tpmhsm attest respond {target}",
        made="" if out.out else target,
    )


@click.command(epilog="Example: tpmhsm attest respond ca.challenge --out ca.response")
@click.argument("challenge_file", metavar="CHALLENGE")
@out_options("CHALLENGE with .response by default.")
@pass_app
def respond(app: App, challenge_file: str, out: Out) -> None:
    """Have this host's chip open a challenge, and write the answer.

    The chip opens it only if it has both the endorsement key and the attestation key.
    """
    from tpmhsm.attest.credential import answer_of, parse_challenge
    from tpmhsm.keys.activation import open_credential

    default = named_after(challenge_file, ".response")
    target = out.claim(default)
    data = app.read(challenge_file)
    with naming(challenge_file, data, "a challenge"):
        asked = parse_challenge(data)
        keys, sealed = (asked.ek, asked.ak), (asked.credential, asked.secret)
        secret = open_credential(app.store, app.device, keys, sealed)
    response = answer_of(asked, secret)
    out.write(response.encoded, default)
    if target == STDIO:
        return
    app.done(
        {"file": target, "challenge": response.challenge.hex()},
        f"{target}: this chip opened it\n"
        f"for the verifier: tpmhsm attest verify EVIDENCE --response {target}",
        made="" if out.out else target,
    )


def read_evidence(app: App, path: str) -> Evidence:
    """An evidence file, or the one in a report. Raises ParseError saying what it is instead,
    UsageError.
    """
    from tpmhsm.attest.format import MAX_EVIDENCE
    from tpmhsm.attest.page import is_page
    from tpmhsm.attest.reading import parse_evidence
    from tpmhsm.attest.report import evidence_in

    data = app.read(path, limit=2 * MAX_EVIDENCE)
    with naming(path, data, "evidence"):
        return parse_evidence(evidence_in(data) if is_page(data) else data)


def read_bond(app: App, path: str) -> Bond:
    """What a response proves to the verifier whose home this is.

    NotFoundError for a challenge that is not from here, VerificationError for an answer that does
    not hold or is too late.
    """
    from tpmhsm.attest.bonds import bond_of_response
    from tpmhsm.attest.credential import parse_response
    from tpmhsm.policy import moments

    data = app.read(path)
    with naming(path, data, "a response"):
        response = parse_response(data)
        kept = kept_challenge(app, response.challenge)
        if kept is None:
            raise NotFoundError(
                "the response is to a challenge that was not made in this home",
                code="other-challenge",
                hint="the home of whoever ran tpmhsm attest challenge has its secret",
            )
        return bond_of_response(kept, response, moments.now())


def kept_challenge(app: App, digest: bytes) -> Kept | None:
    """What this home keeps of a challenge with this digest; None for one that it has not made."""
    from tpmhsm.attest.credential import parse_kept

    file = _place(app, digest)
    return parse_kept(read_input(str(file))) if file.exists() else None


def keep_challenge(app: App, kept: Kept) -> None:
    """The secret, before the challenge leaves: a file of this user alone."""
    file = _place(app, kept.challenge.digest)
    try:
        app.home.mkdir(parents=True, exist_ok=True)
        file.parent.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {file.parent}: {error.strerror or error}") from error
    write_output(str(file), kept.encoded, secret=True)


def _place(app: App, digest: bytes) -> Path:
    return app.home / FOLDER / f"{digest.hex()}.json"


def _endorsement_key(
    app: App, evidence: Evidence, place: int | None
) -> tuple[int, EndorsementPart]:
    """The one that was named; else the first that leads to a pinned root, the first with a
    certificate, the first.
    """
    eks = evidence.eks
    if place is not None:
        if not 1 <= place <= len(eks):
            raise NotFoundError(f"the evidence has {len(eks)} endorsement keys, and no {place}")
        return place, eks[place - 1]
    if not eks:
        raise UsageError("the evidence has no endorsement key: no chip can be asked", code="no-ek")
    pinned = (n for n, one in enumerate(eks, 1) if _is_pinned(app, one))
    certified = (n for n, one in enumerate(eks, 1) if one.certificate is not None)
    number = next(pinned, None) or next(certified, 1)
    return number, eks[number - 1]


def _is_pinned(app: App, part: EndorsementPart) -> bool:
    from tpmhsm.cli.vendor_roots import judge_by_pins
    from tpmhsm.errors import ParseError

    try:
        judged = judge_by_pins(app, part)
    except ParseError:
        return False
    return judged is not None and judged.holds
