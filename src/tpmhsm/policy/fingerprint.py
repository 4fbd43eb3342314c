"""Eight words that people read aloud to know that they look at one group on one device.

88 bits of scrypt over everything that makes the group what it is. scrypt (N = 2^14, r = 8, p = 1,
RFC 7914) makes a search for a second group with the same words some ten thousand times dearer
than a plain hash would.

words.txt is the English word list of BIP-39 (2,048 words, no two alike in their first four
letters), as distributed in the package `mnemonic`, copyright the Trezor project, MIT licence.
"""

from __future__ import annotations

from functools import cache
from hashlib import scrypt
from importlib.resources import files

from tpmhsm.errors import UsageError
from tpmhsm.policy.documents import canonical
from tpmhsm.policy.group import GroupDocument
from tpmhsm.policy.tree import (
    counter_nv,
    epoch_ladders,
    roster_ladders,
    roster_nv,
    static_ladders,
)
from tpmhsm.wire.codec import encode
from tpmhsm.wire.constants import CC

TAG = "tpmhsm/fingerprint/1"
WORDS = 8
_BITS = 11


def fingerprint(group: GroupDocument, ek_certificate: bytes) -> tuple[str, ...]:
    """Return the eight words of a group: the same for all its life, whoever its officers are.

    Rosters are not in it, so that somebody who joins later compares the words the others know. The
    chip certifies the roster in force by the attestation key that is in it; and two rosters for the
    first epoch would need two quorums of custodians, who share a person whose tool remembers.

    `ek_certificate` is what the group document's `device.ek` is the SHA-256 of: the EK
    certificate's DER, or the EK's TPMT_PUBLIC where a chip has none. UsageError when it is not.
    """
    from hashlib import sha256

    if sha256(ek_certificate).digest() != group.device_ek:
        raise UsageError("the EK certificate is not that of the group's device")
    if group.static:
        rules = static_ladders(group, CC.Sign) + static_ladders(group, CC.RSA_Decrypt)
        indices = {}
    else:
        rules = epoch_ladders(group) + roster_ladders(group)
        indices = {
            "counter": encode(counter_nv(group)).hex(),
            "roster_index": encode(roster_nv(group)).hex(),
        }
    facts = {
        "format": TAG,
        "group": group.id.hex(),
        "ladders": [
            [ladder.m, [name.hex() for name in ladder.names], ladder.policy_ref.hex()]
            for ladder in rules
        ],
        **indices,
        "ek": group.device_ek.hex(),
        "ak": group.device_ak.hex(),
    }
    return words_of(canonical(facts))


def words_of(facts: bytes) -> tuple[str, ...]:
    """Return the eight words for canonical facts."""
    stretched = scrypt(facts, salt=TAG.encode(), n=1 << 14, r=8, p=1, dklen=WORDS * _BITS // 8)
    number = int.from_bytes(stretched, "big")
    shifts = range((WORDS - 1) * _BITS, -1, -_BITS)
    return tuple(_words()[(number >> shift) & ((1 << _BITS) - 1)] for shift in shifts)


@cache
def _words() -> tuple[str, ...]:
    text = files("tpmhsm.policy").joinpath("words.txt").read_text("ascii")
    return tuple(text.split())
