"""Plain data to be signed: what it looks like, and what only looks like plain data."""

from __future__ import annotations

import re
from hashlib import sha256

from tpmhsm.approval.content import Content, Flag, Listing, Row
from tpmhsm.approval.memory import Memory
from tpmhsm.approval.request import Request
from tpmhsm.approval.screen import groups_of
from tpmhsm.attest.statements import ChipKey
from tpmhsm.errors import ApprovalRefusedError
from tpmhsm.pki.disguise import is_text, signed_structure
from tpmhsm.policy.tagged import STATEMENT_TAGS

DIGEST_SIZES = (20, 28, 32, 48, 64)
_TPM_GENERATED = b"\xffTCG"
_DUMP = 24
SHOWN_BYTES = 4096
"""So much is shown of a file that is no text."""

_HEX = b"0123456789abcdefABCDEF"
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+")
_DIGEST_PREFIX = re.compile(rb"^(?:0x|sha-?[0-9]{1,3}[:=-] ?)", re.IGNORECASE)

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
        Row("Signed", f"with {key.words}", "KEY"),
    )
    flags = []
    if memory.pinned_key(key.name) is None:
        words = "you have never approved for this key; make sure it is no CA's"
        flags.append(Flag("NEW KEY", words))
    flags += _unread_flags(data)
    return Content("a file", rows, tuple(flags), (_listing(data),), facts={"size": str(len(data))})


def _unread_flags(data: bytes) -> list[Flag]:
    """What the tool does not decode, and what of it is not even shown."""
    if is_text(data):
        return []
    flags = [Flag("NOT TEXT", "nothing is decoded: look at the file itself")]
    if (rest := len(data) - SHOWN_BYTES) > 0:
        words = f"the last {rest:,} bytes; only SHA-256 identifies them"
        flags.append(Flag("NOT SHOWN", words))
    return flags


def _listing(data: bytes) -> Listing:
    """All of a text, line by line; of other data the first bytes in hex."""
    if not is_text(data):
        shown = data[:SHOWN_BYTES]
        lines = [
            f"{i:04x}  {groups_of(shown[i : i + _DUMP].hex(), 4)}"
            for i in range(0, len(shown), _DUMP)
        ]
        size = "all" if len(shown) == len(data) else f"the first {len(shown):,}"
        return Listing(f"{size} bytes in hex", tuple(lines))
    end = _line_end(data)
    lines = data.decode().removesuffix(end).split(end)
    return Listing(f"all {len(lines):,} lines", tuple(_marked(line) for line in lines))


def _line_end(data: bytes) -> str:
    """CR LF where every line ends so; else a CR is shown as any control character is."""
    return "\r\n" if data.count(b"\r\n") == data.count(b"\n") > 0 else "\n"


def _marked(line: str) -> str:
    r"""The line with spaces at its end, which no screen shows, as \u{20}."""
    text = line.rstrip(" ")
    return text + r"\u{20}" * (len(line) - len(text))


def check_plain(data: bytes) -> None:
    """ApprovalRefusedError for what is never approved as a file: the host need not even ask."""
    _refuse_structures(data)
    _refuse_digests(data)


def _refuse_structures(data: bytes) -> None:
    what = signed_structure(data)
    if what is not None:
        raise ApprovalRefusedError(
            f"this file is {what}: as plain data nobody would see what it says",
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
    if _is_raw_digest(data) or _is_written_digest(data) or _is_digest_info(data):
        raise ApprovalRefusedError(
            "this is a bare digest: it shows nothing of what would be signed",
            code="bare-digest",
            hint="send the file itself; the tool hashes it",
        )


def _is_raw_digest(data: bytes) -> bool:
    if is_text(data):
        return False
    ends = (b"", b"\n", b"\r\n")
    return any(data.endswith(end) and len(data) - len(end) in DIGEST_SIZES for end in ends)


def _is_written_digest(data: bytes) -> bool:
    """A digest in hex (colons or spaces between octets as well) or base64, and nothing else."""
    text = _DIGEST_PREFIX.sub(b"", data.strip())
    octets = text.replace(b":", b"").replace(b" ", b"").replace(b"\n", b"")
    if len(octets) in {2 * size for size in DIGEST_SIZES} and not octets.strip(_HEX):
        return True
    word = text.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    sizes = {-(-size * 4 // 3) for size in DIGEST_SIZES}
    return len(word) in sizes and _BASE64.fullmatch(word) is not None


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


def _kind_of(data: bytes) -> str:
    named = next((name for magic, name in _MAGIC if data.startswith(magic)), None)
    if named:
        return named
    if not is_text(data):
        return "binary"
    ends = ", lines end in CR LF" if _line_end(data) == "\r\n" else ""
    return f"text{ends}" + ("" if data.endswith(b"\n") else ", no line end at its end")
