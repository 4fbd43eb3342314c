"""Something to be decrypted, as a person sees it: how it is closed, for whom, and who will read it.

The content is what the chip is given: an RSA ciphertext, or the public key to agree with. What is
inside nobody can see here. A message that the host shows beside it is looked into: its recipients
are named, and it must have these very bytes in it.
"""

from __future__ import annotations

from hashlib import sha256

from tpmhsm.approval.content import Content, Flag, Listing, Row
from tpmhsm.approval.request import Request
from tpmhsm.approval.screen import readable
from tpmhsm.attest.statements import ChipKey
from tpmhsm.errors import ApprovalRefusedError, ParseError, UsageError
from tpmhsm.pki.envelopes import Envelope, read_envelope
from tpmhsm.policy.bound import bound_decrypt, command_of
from tpmhsm.wire.constants import CC


def read_decryption(request: Request, key: ChipKey) -> Content:
    """Decode what is to be decrypted. ApprovalRefusedError for what cannot be for this key."""
    try:
        bound_decrypt(key.public, request.content)
    except UsageError as e:
        raise ApprovalRefusedError(e.message, code="not-for-this-key") from None
    rsa = command_of(key.public) == CC.RSA_Decrypt
    rows = [
        Row("Decrypt", _closed(request.content, key) if rsa else _agreed(request.content)),
        Row("By", key.words, "KEY"),
    ]
    flags = [_who_reads(rsa)]
    listings: tuple[Listing, ...] = ()
    if request.claims.message:
        more, odd, listings = _message(request)
        rows += more
        flags += odd
    else:
        flags.append(Flag("NOT SHOWN", "what is inside, and from whom: nothing here says it"))
    facts = {"size": str(len(request.content))}
    return Content("decryption", tuple(rows), tuple(flags), listings, facts=facts)


def _closed(content: bytes, key: ChipKey) -> str:
    return f"an RSA ciphertext of {len(content):,} bytes (OAEP, {key.hash_name})"


def _agreed(spki: bytes) -> str:
    digest = sha256(spki).hexdigest()
    return f"agree on a secret (ECDH) with the public key {digest[:8]} {digest[8:16]}"


def _who_reads(rsa: bool) -> Flag:
    what = "the plaintext" if rsa else "the secret, which opens all that it closed"
    words = f"whoever has the CA host reads {what}, can keep it, and can have it decrypted again"
    return Flag("HOST READS", f"{words} until the officers change")


def _message(request: Request) -> tuple[list[Row], list[Flag], tuple[Listing, ...]]:
    """What the message that the host shows says, and whether these bytes are in it."""
    try:
        envelope = read_envelope(request.claims.message)
    except ParseError as e:
        return (
            [],
            [Flag("MESSAGE", f"what the host shows cannot be read: {readable(e.message)}")],
            (),
        )
    here = [one for one in envelope.recipients if one.asked == request.content]
    listings = (
        Listing("all recipients", tuple(readable(one.words) for one in envelope.recipients)),
    )
    if not here:
        words = "these bytes are not in the message that the host shows: it is another one"
        return [], [Flag("MESSAGE", words)], listings
    rows = [
        Row("Message", _how(envelope)),
        Row("Recipient", f"{here[0].number}: {readable(here[0].words)}"),
    ]
    words = "the host shows who may read; what is inside, and who wrote it, is not shown"
    return rows, [Flag("NOT SHOWN", words)], listings


def _how(envelope: Envelope) -> str:
    count = len(envelope.recipients)
    return f"CMS, {envelope.words}, {count:,} recipient{'' if count == 1 else 's'}"
