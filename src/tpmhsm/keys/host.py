"""What this home knows of its own chip: measured once by `init`, compared ever after."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from tpmhsm.errors import StoreError

if TYPE_CHECKING:
    from tpmhsm.store import Store
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
    def ek_certificate(self) -> bytes:
        """The first EK certificate, empty when the chip keeps none."""
        return self.ek_certificates[0] if self.ek_certificates else b""

    @property
    def ek_digest(self) -> bytes:
        """SHA-256 of the first EK certificate, or of the EK's public area when there is none."""
        return sha256(self.ek_certificate or self.ek_public).digest()


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


def save_host(store: Store, host: HostDevice) -> None:
    """Keep the facts."""
    value = {
        "kind": host.kind,
        "ek_certificates": [b64encode(c).decode() for c in host.ek_certificates],
        "ek_public": b64encode(host.ek_public).decode(),
        "ak_public": b64encode(host.ak_public).decode(),
        "ak_name": host.ak_name.hex(),
        "parent_name": host.parent_name.hex(),
        "facts": host.facts,
    }
    with store.transaction() as tx:
        tx.settings.set(SETTING, value)
        tx.audit.append("init", {"device": host.kind, "ak": host.ak_name.hex()})


def find_host(store: Store) -> HostDevice | None:
    """The facts that `init` kept, or None."""
    with store.reading() as tx:
        value = tx.settings.get(SETTING)
    if value is None:
        return None
    return HostDevice(
        kind=value["kind"],
        ek_certificates=tuple(b64decode(c) for c in value["ek_certificates"]),
        ek_public=b64decode(value["ek_public"]),
        ak_public=b64decode(value["ak_public"]),
        ak_name=bytes.fromhex(value["ak_name"]),
        parent_name=bytes.fromhex(value["parent_name"]),
        facts=value["facts"],
    )


def load_host(store: Store) -> HostDevice:
    """The facts that `init` kept. Raises StoreError when `init` was never run here."""
    found = find_host(store)
    if found is None:
        raise StoreError(
            "this home has no device yet", code="missing", hint="tpmhsm init sets it up"
        )
    return found
