"""LABEL.backup: a key on its way to another chip, with everything by which it is known there.

The chip judges what is wrapped: an HMAC covers it and the key's Name, so the public area too. What
people decided is in the request, with their approvals; the birth of the key in the request's
evidence. Label, certificates and authorities are the first host's word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tpmhsm.approval.files import read_json
from tpmhsm.approval.request import BACKUP, Request, parse_request
from tpmhsm.errors import ParseError, TpmHsmError
from tpmhsm.policy.copying import CopyDocument, parse_copy
from tpmhsm.policy.documents import Fields, canonical, encode_json, to_base64

FORMAT = "tpmhsm/backup/1"
MAX_BACKUP = 4 << 20

_WHAT = "backup"
_WRAPPED = ("duplicate", "seed", "inner")
_CREATION = ("data", "hash")
_KEY = ("alg", "hash", "use", "policy", "document", "created")


@dataclass(frozen=True)
class BackupFile:
    """A key's backup. `request` is the executed request of kind 'backup', with its approvals.

    `key`: what the first host's record says (alg, hash, use, policy, document, created).
    `creation`: TPMS_CREATION_DATA and its hash, `wrapped`: what TPM2_Duplicate gave.
    `certificates`: DER; `authorities`: name, profile, subject and certificate (SHA-256) of those
    that use the key.
    """

    request: Request
    key: Mapping[str, str]
    creation: Mapping[str, bytes]
    wrapped: Mapping[str, bytes] = field(repr=False)
    certificates: tuple[bytes, ...] = ()
    authorities: tuple[Mapping[str, str], ...] = ()

    @property
    def copy(self) -> CopyDocument:
        """What was approved. ParseError."""
        return parse_copy(self.request.content)

    @property
    def origin(self) -> str:
        """The file less what is wrapped, as JSON: where the key came from."""
        return canonical(self._document()).decode()

    @property
    def data(self) -> bytes:
        """The file."""
        wrapped = {name: to_base64(self.wrapped[name]) for name in _WRAPPED}
        return canonical({**self._document(), "wrapped": wrapped}) + b"\n"

    def _document(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "request": read_json(self.request.data, "request", MAX_BACKUP),
            "key": {name: self.key[name] for name in _KEY},
            "creation": {name: to_base64(self.creation[name]) for name in _CREATION},
            "certificates": [to_base64(one) for one in self.certificates],
            "authorities": [dict(one) for one in self.authorities],
        }


def is_backup(data: bytes) -> bool:
    """Whether a file says that it is a backup."""
    try:
        return read_json(data, _WHAT, MAX_BACKUP).get("format") == FORMAT
    except TpmHsmError:
        return False


def parse_backup(data: bytes) -> BackupFile:
    """Read a backup. ParseError saying what is wrong and where; nothing is judged but the form."""
    return _read(data, wrapped=True)


def parse_origin(text: str) -> BackupFile:
    """Read what is kept of one (`BackupFile.origin`): nothing is wrapped in it. ParseError."""
    return _read(text.encode(), wrapped=False)


def _read(data: bytes, *, wrapped: bool) -> BackupFile:
    document = read_json(data, _WHAT, MAX_BACKUP)
    fields = Fields(document, _WHAT)
    fields.expect("format", FORMAT)
    fields.fields("request")
    request = parse_request(encode_json(document["request"]) + b"\n")
    if request.kind != BACKUP:
        raise ParseError(f"{_WHAT}: what was approved is no copy of a key, but a {request.kind}")
    found = BackupFile(
        request,
        _texts(fields.fields("key"), _KEY),
        _blobs(fields.fields("creation"), _CREATION),
        _blobs(fields.fields("wrapped"), _WRAPPED) if wrapped else {},
        tuple(_der(item) for item in fields.list("certificates")),
        tuple(_authority(item) for item in fields.list("authorities")),
    )
    fields.done()
    _ = found.copy
    return found


def _authority(value: Any) -> Mapping[str, str]:
    """Its name becomes those of files, and is shown: a label."""
    fields = Fields(value, f"{_WHAT}: authorities")
    found = {name: fields.label(name) for name in ("name", "profile")}
    found |= {name: fields.text(name) for name in ("subject", "certificate")}
    fields.done()
    return found


def _texts(fields: Fields, names: tuple[str, ...]) -> dict[str, str]:
    found = {name: fields.text(name) for name in names}
    fields.done()
    return found


def _blobs(fields: Fields, names: tuple[str, ...]) -> dict[str, bytes]:
    found = {name: fields.base64(name) for name in names}
    fields.done()
    return found


def _der(value: Any) -> bytes:
    return Fields({"der": value}, f"{_WHAT}: certificates").base64("der")
