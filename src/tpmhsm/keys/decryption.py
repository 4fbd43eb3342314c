"""Decryption by keys in the chip. What the chip gives comes back encrypted, and is kept nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpmhsm.keys.births import must_decrypt
from tpmhsm.keys.choice import policy_of_row
from tpmhsm.keys.host import load_host
from tpmhsm.keys.loading import load_row

if TYPE_CHECKING:
    from tpmhsm.keys.choice import Chooser
    from tpmhsm.keys.groups import Groups
    from tpmhsm.policy.plan import Approvals, Officers
    from tpmhsm.store import Store
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.tpm.device import Device


class Decryption:
    """Decrypts by the keys of one home."""

    def __init__(self, store: Store, device: Device, groups: Groups, chooser: Chooser) -> None:
        self._store = store
        self._device = device
        self._groups = groups
        self._chooser = chooser

    def decrypt(
        self, row: KeyRow, content: bytes, approvals: Approvals | None = None, group: str = ""
    ) -> bytes:
        """The plaintext, or the x coordinate that was agreed on.

        `content`: for RSA a ciphertext (OAEP with the key's hash and an empty label), on a curve
        the other's SubjectPublicKeyInfo. `approvals` and `group` as for `Keyring.sign_digest`.
        Raises UsageError for content that cannot be for the key, ChipRefusedError
        (`not-for-this-key`) when the chip says so.
        """
        from tpmhsm.policy.bound import bound_decrypt
        from tpmhsm.tpm import objects, policies
        from tpmhsm.tpm.decryption import decrypt_command, open_secret, secret_of
        from tpmhsm.tpm.pins import Pin
        from tpmhsm.tpm.salts import SaltKey

        must_decrypt(row)
        bound_decrypt(row.public, content)  # what cannot be for this key wants no PIN
        officers = None if approvals is None else self._officers(row, approvals, group)
        choice = self._chooser.choose(row, officers.group.name if officers else "")
        plan = choice.plan(row, content, officers)
        host = load_host(self._store)
        with self._device.transaction() as chip:
            parent = objects.storage_parent(chip, host.parent_name)
            salt = SaltKey(parent.handle, parent.public, parent.name)
            pin = Pin.to(parent, choice.pin) if choice.pin else None
            key = load_row(chip, parent, row)
            if plan is None:
                return open_secret(chip, key, content, salt)
            command = decrypt_command(key, content)
            secret = policies.Secrecy(salt, choice.policy.has_pin)
            return secret_of(key, policies.execute(chip, plan, command, pin, secret=secret))

    def _officers(self, row: KeyRow, approvals: Approvals, group: str) -> Officers:
        from tpmhsm.policy.plan import Officers

        name = group or (policy_of_row(row, self._groups).groups or ("",))[0]
        state = self._groups.active(name)
        return Officers(state.group, state.roster, approvals)
