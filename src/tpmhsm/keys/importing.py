"""Keys that were made elsewhere, taken into the chip; what was beside them is kept with them."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING

from tpmhsm.errors import ExistsError
from tpmhsm.keys import budgets
from tpmhsm.keys.births import key_row
from tpmhsm.keys.host import load_host

if TYPE_CHECKING:
    from tpmhsm.keys.births import Wanted
    from tpmhsm.keys.keyring import Keyring
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.tpm.device import Device
    from tpmhsm.tpm.imports import PrivateKey


class Importing:
    """Takes keys into one home's chip."""

    def __init__(self, store: Store, device: Device, keyring: Keyring) -> None:
        self._store = store
        self._device = device
        self._keyring = keyring

    def bring(
        self,
        wanted: Wanted,
        key: PrivateKey,
        keep: Callable[[Transaction], None] = lambda _: None,
    ) -> KeyRow:
        """Bring a private key under the storage parent and keep its record; `keep` is run in the
        same transaction. The key is neither written nor logged.

        Errors as of `Keyring.create`; ExistsError also for a key that is here already, UsageError
        for one that the chip does not take.
        """
        from tpmhsm.tpm.imports import Foreign, import_key, imported_template
        from tpmhsm.tpm.objects import load_key, storage_parent

        foreign = Foreign.of(key)
        self._new(key)
        bound, group_id = self._keyring.prepare(wanted)
        host = load_host(self._store)
        with self._device.transaction() as chip:
            bound = self._keyring.budgets.place(chip, bound)
            parent = storage_parent(chip, host.parent_name)
            public = imported_template(wanted.template(bound), foreign)
            made = import_key(
                chip, parent, public, foreign.secret, algorithm=wanted.alg, auth=wanted.pin
            )
            chip.flush(load_key(chip, parent, made.public, made.private).handle)
            budgets.make(chip, bound, made.private)
        row = key_row(wanted, bound, made, group_id)
        with self._store.transaction() as tx:
            kept = tx.keys.add(row)
            keep(tx)
            facts = {"label": row.label, "name": row.name, "policy": row.policy, "use": row.use}
            tx.audit.append("key-import", facts)
        return kept

    def _new(self, key: PrivateKey) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        with self._store.reading() as tx:
            known = tx.keys.find_by_spki(sha256(spki).hexdigest())
        if known is not None:
            raise ExistsError(
                f"this key is here already, as {known.label!r}",
                hint=f"tpmhsm key show {known.label}",
            )
