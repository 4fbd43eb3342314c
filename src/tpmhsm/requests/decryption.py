"""Decryption for whoever asks at this host: files, messages, and secrets that are agreed on.

Where people must approve, the approved request is kept, and what it gives is not: the same file
again has the chip decrypt again, as often as the officers stay the same. So nothing that was
decrypted is ever written by this program, but where the person who asks says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from tpmhsm.approval.request import Claims
from tpmhsm.errors import UsageError
from tpmhsm.keys.births import must_decrypt
from tpmhsm.pki.envelopes import Envelope, Recipient, is_envelope, read_envelope
from tpmhsm.requests.drafts import register
from tpmhsm.requests.execution import finish, still_waits, votes_by_act

if TYPE_CHECKING:
    from tpmhsm.approval.request import Request
    from tpmhsm.keys.groups import Groups
    from tpmhsm.keys.keyring import Keyring
    from tpmhsm.requests.ledger import Ledger
    from tpmhsm.store import Store
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.store.requests import RequestRow

KIND = "decrypt"


@dataclass(frozen=True)
class Asked:
    """What the chip is to be given, and how its answer opens what was asked for."""

    content: bytes
    opened: Callable[[bytes], bytes]
    head: bytes = b""


class Decryptions:
    """Decrypts by the keys of a home, through people where they are wanted."""

    def __init__(self, store: Store, keyring: Keyring, groups: Groups, ledger: Ledger) -> None:
        self._store = store
        self._keyring = keyring
        self._groups = groups
        self._ledger = ledger

    def decrypt(self, label: str, data: bytes, *, name: str = "", reason: str = "") -> bytes:
        """The plaintext of a file: an RSA ciphertext (OAEP), or an encrypted message (CMS, S/MIME).

        Raises WaitingError when people must approve it first, UsageError for a file that cannot be
        for this key, RefusedError when the chip says so.
        """
        row = self._key(label)
        return self._opened(row, self._asked(row, data), data, name, reason)

    def derive(self, label: str, peer: bytes, *, name: str = "", reason: str = "") -> bytes:
        """The secret shared with the owner of a public key: SubjectPublicKeyInfo, DER or PEM.

        It is the x coordinate of the common point (SEC 1, section 3.3.1). Errors as of `decrypt`.
        """
        from tpmhsm.pki.load import pem_blocks

        row = self._key(label)
        if not row.alg.startswith("p"):
            raise UsageError(
                f"key {label!r} is an RSA key: it decrypts, and agrees on nothing",
                code="key-kind",
                hint="tpmhsm key decrypt",
            )
        blocks = [one.der for one in pem_blocks(peer) if one.label == "PUBLIC KEY"]
        spki = blocks[0] if blocks else peer
        return self._opened(row, Asked(_spelled(row, spki), bytes), peer, name, reason)

    def _key(self, label: str) -> KeyRow:
        row = self._keyring.get(label)
        must_decrypt(row)
        return row

    def _asked(self, row: KeyRow, data: bytes) -> Asked:
        """A raw ciphertext is known by its length alone; anything else must be a message."""
        rsa = row.alg.startswith("rsa")
        if rsa and len(data) == int(row.alg[3:]) // 8:
            return Asked(data, bytes)
        if is_envelope(data):
            return self._message(row, read_envelope(data))
        size = f" ({int(row.alg[3:]) // 8} bytes)" if rsa else ""
        raise UsageError(
            f"this is neither an RSA ciphertext of the key's size{size} nor an encrypted message "
            "(CMS, S/MIME)"
            if rsa
            else "this is no encrypted message (CMS, S/MIME)",
            code="not-for-this-key",
            hint="" if rsa else "tpmhsm key derive LABEL PEER.pub agrees on a secret with a key",
        )

    def _message(self, row: KeyRow, envelope: Envelope) -> Asked:
        from tpmhsm.pki.addressees import find_recipient
        from tpmhsm.pki.envelope_crypto import open_envelope

        certificates = [one.der for one in self._keyring.certificates(row)]
        recipient: Recipient = find_recipient(envelope, row.spki, certificates, row.hash)

        def opened(secret: bytes) -> bytes:
            return open_envelope(envelope, recipient, secret)

        return Asked(recipient.asked, opened, envelope.head)

    def _opened(self, row: KeyRow, asked: Asked, data: bytes, name: str, reason: str) -> bytes:
        if self._keyring.people(row) is None:
            secret = self._keyring.decryption.decrypt(row, asked.content)
            with self._store.transaction() as tx:
                told = {"key": row.label, "sha256": sha256(asked.content).hexdigest()}
                tx.audit.append("decrypted", told)
            return asked.opened(secret)
        from tpmhsm.policy.bound import bound_decrypt

        bound_decrypt(row.public, asked.content)  # nobody is asked for what cannot be
        texts = {"file": name, "size": f"{len(data):,} bytes"}
        texts |= {"file_sha256": sha256(data).hexdigest()} if asked.head else {}
        claims = Claims(reason=reason, texts=texts, message=asked.head)
        return asked.opened(self._approved(row, asked.content, claims))

    def _approved(self, row: KeyRow, content: bytes, claims: Claims) -> bytes:
        """By the approvals of the same bytes before, or else people are asked."""
        digest = sha256(content).hexdigest()
        for request in reversed(self._ledger.of_key(KIND, row.label, "waiting", "executed")):
            if request.digest != digest:
                continue
            if self._ledger.missing(request):
                raise self._ledger.waiting(request.id)
            if self._in_force(request):
                return self.execute(request.id)
        draft = self._ledger.signer.draft(row.label, KIND, content, claims)
        with self._store.transaction() as tx:
            number = register(tx, draft)
        raise self._ledger.waiting(number)

    def _in_force(self, row: RequestRow) -> bool:
        """Whether the officers are those that were asked: the chip takes no others' approvals."""
        roster = self._ledger.request(row.id).roster
        with self._store.reading() as tx:
            current = tx.rosters.in_force(row.group_id or "")
        return bool(current and roster and current.epoch == roster.epoch)

    def execute(self, number: int) -> bytes:
        """What the chip gives for an approved request, again if it was executed before.

        It is on record before it is given. Raises WaitingError while approvals are missing.
        """
        row = self._ledger.must_go_on(number)
        request: Request = self._ledger.request(number)
        (votes,) = votes_by_act(request)
        key = self._keyring.get(row.key or "")
        secret = self._keyring.decryption.decrypt(key, request.content, votes, request.group.name)
        with self._store.transaction() as tx:
            if still_waits(tx, row):
                finish(tx, row, {"given": True})
            tx.audit.append("decrypted", {"request": number, "key": key.label})
        return secret


def _spelled(row: KeyRow, spki: bytes) -> bytes:
    """The other's key as it is always written, so that the same key is the same request."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from tpmhsm.pki.keys import load_spki
    from tpmhsm.policy.bound import bound_decrypt

    bound_decrypt(row.public, spki)
    key = load_spki(spki)
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
