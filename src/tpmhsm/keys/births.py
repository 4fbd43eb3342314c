"""What a key is made from, if the chip makes it or takes it in: use, template and record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tpmhsm.errors import UsageError
from tpmhsm.policy.published import format_document
from tpmhsm.wire.codec import decode
from tpmhsm.wire.constants import CC
from tpmhsm.wire.public import Public, is_imported

if TYPE_CHECKING:
    from tpmhsm.policy.compile import KeyPolicy
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.tpm.objects import Attestation, CreatedKey

Use = Literal["sign", "decrypt"]
USES: tuple[Use, ...] = ("sign", "decrypt")


@dataclass(frozen=True)
class Wanted:
    """A key that is asked for: `policy` as text or as a document, `pin` for one that wants it;
    `backup_to` the label of the group whose custodians may have it copied, if anybody may.
    """

    label: str
    alg: str
    policy: str = "open"
    hash_name: str = "sha256"
    use: Use = "sign"
    pin: bytes = field(default=b"", repr=False)
    backup_to: str = ""

    @property
    def command(self) -> CC:
        """The one command that its policy is for."""
        if self.use == "sign":
            return CC.Sign
        return CC.RSA_Decrypt if self.alg.startswith("rsa") else CC.ECDH_ZGen

    def template(self, bound: KeyPolicy) -> Public:
        """The public area to ask for. UsageError."""
        from tpmhsm.tpm.decryption import decryption_template
        from tpmhsm.tpm.objects import signing_template

        make = signing_template if self.use == "sign" else decryption_template
        digest, copied = bound.digest or None, bool(bound.backup)
        return make(self.alg, digest, self.hash_name, counts=bound.has_pin, copied=copied)


def key_row(
    wanted: Wanted,
    bound: KeyPolicy,
    made: CreatedKey,
    group_id: str | None,
    born: Attestation | None = None,
    *,
    parent: bytes = b"",
) -> KeyRow:
    """The record of a new key; `born` is what the chip certifies of its creation, if it made it,
    `parent` the TPMT_PUBLIC of the storage key above it, if it may be copied.
    """
    from tpmhsm.attest.public_keys import spki_of_public
    from tpmhsm.store.keys import KeyRow

    return KeyRow(
        label=wanted.label,
        alg=wanted.alg,
        hash=wanted.hash_name,
        use=wanted.use,
        policy=bound.text,
        policy_document="" if _says_all(bound) else format_document(bound),
        public=made.public,
        private=made.private,
        name=made.name.hex(),
        spki=spki_of_public(made.public),
        group_id=group_id,
        creation_data=made.creation_data,
        creation_hash=made.creation_hash,
        creation_ticket=made.creation_ticket,
        creation_attest=born.attest if born else b"",
        creation_signature=born.signature if born else b"",
        creation_parent=parent if bound.backup else b"",
    )


def _says_all(policy: KeyPolicy) -> bool:
    """Whether the text and the groups' documents say all of it, as for `open` and `quorum`."""
    more = policy.has_pin or policy.has_pcrs or policy.granting or policy.backup
    return len(policy.alternatives) == 1 and not more


def was_imported(row: KeyRow) -> bool:
    """Whether the key was not made in the chip: its public area says so, whatever else does."""
    return is_imported(decode(Public, row.public))


def must_sign(row: KeyRow) -> None:
    """UsageError (`decryption-key`) for a key that decrypts: it never signs."""
    if row.use != "sign":
        raise UsageError(
            f"key {row.label!r} decrypts, and a key that decrypts never signs: no file, no CSR, no "
            "certificate",
            code="decryption-key",
            hint="tpmhsm key create LABEL makes a key that signs; a CA that knows by other means "
            f"whose it is certifies this one by its public key: tpmhsm key export {row.label}",
        )


def must_decrypt(row: KeyRow) -> None:
    """UsageError (`signing-key`) for a key that signs: it never decrypts."""
    if row.use != "decrypt":
        raise UsageError(
            f"key {row.label!r} signs, and a key that signs never decrypts",
            code="signing-key",
            hint="tpmhsm key create LABEL --use decrypt makes a key that decrypts",
        )
