"""The host's half of an activation: this home's attestation key, and the chip's answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpmhsm.errors import RefusedError
from tpmhsm.keys.evidence import load_birth
from tpmhsm.keys.host import load_host
from tpmhsm.tpm import activation, attesting, objects
from tpmhsm.wire.codec import decode
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import Public

if TYPE_CHECKING:
    from tpmhsm.store import Store
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.device import Device
    from tpmhsm.tpm.objects import Loaded


def open_credential(
    store: Store, device: Device, keys: tuple[bytes, bytes], sealed: tuple[bytes, bytes]
) -> bytes:
    """The secret in a credential, if this home's chip has both `keys`: EK and AK, TPMT_PUBLIC.

    `sealed`: contents of TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET. RefusedError `other-chip`
    when the AK is not this home's, or the chip cannot open it; NotFoundError for a foreign EK.
    """
    ek, ak = keys
    with device.transaction() as chip:
        found = _attestation_key(chip, store, name_of_public(ak))
        return activation.activate(chip, decode(Public, ek), found, *sealed)


def _attestation_key(chip: Chip, store: Store, name: bytes) -> Loaded:
    host, rsa = load_host(store), load_birth(store)
    if name == host.ak_name:
        return objects.attestation_key(chip, name)
    found = attesting.find_rsa(chip, rsa) if rsa is not None and rsa.name == name else None
    if found is None:
        raise RefusedError(
            "the challenge is for another attestation key than this home's",
            code="other-chip",
            hint="tpmhsm attest collect on this host, and a challenge made from that file",
        )
    return found
