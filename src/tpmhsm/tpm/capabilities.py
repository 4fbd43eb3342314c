"""What TPM2_GetCapability says, all pages of it (Part 3, section 30.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tpmhsm.tpm.chip import Chip
from tpmhsm.wire.commands import GetCapability
from tpmhsm.wire.constants import CAP

_PAGE = 64
_LAST = 0xFFFFFFFF


def properties(chip: Chip) -> dict[int, int]:
    """All TPM properties, fixed and variable: TPM_PT to its 32-bit value."""
    found = _items(chip, CAP.TPM_PROPERTIES, 0x100, lambda item: item.tag)
    found_too = _items(chip, CAP.TPM_PROPERTIES, 0x200, lambda item: item.tag)
    return {item.tag: item.value for item in (*found, *found_too)}


def algorithms(chip: Chip) -> dict[int, int]:
    """TPM_ALG_ID to TPMA_ALGORITHM of all algorithms."""
    found = _items(chip, CAP.ALGS, 0, lambda item: item.alg)
    return {item.alg: item.attributes for item in found}


def curves(chip: Chip) -> list[int]:
    """TPM_ECC_CURVE of all curves."""
    return list(_items(chip, CAP.ECC_CURVES, 0, int))


def command_codes(chip: Chip) -> set[int]:
    """Codes of all commands that the chip has, the attributes stripped (vendor bit kept)."""
    found = _items(chip, CAP.COMMANDS, 0x11F, lambda item: item & 0xFFFF)
    return {item & 0x2000FFFF for item in found}


def pcr_banks(chip: Chip) -> dict[int, int]:
    """Hash algorithm to number of PCRs, of the banks that are switched on."""
    data = chip.send(GetCapability(CAP.PCRS, 0, 1)).data
    counts = {bank.hash_alg: sum(octet.bit_count() for octet in bank.select) for bank in data.items}
    return {alg: count for alg, count in counts.items() if count}


def _items(chip: Chip, group: CAP, first: int, number: Any) -> Iterator[Any]:
    """Items of all pages. `number(item)` is the value that the next page must exceed."""
    while first <= _LAST:
        response = chip.send(GetCapability(group, first, _PAGE))
        yield from response.data.items
        if not response.more_data or not response.data.items:
            return
        first = number(response.data.items[-1]) + 1
