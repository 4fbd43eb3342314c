"""Keys in a device, by label. The private part is a blob that only its own chip can open."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256

from sqlalchemy import Column, ForeignKey, LargeBinary, Table, Text

from tpmhsm.errors import ExistsError
from tpmhsm.store.schema import Repository, identity, metadata, now, one_or_missing


@dataclass(frozen=True)
class KeyRow:
    """A key. `public` is a TPMT_PUBLIC, `private` a TPM2B_PRIVATE's content, `name` hexadecimal.

    The creation fields are what TPM2_Create gave at birth, kept for CertifyCreation; of a key that
    may be copied `creation_parent` is the TPMT_PUBLIC of the storage key under which it was made.
    `policy_document` is the policy as it is published, when `policy` alone does not say it all.
    Of a copy, `parent` is the Name (hexadecimal) of the storage key that it was made for, and
    `origin` the public part of the backup from which it came, as JSON.
    """

    label: str
    alg: str
    hash: str
    use: str
    policy: str
    public: bytes
    private: bytes
    name: str
    spki: bytes
    group_id: str | None = None
    creation_data: bytes = b""
    creation_hash: bytes = b""
    creation_ticket: bytes = b""
    creation_attest: bytes = b""
    creation_signature: bytes = b""
    creation_parent: bytes = b""
    spki_sha256: str = ""
    policy_document: str = ""
    state: str = "present"
    created: str = ""
    deleted: str = ""
    parent: str = ""
    origin: str = ""
    id: int = 0


keys = Table(
    "keys",
    metadata,
    identity(),
    Column("label", Text, nullable=False),
    Column("alg", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("use", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("policy_document", Text, nullable=False, server_default=""),
    Column("group_id", Text, ForeignKey("groups.id")),
    Column("public", LargeBinary, nullable=False),
    Column("private", LargeBinary, nullable=False),
    Column("name", Text, nullable=False, index=True),
    Column("spki", LargeBinary, nullable=False),
    Column("spki_sha256", Text, nullable=False, index=True),
    Column("creation_data", LargeBinary, nullable=False),
    Column("creation_hash", LargeBinary, nullable=False),
    Column("creation_ticket", LargeBinary, nullable=False),
    Column("creation_attest", LargeBinary, nullable=False),
    Column("creation_signature", LargeBinary, nullable=False),
    Column("creation_parent", LargeBinary, nullable=False, server_default=""),
    Column("state", Text, nullable=False),
    Column("created", Text, nullable=False),
    Column("deleted", Text, nullable=False),
    Column("parent", Text, nullable=False, server_default=""),
    Column("origin", Text, nullable=False, server_default=""),
)


class Keys(Repository[KeyRow]):
    """Keys that are present, unless asked otherwise."""

    table = keys
    row = KeyRow
    stamp = "created"

    def add(self, key: KeyRow) -> KeyRow:
        """Keep a key; fills spki_sha256. Raises ExistsError when the label is taken."""
        if self.find(key.label) is not None:
            raise ExistsError(
                f"a key named {key.label!r} exists already", hint="tpmhsm key list shows all keys"
            )
        return self._insert(replace(key, spki_sha256=sha256(key.spki).hexdigest()))

    def find(self, label: str) -> KeyRow | None:
        """The present key of this label."""
        return self._first(keys.c.label == label, keys.c.state == "present")

    def get(self, label: str) -> KeyRow:
        """The present key of this label. Raises NotFoundError."""
        return one_or_missing(
            self.find(label), f"there is no key named {label!r}", "tpmhsm key list shows all keys"
        )

    def find_by_name(self, name: str) -> KeyRow | None:
        """The present key with this TPM Name (hexadecimal)."""
        return self._first(keys.c.name == name, keys.c.state == "present")

    def find_by_spki(self, spki_sha256: str) -> KeyRow | None:
        """The present key whose SubjectPublicKeyInfo hashes to this (hexadecimal)."""
        return self._first(keys.c.spki_sha256 == spki_sha256, keys.c.state == "present")

    def all(self, *, deleted: bool = False) -> list[KeyRow]:
        """Present keys by label; with `deleted` the records of deleted ones too."""
        where = [] if deleted else [keys.c.state == "present"]
        return self._select(*where, order=(keys.c.label, keys.c.id))

    def save(self, key: KeyRow) -> KeyRow:
        """Write a changed row back (`dataclasses.replace`). Raises NotFoundError."""
        return self._save(key, f"there is no key named {key.label!r}")

    def delete(self, label: str) -> KeyRow:
        """Mark a key deleted and wipe its private part; its label is free again.

        The record stays. Raises NotFoundError.
        """
        gone = replace(self.get(label), state="deleted", deleted=now(), private=b"")
        return self._save(gone, f"there is no key named {label!r}")
