"""NV indices and PCRs.

TCG TPM 2.0 Library Part 3. Each command names the section that has its table; a response
stands before its command.
"""

# The names are those of the specification.
# ruff: noqa: N801

from __future__ import annotations

from tpmhsm.wire.codec import U16, U32, U64, AuthHandle, Handle, Structure, Tpm2b, structure
from tpmhsm.wire.constants import CC
from tpmhsm.wire.framing import Command, command
from tpmhsm.wire.structures import Digests, DigestValues, Empty, PcrSelections, SizedNvPublic


@command(CC.NV_DefineSpace)
class NV_DefineSpace(Command[Empty]):
    """§31.3: make an index."""

    auth_handle: AuthHandle
    auth: Tpm2b
    public_info: SizedNvPublic


@command(CC.NV_UndefineSpace)
class NV_UndefineSpace(Command[Empty]):
    """§31.4: remove an index."""

    auth_handle: AuthHandle
    nv_index: Handle


@command(CC.NV_UndefineSpaceSpecial)
class NV_UndefineSpaceSpecial(Command[Empty]):
    """§31.5: remove an index with POLICY_DELETE."""

    nv_index: AuthHandle
    platform: AuthHandle


@structure
class NV_ReadPublicResponse(Structure):
    """The answer to TPM2_NV_ReadPublic."""

    nv_public: SizedNvPublic
    nv_name: Tpm2b


@command(CC.NV_ReadPublic)
class NV_ReadPublic(Command[NV_ReadPublicResponse]):
    """§31.6: the public area and Name of an index."""

    nv_index: Handle


@command(CC.NV_Write)
class NV_Write(Command[Empty]):
    """§31.7: write octets."""

    auth_handle: AuthHandle
    nv_index: Handle
    data: Tpm2b
    offset: U16


@command(CC.NV_Increment)
class NV_Increment(Command[Empty]):
    """§31.8: add one to a counter."""

    auth_handle: AuthHandle
    nv_index: Handle


@command(CC.NV_Extend)
class NV_Extend(Command[Empty]):
    """§31.9: extend as a PCR is."""

    auth_handle: AuthHandle
    nv_index: Handle
    data: Tpm2b


@command(CC.NV_SetBits)
class NV_SetBits(Command[Empty]):
    """§31.10: OR bits in."""

    auth_handle: AuthHandle
    nv_index: Handle
    bits: U64


@command(CC.NV_WriteLock)
class NV_WriteLock(Command[Empty]):
    """§31.11: no more writes."""

    auth_handle: AuthHandle
    nv_index: Handle


@structure
class NV_ReadResponse(Structure):
    """The answer to TPM2_NV_Read."""

    data: Tpm2b


@command(CC.NV_Read)
class NV_Read(Command[NV_ReadResponse]):
    """§31.13: read octets."""

    auth_handle: AuthHandle
    nv_index: Handle
    size: U16
    offset: U16


@command(CC.NV_ReadLock)
class NV_ReadLock(Command[Empty]):
    """§31.14: no more reads until the next start."""

    auth_handle: AuthHandle
    nv_index: Handle


@command(CC.NV_ChangeAuth)
class NV_ChangeAuth(Command[Empty]):
    """§31.15: a new authorization value."""

    nv_index: AuthHandle
    new_auth: Tpm2b


@command(CC.PCR_Extend)
class PCR_Extend(Command[Empty]):
    """§22.2: extend a PCR in some banks."""

    pcr_handle: AuthHandle
    digests: DigestValues


@structure
class PCR_ReadResponse(Structure):
    """The answer to TPM2_PCR_Read."""

    pcr_update_counter: U32
    pcr_selection_out: PcrSelections
    pcr_values: Digests


@command(CC.PCR_Read)
class PCR_Read(Command[PCR_ReadResponse]):
    """§22.4: values of PCRs, up to eight at a time."""

    pcr_selection_in: PcrSelections


@command(CC.PCR_Reset)
class PCR_Reset(Command[Empty]):
    """§22.8: reset a PCR that may be."""

    pcr_handle: AuthHandle
