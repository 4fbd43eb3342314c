"""The minutes of a founding ceremony: what was done, by whom, and what they signed.

A versioned JSON document that holds documents, public areas, certificates and whole requests with
their approvals; Names, fingerprints and digests are computed from these whenever they are shown, so
that the minutes cannot say one thing and hold another. What people signed is the acts
(`minutes_check` verifies them); place, steps and notes are the host's words, for which the people
present sign on paper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tpmhsm.approval.cards import Card, DeviceCard, parse_card, parse_device_card
from tpmhsm.approval.files import read_json
from tpmhsm.approval.request import Request, parse_request
from tpmhsm.approval.votes import one_of
from tpmhsm.attest.verdicts import (
    CLASS_WORDS,
    QUESTIONS,
    Answer,
    DeviceClass,
    Judgement,
    Question,
)
from tpmhsm.errors import ParseError, TpmHsmError, UsageError
from tpmhsm.policy import moments
from tpmhsm.policy.documents import Fields, canonical, encode_json, to_base64
from tpmhsm.policy.group import GroupDocument, RosterDocument, check_pair, parse_group, parse_roster

if TYPE_CHECKING:
    from tpmhsm.attest.statements import ChipKey

MINUTES_FORMAT = "tpmhsm/minutes/1"

MAX_MINUTES = 32 << 20
MOST = 10_000
"""Items of one list."""

SHORT, LONG = 200, 4000
"""Characters of a name or title, and of a sentence."""

NOTE_KINDS = ("note", "deviation")
T = TypeVar("T")

_ANSWERS: tuple[Answer, ...] = ("proven", "refuted", "not-proven")


@dataclass(frozen=True)
class KeyMinutes:
    """A key that was made: label, TPMT_PUBLIC, and its policy as text or published document."""

    label: str
    public: bytes
    policy: str

    @property
    def name(self) -> bytes:
        """The key's Name. ParseError if `public` is no public area."""
        return self.chip_key.name

    @property
    def chip_key(self) -> ChipKey:
        """The key, which signs or decrypts. ParseError if `public` is no such key's."""
        from tpmhsm.attest.statements import key_for
        from tpmhsm.wire.codec import decode
        from tpmhsm.wire.constants import ObjectAttributes
        from tpmhsm.wire.public import Public

        decrypts = decode(Public, self.public).attributes & ObjectAttributes.DECRYPT
        return key_for("decrypt" if decrypts else "data", self.public)


@dataclass(frozen=True)
class CertificateMinutes:
    """A certificate (DER) that was issued; `label` is its authority's, or its key's."""

    label: str
    der: bytes


@dataclass(frozen=True)
class ActMinutes:
    """An act: the request with its approvals inside, and when it was executed (None: it was not,
    which stands in the minutes as a deviation).
    """

    request: Request
    executed: datetime | None


@dataclass(frozen=True)
class Step:
    """A line of the transcript: when it was done, what ("group officers"), and how it went."""

    at: datetime
    what: str
    words: str = ""


@dataclass(frozen=True)
class Note:
    """Something to remember: a `note`, or a `deviation` from what was planned."""

    at: datetime
    kind: Literal["note", "deviation"]
    words: str


@dataclass(frozen=True)
class VerdictMinutes:
    """The answer to one of the nine questions, in words."""

    question: Question
    answer: Answer
    words: str


@dataclass(frozen=True)
class EvidenceMinutes:
    """What `tpmhsm.attest.verify` said of the evidence on the day: SHA-256 of the file (32 bytes),
    the sentence, the class of the device, whether a nonce was answered, the nine verdicts.

    It is what the host found, with the roots that it had pinned: whoever holds the file judges it
    anew.
    """

    sha256: bytes
    sentence: str
    device_class: DeviceClass
    nonce: bool
    verdicts: tuple[VerdictMinutes, ...]

    @classmethod
    def of(cls, judgement: Judgement) -> EvidenceMinutes:
        """The part of a judgement that stands in minutes."""
        return cls(
            bytes.fromhex(judgement.evidence),
            _cut(judgement.sentence),
            judgement.device_class,
            judgement.nonce,
            tuple(
                VerdictMinutes(one.question, one.answer, _cut(one.words))
                for one in judgement.verdicts
            ),
        )


@dataclass(frozen=True)
class Minutes:
    """The minutes of one ceremony. UsageError for anything that cannot be in one.

    `title` and `place` are free text, `program` the version that wrote it ("tpmhsm 0.7.0"),
    `maker` what the chip says of itself. `cards` are those of all people with a key, `witnesses`
    the names of those present without one (auditors). `acts` in the order in which they were
    executed; the first grants and windows are among them.
    """

    title: str
    place: str
    program: str
    began: datetime
    ended: datetime
    device: DeviceCard
    maker: str
    group: GroupDocument
    roster: RosterDocument
    cards: tuple[Card, ...]
    witnesses: tuple[str, ...]
    keys: tuple[KeyMinutes, ...]
    certificates: tuple[CertificateMinutes, ...]
    acts: tuple[ActMinutes, ...]
    steps: tuple[Step, ...]
    evidence: EvidenceMinutes | None = None
    notes: tuple[Note, ...] = ()

    def __post_init__(self) -> None:
        if self.ended < self.began:
            raise UsageError("minutes that end before they begin")
        if self.device.ak_name != self.group.device_ak or not self.ek:
            raise UsageError("the device of the minutes is not the group's")
        check_pair(self.group, self.roster)
        self._check_texts()

    def _check_texts(self) -> None:
        short = (self.title, self.place, self.program, self.maker, *self.witnesses)
        short += tuple(step.what for step in self.steps)
        long = [*(one.words for one in self.steps), *(one.words for one in self.notes)]
        if self.evidence:
            long += [self.evidence.sentence, *(one.words for one in self.evidence.verdicts)]
        for texts, most in ((short, SHORT), (long, LONG)):
            for text in texts:
                if len(text) > most:
                    raise UsageError(
                        f"minutes: {text[:40]!a}… has {len(text):,} characters, at most {most:,}"
                    )
        if not self.title.strip() or not all(name.strip() for name in self.witnesses):
            raise UsageError("minutes have a title, and a witness has a name")
        for note in self.notes:
            one_of(note.kind, NOTE_KINDS, "minutes: note")

    @property
    def ek(self) -> bytes:
        """What the group's `device.ek` is the SHA-256 of; empty if the device card has it not."""
        return self.device.find_ek(self.group.device_ek) or b""

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The group's eight words."""
        from tpmhsm.policy.fingerprint import fingerprint

        return fingerprint(self.group, self.ek)

    @cached_property
    def data(self) -> bytes:
        """The file. UsageError beyond 32 MiB, or for lists of more than 10,000."""
        document = _document(self)
        if any(isinstance(part, list) and len(part) > MOST for part in document.values()):
            raise UsageError(f"minutes: a list of more than {MOST:,}")
        data = canonical(document) + b"\n"
        if len(data) > MAX_MINUTES:
            raise UsageError(f"the minutes would have {len(data):,} bytes; at most {MAX_MINUTES:,}")
        return data

    @property
    def digest(self) -> bytes:
        """SHA-256 of the file."""
        return sha256(self.data).digest()


def parse_minutes(data: bytes) -> Minutes:
    """Read minutes. ParseError saying what is wrong and where; VerificationError for a card inside
    whose signature does not hold. The approvals are checked by `minutes_check`.
    """
    document = read_json(data, "minutes", MAX_MINUTES)
    fields = Fields(document, "minutes")
    fields.expect("format", MINUTES_FORMAT)
    found = {
        "title": fields.text("title"),
        "place": fields.text("place"),
        "program": fields.text("program"),
        "began": moments.read_moment(fields, "began"),
        "ended": moments.read_moment(fields, "ended"),
        "device": parse_device_card(_embedded(document, "device")),
        "maker": fields.text("maker"),
        "group": parse_group(_embedded(document, "group")),
        "roster": parse_roster(_embedded(document, "roster")),
        "cards": _each(fields, "cards", lambda item: parse_card(_json(item))),
        "witnesses": _each(fields, "witnesses", _string),
        "keys": _each(fields, "keys", _read_key),
        "certificates": _each(fields, "certificates", _read_certificate),
        "acts": _each(fields, "acts", _read_act),
        "steps": _each(fields, "steps", _read_step),
        "evidence": _read_evidence(fields.fields("evidence")) if fields.has("evidence") else None,
        "notes": _each(fields, "notes", _read_note),
    }
    fields.allow("device", "group", "roster")
    fields.done()
    try:
        return Minutes(**found)  # type: ignore[arg-type] # each is of its field's type
    except ParseError:
        raise
    except UsageError as e:
        raise ParseError(f"minutes: {e.message}") from None


def is_minutes(data: bytes) -> bool:
    """Whether a file says that it is minutes."""
    try:
        return read_json(data, "minutes", MAX_MINUTES).get("format") == MINUTES_FORMAT
    except TpmHsmError:
        return False


def _document(minutes: Minutes) -> dict[str, Any]:
    document: dict[str, Any] = {
        "format": MINUTES_FORMAT,
        "title": minutes.title,
        "place": minutes.place,
        "program": minutes.program,
        "began": moments.stamp(minutes.began),
        "ended": moments.stamp(minutes.ended),
        "device": _object(minutes.device.data),
        "maker": minutes.maker,
        "group": _object(minutes.group.encoded),
        "roster": _object(minutes.roster.encoded),
        "cards": [_object(card.data) for card in minutes.cards],
        "witnesses": list(minutes.witnesses),
        "keys": [
            {"label": key.label, "public": to_base64(key.public), "policy": key.policy}
            for key in minutes.keys
        ],
        "certificates": [
            {"label": one.label, "der": to_base64(one.der)} for one in minutes.certificates
        ],
        "acts": [_write_act(act) for act in minutes.acts],
        "steps": [
            {"at": moments.stamp(one.at), "what": one.what, "words": one.words}
            for one in minutes.steps
        ],
        "notes": [
            {"at": moments.stamp(one.at), "kind": one.kind, "words": one.words}
            for one in minutes.notes
        ],
    }
    if minutes.evidence is not None:
        document["evidence"] = {
            **vars(minutes.evidence),
            "sha256": minutes.evidence.sha256.hex(),
            "verdicts": [dict(vars(one)) for one in minutes.evidence.verdicts],
        }
    return document


def _write_act(act: ActMinutes) -> dict[str, Any]:
    document: dict[str, Any] = {"request": _object(act.request.data)}
    if act.executed is not None:
        document["executed"] = moments.stamp(act.executed)
    return document


def _object(data: bytes) -> dict[str, Any]:
    return read_json(data, "minutes: embedded document", MAX_MINUTES)


def _json(value: Any) -> bytes:
    try:
        return encode_json(value)
    except UsageError as e:
        raise ParseError(f"minutes: {e.message}") from None


def _embedded(document: dict[str, Any], key: str) -> bytes:
    if not isinstance(document.get(key), dict):
        raise ParseError(f"minutes: field {key!r} is missing or of the wrong type")
    return _json(document[key])


def _each(fields: Fields, key: str, read: Callable[[Any], T]) -> tuple[T, ...]:
    return tuple(read(item) for item in fields.list(key))


def _string(item: Any) -> str:
    if not isinstance(item, str):
        raise ParseError("minutes: a name that is no string")
    return item


def _read_key(item: Any) -> KeyMinutes:
    fields = Fields(item, "minutes: key")
    key = KeyMinutes(fields.label("label"), fields.base64("public"), fields.text("policy"))
    fields.done()
    return key


def _read_certificate(item: Any) -> CertificateMinutes:
    fields = Fields(item, "minutes: certificate")
    found = CertificateMinutes(fields.label("label"), fields.base64("der"))
    fields.done()
    return found


def _read_act(item: Any) -> ActMinutes:
    fields = Fields(item, "minutes: act")
    fields.fields("request")
    executed = moments.read_moment(fields, "executed") if fields.has("executed") else None
    act = ActMinutes(parse_request(_json(item["request"])), executed)
    fields.done()
    return act


def _read_step(item: Any) -> Step:
    fields = Fields(item, "minutes: step")
    step = Step(moments.read_moment(fields, "at"), fields.text("what"), fields.text("words"))
    fields.done()
    return step


def _read_note(item: Any) -> Note:
    fields = Fields(item, "minutes: note")
    kind = one_of(fields.text("kind"), NOTE_KINDS, "minutes: note")
    note = Note(moments.read_moment(fields, "at"), kind, fields.text("words"))  # type: ignore[arg-type]
    fields.done()
    return note


def _read_evidence(fields: Fields) -> EvidenceMinutes:
    found = EvidenceMinutes(
        fields.hex("sha256", 32),
        fields.text("sentence"),
        one_of(fields.text("device_class"), tuple(CLASS_WORDS), "minutes: device_class"),  # type: ignore[arg-type]
        fields.flag("nonce"),
        _each(fields, "verdicts", _read_verdict),
    )
    fields.done()
    if [one.question for one in found.verdicts] != list(QUESTIONS):
        raise ParseError("minutes: the verdicts are not the nine, in their order")
    return found


def _read_verdict(item: Any) -> VerdictMinutes:
    fields = Fields(item, "minutes: verdict")
    question = one_of(fields.text("question"), tuple(QUESTIONS), "minutes: question")
    answer = one_of(fields.text("answer"), _ANSWERS, "minutes: answer")
    found = VerdictMinutes(question, answer, fields.text("words"))  # type: ignore[arg-type]
    fields.done()
    return found


def _cut(words: str) -> str:
    """Long words of a verdict, up to what minutes hold."""
    return words if len(words) <= LONG else f"{words[: LONG - 1]}…"
