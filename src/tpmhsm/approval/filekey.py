"""An approver's key in a file: P-256 (or RSA) in encrypted PKCS#8, PEM.

RFC 5958 (EncryptedPrivateKeyInfo), RFC 8018 (PBES2), RFC 7914 section 7 (scrypt). New files use
scrypt with N=2^14, r=8, p=8 and AES-256-CBC: as much work as N=2^17, p=1, in the 16 MiB that
OpenSSL 3 allows when it reads a key (it stops at 32 MiB, so N=2^15 is already refused there).
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import scrypt
from pathlib import Path
from typing import TYPE_CHECKING

from tpmhsm.approval import wrapping
from tpmhsm.approval.identity import Passphrase, check_signable
from tpmhsm.errors import ExistsError, NotFoundError, ParseError, RefusedError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from tpmhsm.policy.approver import PublicKey

SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 14, 8, 8
MAX_FILE = 1 << 16


@dataclass(frozen=True)
class FileIdentity:
    """An opened key file. The private half lives in this process's memory until it ends."""

    path: Path
    _private: object = field(repr=False)

    @property
    def kind(self) -> str:
        """Always 'file'."""
        return "file"

    @property
    def description(self) -> str:
        """Words: 'file alice.key'."""
        return f"file {self.path.name}"

    @property
    def public_key(self) -> PublicKey:
        """The public half."""
        from tpmhsm.policy.approver import check_key

        return check_key(self._private.public_key())  # type: ignore[attr-defined]

    @property
    def token(self) -> None:
        """Nothing that a card need repeat."""
        return

    def close(self) -> None:
        """Nothing to log out of."""

    def sign(self, message: bytes) -> bytes:
        """Sign with SHA-256: DER ECDSA, or RSASSA-PKCS1-v1_5."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

        check_signable(message)
        if isinstance(self._private, rsa.RSAPrivateKey):
            return self._private.sign(message, padding.PKCS1v15(), hashes.SHA256())
        assert isinstance(self._private, ec.EllipticCurvePrivateKey)  # noqa: S101 - checked on opening
        return self._private.sign(message, ec.ECDSA(hashes.SHA256()))


def create_file_key(path: Path, passphrase: bytes) -> FileIdentity:
    """Make a P-256 key and write it encrypted to a new file with mode 0600.

    ExistsError if something is there (a dangling link too), UsageError for an empty passphrase
    or a file that cannot be written; nothing is left behind then.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    if not passphrase:
        raise UsageError("an approver's key needs a passphrase")
    private = ec.generate_private_key(ec.SECP256R1())
    write_new(path, wrap_private(private, passphrase))
    return FileIdentity(path, private)


def wrap_private(private: PrivateKeyTypes, passphrase: bytes) -> bytes:
    """Return a private key as encrypted PKCS#8 in PEM."""
    from cryptography.hazmat.primitives import serialization

    plain = private.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    salt, iv = os.urandom(16), os.urandom(16)
    kek = scrypt(
        passphrase, salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, dklen=32, maxmem=64 << 20
    )
    cost = (SCRYPT_N, SCRYPT_R, SCRYPT_P)
    return wrapping.encrypted_pem(plain, kek, salt, iv, cost)


def write_new(path: Path, data: bytes) -> None:
    """Write a new private file (0600) that is complete or absent."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError:
        raise ExistsError(f"{path} exists", hint="an approver's key is never overwritten") from None
    except (OSError, ValueError) as e:
        raise UsageError(f"cannot write {path}: {_reason(e)}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as e:
        with suppress(OSError):
            path.unlink()
        if isinstance(e, OSError):
            raise UsageError(f"cannot write {path}: {_reason(e)}") from None
        raise


def open_file_key(path: Path, passphrase: Passphrase) -> FileIdentity:
    """Open a key file; `passphrase` is called with a prompt once the file is known to be one.

    NotFoundError when there is none; RefusedError when others may read it, when it is not
    encrypted or too weakly, when the passphrase is wrong, or when the key is of a wrong kind;
    ParseError when it is no key at all. Each says which.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    der = wrapping.encrypted_der(read_private(path), str(path))
    wrapping.check_strength(der, str(path))
    secret = passphrase(f"Passphrase for {path}: ")
    try:
        private = load_der_private_key(der, secret or b"\0")
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise RefusedError(
            f"{path}: wrong passphrase", code="wrong-passphrase", hint="or the file is damaged"
        ) from None
    _check_kind(private, path)
    return FileIdentity(path, private)


def _check_kind(private: PrivateKeyTypes, path: Path) -> None:
    from tpmhsm.policy.approver import check_key

    try:
        check_key(private.public_key())
    except ParseError as e:
        raise RefusedError(f"{path}: {e.message}", code="wrong-key-kind") from None


def read_private(path: Path) -> bytes:
    """Read a small file that nobody but its owner may read; links to it are followed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFoundError(f"no key file {path}") from None
    except (OSError, ValueError) as e:
        raise UsageError(f"cannot read {path}: {_reason(e)}") from None
    try:
        with os.fdopen(descriptor, "rb") as file:
            _check_file(os.fstat(file.fileno()), path)
            return file.read(MAX_FILE + 1)
    except OSError as e:
        raise UsageError(f"cannot read {path}: {_reason(e)}") from None


def _check_file(facts: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise UsageError(f"{path} is not a file")
    if facts.st_size > MAX_FILE:
        raise ParseError(f"{path}: larger than {MAX_FILE} bytes, not a key file")
    if facts.st_mode & 0o077:
        raise RefusedError(
            f"{path}: others on this machine may read or change it"
            f" (mode {stat.S_IMODE(facts.st_mode):04o})",
            code="key-file-mode",
            hint=f"chmod 600 {path}",
        )


def _reason(e: Exception) -> str:
    return (e.strerror if isinstance(e, OSError) else None) or str(e)
