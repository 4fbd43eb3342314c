"""What bytes look like that are nothing known here: their first ones, and what those often are."""

from __future__ import annotations

_MAGIC = (
    (b"\xfe\xed\xfe\xed", "a Java keystore (JKS); keytool -importkeystore makes PKCS#12 of it"),
    (b"\xce\xce\xce\xce", "a Java keystore (JCEKS); keytool -importkeystore makes PKCS#12 of it"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program of Windows"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"(\xb5/\xfd", "a zstd archive"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a picture (PNG)"),
    (b"\xff\xd8\xff", "a picture (JPEG)"),
    (b"SQLite format 3", "an SQLite database"),
    (b"SSHSIG", "an SSH signature"),
    (b"Entrust", "a keystore"),
    (b"<?xml", "XML"),
    (b"<", "HTML or XML"),
    (b"{", "JSON"),
    (b"[", "JSON"),
    (b"\x30", "ASN.1, perhaps damaged"),
)


def looks_like(data: bytes) -> str:
    """`it begins with 7f454c46 … and looks like a program`."""
    begins = f"it begins with {data[:8].hex(' ')}"
    for magic, words in _MAGIC:
        if data.startswith(magic):
            return f"{begins} and looks like {words}"
    if not data.strip(b"\0"):
        return f"it is {len(data)} zero bytes"
    text = _text(data[:4096])
    if text is None:
        return f"{begins} and looks like no kind of file known here"
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return f"it is text that begins with {first[:40]!r}"


def _text(data: bytes) -> str | None:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(data) - 4 or not error.start:
            return None
        text = data[: error.start].decode("utf-8-sig")
    return None if any(c < " " and c not in "\t\r\n\f" for c in text) else text
