"""`tpmhsm attest certify`: a verifier's word on an attestation key, once and for all."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from tpmhsm.cli.app import App, pass_app
from tpmhsm.cli.attest_challenge import read_bond, read_evidence
from tpmhsm.cli.options import Out, out_options
from tpmhsm.cli.secrets import Secret, passphrase_options
from tpmhsm.errors import VerificationError

if TYPE_CHECKING:
    from tpmhsm.attest.aik_issuing import Issuer
    from tpmhsm.attest.device_findings import Bond
    from tpmhsm.attest.ek_certificates import EkJudgement
    from tpmhsm.attest.format import Evidence


@click.command(
    epilog="Example: tpmhsm attest certify ca.evidence --response ca.response"
    " --ak-issuer aca.key --ak-issuer-cert aca.pem --out ak.pem"
)
@click.argument("evidence", metavar="EVIDENCE")
@click.option("--response", required=True, metavar="F", help="The host's answer to a challenge.")
@click.option("--ak-issuer", required=True, metavar="KEY", help="The private key that certifies.")
@click.option("--ak-issuer-cert", required=True, metavar="F", help="Its CA certificate.")
@click.option("--days", type=click.IntRange(1, 3653), default=365, show_default=True)
@passphrase_options
@out_options("stdout by default.", der=True)
@pass_app
def certify(
    app: App,
    evidence: str,
    response: str,
    ak_issuer: str,
    ak_issuer_cert: str,
    days: int,
    secret: Secret,
    out: Out,
) -> None:
    """Certify the attestation key of a chip that answered your challenge.

    The chip's endorsement key must lead to a vendor root that is pinned here. The host puts the
    certificate into its evidence (attest collect --ak-certificate); whoever pins your certificate
    then verifies without a challenge of their own.
    """
    from tpmhsm.attest.aik_issuing import certify_attestation_key
    from tpmhsm.pki.load import to_pem
    from tpmhsm.policy import moments

    path = out.claim()
    found = read_evidence(app, evidence)
    bond = read_bond(app, response)
    judged = _must_be_genuine(app, found, bond)
    issuer = _issuer(app, ak_issuer, ak_issuer_cert, secret)
    period = (moments.now(), timedelta(days=days))
    made = certify_attestation_key(found.aks[0].public, bond, judged.hints, issuer, period)
    out.write(made if out.der else to_pem(made))
    if path != "-":
        app.done(
            {"file": path, "ak": bond.ak.hex(), "root": judged.root and judged.root.sha256},
            f"{path}: the attestation key is certified\n"
            f"on the host: tpmhsm attest collect --ak-certificate {path}",
        )


def _must_be_genuine(app: App, evidence: Evidence, bond: Bond) -> EkJudgement:
    """The judgement on the endorsement key that answered. VerificationError."""
    from tpmhsm.attest.ek_certificates import normal_spki
    from tpmhsm.attest.public_keys import spki_of_public
    from tpmhsm.cli.vendor_roots import judge_by_pins

    part = next((one for one in evidence.eks if one.public == bond.ek), None)
    if part is None:
        raise VerificationError(
            "the chip that answered is not the one of this evidence", code="other-chip"
        )
    judged = judge_by_pins(app, part)
    if judged is None:
        raise VerificationError(
            "the endorsement key has no certificate: no maker says that it is a chip's",
            code="no-ek-certificate",
        )
    if not judged.holds:
        why = judged.faults[0].words if judged.faults else "it leads to no root that is pinned here"
        raise VerificationError(
            f"the certificate of the endorsement key does not hold: {why}",
            code="untrusted-ek",
            hint="tpmhsm attest roots add FILE pins the maker's root",
        )
    if normal_spki(judged.spki) != normal_spki(spki_of_public(bond.ek)):
        raise VerificationError(
            "the certificate is for another endorsement key than the one that answered",
            code="other-ek",
        )
    return judged


def _issuer(app: App, key_file: str, certificate_file: str, secret: Secret) -> Issuer:
    from tpmhsm.attest.aik_issuing import Issuer
    from tpmhsm.pki.load import certificate_ders
    from tpmhsm.pki.private_keys import read_private_file

    key = read_private_file(app.read(key_file), key_file, secret.source()).key
    certificates = certificate_ders(app.read(certificate_file), certificate_file)
    return Issuer(key, certificates[0])
