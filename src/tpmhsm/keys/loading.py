"""A key of the database in the chip: under the usual storage key, or under the one for copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.objects import Loaded


def load_row(chip: Chip, parent: Loaded, row: KeyRow) -> Loaded:
    """Load a key; `parent` is the home's storage key. A copy takes four commands instead of one.

    Raises NotFoundError when the chip has the storage key of copies no longer; else as
    `objects.load_key`.
    """
    from tpmhsm.tpm import objects
    from tpmhsm.tpm.receiving import load_copy

    if not row.parent:
        return objects.load_key(chip, parent, row.public, row.private)
    receiving = objects.receiving_parent(chip, bytes.fromhex(row.parent))
    return load_copy(chip, receiving, row.public, row.private)
