"""The content of an encrypted message, with what the chip gave: RFC 5652, 5083, 5084, 5753, 3565.

Old ciphers are only undone here. A message in CBC mode is not authenticated: whoever carried it can
have changed it (EFAIL), which `is_authenticated` says.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Any

from tpmhsm.errors import ParseError, VerificationError
from tpmhsm.pki import der
from tpmhsm.pki.envelopes import CIPHERS, Envelope, Recipient
from tpmhsm.pki.pkcs12_crypto import algorithm

_KDFS = {
    "1.3.133.16.840.63.0.2": "SHA1",
    "1.3.132.1.11.0": "SHA224",
    "1.3.132.1.11.1": "SHA256",
    "1.3.132.1.11.2": "SHA384",
    "1.3.132.1.11.3": "SHA512",
    # with the cofactor, which is 1 on the curves of NIST
    "1.3.133.16.840.63.0.3": "SHA1",
    "1.3.132.1.14.0": "SHA224",
    "1.3.132.1.14.1": "SHA256",
    "1.3.132.1.14.2": "SHA384",
    "1.3.132.1.14.3": "SHA512",
}
_WRAPS = {
    "2.16.840.1.101.3.4.1.5": 16,
    "2.16.840.1.101.3.4.1.25": 24,
    "2.16.840.1.101.3.4.1.45": 32,
    "1.2.840.113549.1.9.16.3.6": 24,
}
_DES3_WRAP = "1.2.840.113549.1.9.16.3.6"


def is_authenticated(envelope: Envelope) -> bool:
    """Whether nobody on the way can have changed the content unnoticed."""
    return envelope.mac is not None


def check_openable(envelope: Envelope, recipient: Recipient) -> None:
    """ParseError, before the chip is asked, for a message that could not be opened afterwards."""
    oid = algorithm(envelope.cipher)[0]
    if oid not in CIPHERS or (oid.endswith((".6", ".26", ".46")) != is_authenticated(envelope)):
        raise ParseError(f"the content is encrypted in a way unknown here: {envelope.words}")
    if envelope.content is None:
        raise ParseError("the encrypted content is not in this file")
    if recipient.agreement:
        _agreement(recipient)


@der.complete("an encrypted message")
def open_envelope(envelope: Envelope, recipient: Recipient, secret: bytes) -> bytes:
    """The content. `secret`: for RSA the content's key, else the x coordinate that was agreed on.

    VerificationError when it does not open, ParseError as `check_openable`.
    """
    check_openable(envelope, recipient)
    key = _unwrapped(recipient, secret) if recipient.agreement else secret
    oid, parameters = algorithm(envelope.cipher)
    name, size = CIPHERS[oid]
    assert envelope.content is not None  # noqa: S101 - check_openable
    if len(key) != size:
        raise VerificationError(f"the key inside has {len(key)} bytes, {name} takes {size}")
    if envelope.mac is not None:
        return _gcm(envelope, key, parameters, envelope.content)
    return _cbc(name, key, parameters, envelope.content)


def _agreement(recipient: Recipient) -> tuple[str, int, bytes]:
    """The hash of the key derivation, the octets of the key that wraps, its AlgorithmIdentifier."""
    oid, wrap = algorithm(recipient.agreement)
    if oid not in _KDFS or not wrap:
        raise ParseError(f"the key is agreed on in a way unknown here: {oid}")
    wrap_oid = algorithm(wrap)[0]
    if wrap_oid not in _WRAPS:
        raise ParseError(f"the key is wrapped in a way unknown here: {wrap_oid}")
    return _KDFS[oid], _WRAPS[wrap_oid], wrap


def _unwrapped(recipient: Recipient, shared: bytes) -> bytes:
    """ANSI X9.63 key derivation over ECC-CMS-SharedInfo (RFC 5753 section 7.2), AES key wrap."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF

    hash_name, size, wrap = _agreement(recipient)
    user_key = recipient.user_key
    info = der.encode(
        der.SEQUENCE,
        wrap,
        b"" if user_key is None else der.encode(0xA0, der.encode(der.OCTET_STRING, user_key)),
        der.encode(0xA2, der.encode(der.OCTET_STRING, (size * 8).to_bytes(4, "big"))),
    )
    kek = X963KDF(getattr(hashes, hash_name)(), size, info).derive(shared)
    key = (_des3_unwrap if algorithm(wrap)[0] == _DES3_WRAP else _aes_unwrap)(
        kek, recipient.wrapped
    )
    if key is None:
        raise VerificationError(
            "what was agreed on does not open the message: it is for another key, or was changed",
            code="not-for-this-key",
        )
    return key


def _aes_unwrap(kek: bytes, wrapped: bytes) -> bytes | None:
    """RFC 3394; None when it does not open."""
    from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

    try:
        return aes_key_unwrap(kek, wrapped)
    except (InvalidUnwrap, ValueError):
        return None


def _des3_unwrap(kek: bytes, wrapped: bytes) -> bytes | None:
    """RFC 3217 section 3.2, what OpenSSL takes where nobody names a cipher."""
    from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
    from cryptography.hazmat.primitives.ciphers import Cipher, modes

    def decrypt(vector: bytes, data: bytes) -> bytes:
        return Cipher(TripleDES(kek), modes.CBC(vector)).decryptor().update(data)

    if len(wrapped) != 40:
        return None
    inner = decrypt(bytes.fromhex("4adda22c79e82105"), wrapped)[::-1]
    opened = decrypt(inner[:8], inner[8:])
    key, check = opened[:24], opened[24:]
    good = sha1(key, usedforsecurity=False).digest()[:8] == check
    return key if good else None


def _gcm(envelope: Envelope, key: bytes, parameters: bytes, content: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = der.octets(der.children(der.read_whole(parameters, lenient=True).content)[0])
    attributes = envelope.attributes  # signed over as SET OF, sent as [1]
    data = b"\x31" + attributes[1:] if attributes else None
    if len(envelope.mac or b"") != 16:
        raise ParseError("the MAC of this message is shortened: 16 bytes alone are taken")
    try:
        return AESGCM(key).decrypt(nonce, content + (envelope.mac or b""), data)
    except (InvalidTag, ValueError):
        raise VerificationError("the message was changed: its MAC does not hold") from None


def _cbc(name: str, key: bytes, parameters: bytes, content: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher, modes
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.padding import PKCS7

    vector = der.octets(der.read_whole(parameters, lenient=True))
    kind: Any = AES
    if name.startswith("3DES"):
        from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES

        kind = TripleDES
    try:
        decryptor = Cipher(kind(key), modes.CBC(vector)).decryptor()
        padded = decryptor.update(content) + decryptor.finalize()
        unpadder = PKCS7(kind.block_size).unpadder()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise VerificationError("the message does not open: it was changed or cut off") from None
