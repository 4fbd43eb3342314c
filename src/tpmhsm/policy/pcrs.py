"""PCRs: what is selected, and what it hashes to.

TCG TPM 2.0 Library Part 2 §10.6 (TPML_PCR_SELECTION) and Part 3 §23.7 (TPM2_PolicyPCR).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.policy.documents import Fields
from tpmhsm.policy.model import Pcr
from tpmhsm.wire.constants import ALG, DIGEST_SIZES

ALGORITHMS = {"sha1": ALG.SHA1, "sha256": ALG.SHA256, "sha384": ALG.SHA384, "sha512": ALG.SHA512}

UNPROTECTED = {16: "anyone may reset it", 23: "anyone may reset it"}
"""PCRs that prove nothing (TCG PC Client Platform TPM Profile, table of PCR attributes)."""

Measured = Mapping[str, Mapping[int, bytes]]
"""Values of PCRs: by bank, then by number. As long as the bank's hash."""


def encode_selection(pcrs: tuple[Pcr, ...]) -> bytes:
    """Return TPML_PCR_SELECTION of PCRs 0 to 23, one entry a bank, in the order given."""
    found = [len(pcrs).to_bytes(4, "big")]
    for pcr in pcrs:
        bits = sum(1 << number for number in pcr.pcrs)
        found.append(ALGORITHMS[pcr.bank].to_bytes(2, "big") + b"\x03" + bits.to_bytes(3, "little"))
    return b"".join(found)


def pcr_digest(pcrs: tuple[Pcr, ...], measured: Measured) -> bytes:
    """Return SHA-256 over the selected PCRs' values, in the order of the selection; 32 bytes.

    UsageError when one was not measured.
    """
    values = []
    for pcr in pcrs:
        for number in pcr.pcrs:
            value = measured.get(pcr.bank, {}).get(number)
            if value is None:
                raise UsageError(
                    f"PCR {number} of the {pcr.bank} bank: its value at the key's birth is not "
                    "known here",
                    code="policy-not-measured",
                    hint="the chip measures it when the key is made",
                )
            values.append(value)
    return sha256(b"".join(values)).digest()


def demanded(measured: Measured) -> tuple[Pcr, ...]:
    """The PCRs that have values, as demands: one entry a bank, in the order of `ALGORITHMS`."""
    return tuple(
        Pcr(bank, tuple(sorted(measured[bank]))) for bank in ALGORITHMS if bank in measured
    )


def read_measured(value: Any, what: str) -> dict[str, dict[int, bytes]]:
    """Read values of PCRs from a document: tables by bank, hex by number. ParseError naming `what`
    for anything else.
    """
    banks = Fields(value, f"{what}: measured")
    found: dict[str, dict[int, bytes]] = {}
    for bank in value:
        values = banks.fields(bank)
        for number in value[bank]:
            if not re.fullmatch(r"0|[1-9][0-9]?", number):
                raise ParseError(f"{what}: measured: no such PCR: {number[:20]!r}")
            known = found.setdefault(bank, {})
            known[int(number)] = check_value(bank, int(number), values.hex(number))
    return found


def check_value(bank: str, number: int, value: bytes) -> bytes:
    """Return a PCR's value. ParseError unless bank, number and length are possible."""
    if bank not in ALGORITHMS or not 0 <= number <= 23:
        raise ParseError(f"no such PCR: {bank}:{number}")
    if len(value) != DIGEST_SIZES[ALGORITHMS[bank]]:
        raise ParseError(f"PCR {number}: {len(value)} bytes are no value of the {bank} bank")
    return value
