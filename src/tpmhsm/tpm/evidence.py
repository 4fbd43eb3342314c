"""What a chip says of itself: endorsement keys, their certificates, maker and firmware.

None of it is believed here. Only an EK certificate's root, pinned by whoever asks, tells hardware
from an emulator; strings can be typed by anyone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tpmhsm.attest.ek_headers import cut_certificates
from tpmhsm.attest.public_keys import spki_of_public
from tpmhsm.errors import ChipRefusedError, DeviceError, NotFoundError, ParseError
from tpmhsm.tpm import capabilities, nv
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.ek_templates import CHAIN, LOW_RANGE_EXTRAS, TEMPLATES, is_made_by
from tpmhsm.tpm.objects import Loaded, all_persistent
from tpmhsm.wire.codec import decode, encode
from tpmhsm.wire.commands import CreatePrimary
from tpmhsm.wire.constants import PT, RH
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import EccParms, Public
from tpmhsm.wire.structures import EccPoint, SensitiveCreate


@dataclass(frozen=True)
class Endorsement:
    """An endorsement key: `public` TPMT_PUBLIC; `certificate` DER, or None if the chip has none.

    `nv_index` is the certificate's; `chain` are other certificates that the chip keeps, DER.
    """

    public: bytes
    certificate: bytes | None
    nv_index: int | None = None
    chain: tuple[bytes, ...] = ()


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
    return facts_of(capabilities.properties(chip))


def facts_of(found: Mapping[int, int]) -> DeviceFacts:
    """The same from `capabilities.properties`."""
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
    found = (_certificates(chip, index) for index in _present(chip))
    return [ders[0] for ders in found if ders]


def endorsements(chip: Chip) -> tuple[Endorsement, ...]:
    """All endorsement keys whose certificates the chip keeps; of a chip that keeps none, its first.

    The public area is that of the certificate's template with the certificate's key in it, so that
    no key need be made for it: that the chip has it is proven by activation, not by this. Raises
    DeviceError for a chip that has no certificate and can make no endorsement key.
    """
    present = nv.indices(chip)
    chain = cut_certificates(b"".join(_read(chip, index) for index in present if index in CHAIN))
    found = []
    for index in (index for index in TEMPLATES if index in present):
        if ders := _certificates(chip, index):
            template = _template(chip, index, present)
            public = _certified(ders[0], template) or _primary(chip, template)
            if public:
                found.append(Endorsement(encode(public), ders[0], index, (*ders[1:], *chain)))
    return tuple(found) or (_without_certificate(chip),)


def endorsement(chip: Chip) -> Endorsement:
    """The endorsement key that stands for the device, with its certificate if there is one.

    The first of `ek_certificates` whose key the chip has; without any, the P-256 key of template
    L-2. Raises DeviceError for a chip that can make none of them.
    """
    present = nv.indices(chip)
    for index in (index for index in TEMPLATES if index in present):
        if ders := _certificates(chip, index):
            public = _key_of_certificate(chip, ders[0], _template(chip, index, present))
            if public:
                return Endorsement(public, ders[0], index)
    return _without_certificate(chip)


def ek_public(chip: Chip) -> bytes:
    """TPMT_PUBLIC of the endorsement key that stands for the device (see `endorsement`)."""
    return endorsement(chip).public


def load_endorsement(chip: Chip, public: Public) -> Loaded:
    """The endorsement key of this public area: a persistent one, or made again by its template.

    A key that was made is flushed with the transaction. NotFoundError when the chip has it not.
    """
    name = name_of_public(public)
    for loaded in all_persistent(chip):
        if loaded.name == name:
            return loaded
    present = nv.indices(chip)
    templates = [_template(chip, index, present) for index in TEMPLATES]
    for template in (one for one in templates if is_made_by(public, one)):
        if made := _make(chip, template):
            if made.name == name:
                return made
            chip.flush(made.handle)
    raise NotFoundError("this chip does not have that endorsement key", code="other-chip")


def _without_certificate(chip: Chip) -> Endorsement:
    for template in list(TEMPLATES.values())[:2]:
        made = _primary(chip, template)
        if made:
            return Endorsement(encode(made), None)
    raise DeviceError("the chip can make no endorsement key")


def _present(chip: Chip) -> list[int]:
    present = set(nv.indices(chip))
    return [index for index in TEMPLATES if index in present]


def _certificates(chip: Chip, index: int) -> tuple[bytes, ...]:
    """The certificate at an index, cleanly cut, and what else stands behind it."""
    return cut_certificates(_read(chip, index))


def _read(chip: Chip, index: int) -> bytes:
    """What stands at an index; nothing when it cannot be read."""
    try:
        return nv.read(chip, index)
    except (ChipRefusedError, NotFoundError):
        return b""


def _template(chip: Chip, index: int, present: list[int]) -> Public:
    """The template of the key that is certified at an index: a chip may keep another than the
    profile's, or a nonce for it (EK Credential Profile, section 2.2.1.4).
    """
    template, extras = TEMPLATES[index], LOW_RANGE_EXTRAS.get(index)
    if extras is None:
        return template
    nonce_at, template_at = extras
    try:
        if template_at in present:
            template = decode(Public, _read(chip, template_at))
    except ParseError:
        pass
    if nonce_at in present and (nonce := _read(chip, nonce_at)):
        template = _with_nonce(template, nonce)
    return template


def _with_nonce(template: Public, nonce: bytes) -> Public:
    """The nonce at the beginning of `unique` (or of x), zeros behind."""
    unique = template.unique
    if isinstance(unique, EccPoint):
        return template.replace(unique=EccPoint(nonce.ljust(32, b"\0")[:32], bytes(32)))
    return template.replace(unique=nonce.ljust(256, b"\0")[:256])


def _key_of_certificate(chip: Chip, certificate: bytes, template: Public) -> bytes | None:
    """The public area whose key the certificate certifies: persistent, or made by template."""
    spki = _spki_of_certificate(certificate)
    for loaded in all_persistent(chip):
        if spki and _spki(loaded.public) == spki:
            return encode(loaded.public)
    public = _primary(chip, template)
    return encode(public) if public and (not spki or _spki(public) == spki) else None


def _certified(certificate: bytes, template: Public) -> Public | None:
    """A template with a certificate's key in it, or None when the key is not of its kind."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, TypeError):
        return None
    unique: bytes | EccPoint = b""
    if isinstance(key, ec.EllipticCurvePublicKey):
        size, numbers = (key.curve.key_size + 7) // 8, key.public_numbers()
        unique = EccPoint(numbers.x.to_bytes(size, "big"), numbers.y.to_bytes(size, "big"))
    elif isinstance(key, rsa.RSAPublicKey):
        unique = key.public_numbers().n.to_bytes(key.key_size // 8, "big")
    if isinstance(unique, EccPoint) != isinstance(template.parameters, EccParms):
        return None
    made = template.replace(unique=unique)
    return made if _spki(made) == _spki_of_certificate(certificate) else None


def _make(chip: Chip, template: Public) -> Loaded | None:
    """An endorsement primary, or None if the chip cannot."""
    try:
        made = chip.send(CreatePrimary(RH.ENDORSEMENT, SensitiveCreate(), template, b"", ()))
    except ChipRefusedError:
        return None
    public: Public = made.out_public
    if not is_made_by(public, template):
        chip.flush(made.object_handle)
        return None
    return Loaded(made.object_handle, public, name_of_public(public))


def _primary(chip: Chip, template: Public) -> Public | None:
    """Make an endorsement primary, look at it, and let it go. None if the chip cannot."""
    made = _make(chip, template)
    if made is None:
        return None
    chip.flush(made.handle)
    return made.public


def _spki_of_certificate(certificate: bytes) -> bytes | None:
    """The key in a certificate, or None: makers' certificates are not all well-formed."""
    from cryptography import x509

    try:
        return _der(x509.load_der_x509_certificate(certificate).public_key())
    except (ValueError, TypeError):
        return None


def _spki(public: Public) -> bytes | None:
    try:
        return spki_of_public(public)
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
