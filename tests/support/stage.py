"""What commands are compared on: tpm2-pytss on a chip with keys, indices and a session."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tests.support.swtpm import RecordingDoor
from tests.support.templates import DECRYPTING_RSA, DERIVING, SIGNING, STORAGE

from tpmhsm.wire.codec import encode
from tpmhsm.wire.constants import ALG
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import (
    EccSignature,
    NvPublic,
    Sensitive,
    Signature,
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


def set_up(api: Any, door: RecordingDoor) -> Stage:
    """Keys, indices and a policy session, made by tpm2-tss."""
    import tpm2_pytss as tss

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
