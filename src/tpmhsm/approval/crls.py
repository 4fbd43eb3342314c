"""A TBSCertList as a person has to see it: which certificates come onto the list, and which go.

The whole list can be long, so what is shown in full is what differs from the newest CRL that this
home approved for the same key: that list is remembered here, so the host cannot lie about it. Bytes
that are not exactly what this program writes are refused: nothing in them is left unshown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256

from tpmhsm.approval.certificates import algorithm_of
from tpmhsm.approval.content import Content, Flag, Listing, Row
from tpmhsm.approval.memory import ApprovedCrl, Memory
from tpmhsm.approval.request import Request
from tpmhsm.approval.screen import groups_of, readable
from tpmhsm.attest.statements import ChipKey
from tpmhsm.errors import ApprovalRefusedError, ParseError, TpmHsmError, UsageError
from tpmhsm.pki.crl import CrlHead, TbsCrl, assemble_tbs, read_tbs_crl
from tpmhsm.pki.crl_entries import (
    Entry,
    encode_entry,
    read_entry,
    serial_of,
    split_entries,
    usual_entry,
)
from tpmhsm.pki.names import format_dn_der
from tpmhsm.pki.reasons import HOLD, UNSPECIFIED
from tpmhsm.pki.tbs import rfc3339, serial_hex, signature_name, valid_days

SHOWN = 1000
"""More entries than these of one kind are counted and not all listed."""

LONGEST, LONGEST_LEAF = 366, 10
"""Days that a CRL is good for at most, and one of a CA that certifies no CAs (BR 7.2)."""

SLACK = timedelta(minutes=10)
STALE = timedelta(days=7)


@dataclass(frozen=True)
class Changes:
    """What is on a list and was not on the one before, and the other way round; `count` is how
    many certificates it lists.
    """

    count: int
    added: list[Entry]
    changed: list[Entry]
    released: list[Entry]
    dropped: list[Entry]


def crl_facts(data: bytes) -> dict[str, str]:
    """Short facts of a TBSCertList. ParseError if it is none."""
    tbs = read_tbs_crl(data)
    return {
        "issuer": readable(format_dn_der(tbs.issuer)),
        "number": str(tbs.number),
        "this_update": rfc3339(tbs.this_update),
        "next_update": rfc3339(tbs.next_update) if tbs.next_update else "never",
        "entries": f"{len(tbs.entries)} bytes {sha256(tbs.entries).hexdigest()[:16]}",
    }


def read_crl(request: Request, key: ChipKey, memory: Memory, now: datetime) -> Content:
    """Decode a TBSCertList that `key` would sign; ApprovalRefusedError if it is none, or holds
    anything that is not shown.
    """
    try:
        tbs = read_tbs_crl(request.content)
        _must_be_ours(request.content, tbs)
        number = tbs.number or 0
        last = memory.approved_crl(key.name)
        changes = _changes(tbs.entries, last.entries if last else b"")
    except (ParseError, UsageError) as e:
        raise _refused(f"these bytes are no CRL that can be shown in full: {e.message}") from None
    said, wanted = signature_name(tbs.algorithm), algorithm_of(key)
    if said != wanted:
        raise _refused(f"the CRL says it is signed with {said}, the key signs with {wanted}")
    flags = [
        *_number_flags(number, tbs, request, last),
        *_change_flags(changes, now),
        *_time_flags(tbs, request, now),
        *_issuer_flags(tbs, request, key, memory),
        *_claim_flags(request, number, changes.count),
        *_unlisted(changes),
    ]
    return Content(
        title="certificate revocation list (CRL)",
        rows=tuple(_rows(tbs, number, changes, last)),
        flags=tuple(flags),
        listings=tuple(_listings(changes)),
        facts=crl_facts(request.content),
        crl=ApprovedCrl(key.name, number, tbs.this_update, request.digest, tbs.entries),
    )


def _refused(message: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(message, code="content-refused")


def _must_be_ours(content: bytes, tbs: TbsCrl) -> None:
    """ParseError unless the fields that were read, written again, are these very bytes."""
    if tbs.number is None or tbs.next_update is None:
        raise ParseError("it has no number, or no time of the next update")
    head = CrlHead(tbs.issuer, tbs.algorithm, tbs.aki, tbs.number, tbs.this_update, tbs.next_update)
    if assemble_tbs(head, [tbs.entries]) != content:
        raise ParseError("it has other extensions or fields than a full CRL has here")


@lru_cache(1)
def _changes(entries: bytes, before_it: bytes) -> Changes:
    """Sort what differs; ParseError for an entry that says more than is shown, or one twice.

    What is approved is looked at a second time before it is signed: the last answer is kept.
    """
    raws = list(split_entries(entries))
    before = set(split_entries(before_it))
    present = set(raws)
    if len(set(map(serial_of, raws))) != len(raws):
        raise ParseError("it lists a certificate twice")
    new = {e.serial: e for e in map(_exact, (raw for raw in raws if raw not in before))}
    gone = {e.serial: e for e in map(read_entry, before - present)}
    off = [entry for serial, entry in gone.items() if serial not in new]
    return Changes(
        count=len(raws),
        added=[entry for serial, entry in new.items() if serial not in gone],
        changed=[entry for serial, entry in new.items() if serial in gone],
        released=[entry for entry in off if entry.reason == HOLD],
        dropped=[entry for entry in off if entry.reason != HOLD],
    )


def _exact(raw: bytes) -> Entry:
    if (usual := usual_entry(raw)) is not None:
        return usual
    entry = read_entry(raw)
    if entry.odd or entry.serial < 0 or encode_entry(entry) != raw:
        odd = ", ".join(entry.odd) or "it is not written as DER wants it"
        raise ParseError(f"the entry of {serial_hex(entry.serial)}: {odd}")
    return entry


def _rows(tbs: TbsCrl, number: int, changes: Changes, last: ApprovedCrl | None) -> Iterator[Row]:
    assert tbs.next_update is not None  # noqa: S101 - `_must_be_ours` refused it
    start, end = tbs.this_update, tbs.next_update
    yield Row("Issuer", readable(format_dn_der(tbs.issuer)), "KEY")
    known = f"you approved {last.number} before" if last else "the first that you see of this key"
    yield Row("Number", str(number), known)
    yield Row("Valid", f"{start:%Y-%m-%d %H:%M} → {end:%Y-%m-%d %H:%M} ({valid_days(start, end)}"
              " days)")  # fmt: skip
    yield Row("Lists", f"{changes.count:,} certificate{'' if changes.count == 1 else 's'}")
    since = f" since number {last.number}" if last else ""
    words = {
        "added": changes.added,
        "changed": changes.changed,
        "released": changes.released,
        "dropped": changes.dropped,
    }
    said = ", ".join(f"{len(found):,} {word}" for word, found in words.items() if found)
    yield Row("Changes", f"{said or 'none'}{since}")
    reasons = Counter(entry.reason or UNSPECIFIED for entry in changes.added + changes.changed)
    if reasons:
        yield Row("Reasons", ", ".join(f"{name} {n:,}" for name, n in reasons.most_common()))


def _listings(changes: Changes) -> Iterator[Listing]:
    lists = {
        "added": changes.added,
        "changed, as they are now": changes.changed,
        "released from hold": changes.released,
        "dropped": changes.dropped,
    }
    for title, entries in lists.items():
        if entries:
            some = f"all {len(entries):,}" if len(entries) > 1 else "the one"
            if len(entries) > SHOWN:
                some = f"the first {SHOWN:,} of {len(entries):,}"
            items = tuple(_line(entry) for entry in entries[:SHOWN])
            yield Listing(f"{some} {title}", items)


def _line(entry: Entry) -> str:
    since = f", invalid since {rfc3339(entry.invalidity)}" if entry.invalidity else ""
    serial = groups_of(serial_hex(entry.serial))
    return f"{serial}  {rfc3339(entry.revoked)}  {entry.reason or UNSPECIFIED}{since}"


# ── what to look at twice ────────────────────────────────────────────────────────────────────────


def _number_flags(
    number: int, tbs: TbsCrl, request: Request, last: ApprovedCrl | None
) -> Iterator[Flag]:
    if last is None or last.digest == request.digest:
        return
    if number <= last.number:
        yield Flag("NUMBER", f"{number} is not greater than {last.number}, which you approved")
    if tbs.this_update < last.this_update:
        yield Flag("OLDER", f"than the one that you approved, of {rfc3339(last.this_update)}")


def _change_flags(changes: Changes, now: datetime) -> Iterator[Flag]:
    if changes.dropped:
        one = len(changes.dropped) == 1
        words = (
            "1 revoked certificate is"
            if one
            else (f"{len(changes.dropped):,} revoked certificates are")
        )
        yield Flag("DROPPED", f"{words} off the list: right only after expiry; see below")
    if changes.released:
        count = len(changes.released)
        words = "1 certificate is" if count == 1 else f"{count:,} certificates are"
        yield Flag("RELEASED", f"{words} good again after a hold; see below")
    late = [e for e in changes.added + changes.changed if e.revoked > now + SLACK]
    if late:
        yield Flag("FUTURE", f"{len(late):,} revoked at a time that has not come")


def _time_flags(tbs: TbsCrl, request: Request, now: datetime) -> Iterator[Flag]:
    assert tbs.next_update is not None  # noqa: S101 - `_must_be_ours` refused it
    days = valid_days(tbs.this_update, tbs.next_update)
    limit = LONGEST_LEAF if _certifies_no_cas(request) else LONGEST
    if days > limit:
        yield Flag(f"{days:,} DAYS", f"until the next update: at most {limit} (BR 7.2)")
    if tbs.next_update < now:
        yield Flag("EXPIRED", f"its next update was due {rfc3339(tbs.next_update)}")
    if tbs.this_update > now + SLACK:
        yield Flag("FUTURE", f"it begins {rfc3339(tbs.this_update)}")
    if tbs.this_update < request.created - STALE:
        yield Flag("BACKDATED", f"it begins {rfc3339(tbs.this_update)}")


def _certifies_no_cas(request: Request) -> bool:
    from tpmhsm.pki.describe import describe_certificate

    try:
        return bool(describe_certificate(request.claims.issuer)["path_length"] == 0)
    except TpmHsmError:
        return False


def _issuer_flags(tbs: TbsCrl, request: Request, key: ChipKey, memory: Memory) -> Iterator[Flag]:
    from tpmhsm.pki.chains import fields_of
    from tpmhsm.pki.describe import describe_certificate

    issuer = readable(format_dn_der(tbs.issuer))
    own = memory.certified(sha256(key.spki).digest())
    known = sorted({one.subject for one in own if one.ca})
    if known and issuer not in known:
        yield Flag("ISSUER", f"this key was approved as {known[0]}")
    if not request.claims.issuer:
        return
    try:
        fields = fields_of(request.claims.issuer)
        ski = describe_certificate(request.claims.issuer)["ski"]
    except TpmHsmError:
        yield Flag("ISSUER", "the issuer's certificate that the host shows cannot be read")
        return
    if fields.subject != tbs.issuer:
        yield Flag("ISSUER", "not the subject of the issuer's certificate that the host shows")
    if fields.spki != key.spki:
        yield Flag("ISSUER", "the issuer's certificate that the host shows is for another key")
    if ski is not None and ski != tbs.aki.hex():
        yield Flag("KEY ID", "not that of the issuer's certificate that the host shows")


def _claim_flags(request: Request, number: int, count: int) -> Iterator[Flag]:
    texts = request.claims.texts
    for name, decoded in (("number", number), ("entries", count)):
        if name in texts and texts[name] != str(decoded):
            yield Flag("CLAIM", f"the host says {name} {readable(texts[name])}")


def _unlisted(changes: Changes) -> Iterator[Flag]:
    for entries, word in (
        (changes.added, "added"),
        (changes.changed, "changed"),
        (changes.released, "released"),
        (changes.dropped, "dropped"),
    ):
        if (more := len(entries) - SHOWN) > 0:
            yield Flag("NOT SHOWN", f"{more:,} more {word}: counted, not listed")
