"""What one chip policy can say: normal form, refusals by name, documents, words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policy import makers
from tests.policy.test_text import policies

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.model import Pcr
from tpmhsm.policy.normal import Alternative, normal_form, policy_of
from tpmhsm.policy.published import format_document, read_policy
from tpmhsm.policy.text import format_policy, parse_policy
from tpmhsm.policy.words import explain_policy

CODES = {
    "policy-open-inside",
    "policy-duplicate",
    "policy-two-groups",
    "policy-two-budgets",
    "policy-pcr-unprotected",
    "policy-too-wide",
    "policy-redundant",
}
NAME = b"\x00\x0b" + bytes(32)


def forms(text):
    return [one.text for one in normal_form(parse_policy(text))]


@pytest.mark.parametrize(
    ("text", "alternatives"),
    [
        ("open", ["open"]),
        ("pin", ["pin"]),
        ("quorum(a)", ["quorum(a)"]),
        ("budget(a)", ["budget(a)"]),
        ("all(pin, budget(a), quorum(b))", ["all(quorum(b), budget(a), pin)"]),
        ("any(quorum(a), budget(a))", ["budget(a)", "quorum(a)"]),
        ("all(pin, quorum(a))", ["all(quorum(a), pin)"]),
        ("any(quorum(b), quorum(a))", ["quorum(a)", "quorum(b)"]),
        ("all(pcr(sha256:7), pcr(sha256:0,2))", ["pcr(sha256:0,2,7)"]),
        ("all(pcr(sha384:1), pcr(sha256:0))", ["all(pcr(sha256:0), pcr(sha384:1))"]),
        (
            "all(any(quorum(a), quorum(b)), pin)",
            ["all(quorum(a), pin)", "all(quorum(b), pin)"],
        ),
        (
            "all(any(quorum(a), pin), any(pcr(sha256:0), pcr(sha256:1)))",
            [
                "all(pcr(sha256:0), pin)",
                "all(pcr(sha256:1), pin)",
                "all(quorum(a), pcr(sha256:0))",
                "all(quorum(a), pcr(sha256:1))",
            ],
        ),
        ("any(quorum(a), any(quorum(b), pin))", ["pin", "quorum(a)", "quorum(b)"]),
        ("all(pin, window(a))", ["all(window(a), pin)"]),
        ("any(window(a), all(quorum(b), pin))", ["all(quorum(b), pin)", "window(a)"]),
        ("all(budget(a), window(a))", ["all(window(a), budget(a))"]),
    ],
)
def test_alternatives(text, alternatives):
    assert forms(text) == alternatives


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("any(open, quorum(a))", "policy-open-inside"),
        ("all(open, pin)", "policy-open-inside"),
        ("all(pin, any(quorum(a), open))", "policy-open-inside"),
        ("any(pin, pin)", "policy-duplicate"),
        ("all(quorum(a), quorum(a))", "policy-duplicate"),
        ("any(all(pin, quorum(a)), all(quorum(a), pin))", "policy-duplicate"),
        ("all(pcr(sha256:0,7), pcr(sha256:7,0))", "policy-duplicate"),
        ("all(quorum(a), quorum(b))", "policy-two-groups"),
        ("all(quorum(a), any(quorum(b), pin))", "policy-two-groups"),
        ("any(quorum(a), all(quorum(a), pin))", "policy-redundant"),
        ("any(pin, all(quorum(a), any(pin, pcr(sha256:0))))", "policy-redundant"),
        ("any(pcr(sha256:0), pcr(sha256:0,7))", "policy-redundant"),
        ("pcr(sha256:16)", "policy-pcr-unprotected"),
        ("all(pin, pcr(sha256:0,23))", "policy-pcr-unprotected"),
        ("all(budget(a), budget(b))", "policy-two-budgets"),
        ("any(budget(a), all(budget(a), pin))", "policy-redundant"),
        ("all(quorum(a), window(a))", "policy-redundant"),
        ("any(quorum(a), window(a))", "policy-redundant"),
        ("any(window(a), all(quorum(a), pin))", "policy-redundant"),
        ("all(window(a), quorum(b))", "policy-two-groups"),
        (
            "all(" + ",".join(f"any(pcr(sha256:{n}), pcr(sha384:{n}))" for n in range(7)) + ")",
            "policy-too-wide",
        ),
    ],
)
def test_refused_by_name(text, code):
    with pytest.raises(UsageError) as e:
        normal_form(parse_policy(text))
    assert e.value.code == code
    assert e.value.hint
    assert explain_policy(parse_policy(text))[-1].startswith("No key can have this policy: ")


def test_two_groups_are_sent_to_one_group_with_two_ladders():
    with pytest.raises(UsageError, match="a and b") as e:
        normal_form(parse_policy("all(quorum(a), quorum(b))"))
    assert "--officers '2:alice,bob,carol+1:dave,erin'" in e.value.hint


def complete(policy):
    """The policy as it is once a key was made: facts invented."""
    measured = {}
    for one in policy.alternatives:
        for pcr in one.pcrs:
            size = {"sha256": 32, "sha384": 48}[pcr.bank]
            values = {number: bytes([number + 1]) * size for number in pcr.pcrs}
            measured[pcr.bank] = measured.get(pcr.bank, {}) | values
    rosters = dict.fromkeys(policy.rosters, NAME)
    budgets = {label: 0x01800000 + i for i, label in enumerate(policy.granting)}
    return KeyPolicy(policy.alternatives, rosters, measured, budgets)


@given(policies)
def test_refused_by_name_or_made(policy):
    """Whatever is written is refused with one of these codes, or has a digest, words and a
    document that is read back: the same, whichever way it was written.
    """
    try:
        made = KeyPolicy.of(policy)
    except UsageError as e:
        assert e.code in CODES
        return
    assert KeyPolicy.of(policy_of(made.alternatives)) == made
    assert read_policy(format_policy(policy)) == made
    assert read_policy(format_document(made)) == made
    bound = complete(made)
    assert read_policy(format_document(bound)) == bound
    assert format_document(read_policy(format_document(bound))) == format_document(bound)
    assert len(bound.digest) == (0 if made.is_open else 32)
    assert explain_policy(policy)


DOCUMENT = """
# alternatives in any order
format = "tpmhsm/policy/1"
any = [{ pin = true, quorum = "officers" }, { pcr = ["sha256:7,0"], quorum = "auditors" }]
"""


def test_text_and_document_are_the_same_policy():
    text = "any(all(quorum(auditors), pcr(sha256:0,7)), all(quorum(officers), pin))"
    assert read_policy(DOCUMENT) == read_policy(text)
    assert format_document(read_policy(text)) == (
        'format = "tpmhsm/policy/1"\n\n[[any]]\nquorum = "auditors"\npcr = ["sha256:0,7"]\n\n'
        '[[any]]\nquorum = "officers"\npin = true\n'
    )
    assert format_document(read_policy("open")) == 'format = "tpmhsm/policy/1"\nopen = true\n'


BOUND = format_document(complete(read_policy("any(all(quorum(a), pcr(sha256:0,7)), pin)")))


@pytest.mark.parametrize(
    "text",
    [
        'format = "tpmhsm/policy/2"\nopen = true',
        'format = "tpmhsm/policy/1"',
        'format = "tpmhsm/policy/1"\nany = []',
        'format = "tpmhsm/policy/1"\nany = [{}]',
        'format = "tpmhsm/policy/1"\nany = ["pin"]',
        'format = "tpmhsm/policy/1"\nopen = false',
        'format = "tpmhsm/policy/1"\nopen = true\nany = [{pin = true}]',
        'format = "tpmhsm/policy/1"\nany = [{pin = 1}]',
        'format = "tpmhsm/policy/1"\nany = [{pin = true, pon = true}]',
        'format = "tpmhsm/policy/1"\nany = [{pcr = "sha256:0"}]',
        'format = "tpmhsm/policy/1"\nany = [{pcr = [1]}]',
        'format = "tpmhsm/policy/1"\nany = [{pcr = ["sha256:0), pin, pcr(sha256:1"]}]',
        'format = "tpmhsm/policy/1"\nany = [{quorum = "../a"}]',
        'format = "tpmhsm/policy/1"\nopen = true\nextra = 1',
        'format = "tpmhsm/policy/1"\nopen = true\n[roster]\na = "000b"',
        'format = "tpmhsm/policy/1"\nopen = true\nroster = 1',
        'format = "tpmhsm/policy/1"\nopen = true\nmeasured = [1]',
        "format = [[[",
        'format = "tpmhsm/policy/1"\nany = ' + "[" * 5000,
        BOUND.replace("7 =", "07 ="),
        BOUND.replace("7 =", "8 ="),
        BOUND.replace("7 =", "99 ="),
        BOUND.replace("08" * 32, "08" * 31),
        BOUND.replace("measured.sha256", "measured.md5"),
        BOUND.replace('"a" = "000b', '"b" = "000b'),
        BOUND + "x" * 70_000,
    ],
)
def test_no_document(text):
    with pytest.raises(ParseError):
        read_policy(text)


@given(st.text(max_size=80))
def test_garbage_documents(text):
    with pytest.raises(UsageError):
        read_policy('format = "tpmhsm/policy/1"\n' + text.replace("open", "").replace("any", ""))


def test_alternatives_beyond_eight_are_merged_in_eights():
    text = f"any({', '.join(f'quorum(g{n:02})' for n in range(20))})"
    policy = read_policy(text)
    bound = KeyPolicy(policy.alternatives, {g: NAME[:2] + g.encode() * 10 + b"xx"
                                            for g in policy.groups})  # fmt: skip
    steps = [len(bound.way(one)) for one in bound.alternatives]
    assert steps == [4] * 20
    nine = KeyPolicy(bound.alternatives[:9], bound.indices)
    assert [len(nine.way(one)) for one in nine.alternatives] == [4] * 8 + [3]


def test_the_order_of_writing_does_not_matter():
    one = complete(read_policy("any(all(pin, quorum(a)), all(quorum(b), pcr(sha256:0)))"))
    other = complete(read_policy("any(all(pcr(sha256:0), quorum(b)), all(quorum(a), pin))"))
    assert one.digest == other.digest


def test_every_fact_moves_the_digest():
    text = "any(all(quorum(a), pcr(sha256:0,7)), pin)"
    bound = complete(read_policy(text))
    others = [
        KeyPolicy(bound.alternatives, {"a": NAME[:-1] + b"x"}, bound.measured),
        KeyPolicy(bound.alternatives, bound.indices, {"sha256": {0: bytes(32), 7: bytes(32)}}),
        complete(read_policy("any(all(quorum(a), pcr(sha256:0,6)), pin)")),
        complete(read_policy("any(all(quorum(a), pcr(sha256:0,7), pin), quorum(b))")),
    ]
    assert len({bound.digest, *(o.digest for o in others)}) == 5


def test_missing_facts_are_named():
    with pytest.raises(UsageError, match='"a" is not known') as e:
        _ = read_policy("quorum(a)").digest
    assert e.value.code == "policy-unknown-group"
    with pytest.raises(UsageError, match="PCR 7 of the sha256 bank") as e:
        _ = read_policy("pcr(sha256:7)").digest
    assert e.value.code == "policy-not-measured"


def test_what_can_be_met():
    text = "any(all(quorum(a), pin), all(quorum(a), pcr(sha256:0)), all(pcr(sha256:1), pin))"
    policy = complete(read_policy(text))
    state = policy.measured
    moved = {"sha256": {0: bytes(32), 1: bytes(32)}}
    assert policy.satisfiable() == ()
    assert [o.text for o in policy.satisfiable(groups=["a"])] == ["all(quorum(a), pcr(sha256:0))"]
    assert policy.satisfiable(groups=["a"], pcrs=moved) == ()
    both = policy.satisfiable(groups=["a"], pin=True, pcrs=state)
    assert [o.text for o in both] == [
        "all(quorum(a), pcr(sha256:0))",
        "all(pcr(sha256:1), pin)",
        "all(quorum(a), pin)",
    ]
    assert [o.pin for o in policy.satisfiable(groups=["a"], pin=True, pcrs=moved)] == [True]


# ── words ────────────────────────────────────────────────────────────────────────────────────


def words(text, **groups):
    return "\n".join(explain_policy(parse_policy(text), groups))


def test_words_of_a_pin():
    text = words("pin")
    assert "the PIN" in text
    assert "locks itself for a time" in text
    assert "root on this machine reads the PIN" in text
    assert "Nobody else can sign" not in text


def test_words_of_pcrs():
    text = words("pcr(sha256:0,7)")
    assert "PCRs 0, 7 (sha256) as they were at the key's birth" in text
    assert "ends the key for good" in text
    assert "software TPM prove nothing" in text


def test_words_of_a_quorum_with_more():
    group = makers.group()
    text = words("all(quorum(officers), pin, pcr(sha256:7))",
                 officers=(group, makers.roster(group)))  # fmt: skip
    assert "2 of 3 (alice, bob, carol)" in text
    assert "PCRs 7 (sha256)" in text
    assert "Nobody else can sign" in text
    assert "it still needs the approvals" in text


def test_words_of_a_window():
    text = words("window(officers)")
    assert "While it is closed nobody else can sign" in text
    assert "Nobody else can sign" not in text


def test_words_of_alternatives():
    text = words("any(quorum(a), all(quorum(b), pcr(sha1:0)))")
    assert "Any one of these 2 will do; the weakest decides:" in text
    assert "1. Each signature takes approvals by officers" in text
    assert "ends that alternative for good" in text
    assert "SHA-1 is broken" in text


def test_open_is_an_alternative_without_demands():
    assert normal_form(parse_policy("open")) == (Alternative(),)
    assert Alternative(pcrs=(Pcr("sha256", (0,)),)).demands == {("pcr", "sha256", "0")}
