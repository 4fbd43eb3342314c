"""PCRs, measured when a key is made and compared when it is used.

TCG TPM 2.0 Library Part 3 §22.4 (TPM2_PCR_Read gives up to eight values at a time).
"""

from __future__ import annotations

from collections.abc import Iterable

from tpmhsm.errors import DeviceError, UsageError
from tpmhsm.policy.model import Pcr
from tpmhsm.policy.pcrs import ALGORITHMS
from tpmhsm.tpm import capabilities
from tpmhsm.tpm.chip import Chip
from tpmhsm.wire.commands import PCR_Read
from tpmhsm.wire.structures import PcrSelection, pcr_selection

_FIRMWARE = tuple(range(8))


def measure(chip: Chip, pcrs: Iterable[Pcr]) -> dict[str, dict[int, bytes]]:
    """Return the values now of all PCRs that are named: by bank, then by number.

    UsageError for a bank that the chip has not.
    """
    wanted: dict[str, set[int]] = {}
    for pcr in pcrs:
        wanted.setdefault(pcr.bank, set()).update(pcr.pcrs)
    return {bank: _read(chip, bank, tuple(sorted(numbers))) for bank, numbers in wanted.items()}


def measure_at_birth(chip: Chip, pcrs: Iterable[Pcr]) -> dict[str, dict[int, bytes]]:
    """The same, for a key that will demand these values.

    UsageError for a bank that is not allocated, and for one whose PCRs 0 to 7 are all 00 or all FF:
    no firmware measured anything into it, so whoever starts the machine chooses its values.
    """
    pcrs = tuple(pcrs)
    banks = capabilities.pcr_banks(chip)
    for bank in dict.fromkeys(pcr.bank for pcr in pcrs):
        if ALGORITHMS[bank] not in banks:
            raise _no_bank(bank)
        firmware = _read(chip, bank, _FIRMWARE).values()
        if all(set(value) in ({0x00}, {0xFF}) for value in firmware):
            raise UsageError(
                f"PCRs 0 to 7 of the {bank} bank are empty: no firmware measures into them",
                code="policy-pcr-empty",
                hint="as on every software TPM without firmware; such PCRs protect nothing:"
                " pin, quorum(GROUP) or budget(GROUP) do",
            )
    return measure(chip, pcrs)


def unpack_selection(data: bytes) -> tuple[PcrSelection, ...]:
    """TPML_PCR_SELECTION as a policy step holds it, as a command takes it."""
    return tuple(
        PcrSelection(int.from_bytes(data[i : i + 2], "big"), data[i + 3 : i + 6])
        for i in range(4, len(data), 6)
    )


def _read(chip: Chip, bank: str, numbers: tuple[int, ...]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for i in range(0, len(numbers), 8):
        part = numbers[i : i + 8]
        asked = pcr_selection(ALGORITHMS[bank], part)
        answer = chip.send(PCR_Read((asked,)))
        if not answer.pcr_values:
            raise _no_bank(bank)
        if answer.pcr_selection_out != (asked,) or len(answer.pcr_values) != len(part):
            raise DeviceError(f"the chip gave other PCRs of the {bank} bank than were asked for")
        found |= zip(part, answer.pcr_values, strict=True)
    return found


def _no_bank(bank: str) -> UsageError:
    return UsageError(
        f"this chip has no {bank} bank of PCRs",
        code="policy-pcr-bank",
        hint="tpmhsm device probe says which it has",
    )
