"""Certificates that break rules, one each, put together by hand. Their signatures are nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from tpmhsm.pki import der

OID_CN, OID_C = "2.5.4.3", "2.5.4.6"
ALGORITHM = der.encode(der.SEQUENCE, der.encode_oid("1.2.840.10045.4.3.2"))


def value(oid: str, text: bytes, tag: int = der.UTF8_STRING) -> bytes:
    return der.encode(der.SEQUENCE, der.encode_oid(oid), der.encode(tag, text))


def name(*rdns: tuple[bytes, ...]) -> bytes:
    return der.encode(der.SEQUENCE, *(der.encode(der.SET, *rdn) for rdn in rdns))


def extension(oid: str, content: bytes, criticality: bytes = b"") -> bytes:
    octets = der.encode(der.OCTET_STRING, content)
    return der.encode(der.SEQUENCE, der.encode_oid(oid), criticality, octets)


def utc(text: bytes) -> bytes:
    return der.encode(der.UTC_TIME, text)


def full(text: bytes) -> bytes:
    return der.encode(der.GENERALIZED_TIME, text)


TRUE, FALSE = (der.encode(der.BOOLEAN, octet) for octet in (b"\xff", b"\0"))
NAMES = extension("2.5.29.17", der.encode(der.SEQUENCE, der.encode(0x82, b"a.example")))
POINT = bytes.fromhex(  # the base point of P-256: any key will do
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)


@dataclass(frozen=True)
class Odd:
    """A certificate whose fields are DER, and may be anything."""

    version: bytes = der.encode(0xA0, der.encode_integer(2))
    serial: bytes = der.encode_integer(77)
    algorithm: bytes = ALGORITHM
    issuer: bytes = field(default=name((value(OID_CN, b"Issuer"),)))
    begin: bytes = utc(b"260101000000Z")
    end: bytes = utc(b"280101000000Z")
    subject: bytes = field(default=name((value(OID_CN, b"Subject"),)))
    key: bytes = der.encode(
        der.SEQUENCE,
        der.encode(
            der.SEQUENCE, der.encode_oid("1.2.840.10045.2.1"), der.encode_oid("1.2.840.10045.3.1.7")
        ),
        der.encode(der.BIT_STRING, b"\0", POINT),
    )
    extensions: tuple[bytes, ...] = (NAMES,)
    more: bytes = b""
    signature: bytes = der.encode(der.BIT_STRING, b"\0\x30\x06\x02\x01\x01\x02\x01\x01")

    def raw(self) -> bytes:
        listed = der.encode(0xA3, der.encode(der.SEQUENCE, *self.extensions))
        tbs = der.encode(
            der.SEQUENCE,
            self.version,
            self.serial,
            self.algorithm,
            self.issuer,
            der.encode(der.SEQUENCE, self.begin, self.end),
            self.subject,
            self.key,
            self.more,
            listed if self.extensions else b"",
        )
        return der.encode(der.SEQUENCE, tbs, ALGORITHM, self.signature)


def _long(element: bytes) -> bytes:
    """An element of fewer than 128 octets with its length in two octets: BER."""
    return element[:1] + b"\x81" + element[1:]


ODD: dict[str, tuple[Odd, str]] = {
    "serial negative": (Odd(serial=der.encode_integer(-5)), "negative"),
    "serial zero": (Odd(serial=der.encode_integer(0)), "zero"),
    "serial long": (Odd(serial=der.encode_integer(1 << 199)), "26 octets"),
    "serial padded": (Odd(serial=b"\x02\x02\0\x05"), "not strict DER"),
    "serial empty": (Odd(serial=b"\x02\0"), "empty"),
    "version 1 with extensions": (Odd(version=b""), "version 1 with extensions"),
    "version 1 written out": (Odd(version=der.encode(0xA0, der.encode_integer(0))), "written out"),
    "version 9": (Odd(version=der.encode(0xA0, der.encode_integer(8))), "no version 9"),
    "other algorithm inside": (
        Odd(algorithm=der.encode(der.SEQUENCE, der.encode_oid("1.2.840.113549.1.1.11"))),
        "another outside",
    ),
    "issuer empty": (Odd(issuer=name()), "issuer's name is empty"),
    "subject empty": (Odd(subject=name(), extensions=()), "subject is empty"),
    "subject empty, names not critical": (Odd(subject=name()), "not critical"),
    "RDN out of order": (
        Odd(subject=name((value(OID_C, b"DE", der.PRINTABLE_STRING), value(OID_CN, b"a")))),
        "out of order",
    ),
    "country in UTF-8": (Odd(subject=name((value(OID_C, b"DE"),))), "C is a UTF8String"),
    "country of three letters": (
        Odd(issuer=name((value(OID_C, b"DEU", der.PRINTABLE_STRING),))),
        "two letters",
    ),
    "name too long": (Odd(subject=name((value(OID_CN, b"x" * 65),))), "longer than 64"),
    "printable that is not": (
        Odd(subject=name((value(OID_CN, b"a@b", der.PRINTABLE_STRING),))),
        "PrintableString has not",
    ),
    "not UTF-8": (Odd(subject=name((value(OID_CN, b"\xff\xfe"),))), "does not decode"),
    "empty value": (Odd(subject=name((value(OID_CN, b""),))), "is empty"),
    "time without seconds": (Odd(begin=utc(b"2601010000Z")), "not strict DER"),
    "time with a zone": (Odd(begin=utc(b"260101000000+0100")), "is no time"),
    "time of no day": (Odd(end=utc(b"260231000000Z")), "is no time"),
    "time of the wrong type": (Odd(end=full(b"20300101000000Z")), "wrong type of time"),
    "time too far": (Odd(end=full(b"99999999999999Z")), "is no time"),
    "ends before it begins": (Odd(end=utc(b"250101000000Z")), "ends before"),
    "key unknown": (
        Odd(key=der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, der.encode_oid(
            "1.2.840.113549.1.1.7")), der.encode(der.BIT_STRING, b"\0\1"))),
        "RSA-OAEP",
    ),
    "key off the curve": (
        Odd(key=Odd().key[:-1] + b"\0"),
        "cannot be used",
    ),
    "extension twice": (Odd(extensions=(NAMES, NAMES)), "twice"),
    "extension with garbage": (Odd(extensions=(extension("2.5.29.19", b"\1\2\3"),)), "decode"),
    "criticality written out": (
        Odd(extensions=(extension("2.5.29.17", der.encode(
            der.SEQUENCE, der.encode(0x82, b"a.example")), b"\1\1\2"),)),
        "not strict DER",
    ),
    "names with umlauts": (
        Odd(extensions=(extension("2.5.29.17", der.encode(
            der.SEQUENCE, der.encode(0x82, "ä.example".encode()))),)),
        "not ASCII",
    ),
    "names that are none": (
        Odd(extensions=(extension("2.5.29.17", der.encode(
            der.SEQUENCE, der.encode(0x82, b"a.example"), der.encode(0x87, b"abc"))),)),
        "subjectAltName",
    ),
    "extension that is none": (Odd(extensions=(b"\x04\x01x",)), "extension 1"),
    "path length without CA": (
        Odd(extensions=(NAMES, extension("2.5.29.19", b"\x30\x03\x02\x01\x01"))),
        "basicConstraints",
    ),
    "unused bits": (Odd(signature=der.encode(der.BIT_STRING, b"\4\xf0")), "whole number"),
    "long length inside": (Odd(issuer=_long(Odd().issuer)), "not strict DER"),
    "unknown field": (Odd(more=b"\x85\x01x"), "unknown field"),
}  # fmt: skip
