"""A ceremony: all founding acts of a group in one file, and what each approver sends back in one.

The file holds ordinary requests in the order in which they are to be done: the founding first, then
what its officers are asked in the same sitting. It adds nothing to be believed: each request is
reviewed as if it had come alone, with the memory that the ones before it leave (`sitting`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from tpmhsm.approval.files import read_json
from tpmhsm.approval.request import MAX_REQUEST, Request, parse_request
from tpmhsm.approval.standing import refuse
from tpmhsm.approval.votes import Approval, read_approval
from tpmhsm.attest.statements import signing_key
from tpmhsm.errors import ParseError, TpmHsmError, UsageError
from tpmhsm.pki.tbs import read_tbs_certificate
from tpmhsm.policy.documents import Fields, canonical, encode_json
from tpmhsm.policy.group import RosterDocument

FORMAT = "tpmhsm/ceremony/1"
APPROVALS_FORMAT = "tpmhsm/ceremony-approval/1"

MAX_CEREMONY = 8 * MAX_REQUEST
MAX_ACTS = 16

LIVE_KINDS = ("budget", "window")
"""Approved over a nonce of a session in the chip: they may be over before the others are."""

KINDS = ("group", "certificate", *LIVE_KINDS)


@dataclass(frozen=True)
class Ceremony:
    """The requests of a ceremony in order. UsageError for none, too many, or one id twice."""

    requests: tuple[Request, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.requests) <= MAX_ACTS:
            raise UsageError(f"a ceremony has 1 to {MAX_ACTS} acts")
        if len({one.id for one in self.requests}) != len(self.requests):
            raise UsageError("two acts of a ceremony have one number")

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over what is asked: of each act the kind, bytes, group, roster and key. Not over
        what hosts say, nor over the approvals that came in since.
        """
        parts = [_act(one) for one in self.requests]
        return sha256(canonical({"format": FORMAT, "acts": parts})).digest()

    @property
    def founding(self) -> Request:
        """The first act, which founds the group (`check_ceremony`)."""
        return self.requests[0]

    @property
    def data(self) -> bytes:
        """The file. UsageError when it would be too large."""
        requests = [read_json(one.data, "request", MAX_REQUEST) for one in self.requests]
        data = canonical({"format": FORMAT, "requests": requests}) + b"\n"
        if len(data) > MAX_CEREMONY:
            raise UsageError(f"the ceremony would have {len(data):,} bytes")
        return data


def _act(request: Request) -> dict[str, str]:
    roster = request.asked_roster if request.roster is None else request.roster
    return {
        "kind": request.kind,
        "digest": request.digest.hex(),
        "group": request.group.id.hex(),
        "roster": roster.hash.hex(),
        "key": "" if request.key is None else sha256(request.key.public).hexdigest(),
    }


def is_ceremony(data: bytes) -> bool:
    """Whether a file says that it is a ceremony."""
    return bool(_format_of(data) == FORMAT)


def is_ceremony_approval(data: bytes) -> bool:
    """Whether a file says that it holds somebody's approvals of a ceremony."""
    return bool(_format_of(data) == APPROVALS_FORMAT)


def _format_of(data: bytes) -> Any:
    try:
        return read_json(data, "ceremony", MAX_CEREMONY).get("format")
    except TpmHsmError:
        return None


def parse_ceremony(data: bytes) -> Ceremony:
    """Read a ceremony's file. ParseError; VerificationError as `parse_request`."""
    fields = Fields(read_json(data, "ceremony", MAX_CEREMONY), "ceremony")
    fields.expect("format", FORMAT)
    items = fields.list("requests")
    fields.done()
    if len(items) > MAX_ACTS:
        raise ParseError(f"ceremony: more than {MAX_ACTS} acts")
    try:
        return Ceremony(tuple(parse_request(encode_json(item)) for item in items))
    except ParseError:
        raise
    except UsageError as e:
        raise ParseError(f"ceremony: {e.message}") from None


@dataclass(frozen=True)
class CeremonyApproval:
    """One person's approvals of the acts of the ceremony with this digest, in its order."""

    ceremony: bytes
    approvals: tuple[Approval, ...]

    @property
    def data(self) -> bytes:
        """The file."""
        document = {
            "format": APPROVALS_FORMAT,
            "ceremony": self.ceremony.hex(),
            "approvals": [one.document() for one in self.approvals],
        }
        return canonical(document) + b"\n"


def parse_ceremony_approval(data: bytes) -> CeremonyApproval:
    """Read such a file; ParseError for anything amiss. Checks no signature."""
    fields = Fields(read_json(data, "ceremony approval", MAX_CEREMONY), "ceremony approval")
    fields.expect("format", APPROVALS_FORMAT)
    digest, items = fields.hex("ceremony", 32), fields.list("approvals")
    fields.done()
    if not 1 <= len(items) <= MAX_ACTS:
        raise ParseError(f"ceremony approval: 1 to {MAX_ACTS} approvals")
    return CeremonyApproval(digest, tuple(read_approval(item) for item in items))


# ── what a ceremony may be ───────────────────────────────────────────────────────────────────


def check_ceremony(ceremony: Ceremony) -> RosterDocument:
    """Return the roster that is founded. ApprovalRefusedError for what is no founding: other acts,
    another group's or roster's, and acts before those on which they stand.
    """
    first, *others = ceremony.requests
    if first.kind != "group":
        raise refuse("a ceremony begins with the founding of its group", "ceremony-order")
    founded = first.asked_roster
    for number, request in enumerate(others, 2):
        if request.kind not in KINDS or request.kind == "group":
            raise refuse(f"act {number} is none of a founding: {request.kind}", "ceremony-act",
                         hint="the host can ask for it alone, when the group stands")  # fmt: skip
        same = request.group.encoded == first.group.encoded and request.roster == founded
        if not same or request.state is not None:
            raise refuse(
                f"act {number} is of another group or roster than the one that is founded",
                "ceremony-act",
            )
    _check_order(others)
    return founded


def _check_order(others: Sequence[Request]) -> None:
    """A certificate comes after that of its issuer, and what a key may do after its certificate."""
    certified: dict[bytes, bytes] = {}
    for number, request in enumerate(others, 2):
        assert request.key is not None  # noqa: S101 - Request's own rule
        own = signing_key(request.key.public).spki
        if request.kind != "certificate":
            if own not in certified:
                raise refuse(
                    f"act {number} is for a key that no act before it certifies", "ceremony-order"
                )
            continue
        tbs = _tbs(request, number)
        if tbs.spki != own and certified.get(own) != tbs.issuer:
            raise refuse(
                f"act {number} is a certificate by an issuer that no act before it makes",
                "ceremony-order",
            )
        if certified.setdefault(tbs.spki, tbs.subject) != tbs.subject:
            raise refuse(f"act {number} gives a key a second name", "ceremony-order")


def _tbs(request: Request, number: int) -> Any:
    try:
        return read_tbs_certificate(request.content)
    except ParseError as e:
        raise refuse(f"act {number} is no certificate: {e.message}", "content-refused") from None
