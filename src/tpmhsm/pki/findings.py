"""What the checks of a requester's key and names have to say, as values.

A finding comes from bytes alone, so the host that issues and the person who approves see the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tpmhsm.errors import UsageError

Severity = Literal["refusal", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing found: a stable `code`, words for people, and the document that says so.

    A `refusal` is certified under no circumstances; a `warning` is said and issued.
    """

    code: str
    message: str
    severity: Severity
    source: str

    @property
    def text(self) -> str:
        """The words with their source: `the RSA exponent is even (CABF BR 6.1.6)`."""
        return f"{self.message} ({self.source})" if self.source else self.message

    def to_json(self) -> dict[str, str]:
        """JSON-ready, the names of the fields as they are."""
        return {
            "code": self.code,
            "message": self.message,
            "severity": self.severity,
            "source": self.source,
        }


def refusal(code: str, message: str, source: str) -> Finding:
    """A finding that ends the issuance."""
    return Finding(code, message, "refusal", source)


def warning(code: str, message: str, source: str) -> Finding:
    """A finding that is said, and no more."""
    return Finding(code, message, "warning", source)


def refuse(findings: Iterable[Finding], what: str, *, hint: str = "", code: str = "") -> None:
    """UsageError when one of them is a refusal: `what` (`the public key`) `is refused: …`.

    The error's code is `code`, else that of the first refusal; its details hold all findings.
    """
    found = list(findings)
    fatal = [one for one in found if one.severity == "refusal"]
    if not fatal:
        return
    raise UsageError(
        f"{what} is refused: {'; '.join(one.text for one in fatal)}",
        hint=hint,
        code=code or fatal[0].code,
        details={"findings": [one.to_json() for one in found]},
    )


def warnings_of(findings: Iterable[Finding]) -> tuple[str, ...]:
    """The texts of the warnings among them, each once, in their order."""
    return tuple(dict.fromkeys(one.text for one in findings if one.severity == "warning"))
