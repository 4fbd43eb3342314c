"""`tpmhsm attest`: evidence of a chip, its keys and who must agree; and what others make of it."""

from __future__ import annotations

import click

from tpmhsm.cli.lazy import LazyGroup, Table

VERBS: Table = {
    "collect": ("attest_collect", "collect", "Have the chip say what it is and holds: one file"),
    "challenge": ("attest_challenge", "challenge", "Ask a chip to prove that it is the one"),
    "respond": ("attest_challenge", "respond", "On the host: have the chip answer a challenge"),
    "certify": ("attest_certify", "certify", "Certify the attestation key of a chip that answered"),
    "verify": ("attest_verify", "verify", "Nine questions answered from a file, without a chip"),
    "report": ("attest_report", "report", "The same as a page, with its evidence inside"),
    "der": ("attest_formats", "der", "The keys of an evidence file as DER, for other programs"),
    "webauthn": ("attest_formats", "webauthn", "Verify a WebAuthn statement of the format tpm"),
    "roots": ("attest_roots", "roots", "Vendor roots: whose chips are believed, and as what"),
}

EPILOG = """\b
Example:
  tpmhsm attest collect --out ca.evidence
  tpmhsm attest challenge ca.evidence --out ca.challenge
  tpmhsm attest respond ca.challenge --out ca.response
"""


@click.group(cls=LazyGroup, table=VERBS, epilog=EPILOG)
def attest() -> None:
    """Evidence: which chip holds the keys, were they born there, who must agree.

    The host collects it; anyone verifies it, without a chip and without trusting the host.
    """
