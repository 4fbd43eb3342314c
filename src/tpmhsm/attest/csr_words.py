"""What the evidence in a CSR says, before anybody has verified it."""

from __future__ import annotations

from typing import Any

from tpmhsm.attest import csr_bundle
from tpmhsm.attest.aik_certificates import AIK_USAGE
from tpmhsm.attest.csr_bundle import Bundle, Statement
from tpmhsm.errors import ParseError
from tpmhsm.pki.names import show_dn
from tpmhsm.pki.path_certificate import read_path_certificate
from tpmhsm.wire.names import name_of_public

_KINDS = {
    csr_bundle.TPM_CERTIFY: "a TPM says that it holds the key (TPM2_Certify)",
    csr_bundle.TPM_CREATION: "a TPM says that it made the key (TPM2_CertifyCreation)",
    csr_bundle.WEBAUTHN: "a TPM says that it holds the key (WebAuthn)",
}


def describe_bundle(bundle: Bundle) -> dict[str, Any]:
    """JSON-ready: `statements` (type, words), `attestation_keys` (Names), `certificates` (words).

    Nothing of it is verified.
    """
    own = [one for one in bundle.statements if one.type != csr_bundle.AK_PUBLIC]
    shown = [one for one in bundle.statements if one.type == csr_bundle.AK_PUBLIC]
    return {
        "statements": [{"type": one.type, "words": _words(one)} for one in own],
        "attestation_keys": [_name(one) for one in shown],
        "certificates": [_certificate(raw) for raw in bundle.certificates],
        "verified": False,
    }


def _words(statement: Statement) -> str:
    return _KINDS.get(statement.type, f"a statement of the unknown kind {statement.type}")


def _name(statement: Statement) -> str:
    try:
        return name_of_public(csr_bundle.read_octets(statement.der)).hex()
    except ParseError as error:
        return f"(cannot be read: {error.message})"


def _certificate(raw: bytes) -> str:
    try:
        found = read_path_certificate(raw)
        what = "attestation key" if AIK_USAGE in (found.usages or ()) else "other"
        what = "CA" if found.is_ca else what
        return f"{what}: {show_dn(found.subject) or '(no subject)'}, by {show_dn(found.issuer)}"
    except ParseError as error:
        return f"(cannot be read: {error.message})"
