"""A key that was made elsewhere, brought under the storage parent by TPM2_Import.

TCG TPM 2.0 Library Part 1 §23 (duplication): the sensitive area travels encrypted, and under a
MAC, for the parent alone. An inner wrapper would be opened by the same host that made it, so there
is none. The attributes say for ever that the key was not made here: fixedTPM and fixedParent cannot
be set on import, sensitiveDataOrigin is left clear. It does not leave again: that takes a policy
with CommandCode(Duplicate), which no key here has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tpmhsm.errors import ChipRefusedError, UsageError
from tpmhsm.policy.bound import FIELDS
from tpmhsm.tpm.objects import BORN_HERE, CreatedKey, Loaded, unsupported
from tpmhsm.wire.codec import TPM2B, encode
from tpmhsm.wire.commands import Import
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import Public
from tpmhsm.wire.sealing import sealed_to
from tpmhsm.wire.structures import NULL_SYM, EccPoint, Sensitive

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from tpmhsm.tpm.chip import Chip

    PrivateKey = EllipticCurvePrivateKey | RSAPrivateKey

F4 = 65537


@dataclass(frozen=True)
class Foreign:
    """A private key as the chip takes it: `unique` is the public part, `secret` the scalar or one
    of two primes.
    """

    unique: EccPoint | bytes
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, key: PrivateKey) -> Foreign:
        """The numbers of a key. UsageError for a curve or an exponent that chips do not take."""
        from cryptography.hazmat.primitives.asymmetric import ec

        if isinstance(key, ec.EllipticCurvePrivateKey):
            size = dict(FIELDS.values()).get(key.curve.name)
            if size is None:
                raise UsageError(f"keys on {key.curve.name} are not imported: P-256 and P-384 are")
            own = key.private_numbers()
            x, y = own.public_numbers.x, own.public_numbers.y
            point = EccPoint(x.to_bytes(size, "big"), y.to_bytes(size, "big"))
            return cls(point, own.private_value.to_bytes(size, "big"))
        numbers = key.private_numbers()
        if numbers.public_numbers.e != F4:
            raise UsageError(f"an RSA key of the exponent {numbers.public_numbers.e}: 65537 alone")
        size = key.key_size // 8
        if numbers.p * numbers.q != numbers.public_numbers.n or numbers.p.bit_length() != size * 4:
            raise UsageError("an RSA key whose two primes are not of one length")
        modulus = numbers.public_numbers.n.to_bytes(size, "big")
        return cls(modulus, numbers.p.to_bytes(size // 2, "big"))


def imported_template(template: Public, key: Foreign) -> Public:
    """The public area of a key that is imported: as if made here, less what would then be a lie."""
    return template.replace(attributes=template.attributes & ~BORN_HERE, unique=key.unique)


def import_key(
    chip: Chip, parent: Loaded, public: Public, secret: bytes, *, algorithm: str, auth: bytes = b""
) -> CreatedKey:
    """Bring a key under `parent`; one command. It is not loaded, and has no creation ticket.

    `public` of `imported_template`, `secret` of `Foreign`; `auth` is its PIN. ChipRefusedError when
    the chip lacks the algorithm, or the halves of the key do not belong together.
    """
    sensitive = encode(Sensitive(public.type, auth, b"", secret))
    name = name_of_public(public)
    duplicate, seed = sealed_to(parent.public, b"DUPLICATE", TPM2B.pack(sensitive), name)
    try:
        made = chip.send(Import(parent.handle, b"", public, duplicate, seed, NULL_SYM))
    except ChipRefusedError as error:
        raise unsupported(error, algorithm) from error
    return CreatedKey(encode(public), made.out_private, name, b"", b"", b"")
