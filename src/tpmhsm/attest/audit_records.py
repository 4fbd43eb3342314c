"""What the chip's own audit of commands is replayed from: one record for each audited command.

Command audit (TCG TPM 2.0 Library Part 1, "Command audit"; Part 3 §18.6 and §21): with every
audited command that succeeds the chip computes

    auditDigest = H(auditDigest ‖ cpHash ‖ rpHash)        beginning with zeros
    cpHash = H(commandCode ‖ Names ‖ parameters)          rpHash = H(0 ‖ commandCode ‖ parameters)

over the bytes as they were sent and answered, encrypted ones too. TPM2_SetCommandCodeAuditStatus is
always audited. When the digest begins, a counter that no power failure loses goes up by one; so it
does not matter what a digest held that was never certified, only that there was none.

A checkpoint is TPM2_SetCommandCodeAuditStatus (which changes nothing, and makes the counter go up),
then TPM2_GetCommandAuditDigest, signed by the attestation key over `anchor`, which ends the digest.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple
from zlib import crc32

from tpmhsm.errors import ParseError
from tpmhsm.wire.constants import ALG, CC, RH
from tpmhsm.wire.names import cp_hash, handle_name, rp_hash

ZEROS = bytes(32)
"""What a digest begins with."""

SIGNING = (CC.Sign, CC.CertifyX509)
"""What makes signatures over certificates, in rising order; many chips lack the second. What else
signs (quotes, certifications …) signs TPMS_ATTEST, which is never a certificate or a CRL.
"""

AUDITED = (CC.SetCommandCodeAuditStatus, *SIGNING)
"""The commands that are audited: the first always is."""


def _command_digest(codes: Iterable[int]) -> bytes:
    return sha256(b"".join(int(code).to_bytes(4, "big") for code in codes)).digest()


COMMAND_DIGESTS = (_command_digest(AUDITED), _command_digest(AUDITED[:2]))
"""What a chip says that audits these and no others (TPMS_COMMAND_AUDIT_INFO, commandDigest), one
that has TPM2_CertifyX509 and one that has not.
"""

_ACT, _CHECKPOINT = 1, 2
_HEAD = struct.Struct(">2sBHI")
_MAGIC = b"TJ"
_ACT_HEAD = struct.Struct(">II")
_CHECKPOINT_HEAD = struct.Struct(">IQ32s")


class Audited(NamedTuple):
    """An audited command that the chip carried out.

    `at` Unix time in seconds by this machine's clock, `code` the command, `names` the Names of its
    handles, `sent` and `answered` the parameters as they travelled, `digest` what was signed, where
    it was a signature. (Not a dataclass: one is made for each signature.)
    """

    at: int
    code: int
    names: bytes
    sent: bytes
    answered: bytes
    digest: bytes = b""

    @property
    def hashes(self) -> bytes:
        """cpHash ‖ rpHash, 64 bytes: what the chip's digest is extended with."""
        return cp_hash(self.code, (self.names,), self.sent) + rp_hash(self.code, self.answered)

    def encode(self) -> bytes:
        """As a record of a journal."""
        body = _ACT_HEAD.pack(self.at, self.code) + _join(self[2:])
        return _HEAD.pack(_MAGIC, _ACT, len(body), crc32(body)) + body

    @property
    def is_signature(self) -> bool:
        """Whether it made a signature that counts: see `SIGNING`."""
        return self.code in SIGNING

    @property
    def is_plain(self) -> bool:
        """Whether the digest travelled in plain, so that cpHash itself covers it."""
        size = len(self.digest)
        return not size or self.sent.startswith(size.to_bytes(2, "big") + self.digest)


@dataclass(frozen=True)
class Checkpoint:
    """The chip's word on all audited commands since the checkpoint before.

    `seq` and `head`: the last entry of the log at that time and its hash (32 bytes); `nonce` of
    whoever asked, or empty; `attest` TPMS_ATTEST, `signature` TPMT_SIGNATURE.
    """

    at: int
    seq: int
    head: bytes
    nonce: bytes
    attest: bytes
    signature: bytes

    def encode(self) -> bytes:
        """As a record of a journal."""
        body = _CHECKPOINT_HEAD.pack(self.at, self.seq, self.head)
        body += _join((self.nonce, self.attest, self.signature))
        return _HEAD.pack(_MAGIC, _CHECKPOINT, len(body), crc32(body)) + body

    @property
    def mark(self) -> bytes:
        """What a key holds that was made after it: the outsideInfo of its creation, 32 bytes."""
        return birthmark(self.attest)


Record = Audited | Checkpoint


def anchor(seq: int, head: bytes, nonce: bytes = b"") -> bytes:
    """The qualifying data of a checkpoint over the log's head, 32 bytes."""
    return sha256(b"tpmhsm/audit/1" + seq.to_bytes(8, "big") + head + nonce).digest()


def birthmark(attest: bytes) -> bytes:
    """What a key is made with that is made after this checkpoint."""
    return sha256(b"tpmhsm/after/1" + attest).digest()


def still_there(nonce: bytes, checkpoint: bytes) -> bytes:
    """Qualifying data of TPM2_Certify of the storage parent: after this checkpoint's attest.

    TPM2_Clear sets the counter of audits back, and no key of before has the parent of after.
    """
    return sha256(b"tpmhsm/parent/1" + len(nonce).to_bytes(2, "big") + nonce + checkpoint).digest()


def audit_command(add: Iterable[int], remove: Iterable[int], alg: int = ALG.SHA256) -> Audited:
    """TPM2_SetCommandCodeAuditStatus by the owner, as it is audited."""
    lists = [list(add), list(remove)]
    sent = int(alg).to_bytes(2, "big") + b"".join(
        len(codes).to_bytes(4, "big") + b"".join(int(code).to_bytes(4, "big") for code in codes)
        for codes in lists
    )
    return Audited(0, int(CC.SetCommandCodeAuditStatus), handle_name(RH.OWNER), sent, b"")


def replay(hashes: Iterable[bytes], state: bytes = ZEROS) -> bytes:
    """The audit digest after commands with these `Audited.hashes`."""
    for one in hashes:
        state = sha256(state + one).digest()
    return state


def read_records(data: bytes, start: int = 0) -> tuple[list[Record], int]:
    """The records in a journal from an offset on, and where the last one ends.

    What was torn by a crash is passed over: what is missing then, the chip's digest tells.
    """
    found: list[Record] = []
    at = end = start
    while (at := data.find(_MAGIC, at)) >= 0:
        record, after = _record_at(data, at)
        if record is None:
            at += 1
            continue
        found.append(record)
        at = end = after
    return found, end


def read_record(data: bytes) -> Record:
    """One whole record. Raises ParseError."""
    record, end = _record_at(data, 0)
    if record is None or end != len(data):
        raise ParseError("this is no record of an audited command")
    return record


def _record_at(data: bytes, at: int) -> tuple[Record | None, int]:
    if len(data) < at + _HEAD.size:
        return None, at
    magic, kind, size, check = _HEAD.unpack_from(data, at)
    body = data[at + _HEAD.size : at + _HEAD.size + size]
    if magic != _MAGIC or len(body) != size or crc32(body) != check:
        return None, at
    try:
        return _read(kind, body), at + _HEAD.size + size
    except (struct.error, ParseError):
        return None, at


def _read(kind: int, body: bytes) -> Record:
    if kind == _ACT:
        at, code = _ACT_HEAD.unpack_from(body)
        names, sent, answered, digest = _split(body, _ACT_HEAD.size, 4)
        return Audited(at, code, names, sent, answered, digest)
    if kind == _CHECKPOINT:
        at, seq, head = _CHECKPOINT_HEAD.unpack_from(body)
        nonce, attest, signature = _split(body, _CHECKPOINT_HEAD.size, 3)
        return Checkpoint(at, seq, head, nonce, attest, signature)
    raise ParseError(f"a record of the unknown kind {kind}")


def _join(parts: Iterable[bytes]) -> bytes:
    return b"".join([len(part).to_bytes(2, "big") + part for part in parts])


def _split(body: bytes, at: int, count: int) -> list[bytes]:
    found = []
    for _ in range(count):
        size = int.from_bytes(body[at : at + 2], "big")
        found.append(body[at + 2 : at + 2 + size])
        at += 2 + size
    if at != len(body):
        raise ParseError("a record that is longer or shorter than its parts")
    return found
