"""Every command, octet for octet as tpm2-tss sends it; every answer as the chip gives it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.oracle import sent_by
from tests.support.swtpm import RecordingDoor
from tests.support.templates import DECRYPTING_RSA, DERIVING, SIGNING, STORAGE

from tpmhsm.wire import commands as c
from tpmhsm.wire.codec import encode
from tpmhsm.wire.commands import __all__ as everything
from tpmhsm.wire.constants import ALG, CAP, CC, EO, RH, SE, ST, SU, ObjectAttributes
from tpmhsm.wire.framing import (
    Command,
    encode_command,
    layout_of,
    parse_auth_area,
    parse_response,
    split_response,
)
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import (
    AES128_CFB,
    NULL_HASHCHECK,
    NULL_SCHEME,
    NULL_SYM,
    EccPoint,
    EccSignature,
    Ha,
    NvPublic,
    RsaDecrypt,
    SchemeHash,
    Sensitive,
    SensitiveCreate,
    Signature,
    Ticket,
    ecdsa,
    pcr_selection,
)

D = bytes(range(32))
OTHER = hashlib.sha256(b"other").digest()
INDEX, COUNTER = 0x01800010, 0x01800011
EMPTY_PASSWORD = bytes.fromhex("400000090000000000")
SIGNATURE = Signature(ALG.ECDSA, EccSignature(ALG.SHA256, b"\x01" * 32, b"\x02" * 32))
NV = NvPublic(INDEX, ALG.SHA256, 0x00060006 | 0x02000000, b"", 16)
COUNTER_NV = NvPublic(COUNTER, ALG.SHA256, 0x00060016, b"", 8)
PCRS = (pcr_selection(ALG.SHA256, (0, 2, 23)), pcr_selection(ALG.SHA1, (1,)))
SENSITIVE = Sensitive(ALG.ECC, b"pw", b"", b"\x05" * 32)

Call = Callable[["Stage"], object]


class Stage(SimpleNamespace):
    """tpm2-pytss, its ESAPI, its handles, and the TPM handles behind them by the same names."""

    tss: Any
    esys: Any
    tr: dict[str, int]
    real: dict[str, int]

    def b2(self, kind: str, value: bytes) -> Any:
        return getattr(self.tss, f"TPM2B_{kind}")(value)

    def t(self, kind: str, value: Any) -> Any:
        """A pytss structure with the content of ours."""
        made, used = getattr(self.tss, kind).unmarshal(encode(value))
        assert used == len(encode(value))
        return made

    def public(self, public: Public) -> Any:
        return self.tss.TPM2B_PUBLIC(self.t("TPMT_PUBLIC", public))

    def pcrs(self) -> Any:
        return self.tss.TPML_PCR_SELECTION.parse("sha256:0,2,23+sha1:1")

    def scheme(self) -> Any:
        t = self.tss
        scheme = t.TPMT_SIG_SCHEME(scheme=t.TPM2_ALG.ECDSA)
        scheme.details.any.hashAlg = t.TPM2_ALG.SHA256
        return scheme

    def null_scheme(self) -> Any:
        return self.tss.TPMT_SIG_SCHEME(scheme=self.tss.TPM2_ALG.NULL)

    def persist(self, name: str, public: Public, at: int) -> None:
        e, t = self.esys, self.tss
        made = e.create_primary(t.TPM2B_SENSITIVE_CREATE(), self.public(public))[0]
        self.tr[name] = e.evict_control(t.ESYS_TR.OWNER, made, at)
        self.real[name] = at
        e.flush_context(made)


@pytest.fixture(scope="module")
def stage(esys: tuple[Any, RecordingDoor]) -> Stage:
    import tpm2_pytss as tss

    api, door = esys
    s = Stage(tss=tss, esys=api, door=door, tr={}, real={})
    api.clear_control(tss.ESYS_TR.LOCKOUT, True)  # one of the cases is TPM2_Clear
    s.persist("storage", STORAGE, 0x81000001)
    s.persist("key", SIGNING, 0x81000002)
    s.persist("rsa", DECRYPTING_RSA, 0x81000003)
    s.persist("ecdh", DERIVING, 0x81000004)
    s.persist("spare", STORAGE, 0x81000005)
    for name, nv in (("nv", NV), ("counter", COUNTER_NV)):
        public = tss.TPM2B_NV_PUBLIC(s.t("TPMS_NV_PUBLIC", nv))
        s.tr[name] = api.nv_define_space(b"", public)
        s.real[name] = nv.nv_index
    api.nv_write(s.tr["nv"], b"\0" * 16)
    api.nv_increment(s.tr["counter"])
    null = tss.TPMT_SYM_DEF(algorithm=tss.TPM2_ALG.NULL)
    s.tr["session"] = api.start_auth_session(
        tss.ESYS_TR.NONE, tss.ESYS_TR.NONE, tss.TPM2_SE.POLICY, null, tss.TPM2_ALG.SHA256
    )
    s.real["session"] = api.tr_get_tpm_handle(s.tr["session"])
    return s


# (our command, given the TPM handles; the same through ESYS; whether the chip says yes)
Case = tuple[Callable[[dict[str, int]], Command[Any]], Call, bool]

CONTROL: list[Case] = [
    (lambda h: c.Startup(SU.CLEAR), lambda s: s.esys.startup(s.tss.TPM2_SU.CLEAR), False),
    (lambda h: c.Shutdown(SU.STATE), lambda s: s.esys.shutdown(s.tss.TPM2_SU.STATE), True),
    (lambda h: c.SelfTest(True), lambda s: s.esys.self_test(True), True),
    (lambda h: c.GetTestResult(), lambda s: s.esys.get_test_result(), True),
    (
        lambda h: c.GetCapability(CAP.ALGS, 0, 127),
        lambda s: s.esys.get_capability(s.tss.TPM2_CAP.ALGS, 0, 127),
        True,
    ),
    *[
        (
            lambda h, cap=cap, prop=prop: c.GetCapability(cap, prop, 100),
            lambda s, cap=cap, prop=prop: s.esys.get_capability(cap, prop, 100),
            True,
        )
        for cap, prop in (
            (CAP.HANDLES, 0x81000000),
            (CAP.COMMANDS, 0x11F),
            (CAP.PP_COMMANDS, 0x11F),
            (CAP.AUDIT_COMMANDS, 0x11F),
            (CAP.PCRS, 0),
            (CAP.TPM_PROPERTIES, 0x100),
            (CAP.PCR_PROPERTIES, 0),
            (CAP.ECC_CURVES, 0),
        )
    ],
    (lambda h: c.GetRandom(16), lambda s: s.esys.get_random(16), True),
    (lambda h: c.StirRandom(D), lambda s: s.esys.stir_random(D), True),
    (
        lambda h: c.HierarchyControl(RH.OWNER, RH.OWNER, True),
        lambda s: s.esys.hierarchy_control(s.tss.ESYS_TR.OWNER, s.tss.ESYS_TR.OWNER, True),
        True,
    ),
    (
        lambda h: c.HierarchyChangeAuth(RH.OWNER, b""),
        lambda s: s.esys.hierarchy_change_auth(s.tss.ESYS_TR.OWNER, b""),
        True,
    ),
    (
        lambda h: c.ClearControl(RH.LOCKOUT, True),
        lambda s: s.esys.clear_control(s.tss.ESYS_TR.LOCKOUT, True),
        True,
    ),
    (lambda h: c.Clear(RH.LOCKOUT), lambda s: s.esys.clear(s.tss.ESYS_TR.LOCKOUT), False),
    (
        lambda h: c.DictionaryAttackLockReset(RH.LOCKOUT),
        lambda s: s.esys.dictionary_attack_lock_reset(),
        True,
    ),
    (
        lambda h: c.DictionaryAttackParameters(RH.LOCKOUT, 32, 600, 86400),
        lambda s: s.esys.dictionary_attack_parameters(32, 600, 86400),
        True,
    ),
    (
        lambda h: c.EvictControl(RH.OWNER, h["spare"], 0x81000005),
        lambda s: s.esys.evict_control(s.tss.ESYS_TR.OWNER, s.tr["spare"], 0x81000005),
        True,
    ),
    (lambda h: c.ReadClock(), lambda s: s.esys.read_clock(), True),
    (
        lambda h: c.ClockSet(RH.OWNER, 1 << 40),
        lambda s: s.esys.clock_set(1 << 40),
        True,
    ),
    (
        lambda h: c.ClockRateAdjust(RH.OWNER, -1),
        lambda s: s.esys.clock_rate_adjust(s.tss.TPM2_CLOCK.FINE_SLOWER),
        True,
    ),
    (
        lambda h: c.SetCommandCodeAuditStatus(RH.OWNER, ALG.NULL, (CC.Sign,), ()),
        lambda s: s.esys.set_command_code_audit_status(
            s.tss.TPM2_ALG.NULL,
            s.tss.TPML_CC(commandCodes=[s.tss.TPM2_CC.Sign]),
            s.tss.TPML_CC(),
        ),
        True,
    ),
]

OBJECTS: list[Case] = [
    (
        lambda h: c.Create(h["storage"], SensitiveCreate(b"pw", b""), SIGNING, D, PCRS),
        lambda s: s.esys.create(
            s.tr["storage"],
            s.tss.TPM2B_SENSITIVE_CREATE(s.tss.TPMS_SENSITIVE_CREATE(userAuth=b"pw")),
            s.public(SIGNING),
            D,
            s.pcrs(),
        ),
        True,
    ),
    (
        lambda h: c.Load(h["storage"], D, SIGNING.replace(unique=EccPoint(D, OTHER))),
        lambda s: s.esys.load(
            s.tr["storage"],
            s.b2("PRIVATE", D),
            s.public(SIGNING.replace(unique=EccPoint(D, OTHER))),
        ),
        False,
    ),
    (
        lambda h: c.LoadExternal(None, SIGNING, RH.NULL),
        lambda s: s.esys.load_external(s.public(SIGNING), hierarchy=s.tss.ESYS_TR.NULL),
        False,
    ),
    (
        lambda h: c.LoadExternal(SENSITIVE, SIGNING, RH.NULL),
        lambda s: s.esys.load_external(
            s.public(SIGNING),
            s.tss.TPM2B_SENSITIVE(s.t("TPMT_SENSITIVE", SENSITIVE)),
            s.tss.ESYS_TR.NULL,
        ),
        False,
    ),
    (lambda h: c.ReadPublic(h["rsa"]), lambda s: s.esys.read_public(s.tr["rsa"]), True),
    (lambda h: c.ReadPublic(h["key"]), lambda s: s.esys.read_public(s.tr["key"]), True),
    (
        lambda h: c.ActivateCredential(h["key"], h["storage"], D, OTHER),
        lambda s: s.esys.activate_credential(
            s.tr["key"], s.tr["storage"], s.b2("ID_OBJECT", D), s.b2("ENCRYPTED_SECRET", OTHER)
        ),
        False,
    ),
    (
        lambda h: c.MakeCredential(h["storage"], D, b"\0\x0b" + OTHER),
        lambda s: s.esys.make_credential(
            s.tr["storage"], s.b2("DIGEST", D), s.b2("NAME", b"\0\x0b" + OTHER)
        ),
        True,
    ),
    (lambda h: c.Unseal(h["key"]), lambda s: s.esys.unseal(s.tr["key"]), False),
    (
        lambda h: c.ObjectChangeAuth(h["key"], h["storage"], b"new"),
        lambda s: s.esys.object_change_auth(s.tr["key"], s.tr["storage"], b"new"),
        False,
    ),
    (
        lambda h: c.Duplicate(h["key"], h["storage"], D[:16], AES128_CFB),
        lambda s: s.esys.duplicate(
            s.tr["key"],
            s.tr["storage"],
            s.b2("DATA", D[:16]),
            s.t("TPMT_SYM_DEF_OBJECT", AES128_CFB),
            session1=s.tss.ESYS_TR.PASSWORD,
        ),
        False,
    ),
    (
        lambda h: c.Import(h["storage"], b"", SIGNING, D, OTHER, NULL_SYM),
        lambda s: s.esys.import_(
            s.tr["storage"],
            s.b2("DATA", b""),
            s.public(SIGNING),
            s.b2("PRIVATE", D),
            s.b2("ENCRYPTED_SECRET", OTHER),
            s.t("TPMT_SYM_DEF_OBJECT", NULL_SYM),
        ),
        False,
    ),
    (
        lambda h: c.RSA_Encrypt(h["rsa"], D, RsaDecrypt(ALG.NULL), b""),
        lambda s: s.esys.rsa_encrypt(
            s.tr["rsa"], D, s.tss.TPMT_RSA_DECRYPT(scheme=s.tss.TPM2_ALG.NULL)
        ),
        True,
    ),
    (
        lambda h: c.RSA_Decrypt(
            h["rsa"], D, RsaDecrypt(ALG.OAEP, SchemeHash(ALG.SHA256)), b"label\0"
        ),
        lambda s: s.esys.rsa_decrypt(
            s.tr["rsa"],
            D,
            s.t("TPMT_RSA_DECRYPT", RsaDecrypt(ALG.OAEP, SchemeHash(ALG.SHA256))),
            b"label\0",
        ),
        False,
    ),
    (lambda h: c.ECDH_KeyGen(h["ecdh"]), lambda s: s.esys.ecdh_key_gen(s.tr["ecdh"]), True),
    (
        lambda h: c.ECDH_ZGen(h["ecdh"], EccPoint(D, OTHER)),
        lambda s: s.esys.ecdh_zgen(
            s.tr["ecdh"], s.tss.TPM2B_ECC_POINT(s.tss.TPMS_ECC_POINT(x=D, y=OTHER))
        ),
        False,
    ),
]

SIGNING_CASES: list[Case] = [
    (
        lambda h: c.Hash(b"message", ALG.SHA384, RH.OWNER),
        lambda s: s.esys.hash(b"message", s.tss.TPM2_ALG.SHA384, s.tss.ESYS_TR.OWNER),
        True,
    ),
    (
        lambda h: c.VerifySignature(h["key"], D, SIGNATURE),
        lambda s: s.esys.verify_signature(s.tr["key"], D, s.t("TPMT_SIGNATURE", SIGNATURE)),
        False,
    ),
    (
        lambda h: c.Sign(h["key"], D, NULL_SCHEME, NULL_HASHCHECK),
        lambda s: s.esys.sign(
            s.tr["key"],
            D,
            s.null_scheme(),
            s.tss.TPMT_TK_HASHCHECK(tag=s.tss.TPM2_ST.HASHCHECK, hierarchy=s.tss.TPM2_RH.NULL),
        ),
        True,
    ),
    (
        lambda h: c.Sign(h["key"], D, ecdsa(), Ticket(ST.HASHCHECK, RH.OWNER, OTHER)),
        lambda s: s.esys.sign(
            s.tr["key"],
            D,
            s.scheme(),
            s.tss.TPMT_TK_HASHCHECK(
                tag=s.tss.TPM2_ST.HASHCHECK, hierarchy=s.tss.TPM2_RH.OWNER, digest=OTHER
            ),
        ),
        False,
    ),
    (
        lambda h: c.Commit(h["key"], EccPoint(D, OTHER), b"s2", OTHER),
        lambda s: s.esys.commit(
            s.tr["key"],
            s.tss.TPM2B_ECC_POINT(s.tss.TPMS_ECC_POINT(x=D, y=OTHER)),
            s.b2("SENSITIVE_DATA", b"s2"),
            s.b2("ECC_PARAMETER", OTHER),
        ),
        False,
    ),
    (
        lambda h: c.Certify(h["rsa"], h["key"], D, ecdsa()),
        lambda s: s.esys.certify(s.tr["rsa"], s.tr["key"], s.b2("DATA", D), s.scheme()),
        True,
    ),
    (
        lambda h: c.CertifyCreation(
            h["key"], h["rsa"], D, OTHER, NULL_SCHEME, Ticket(ST.CREATION, RH.OWNER, D)
        ),
        lambda s: s.esys.certify_creation(
            s.tr["key"],
            s.tr["rsa"],
            s.b2("DATA", D),
            s.b2("DIGEST", OTHER),
            s.null_scheme(),
            s.tss.TPMT_TK_CREATION(
                tag=s.tss.TPM2_ST.CREATION, hierarchy=s.tss.TPM2_RH.OWNER, digest=D
            ),
        ),
        False,
    ),
    (
        lambda h: c.Quote(h["key"], D, NULL_SCHEME, PCRS),
        lambda s: s.esys.quote(s.tr["key"], s.pcrs(), s.b2("DATA", D), s.null_scheme()),
        True,
    ),
    (
        lambda h: c.GetSessionAuditDigest(RH.ENDORSEMENT, h["key"], h["session"], D, NULL_SCHEME),
        lambda s: s.esys.get_session_audit_digest(
            s.tr["key"], s.tr["session"], s.b2("DATA", D), s.null_scheme()
        ),
        False,
    ),
    (
        lambda h: c.GetCommandAuditDigest(RH.ENDORSEMENT, h["key"], D, NULL_SCHEME),
        lambda s: s.esys.get_command_audit_digest(s.tr["key"], s.b2("DATA", D), s.null_scheme()),
        True,
    ),
    (
        lambda h: c.GetTime(RH.ENDORSEMENT, h["key"], D, NULL_SCHEME),
        lambda s: s.esys.get_time(s.tr["key"], s.b2("DATA", D), s.null_scheme()),
        True,
    ),
    (
        lambda h: c.CertifyX509(h["key"], h["key"], b"", NULL_SCHEME, b"0\0"),
        lambda s: s.esys.certify_x509(
            s.tr["key"], s.tr["key"], s.b2("MAX_BUFFER", b"0\0"), s.null_scheme()
        ),
        False,
    ),
    (
        lambda h: c.NV_Certify(h["key"], RH.OWNER, INDEX, D, NULL_SCHEME, 16, 0),
        lambda s: s.esys.nv_certify(
            s.tr["key"],
            s.tr["nv"],
            s.b2("DATA", D),
            s.null_scheme(),
            16,
            0,
            auth_handle=s.tss.ESYS_TR.OWNER,
        ),
        True,
    ),
]

NV_CASES: list[Case] = [
    (
        lambda h: c.NV_DefineSpace(RH.OWNER, b"pw", NV),
        lambda s: s.esys.nv_define_space(b"pw", s.tss.TPM2B_NV_PUBLIC(s.t("TPMS_NV_PUBLIC", NV))),
        False,
    ),
    (
        lambda h: c.NV_UndefineSpaceSpecial(INDEX, RH.PLATFORM),
        lambda s: s.esys.nv_undefine_space_special(s.tr["nv"], session1=s.tss.ESYS_TR.PASSWORD),
        False,
    ),
    (lambda h: c.NV_ReadPublic(INDEX), lambda s: s.esys.nv_read_public(s.tr["nv"]), True),
    (
        lambda h: c.NV_Write(RH.OWNER, INDEX, b"12345678", 4),
        lambda s: s.esys.nv_write(s.tr["nv"], b"12345678", 4, auth_handle=s.tss.ESYS_TR.OWNER),
        True,
    ),
    (
        lambda h: c.NV_Increment(COUNTER, COUNTER),
        lambda s: s.esys.nv_increment(s.tr["counter"]),
        True,
    ),
    (
        lambda h: c.NV_Extend(INDEX, INDEX, D),
        lambda s: s.esys.nv_extend(s.tr["nv"], D),
        False,
    ),
    (
        lambda h: c.NV_SetBits(INDEX, INDEX, 1 << 63),
        lambda s: s.esys.nv_set_bits(s.tr["nv"], 1 << 63),
        False,
    ),
    (lambda h: c.NV_WriteLock(INDEX, INDEX), lambda s: s.esys.nv_write_lock(s.tr["nv"]), False),
    (
        lambda h: c.NV_Read(RH.OWNER, COUNTER, 8, 0),
        lambda s: s.esys.nv_read(s.tr["counter"], 8, 0, auth_handle=s.tss.ESYS_TR.OWNER),
        True,
    ),
    (lambda h: c.NV_ReadLock(INDEX, INDEX), lambda s: s.esys.nv_read_lock(s.tr["nv"]), False),
    (
        lambda h: c.NV_ChangeAuth(INDEX, b"new"),
        lambda s: s.esys.nv_change_auth(s.tr["nv"], b"new", session1=s.tss.ESYS_TR.PASSWORD),
        False,
    ),
    (
        lambda h: c.PCR_Extend(16, (Ha(ALG.SHA256, D), Ha(ALG.SHA384, D + D[:16]))),
        lambda s: s.esys.pcr_extend(
            s.tss.ESYS_TR.PCR16,
            s.tss.TPML_DIGEST_VALUES(
                [
                    s.tss.TPMT_HA(hashAlg=s.tss.TPM2_ALG.SHA256, digest=s.tss.TPMU_HA(sha256=D)),
                    s.tss.TPMT_HA(
                        hashAlg=s.tss.TPM2_ALG.SHA384, digest=s.tss.TPMU_HA(sha384=D + D[:16])
                    ),
                ]
            ),
        ),
        True,
    ),
    (
        lambda h: c.PCR_Read(PCRS),
        lambda s: s.esys.pcr_read(s.pcrs()),
        True,
    ),
    (lambda h: c.PCR_Reset(16), lambda s: s.esys.pcr_reset(s.tss.ESYS_TR.PCR16), True),
]

POLICY: list[Case] = [
    (
        lambda h: c.PolicyRestart(h["session"]),
        lambda s: s.esys.policy_restart(s.tr["session"]),
        True,
    ),
    (
        lambda h: c.PolicySigned(h["key"], h["session"], b"", D, OTHER, 0, SIGNATURE),
        lambda s: s.esys.policy_signed(
            auth_object=s.tr["key"],
            policy_session=s.tr["session"],
            auth=s.t("TPMT_SIGNATURE", SIGNATURE),
            nonce_tpm=s.b2("NONCE", b""),
            cp_hash_a=s.b2("DIGEST", D),
            policy_ref=s.b2("NONCE", OTHER),
            expiration=0,
        ),
        False,
    ),
    (
        lambda h: c.PolicySecret(RH.OWNER, h["session"], b"", b"", D, -5),
        lambda s: s.esys.policy_secret(
            auth_handle=s.tss.ESYS_TR.OWNER,
            policy_session=s.tr["session"],
            nonce_tpm=s.b2("NONCE", b""),
            cp_hash_a=s.b2("DIGEST", b""),
            policy_ref=s.b2("NONCE", D),
            expiration=-5,
        ),
        True,
    ),
    (
        lambda h: c.PolicyTicket(
            h["session"], b"timeout", b"", D, b"\0\x0b" + D, Ticket(ST.AUTH_SIGNED, RH.OWNER, D)
        ),
        lambda s: s.esys.policy_ticket(
            policy_session=s.tr["session"],
            timeout=s.tss.TPM2B_TIMEOUT.unmarshal(b"\0\7timeout")[0],
            auth_name=s.b2("NAME", b"\0\x0b" + D),
            ticket=s.tss.TPMT_TK_AUTH(
                tag=s.tss.TPM2_ST.AUTH_SIGNED, hierarchy=s.tss.TPM2_RH.OWNER, digest=D
            ),
            cp_hash_a=s.b2("DIGEST", b""),
            policy_ref=s.b2("NONCE", D),
        ),
        False,
    ),
    (
        lambda h: c.PolicyOR(h["session"], (D, OTHER)),
        lambda s: s.esys.policy_or(s.tr["session"], s.tss.TPML_DIGEST([D, OTHER])),
        False,
    ),
    (
        lambda h: c.PolicyPCR(h["session"], D, PCRS),
        lambda s: s.esys.policy_pcr(s.tr["session"], s.b2("DIGEST", D), s.pcrs()),
        False,
    ),
    (
        lambda h: c.PolicyLocality(h["session"], 1),
        lambda s: s.esys.policy_locality(s.tr["session"], s.tss.TPMA_LOCALITY.ZERO),
        True,
    ),
    (
        lambda h: c.PolicyNV(RH.OWNER, COUNTER, h["session"], b"\0" * 8, 0, EO.UNSIGNED_GE),
        lambda s: s.esys.policy_nv(
            s.tss.ESYS_TR.OWNER,
            s.tr["counter"],
            s.tr["session"],
            s.b2("OPERAND", b"\0" * 8),
            s.tss.TPM2_EO.UNSIGNED_GE,
        ),
        True,
    ),
    (
        lambda h: c.PolicyCounterTimer(h["session"], b"\0" * 8, 8, EO.UNSIGNED_GE),
        lambda s: s.esys.policy_counter_timer(
            s.tr["session"], s.b2("OPERAND", b"\0" * 8), s.tss.TPM2_EO.UNSIGNED_GE, 8
        ),
        True,
    ),
    (
        lambda h: c.PolicyCommandCode(h["session"], CC.Sign),
        lambda s: s.esys.policy_command_code(s.tr["session"], s.tss.TPM2_CC.Sign),
        True,
    ),
    (
        lambda h: c.PolicyCpHash(h["session"], D),
        lambda s: s.esys.policy_cp_hash(s.tr["session"], s.b2("DIGEST", D)),
        True,
    ),
    (
        lambda h: c.PolicyNameHash(h["session"], D),
        lambda s: s.esys.policy_name_hash(s.tr["session"], s.b2("DIGEST", D)),
        True,
    ),
    (
        lambda h: c.PolicyDuplicationSelect(h["session"], b"\0\x0b" + D, b"\0\x0b" + OTHER, True),
        lambda s: s.esys.policy_duplication_select(
            s.tr["session"], s.b2("NAME", b"\0\x0b" + D), s.b2("NAME", b"\0\x0b" + OTHER), True
        ),
        True,
    ),
    (
        lambda h: c.PolicyAuthorize(
            h["session"], D, OTHER, b"\0\x0b" + D, Ticket(ST.VERIFIED, RH.OWNER, D)
        ),
        lambda s: s.esys.policy_authorize(
            policy_session=s.tr["session"],
            approved_policy=s.b2("DIGEST", D),
            key_sign=s.b2("NAME", b"\0\x0b" + D),
            check_ticket=s.tss.TPMT_TK_VERIFIED(
                tag=s.tss.TPM2_ST.VERIFIED, hierarchy=s.tss.TPM2_RH.OWNER, digest=D
            ),
            policy_ref=s.b2("NONCE", OTHER),
        ),
        False,
    ),
    (
        lambda h: c.PolicyAuthValue(h["session"]),
        lambda s: s.esys.policy_auth_value(s.tr["session"]),
        True,
    ),
    (
        lambda h: c.PolicyPassword(h["session"]),
        lambda s: s.esys.policy_password(s.tr["session"]),
        True,
    ),
    (
        lambda h: c.PolicyGetDigest(h["session"]),
        lambda s: s.esys.policy_get_digest(s.tr["session"]),
        True,
    ),
    (
        lambda h: c.PolicyNvWritten(h["session"], True),
        lambda s: s.esys.policy_nv_written(s.tr["session"], True),
        True,
    ),
    (
        lambda h: c.PolicyTemplate(h["session"], D),
        lambda s: s.esys.policy_template(s.tr["session"], s.b2("DIGEST", D)),
        True,
    ),
    (
        lambda h: c.PolicyAuthorizeNV(RH.OWNER, INDEX, h["session"]),
        lambda s: s.esys.policy_authorize_nv(s.tr["nv"], s.tr["session"], s.tss.ESYS_TR.OWNER),
        False,
    ),
]

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
