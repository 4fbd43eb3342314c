"""The evidence that goes into a CSR of a chip's key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tpmhsm.attest.csr_bundle import (
    AK_PUBLIC,
    TPM_CREATION,
    TpmEvidence,
    write_bundle,
    write_octets,
    write_tpm_evidence,
)
from tpmhsm.errors import RefusedError
from tpmhsm.keys.births import was_imported
from tpmhsm.keys.host import load_host

if TYPE_CHECKING:
    from tpmhsm.store import Store
    from tpmhsm.store.keys import KeyRow


def evidence_bundle(store: Store, row: KeyRow, certificates: Sequence[bytes] = ()) -> bytes:
    """DER of an AttestationBundle for a key of this home: the CertifyCreation of its birth, the
    attestation key, that key's `certificates` (DER), and the chip's EK certificates.

    The same each time, so that what people approve stays the same. RefusedError for a key that was
    imported.
    """
    if was_imported(row):
        raise RefusedError(
            f"key {row.label!r} was imported: no chip can say that there is no copy of it",
            code="imported",
            hint="tpmhsm key create LABEL makes a key in the chip",
        )
    host = load_host(store)
    born = TpmEvidence(row.creation_attest, row.creation_signature, row.public)
    statements = [write_tpm_evidence(TPM_CREATION, born), write_octets(AK_PUBLIC, host.ak_public)]
    return write_bundle(statements, [*certificates, *host.ek_certificates])
