"""Full CRLs: putting the signed part together from stored entries, and reading it again.

RFC 5280 section 5. A full CRL that covers everything its issuer certified has no
issuingDistributionPoint (5.2.5; TLS Baseline Requirements 7.2.2.1 want it in partitions alone).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.pki import der
from tpmhsm.pki.deferred import Unsigned
from tpmhsm.pki.facts import RawExtension, raw_extensions
from tpmhsm.pki.tbs import read_time

AKI, CRL_NUMBER = "2.5.29.35", "2.5.29.20"

MAX_NUMBER = 1 << 159
"""CRL numbers are below this: at most 20 octets (RFC 5280, 5.2.3)."""

_TIMES = (der.UTC_TIME, der.GENERALIZED_TIME)


@dataclass(frozen=True)
class CrlHead:
    """All of a CRL but its entries. `issuer`, `algorithm` are DER as they will stand in it, `ski`
    the issuer's subject key identifier.
    """

    issuer: bytes
    algorithm: bytes
    ski: bytes
    number: int
    this_update: datetime
    next_update: datetime


def assemble_tbs(head: CrlHead, entries: Iterable[bytes]) -> bytes:
    """The TBSCertList (v2) over entries as DER, or over chunks of them. UsageError for a number
    or dates that no CRL may have.
    """
    if not 0 <= head.number < MAX_NUMBER:
        raise UsageError("a CRL number is below 2^159 (RFC 5280, 5.2.3)")
    if head.next_update <= head.this_update:
        raise UsageError("the next update comes before this one")
    body = bytearray()
    for piece in entries:
        body += piece
    key_id = der.encode(der.SEQUENCE, der.encode(0x80, head.ski))
    extensions = (
        der.encode_extension(AKI, key_id),
        der.encode_extension(CRL_NUMBER, der.encode_integer(head.number)),
    )
    before = b"".join(
        (
            der.encode_integer(1),
            head.algorithm,
            head.issuer,
            der.encode_time(head.this_update),
            der.encode_time(head.next_update),
        )
    )
    revoked = der.header(der.SEQUENCE, len(body)) if body else b""
    after = der.encode(0xA0, der.encode(der.SEQUENCE, *extensions))
    size = len(before) + len(revoked) + len(body) + len(after)
    return b"".join((der.header(der.SEQUENCE, size), before, revoked, body, after))


def complete_crl(
    tbs: bytes, algorithm: bytes, public_key: Any, hash_name: str, signature: bytes
) -> bytes:
    """DER of the CRL. VerificationError when the signature does not hold over these bytes."""
    return Unsigned(tbs, algorithm, public_key, hash_name, "crl").complete(signature)


class TbsCrl(NamedTuple):
    """The fields of a TBSCertList; `entries` is the undecoded content of revokedCertificates."""

    version: int
    algorithm: bytes
    issuer: bytes
    this_update: datetime
    next_update: datetime | None
    entries: bytes
    extensions: list[RawExtension]

    @property
    def number(self) -> int | None:
        """The CRL number, None when it has none. ParseError for what is no number."""
        for item in self.extensions:
            if item.oid == CRL_NUMBER:
                element = der.read_whole(item.value)
                if element.tag != der.INTEGER or not element.content:
                    raise ParseError("a CRL number that is no INTEGER")
                return int.from_bytes(element.content, "big", signed=True)
        return None

    @property
    def aki(self) -> bytes:
        """The key identifier of its issuer's key, empty when it names none."""
        for item in self.extensions:
            if item.oid == AKI:
                parts = der.children(der.read_whole(item.value).content)
                return next((part.content for part in parts if part.tag == 0x80), b"")
        return b""


def read_tbs_crl(data: bytes) -> TbsCrl:
    """The fields of TBSCertList bytes. ParseError when they are anything else."""
    outer = der.read_whole(data)
    parts = der.children(outer.content) if outer.tag == der.SEQUENCE else []
    version = 1
    if parts and parts[0].tag == der.INTEGER:
        version = int.from_bytes(parts.pop(0).content, "big", signed=True) + 1
    tags = [part.tag for part in parts]
    if tags[:2] != [der.SEQUENCE, der.SEQUENCE] or tags[2:3] == [] or tags[2] not in _TIMES:
        raise ParseError("this is no TBSCertList: its fields are of other types")
    rest = parts[3:]
    next_update = read_time(rest.pop(0)) if rest and rest[0].tag in _TIMES else None
    entries = rest.pop(0).content if rest and rest[0].tag == der.SEQUENCE else b""
    extensions: list[RawExtension] = []
    if rest and rest[0].tag == 0xA0:
        extensions = raw_extensions(der.read_whole(rest.pop(0).content).content)
    if rest:
        raise ParseError("this is no TBSCertList: unknown fields follow")
    return TbsCrl(
        version,
        parts[0].raw,
        parts[1].raw,
        read_time(parts[2]),
        next_update,
        entries,
        extensions,
    )
