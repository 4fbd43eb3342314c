"""Keys by label: the chip's objects and what the database keeps of them."""

from __future__ import annotations

import secrets
from base64 import b64encode
from typing import TYPE_CHECKING

from tpmhsm.errors import (
    ChipRefusedError,
    ExistsError,
    RefusedError,
    UsageError,
    VerificationError,
)
from tpmhsm.keys import budgets
from tpmhsm.keys.auditing import mark_for_keys
from tpmhsm.keys.backups import Backups
from tpmhsm.keys.births import Use, Wanted, key_row, must_sign
from tpmhsm.keys.budgets import Budgets
from tpmhsm.keys.choice import Chooser, Pins, bind, policy_of_row
from tpmhsm.keys.decryption import Decryption
from tpmhsm.keys.groups import Groups
from tpmhsm.keys.host import load_host
from tpmhsm.keys.importing import Importing
from tpmhsm.keys.loading import load_row
from tpmhsm.keys.windows import Windows
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.documents import check_label
from tpmhsm.policy.model import Quorum
from tpmhsm.policy.published import format_document, read_policy
from tpmhsm.tpm.pins import Pin, check_pin
from tpmhsm.wire.codec import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    from tpmhsm.keys.private import ChipEllipticCurveKey, ChipRsaKey
    from tpmhsm.keys.turns import Turns
    from tpmhsm.policy.plan import Approvals
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.certificates import CertificateRow
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.device import Device


class Keyring:
    """The keys of one home in one device."""

    def __init__(self, store: Store, device: Device, pins: Pins | None = None) -> None:
        self._store = store
        self._device = device
        self._groups = Groups(store, device)
        self.windows = Windows(store, device, self._groups)
        self._chooser = Chooser(self._groups, device, pins, self.windows)
        self.budgets = Budgets(store, device, self._groups)
        self.decryption = Decryption(store, device, self._groups, self._chooser)
        self.importing = Importing(store, device, self)
        self.backups = Backups(store, device, self._groups)

    # ── life ─────────────────────────────────────────────────────────────────

    def create(
        self,
        label: str,
        alg: str,
        *,
        policy: str,
        hash_name: str = "sha256",
        pin: bytes = b"",
        use: Use = "sign",
        backup_to: str = "",
    ) -> KeyRow:
        """Make a key in the chip and keep it, with its creation ticket and a CertifyCreation.

        `policy` as text or as a document; `pin` for one that wants it; `backup_to` as of `Wanted`.
        Raises ExistsError for a taken label, UsageError for a policy that no key can have,
        DeviceError for an algorithm the chip has not.
        """
        wanted = Wanted(label, alg, policy, hash_name, use, pin, backup_to)
        bound, group_id = self.prepare(wanted)
        row = self.make(wanted, lambda chip: self.budgets.place(chip, bound), group_id)
        with self._store.transaction() as tx:
            return keep(tx, row)

    def make(
        self,
        wanted: Wanted,
        place: Callable[[Chip], KeyPolicy],
        group_id: str | None,
        *,
        indices: bool = True,
    ) -> KeyRow:
        """Have the chip make a key with the policy that `place` gives; it is not kept yet.

        `indices`: those that count its budgets are made with it.
        """
        from tpmhsm.tpm import objects

        host = load_host(self._store)
        with self._store.reading() as tx:
            after = mark_for_keys(tx)
        with self._device.transaction() as chip:
            bound, alg = place(chip), wanted.alg
            parent = objects.storage_parent(chip, host.parent_name)
            secret = Pin.to(parent, wanted.pin) if bound.has_pin else None
            made = objects.create_from(chip, parent, wanted.template(bound), alg, secret, after)
            attestation = objects.attestation_key(chip, host.ak_name)
            loaded = objects.load_key(chip, parent, made.public, made.private)
            born = objects.certify_creation(
                chip, attestation, loaded, made, secrets.token_bytes(32)
            )
            if indices:
                budgets.make(chip, bound, made.private)
        return key_row(wanted, bound, made, group_id, born, parent=encode(parent.public))

    def prepare(self, wanted: Wanted) -> tuple[KeyPolicy, str | None]:
        """The bound policy of a key that is to be made, and the id of its first group.

        Raises ExistsError for a taken label, UsageError for a policy that the key cannot have.
        """
        check_label(wanted.label, "key label")
        bound = bind(read_policy(wanted.policy), self._groups, self._device, wanted.command)
        if to := wanted.backup_to or next(iter(bound.backup), ""):
            bound = bound.copied_by(self._groups.active(to).group)
        if bound.has_pin:
            check_pin(wanted.pin)
        group = self._groups.active(bound.rosters[0]) if bound.rosters else None
        self.must_be_free(wanted.label)
        return bound, group.row.id if group else None

    def must_be_free(self, label: str) -> None:
        """Raise ExistsError for a label that a key has."""
        with self._store.reading() as tx:
            if tx.keys.find(label):
                raise ExistsError(
                    f"a key named {label!r} exists already", hint="tpmhsm key list shows all keys"
                )

    def all(self) -> list[KeyRow]:
        """All keys, by label."""
        with self._store.reading() as tx:
            return tx.keys.all()

    def get(self, label: str) -> KeyRow:
        """One key. Raises NotFoundError."""
        with self._store.reading() as tx:
            return tx.keys.get(label)

    def signing(self, label: str) -> KeyRow:
        """One key that signs. Raises NotFoundError, UsageError for one that decrypts."""
        row = self.get(label)
        must_sign(row)
        return row

    def certificates(self, row: KeyRow) -> list[CertificateRow]:
        """The certificates of a key, by its public key."""
        with self._store.reading() as tx:
            return tx.certificates.all(spki_sha256=row.spki_sha256)

    def users(self, label: str) -> list[str]:
        """In words, what would be lost with a key: authorities, requests, certificates in force."""
        with self._store.reading() as tx:
            return _users(tx, tx.keys.get(label))

    def delete(self, label: str, *, force: bool = False) -> KeyRow:
        """Forget a key and wipe its wrapped private part. Raises UsageError while it is in use."""
        with self._store.transaction() as tx:
            row = tx.keys.get(label)
            users = _users(tx, row)
            if users and not force:
                raise UsageError(
                    f"key {label!r} is in use: {', '.join(users)}",
                    code="in-use",
                    hint="--force deletes it all the same; nothing brings it back",
                )
            gone = tx.keys.delete(label)
            tx.audit.append("key-delete", {"label": label, "name": row.name})
        self.budgets.remove(row)
        return gone

    # ── signing ──────────────────────────────────────────────────────────────

    def policy(self, row: KeyRow) -> KeyPolicy:
        """A key's policy with everything that its digest depends on."""
        return policy_of_row(row, self._groups)

    def published(self, row: KeyRow) -> str:
        """The policy as it is published with the key: a document in TOML."""
        return row.policy_document or format_document(self.policy(row))

    def people(self, row: KeyRow) -> Quorum | None:
        """The quorum that must approve the next signature, None when the key signs without."""
        group = self._chooser.people(row)
        return None if group is None else Quorum(group)

    def sign_digest(
        self, row: KeyRow, digest: bytes, approvals: Approvals | None = None, group: str = ""
    ) -> bytes:
        """The chip's signature over a digest by the key's hash: DER ECDSA or PKCS#1 v1.5.

        `approvals` by officers of `group` (the policy's first, if empty) for a key with a quorum;
        the chip, not this code, judges them. Asks for the PIN of a key that wants it. The
        signature is verified before it is given back. Raises ChipRefusedError.
        """
        from tpmhsm.policy.plan import Officers
        from tpmhsm.tpm import objects, policies

        must_sign(row)
        officers = None
        if approvals is not None:
            group = group or (self.policy(row).groups or ("",))[0]
            state = self._groups.active(group)
            officers = Officers(state.group, state.roster, approvals)
        choice = self._chooser.choose(row, group if officers else "")
        plan = choice.plan(row, digest, officers)
        host = load_host(self._store)
        try:
            with self._device.transaction() as chip:
                parent = objects.storage_parent(chip, host.parent_name)
                pin = Pin.to(parent, choice.pin) if choice.pin else None
                key = load_row(chip, parent, row)
                if plan is None:
                    signature = objects.sign_digest(chip, key, digest)
                else:
                    command = objects.sign_command(key, digest)
                    signature = objects.plain_signature(
                        policies.execute(chip, plan, command, pin).signature
                    )
        except ChipRefusedError as error:
            self.windows.note_end(row, plan, error)
            raise
        _check(row, digest, signature)
        return signature

    def turns(self) -> Turns:
        """Begin to sign many, by a thread of its own. Close it when done."""
        from tpmhsm.keys.turns import Turns

        return Turns(self._store, self._device, self._chooser.choose, self.windows.note_end)

    def private_key(self, label: str) -> ChipEllipticCurveKey | ChipRsaKey:
        """The key as `cryptography` knows private keys. Raises RefusedError if it needs people."""
        from tpmhsm.keys.private import ChipEllipticCurveKey, ChipRsaKey

        row = self.signing(label)
        if quorum := self.people(row):
            raise RefusedError(
                f"key {label!r} signs only with approvals of {quorum.group!r}",
                code="needs-people",
                hint="tpmhsm ca sign, csr create and key sign make approval requests",
            )

        def sign(digest: bytes) -> bytes:
            return self.sign_digest(row, digest)

        public = self.public_key(row)
        from cryptography.hazmat.primitives.asymmetric import ec

        if isinstance(public, ec.EllipticCurvePublicKey):
            return ChipEllipticCurveKey(public, row.hash, sign)
        return ChipRsaKey(public, row.hash, sign)

    # ── the public half ──────────────────────────────────────────────────────

    def public_key(self, row: KeyRow) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
        """The public key as `cryptography` knows it."""
        return _load_public(row.spki)

    def public_pem(self, row: KeyRow) -> str:
        """SubjectPublicKeyInfo as PEM."""
        body = b64encode(row.spki).decode()
        lines = [body[i : i + 64] for i in range(0, len(body), 64)]
        return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])

    def tss2(self, row: KeyRow) -> bytes:
        """DER of the wrapped key for other programs on this machine; see `tpmhsm.keys.tss2`.

        Raises UsageError for a key with a policy: other programs cannot fulfil it.
        """
        from tpmhsm.keys.tss2 import loadable_key
        from tpmhsm.tpm.objects import storage_parent

        if row.policy != "open":
            raise UsageError(
                f"key {row.label!r} signs by {row.policy}, which other programs cannot fulfil",
                hint="only open keys are exported with --tss2",
            )
        host = load_host(self._store)
        with self._device.transaction() as chip:
            parent = storage_parent(chip, host.parent_name)
        return loadable_key(parent.handle, row.public, row.private)

    def verify(self, row: KeyRow, data: bytes, signature: bytes) -> None:
        """Check a signature over `data`. Raises VerificationError."""
        import hashlib

        must_sign(row)
        _check(row, hashlib.new(row.hash, data).digest(), signature)


def keep(tx: Transaction, row: KeyRow) -> KeyRow:
    """Keep a key that the chip has made. Raises ExistsError for a taken label."""
    facts = {"label": row.label, "name": row.name, "policy": row.policy}
    tx.audit.append("key-create", facts if row.use == "sign" else {**facts, "use": row.use})
    return tx.keys.add(row)


def _users(tx: Transaction, row: KeyRow) -> list[str]:
    from tpmhsm.store.schema import now

    certificates = tx.certificates.all(spki_sha256=row.spki_sha256)
    return [
        *(f"authority {a.name!r}" for a in tx.authorities.all() if a.key_label == row.label),
        *(f"request {r.id} waits for it" for r in tx.requests.all("waiting") if r.key == row.label),
        *(f"certificate {c.sha256[:16]}" for c in certificates if c.not_after > now()),
    ]


def _load_public(spki: bytes) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    key = load_der_public_key(spki)
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)  # noqa: S101 - ours
    return key


def _check(row: KeyRow, digest: bytes, signature: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, padding
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

    from tpmhsm.keys.private import hash_of

    hashed = Prehashed(hash_of(row.hash))
    key = _load_public(row.spki)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, digest, ec.ECDSA(hashed))
        else:
            key.verify(signature, digest, padding.PKCS1v15(), hashed)
    except (InvalidSignature, ValueError) as error:
        raise VerificationError(f"the signature is not one by {row.label!r} over this") from error
