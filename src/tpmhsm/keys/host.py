"""What this home knows of its own chip: measured once by `init`, compared ever after."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tpmhsm.errors import NotFoundError, RefusedError, StoreError

if TYPE_CHECKING:
    from tpmhsm.store import Store
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.device import Device

SETTING = "device"


@dataclass(frozen=True)
class HostDevice:
    """The chip's public facts. Certificates are DER, public areas TPMT_PUBLIC."""

    kind: str
    ek_certificates: tuple[bytes, ...]
    ek_public: bytes
    ak_public: bytes
    ak_name: bytes
    parent_name: bytes
    facts: dict[str, Any]

    @property
    def ek_evidence(self) -> bytes:
        """The first EK certificate, or the EK's public area when the chip keeps none."""
        return self.ek_certificates[0] if self.ek_certificates else self.ek_public

    @property
    def ek_digest(self) -> bytes:
        """SHA-256 of that: how a group names its device."""
        return sha256(self.ek_evidence).digest()


def measure(device: Device) -> HostDevice:
    """Ask the chip; makes its storage and attestation keys when they are missing."""
    from tpmhsm.tpm import evidence
    from tpmhsm.tpm.objects import attestation_key, storage_parent
    from tpmhsm.wire.codec import encode

    with device.transaction() as chip:
        parent = storage_parent(chip)
        key = attestation_key(chip)
        return HostDevice(
            kind=device.kind,
            ek_certificates=tuple(evidence.ek_certificates(chip)),
            ek_public=evidence.ek_public(chip),
            ak_public=encode(key.public),
            ak_name=key.name,
            parent_name=parent.name,
            facts=asdict(evidence.device_facts(chip)),
        )


def must_be(chip: Chip, host: HostDevice) -> None:
    """Raise RefusedError unless this is the chip that the home was made for."""
    from tpmhsm.tpm.objects import attestation_key

    try:
        attestation_key(chip, host.ak_name)
    except NotFoundError as error:
        raise RefusedError(
            "this is another chip than the one this home was made for",
            code="other-chip",
            hint="--tpm names the chip; --home names the home",
        ) from error


def save_host(store: Store, host: HostDevice) -> None:
    """Keep the facts, unless another process was faster."""
    with store.transaction() as tx:
        if tx.settings.get(SETTING) is None:
            tx.settings.set(SETTING, _to_json(host))
            tx.audit.append("init", {"device": host.kind, "ak": host.ak_name.hex()})


def find_host(store: Store) -> HostDevice | None:
    """The facts that `init` kept, or None. Raises StoreError for what is no such facts."""
    with store.reading() as tx:
        value = tx.settings.get(SETTING)
    if value is None:
        return None
    try:
        return _from_json(value)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"the database {store.words} says nothing sensible of its device", code="corrupt"
        ) from error


def load_host(store: Store) -> HostDevice:
    """The facts that `init` kept. Raises StoreError when `init` was never run here."""
    found = find_host(store)
    if found is None:
        raise StoreError(
            "this home has no device yet",
            code="missing",
            hint="tpmhsm init sets it up; if the CA is on another machine, run this there",
        )
    return found


def _to_json(host: HostDevice) -> dict[str, Any]:
    return {
        "kind": host.kind,
        "ek_certificates": [b64encode(c).decode() for c in host.ek_certificates],
        "ek_public": b64encode(host.ek_public).decode(),
        "ak_public": b64encode(host.ak_public).decode(),
        "ak_name": host.ak_name.hex(),
        "parent_name": host.parent_name.hex(),
        "facts": host.facts,
    }


def _from_json(value: dict[str, Any]) -> HostDevice:
    return HostDevice(
        kind=value["kind"],
        ek_certificates=tuple(b64decode(c) for c in value["ek_certificates"]),
        ek_public=b64decode(value["ek_public"]),
        ak_public=b64decode(value["ak_public"]),
        ak_name=bytes.fromhex(value["ak_name"]),
        parent_name=bytes.fromhex(value["parent_name"]),
        facts=value["facts"],
    )
