"""Plain data to be signed: what it looks like, and what only looks like plain data."""

from __future__ import annotations

from hashlib import sha256

from tpmhsm.approval.content import Content, Flag, Row
from tpmhsm.approval.evidence import ChipKey
from tpmhsm.approval.identity import STATEMENT_TAGS
from tpmhsm.approval.memory import Memory
from tpmhsm.approval.request import Request
from tpmhsm.approval.screen import escape
from tpmhsm.errors import ApprovalRefusedError

DIGEST_SIZES = (20, 28, 32, 48, 64)
_TPM_GENERATED = b"\xffTCG"
_PREVIEW = 120

_STRUCTURES = {
    "certificate": "a certificate",
    "crl": "a certificate revocation list",
    "ocsp": "an OCSP response",
    "csr": "a certificate signing request",
}
_MAGIC = (
    (b"%PDF-", "PDF document"),
    (b"PK\x03\x04", "ZIP archive (or Office, JAR, APK)"),
    (b"\x7fELF", "ELF program"),
    (b"MZ", "Windows program"),
    (b"\x1f\x8b", "gzip archive"),
    (b"-----BEGIN", "PEM"),
)


def read_plain(request: Request, key: ChipKey, memory: Memory) -> Content:
    """Decode a file. ApprovalRefusedError for certificates and the like, for bare digests, and for
    anything by a key that is known to certify.
    """
    data = request.content
    check_plain(data)
    if any(one.ca for one in memory.certified(sha256(key.spki).digest())):
        raise ApprovalRefusedError(
            "this key belongs to an authority: it signs certificates, CRLs and OCSP data, no files",
            code="authority-key",
        )
    rows = (
        Row("Size", f"{len(data):,} bytes"),
        Row("Type", _kind_of(data)),
        Row("Begins", _preview(data)),
        Row("Signed", f"with {key.words}", "KEY"),
    )
    flags = (
        () if _is_text(data) else (Flag("NOT TEXT", "look at the file itself: nothing is decoded"),)
    )
    return Content("a file", rows, flags, facts={"size": str(len(data))})


def check_plain(data: bytes) -> None:
    """ApprovalRefusedError for what is never approved as a file: the host need not even ask."""
    _refuse_structures(data)
    _refuse_digests(data)


def _refuse_structures(data: bytes) -> None:
    from tpmhsm.pki.tbs import structure_kind

    kind = structure_kind(data)
    if kind is not None:
        raise ApprovalRefusedError(
            f"this file is {_STRUCTURES.get(kind, kind)}, or the signed part of one:"
            " as plain data nobody would see what it says",
            code="structure-as-data",
        )
    if data.startswith(_TPM_GENERATED):
        raise ApprovalRefusedError(
            "this file looks like a statement by the chip itself (TPMS_ATTEST)",
            code="attestation-as-data",
        )
    if any(data.startswith(tag.encode()) for tag in STATEMENT_TAGS):
        raise ApprovalRefusedError(
            "this file looks like an approver's statement", code="statement-as-data"
        )


def _refuse_digests(data: bytes) -> None:
    bare = len(data) in DIGEST_SIZES and not _is_text(data)
    if bare or _is_hex_digest(data) or _is_digest_info(data):
        raise ApprovalRefusedError(
            "this is a bare digest: it shows nothing of what would be signed",
            code="bare-digest",
            hint="send the file itself; the tool hashes it",
        )


def _is_hex_digest(data: bytes) -> bool:
    text = data.strip()
    return (
        len(text) // 2 in DIGEST_SIZES
        and len(text) % 2 == 0
        and not text.strip(b"0123456789abcdefABCDEF")
    )


def _is_digest_info(data: bytes) -> bool:
    """DigestInfo ::= SEQUENCE { AlgorithmIdentifier, OCTET STRING } (RFC 8017, 9.2)."""
    from tpmhsm.errors import ParseError
    from tpmhsm.pki import der

    try:
        outer = der.read_whole(data)
        parts = der.children(outer.content) if outer.tag == der.SEQUENCE else []
    except ParseError:
        return False
    return [part.tag for part in parts] == [der.SEQUENCE, der.OCTET_STRING] and len(
        parts[1].content
    ) in DIGEST_SIZES


def _is_text(data: bytes) -> bool:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\n\r\t" for c in text)


def _kind_of(data: bytes) -> str:
    named = next((name for magic, name in _MAGIC if data.startswith(magic)), None)
    if named:
        return named
    return f"text, {len(data.splitlines()):,} lines" if _is_text(data) else "binary"


def _preview(data: bytes) -> str:
    if _is_text(data):
        shown = data.decode()
        return escape(shown[:_PREVIEW]) + ("…" if len(shown) > _PREVIEW else "")
    return data[:32].hex() + ("…" if len(data) > 32 else "")
