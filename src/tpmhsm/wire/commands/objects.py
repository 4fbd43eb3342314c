"""Objects: creation, loading, import, credentials, decryption.

TCG TPM 2.0 Library Part 3. Each command names the section that has its table; a response
stands before its command.
"""

# The names are those of the specification.
# ruff: noqa: N801

from __future__ import annotations

from tpmhsm.wire.codec import U32, AuthHandle, Handle, Structure, Tpm2b, structure
from tpmhsm.wire.constants import CC
from tpmhsm.wire.framing import Command, command
from tpmhsm.wire.public import SizedPublic
from tpmhsm.wire.structures import (
    PcrSelections,
    RsaDecrypt,
    SizedCreationData,
    SizedPoint,
    SizedSensitive,
    SizedSensitiveCreate,
    SymDef,
    Ticket,
)


@structure
class CreatePrimaryResponse(Structure):
    """The answer to TPM2_CreatePrimary."""

    object_handle: Handle
    out_public: SizedPublic
    creation_data: SizedCreationData
    creation_hash: Tpm2b
    creation_ticket: Ticket
    name: Tpm2b


@command(CC.CreatePrimary)
class CreatePrimary(Command[CreatePrimaryResponse]):
    """§24.1: a primary object from the seed of a hierarchy."""

    primary_handle: AuthHandle
    in_sensitive: SizedSensitiveCreate
    in_public: SizedPublic
    outside_info: Tpm2b
    creation_pcr: PcrSelections


@structure
class CreateResponse(Structure):
    """The answer to TPM2_Create."""

    out_private: Tpm2b
    out_public: SizedPublic
    creation_data: SizedCreationData
    creation_hash: Tpm2b
    creation_ticket: Ticket


@command(CC.Create)
class Create(Command[CreateResponse]):
    """§12.1: an object under a parent; it is not loaded."""

    parent_handle: AuthHandle
    in_sensitive: SizedSensitiveCreate
    in_public: SizedPublic
    outside_info: Tpm2b
    creation_pcr: PcrSelections


@structure
class LoadResponse(Structure):
    """The answer to TPM2_Load."""

    object_handle: Handle
    name: Tpm2b


@command(CC.Load)
class Load(Command[LoadResponse]):
    """§12.2: load what Create or Import made."""

    parent_handle: AuthHandle
    in_private: Tpm2b
    in_public: SizedPublic


@structure
class LoadExternalResponse(Structure):
    """The answer to TPM2_LoadExternal."""

    object_handle: Handle
    name: Tpm2b


@command(CC.LoadExternal)
class LoadExternal(Command[LoadExternalResponse]):
    """§12.3: load a public key, or a key of plain octets."""

    in_private: SizedSensitive
    in_public: SizedPublic
    hierarchy: U32


@structure
class ReadPublicResponse(Structure):
    """The answer to TPM2_ReadPublic."""

    out_public: SizedPublic
    name: Tpm2b
    qualified_name: Tpm2b


@command(CC.ReadPublic)
class ReadPublic(Command[ReadPublicResponse]):
    """§12.4: the public area and Names of an object."""

    object_handle: Handle


@structure
class ActivateCredentialResponse(Structure):
    """The answer to TPM2_ActivateCredential."""

    cert_info: Tpm2b


@command(CC.ActivateCredential)
class ActivateCredential(Command[ActivateCredentialResponse]):
    """§12.5: open a credential that was made for an object."""

    activate_handle: AuthHandle
    key_handle: AuthHandle
    credential_blob: Tpm2b
    secret: Tpm2b


@structure
class MakeCredentialResponse(Structure):
    """The answer to TPM2_MakeCredential."""

    credential_blob: Tpm2b
    secret: Tpm2b


@command(CC.MakeCredential)
class MakeCredential(Command[MakeCredentialResponse]):
    """§12.6: a credential that only one object beside one key can open."""

    handle: Handle
    credential: Tpm2b
    object_name: Tpm2b


@structure
class UnsealResponse(Structure):
    """The answer to TPM2_Unseal."""

    out_data: Tpm2b


@command(CC.Unseal)
class Unseal(Command[UnsealResponse]):
    """§12.7: the data of a sealed object."""

    item_handle: AuthHandle


@structure
class ObjectChangeAuthResponse(Structure):
    """The answer to TPM2_ObjectChangeAuth."""

    out_private: Tpm2b


@command(CC.ObjectChangeAuth)
class ObjectChangeAuth(Command[ObjectChangeAuthResponse]):
    """§12.8: a private area with another authorization value."""

    object_handle: AuthHandle
    parent_handle: Handle
    new_auth: Tpm2b


@structure
class DuplicateResponse(Structure):
    """The answer to TPM2_Duplicate."""

    encryption_key_out: Tpm2b
    duplicate: Tpm2b
    out_sym_seed: Tpm2b


@command(CC.Duplicate)
class Duplicate(Command[DuplicateResponse]):
    """§13.1: an object for another parent."""

    object_handle: AuthHandle
    new_parent_handle: Handle
    encryption_key_in: Tpm2b
    symmetric_alg: SymDef


@structure
class RewrapResponse(Structure):
    """The answer to TPM2_Rewrap."""

    out_duplicate: Tpm2b
    out_sym_seed: Tpm2b


@command(CC.Rewrap)
class Rewrap(Command[RewrapResponse]):
    """§13.2: a duplicate for another parent, by the one that it is for."""

    old_parent: AuthHandle
    new_parent: Handle
    in_duplicate: Tpm2b
    name: Tpm2b
    in_sym_seed: Tpm2b


@structure
class ImportResponse(Structure):
    """The answer to TPM2_Import."""

    out_private: Tpm2b


@command(CC.Import)
class Import(Command[ImportResponse]):
    """§13.3: a private area under this parent, from a duplicate."""

    parent_handle: AuthHandle
    encryption_key: Tpm2b
    object_public: SizedPublic
    duplicate: Tpm2b
    in_sym_seed: Tpm2b
    symmetric_alg: SymDef


@structure
class RSA_EncryptResponse(Structure):
    """The answer to TPM2_RSA_Encrypt."""

    out_data: Tpm2b


@command(CC.RSA_Encrypt)
class RSA_Encrypt(Command[RSA_EncryptResponse]):
    """§14.2: encrypt with a public key."""

    key_handle: Handle
    message: Tpm2b
    in_scheme: RsaDecrypt
    label: Tpm2b


@structure
class RSA_DecryptResponse(Structure):
    """The answer to TPM2_RSA_Decrypt."""

    message: Tpm2b


@command(CC.RSA_Decrypt)
class RSA_Decrypt(Command[RSA_DecryptResponse]):
    """§14.3: decrypt with a private key."""

    key_handle: AuthHandle
    cipher_text: Tpm2b
    in_scheme: RsaDecrypt
    label: Tpm2b


@structure
class ECDH_KeyGenResponse(Structure):
    """The answer to TPM2_ECDH_KeyGen."""

    z_point: SizedPoint
    pub_point: SizedPoint


@command(CC.ECDH_KeyGen)
class ECDH_KeyGen(Command[ECDH_KeyGenResponse]):
    """§14.4: an ephemeral key and the secret shared with a public key."""

    key_handle: Handle


@structure
class ECDH_ZGenResponse(Structure):
    """The answer to TPM2_ECDH_ZGen."""

    out_point: SizedPoint


@command(CC.ECDH_ZGen)
class ECDH_ZGen(Command[ECDH_ZGenResponse]):
    """§14.5: the secret shared with a public point."""

    key_handle: AuthHandle
    in_point: SizedPoint
