"""Keys copied to another chip, and taken in there.

A copy is made by custodians' approvals that name the key and the storage key of the other chip; it
is kept nowhere here. The same approvals make another one, for the same chip, so that nothing is
lost with a file that was not written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tpmhsm.errors import ChipRefusedError, RefusedError, VerificationError
from tpmhsm.keys.choice import policy_of_row
from tpmhsm.keys.host import load_host, must_be
from tpmhsm.keys.loading import load_row
from tpmhsm.keys.receiving import receiving_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tpmhsm.keys.groups import Groups
    from tpmhsm.policy.copying import CopyDocument
    from tpmhsm.policy.plan import Approvals
    from tpmhsm.store import Store
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.tpm.device import Device
    from tpmhsm.tpm.duplicating import Wrapped


class Backups:
    """Copies from and into one home's chip."""

    def __init__(self, store: Store, device: Device, groups: Groups) -> None:
        self._store = store
        self._device = device
        self._groups = groups

    def copy(self, row: KeyRow, document: CopyDocument, approvals: Approvals) -> Wrapped:
        """Have the chip wrap a key for another chip's storage key. It changes nothing here.

        `approvals` by custodians. UsageError `not-to-be-copied` for a key that was not made for it,
        ChipRefusedError.
        """
        from tpmhsm.policy.plan import plan_copy
        from tpmhsm.tpm import duplicating, objects
        from tpmhsm.tpm.salts import SaltKey

        host, policy = load_host(self._store), policy_of_row(row, self._groups)
        group = self._groups.by_id(document.group.hex()).group
        plan = plan_copy(group, policy, document, approvals)
        with self._device.transaction() as chip:
            parent = objects.storage_parent(chip, host.parent_name)
            salt = SaltKey(parent.handle, parent.public, parent.name)
            key = load_row(chip, parent, row)
            return duplicating.duplicate(
                chip, plan, key, document.parent, salt, has_pin=policy.has_pin
            )

    def take(self, row: KeyRow, document: CopyDocument, wrapped: Mapping[str, bytes]) -> KeyRow:
        """Take a copy in: the record of the key, complete. It is loaded once, to know that it is
        whole. `wrapped` has the fields of `Wrapped`.

        RefusedError `other-chip` for a copy that is for another chip, `backup-altered` when the
        chip says that it was changed. VerificationError when it is another key.
        """
        from tpmhsm.tpm import duplicating, objects

        host, own = load_host(self._store), receiving_name(self._store)
        if own != document.parent_name:
            raise RefusedError(
                "the copy is for the storage key of another chip, or this one was cleared since",
                code="other-chip",
                hint="--home and --tpm name the chip; a copy for this one takes the custodians",
            )
        if row.name != document.key.hex():
            raise VerificationError("the copy is of another key than the file says")
        with self._device.transaction() as chip:
            must_be(chip, host)
            parent = objects.receiving_parent(chip, own)
            try:
                copy = duplicating.Wrapped(**wrapped)
                private = duplicating.take(chip, parent, row.public, copy)
                taken = replace(row, private=private, parent=parent.name.hex())
                chip.flush(load_row(chip, parent, taken).handle)
            except ChipRefusedError as error:
                raise _altered(error) from error
        return taken


def _altered(error: ChipRefusedError) -> ChipRefusedError:
    if error.command != "Import":
        return error
    return ChipRefusedError(
        f"the chip does not take the copy in: {error.message}",
        rc=error.rc,
        command=error.command,
        code="backup-altered",
        hint="the file was changed, or damaged: the first host writes another one by the same "
        "approvals: tpmhsm key backup LABEL --to FILE",
    )
