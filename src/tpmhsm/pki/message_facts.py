"""What signed and protected messages say: CMS, OCSP, time-stamps, CMP. Shown, not verified.

RFC 5652, 6960, 3161, 4210.
"""

from __future__ import annotations

from typing import Any

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.containers import CONTENT_TYPES, SIGNED_DATA, content_info, read_signed_data
from tpmhsm.pki.envelopes import is_envelope, read_envelope
from tpmhsm.pki.names import show_dn
from tpmhsm.pki.tbs import read_time, rfc3339, serial_hex

_DIGESTS = {
    "1.3.14.3.2.26": "SHA-1",
    "1.2.840.113549.2.5": "MD5",
    "2.16.840.1.101.3.4.2.1": "SHA-256",
    "2.16.840.1.101.3.4.2.2": "SHA-384",
    "2.16.840.1.101.3.4.2.3": "SHA-512",
    "2.16.840.1.101.3.4.2.4": "SHA-224",
}
_SIGNING_TIME = "1.2.840.113549.1.9.5"
_TST_INFO = "1.2.840.113549.1.9.16.1.4"
_STATUS = ("granted", "granted with changes", "rejected", "waiting", "revocation near", "revoked")
_CMP_BODIES = (
    "ir", "ip", "cr", "cp", "p10cr", "popdecc", "popdecr", "kur", "kup", "krr", "krp", "rr",
    "rp", "ccr", "ccp", "ckuann", "cann", "rann", "crlann", "pkiconf", "nested", "genm", "genp",
    "error", "certConf", "pollReq", "pollRep",
)  # fmt: skip


@der.complete("a CMS message")
def describe_cms(raw: bytes) -> dict[str, Any]:
    """Facts of a CMS or PKCS #7 message. `signed_data` of those that are signed. ParseError."""
    kind, content = content_info(raw)
    facts: dict[str, Any] = {"content_type": CONTENT_TYPES.get(kind, kind)}
    if kind == SIGNED_DATA:
        inside = read_signed_data(raw)
        facts |= {
            "signed": CONTENT_TYPES.get(inside.content_type, inside.content_type),
            "detached": inside.content is None,
            "size": len(inside.content) if inside.content is not None else None,
            "signers": [_signer(one) for one in inside.signers[:100]],
            "certificates": len(inside.certificates),
            "crls": len(inside.crls),
        }
        return facts
    if is_envelope(raw):
        return facts | _of_envelope(raw)
    parts = _parts(content) if content else []
    recipients = [part for part in parts if part.tag == der.SET]
    if recipients:
        facts["recipients"] = len(der.children(recipients[0].content, lenient=True))
    return facts


def _of_envelope(raw: bytes) -> dict[str, Any]:
    """For whom an encrypted message is, and how it is closed."""
    envelope = read_envelope(raw)
    return {
        "cipher": envelope.words,
        "authenticated": envelope.mac is not None,
        "size": None if envelope.content is None else len(envelope.content),
        "recipients": len(envelope.recipients),
        "for": [
            f"{one.words}{f' ({one.problem})' if one.problem else ''}"
            for one in envelope.recipients[:100]
        ],
    }


def _parts(raw: bytes) -> list[der.Element]:
    return der.children(der.read_whole(raw, lenient=True).content, lenient=True)


@der.complete("a SignerInfo")
def _signer(element: der.Element) -> dict[str, Any]:
    """SignerInfo (RFC 5652, 5.3): who, with which hash, when they say."""
    parts = der.children(element.content, lenient=True)
    if len(parts) < 4:
        raise ParseError("a signer of this CMS message is incomplete")
    facts: dict[str, Any] = {"issuer": None, "serial": None, "ski": None}
    if parts[1].tag == der.SEQUENCE:
        pair = der.children(parts[1].content, lenient=True)
        if len(pair) != 2:
            raise ParseError("a signer of this CMS message is nobody")
        facts["issuer"] = show_dn(pair[0].raw)
        facts["serial"] = serial_hex(int.from_bytes(pair[1].content, "big", signed=True))
    else:
        facts["ski"] = der.octets(parts[1]).hex()
    facts["digest"] = _digest_name(parts[2])
    facts["signing_time"] = _signing_time(parts[3]) if parts[3].tag == 0xA0 else None
    return facts


def _digest_name(algorithm: der.Element) -> str:
    parts = der.children(algorithm.content, lenient=True)
    if not parts or parts[0].tag != der.OID:
        return "unknown"
    oid = der.decode_oid(parts[0].content)
    return _DIGESTS.get(oid, oid)


def _signing_time(attributes: der.Element) -> str | None:
    for attribute in der.children(attributes.content, lenient=True):
        pair = der.children(attribute.content, lenient=True)
        if len(pair) == 2 and der.decode_oid(pair[0].content) == _SIGNING_TIME:
            values = der.children(pair[1].content, lenient=True)
            return _time(values[0]) if values else None
    return None


def _time(element: der.Element) -> str | None:
    try:
        return rfc3339(read_time(element))
    except ParseError:
        return element.content.decode("ascii", "replace")  # fractions of a second, mostly


def describe_ocsp_response(raw: bytes) -> dict[str, Any]:
    """Facts of an OCSP response; of one that does not decode, why."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.x509.ocsp import OCSPResponseStatus, load_der_ocsp_response

    try:
        response = load_der_ocsp_response(raw)
        facts: dict[str, Any] = {"status": response.response_status.name.lower()}
        if response.response_status != OCSPResponseStatus.SUCCESSFUL:
            return facts
        key_hash = response.responder_key_hash
        name = response.responder_name
        facts["responder"] = show_dn(name.public_bytes()) if name else f"key {key_hash.hex()}"  # type: ignore[union-attr]
        facts["produced"] = rfc3339(response.produced_at_utc)
        facts["responses"] = [_single(one) for one in response.responses]
        facts["certificates"] = len(response.certificates)
    except (ValueError, TypeError, UnsupportedAlgorithm, OverflowError) as error:
        return {"status": "unreadable", "problem": f"it does not decode: {error}"}
    return facts


def _single(one: Any) -> dict[str, Any]:
    found = {
        "serial": serial_hex(one.serial_number),
        "certificate_status": one.certificate_status.name.lower(),
        "this_update": rfc3339(one.this_update_utc),
        "next_update": rfc3339(one.next_update_utc) if one.next_update_utc else None,
    }
    if one.revocation_time_utc:
        found["revoked"] = rfc3339(one.revocation_time_utc)
        found["reason"] = one.revocation_reason.value if one.revocation_reason else None
    return found


def describe_ocsp_request(raw: bytes) -> dict[str, Any]:
    """Facts of an OCSP request."""
    from cryptography.x509.ocsp import load_der_ocsp_request

    try:
        return {"serial": serial_hex(load_der_ocsp_request(raw).serial_number)}
    except (ValueError, NotImplementedError, TypeError) as error:
        return {"problem": f"it does not decode, or asks for several certificates: {error}"}


@der.complete("a time-stamp response")
def describe_timestamp_response(raw: bytes) -> dict[str, Any]:
    """Facts of a TimeStampResp (RFC 3161, 2.4.2). ParseError."""
    parts = _parts(raw)
    status = der.children(parts[0].content, lenient=True)[0]
    number = int.from_bytes(status.content[:4], "big")
    facts: dict[str, Any] = {
        "status": _STATUS[number] if number < len(_STATUS) else str(number),
    }
    return facts | (describe_timestamp(parts[1].raw) if len(parts) > 1 else {})


@der.complete("a time-stamp")
def describe_timestamp(raw: bytes) -> dict[str, Any]:
    """Facts of a time-stamp token: a CMS message with a TSTInfo in it. ParseError."""
    inside = read_signed_data(raw)
    if inside.content_type != _TST_INFO or inside.content is None:
        raise ParseError("this CMS message is no time-stamp")
    parts = _parts(inside.content)
    if [part.tag for part in parts[:5]] != [2, 6, 0x30, 2, 0x18]:
        raise ParseError("the content of this time-stamp is none")
    imprint = der.children(parts[2].content, lenient=True)
    return {
        "time": _time(parts[4]),
        "serial": serial_hex(int.from_bytes(parts[3].content, "big", signed=True)),
        "policy": der.decode_oid(parts[1].content),
        "digest": _digest_name(imprint[0]),
        "imprint": der.octets(imprint[-1]).hex(),
        "signers": [_signer(one) for one in inside.signers[:100]],
        "certificates": len(inside.certificates),
    }


@der.complete("a time-stamp request")
def describe_timestamp_request(raw: bytes) -> dict[str, Any]:
    """Facts of a TimeStampReq (RFC 3161, 2.4.1). ParseError."""
    imprint = der.children(_parts(raw)[1].content, lenient=True)
    return {"digest": _digest_name(imprint[0]), "imprint": der.octets(imprint[-1]).hex()}


@der.complete("a CMP message")
def describe_cmp(raw: bytes) -> dict[str, Any]:
    """Facts of a CMP PKIMessage (RFC 4210, 5.1). ParseError."""
    parts = _parts(raw)
    header = der.children(parts[0].content, lenient=True)
    body = parts[1].tag & 0x1F if len(parts) > 1 and parts[1].tag < 0x100 else -1
    return {
        "version": int.from_bytes(header[0].content[:4], "big"),
        "sender": _general_name(header[1]),
        "recipient": _general_name(header[2]),
        "body": _CMP_BODIES[body] if 0 <= body < len(_CMP_BODIES) else "unknown",
        "protected": any(part.tag == 0xA0 for part in parts[2:]),
    }


def _general_name(element: der.Element) -> str:
    from tpmhsm.pki.sans import sans_anyway

    return "".join(sans_anyway(der.encode(der.SEQUENCE, element.raw)))
