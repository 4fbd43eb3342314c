"""What an authority needs of a signer: now, or when people have approved."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    from tpmhsm.approval.request import Claims, Request
    from tpmhsm.store import Transaction


class SigningTurns(Protocol):
    """Many signatures, by a thread that keeps the chip while nobody else waits for it."""

    @property
    def commands(self) -> int:
        """How many commands the chip was sent."""
        ...

    def put(
        self,
        label: str,
        data: bytes,
        then: Callable[[bytes | None, BaseException | None], None],
    ) -> None:
        """Have `data` signed. `then` is told the signature, not verified yet, or the error."""
        ...

    def close(self) -> None:
        """Sign what still waits, then end."""
        ...


class Signer(Protocol):
    """Keys by label; whoever implements it knows where they are."""

    def public_key(self, label: str) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
        """The public half. Raises NotFoundError."""
        ...

    def hash_name(self, label: str) -> str:
        """The hash the key signs with: `sha256` or `sha384`."""
        ...

    def needs_people(self, label: str) -> bool:
        """Whether each signature waits for approvals."""
        ...

    def sign(self, label: str, data: bytes) -> bytes:
        """Sign now. Raises RefusedError for a key that needs people."""
        ...

    def turns(self) -> SigningTurns:
        """Begin to sign many. Close it when done."""
        ...

    def draft(self, label: str, kind: str, data: bytes, claims: Claims) -> Request:
        """An approval request that is not kept yet."""
        ...

    def register(self, tx: Transaction, draft: Request) -> int:
        """Keep it, in the caller's transaction; gives its id."""
        ...

    def waiting(self, request: int) -> Any:
        """The WaitingError that tells people what to do next."""
        ...
