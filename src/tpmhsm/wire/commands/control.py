"""Start-up, tests, capabilities, random numbers, hierarchies, lockout, contexts, clocks.

TCG TPM 2.0 Library Part 3. Each command names the section that has its table; a response
stands before its command.
"""

# The names are those of the specification.

from __future__ import annotations

from tpmhsm.wire.codec import (
    I8,
    U16,
    U32,
    U64,
    AuthHandle,
    Handle,
    Structure,
    Tpm2b,
    YesNo,
    structure,
)
from tpmhsm.wire.constants import CC
from tpmhsm.wire.framing import Command, command
from tpmhsm.wire.structures import CapabilityData, CommandCodes, Context, Empty, TimeInfo


@command(CC.Startup)
class Startup(Command[Empty]):
    """§9.3: start the TPM after a reset."""

    startup_type: U16


@command(CC.Shutdown)
class Shutdown(Command[Empty]):
    """§9.4: prepare for loss of power."""

    shutdown_type: U16


@command(CC.SelfTest)
class SelfTest(Command[Empty]):
    """§10.2: test everything, or what is untested yet."""

    full_test: YesNo


@structure
class GetTestResultResponse(Structure):
    """The answer to TPM2_GetTestResult."""

    out_data: Tpm2b
    test_result: U32


@command(CC.GetTestResult)
class GetTestResult(Command[GetTestResultResponse]):
    """§10.4: what the self-tests found."""


@structure
class GetCapabilityResponse(Structure):
    """The answer to TPM2_GetCapability."""

    more_data: YesNo
    data: CapabilityData


@command(CC.GetCapability)
class GetCapability(Command[GetCapabilityResponse]):
    """§30.2: properties of the TPM."""

    capability: U32
    property: U32
    count: U32


@structure
class GetRandomResponse(Structure):
    """The answer to TPM2_GetRandom."""

    random_bytes: Tpm2b


@command(CC.GetRandom)
class GetRandom(Command[GetRandomResponse]):
    """§16.1: random octets, at most one digest's length."""

    bytes_requested: U16


@command(CC.StirRandom)
class StirRandom(Command[Empty]):
    """§16.2: add to the entropy."""

    in_data: Tpm2b


@command(CC.HierarchyControl)
class HierarchyControl(Command[Empty]):
    """§24.2: enable or disable a hierarchy."""

    auth_handle: AuthHandle
    enable: U32
    state: YesNo


@command(CC.SetPrimaryPolicy)
class SetPrimaryPolicy(Command[Empty]):
    """§24.3: a policy for a hierarchy; empty with TPM_ALG_NULL for none."""

    auth_handle: AuthHandle
    auth_policy: Tpm2b
    hash_alg: U16


@command(CC.HierarchyChangeAuth)
class HierarchyChangeAuth(Command[Empty]):
    """§24.8: a new authorization value for a hierarchy."""

    auth_handle: AuthHandle
    new_auth: Tpm2b


@command(CC.Clear)
class Clear(Command[Empty]):
    """§24.6: remove everything of the owner."""

    auth_handle: AuthHandle


@command(CC.ClearControl)
class ClearControl(Command[Empty]):
    """§24.7: forbid or allow TPM2_Clear."""

    auth: AuthHandle
    disable: YesNo


@command(CC.DictionaryAttackLockReset)
class DictionaryAttackLockReset(Command[Empty]):
    """§25.2: end a lockout."""

    lock_handle: AuthHandle


@command(CC.DictionaryAttackParameters)
class DictionaryAttackParameters(Command[Empty]):
    """§25.3: tries and times in seconds."""

    lock_handle: AuthHandle
    new_max_tries: U32
    new_recovery_time: U32
    lockout_recovery: U32


@structure
class ContextSaveResponse(Structure):
    """The answer to TPM2_ContextSave."""

    context: Context


@command(CC.ContextSave)
class ContextSave(Command[ContextSaveResponse]):
    """§28.2: an object or session for keeping outside; a session leaves the TPM."""

    save_handle: Handle


@structure
class ContextLoadResponse(Structure):
    """The answer to TPM2_ContextLoad."""

    loaded_handle: Handle


@command(CC.ContextLoad)
class ContextLoad(Command[ContextLoadResponse]):
    """§28.3: bring back what was saved."""

    context: Context


@command(CC.FlushContext)
class FlushContext(Command[Empty]):
    """§28.4: remove a transient object or session. The handle travels as a parameter."""

    flush_handle: U32


@command(CC.EvictControl)
class EvictControl(Command[Empty]):
    """§28.5: make an object persistent, or remove a persistent one."""

    auth: AuthHandle
    object_handle: Handle
    persistent_handle: U32


@structure
class ReadClockResponse(Structure):
    """The answer to TPM2_ReadClock."""

    current_time: TimeInfo


@command(CC.ReadClock)
class ReadClock(Command[ReadClockResponse]):
    """§29.1: time, clock and the counts of resets."""


@command(CC.ClockSet)
class ClockSet(Command[Empty]):
    """§29.2: move the clock forward."""

    auth: AuthHandle
    new_time: U64


@command(CC.ClockRateAdjust)
class ClockRateAdjust(Command[Empty]):
    """§29.3: make the clock faster or slower."""

    auth: AuthHandle
    rate_adjust: I8


@command(CC.SetCommandCodeAuditStatus)
class SetCommandCodeAuditStatus(Command[Empty]):
    """§21.2: which commands are audited."""

    auth: AuthHandle
    audit_alg: U16
    set_list: CommandCodes
    clear_list: CommandCodes
