"""A signer with keys in memory, which can fail or ask people as a test wants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tpmhsm.approval.request import Claims
from tpmhsm.ca.authority import Authorities
from tpmhsm.ca.settings import read_settings
from tpmhsm.errors import NotFoundError, TpmHsmError, WaitingError
from tpmhsm.store import Store, Transaction
from tpmhsm.store.keys import KeyRow
from tpmhsm.store.requests import RequestRow


@dataclass
class SoftSigner:
    """`tpmhsm.ca.signer.Signer`: P-256 keys by label, made when a store is told of them."""

    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    guarded: set[str] = field(default_factory=set)
    signed: int = 0
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None

    def make(self, store: Store, label: str, *, guarded: bool = False) -> None:
        key = self.keys[label] = ec.generate_private_key(ec.SECP256R1())
        if guarded:
            self.guarded.add(label)
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        with store.transaction() as tx:
            tx.keys.add(KeyRow(label, "p256", "sha256", "sign", "open", b"x", b"x", label, spki))

    def public_key(self, label: str) -> ec.EllipticCurvePublicKey:
        if label not in self.keys:
            raise NotFoundError(f"there is no key named {label!r}")
        return self.keys[label].public_key()

    def hash_name(self, label: str) -> str:
        return "sha256"

    def needs_people(self, label: str) -> bool:
        return label in self.guarded

    def sign(self, label: str, data: bytes) -> bytes:
        self.before()
        signature = self.keys[label].sign(data, ec.ECDSA(hashes.SHA256()))
        self.signed += 1
        self.after()
        return signature

    def turns(self) -> SoftTurns:
        return SoftTurns(self)

    def draft(self, label: str, kind: str, data: bytes, claims: Claims) -> Any:
        return SimpleNamespace(label=label, kind=kind, data=data, claims=claims)

    def register(self, tx: Transaction, draft: Any) -> int:
        row = RequestRow(draft.kind, 2, "00", key=draft.label, document=draft.data)
        return tx.requests.add(row).id

    def waiting(self, request: int) -> WaitingError:
        return WaitingError(f"waiting: request {request}", request=request)


@dataclass
class SoftTurns:
    """`tpmhsm.ca.signer.SigningTurns`, in the thread that asks."""

    signer: SoftSigner
    commands: int = 0

    def put(self, label: str, data: bytes, then: Callable[[bytes | None, Any], None]) -> None:
        try:
            signature = self.signer.sign(label, data)
        except TpmHsmError as error:
            then(None, error)
        else:
            then(signature, None)

    def close(self) -> None:
        pass


@dataclass
class House:
    """A database, a signer with the keys `root`, `issuing`, `leaf`, and authorities over them."""

    home: Path
    store: Store
    signer: SoftSigner

    @property
    def authorities(self) -> Authorities:
        return Authorities(self.store, self.signer, read_settings(self.home))
