"""Keys that decrypt, and never sign: RSA with OAEP, and agreement (ECDH) on an elliptic curve.

The scheme is fixed in the public area: TPM2_RSA_Decrypt of a formatted block without a padding
would be a signature. What the chip answers is a secret, so wherever there is a session for it, the
answer comes back encrypted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tpmhsm.errors import ChipRefusedError, ParseError, UsageError
from tpmhsm.policy.bound import FIELDS, decrypt_parameters, derive_point
from tpmhsm.tpm.objects import ALGORITHMS, Loaded, key_attributes, key_parameters
from tpmhsm.tpm.salts import SaltKey
from tpmhsm.tpm.sessions import start_hmac
from tpmhsm.wire.commands import ECDH_ZGen, RSA_Decrypt
from tpmhsm.wire.constants import ALG
from tpmhsm.wire.constants import ObjectAttributes as Attribute
from tpmhsm.wire.public import EccParms, Public, RsaParms
from tpmhsm.wire.structures import AsymScheme, SchemeHash

if TYPE_CHECKING:
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.wire.framing import Command

OAEP_HASHES = {"sha1": ALG.SHA1, "sha256": ALG.SHA256, "sha384": ALG.SHA384}
"""SHA-1 is what many senders use who choose nothing; in OAEP it is not what makes SHA-1 weak."""


def decryption_template(
    algorithm: str,
    policy: bytes | None,
    hash_name: str = "sha256",
    *,
    counts: bool = False,
    copied: bool = False,
) -> Public:
    """The public area that a new decryption key is asked for with; `counts` and `copied` as for
    signing keys.

    `hash_name` is OAEP's, also of its mask; on a curve it has no meaning. Raises UsageError.
    """
    rsa = algorithm.startswith("rsa")
    if (
        algorithm not in ALGORITHMS
        or hash_name not in OAEP_HASHES
        or (not rsa and hash_name != "sha256")
    ):
        raise UsageError(
            f"no such algorithm: {algorithm} with {hash_name}",
            hint=f"one of {', '.join(ALGORITHMS)}; RSA with OAEP of {', '.join(OAEP_HASHES)}",
        )
    scheme = AsymScheme(ALG.OAEP if rsa else ALG.ECDH, SchemeHash(OAEP_HASHES[hash_name]))
    kind, parameters, unique = key_parameters(algorithm, scheme)
    attributes = key_attributes(Attribute.DECRYPT, policy, counts=counts, copied=copied)
    return Public(kind, ALG.SHA256, attributes, policy or b"", parameters, unique)


def decrypts(public: Public) -> bool:
    """Whether a key decrypts rather than signs."""
    return bool(public.attributes & Attribute.DECRYPT)


def oaep_hash(public: Public) -> str:
    """The name of OAEP's hash; on a curve, where it has no meaning, "sha256". UsageError."""
    details = getattr(getattr(public.parameters, "scheme", None), "details", None)
    for name, number in OAEP_HASHES.items():
        if isinstance(details, SchemeHash) and details.hash_alg == number:
            return name
    raise UsageError("this key decrypts with a hash that is not used here")


def decrypt_command(key: Loaded, content: bytes) -> Command[Any]:
    """The command as it is always sent, so that approvers can compute its cpHash beforehand.

    `content`: for RSA a ciphertext as long as the modulus, with an empty label; on a curve the
    other's public key as SubjectPublicKeyInfo. UsageError for anything else.
    """
    if isinstance(key.public.parameters, RsaParms):
        return RSA_Decrypt(key.handle, *decrypt_parameters(key.public, content))
    return ECDH_ZGen(key.handle, derive_point(key.public, content))


def secret_of(key: Loaded, response: object) -> bytes:
    """The plaintext, or the common point's x coordinate, as long as the field (SEC 1 §3.3.1)."""
    message = getattr(response, "message", None)
    if isinstance(message, bytes):
        return message
    point = getattr(response, "out_point", None)
    if point is None:
        raise ParseError("the chip gave neither plaintext nor point")
    parameters = key.public.parameters
    assert isinstance(parameters, EccParms)  # noqa: S101 - it answered to ECDH_ZGen
    return bytes(point.x).rjust(FIELDS[parameters.curve][1], b"\0")


def open_secret(chip: Chip, key: Loaded, content: bytes, salt: SaltKey) -> bytes:
    """Decrypt by an open key: 2 commands, for the answer is encrypted. Errors as `decrypt_command`,
    ChipRefusedError.
    """
    session = start_hmac(chip, salt_key=salt, encrypt=True)
    session.last = True
    try:
        return secret_of(key, chip.send(decrypt_command(key, content), session))
    except ChipRefusedError:
        chip.flush(session.handle)
        raise
