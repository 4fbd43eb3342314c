"""The signer that authorities are handed: chip keys, by themselves or through people."""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tpmhsm.approval.acts import rule_of
from tpmhsm.approval.request import BACKUP, PEOPLE_KINDS, parse_request
from tpmhsm.errors import NotFoundError, RefusedError, WaitingError
from tpmhsm.policy.people import describe_outstanding, still_needed
from tpmhsm.requests.drafts import Drafts, register

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    from tpmhsm.approval.request import Claims, Request
    from tpmhsm.keys.keyring import Keyring
    from tpmhsm.store import Store, Transaction
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.store.requests import RequestRow


_KNOWN = 1.0
"""Seconds that a key's row is used without looking again."""


def _is_live(row: RequestRow) -> bool:
    """Whether it is approved over a nonce of a session that waits in the chip."""
    if row.kind != "budget":
        return row.kind == "window"
    from tpmhsm.policy.budgets import parse_grant

    return parse_grant(parse_request(row.document).content).first


class DeskSigner:
    """`tpmhsm.ca.signer.Signer` over the keyring and the desk."""

    def __init__(self, store: Store, keyring: Keyring, drafts: Drafts) -> None:
        self._store = store
        self._keyring = keyring
        self._drafts = drafts

    def public_key(self, label: str) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
        """The public half. Raises NotFoundError."""
        return self._keyring.public_key(self._keyring.signing(label))

    def hash_name(self, label: str) -> str:
        """The hash the key signs with."""
        return self._keyring.signing(label).hash

    def needs_people(self, label: str) -> bool:
        """Whether each signature waits for approvals."""
        return self._keyring.people(self._keyring.get(label)) is not None

    def sign(self, label: str, data: bytes) -> bytes:
        """Sign now. Raises RefusedError for a key that needs people."""
        row = self._keyring.signing(label)
        return self._keyring.sign_digest(row, hashlib.new(row.hash, data).digest())

    def turns(self) -> DeskTurns:
        """Begin to sign many. Close it when done."""
        return DeskTurns(self._keyring)

    def draft(self, label: str, kind: str, data: bytes, claims: Claims) -> Request:
        """An approval request that is not kept yet."""
        return self._drafts.of_signature(self._keyring.get(label), kind, data, claims)

    def register(self, tx: Transaction, draft: Request) -> int:
        """Keep it; gives its id."""
        return register(tx, draft)

    def waiting(self, request: int) -> WaitingError:
        """What to tell people about a waiting request."""
        with self._store.reading() as tx:
            row = tx.requests.get(request)
            approvals = [approval.approver for approval in tx.requests.approvals(request)]
            group = tx.groups.get_by_id(row.group_id or "")
        who = "custodians" if row.kind in (*PEOPLE_KINDS, BACKUP) else "officers"
        missing = _missing(row, approvals)
        words = f" (fingerprint: {group.fingerprint})" if row.kind == "group" else ""
        if _is_live(row):
            words = f" (by {row.expires}, and before any restart of the chip)"
        return WaitingError(
            f"waiting for {missing} {who} of {group.name}: request {request}{words}",
            request=request,
            hint=f"tpmhsm request export {request} writes the file for the approvers' machines; "
            f"tpmhsm approve {request} --as NAME -i KEY approves here{self._instead(row)}",
            details={
                "needed": row.needed,
                "approvals": len(approvals),
                "digest": row.digest,
                "group": group.name,
                "fingerprint": group.fingerprint,
            },
        )

    def _instead(self, row: RequestRow) -> str:
        """What signs or decrypts without people, where the key's policy has a PIN for that."""
        if row.kind in {"group", "roster", "budget", "window"} or not row.key:
            return ""
        try:
            alternatives = self._keyring.policy(self._keyring.get(row.key)).alternatives
        except NotFoundError:  # deleted meanwhile
            return ""
        alone = any(one.pin and not one.group for one in alternatives)
        return "; the command that asked, with --pin-file F, asks nobody" if alone else ""

    def complete(
        self, tx: Transaction, row: RequestRow, key: KeyRow, content: bytes, signature: bytes
    ) -> dict[str, Any]:
        """What becomes of a signature that people approved: certificate, CRL, CSR, or plain."""
        if row.kind == "certificate":
            from tpmhsm.ca.issuance import complete_certificate

            return complete_certificate(tx, row.id, content, signature)
        if row.kind == "crl":
            from tpmhsm.ca.crls import complete_request

            return complete_request(tx, row.id, content, signature)
        result = {"signature": b64encode(signature).decode()}
        if row.kind == "csr":
            der = resume_csr(self._keyring.public_key(key), key.hash, content).complete(signature)
            result["pem"] = csr_pem(der)
        return result


def _missing(row: RequestRow, approved: list[str]) -> str:
    """'2 of the', or of joined ladders '1 of (alice, carol) and 1 of (dave, erin),'."""
    rule = rule_of(parse_request(row.document))
    if len(rule) == 1:
        return f"{still_needed(rule, approved)} of the"
    return f"{describe_outstanding(rule, approved) or 'none'},"


class DeskTurns:
    """`tpmhsm.ca.signer.SigningTurns` over the keyring: for keys that need nobody."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._turns = keyring.turns()
        self._known: dict[str, tuple[float, KeyRow]] = {}

    @property
    def commands(self) -> int:
        """How many commands the chip was sent."""
        return self._turns.commands

    def put(
        self,
        label: str,
        data: bytes,
        then: Callable[[bytes | None, BaseException | None], None],
    ) -> None:
        """Have `data` signed. Raises NotFoundError, RefusedError for a key that needs people."""
        row = self._row(label)
        self._turns.put(row, hashlib.new(row.hash, data).digest(), then)

    def close(self) -> None:
        """Sign what still waits, then end."""
        self._turns.close()

    def _row(self, label: str) -> KeyRow:
        """The key, not asked of the database more than once a second."""
        at, row = self._known.get(label, (0.0, None))
        if row is None or time.monotonic() - at > _KNOWN:
            row = self._keyring.signing(label)
            if self._keyring.people(row) is not None:
                raise RefusedError(f"key {label!r} signs only with approvals", code="needs-people")
            self._known[label] = (time.monotonic(), row)
        return row


def resume_csr(
    public: ec.EllipticCurvePublicKey | rsa.RSAPublicKey, hash_name: str, content: bytes
) -> Any:
    """The unsigned CSR again, from its CertificationRequestInfo."""
    from dataclasses import replace

    from tpmhsm.pki.csr import CsrContent, prepare_csr
    from tpmhsm.pki.names import parse_dn

    # a CertificationRequestInfo does not name the signature algorithm; the key decides it
    model = prepare_csr(public, CsrContent(parse_dn("CN=model")), hash_name)
    return replace(model, tbs=content)


def csr_pem(der: bytes) -> str:
    """A CSR as PEM text."""
    from tpmhsm.pki.load import to_pem

    return to_pem(der, "CERTIFICATE REQUEST").decode()


def refuse_structures(data: bytes, *, people: bool) -> None:
    """Refuse to sign as a file what, signed, would be a certificate, CRL, OCSP response or CSR.

    So is what some verifier might take for one. Where people must approve, whole structures in PEM
    too: nobody would see what they say.
    """
    from tpmhsm.pki.disguise import is_text, signed_structure

    what = signed_structure(data)
    if what and (people or not is_text(data)):
        raise RefusedError(
            f"these bytes are {what}; signed as a file they would become more than a file",
            code="to-be-signed",
            hint="tpmhsm ca sign issues certificates, csr create makes CSRs",
        )
