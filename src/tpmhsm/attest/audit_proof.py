"""The proof of the log: one JSON document, "audit-proof/1", read strictly and not believed.

It is a file of its own, or stands in a file of evidence. `tpmhsm.attest.audit_chain` judges it, and
`docs/audit.md` describes each field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from tpmhsm.attest.audit_records import Audited, Checkpoint, Record
from tpmhsm.errors import ParseError
from tpmhsm.policy.documents import Fields, encode_json, parse_json, to_base64
from tpmhsm.wire.constants import CC

FORMAT = "audit-proof/1"

MAX_PROOF = 1 << 30
"""Bytes of a file; a signature takes about a kilobyte."""

GENESIS = "0" * 64
"""What the first entry of a log goes on from."""


@dataclass(frozen=True)
class Entry:
    """An entry of the log. `facts` is canonical JSON; `prev` and `hash` SHA-256, hexadecimal."""

    seq: int
    at: str
    actor: str
    act: str
    facts: str
    prev: str
    hash: str

    @property
    def computed(self) -> str:
        """The hash that it should have: over its canonical JSON without its own hash."""
        names = {"act": self.act, "actor": self.actor, "at": self.at}
        first = encode_json(names).decode()[:-1]
        rest = f'"facts":{self.facts},"prev":{_text(self.prev)},"seq":{self.seq}'
        return sha256(f"{first},{rest}}}".encode()).hexdigest()

    def read_facts(self) -> dict[str, Any]:
        """The facts; empty where they are no JSON object."""
        try:
            found = json.loads(self.facts)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True)
class Statement:
    """`attest` TPMS_ATTEST, `signature` TPMT_SIGNATURE over it by the attestation key."""

    attest: bytes = b""
    signature: bytes = b""


@dataclass(frozen=True)
class LoggedKey:
    """A key that is or was here. `public` TPMT_PUBLIC; `data` TPMS_CREATION_DATA with `creation`,
    TPM2_CertifyCreation; both empty for one that was imported.
    """

    name: bytes
    label: str
    public: bytes
    data: bytes = b""
    creation: Statement = Statement()


@dataclass(frozen=True)
class LogProof:
    """The whole document. `made` RFC 3339; `ak` TPMT_PUBLIC of the attestation key; `parent` is
    TPM2_Certify of the keys' parent after the last checkpoint, over `still_there`; `documents` are
    certificates and CRLs, DER, that were signed. `numbers` are those that the log gave the records:
    one for each, without a gap.
    """

    made: str
    nonce: bytes
    ak: bytes
    parent: Statement
    keys: tuple[LoggedKey, ...]
    entries: tuple[Entry, ...]
    records: tuple[Record, ...]
    numbers: tuple[int, ...]
    documents: tuple[bytes, ...] = ()

    def encode(self) -> dict[str, Any]:
        """As a JSON object."""
        places = {key.name: place for place, key in enumerate(self.keys)}
        return {
            "tpmhsm": FORMAT,
            "made": self.made,
            "nonce": self.nonce.hex(),
            "ak": to_base64(self.ak),
            "parent": _statement(self.parent),
            "keys": [
                {
                    "name": key.name.hex(),
                    "label": key.label,
                    "public": to_base64(key.public),
                    "data": to_base64(key.data),
                    "creation": _statement(key.creation),
                }
                for key in self.keys
            ],
            "entries": [
                [one.seq, one.at, one.actor, one.act, one.facts, one.hash] for one in self.entries
            ],
            "records": [
                {"n": number, **_record(record, places)}
                for number, record in zip(self.numbers, self.records, strict=True)
            ],
            "documents": [to_base64(der) for der in self.documents],
        }


def read_proof(data: bytes) -> LogProof:
    """Read a file. Raises ParseError."""
    return proof_of(parse_json(data, "the proof of the log", MAX_PROOF))


def proof_of(value: Mapping[str, Any]) -> LogProof:
    """Read the JSON object, as it stands in a file of evidence. Raises ParseError."""
    fields = Fields(dict(value), "the proof of the log")
    fields.expect("tpmhsm", FORMAT)
    keys = tuple(_read_key(one) for one in fields.list("keys"))
    numbered = [_read_record(one, keys) for one in fields.list("records")]
    found = LogProof(
        made=fields.text("made"),
        nonce=fields.hex("nonce"),
        ak=fields.base64("ak"),
        parent=_read_statement(fields.fields("parent")),
        keys=keys,
        entries=tuple(_read_entries(fields.list("entries"))),
        records=tuple(record for _, record in numbered),
        numbers=tuple(number for number, _ in numbered),
        documents=tuple(_read_documents(fields.list("documents"))),
    )
    fields.done()
    return found


def _text(value: str) -> str:
    return encode_json(value).decode()


def _statement(one: Statement) -> dict[str, str]:
    return {"attest": to_base64(one.attest), "signature": to_base64(one.signature)}


def _record(record: Record, places: Mapping[bytes, int]) -> dict[str, Any]:
    if isinstance(record, Checkpoint):
        return {
            "act": "checkpoint",
            "at": record.at,
            "seq": record.seq,
            "head": record.head.hex(),
            "nonce": record.nonce.hex(),
            "attest": to_base64(record.attest),
            "signature": to_base64(record.signature),
        }
    found: dict[str, Any] = {"at": record.at, "sent": to_base64(record.sent)}
    if record.code == CC.Sign and record.names in places:
        found |= {"act": "sign", "key": places[record.names]}
    else:
        found |= {"act": "command", "code": record.code, "names": record.names.hex()}
    if not record.is_plain:
        found["digest"] = record.digest.hex()
    elif record.digest:
        found["size"] = len(record.digest)
    return found | {"answered": to_base64(record.answered)}


def _read_statement(fields: Fields) -> Statement:
    found = Statement(fields.base64("attest"), fields.base64("signature"))
    fields.done()
    return found


def _read_key(value: Any) -> LoggedKey:
    fields = Fields(value, "the proof of the log: a key")
    found = LoggedKey(
        name=fields.hex("name"),
        label=fields.text("label"),
        public=fields.base64("public"),
        data=fields.base64("data"),
        creation=_read_statement(fields.fields("creation")),
    )
    fields.done()
    return found


def _read_entries(items: Sequence[Any]) -> list[Entry]:
    found: list[Entry] = []
    prev = GENESIS
    for item in items:
        kinds = [type(part) for part in item] if isinstance(item, list) else []
        if kinds != [int, str, str, str, str, str]:
            raise ParseError("the proof of the log: an entry is not a number and five texts")
        seq, at, actor, act, facts, own = item
        if not _is_text("".join(item[1:])):
            raise ParseError(f"the proof of the log: entry {seq} is no valid Unicode")
        found.append(Entry(seq, at, actor, act, facts, prev, own))
        prev = own
    return found


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeError:
        return False
    return True


def _read_record(value: Any, keys: Sequence[LoggedKey]) -> tuple[int, Record]:
    fields = Fields(value, "the proof of the log: a record")
    number = fields.number("n")
    found = _read_checkpoint(fields) if fields.text("act") == "checkpoint" else None
    found = found or _read_audited(fields, keys)
    fields.done()
    return number, found


def _read_checkpoint(fields: Fields) -> Record:
    return Checkpoint(
        fields.number("at", 0, (1 << 32) - 1),
        fields.number("seq"),
        fields.hex("head", 32),
        fields.hex("nonce"),
        fields.base64("attest"),
        fields.base64("signature"),
    )


def _read_audited(fields: Fields, keys: Sequence[LoggedKey]) -> Record:
    act, at = fields.text("act"), fields.number("at", 0, (1 << 32) - 1)
    code, names = int(CC.Sign), b""
    if act == "sign":
        names = keys[fields.number("key", 0, len(keys) - 1)].name if keys else b""
    elif act == "command":
        code, names = fields.number("code", 0, (1 << 32) - 1), fields.hex("names")
    else:
        raise ParseError(f"the proof of the log: a record of the unknown act {act[:40]!r}")
    sent, digest = fields.base64("sent"), b""
    if fields.has("digest"):
        digest = fields.hex("digest")
    elif fields.has("size"):
        digest = sent[2 : 2 + fields.number("size", 0, 64)]
    return Audited(at, code, names, sent, fields.base64("answered"), digest)


def _read_documents(items: Sequence[Any]) -> list[bytes]:
    what = "the proof of the log: a document"
    return [Fields({"der": item}, what).base64("der") for item in items]
