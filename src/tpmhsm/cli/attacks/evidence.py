"""Keys that are not what the host says: twins from outside the chip, other attestation keys."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from tpmhsm.approval.cards import create_device_card
from tpmhsm.attest.credential import make_challenge, make_credential
from tpmhsm.attest.statements import QUORUM_KEY_ATTRIBUTES
from tpmhsm.cli.attacks.root import Root
from tpmhsm.cli.attacks.scene import Scene
from tpmhsm.cli.attacks.signatures import still_signs
from tpmhsm.keys.host import load_host
from tpmhsm.tpm import objects, software
from tpmhsm.tpm.activation import activate
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.device import open_device
from tpmhsm.wire.codec import decode, encode
from tpmhsm.wire.commands import CertifyCreation, Import, Load
from tpmhsm.wire.constants import ALG, ObjectAttributes
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import NULL_SCHEME, NULL_SYM, EccPoint, Sensitive, Ticket

A = ObjectAttributes
FOREIGN = QUORUM_KEY_ATTRIBUTES & ~A.FIXED_TPM & ~A.FIXED_PARENT


def twin(scene: Scene) -> None:
    """A key of root's own, in the chip as if it had been born there."""
    key = ec.generate_private_key(ec.SECP256R1())
    true, row = decode(Public, scene.house.fresh.key.public), scene.house.fresh.key
    n = key.public_key().public_numbers()
    point = EccPoint(n.x.to_bytes(32, "big"), n.y.to_bytes(32, "big"))
    same = true.replace(unique=point)
    foreign = same.replace(attributes=FOREIGN)
    with scene.root() as root:
        scene.refused("a software key imported, with the attributes of the CA's", 0x2C2,
                      lambda: _import(root, key, same))  # fmt: skip
        parent = objects.storage_parent(root.chip)
        scene.refused("the CA's private part under another public area", 0x1DF,
                      lambda: root.chip.send(Load(parent.handle, row.private, same)))  # fmt: skip
        scene.able("a software key imported, with attributes that say so",
                   lambda: _import(root, key, foreign))  # fmt: skip
        private = _import(root, key, foreign).out_private
        handle = root.chip.send(Load(parent.handle, private, foreign)).object_handle
        ak = objects.attestation_key(root.chip)
        ticket = decode(Ticket, row.creation_ticket)
        born = CertifyCreation(ak.handle, handle, b"", row.creation_hash, NULL_SCHEME, ticket)
        scene.refused("its birth certified, with the CA key's ticket", 0x4E0,
                      lambda: root.chip.send(born))  # fmt: skip
        root.chip.flush_all()
        still_signs(scene, root)
    request = replace(scene.house.fresh.request, approvals=())
    assert request.key is not None  # noqa: S101 - a signature has one
    shown = replace(request, key=replace(request.key, public=encode(foreign)))
    dave = scene.house.people["dave"]
    scene.declined("the twin shown to dave's tool, with the CA key's evidence", "key-evidence",
                   lambda: dave.look(shown.data))  # fmt: skip
    scene.honest("the true key", lambda: dave.look(request.data))


def _import(root: Root, key: ec.EllipticCurvePrivateKey, public: Public) -> Any:
    secret = key.private_numbers().private_value.to_bytes(32, "big")
    body = encode(Sensitive(ALG.ECC, b"", b"", secret))
    parent = objects.storage_parent(root.chip).handle
    duplicate = len(body).to_bytes(2, "big") + body
    return root.chip.send(Import(parent, b"", public, duplicate, b"", NULL_SYM))


def unrestricted(scene: Scene) -> None:
    """A key that signs anything, as the attestation key."""
    house = scene.house
    host, free = load_host(house.app.store), house.row("www.example.com")
    keys = (host.ek_certificates, host.ek_public)
    request = replace(house.fresh.request, approvals=())
    card = create_device_card("host", host.kind, *keys, host.ak_public)
    forged = replace(request, device=replace(card, ak_public=free.public))
    dave = house.people["dave"]
    scene.declined("a device's card made with an unrestricted key", "parse",
                   lambda: create_device_card("host", host.kind, *keys, free.public))  # fmt: skip
    scene.declined("a request with one, shown to dave's tool", "parse",
                   lambda: dave.look(forged.data))  # fmt: skip
    honest = replace(request, device=card)
    scene.honest("the chip's own attestation key", lambda: dave.look(honest.data))


@contextmanager
def _emulator() -> Iterator[Chip]:
    """Another software TPM, of which root can read everything."""
    with tempfile.TemporaryDirectory(prefix="tpmhsm-relay-") as name:
        home = Path(name)
        software.manufacture(software.directory_of(home))
        try:
            with open_device("software", home).transaction() as chip:
                yield chip
        finally:
            software.stop(software.directory_of(home))


def relay(scene: Scene) -> None:
    """The endorsement key of this chip, and an attestation key of another."""
    with _emulator() as other:
        theirs = objects.attestation_key(other).public
    host = load_host(scene.house.app.store)
    ek = decode(Public, host.ek_public)
    asked = make_challenge(host.ek_public, encode(theirs), datetime.now(UTC)).challenge
    with scene.root() as root:
        ours = objects.attestation_key(root.chip)
        own = make_credential(ek, ours.name, b"ours")
        scene.refused(
            "a verifier's secret for the other chip's key, opened here", 0x1DF,
            lambda: activate(root.chip, ek, ours, asked.credential, asked.secret),
        )  # fmt: skip
        root.chip.flush_all()
        scene.honest("a secret for this chip's own", lambda: activate(root.chip, ek, ours, *own))
        root.chip.flush_all()
