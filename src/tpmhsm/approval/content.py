"""What a request's bytes say: decoded here, from the bytes themselves.

`read_content` refuses what must not be signed, and returns what a person has to see: rows, flags
in words, the differences to the CSR, and long lists in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from tpmhsm.approval.memory import ApprovedCertificate, ApprovedCrl, Certified, GrantedTotal, Memory
from tpmhsm.approval.request import BACKUP, Request
from tpmhsm.attest.statements import ChipKey

LONG = 1000
"""A row with more characters than these is shown on a page of its own, after the warnings."""

LONGEST_FLAG = 1200
"""So much of a warning is shown: what it is about stands in full among the rows and lists."""

MOST = 5
"""So many warnings of one kind are shown; the rest is counted."""


@dataclass(frozen=True)
class Row:
    """One line of the screen: label, text, and a note at its end."""

    label: str
    text: str
    note: str = ""


@dataclass(frozen=True)
class Flag:
    """Something to look at twice. `mark` is '!' (a warning) or 'Δ' (differs from the CSR)."""

    head: str
    text: str
    mark: str = "!"


@dataclass(frozen=True)
class Listing:
    """A list too long for the screen, shown in full on pages of its own."""

    title: str
    items: tuple[str, ...]


@dataclass(frozen=True)
class Content:
    """What the bytes say. `certified`, `issued`, `crl` and `granted` are what a memory should keep
    of them after an approval.
    """

    title: str
    rows: tuple[Row, ...]
    flags: tuple[Flag, ...] = ()
    listings: tuple[Listing, ...] = ()
    certified: tuple[Certified, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    issued: ApprovedCertificate | None = None
    crl: ApprovedCrl | None = None
    granted: GrantedTotal | None = None


def few(flags: Iterable[Flag]) -> list[Flag]:
    """The first of many warnings of one kind, and how many more there are."""
    found = list(flags)
    if len(found) <= MOST:
        return found
    last = found[MOST]
    return [*found[:MOST], Flag(last.head, f"and {len(found) - MOST:,} more such", last.mark)]


def read_content(request: Request, key: ChipKey | None, memory: Memory, now: datetime) -> Content:
    """Decode a request's content. ApprovalRefusedError when it is not what its kind says, or is
    something that nobody should sign; `key` is the signing key (None for acts on NV), `now` the
    approver's own time.
    """
    return _in_short(_read(request, key, memory, now))


def _cut(flag: Flag) -> Flag:
    extra = len(flag.text) - LONGEST_FLAG
    if extra <= 0:
        return flag
    return replace(flag, text=f"{flag.text[:LONGEST_FLAG]}… ({extra:,} more characters)")


def _in_short(content: Content) -> Content:
    """No row so long that the warnings below it are out of sight; all of it in a list."""
    long = [row for row in content.rows if len(row.text) > LONG]
    sizes = {id(row): f"{len(row.text):,} characters" for row in long}
    rows = (
        replace(row, text=f"{row.text[: LONG // 5]}… {sizes[id(row)]}, listed below")
        if id(row) in sizes
        else row
        for row in content.rows
    )
    flags = (Flag("LONG", f"{row.label}: {sizes[id(row)]}, read them all below") for row in long)
    listings = (Listing(f"{row.label}, {sizes[id(row)]}", (row.text,)) for row in long)
    return replace(
        content,
        rows=tuple(rows),
        flags=(*flags, *map(_cut, content.flags)),
        listings=(*listings, *content.listings),
    )


def _read(  # noqa: PLR0911 (one for each kind)
    request: Request, key: ChipKey | None, memory: Memory, now: datetime
) -> Content:
    if key is None:
        from tpmhsm.approval.people import read_people

        return read_people(request, memory)
    if request.kind == "data":
        from tpmhsm.approval.plain import read_plain

        return read_plain(request, key, memory)
    if request.kind == "budget":
        from tpmhsm.approval.grants import read_budget

        return read_budget(request, key, memory)
    if request.kind == "decrypt":
        from tpmhsm.approval.decryptions import read_decryption

        return read_decryption(request, key)
    if request.kind == BACKUP:
        from tpmhsm.approval.copying import read_copy

        return read_copy(request, key, memory)
    if request.kind == "window":
        from tpmhsm.approval.windows import read_window

        return read_window(request, key, memory)
    from tpmhsm.approval.certificates import read_certificate, read_csr

    if request.kind == "crl":
        from tpmhsm.approval.crls import read_crl

        return read_crl(request, key, memory, now)
    if request.kind == "certificate":
        return read_certificate(request, key, memory, now)
    return read_csr(request, key, memory, now)


def short_facts(request: Request) -> dict[str, str]:  # noqa: PLR0911 (one for each kind)
    """Return the content's facts in short, for comparing two contents; empty if undecodable."""
    from tpmhsm.errors import ParseError

    try:
        if request.kind in ("group", "roster"):
            from tpmhsm.approval.people import people_facts

            return people_facts(request)
        if request.kind in ("data", "decrypt"):
            return {"size": str(len(request.content))}
        if request.kind == "budget":
            from tpmhsm.approval.grants import grant_facts

            return grant_facts(request.content)
        if request.kind == BACKUP:
            from tpmhsm.approval.copying import copy_facts

            return copy_facts(request.content)
        if request.kind == "window":
            from tpmhsm.approval.windows import window_facts

            return window_facts(request.content)
        if request.kind == "crl":
            from tpmhsm.approval.crls import crl_facts

            return crl_facts(request.content)
        from tpmhsm.approval.certificates import certificate_facts

        return certificate_facts(request.kind, request.content)
    except ParseError:
        return {}
