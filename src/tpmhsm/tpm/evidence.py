"""What a chip says of itself: endorsement keys, their certificates, maker and firmware.

None of it is believed here. Only an EK certificate's root, pinned by whoever asks, tells hardware
from an emulator; strings can be typed by anyone.

TCG EK Credential Profile for TPM Family 2.0, Level 0: NV indices (section 2.2.1.4 and 2.2.1.5) and
templates (appendix B).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tpmhsm.attest.public_keys import public_key_of
from tpmhsm.errors import ChipRefusedError, DeviceError, NotFoundError, ParseError
from tpmhsm.tpm import capabilities, nv
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.objects import Loaded, read_loaded
from tpmhsm.wire.codec import encode
from tpmhsm.wire.commands import CreatePrimary
from tpmhsm.wire.constants import ALG, CURVE, HT, PT, RH
from tpmhsm.wire.public import EccParms, Public, RsaParms
from tpmhsm.wire.structures import (
    AsymScheme,
    BlockCipher,
    EccPoint,
    KdfScheme,
    SensitiveCreate,
    SymDef,
)

_POLICY_A = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
_POLICY_B = bytes.fromhex("ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0")
_POLICY_B_384 = bytes.fromhex(
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4"
    "cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12"
)


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


_LOW = _Range(0x000300B2, ALG.SHA256, _POLICY_A, 128)
_HIGH = _Range(0x000300F2, ALG.SHA256, _POLICY_B, 128)
_HIGH_384 = _Range(0x000300F2, ALG.SHA384, _POLICY_B_384, 256)

# NV index of the certificate: template of its key. The first is also the key of a chip that has
# no certificate: every PC Client TPM has P-256, and a primary on it takes no ten seconds.
_TEMPLATES: dict[int, Public] = {
    0x01C0000A: _LOW.ecc(CURVE.NIST_P256, 32),  # L-2
    0x01C00002: _LOW.rsa(2048, 256),  # L-1
    0x01C00014: _HIGH.ecc(CURVE.NIST_P256, 0),  # H-2
    0x01C00016: _HIGH_384.ecc(CURVE.NIST_P384, 0),  # H-3
    0x01C00012: _HIGH.rsa(2048, 0),  # H-1
    0x01C0001C: _HIGH_384.rsa(3072, 0),  # H-6
    0x01C0001E: _HIGH_384.rsa(4096, 0),  # H-7
}


@dataclass(frozen=True)
class Endorsement:
    """An endorsement key: `public` TPMT_PUBLIC; `certificate` DER, or None if the chip has none."""

    public: bytes
    certificate: bytes | None


@dataclass(frozen=True)
class DeviceFacts:
    """What the chip answers when asked what it is. Hints, and no more.

    `manufacturer` the four letters of the TCG vendor ID registry ("IBM", "IFX", "STM"), `vendor`
    its own words, `firmware` two numbers of four hex digits each pair, `specification` as "2.0
    revision 1.64".
    """

    manufacturer: str
    vendor: str
    firmware: str
    specification: str


def device_facts(chip: Chip) -> DeviceFacts:
    """Maker, firmware and specification, as the chip says."""
    found = capabilities.properties(chip)
    words = (found.get(PT.VENDOR_STRING_1 + n, 0) for n in range(4))
    one, two = found.get(PT.FIRMWARE_VERSION_1, 0), found.get(PT.FIRMWARE_VERSION_2, 0)
    revision = found.get(PT.REVISION, 0)
    return DeviceFacts(
        manufacturer=_letters(found.get(PT.MANUFACTURER, 0)),
        vendor="".join(map(_letters, words)),
        firmware=f"{one >> 16:x}.{one & 0xFFFF:x}.{two >> 16:x}.{two & 0xFFFF:x}",
        specification=f"{_letters(found.get(PT.FAMILY_INDICATOR, 0))} revision "
        f"{revision // 100}.{revision % 100:02}",
    )


def ek_certificates(chip: Chip) -> list[bytes]:
    """The EK certificates in the chip, DER, in the order of our templates; empty if it has none."""
    found = (_certificate(chip, index) for index in _present(chip))
    return [der for der in found if der]


def endorsement(chip: Chip) -> Endorsement:
    """The endorsement key that stands for the device, with its certificate if there is one.

    The first of `ek_certificates` whose key the chip has; without any, the P-256 key of template
    L-2. Raises DeviceError for a chip that can make none of them.
    """
    for index in _present(chip):
        certificate = _certificate(chip, index)
        if certificate:
            public = _key_of_certificate(chip, certificate, _TEMPLATES[index])
            if public:
                return Endorsement(public, certificate)
    for template in list(_TEMPLATES.values())[:2]:
        made = _primary(chip, template)
        if made:
            return Endorsement(encode(made), None)
    raise DeviceError("the chip can make no endorsement key")


def ek_public(chip: Chip) -> bytes:
    """TPMT_PUBLIC of the endorsement key that stands for the device (see `endorsement`)."""
    return endorsement(chip).public


def _present(chip: Chip) -> list[int]:
    present = set(nv.indices(chip))
    return [index for index in _TEMPLATES if index in present]


def _certificate(chip: Chip, index: int) -> bytes | None:
    """The certificate at an index; padding behind it is cut off by its own DER length."""
    try:
        data = nv.read(chip, index)
    except (ChipRefusedError, NotFoundError):
        return None
    if len(data) < 4 or data[0] != 0x30 or data[1] != 0x82:  # a SEQUENCE of 256 to 65,535 bytes
        return None
    end = 4 + int.from_bytes(data[2:4], "big")
    return data[:end] if end <= len(data) else None


def _key_of_certificate(chip: Chip, certificate: bytes, template: Public) -> bytes | None:
    """The public area whose key the certificate certifies: persistent, or made by template."""
    spki = _spki_of_certificate(certificate)
    for loaded in _persistent(chip):
        if spki and _spki(loaded.public) == spki:
            return encode(loaded.public)
    public = _primary(chip, template)
    return encode(public) if public and (not spki or _spki(public) == spki) else None


def _persistent(chip: Chip) -> list[Loaded]:
    return [read_loaded(chip, handle) for handle in chip.handles(HT.PERSISTENT)]


def _primary(chip: Chip, template: Public) -> Public | None:
    """Make an endorsement primary, look at it, and let it go. None if the chip cannot."""
    command = CreatePrimary(RH.ENDORSEMENT, SensitiveCreate(), template, b"", ())
    try:
        made = chip.send(command)
    except ChipRefusedError:
        return None
    chip.flush(made.object_handle)
    public: Public = made.out_public
    return public


def _spki_of_certificate(certificate: bytes) -> bytes | None:
    """The key in a certificate, or None: makers' certificates are not all well-formed."""
    from cryptography import x509

    try:
        return _der(x509.load_der_x509_certificate(certificate).public_key())
    except (ValueError, TypeError):
        return None


def _spki(public: Public) -> bytes | None:
    try:
        return _der(public_key_of(public))
    except ParseError:
        return None


def _der(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return der


def _letters(value: int) -> str:
    """Four bytes of text; what is not printable is left out."""
    text = value.to_bytes(4, "big").decode("latin-1")
    return "".join(letter for letter in text if letter.isascii() and letter.isprintable()).strip()
