"""Templates of endorsement keys, by the NV index of their certificate.

TCG EK Credential Profile for TPM Family 2.0, Level 0: NV indices (section 2.2.1.4 and 2.2.1.5),
templates (appendix B), policies (B.6).
"""

from __future__ import annotations

from dataclasses import dataclass

from tpmhsm.wire.constants import ALG, CURVE
from tpmhsm.wire.public import EccParms, Public, RsaParms
from tpmhsm.wire.structures import AsymScheme, BlockCipher, EccPoint, KdfScheme, SymDef

POLICY_A = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
"""PolicySecret(endorsement hierarchy): the low range."""
POLICY_B = bytes.fromhex("ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0")
POLICY_B_384 = bytes.fromhex(
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4"
    "cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12"
)
"""OR(PolicyA, PolicyC): the high range. C is PolicyAuthorizeNV of an index of the platform's."""

BRANCHES: dict[bytes, tuple[bytes, bytes]] = {
    POLICY_B: (
        POLICY_A,
        bytes.fromhex("3767e2edd43ff45a3a7e1eaefcef78643dca964632e7aad82c673a30d8633fde"),
    ),
    POLICY_B_384: (
        bytes.fromhex(
            "8bbf2266537c171cb56e403c4dc1d4b64f432611dc386e6f"
            "532050c3278c930e143e8bb1133824ccb431053871c6db53"
        ),
        bytes.fromhex(
            "d6032ce61f2fb3c240eb3cf6a33237ef2b6a16f4293c22b4"
            "55e261cffd217ad5b4947c2d73e63005eed2dc2b3593d165"
        ),
    ),
}
"""The two digests that TPM2_PolicyOR is given for a policy of the high range."""


@dataclass(frozen=True)
class _Range:
    """What the templates of one range share: attributes, nameAlg, policy, AES bits."""

    attributes: int
    name_alg: ALG
    policy: bytes
    aes: int

    def rsa(self, bits: int, unique: int) -> Public:
        symmetric = SymDef(ALG.AES, BlockCipher(self.aes, ALG.CFB))
        parameters = RsaParms(symmetric, AsymScheme(ALG.NULL), bits, 0)
        return self._public(ALG.RSA, parameters, bytes(unique))

    def ecc(self, curve: CURVE, unique: int) -> Public:
        symmetric = SymDef(ALG.AES, BlockCipher(self.aes, ALG.CFB))
        parameters = EccParms(symmetric, AsymScheme(ALG.NULL), curve, KdfScheme(ALG.NULL))
        return self._public(ALG.ECC, parameters, EccPoint(bytes(unique), bytes(unique)))

    def _public(
        self, kind: ALG, parameters: RsaParms | EccParms, unique: bytes | EccPoint
    ) -> Public:
        return Public(kind, self.name_alg, self.attributes, self.policy, parameters, unique)


_LOW = _Range(0x000300B2, ALG.SHA256, POLICY_A, 128)
_HIGH = _Range(0x000300F2, ALG.SHA256, POLICY_B, 128)
_HIGH_384 = _Range(0x000300F2, ALG.SHA384, POLICY_B_384, 256)

# The first is also the key of a chip that has no certificate: every PC Client TPM has P-256, and a
# primary on it takes no ten seconds.
TEMPLATES: dict[int, Public] = {
    0x01C0000A: _LOW.ecc(CURVE.NIST_P256, 32),  # L-2
    0x01C00002: _LOW.rsa(2048, 256),  # L-1
    0x01C00014: _HIGH.ecc(CURVE.NIST_P256, 0),  # H-2
    0x01C00016: _HIGH_384.ecc(CURVE.NIST_P384, 0),  # H-3
    0x01C00012: _HIGH.rsa(2048, 0),  # H-1
    0x01C0001C: _HIGH_384.rsa(3072, 0),  # H-6
    0x01C0001E: _HIGH_384.rsa(4096, 0),  # H-7
}

LOW_RANGE_EXTRAS: dict[int, tuple[int, int]] = {
    0x01C00002: (0x01C00003, 0x01C00004),
    0x01C0000A: (0x01C0000B, 0x01C0000C),
}
"""Where a chip keeps the nonce and the template of an EK that the defaults do not make."""

CHAIN = range(0x01C00100, 0x01C00200)
"""Certificates of issuers, one after the other (section 2.2.1.5.3)."""


def is_made_by(public: Public, template: Public) -> bool:
    """Whether a template makes such a key, on some chip."""
    return public.replace(unique=template.unique) == template
