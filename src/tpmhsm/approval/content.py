"""What a request's bytes say: decoded here, from the bytes themselves.

`read_content` refuses what must not be signed, and returns what a person has to see: rows, flags
in words, the differences to the CSR, and long lists in full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tpmhsm.approval.memory import ApprovedCrl, Certified, GrantedTotal, Memory
from tpmhsm.approval.request import Request
from tpmhsm.attest.statements import ChipKey


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
    """What the bytes say. `certified`, `crl` and `granted` are what a memory should keep of them
    after an approval.
    """

    title: str
    rows: tuple[Row, ...]
    flags: tuple[Flag, ...] = ()
    listings: tuple[Listing, ...] = ()
    certified: tuple[Certified, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    crl: ApprovedCrl | None = None
    granted: GrantedTotal | None = None


def read_content(  # noqa: PLR0911 (one for each kind)
    request: Request, key: ChipKey | None, memory: Memory, now: datetime
) -> Content:
    """Decode a request's content. ApprovalRefusedError when it is not what its kind says, or is
    something that nobody should sign; `key` is the signing key (None for acts on NV), `now` the
    approver's own time.
    """
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
    if request.kind == "window":
        from tpmhsm.approval.windows import read_window

        return read_window(request, key, memory)
    from tpmhsm.approval.certificates import read_certificate, read_csr

    if request.kind == "crl":
        from tpmhsm.approval.crls import read_crl

        return read_crl(request, key, memory, now)
    if request.kind == "certificate":
        return read_certificate(request, key, memory, now)
    return read_csr(request, key, memory)


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
