"""The policy of keys that may be copied: digests, documents, refusals."""

import pytest
from tests.policy import makers

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.copying import CopyDocument, bound_copy, copy_end, copy_ladders, parse_copy
from tpmhsm.policy.ladder import Ladder
from tpmhsm.policy.people import Member, Threshold, ladders
from tpmhsm.policy.published import format_document, read_policy
from tpmhsm.policy.steps import AuthorizeNv, CommandCode, Or, digest_of
from tpmhsm.policy.text import parse_policy
from tpmhsm.policy.tree import anchor, static_ladders
from tpmhsm.wire.constants import CC

h = bytes.fromhex


def bound(text="quorum(officers)", command=CC.Sign):
    group = makers.group()
    policy = KeyPolicy.of(parse_policy(text)).for_command(command)
    indices = {label: anchor(group) for label in policy.rosters}
    return group, KeyPolicy(policy.alternatives, indices, command=command)


def test_published_vectors(vectors):
    """The ladder with its CommandCode, and the cpHash of TPM2_Duplicate."""
    example = vectors["worked_example"]
    k3 = next(k for k in example["keys"] if k["id"] == "K3")
    k2 = next(k for k in example["keys"] if k["id"] == "K2")
    keys = {a["id"]: h(a["name"]) for a in vectors["approvers"]}
    ref = next(r for r in vectors["policy_refs"] if r["id"] == "duplicate")
    people = tuple(keys[one] for one in example["custodians"]["approvers"])
    end = Ladder(example["custodians"]["m"], people, h(ref["sha256"])).digest()
    copy = CommandCode(CC.Duplicate).extend(end)
    assert Or((h(k2["authPolicy"]), copy)).extend(bytes(32)).hex() == k3["authPolicy"]
    wanted = next(v for v in vectors["cphash"] if v["id"] == "duplicate-K3")
    found = bound_copy(*map(h, wanted["names"]))
    assert (found.code, found.parameters.hex()) == (CC.Duplicate, wanted["parameters"])
    assert found.cp_hash.hex() == wanted["cphash"]


def test_three_ways_and_no_other():
    """Nothing but the published formula, written out by hand."""
    group, plain = bound()
    ladder = copy_ladders(group)[0]
    assert set(ladder.names) == {m.chip_name for m in group.custodians[0].members}
    start, roster = bytes(32), anchor(group)
    branches = (
        digest_of((AuthorizeNv(roster), CommandCode(CC.Sign))),
        CommandCode(CC.Duplicate).extend(ladder.digest()),
        digest_of((AuthorizeNv(roster), CommandCode(CC.Certify))),
    )
    copied = plain.copied_by(group)
    assert copied.digest == Or(branches).extend(start) != plain.digest
    assert copied.way(copied.alternatives[0])[-1] == Or(branches)
    assert copied.copy_way() == (CommandCode(CC.Duplicate), Or(branches))


@pytest.mark.parametrize("command", [CC.Sign, CC.RSA_Decrypt, CC.ECDH_ZGen])
@pytest.mark.parametrize("text", ["quorum(officers)", "all(quorum(officers), pin)"])
def test_document_comes_back(text, command):
    group, plain = bound(text, command)
    policy = plain.copied_by(group)
    again = read_policy(format_document(policy))
    assert again == policy and again.digest == policy.digest
    assert f'[backup]\n"officers" = "{copy_end(group).hex()}"' in format_document(policy)
    assert "[backup]" not in format_document(plain)


@pytest.mark.parametrize(
    "rest",
    [
        '[backup]\n"others" = "%s"' % ("00" * 32),
        '[backup]\n"officers" = "00"',
        "[backup]",
        "backup = 1",
    ],
)
def test_bad_documents(rest):
    head, table = (rest, "") if rest[0] == "b" else ("", rest)
    text = f'format = "tpmhsm/policy/1"\n{head}\n[[any]]\nquorum = "officers"\n{table}\n'
    with pytest.raises(ParseError):
        read_policy(text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("open", "backup-not-guarded"),
        ("pin", "backup-not-guarded"),
        ("any(quorum(officers), pin)", "backup-not-guarded"),
        ("budget(officers)", "backup-not-guarded"),
        ("all(quorum(officers), budget(officers))", "backup-budget"),
        ("all(quorum(officers), pcr(sha256:7))", "backup-pcr"),
        ("quorum(others)", "backup-other-group"),
        ("any(quorum(officers), quorum(others))", "backup-other-group"),
    ],
)
def test_what_is_not_copied(text, code):
    group = makers.group()
    with pytest.raises(UsageError) as caught:
        KeyPolicy.of(parse_policy(text)).copied_by(group)
    assert caught.value.code == code


def test_a_static_group_has_no_custodians():
    people = makers.threshold(2, (0, 1, 2), founding=True)
    static = makers.group(people, counter_index=0, roster_index=0)
    assert static_ladders(static, CC.Sign)
    with pytest.raises(UsageError) as caught:
        KeyPolicy.of(parse_policy("quorum(officers)")).copied_by(static)
    assert caught.value.code == "static-group"


def test_a_key_that_stays():
    _, plain = bound()
    with pytest.raises(UsageError) as caught:
        plain.copy_way()
    assert caught.value.code == "not-to-be-copied"


def test_joined_custodians_and_many():
    """Ladders that are joined, each with its number in the policyRef."""
    first = makers.threshold(2, (0, 1, 2), founding=True)
    second = Threshold(1, (Member("erin", makers.member(4).spki, makers.contribution(4)),))
    group = makers.group((first, second), officers=(4,))
    found = copy_ladders(group)
    assert found == ladders(group.custodians, "duplicate", group.id)
    assert len({one.policy_ref for one in found}) == 2


def test_copy_document():
    parent = h("0023000b000300720000000600800043001000030010") + b"\0\x20" + b"\1" * 32
    parent += b"\0\x20" + b"\2" * 32
    one = CopyDocument(bytes(32), bytes(34), parent, bytes(32), bytes(34))
    assert parse_copy(one.encoded) == one
    assert one.bound.names == (bytes(34), one.parent_name)
    with pytest.raises(ParseError):
        parse_copy(one.encoded.replace(b"tpmhsm/copy/1", b"tpmhsm/copy/2"))
    with pytest.raises(UsageError):
        CopyDocument(bytes(32), bytes(33), parent, bytes(32), bytes(34))
