"""A wrapped key as other programs read it: TSS2 PRIVATE KEY, in PEM.

draft-woodhouse-cert-best-practice (the "TPM 2.0 key file" format), which tpm2-tools, the OpenSSL
providers and GnuTLS know:

    TPMKey ::= SEQUENCE {
        type       OBJECT IDENTIFIER,                -- 2.23.133.10.1.3, loadable key
        emptyAuth  [0] EXPLICIT BOOLEAN OPTIONAL,
        policy     [1] …, secret [2] …, authPolicy [3] … OPTIONAL,   -- none of them here
        parent     INTEGER,                          -- a persistent handle
        pubkey     OCTET STRING,                     -- TPM2B_PUBLIC
        privkey    OCTET STRING }                    -- TPM2B_PRIVATE
"""

from __future__ import annotations

PEM_LABEL = "TSS2 PRIVATE KEY"

_LOADABLE_KEY = bytes.fromhex("06066781050a0103")
_EMPTY_AUTH = bytes.fromhex("a0030101ff")


def loadable_key(parent: int, public: bytes, private: bytes) -> bytes:
    """DER of an open key. `public` is a TPMT_PUBLIC, `private` the content of a TPM2B_PRIVATE."""
    body = (
        _LOADABLE_KEY
        + _EMPTY_AUTH
        + _der(0x02, parent.to_bytes(5, "big"))  # a leading zero: the handle is no negative number
        + _der(0x04, _sized(public))
        + _der(0x04, _sized(private))
    )
    return _der(0x30, body)


def _sized(data: bytes) -> bytes:
    """A TPM2B: 16 bits of length, then the bytes."""
    return len(data).to_bytes(2, "big") + data


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content
