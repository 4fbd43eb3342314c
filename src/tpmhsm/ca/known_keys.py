"""What this home knows of a requester's key: it is a CA's, compromised, or certified elsewhere.

CA/Browser Forum TLS Baseline Requirements 4.9.1.1 and 6.1.1.3: a key known to be compromised is not
certified. A key that issues certificates serves nothing else, and a key in two names deserves a
word. The bytes alone do not say these things; the database does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpmhsm.ca.batches import reserve_all
from tpmhsm.pki.findings import Finding, refusal, refuse, warning, warnings_of
from tpmhsm.pki.key_checks import HINT, usual_digest
from tpmhsm.pki.tbs import read_tbs_certificate

if TYPE_CHECKING:
    from tpmhsm.pki.issue import Prepared
    from tpmhsm.store import Transaction
    from tpmhsm.store.authorities import SerialRow
    from tpmhsm.store.barred_keys import KeyUse

_FRESH = 1.0
"""Seconds for which the keys of CAs are used without asking the database again."""


@dataclass(frozen=True)
class Wanted:
    """The certificate that is asked for: names in lower case. `usual_sha256` as `usual_digest`."""

    spki_sha256: str
    usual_sha256: str
    subject: str
    names: frozenset[str]
    ca: bool
    root: bool = False


def wanted_of(token: Prepared) -> Wanted:
    """What a token asks for."""
    facts = token.facts
    names = frozenset(san.partition(":")[2].lower() for san in facts["sans"])
    key, root = facts["key"]["sha256"], token.profile.self_signed
    usual = usual_digest(read_tbs_certificate(token.tbs).spki)
    return Wanted(key, usual, facts["subject"], names, facts["ca"], root)


def check_known(tx: Transaction, token: Prepared, authority: str = "") -> tuple[str, ...]:
    """Warnings about a token's key, in words; UsageError (`key-known`) when it is refused.

    `authority` is the name of the authority that the certificate will make, if any.
    """
    wanted = wanted_of(token)
    known = tx.barred_keys.among({wanted.spki_sha256, wanted.usual_sha256})
    barred = next(iter(known.values()), "")
    holders = [n for n in tx.barred_keys.authorities_of(wanted.spki_sha256) if n != authority]
    found = list(_findings(wanted, barred, holders, tx.barred_keys.uses(wanted.spki_sha256)))
    refuse(found, "the public key", hint=HINT, code="key-known")
    return warnings_of(found)


def _findings(
    wanted: Wanted, barred: str, holders: Sequence[str], uses: Sequence[KeyUse]
) -> Iterator[Finding]:
    if barred:
        yield _compromised(barred)
    cas = [use.subject for use in uses if use.is_ca]
    if (cas or holders) and not wanted.ca:
        yield _of_ca(holders, cas)
    elif holders and wanted.root:
        words = f"it is the key of the authority {holders[0]!r}: two roots would be one"
        yield refusal("key-of-ca", words, "RFC 5280, 4.2.1.1")
    elif others := [subject for subject in cas if subject != wanted.subject]:
        words = f"it is the key of another CA, {others[0]}"
        yield refusal("key-of-ca", words, "RFC 5280, 4.2.1.1")
    elif cas or holders:
        words = f"this is a cross-certificate: the key of {(*cas, *holders)[0]} has one already"
        yield warning("key-of-ca", words, "RFC 4158")
    yield from _other_uses(wanted, [use for use in uses if not use.is_ca])


def _compromised(why: str) -> Finding:
    return refusal("key-compromised", f"it is compromised: {why}", "CABF BR 6.1.1.3; 4.9.1.1")


def _of_ca(holders: Sequence[str], cas: Sequence[str]) -> Finding:
    who = f"the authority {holders[0]!r}" if holders else f"the CA {cas[0]}"
    words = f"it is the key of {who}, and a CA's key serves nothing else"
    return refusal("key-of-ca", words, "CABF BR 6.1.7")


def _other_uses(wanted: Wanted, uses: Sequence[KeyUse]) -> Iterator[Finding]:
    if reasons := sorted({use.revoked for use in uses if use.revoked}):
        words = f"the key has a certificate that was revoked ({', '.join(reasons)})"
        yield warning("key-revoked", words, "CABF BR 4.9.1.1")
    for use in uses:
        if use.subject == wanted.subject and (use.names & wanted.names or not wanted.names):
            continue  # a renewal
        name = use.subject or min(use.names, default="(no name)")
        yield warning("key-elsewhere", f"the key is certified already, for {name}", "CABF BR 6.1.2")
        return


class KnownKeys:
    """The refusals alone, for many certificates a second."""

    def __init__(self) -> None:
        self._read = -_FRESH
        self._cas: dict[str, str] = {}

    def check(self, tx: Transaction, digests: Sequence[str]) -> None:
        """UsageError (`key-known`) when one of these end entities' keys (SHA-256 of their
        SubjectPublicKeyInfo, hexadecimal, and `usual_digest`) is a CA's or compromised.
        """
        if time.monotonic() - self._read >= _FRESH:
            self._cas, self._read = tx.barred_keys.of_cas(), time.monotonic()
        barred = tx.barred_keys.among(set(digests))
        for digest in digests:
            found = []
            if why := barred.get(digest):
                found.append(_compromised(why))
            if digest in self._cas:
                found.append(_of_ca((), (self._cas[digest],)))
            refuse(found, "the public key", hint=HINT, code="key-known")

    def reserve(
        self, tx: Transaction, items: Sequence[tuple[frozenset[str], SerialRow]]
    ) -> Sequence[SerialRow]:
        """Write issuances ahead whose keys are in order: (digests of the key, record) each."""
        self.check(tx, [digest for digests, _ in items for digest in digests])
        return reserve_all(tx, [record for _, record in items])
