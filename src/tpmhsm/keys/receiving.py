"""This home's storage key for copies from other chips: made when somebody first asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpmhsm.errors import StoreError
from tpmhsm.keys.host import load_host
from tpmhsm.tpm import objects, receiving
from tpmhsm.wire.codec import encode

if TYPE_CHECKING:
    from tpmhsm.attest.parents import ParentProof
    from tpmhsm.store import Store
    from tpmhsm.tpm.device import Device

SETTING = "receiving-parent"


def receiving_name(store: Store) -> bytes | None:
    """The Name of the key, None while this home has asked for none. Raises StoreError."""
    with store.reading() as tx:
        kept = tx.settings.get(SETTING)
    try:
        return None if kept is None else bytes.fromhex(kept)
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"the database {store.words} says nothing sensible of its key for copies",
            code="corrupt",
        ) from error


def certify_receiving(store: Store, device: Device, qualifying: bytes) -> ParentProof:
    """What the chip says of the key over `qualifying` (32 bytes); it is made the first time.

    Raises NotFoundError for a chip that has lost it, ChipRefusedError.
    """
    from tpmhsm.attest.parents import ParentProof

    host, known = load_host(store), receiving_name(store)
    with device.transaction() as chip:
        ak = objects.attestation_key(chip, host.ak_name)
        parent = objects.receiving_parent(chip, known)
        said = receiving.certify_parent(chip, ak, parent, qualifying)
    if known is None:
        remember_receiving(store, parent.name)
    return ParentProof(encode(parent.public), said.attest, said.signature)


def remember_receiving(store: Store, name: bytes) -> None:
    """Keep the Name of the key."""
    with store.transaction() as tx:
        tx.settings.set(SETTING, name.hex())
