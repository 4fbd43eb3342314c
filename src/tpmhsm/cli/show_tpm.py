"""Structures of a TPM in files: public areas, attestations, wrapped keys. Nothing is verified."""

from __future__ import annotations

from typing import Any

from tpmhsm.cli.show_ours import Shown, lines_of
from tpmhsm.errors import ParseError, TpmHsmError

_KINDS = {
    "2.23.133.10.1.3": "loadable key",
    "2.23.133.10.1.4": "key to be imported",
    "2.23.133.10.1.5": "sealed data",
}
_MAX = 1 << 13


def show_tpm(data: bytes) -> tuple[str, Shown] | None:
    """The kind of a bare TPM structure (TPM2B or TPMT) with its facts; None for anything else."""
    if not 8 <= len(data) <= _MAX:
        return None
    bodies = [data]
    if int.from_bytes(data[:2], "big") == len(data) - 2:
        bodies.insert(0, data[2:])
    for body in bodies:
        for kind, describe in (("tpm-public", describe_public), ("tpm-attest", describe_attest)):
            try:
                found = describe(body)
            except TpmHsmError:
                continue
            return kind, (found, lines_of(found))
    return None


def describe_public(area: bytes) -> dict[str, Any]:
    """Facts of a TPMT_PUBLIC. ParseError."""
    from tpmhsm.wire.codec import decode
    from tpmhsm.wire.constants import ALG, CURVE, ObjectAttributes
    from tpmhsm.wire.names import name_of_public
    from tpmhsm.wire.public import EccParms, Public, RsaParms

    public = decode(Public, area)
    known = sum(ObjectAttributes)
    if public.attributes & ~known or not public.attributes:
        raise ParseError("attributes that no object has")
    facts: dict[str, Any] = {
        "alg": _name(ALG, public.type),
        "name_alg": _name(ALG, public.name_alg),
        "attributes": [
            str(one.name).lower() for one in ObjectAttributes if public.attributes & one
        ],
        "auth_policy": public.auth_policy.hex(),
    }
    parameters = public.parameters
    if isinstance(parameters, RsaParms):
        facts["bits"] = parameters.key_bits
    elif isinstance(parameters, EccParms):
        facts["curve"] = _name(CURVE, parameters.curve)
    facts["tpm_name"] = name_of_public(public).hex()
    return facts


def _name(kind: Any, value: int) -> str:
    try:
        return str(kind(value).name).lower()
    except ValueError:
        return f"{value:#06x}"


def describe_attest(data: bytes) -> dict[str, Any]:
    """Facts of a TPMS_ATTEST. ParseError."""
    from tpmhsm.wire.attest import Attest
    from tpmhsm.wire.codec import decode
    from tpmhsm.wire.constants import ST

    attest = decode(Attest, data)
    clock = attest.clock_info
    return {
        "attests": _name(ST, attest.type).removeprefix("attest_"),
        "extra_data": attest.extra_data.hex(),
        "qualified_signer": attest.qualified_signer.hex(),
        "clock": clock.clock,
        "reset_count": clock.reset_count,
        "restart_count": clock.restart_count,
        "firmware": f"{attest.firmware_version:016x}",
    }


def describe_tss2(raw: bytes) -> dict[str, Any]:
    """Facts of a TSS2 key file: its parent and its public area, never what is wrapped."""
    from tpmhsm.pki import der

    parts = der.children(der.read_whole(raw, lenient=True).content, lenient=True)
    octets = [part.content for part in parts if part.tag == der.OCTET_STRING]
    numbers = [part.content for part in parts if part.tag == der.INTEGER]
    if parts[0].tag != der.OID or len(octets) < 2 or not numbers:
        raise ParseError("this TPM key file lacks its parent, or its halves")
    kind = der.decode_oid(parts[0].content)
    tags = {part.tag for part in parts}
    facts: dict[str, Any] = {
        "kind": _KINDS.get(kind, kind),
        "parent": f"{int.from_bytes(numbers[0][-8:], 'big'):#010x}",
        "needs_password": not any(
            part.tag == 0xA0 and part.content[-1:] not in (b"", b"\0") for part in parts
        ),
        "has_policy": bool(tags & {0xA1, 0xA3}),
    }
    try:
        facts |= describe_public(octets[0][2:])
    except ParseError as error:
        facts["problem"] = f"its public area does not decode: {error.message}"
    return facts
