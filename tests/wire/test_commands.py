"""Every command, octet for octet as tpm2-tss sends it; every answer as the chip gives it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.cases import CONTROL, NV_CASES, OBJECTS, POLICY, SIGNING_CASES, Case
from tests.support.oracle import sent_by
from tests.support.stage import EMPTY_PASSWORD, NV, PCRS, Call, D, Stage, set_up
from tests.support.swtpm import RecordingDoor
from tests.support.templates import SIGNING

from tpmhsm.wire import commands as c
from tpmhsm.wire.codec import encode
from tpmhsm.wire.commands import __all__ as everything
from tpmhsm.wire.constants import ALG, RH, SE, ObjectAttributes
from tpmhsm.wire.framing import (
    Command,
    encode_command,
    layout_of,
    parse_auth_area,
    parse_response,
    split_response,
)
from tpmhsm.wire.structures import (
    AES128_CFB,
    SensitiveCreate,
)


@pytest.fixture(scope="module")
def stage(esys: tuple[Any, RecordingDoor]) -> Stage:
    return set_up(*esys)


CASES = CONTROL + OBJECTS + SIGNING_CASES + NV_CASES + POLICY
# Commands that make or remove something are compared in a conversation of their own, below.
IN_CONVERSATION = {
    *(c.CreatePrimary, c.StartAuthSession, c.ContextSave, c.ContextLoad, c.FlushContext),
    *(c.HashSequenceStart, c.SequenceUpdate, c.SequenceComplete, c.NV_UndefineSpace),
}
_ANY_HANDLE = dict.fromkeys(("storage", "key", "rsa", "ecdh", "spare", "session"), 0x80000000)


def _kinds(cases: list[Case]) -> list[type[Command[Any]]]:
    return [type(ours(_ANY_HANDLE)) for ours, _, _ in cases]


def check(stage: Any, ours: Command[Any], call: Call, accepted: bool | None) -> Any:
    """ESYS sends what we would; our decoder reads the answer and nothing is lost of it."""
    sent, answer = sent_by(stage.door, lambda: call(stage))
    layout = layout_of(type(ours))
    assert encode_command(ours, EMPTY_PASSWORD * layout.auths).hex() == sent.hex()
    reply = split_response(answer, handle=layout.response_handle, sessions=layout.auths > 0)
    if accepted is not None:
        assert (reply.rc == 0) == accepted, hex(reply.rc)
    if reply.rc:
        return None
    response = parse_response(type(ours), reply)
    assert encode(response) == reply.handle + reply.parameters
    assert len(parse_auth_area(reply.auth_area, layout.auths)) == layout.auths
    return response


@pytest.mark.parametrize(
    ("ours", "call", "accepted"),
    CASES,
    ids=[f"{kind.__name__}-{i}" for i, kind in enumerate(_kinds(CASES))],
)
def test_octets_are_those_of_tpm2_tss(
    stage: Any, ours: Callable[[dict[str, int]], Command[Any]], call: Call, accepted: bool
) -> None:
    if type(ours(_ANY_HANDLE)) in _STATEFUL:
        stage.esys.policy_restart(stage.tr["session"])
    check(stage, ours(stage.real), call, accepted)


_STATEFUL = set(_kinds(POLICY))


def test_every_command_is_compared() -> None:
    commands = {kind for name in everything if issubclass(kind := getattr(c, name), Command)}
    assert commands == set(_kinds(CASES)) | IN_CONVERSATION


def test_primary_contexts_and_flush(stage: Any) -> None:
    tss, esys = stage.tss, stage.esys
    made: list[Any] = []
    ours = c.CreatePrimary(RH.OWNER, SensitiveCreate(b"pw", b""), SIGNING, D, PCRS)
    sensitive = tss.TPM2B_SENSITIVE_CREATE(tss.TPMS_SENSITIVE_CREATE(userAuth=b"pw"))

    def create(s: Any) -> None:
        made.append(
            esys.create_primary(sensitive, s.public(SIGNING), tss.ESYS_TR.OWNER, D, s.pcrs())[0]
        )

    response = check(stage, ours, create, True)
    assert response.out_public.attributes == SIGNING.attributes
    handle = response.object_handle
    saved: list[Any] = []
    context = check(
        stage, c.ContextSave(handle), lambda s: saved.append(esys.context_save(made[0])), True
    ).context
    check(stage, c.ContextLoad(context), lambda s: made.append(esys.context_load(saved[0])), True)
    second = esys.tr_get_tpm_handle(made[1])
    check(stage, c.FlushContext(second), lambda s: esys.flush_context(made[1]), True)
    check(stage, c.FlushContext(handle), lambda s: esys.flush_context(made[0]), True)


def test_start_auth_session(stage: Any) -> None:
    tss, esys = stage.tss, stage.esys
    made: list[int] = []
    sym = stage.t("TPMT_SYM_DEF", AES128_CFB)

    def start(s: Any) -> None:
        made.append(
            esys.start_auth_session(
                tss.ESYS_TR.NONE,
                tss.ESYS_TR.NONE,
                tss.TPM2_SE.HMAC,
                sym,
                tss.TPM2_ALG.SHA256,
                nonce_caller=D[:16],
            )
        )

    ours = c.StartAuthSession(RH.NULL, RH.NULL, D[:16], b"", SE.HMAC, AES128_CFB, ALG.SHA256)
    response = check(stage, ours, start, True)
    assert len(response.nonce_tpm) == 16
    esys.flush_context(made[0])


def test_hash_sequence(stage: Any) -> None:
    tss, esys = stage.tss, stage.esys
    made: list[int] = []
    start = c.HashSequenceStart(b"", ALG.SHA256)
    handle = check(
        stage,
        start,
        lambda s: made.append(esys.hash_sequence_start(b"", tss.TPM2_ALG.SHA256)),
        True,
    ).sequence_handle
    update = c.SequenceUpdate(handle, b"first")
    check(stage, update, lambda s: esys.sequence_update(made[0], b"first"), True)
    complete = c.SequenceComplete(handle, b" last", RH.OWNER)
    done = check(
        stage,
        complete,
        lambda s: esys.sequence_complete(made[0], b" last", tss.ESYS_TR.OWNER),
        True,
    )
    assert done.result == hashlib.sha256(b"first last").digest()


def test_undefine(stage: Any) -> None:
    public = NV.replace(nv_index=0x01800020)
    index = stage.esys.nv_define_space(
        b"", stage.tss.TPM2B_NV_PUBLIC(stage.t("TPMS_NV_PUBLIC", public))
    )
    ours = c.NV_UndefineSpace(RH.OWNER, public.nv_index)
    check(stage, ours, lambda s: s.esys.nv_undefine_space(index), True)


def test_attributes_match_by_name(stage: Any) -> None:
    names = {
        "FIXED_TPM": "FIXEDTPM",
        "ST_CLEAR": "STCLEAR",
        "FIXED_PARENT": "FIXEDPARENT",
        "SENSITIVE_DATA_ORIGIN": "SENSITIVEDATAORIGIN",
        "USER_WITH_AUTH": "USERWITHAUTH",
        "ADMIN_WITH_POLICY": "ADMINWITHPOLICY",
        "NO_DA": "NODA",
        "ENCRYPTED_DUPLICATION": "ENCRYPTEDDUPLICATION",
        "SIGN": "SIGN_ENCRYPT",
        "X509_SIGN": "X509SIGN",
    }
    for ours in ObjectAttributes:
        theirs = getattr(stage.tss.TPMA_OBJECT, names.get(ours.name or "", ours.name or ""))
        assert int(theirs) == ours
