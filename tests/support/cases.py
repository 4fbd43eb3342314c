"""Each command as we say it and as tpm2-pytss is asked to say it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.stage import COUNTER, INDEX, NV, OTHER, PCRS, SENSITIVE, SIGNATURE, Call, D
from tests.support.templates import SIGNING

from tpmhsm.wire import commands as c
from tpmhsm.wire.constants import ALG, CAP, CC, EO, RH, ST, SU
from tpmhsm.wire.framing import (
    Command,
)
from tpmhsm.wire.structures import (
    AES128_CFB,
    NULL_HASHCHECK,
    NULL_SCHEME,
    NULL_SYM,
    EccPoint,
    Ha,
    RsaDecrypt,
    SchemeHash,
    SensitiveCreate,
    Ticket,
    ecdsa,
)

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
        lambda h: c.SetPrimaryPolicy(RH.OWNER, D, ALG.SHA256),
        lambda s: s.esys.set_primary_policy(s.tss.ESYS_TR.OWNER, D, s.tss.TPM2_ALG.SHA256),
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
        lambda h: c.Rewrap(h["storage"], RH.NULL, D, b"\0\x0b" + OTHER, OTHER),
        lambda s: s.esys.rewrap(
            s.tr["storage"],
            s.tss.ESYS_TR.NONE,
            s.b2("PRIVATE", D),
            s.b2("NAME", b"\0\x0b" + OTHER),
            s.b2("ENCRYPTED_SECRET", OTHER),
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
