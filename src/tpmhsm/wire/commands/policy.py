"""Sessions and policy assertions.

TCG TPM 2.0 Library Part 3. Each command names the section that has its table; a response
stands before its command.
"""

# The names are those of the specification.

from __future__ import annotations

from tpmhsm.wire.codec import (
    I32,
    U8,
    U16,
    U32,
    AuthHandle,
    Handle,
    Structure,
    Tpm2b,
    YesNo,
    structure,
)
from tpmhsm.wire.constants import CC
from tpmhsm.wire.framing import Command, command
from tpmhsm.wire.structures import Digests, Empty, PcrSelections, Signature, SymDef, Ticket


@structure
class StartAuthSessionResponse(Structure):
    """The answer to TPM2_StartAuthSession."""

    session_handle: Handle
    nonce_tpm: Tpm2b


@command(CC.StartAuthSession)
class StartAuthSession(Command[StartAuthSessionResponse]):
    """§11.1: begin an HMAC, policy or trial session."""

    tpm_key: Handle
    bind: Handle
    nonce_caller: Tpm2b
    encrypted_salt: Tpm2b
    session_type: U8
    symmetric: SymDef
    auth_hash: U16


@command(CC.PolicyRestart)
class PolicyRestart(Command[Empty]):
    """§11.2: begin a policy session again."""

    session_handle: Handle


@structure
class PolicySignedResponse(Structure):
    """The answer to TPM2_PolicySigned."""

    timeout: Tpm2b
    policy_ticket: Ticket


@command(CC.PolicySigned)
class PolicySigned(Command[PolicySignedResponse]):
    """§23.3: somebody signed."""

    auth_object: Handle
    policy_session: Handle
    nonce_tpm: Tpm2b
    cp_hash_a: Tpm2b
    policy_ref: Tpm2b
    expiration: I32
    auth: Signature


@structure
class PolicySecretResponse(Structure):
    """The answer to TPM2_PolicySecret."""

    timeout: Tpm2b
    policy_ticket: Ticket


@command(CC.PolicySecret)
class PolicySecret(Command[PolicySecretResponse]):
    """§23.4: somebody knows the secret of an entity."""

    auth_handle: AuthHandle
    policy_session: Handle
    nonce_tpm: Tpm2b
    cp_hash_a: Tpm2b
    policy_ref: Tpm2b
    expiration: I32


@command(CC.PolicyTicket)
class PolicyTicket(Command[Empty]):
    """§23.5: a ticket of PolicySigned or PolicySecret in place of it."""

    policy_session: Handle
    timeout: Tpm2b
    cp_hash_a: Tpm2b
    policy_ref: Tpm2b
    auth_name: Tpm2b
    ticket: Ticket


@command(CC.PolicyOR)
class PolicyOR(Command[Empty]):
    """§23.6: one of two to eight digests."""

    policy_session: Handle
    hash_list: Digests


@command(CC.PolicyPCR)
class PolicyPCR(Command[Empty]):
    """§23.7: PCRs have these values."""

    policy_session: Handle
    pcr_digest: Tpm2b
    pcrs: PcrSelections


@command(CC.PolicyLocality)
class PolicyLocality(Command[Empty]):
    """§23.8: commands come from these localities."""

    policy_session: Handle
    locality: U8


@command(CC.PolicyNV)
class PolicyNV(Command[Empty]):
    """§23.9: a comparison with the content of an index."""

    auth_handle: AuthHandle
    nv_index: Handle
    policy_session: Handle
    operand_b: Tpm2b
    offset: U16
    operation: U16


@command(CC.PolicyCounterTimer)
class PolicyCounterTimer(Command[Empty]):
    """§23.10: a comparison with TPMS_TIME_INFO."""

    policy_session: Handle
    operand_b: Tpm2b
    offset: U16
    operation: U16


@command(CC.PolicyCommandCode)
class PolicyCommandCode(Command[Empty]):
    """§23.11: one command only."""

    policy_session: Handle
    code: U32


@command(CC.PolicyCpHash)
class PolicyCpHash(Command[Empty]):
    """§23.13: one command with its parameters only."""

    policy_session: Handle
    cp_hash_a: Tpm2b


@command(CC.PolicyNameHash)
class PolicyNameHash(Command[Empty]):
    """§23.14: one set of objects only."""

    policy_session: Handle
    name_hash: Tpm2b


@command(CC.PolicyDuplicationSelect)
class PolicyDuplicationSelect(Command[Empty]):
    """§23.15: duplication to one parent only."""

    policy_session: Handle
    object_name: Tpm2b
    new_parent_name: Tpm2b
    include_object: YesNo


@command(CC.PolicyAuthorize)
class PolicyAuthorize(Command[Empty]):
    """§23.16: a policy that a key approved."""

    policy_session: Handle
    approved_policy: Tpm2b
    policy_ref: Tpm2b
    key_sign: Tpm2b
    check_ticket: Ticket


@command(CC.PolicyAuthValue)
class PolicyAuthValue(Command[Empty]):
    """§23.17: the authorization value is proven in the session's HMAC."""

    policy_session: Handle


@command(CC.PolicyPassword)
class PolicyPassword(Command[Empty]):
    """§23.18: the authorization value is given in plain."""

    policy_session: Handle


@structure
class PolicyGetDigestResponse(Structure):
    """The answer to TPM2_PolicyGetDigest."""

    policy_digest: Tpm2b


@command(CC.PolicyGetDigest)
class PolicyGetDigest(Command[PolicyGetDigestResponse]):
    """§23.19: the digest so far."""

    policy_session: Handle


@command(CC.PolicyNvWritten)
class PolicyNvWritten(Command[Empty]):
    """§23.20: the index has (not) been written."""

    policy_session: Handle
    written_set: YesNo


@command(CC.PolicyTemplate)
class PolicyTemplate(Command[Empty]):
    """§23.21: one template for a new object."""

    policy_session: Handle
    template_hash: Tpm2b


@command(CC.PolicyAuthorizeNV)
class PolicyAuthorizeNV(Command[Empty]):
    """§23.22: the policy whose digest stands in an NV index."""

    auth_handle: AuthHandle
    nv_index: Handle
    policy_session: Handle
