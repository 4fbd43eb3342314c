"""What the chip signs about itself: TPMS_ATTEST (TCG TPM 2.0 Library Part 2 §10.12)."""

from __future__ import annotations

from typing import Annotated

from tpmhsm.wire.codec import (
    U16,
    U64,
    Select,
    Structure,
    Tpm2b,
    YesNo,
    constant,
    structure,
)
from tpmhsm.wire.constants import ST, TPM_GENERATED
from tpmhsm.wire.structures import ClockInfo, PcrSelections, TimeInfo


@structure
class CertifyInfo(Structure):
    """TPMS_CERTIFY_INFO (table 117)."""

    name: Tpm2b
    qualified_name: Tpm2b


@structure
class CreationInfo(Structure):
    """TPMS_CREATION_INFO (table 121)."""

    object_name: Tpm2b
    creation_hash: Tpm2b


@structure
class QuoteInfo(Structure):
    """TPMS_QUOTE_INFO (table 118)."""

    pcr_select: PcrSelections
    pcr_digest: Tpm2b


@structure
class CommandAuditInfo(Structure):
    """TPMS_COMMAND_AUDIT_INFO (table 119)."""

    audit_counter: U64
    digest_alg: U16
    audit_digest: Tpm2b
    command_digest: Tpm2b


@structure
class SessionAuditInfo(Structure):
    """TPMS_SESSION_AUDIT_INFO (table 120)."""

    exclusive: YesNo
    session_digest: Tpm2b


@structure
class TimeAttestInfo(Structure):
    """TPMS_TIME_ATTEST_INFO (table 116)."""

    time: TimeInfo
    firmware_version: U64


@structure
class NvCertifyInfo(Structure):
    """TPMS_NV_CERTIFY_INFO (table 122)."""

    index_name: Tpm2b
    offset: U16
    contents: Tpm2b


@structure
class NvDigestInfo(Structure):
    """TPMS_NV_DIGEST_CERTIFY_INFO (table 123)."""

    index_name: Tpm2b
    digest: Tpm2b


@structure
class Attest(Structure):
    """TPMS_ATTEST (table 126); what does not begin with TPM_GENERATED is refused."""

    magic: Annotated[int, constant(TPM_GENERATED, "I")]
    type: U16
    qualified_signer: Tpm2b
    extra_data: Tpm2b
    clock_info: ClockInfo
    firmware_version: U64
    attested: Annotated[
        CertifyInfo
        | CreationInfo
        | QuoteInfo
        | CommandAuditInfo
        | SessionAuditInfo
        | TimeAttestInfo
        | NvCertifyInfo
        | NvDigestInfo,
        Select(
            "type",
            {
                ST.ATTEST_CERTIFY: CertifyInfo,
                ST.ATTEST_CREATION: CreationInfo,
                ST.ATTEST_QUOTE: QuoteInfo,
                ST.ATTEST_COMMAND_AUDIT: CommandAuditInfo,
                ST.ATTEST_SESSION_AUDIT: SessionAuditInfo,
                ST.ATTEST_TIME: TimeAttestInfo,
                ST.ATTEST_NV: NvCertifyInfo,
                ST.ATTEST_NV_DIGEST: NvDigestInfo,
            },
        ),
    ]
