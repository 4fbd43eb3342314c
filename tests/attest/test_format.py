"""The evidence file: written and read again; anything else refused; the schema says the same."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attest.json_schema import faults

import tpmhsm.attest.format as form
from tpmhsm.attest.format import Evidence, Statement
from tpmhsm.attest.reading import is_evidence, parse_evidence
from tpmhsm.errors import ParseError, TpmHsmError

SCHEMA = json.loads(Path(form.__file__).with_name("schema.json").read_text(encoding="utf-8"))

small = st.binary(max_size=20)
statements = st.builds(Statement, small, small)
creations = st.builds(form.CreationPart, small, small, small)
labels = st.text(alphabet="abcdef012-", min_size=1, max_size=8).filter(lambda t: t[0] not in "-.")
documents = st.dictionaries(st.text(max_size=4), st.integers(), max_size=2).map(
    lambda found: json.dumps(
        found, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()
)
groups = st.builds(
    form.GroupEvidence,
    document=st.just(b'{"format":"tpmhsm/group/1"}'),
    roster=st.just(b'{"format":"tpmhsm/roster/1"}'),
    cards=st.lists(documents, max_size=2).map(tuple),
    counter=st.none() | statements,
    held=st.none() | statements,
)
pcrs = st.dictionaries(
    st.integers(0, 23), st.binary(min_size=32, max_size=32), min_size=1, max_size=3
).map(lambda values: {"sha256": values})
evidences = st.builds(
    Evidence,
    made=st.datetimes(
        min_value=datetime(2020, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)
    ).map(lambda at: at.replace(microsecond=0)),
    nonce=st.binary(min_size=8, max_size=32),
    device=st.builds(
        form.DeviceClaims,
        kind=st.sampled_from(form.DEVICE_KINDS),
        manufacturer=st.text(alphabet="ABC", max_size=4),
        vendor=st.just("SWTPM"),
        firmware=st.just("1.2"),
        specification=st.just("2.0"),
        properties=st.dictionaries(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF)),
    ),
    eks=st.lists(
        st.builds(
            form.EndorsementPart,
            small,
            st.none() | small,
            st.none() | st.integers(0, 0xFFFFFFFF),
            st.lists(small, max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    aks=st.lists(
        st.builds(
            form.AttestationPart,
            small,
            st.lists(small, max_size=2).map(tuple),
            st.none() | statements,
            st.none() | creations,
            st.none() | statements,
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
    keys=st.lists(
        st.builds(
            form.KeyEvidence,
            label=labels,
            use=st.sampled_from(["sign", "decrypt"]),
            public=small,
            policy=st.just("open"),
            document=st.text(max_size=5),
            creation=st.none() | creations,
            certificates=st.lists(small, max_size=2).map(tuple),
        ),
        max_size=2,
        unique_by=lambda key: key.label,
    ).map(tuple),
    groups=st.lists(groups, max_size=2).map(tuple),
    budgets=st.lists(
        st.builds(form.BudgetEvidence, labels, labels, small, st.none() | statements), max_size=2
    ).map(tuple),
    quote=st.none() | st.builds(form.QuoteEvidence, small, small, pcrs),
    event_log=st.none() | small,
    time=st.none() | statements,
    audit=st.none() | st.just({"format": "tpmhsm/log-proof/1", "n": 1}),
)


@settings(max_examples=60, deadline=None)
@given(evidences)
def test_what_is_written_is_read_and_fits_the_schema(evidence: Evidence) -> None:
    data = form.format_evidence(evidence)
    assert is_evidence(data)
    assert parse_evidence(data) == evidence
    assert faults(json.loads(data), SCHEMA, SCHEMA) == []
    assert parse_evidence(json.dumps(json.loads(data), indent=2).encode()) == evidence


BASE = Evidence(
    made=datetime(2026, 11, 23, tzinfo=UTC),
    nonce=bytes(8),
    device=form.DeviceClaims("hardware", "IFX", "", "", "", {0x100: 1}),
    eks=(form.EndorsementPart(b"ek"),),
    aks=(form.AttestationPart(b"ak", certified=Statement(b"a", b"s")),),
    keys=(form.KeyEvidence("root", "sign", b"key", "open"),),
    groups=(form.GroupEvidence(b'{"format":"tpmhsm/group/1"}', b'{"format":"tpmhsm/roster/1"}'),),
    budgets=(form.BudgetEvidence("root", "officers", b"nv"),),
    quote=form.QuoteEvidence(b"a", b"s", {"sha256": {0: bytes(32)}}),
)


def paths(value: object, at: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    found = [at] if at else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += paths(item, (*at, key))
    if isinstance(value, list):
        for n, item in enumerate(value):
            found += paths(item, (*at, n))
    return found


def document() -> dict:
    return json.loads(form.format_evidence(BASE))


FREE = {"document", "roster", "properties", "pcrs"}
"""Under these the names of fields are data, or another reader's."""


@pytest.mark.parametrize("path", paths(document()), ids=lambda path: "/".join(map(str, path)))
def test_each_field_is_demanded_and_of_its_type(path: tuple) -> None:
    *above, last = path
    free = bool(FREE & {*map(str, above)})
    if isinstance(last, str) and not free:
        value = document()
        inner = value
        for step in above:
            inner = inner[step]
        del inner[last]
        refused(value)
    if not free:
        for wrong in (1.5, True, [[]], {"a": {}}, "!"):
            value = document()
            inner = value
            for step in above:
                inner = inner[step]
            if "audit" in path or (isinstance(wrong, dict) and last in FREE):
                continue
            if wrong == "!" and (inner[last] == "" or last in ("text", "document", "kind")):
                continue
            if wrong == "!" and last in ("manufacturer", "label", "key", "group"):
                continue
            inner[last] = wrong
            refused(value)


def refused(value: object) -> None:
    data = json.dumps(value).encode()
    with pytest.raises(ParseError):
        parse_evidence(data)
    if not any(isinstance(item, float) for item in flat(value)):
        assert faults(value, SCHEMA, SCHEMA) != []


def flat(value: object) -> list[object]:
    if isinstance(value, dict):
        return [item for one in value.values() for item in flat(one)]
    if isinstance(value, list):
        return [item for one in value for item in flat(one)]
    return [value]


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(more=1),
        lambda v: v.update(format="tpmhsm/evidence/2"),
        lambda v: v.update(made="2026-11-23 00:00"),
        lambda v: v.update(nonce="00" * 7),
        lambda v: v.update(nonce="00" * 33),
        lambda v: v.update(nonce="AB" * 8),
        lambda v: v.update(aks=[]),
        lambda v: v["device"].update(kind="chip"),
        lambda v: v["device"].update(vendor="x" * 65),
        lambda v: v["device"]["properties"].update({"0x100": 1}),
        lambda v: v["device"]["properties"].update({"0x00000101": 1 << 32}),
        lambda v: v["eks"][0].update(public="ab"),
        lambda v: v["eks"][0].update(nv_index=-1),
        lambda v: v["keys"][0].update(use="both"),
        lambda v: v["keys"][0].update(label=""),
        lambda v: v["quote"]["pcrs"].update(md5={}),
        lambda v: v["quote"]["pcrs"]["sha256"].update({"24": "00" * 32}),
        lambda v: v.update(eks=v["eks"] * 4097),
    ],
)
def test_refused(change) -> None:
    value = document()
    change(value)
    refused(value)


def test_what_the_schema_cannot_say_is_refused_too() -> None:
    value = document()
    value["keys"] *= 2
    with pytest.raises(ParseError, match="two keys"):
        parse_evidence(json.dumps(value).encode())
    text = form.format_evidence(BASE).decode()
    with pytest.raises(ParseError, match="twice"):
        parse_evidence(text.replace('"aks":', '"eks":[],"aks":', 1).encode())
    with pytest.raises(ParseError, match="larger"):
        parse_evidence(b" " * (form.MAX_EVIDENCE + 1))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_files(data: st.DataObject) -> None:
    """Either it is read as something, or a ParseError says why: never another exception."""
    raw = bytearray(form.format_evidence(BASE))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_evidence(bytes(raw))
    except TpmHsmError as error:
        assert isinstance(error, ParseError)


def test_the_seal_covers_everything_but_time_and_audit() -> None:
    assert replace(BASE, time=Statement(b"t", b"s"), audit={"a": 1}).seal == BASE.seal
    others = [
        replace(BASE, nonce=bytes(9)),
        replace(BASE, event_log=b""),
        replace(BASE, keys=()),
        replace(BASE, device=replace(BASE.device, vendor="x")),
        replace(BASE, budgets=()),
    ]
    assert len({BASE.seal, *(one.seal for one in others)}) == len(others) + 1


def test_qualifying_data_of_each_purpose_differ() -> None:
    found = {BASE.qualifying(purpose, b"s") for purpose in form.PURPOSES}
    assert len(found) == len(form.PURPOSES)
    assert form.qualifying(b"a" * 8, "quote") != form.qualifying(b"b" * 8, "quote")
    # the lengths keep one field from running into the next
    assert form.qualifying(b"a" * 8 + b"\0\4time", "quote") != form.qualifying(b"a" * 8, "time")
