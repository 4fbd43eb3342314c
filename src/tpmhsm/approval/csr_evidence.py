"""Evidence in a CSR, checked again on the approver's machine.

The tool believes one attestation key: that of the group's own chip, which it has pinned. Of all
others it says that nothing is proven here, whatever the host claims.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from tpmhsm.approval.content import Flag, Row
from tpmhsm.approval.request import Request
from tpmhsm.approval.screen import readable
from tpmhsm.attest.believed import Believed
from tpmhsm.attest.csr_bundle import Bundle, find_bundle, find_in_info
from tpmhsm.attest.csr_evidence import verify_bundle
from tpmhsm.errors import ParseError, TpmHsmError

CLAIM = "evidence"
"""The host's words of what it verified."""

_UNKNOWN = ("unknown-ak", "untrusted-root", "no-evidence")
"""Nothing is wrong, and nothing proven."""


def evidence_lines(request: Request, spki: bytes, now: datetime) -> Iterator[Row | Flag]:
    """What the evidence proves of the key (SubjectPublicKeyInfo) in the content: that of the CSR
    which the host shows, or of the content, if it is a CSR itself. Nothing where there is none.
    """
    try:
        found = _bundle(request)
    except ParseError as error:
        yield Flag("EVIDENCE", f"cannot be read: {readable(error.message)}")
        return
    if found is None:
        if CLAIM in request.claims.texts:
            yield Flag("EVIDENCE", "the host claims some, the CSR has none")
        return
    believed = Believed(names=frozenset({request.group.device_ak}))
    try:
        proven = verify_bundle(found, spki, believed, now)
    except TpmHsmError as error:
        if error.code in _UNKNOWN:
            yield Row("Evidence", "of another chip, which this tool does not know", "NOT PROVEN")
        else:
            yield Flag("EVIDENCE", f"does not hold: {readable(error.message)}")
        return
    made = "made in" if proven.how == "creation" else "held by"
    yield Row("Evidence", f"{made} the group's own chip, cannot leave it", "verified")


def _bundle(request: Request) -> Bundle | None:
    if request.kind == "csr":
        return find_in_info(request.content)
    return find_bundle(request.claims.csr) if request.claims.csr else None
