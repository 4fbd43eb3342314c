"""Encrypted messages: CMS EnvelopedData and AuthEnvelopedData (RFC 5652 section 6, RFC 5083), as
S/MIME mail has them, for whom they are, and what a chip's key is asked for to open them.

Key transport with RSAES-OAEP (RFC 3560) and key agreement on P-256 and P-384 (RFC 5753). What the
message says is decrypted in `envelope_crypto`, with what the chip gave.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.containers import content_info

_ENVELOPED, _AUTH_ENVELOPED = "1.2.840.113549.1.7.3", "1.2.840.113549.1.9.16.1.23"
_OAEP, _PKCS1 = "1.2.840.113549.1.1.7", "1.2.840.113549.1.1.1"
_MGF1, _LABEL = "1.2.840.113549.1.1.8", "1.2.840.113549.1.1.9"
_HASHES = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
CIPHERS = {
    "2.16.840.1.101.3.4.1.2": ("AES-128-CBC", 16),
    "2.16.840.1.101.3.4.1.22": ("AES-192-CBC", 24),
    "2.16.840.1.101.3.4.1.42": ("AES-256-CBC", 32),
    "2.16.840.1.101.3.4.1.6": ("AES-128-GCM", 16),
    "2.16.840.1.101.3.4.1.26": ("AES-192-GCM", 24),
    "2.16.840.1.101.3.4.1.46": ("AES-256-GCM", 32),
    "1.2.840.113549.3.7": ("3DES-CBC", 24),
}
"""Content encryption: the name, and the octets of the key."""

MAX_RECIPIENTS = 1000
_HEADERS = 1 << 16
"""Octets in which a mail says what it is; other text is not read as one."""
_SIZES = {65: "P-256", 97: "P-384"}
_PEM = ("CMS", "PKCS7", "PKCS #7 SIGNED DATA")


@dataclass(frozen=True)
class Recipient:
    """One recipient, by number from 1. `issuer` (DER Name) and `serial`, or `ski`, say who it is.

    `asked` is what the chip's key must do: decrypt this ciphertext, or agree with the public key of
    this SubjectPublicKeyInfo (DER); empty, with a `problem` in words, where no chip's key can.
    """

    number: int
    kind: str
    issuer: bytes
    serial: int
    ski: bytes
    asked: bytes
    oaep_hash: str = ""
    wrapped: bytes = b""
    agreement: bytes = b""
    user_key: bytes | None = None
    problem: str = ""

    @property
    def words(self) -> str:
        """'RSA, serial 1a2b of CN=Example CA'."""
        from tpmhsm.pki.names import format_dn_der

        who = f"key identifier {self.ski.hex()}" if self.ski else "nobody named"
        if self.issuer:
            try:
                who = f"serial {self.serial:x} of {format_dn_der(self.issuer)}"
            except ParseError:
                who = f"serial {self.serial:x} of somebody whose name cannot be read"
        return f"{self.kind}, {who}"


@dataclass(frozen=True)
class Envelope:
    """An encrypted message. `head` is all of it (DER) but the encrypted content; `cipher` the
    AlgorithmIdentifier, `content` the octets, None where they are not inside.
    """

    recipients: tuple[Recipient, ...]
    head: bytes
    cipher: bytes
    content: bytes | None
    mac: bytes | None = None
    attributes: bytes = b""

    @property
    def words(self) -> str:
        """How the content is encrypted: 'AES-256-CBC'."""
        from tpmhsm.pki.pkcs12_crypto import algorithm

        oid = algorithm(self.cipher)[0]
        return CIPHERS.get(oid, (oid, 0))[0]


def is_envelope(data: bytes) -> bool:
    """Whether a file is, or has in it, an encrypted message."""
    try:
        return content_info(message_der(data))[0] in (_ENVELOPED, _AUTH_ENVELOPED)
    except ParseError:
        return False


@der.complete("an encrypted message")
def read_envelope(data: bytes) -> Envelope:
    """Read a message: DER or BER, PEM, or S/MIME with its headers. ParseError."""
    kind, content = content_info(message_der(data))
    if kind not in (_ENVELOPED, _AUTH_ENVELOPED):
        raise ParseError("this CMS structure is no encrypted message")
    fields = _children(der.read_whole(content, lenient=True))
    at = 1 + (fields[1].tag == 0xA0)
    info = _children(fields[at + 1])
    inside = info[2] if len(info) > 2 else None
    short = der.encode(der.SEQUENCE, info[0].raw, info[1].raw)
    bare = [field.raw for field in fields]
    bare[at + 1] = short
    recipients = tuple(_recipients(fields[at]))
    tail = fields[at + 2 :]
    return Envelope(
        recipients=recipients,
        head=_wrapped(kind, bare),
        cipher=info[1].raw,
        content=der.octets(inside) if inside is not None else None,
        mac=_mac(tail) if kind == _AUTH_ENVELOPED else None,
        attributes=next((field.raw for field in tail if field.tag == 0xA1), b"")
        if kind == _AUTH_ENVELOPED
        else b"",
    )


def _wrapped(kind: str, fields: list[bytes]) -> bytes:
    inner = der.encode(0xA0, der.encode(der.SEQUENCE, *fields))
    return der.encode(der.SEQUENCE, der.encode_oid(kind), inner)


def _mac(tail: list[der.Element]) -> bytes:
    found = [field for field in tail if field.tag == der.OCTET_STRING]
    if len(found) != 1:
        raise ParseError("this message is to be authenticated, and has no MAC")
    return der.octets(found[0])


def message_der(data: bytes) -> bytes:
    """The DER or BER of a message, out of PEM or S/MIME. ParseError when there is none."""
    from tpmhsm.pki.load import bare_base64, pem_blocks, plain_text

    if data[:1] == b"\x30":
        return data
    text = plain_text(data)
    if blocks := [block for block in pem_blocks(text) if block.label in _PEM]:
        return blocks[0].der
    return bare_base64(text) or _from_mail(data)


def _from_mail(data: bytes) -> bytes:
    """The body of an S/MIME part (RFC 8551 section 3.3), with whatever headers stand before."""
    from email import message_from_bytes

    if b"pkcs7-mime" not in data[:_HEADERS].lower():
        raise ParseError("this is no encrypted message: neither CMS nor S/MIME")
    for part in message_from_bytes(data).walk():
        if part.get_content_type() in ("application/pkcs7-mime", "application/x-pkcs7-mime"):
            found = part.get_payload(decode=True)
            if isinstance(found, bytes):
                return found
    raise ParseError("this is no encrypted message: neither CMS nor S/MIME")


def _children(element: der.Element) -> list[der.Element]:
    return der.children(element.content, lenient=True)


# ── recipients ───────────────────────────────────────────────────────────────


def _recipients(element: der.Element) -> Iterator[Recipient]:
    if element.tag != der.SET:
        raise ParseError("this message names no recipients")
    number = 0
    for one in _children(element):
        for found in _of(one):
            number += 1
            if number > MAX_RECIPIENTS:
                raise ParseError(f"a message with more than {MAX_RECIPIENTS:,} recipients")
            yield Recipient(number, **found)


def _of(one: der.Element) -> Iterator[dict[str, Any]]:
    if one.tag == der.SEQUENCE:
        yield _transport(_children(one))
    elif one.tag == 0xA1:
        yield from _agreement(_children(one))
    else:
        words = {0xA2: "a key that was exchanged before", 0xA3: "a password"}.get(one.tag, "other")
        yield {**_nobody(), "kind": words, "problem": "not for an RSA or elliptic curve key"}


def _nobody() -> dict[str, Any]:
    return {"issuer": b"", "serial": 0, "ski": b"", "asked": b""}


def _who(element: der.Element) -> dict[str, Any]:
    """IssuerAndSerialNumber, [0] SubjectKeyIdentifier, or [0] RecipientKeyIdentifier."""
    if element.tag == der.SEQUENCE:
        issuer, serial = _children(element)
        number = int.from_bytes(serial.content, "big", signed=True)
        return {**_nobody(), "issuer": issuer.raw, "serial": number}
    if element.tag == 0x80:
        return {**_nobody(), "ski": element.content}
    return {**_nobody(), "ski": _children(element)[0].content}


def _transport(fields: list[der.Element]) -> dict[str, Any]:
    """KeyTransRecipientInfo: version, recipient, algorithm, encrypted key."""
    from tpmhsm.pki.pkcs12_crypto import algorithm

    found = {**_who(fields[1]), "kind": "RSA"}
    oid, parameters = algorithm(fields[2].raw)
    if oid == _PKCS1:
        problem = "its key is encrypted by PKCS #1 v1.5, which keys of the chip do not open"
        return {**found, "problem": problem}
    if oid != _OAEP:
        return {**found, "problem": f"its key is encrypted in a way unknown here: {oid}"}
    name, problem = _oaep(parameters)
    asked = b"" if problem else der.octets(fields[3])
    return {**found, "asked": asked, "oaep_hash": name, "problem": problem}


def _oaep(parameters: bytes) -> tuple[str, str]:
    """The hash of RSAES-OAEP-params (RFC 4055 section 4.1), and what the chip could not do."""
    from tpmhsm.pki.pkcs12_crypto import algorithm

    fields = _children(der.read_whole(parameters, lenient=True)) if parameters else []
    given = {field.tag: field.content for field in fields}
    name = mask = "sha1"
    if 0xA0 in given:
        name = _hash(algorithm(given[0xA0])[0])
    if 0xA1 in given:
        oid, inner = algorithm(given[0xA1])
        mask = _hash(algorithm(inner)[0]) if oid == _MGF1 else oid
    if name != mask:
        return name, f"OAEP with {name} and a mask by {mask}: the chip takes one hash for both"
    if 0xA2 in given and _children(der.read_whole(algorithm(given[0xA2])[1]))[:1]:
        return name, "OAEP with a label"
    return name, ""


def _hash(oid: str) -> str:
    return _HASHES.get(oid, oid)


def _agreement(fields: list[der.Element]) -> Iterator[dict[str, Any]]:
    """KeyAgreeRecipientInfo: version, originator, [user keying material], algorithm, keys."""
    originator = _children(fields[1])[0]
    at = 2 + (fields[2].tag == 0xA1)
    user_key = der.octets(_children(fields[2])[0]) if at == 3 else None
    spki, problem = _originator(originator)
    for one in _children(fields[at + 1]):
        recipient, key = _children(one)
        yield {
            **_who(recipient),
            "kind": "ECDH",
            "asked": spki,
            "wrapped": der.octets(key),
            "agreement": fields[at].raw,
            "user_key": user_key,
            "problem": problem,
        }


def _originator(element: der.Element) -> tuple[bytes, str]:
    """The sender's public key of the moment as SubjectPublicKeyInfo, or why there is none."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if element.tag != 0xA1:
        return b"", "the sender's key is not in the message (static Diffie-Hellman)"
    point = _children(element)[1].content[1:]
    if len(point) not in _SIZES:
        return b"", "the sender's key is on another curve than P-256 and P-384"
    curve = ec.SECP256R1() if len(point) == 65 else ec.SECP384R1()
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
    except ValueError:
        return b"", f"the sender's key is no point of {_SIZES[len(point)]}"
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), ""
