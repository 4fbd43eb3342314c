"""What stands before an EK certificate in NV, and where certificates end.

TCG PC Client Specific Implementation Specification 1.21, section 7.3.2 (headers).
"""

from __future__ import annotations

from tpmhsm.errors import ParseError


def skip_header(data: bytes) -> tuple[int, list[str]]:
    """Where the certificate begins, and in words what stands before it. ParseError for a header
    that says that the certificate is not whole.
    """
    if data[:2] == b"\x10\x01":  # TCG_TAG_PCCLIENT_STORED_CERT, type, size, and mostly FULL_CERT
        if data[2:3] != b"\0":
            raise ParseError("a stored certificate that is not whole: its type is not 00")
        begin = 7 if data[5:7] == b"\x10\x02" else 5
        if int.from_bytes(data[3:5], "big") > len(data) - 5:
            raise ParseError("a stored certificate that is cut off: its header says a larger size")
        return begin, ["the TCG's header (1001) stands before it"]
    if data[:2] == b"\x10\x02":
        return 2, ["the TCG's header (1002) stands before it"]
    for size in (2, 4):
        for length in (int.from_bytes(data[:size], "big"), int.from_bytes(data[:size], "little")):
            if 100 < length <= len(data) - size and data[size : size + 2] == b"\x30\x82":
                return size, [f"its length in {size} bytes stands before it"]
    return 0, []


def cut_certificates(data: bytes) -> tuple[bytes, ...]:
    """The certificates in what a chip keeps, by their own DER lengths; padding behind is left out.

    Each is a SEQUENCE of 256 to 65,535 bytes. Empty when there is none.
    """
    try:
        at, _ = skip_header(data)
    except ParseError:
        return ()
    found = []
    while data[at : at + 2] == b"\x30\x82":
        end = at + 4 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end > len(data) or end - at < 4 + 256:
            break
        found.append(data[at:end])
        at = end
    return tuple(found)
