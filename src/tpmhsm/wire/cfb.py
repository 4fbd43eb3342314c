"""AES in CFB mode, for parameter encryption (TCG TPM 2.0 Library Part 1 §21.3).

`cryptography` is moving CFB out of the way, because it is a poor choice for anything new; TPMs have
no other. It is made here from the block cipher.
"""

from __future__ import annotations

from typing import Any


def _block_cipher(key: bytes) -> Any:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    # CFB below is made of single blocks: nothing here is encrypted in ECB mode.
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305


def cfb_encrypt(key: bytes, iv: bytes, data: bytes) -> bytes:
    """AES in CFB mode with whole blocks of feedback (SP 800-38A §6.3), no padding."""
    block = _block_cipher(key)
    out, previous = b"", iv
    for at in range(0, len(data), 16):
        previous = _xor(data[at : at + 16], block.update(previous))
        out += previous
    return out


def cfb_decrypt(key: bytes, iv: bytes, data: bytes) -> bytes:
    """The inverse of `cfb_encrypt`."""
    block = _block_cipher(key)
    out, previous = b"", iv
    for at in range(0, len(data), 16):
        part = data[at : at + 16]
        out += _xor(part, block.update(previous))
        previous = part
    return out


def _xor(data: bytes, stream: bytes) -> bytes:
    return bytes([a ^ b for a, b in zip(data, stream, strict=False)])
