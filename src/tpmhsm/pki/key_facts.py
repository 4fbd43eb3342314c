"""What a key file is, never what is secret in it: kind, size, whether it is encrypted.

RFC 5208, 5915, 8017 (private keys), RFC 4253 and OpenSSH's PROTOCOL.key and PROTOCOL.certkeys.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.keys import describe_spki, sha256_hex, spki_der

_OPENSSH = b"openssh-key-v1\0"
SSH_TYPES = (b"ssh-", b"ecdsa-sha2-", b"sk-ssh-", b"sk-ecdsa-sha2-")


def describe_public_key(raw: bytes) -> dict[str, Any]:
    """Facts of a SubjectPublicKeyInfo or an RSAPublicKey (RFC 8017 A.1.1), DER."""
    parts = der.children(der.read_whole(raw, lenient=True).content, lenient=True)
    if [part.tag for part in parts] == [der.INTEGER, der.INTEGER]:
        algorithm = der.encode(
            der.SEQUENCE, der.encode_oid("1.2.840.113549.1.1.1"), der.encode(der.NULL)
        )
        raw = der.encode(der.SEQUENCE, algorithm, der.encode(der.BIT_STRING, b"\0", raw))
    facts = describe_spki(raw)
    return {"key": "public", "alg": facts["alg"].lower(), "public": facts}


def describe_private_key(raw: bytes) -> dict[str, Any]:
    """Facts of a private key that is not encrypted: those of its public half, if it loads."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    found: dict[str, Any] = {"key": "private, NOT encrypted"}
    try:
        public: Any = load_der_private_key(raw, None).public_key()
        found["public"] = describe_spki(spki_der(public))
    except (ValueError, TypeError, UnsupportedAlgorithm, OverflowError):
        found["problem"] = "the key in it cannot be used here"
    return found


@der.complete("an encrypted private key")
def describe_encrypted_key(raw: bytes) -> dict[str, Any]:
    """Facts of an encrypted PKCS #8 key: how it is encrypted."""
    from tpmhsm.pki.pkcs12_crypto import describe_algorithm

    method = der.children(der.read_whole(raw, lenient=True).content, lenient=True)[0]
    return {"key": "private, encrypted", "encryption": describe_algorithm(method.raw)}


def describe_encrypted_pem_key(_raw: bytes) -> dict[str, Any]:
    """Facts of a key encrypted in OpenSSL's old way (RFC 1421): no more is in clear."""
    return {"key": "private, encrypted", "encryption": "OpenSSL's old way (Proc-Type: 4,ENCRYPTED)"}


def describe_openssh_key(raw: bytes) -> dict[str, Any]:
    """Facts of an OpenSSH private key: encrypted or not, and its public half."""
    if not raw.startswith(_OPENSSH):
        raise ParseError("this is no OpenSSH private key")
    cipher, at = _string(raw, len(_OPENSSH))
    kdf, at = _string(raw, at)
    _, at = _string(raw, at)
    public, _ = _string(raw, at + 4)
    encrypted = cipher != b"none"
    return {
        "key": "private, encrypted" if encrypted else "private, NOT encrypted",
        "encryption": f"{_text(cipher)}, {_text(kdf)}" if encrypted else "",
        **_ssh_blob(public),
    }


def is_ssh_line(data: bytes) -> bool:
    """Whether a file is one line of `authorized_keys`."""
    return data.startswith(SSH_TYPES) and len(data.split(None, 2)) >= 2


def describe_ssh_line(data: bytes) -> dict[str, Any]:
    """Facts of an SSH public key or certificate, as a line of text (RFC 4253, 6.6)."""
    words = data.split(None, 2)
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError, IndexError) as error:
        raise ParseError(f"this SSH public key is no base64: {error}") from error
    found = {"key": "public", **_ssh_blob(blob)}
    if found["ssh_type"] != _text(words[0]):
        raise ParseError("this SSH public key is of another type inside than outside")
    comment = words[2].split(b"\n")[0] if len(words) > 2 else b""
    found["comment"] = comment.decode("utf-8", "replace").strip()
    if "-cert-v01@" in found["ssh_type"]:
        found |= _ssh_certificate(data)
    return found


def _ssh_blob(blob: bytes) -> dict[str, Any]:
    kind, _ = _string(blob, 0)
    digest = base64.b64encode(bytes.fromhex(sha256_hex(blob))).rstrip(b"=").decode()
    return {"ssh_type": _text(kind), "fingerprint": f"SHA256:{digest}"}


def _ssh_certificate(data: bytes) -> dict[str, Any]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import (
        SSHCertificate,
        load_ssh_public_identity,
    )

    try:
        loaded = load_ssh_public_identity(data)
    except (ValueError, UnsupportedAlgorithm, OverflowError) as error:
        return {"problem": f"the SSH certificate does not decode: {error}"}
    if not isinstance(loaded, SSHCertificate):
        return {}
    return {
        "certificate": {
            "type": loaded.type.name.lower(),
            "key_id": loaded.key_id.decode("utf-8", "replace"),
            "serial": loaded.serial,
            "principals": [one.decode("utf-8", "replace") for one in loaded.valid_principals],
            "valid_after": loaded.valid_after,
            "valid_before": loaded.valid_before,
        }
    }


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    """An SSH string and the offset after it (RFC 4251, 5)."""
    size = int.from_bytes(data[at : at + 4], "big")
    end = at + 4 + size
    if at + 4 > len(data) or end > len(data):
        raise ParseError("this SSH key is cut off")
    return data[at + 4 : end], end


def _text(data: bytes) -> str:
    return data[:100].decode("ascii", "replace")
