"""Which recipient of an encrypted message a key is: by certificates, or as what only it can be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha1
from typing import Any

from tpmhsm.errors import ParseError, TpmHsmError, UsageError
from tpmhsm.pki import der
from tpmhsm.pki.envelope_crypto import check_openable
from tpmhsm.pki.envelopes import Envelope, Recipient
from tpmhsm.pki.keys import load_spki

SHOWN = 5


def find_recipient(
    envelope: Envelope, spki: bytes, certificates: Iterable[bytes], oaep_hash: str
) -> Recipient:
    """Return the recipient that is this key: SubjectPublicKeyInfo, its certificates, its OAEP hash.

    Where no certificate tells, the only recipient that can be the key. UsageError when there is
    none (`no-recipient`), or the chip could not open the message for it; ParseError when nobody
    here could.
    """
    named = [one for one in envelope.recipients if _is_named(one, *_names(spki, certificates))]
    found = named or [one for one in envelope.recipients if _can_be(one, spki)]
    if len(found) != 1 and not named:
        raise _nobody(envelope, found)
    chosen = next((one for one in found if not one.problem), found[0])
    if chosen.problem:
        raise UsageError(
            f"recipient {chosen.number} ({chosen.words}): {chosen.problem}",
            code="not-openable",
            hint="the sender must use OAEP: openssl cms -encrypt … -keyopt rsa_padding_mode:oaep"
            f" -keyopt rsa_oaep_md:{oaep_hash}"
            if chosen.kind == "RSA"
            else "",
        )
    if chosen.oaep_hash and chosen.oaep_hash != oaep_hash:
        raise UsageError(
            f"the message uses OAEP with {chosen.oaep_hash}, and the chip fixed {oaep_hash} with "
            "this key",
            code="other-oaep-hash",
            hint=f"senders choose it (-keyopt rsa_oaep_md:{oaep_hash}), or a key is made for it: "
            f"key create --use decrypt --hash {chosen.oaep_hash}",
        )
    check_openable(envelope, chosen)
    return chosen


def _names(spki: bytes, certificates: Iterable[bytes]) -> tuple[set[tuple[bytes, int]], set[bytes]]:
    """Issuers with serials, and key identifiers, by which senders may know the key."""
    from tpmhsm.pki.tbs import read_tbs_certificate

    bits = der.children(der.read_whole(spki).content)[1].content[1:]
    issued, identifiers = set(), {sha1(bits, usedforsecurity=False).digest()}
    for raw in certificates:
        try:
            tbs = read_tbs_certificate(der.children(der.read_whole(raw).content)[0].raw)
        except TpmHsmError:
            continue
        issued.add((tbs.issuer, tbs.serial))
    return issued, identifiers


def _is_named(one: Recipient, issued: set[tuple[bytes, int]], identifiers: set[bytes]) -> bool:
    return (one.issuer, one.serial) in issued if one.issuer else one.ski in identifiers


def _can_be(one: Recipient, spki: bytes) -> bool:
    """Whether the ciphertext, or the sender's key, is of this key's size or curve, if known."""
    key: Any = load_spki(spki)
    on_curve = hasattr(key, "curve")
    if one.kind == "RSA":
        return not on_curve and len(one.asked) in (0, key.key_size // 8)
    if one.kind != "ECDH" or not on_curve or not one.asked:
        return one.kind == "ECDH" and on_curve
    other: Any = load_spki(one.asked)
    return bool(other.curve.name == key.curve.name)


def _nobody(envelope: Envelope, found: Sequence[Recipient]) -> ParseError | UsageError:
    said = [f"{one.number}: {one.words}" for one in envelope.recipients[:SHOWN]]
    if len(envelope.recipients) > SHOWN:
        said.append(f"and {len(envelope.recipients) - SHOWN} more")
    why = "several of its recipients could be this key" if found else "it is for others"
    return UsageError(
        f"the message is not addressed to this key by name: {why}: {'; '.join(said)}",
        code="no-recipient",
        hint="tpmhsm cert import CERT takes in the key's certificate, by which senders name it",
    )
