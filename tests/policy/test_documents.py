"""Canonical JSON, group and roster documents: what is accepted, and all that is not."""

import json
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policy import makers

from tpmhsm.errors import ParseError, TpmHsmError, UsageError
from tpmhsm.policy.documents import canonical, check_label, parse_canonical
from tpmhsm.policy.group import check_pair, parse_group, parse_roster

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values))
def test_canonical_is_read_back(value):
    assert parse_canonical(canonical(value), "x") == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":NaN}',
        b'{"a":1,"a":1}',
        b'{"b":1,"a":1}',
        b'{"a": 1}',
        b'{"a":1}\n',
        b'{"a":"\\u00e4"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"' + b"x" * (1 << 20) + b'"}',
    ],
)
def test_other_encodings_are_refused(data):
    with pytest.raises(ParseError):
        parse_canonical(data, "x")


def test_floats_are_not_written():
    with pytest.raises(UsageError):
        canonical({"a": [1.5]})


@pytest.mark.parametrize("label", ["alice", "Zoë", "key 1", "a_b@c", "名前", "x" * 64])
def test_labels(label):
    assert check_label(label, "x") == label


@pytest.mark.parametrize(
    "label",
    [
        "",
        "x" * 65,
        " a",
        "a ",
        "a,b",
        "a:b",
        "a/b",
        "..",
        "-x",
        "a\n",
        "a\u202eb",
        "e\u0301",
        "a(b",
    ],
)
def test_no_labels(label):
    with pytest.raises(UsageError):
        check_label(label, "x")


def test_group_document_is_read_back():
    group = makers.group(officers=(3, 4))
    again = parse_group(group.encoded)
    assert again == group
    assert again.id == sha256(b"tpmhsm/group/1\0" + group.encoded).digest()
    assert len(again.founders) == 5


def test_every_field_of_a_group_is_in_its_id():
    group = makers.group()
    others = [
        replace(group, name="other"),
        replace(group, device_ek=bytes(32)),
        replace(group, device_ak=b"\0\x0b" + b"\1" * 32),
        replace(group, nonce=bytes(32)),
        replace(group, counter_index=0x01800009),
        replace(group, roster_index=0x01800009),
        replace(group, founders=tuple(sorted((*group.founders, bytes(32))))),
        makers.group(makers.threshold(3, (0, 1, 2), founding=True)),
        makers.group(makers.threshold(2, (0, 2, 1), founding=True)),
    ]
    assert len({g.id for g in [group, *others]}) == len(others) + 1


@pytest.mark.parametrize("ladders", [1, 2, 4])
def test_roster_document_is_read_back(ladders):
    officers = tuple(makers.threshold(1, (2 * i, 2 * i + 1)) for i in range(ladders))
    roster = makers.roster(makers.group(), officers, epoch=7)
    assert parse_roster(roster.encoded) == roster
    assert roster.hash == sha256(roster.encoded).digest()


def test_joined_custodians_are_read_back():
    rule = (
        makers.threshold(2, (0, 1, 2), founding=True),
        makers.threshold(1, (3,), founding=True),
    )
    group = makers.group(rule)
    assert parse_group(group.encoded) == group
    assert group.id != makers.group(rule[::-1]).id
    with pytest.raises(UsageError, match="1 of 2: it must be more than half"):
        makers.group((rule[0], makers.threshold(1, (3, 4), founding=True)))


def broken(document, change):
    value = json.loads(document.encoded)
    change(value)
    return canonical(value)


GROUP_FAULTS = {
    "format": lambda v: v.update(format="tpmhsm/group/2"),
    "unknown field": lambda v: v.update(more=1),
    "missing field": lambda v: v.pop("nonce"),
    "short nonce": lambda v: v.update(nonce="00"),
    "upper-case hex": lambda v: v.update(nonce=v["nonce"].upper()),
    "name": lambda v: v.update(name="a/b"),
    "name type": lambda v: v.update(name=1),
    "boolean index": lambda v: v.update(counter_index=True),
    "index of another range": lambda v: v.update(counter_index=0x01C00002),
    "one index twice": lambda v: v.update(counter_index=v["roster_index"]),
    "device": lambda v: v.update(device=[]),
    "device field": lambda v: v["device"].update(more=""),
    "AK Name": lambda v: v["device"].update(ak="00"),
    "no custodians": lambda v: v.update(custodians=[]),
    "two thresholds": lambda v: v["custodians"].append(v["custodians"][0]),
    "one member on two ladders": lambda v: v["custodians"].append(
        {"m": 1, "members": v["custodians"][0]["members"][:1]}
    ),
    "m 0": lambda v: v["custodians"][0].update(m=0),
    "m of half": lambda v: v["custodians"][0].update(m=1),
    "m too many": lambda v: v["custodians"][0].update(m=4),
    "one member twice": lambda v: v["custodians"][0]["members"].append(
        v["custodians"][0]["members"][0]
    ),
    "member without contribution": lambda v: v["custodians"][0]["members"][0].pop("contribution"),
    "member field": lambda v: v["custodians"][0]["members"][0].update(role="x"),
    "founders without a custodian": lambda v: v["founders"].pop(),
    "founders not sorted": lambda v: v["founders"].reverse(),
    "founders type": lambda v: v.update(founders=[1, 2]),
    "founders twice": lambda v: v["founders"].append(v["founders"][-1]),
    "spki": lambda v: v["custodians"][0]["members"][0].update(spki="AAAA"),
    "spki base64": lambda v: v["custodians"][0]["members"][0].update(spki="A"),
}


@pytest.mark.parametrize("fault", GROUP_FAULTS)
def test_faulty_group_documents(fault):
    with pytest.raises(ParseError):
        parse_group(broken(makers.group(), GROUP_FAULTS[fault]))


ROSTER_FAULTS = {
    "format": lambda v: v.update(format="tpmhsm/group/1"),
    "epoch 0": lambda v: v.update(epoch=0),
    "epoch too large": lambda v: v.update(epoch=1 << 64),
    "negative epoch": lambda v: v.update(epoch=-1),
    "uses in another order": lambda v: v.update(uses=["decrypt", "sign"]),
    "a use twice": lambda v: v.update(uses=["sign", "sign"]),
    "a use that is none": lambda v: v.update(uses=["sign", "copy"]),
    "windows type": lambda v: v.update(windows=[1]),
    "no windows": lambda v: v.update(windows=[]),
    "a window of no Name": lambda v: v.update(windows=["00" * 32]),
    "a window twice": lambda v: v.update(windows=["00" * 34] * 2),
    "windows in another order": lambda v: v.update(windows=["01" * 34, "00" * 34]),
    "too many windows": lambda v: v.update(windows=[f"{i:068x}" for i in range(65)]),
    "measured type": lambda v: v.update(measured=1),
    "nothing measured": lambda v: v.update(measured={}),
    "a bank without PCRs": lambda v: v.update(measured={"sha256": {}}),
    "another bank": lambda v: v.update(measured={"md5": {"0": "00" * 16}}),
    "PCR 23": lambda v: v.update(measured={"sha256": {"23": "00" * 32}}),
    "PCR 24": lambda v: v.update(measured={"sha256": {"24": "00" * 32}}),
    "PCR 07": lambda v: v.update(measured={"sha256": {"07": "00" * 32}}),
    "a PCR of another length": lambda v: v.update(measured={"sha256": {"7": "00" * 20}}),
    "no uses": lambda v: v.update(uses=[]),
    "uses type": lambda v: v.update(uses=[1]),
    "group": lambda v: v.update(group="00"),
    "no officers": lambda v: v.update(officers=[]),
    "one ladder twice": lambda v: v["officers"].append(v["officers"][0]),
    "more ladders than people may be": lambda v: v.update(officers=v["officers"] * 129),
    "contribution": lambda v: v["officers"][0]["members"][0].update(contribution="00" * 32),
}


@pytest.mark.parametrize("fault", ROSTER_FAULTS)
def test_faulty_roster_documents(fault):
    with pytest.raises(ParseError):
        parse_roster(broken(makers.roster(makers.group()), ROSTER_FAULTS[fault]))


@given(st.binary(max_size=200))
def test_garbage_is_refused(data):
    for parse in (parse_group, parse_roster):
        with pytest.raises(TpmHsmError):
            parse(data)


@given(at=st.integers(0, 10_000), new=st.integers(0, 255))
def test_one_other_byte_gives_another_document_or_none(at, new):
    data = bytearray(makers.group().encoded)
    at %= len(data)
    changed = data[at] != new
    data[at] = new
    try:
        found = parse_group(bytes(data))
    except ParseError:
        assert changed
    else:
        assert found.encoded == bytes(data)
        assert (found.id != makers.group().id) == changed


def test_one_key_on_two_cards():
    """One point, two names: it would count twice on the ladder."""
    twice = replace(makers.member(0), name="mallory")
    with pytest.raises(UsageError, match="same key"):
        makers.Threshold(2, (makers.member(0), twice, makers.member(1)))


def test_officers_and_custodians_with_one_name_or_key():
    group = makers.group()
    check_pair(group, makers.roster(group, makers.threshold(2, (0, 1, 5))))
    for impostor in (
        replace(makers.member(5), name="alice"),
        replace(makers.member(0), name="mallory"),
    ):
        officers = makers.Threshold(1, (impostor,))
        with pytest.raises(UsageError, match="one name is one key"):
            check_pair(group, makers.roster(group, officers))


def test_roster_of_another_group():
    group, other = makers.group(), makers.group(nonce=bytes(32))
    with pytest.raises(UsageError, match="another group"):
        check_pair(group, makers.roster(other))


def test_half_of_the_custodians_is_not_enough():
    with pytest.raises(UsageError, match="more than half"):
        makers.group(makers.threshold(2, (0, 1, 2, 3), founding=True))
