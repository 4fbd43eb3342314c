"""What an approver's tool remembers between approvals. It lives in the approver's own home.

Pins are made once; a second, different value under the same id is refused, never overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import BigInteger, Boolean, Column, ColumnElement, LargeBinary, Table, Text, delete
from sqlalchemy.engine import Connection

from tpmhsm.errors import ExistsError, UsageError
from tpmhsm.store.schema import Repository, metadata, now


@dataclass(frozen=True)
class PinnedGroupRow:
    """A group whose fingerprint was compared. Ids and Names are hexadecimal."""

    group_id: str
    fingerprint: str
    ak_name: str
    document: bytes
    pinned: str = ""


@dataclass(frozen=True)
class PinnedKeyRow:
    """A key whose evidence was verified. `name` is its TPM Name, `public` its TPMT_PUBLIC."""

    name: str
    label: str
    group_id: str
    public: bytes
    pinned: str = ""


@dataclass(frozen=True)
class EpochRow:
    """A roster that was approved (or seen in force) for an epoch; `roster_digest` hexadecimal."""

    group_id: str
    epoch: int
    roster_digest: str
    seen: str = ""


@dataclass(frozen=True)
class CertifiedKeyRow:
    """A public key that was approved for certification before, and under which subject."""

    spki_sha256: str
    subject: str
    ca: bool = False
    at: str = ""


@dataclass(frozen=True)
class ApprovedCrlRow:
    """The newest CRL that was approved for a key. `number` is decimal, `digest` hexadecimal,
    `entries` the DER content of its revokedCertificates.
    """

    key_name: str
    number: str
    this_update: str
    digest: str
    entries: bytes
    at: str = ""


@dataclass(frozen=True)
class ApprovedCertificateRow:
    """The last certificate that was approved for a key, of one holder: SHA-256 of its subject or
    names. `key_name` and `holder` are hexadecimal, `tbs` its TBSCertificate.
    """

    key_name: str
    holder: str
    tbs: bytes
    at: str = ""


@dataclass(frozen=True)
class GrantedRow:
    """The highest total that was approved for the budget index of a Name, as that of the key with
    the Name `key_name`: of first writes one for each live session's `nonce`, of all later ones one
    without. All but `total` is hexadecimal.
    """

    index_name: str
    nonce: str
    key_name: str
    total: int
    at: str = ""


@dataclass(frozen=True)
class ChallengeRow:
    """A nonce that was handed out and not answered yet, hexadecimal."""

    nonce: str
    made: str = ""


@dataclass(frozen=True)
class LiveRow:
    """The counter of a group when its chip first answered a nonce of this home."""

    group_id: str
    epoch: int
    seen: str = ""


pinned_groups = Table(
    "pinned_groups",
    metadata,
    Column("group_id", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("ak_name", Text, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("pinned", Text, nullable=False),
)
pinned_keys = Table(
    "pinned_keys",
    metadata,
    Column("name", Text, primary_key=True),
    Column("label", Text, nullable=False),
    Column("group_id", Text, nullable=False),
    Column("public", LargeBinary, nullable=False),
    Column("pinned", Text, nullable=False),
)
epochs = Table(
    "epochs",
    metadata,
    Column("group_id", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("roster_digest", Text, nullable=False),
    Column("seen", Text, nullable=False),
)
certified_keys = Table(
    "certified_keys",
    metadata,
    Column("spki_sha256", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("ca", Boolean, nullable=False),
    Column("at", Text, nullable=False),
)
approved_crls = Table(
    "approved_crls",
    metadata,
    Column("key_name", Text, primary_key=True),
    Column("number", Text, nullable=False),
    Column("this_update", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("entries", LargeBinary, nullable=False),
    Column("at", Text, nullable=False),
)


approved_certificates = Table(
    "approved_certificates",
    metadata,
    Column("key_name", Text, primary_key=True),
    Column("holder", Text, primary_key=True),
    Column("tbs", LargeBinary, nullable=False),
    Column("at", Text, nullable=False),
)


granted_totals = Table(
    "granted_totals",
    metadata,
    Column("index_name", Text, primary_key=True),
    Column("nonce", Text, primary_key=True),
    Column("key_name", Text, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("at", Text, nullable=False),
)


challenges = Table(
    "challenges",
    metadata,
    Column("nonce", Text, primary_key=True),
    Column("made", Text, nullable=False),
)
live_states = Table(
    "live_states",
    metadata,
    Column("group_id", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("seen", Text, nullable=False),
)


class _Groups(Repository[PinnedGroupRow]):
    table = pinned_groups
    row = PinnedGroupRow
    stamp = "pinned"


class _Keys(Repository[PinnedKeyRow]):
    table = pinned_keys
    row = PinnedKeyRow
    stamp = "pinned"


class _Epochs(Repository[EpochRow]):
    table = epochs
    row = EpochRow
    stamp = "seen"


class _Certified(Repository[CertifiedKeyRow]):
    table = certified_keys
    row = CertifiedKeyRow
    stamp = "at"


class _ApprovedCrls(Repository[ApprovedCrlRow]):
    table = approved_crls
    row = ApprovedCrlRow
    stamp = "at"


class _ApprovedCertificates(Repository[ApprovedCertificateRow]):
    table = approved_certificates
    row = ApprovedCertificateRow
    stamp = "at"


class _Granted(Repository[GrantedRow]):
    table = granted_totals
    row = GrantedRow
    stamp = "at"


class _Challenges(Repository[ChallengeRow]):
    table = challenges
    row = ChallengeRow
    stamp = "made"


class _Live(Repository[LiveRow]):
    table = live_states
    row = LiveRow
    stamp = "seen"


def _of_holder(key_name: str, holder: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    table = approved_certificates
    return table.c.key_name == key_name, table.c.holder == holder


class ApproverMemory:
    """Pinned groups and keys, epochs, certified keys, CRLs, budgets, over one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._groups = _Groups(connection)
        self._keys = _Keys(connection)
        self._epochs = _Epochs(connection)
        self._certified = _Certified(connection)
        self._certificates = _ApprovedCertificates(connection)
        self._crls = _ApprovedCrls(connection)
        self._granted = _Granted(connection)
        self._challenges = _Challenges(connection)
        self._live = _Live(connection)

    def pinned_group(self, group_id: str) -> PinnedGroupRow | None:
        """The pin of a group, or None before the first approval."""
        return self._groups._first(pinned_groups.c.group_id == group_id)

    def pinned_groups(self) -> list[PinnedGroupRow]:
        """All pinned groups, oldest first."""
        return self._groups._select(order=pinned_groups.c.pinned)

    def pin_group(
        self, group_id: str, fingerprint: str, ak_name: str, document: bytes
    ) -> PinnedGroupRow:
        """Pin a group; again with the same facts is no error. ExistsError if they differ."""
        known = self.pinned_group(group_id)
        if known is None:
            return self._groups._insert(PinnedGroupRow(group_id, fingerprint, ak_name, document))
        if (known.fingerprint, known.ak_name, known.document) != (fingerprint, ak_name, document):
            raise ExistsError(f"group {group_id} is pinned with other facts")
        return known

    def unpin_group(self, group_id: str) -> None:
        """Forget a group's pin and its keys' pins. What is known of its epochs stays."""
        self._connection.execute(delete(pinned_groups).where(pinned_groups.c.group_id == group_id))
        self._connection.execute(delete(pinned_keys).where(pinned_keys.c.group_id == group_id))

    def pinned_key(self, name: str) -> PinnedKeyRow | None:
        """The pin of the key with this Name."""
        return self._keys._first(pinned_keys.c.name == name)

    def pinned_keys(self, group_id: str | None = None) -> list[PinnedKeyRow]:
        """All pinned keys, or those of a group, by label."""
        where = [] if group_id is None else [pinned_keys.c.group_id == group_id]
        return self._keys._select(*where, order=(pinned_keys.c.label, pinned_keys.c.name))

    def pin_key(self, name: str, label: str, group_id: str, public: bytes) -> PinnedKeyRow:
        """Pin a key; again with the same facts is no error. ExistsError if they differ."""
        known = self.pinned_key(name)
        if known is None:
            return self._keys._insert(PinnedKeyRow(name, label, group_id, public))
        if (known.label, known.group_id, known.public) != (label, group_id, public):
            raise ExistsError(f"key {name} is pinned with other facts")
        return known

    def highest_epoch(self, group_id: str) -> EpochRow | None:
        """The highest epoch known of a group and its roster, or None."""
        return self._epochs._first(epochs.c.group_id == group_id, order=epochs.c.epoch.desc())

    def roster_of(self, group_id: str, epoch: int) -> str | None:
        """The roster digest remembered for an epoch."""
        row = self._epochs._first(epochs.c.group_id == group_id, epochs.c.epoch == epoch)
        return row.roster_digest if row else None

    def remember_epoch(self, group_id: str, epoch: int, roster_digest: str) -> None:
        """Remember a roster, in any order of epochs; the same again is no error.

        Raises ExistsError for a second roster of one epoch, UsageError for a number that is none.
        """
        if not 0 <= epoch < 1 << 63:
            raise UsageError(f"{epoch} is no epoch")
        known = self.roster_of(group_id, epoch)
        if known is None:
            self._epochs._insert(EpochRow(group_id, epoch, roster_digest))
        elif known != roster_digest:
            raise ExistsError(f"another roster is remembered for epoch {epoch}")

    def epochs(self, group_id: str) -> list[EpochRow]:
        """All rosters remembered of a group, oldest epoch first."""
        return self._epochs._select(epochs.c.group_id == group_id, order=epochs.c.epoch)

    def certified(self, spki_sha256: str) -> list[CertifiedKeyRow]:
        """Under which subjects a public key was certified before, oldest first."""
        return self._certified._select(
            certified_keys.c.spki_sha256 == spki_sha256,
            order=(certified_keys.c.at, certified_keys.c.subject),
        )

    def subjects_of(self, spki_sha256: str) -> list[str]:
        """The subjects under which a public key was certified before."""
        return [row.subject for row in self.certified(spki_sha256)]

    def remember_certified(self, spki_sha256: str, subject: str, ca: bool = False) -> None:
        """Remember that a key was approved for a certificate; once a CA's, always a CA's."""
        same = (certified_keys.c.spki_sha256 == spki_sha256, certified_keys.c.subject == subject)
        if self._certified._first(*same) is None:
            self._certified._insert(CertifiedKeyRow(spki_sha256, subject, ca))
        elif ca:
            self._certified._change(*same, ca=True)

    def approved_crl(self, key_name: str) -> ApprovedCrlRow | None:
        """The newest CRL that was approved for a key."""
        return self._crls._first(approved_crls.c.key_name == key_name)

    def remember_crl(self, crl: ApprovedCrlRow) -> None:
        """Remember a CRL, unless one with a greater number is remembered."""
        known = self.approved_crl(crl.key_name)
        if known is None:
            self._crls._insert(crl)
        elif int(crl.number) >= int(known.number):
            self._crls._save(replace(crl, at=now()), f"no CRL of the key {crl.key_name}")

    def approved_certificate(self, key_name: str, holder: str) -> ApprovedCertificateRow | None:
        """The last certificate that was approved for a key and a holder."""
        return self._certificates._first(*_of_holder(key_name, holder))

    def remember_certificate(self, row: ApprovedCertificateRow) -> None:
        """Remember a certificate instead of the one before."""
        same = _of_holder(row.key_name, row.holder)
        if self._certificates._first(*same) is None:
            self._certificates._insert(row)
        else:
            self._certificates._change(*same, tbs=row.tbs, at=now())

    def granted(self, index_name: str) -> list[GrantedRow]:
        """The totals that were approved for a budget index."""
        return self._granted._select(granted_totals.c.index_name == index_name)

    def remember_granted(self, granted: GrantedRow) -> None:
        """Remember a total, unless a higher one is remembered."""
        same = (
            granted_totals.c.index_name == granted.index_name,
            granted_totals.c.nonce == granted.nonce,
        )
        known = self._granted._first(*same)
        if known is None:
            self._granted._insert(granted)
        elif granted.total > known.total:
            self._granted._change(*same, total=granted.total, at=now())

    def challenges(self) -> list[ChallengeRow]:
        """The nonces that were not answered yet, oldest first."""
        return self._challenges._select(order=challenges.c.made)

    def add_challenge(self, nonce: str) -> None:
        """Note a nonce that was handed out."""
        self._challenges._insert(ChallengeRow(nonce))

    def drop_challenge(self, nonce: str) -> None:
        """Forget a nonce: it was answered, or is too old."""
        self._connection.execute(delete(challenges).where(challenges.c.nonce == nonce))

    def live_since(self, group_id: str) -> int | None:
        """The counter when the group's chip first answered a nonce, or None."""
        row = self._live._first(live_states.c.group_id == group_id)
        return row.epoch if row else None

    def remember_live(self, group_id: str, epoch: int) -> None:
        """Remember an answer, unless an earlier one is remembered."""
        if self.live_since(group_id) is None:
            self._live._insert(LiveRow(group_id, epoch))

    def undate(self) -> None:
        """Forget when this memory began: that it saw foundings, and answers to its nonces."""
        self._connection.execute(delete(epochs).where(epochs.c.epoch == 0))
        self._connection.execute(delete(live_states))
        self._connection.execute(delete(challenges))
