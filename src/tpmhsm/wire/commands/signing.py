"""Hashes, signatures and attestations.

TCG TPM 2.0 Library Part 3. Each command names the section that has its table; a response
stands before its command.
"""

# The names are those of the specification.
# ruff: noqa: N801

from __future__ import annotations

from tpmhsm.wire.codec import U16, U32, AuthHandle, Handle, Structure, Tpm2b, structure
from tpmhsm.wire.constants import CC
from tpmhsm.wire.framing import Command, command
from tpmhsm.wire.structures import Empty, PcrSelections, Signature, SigScheme, SizedPoint, Ticket


@structure
class HashResponse(Structure):
    """The answer to TPM2_Hash."""

    out_hash: Tpm2b
    validation: Ticket


@command(CC.Hash)
class Hash(Command[HashResponse]):
    """§15.4: the digest of up to 1024 octets, with a ticket when they may be signed."""

    data: Tpm2b
    hash_alg: U16
    hierarchy: U32


@structure
class HashSequenceStartResponse(Structure):
    """The answer to TPM2_HashSequenceStart."""

    sequence_handle: Handle


@command(CC.HashSequenceStart)
class HashSequenceStart(Command[HashSequenceStartResponse]):
    """§17.4: begin to hash in parts."""

    auth: Tpm2b
    hash_alg: U16


@command(CC.SequenceUpdate)
class SequenceUpdate(Command[Empty]):
    """§17.5: the next part."""

    sequence_handle: AuthHandle
    buffer: Tpm2b


@structure
class SequenceCompleteResponse(Structure):
    """The answer to TPM2_SequenceComplete."""

    result: Tpm2b
    validation: Ticket


@command(CC.SequenceComplete)
class SequenceComplete(Command[SequenceCompleteResponse]):
    """§17.6: the last part; the sequence is gone."""

    sequence_handle: AuthHandle
    buffer: Tpm2b
    hierarchy: U32


@structure
class VerifySignatureResponse(Structure):
    """The answer to TPM2_VerifySignature."""

    validation: Ticket


@command(CC.VerifySignature)
class VerifySignature(Command[VerifySignatureResponse]):
    """§20.1: check a signature with a loaded key."""

    key_handle: Handle
    digest: Tpm2b
    signature: Signature


@structure
class SignResponse(Structure):
    """The answer to TPM2_Sign."""

    signature: Signature


@command(CC.Sign)
class Sign(Command[SignResponse]):
    """§20.2: sign a digest."""

    key_handle: AuthHandle
    digest: Tpm2b
    in_scheme: SigScheme
    validation: Ticket


@structure
class CommitResponse(Structure):
    """The answer to TPM2_Commit."""

    k_point: SizedPoint
    l_point: SizedPoint
    e_point: SizedPoint
    counter: U16


@command(CC.Commit)
class Commit(Command[CommitResponse]):
    """§19.2: the first half of an anonymous signature."""

    sign_handle: AuthHandle
    p1: SizedPoint
    s2: Tpm2b
    y2: Tpm2b


@structure
class CertifyResponse(Structure):
    """The answer to TPM2_Certify."""

    certify_info: Tpm2b
    signature: Signature


@command(CC.Certify)
class Certify(Command[CertifyResponse]):
    """§18.2: that an object is loaded, signed by another."""

    object_handle: AuthHandle
    sign_handle: AuthHandle
    qualifying_data: Tpm2b
    in_scheme: SigScheme


@structure
class CertifyCreationResponse(Structure):
    """The answer to TPM2_CertifyCreation."""

    certify_info: Tpm2b
    signature: Signature


@command(CC.CertifyCreation)
class CertifyCreation(Command[CertifyCreationResponse]):
    """§18.3: that this TPM made an object."""

    sign_handle: AuthHandle
    object_handle: Handle
    qualifying_data: Tpm2b
    creation_hash: Tpm2b
    in_scheme: SigScheme
    creation_ticket: Ticket


@structure
class QuoteResponse(Structure):
    """The answer to TPM2_Quote."""

    quoted: Tpm2b
    signature: Signature


@command(CC.Quote)
class Quote(Command[QuoteResponse]):
    """§18.4: the values of PCRs."""

    sign_handle: AuthHandle
    qualifying_data: Tpm2b
    in_scheme: SigScheme
    pcr_select: PcrSelections


@structure
class GetSessionAuditDigestResponse(Structure):
    """The answer to TPM2_GetSessionAuditDigest."""

    audit_info: Tpm2b
    signature: Signature


@command(CC.GetSessionAuditDigest)
class GetSessionAuditDigest(Command[GetSessionAuditDigestResponse]):
    """§18.5: what was done in an audit session."""

    privacy_admin_handle: AuthHandle
    sign_handle: AuthHandle
    session_handle: Handle
    qualifying_data: Tpm2b
    in_scheme: SigScheme


@structure
class GetCommandAuditDigestResponse(Structure):
    """The answer to TPM2_GetCommandAuditDigest."""

    audit_info: Tpm2b
    signature: Signature


@command(CC.GetCommandAuditDigest)
class GetCommandAuditDigest(Command[GetCommandAuditDigestResponse]):
    """§18.6: which audited commands were executed."""

    privacy_handle: AuthHandle
    sign_handle: AuthHandle
    qualifying_data: Tpm2b
    in_scheme: SigScheme


@structure
class GetTimeResponse(Structure):
    """The answer to TPM2_GetTime."""

    time_info: Tpm2b
    signature: Signature


@command(CC.GetTime)
class GetTime(Command[GetTimeResponse]):
    """§18.7: time and clock."""

    privacy_admin_handle: AuthHandle
    sign_handle: AuthHandle
    qualifying_data: Tpm2b
    in_scheme: SigScheme


@structure
class CertifyX509Response(Structure):
    """The answer to TPM2_CertifyX509."""

    added_to_certificate: Tpm2b
    tbs_digest: Tpm2b
    signature: Signature


@command(CC.CertifyX509)
class CertifyX509(Command[CertifyX509Response]):
    """§18.8: an X.509 certificate for a loaded key."""

    object_handle: AuthHandle
    sign_handle: AuthHandle
    reserved: Tpm2b
    in_scheme: SigScheme
    partial_certificate: Tpm2b


@structure
class NV_CertifyResponse(Structure):
    """The answer to TPM2_NV_Certify."""

    certify_info: Tpm2b
    signature: Signature


@command(CC.NV_Certify)
class NV_Certify(Command[NV_CertifyResponse]):
    """§31.16: what an NV index holds; size and offset 0 certify a digest of it."""

    sign_handle: AuthHandle
    auth_handle: AuthHandle
    nv_index: Handle
    qualifying_data: Tpm2b
    in_scheme: SigScheme
    size: U16
    offset: U16
