"""Evidence is judged: what holds, each bit of it, and files that nobody meant."""

from __future__ import annotations

import copy
import json
import shutil
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.attacks.auditor import OTHER_AK, another_ak
from tests.attacks.house import House
from tests.attest.collecting import NONCE, Collector, bond_of, collect, trusting

from tpmhsm.attest.device_findings import Trusted
from tpmhsm.attest.format import (
    AttestationPart,
    Evidence,
    Statement,
    format_evidence,
)
from tpmhsm.attest.reading import parse_evidence
from tpmhsm.attest.verdicts import QUESTIONS, Finding, Judgement, Proof, Verdict, verdicts_of
from tpmhsm.attest.verify import LIMITS, verify_evidence
from tpmhsm.errors import ParseError
from tpmhsm.policy.pcrs import ALGORITHMS
from tpmhsm.tpm import objects, software
from tpmhsm.wire.codec import encode
from tpmhsm.wire.commands import Certify, Quote
from tpmhsm.wire.structures import NULL_SCHEME, pcr_selection

UNITS = 5


@dataclass(frozen=True)
class Held:
    """A whole file, and who judges it. `open_file` is the same without the chip's seal."""

    evidence: Evidence
    trusted: Trusted

    @property
    def open_file(self) -> Evidence:
        return replace(self.evidence, time=None)

    def judge(self, evidence: Evidence) -> Judgement:
        return verify_evidence(evidence, self.trusted, NONCE)


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    """Of a software TPM whose CA is pinned as an emulator's: three keys, one with a budget, one
    with a certificate, a further attestation key.
    """
    if not shutil.which("swtpm_setup"):
        pytest.skip("swtpm and swtpm-tools are not installed")
    house = House.build(tmp_path_factory.mktemp("held") / "home")
    try:
        yield _held(house)
    finally:
        house.app.close()
        house.app.store.close()
        software.stop(software.directory_of(house.app.home))


def _held(house: House) -> Held:
    house.found()
    house.app.keyring.create("open", "p256", policy="open")
    house.app.keyring.create("busy", "p256", policy="budget(officers)")
    house.settle(house.app.desk.grants.propose("busy", UNITS).request)
    house.key("root")
    house.settle(house.propose("root", "CN=Example Root,O=Example"))
    certificate = house.app.authorities.certificate("root-ca").public_bytes(Encoding.DER)
    plain = collect(house, ("root", "open", "busy"))
    keys = (replace(plain.keys[0], certificates=(certificate,)), *plain.keys[1:])
    row = house.app.keyring.get("busy")
    with house.app.device.transaction() as chip:
        told = Collector(chip, objects.attestation_key(chip))
        policy = next(iter(_policy(row).budgets.values()))
        whole = replace(
            plain,
            keys=keys,
            budgets=(told.budget(row, "officers", policy),),
            aks=(*plain.aks, further(told)),
            time=None,
        )
        whole = told.sealed(whole)
        chip.flush_all()
    return Held(whole, trusting(house.app.home, bond_of(whole)))


def _policy(row: Any) -> Any:
    from tpmhsm.policy.published import read_policy

    return read_policy(row.policy_document)


def further(told: Collector) -> AttestationPart:
    """Another attestation key of the chip, certified by the first, with a quote of its own."""
    other = another_ak(told.chip, OTHER_AK)
    over = told.over("ak", other.name)
    said = told.chip.send(Certify(other.handle, told.ak.handle, over, NULL_SCHEME))
    selection = (pcr_selection(ALGORITHMS["sha256"], tuple(range(8))),)
    quoted = told.chip.send(Quote(other.handle, told.over("quote"), NULL_SCHEME, selection))
    return AttestationPart(
        encode(other.public),
        certified=Statement(said.certify_info, encode(said.signature)),
        quote=Statement(quoted.quoted, encode(quoted.signature)),
    )


# ── what holds ───────────────────────────────────────────────────────────────


def test_all_that_can_be_is_proven(held: Held) -> None:
    again = parse_evidence(format_evidence(held.evidence))
    judged = held.judge(again)
    answers = {one.question: one.answer for one in judged.verdicts}
    assert answers == dict.fromkeys(QUESTIONS, "proven") | {"log": "not-proven"}
    assert judged.keys[2].budgets == (("officers", 0, UNITS),)
    assert judged.keys[0].certificates == ("CN=Example Root,O=Example",)
    kinds = [link.kind for link in judged.links]
    assert kinds == ["root", "intermediate", "ek", "ak", "key", "certificate", "key", "key"]
    assert all(link.holds == "proven" for link in judged.links)
    assert all(link.parent < place for place, link in enumerate(judged.links))
    assert judged.people[0].current == "proven" and len(judged.people[0].fingerprint.split()) == 8
    assert json.loads(json.dumps(judged.encode()))["hardware"] is False


def test_words_say_who_must_agree(held: Held) -> None:
    words = held.judge(held.evidence).verdict("agree").words
    assert '"root": it signs only with approvals, over the very bytes, of 2 of 3 (alice' in words
    assert '"open": nobody must agree; whoever has the machine signs with it.' in words
    assert '"busy": it signs only with a unit of the budget that 2 of 3 (alice' in words
    assert "5 more times without asking anybody: of 5" in words


def test_a_budget_that_is_said_to_be_empty_proves_nothing(held: Held) -> None:
    """No chip certifies an index before its first write, so a host could hide what was granted."""
    (budget,) = held.evidence.budgets
    file = replace(held.open_file, budgets=(replace(budget, statement=None),))
    verdict = held.judge(file).verdict("agree")
    assert verdict.answer == "not-proven"
    (found,) = (one for one in verdict.findings if one.code == "budget-not-certified")
    assert "a chip certifies no budget before the first grant" in found.words


def test_no_words_of_the_host_stand_in_the_policy(held: Held) -> None:
    """Policy text may have comments; what is shown is what was recomputed."""
    key = held.evidence.keys[1]
    said = replace(key, policy="open # whatever the host likes")
    file = replace(held.open_file, keys=(said,), budgets=())
    judged = held.judge(file)
    assert judged.verdict("agree").answer == "proven"
    assert judged.keys[0].policy == "open" and "likes" not in json.dumps(judged.encode())


def test_an_empty_file_is_not_fresh(held: Held) -> None:
    """Nothing was signed over the nonce that stands in it."""
    nothing: dict[str, Any] = dict.fromkeys(("keys", "groups", "budgets"), ())
    empty = replace(held.open_file, **nothing, aks=held.evidence.aks[:1], quote=None)
    judged = held.judge(empty)
    assert judged.verdict("chip").answer == "proven"
    assert {one.question for one in judged.answered("proven")} == {"chip", "maker", "kind"}


def test_without_a_nonce_it_is_not_known_when(held: Held) -> None:
    judged = verify_evidence(held.evidence, held.trusted, None)
    assert judged.verdict("fresh").code == "no-nonce" and not judged.nonce
    assert judged.verdict("born").answer == "proven"


def test_without_an_activation_nothing_is_proven(held: Held) -> None:
    judged = verify_evidence(held.evidence, replace(held.trusted, bond=None), NONCE)
    assert judged.answered("proven") == judged.answered("refuted") == ()
    assert judged.device_class == "emulator"
    assert "not activated" in judged.sentence
    assert {one.current for one in judged.people} == {"not-proven"}
    for verdict in judged.verdicts:
        assert verdict.words.count("The file says: ") <= 1
        if verdict.question not in ("chip", "maker", "kind"):
            assert "not activated" not in verdict.words


def test_what_is_proven_of_an_answer_is_said(held: Held) -> None:
    """Where one key's rule is proven and another's budget is not, the rule is shown."""
    open_ = Finding("agree", "not-proven", "budget", "Nothing is granted.")
    agreed = Finding("agree", "proven", "policy", "Two must agree.")
    told = Verdict("agree", (agreed, open_)).words
    assert told == "Nothing is granted. Proven is this much: Two must agree."
    refuted = Finding("agree", "refuted", "cards", "The cards differ.")
    assert Verdict("agree", (agreed, open_, refuted)).words == "The cards differ."


def test_more_than_anybody_has_is_refused(held: Held) -> None:
    for name, most in LIMITS.items():
        one = getattr(held.evidence, name)[0]
        with pytest.raises(ParseError, match=f"more than {most} {name}"):
            held.judge(replace(held.evidence, **{name: (one,) * (most + 1)}))


def test_a_question_that_nothing_was_found_on_is_not_proven() -> None:
    assert {one.answer for one in verdicts_of([])} == {"not-proven"}
    assert [one.question for one in verdicts_of([])] == list(QUESTIONS)


# ── each bit ─────────────────────────────────────────────────────────────────

Setting = Callable[[Evidence, bytes], Evidence]


@dataclass(frozen=True)
class Place:
    """Bytes in a file, how to put others there, and what must then be refuted."""

    name: str
    data: bytes
    put: Setting
    refuted: str
    owner: str


def places(evidence: Evidence) -> list[Place]:
    """Every structure that the chip, or a statement of it, vouches for."""
    found: list[Place] = []

    def add(name: str, refuted: str, owner: str, index: int, *path: str) -> None:
        part: Any = getattr(evidence, owner)
        part = part[index] if isinstance(part, tuple) else part
        data = part
        for step in path:
            data = getattr(data, step)

        def put(file: Evidence, value: bytes) -> Evidence:
            changed = _put(part, path, value)
            held = getattr(file, owner)
            if isinstance(held, tuple):
                changed = (*held[:index], changed, *held[index + 1 :])
            return replace(file, **{owner: changed})

        found.append(Place(name, data, put, refuted, owner))

    def say(name: str, refuted: str, owner: str, index: int, *path: str) -> None:
        for last in ("attest", "signature"):
            add(f"{name} {last}", refuted, owner, index, *path, last)

    add("EK", "chip", "eks", 0, "public")
    add("AK", "chip", "aks", 0, "public")
    add("further AK", "chip", "aks", 1, "public")
    say("further AK certified", "chip", "aks", 1, "certified")
    say("further AK quote", "chip", "aks", 1, "quote")
    for place in range(len(evidence.keys)):
        add(f"key {place}", "born", "keys", place, "public")
        say(f"key {place} creation", "born", "keys", place, "creation")
        add(f"key {place} creation data", "born", "keys", place, "creation", "data")
    say("counter", "roster", "groups", 0, "counter")
    say("roster index", "roster", "groups", 0, "held")
    add("budget index", "agree", "budgets", 0, "index")
    say("budget", "agree", "budgets", 0, "statement")
    say("quote", "fresh", "quote", 0)
    say("time", "fresh", "time", 0)
    return found


def _put(part: Any, path: tuple[str, ...], value: bytes) -> Any:
    first, *rest = path
    inner = _put(getattr(part, first), tuple(rest), value) if rest else value
    return replace(part, **{first: inner})


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def references(judged: Judgement) -> dict[str, set[Proof]]:
    """The bytes behind each proven answer."""
    return {one.question: set(one.proof) for one in judged.verdicts if one.answer == "proven"}


def alone(file: Evidence, place: Place) -> Evidence:
    """The file with no more in it than is judged together with the place: quicker to judge."""
    kept = {"budgets": ("keys", "groups", "budgets")}.get(place.owner, (place.owner,))
    empty: dict[str, Any] = dict.fromkeys(("keys", "groups", "budgets"), ())
    empty |= {"quote": None, "aks": file.aks[:1]}
    return replace(file, **{name: value for name, value in empty.items() if name not in kept})


def flip_all(held: Held, chosen: list[Place], slim: bool) -> int:
    """Flip each bit, in a file without a seal, so that it is not the seal that finds it: its own
    question is refuted, and nothing is proven by bytes that are not the chip's.
    """
    honest = references(held.judge(held.evidence))
    count = 0
    for place in chosen:
        base = held.evidence if place.owner == "time" else held.open_file
        if slim and place.owner != "time":
            base = alone(base, place)
        for bit in range(len(place.data) * 8):
            judged = held.judge(place.put(base, flipped(place.data, bit)))
            assert judged.verdict(place.refuted).answer == "refuted", (place.name, bit)
            for question, proof in references(judged).items():
                assert proof <= honest[question], (place.name, bit, question)
            count += 1
    return count


def test_each_bit_of_each_structure(held: Held) -> None:
    """Of one of each kind; the others are `long`."""
    others = ("signature", "key 1", "key 2", "further AK")
    chosen = [one for one in places(held.evidence) if not one.name.endswith(others)]
    chosen = [one for one in chosen if not one.name.startswith(others)]
    assert flip_all(held, chosen, slim=True) > 10_000


@pytest.mark.long
def test_each_bit_of_a_whole_file(held: Held) -> None:
    begun = time.monotonic()
    count = flip_all(held, places(held.evidence), slim=False)
    print(f"{count:,} bits in {time.monotonic() - begun:.0f} s")
    assert count > 25_000


# ── files that nobody meant ──────────────────────────────────────────────────


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to everything in a JSON document."""
    yield path
    children: Any = enumerate(value) if isinstance(value, list) else ()
    for key, child in value.items() if isinstance(value, dict) else children:
        yield from leaves(child, (*path, key))


def changed(document: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(document)
    found = copy.deepcopy(document)
    inner = found
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = change(inner[path[-1]])
    return found


OTHERS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 1 << 65),
    st.text(max_size=20),
    st.binary(max_size=40).map(lambda data: b64encode(data).decode()),
    st.lists(st.none(), max_size=2),
    st.just({}),
)


def _mutations(value: Any) -> st.SearchStrategy[Any]:
    found = [OTHERS]
    if isinstance(value, list) and value:
        found += [st.just([*value, value[0]]), st.just(value[1:]), st.just(value[::-1])]
    if isinstance(value, str) and len(value) > 3:
        middle = st.integers(0, len(value) - 2)
        found.append(
            middle.map(lambda n: value[:n] + ("A" if value[n] != "A" else "B") + value[n + 1 :])
        )
        found.append(middle.map(lambda n: value[:n] + value[n + 1 :]))
    if isinstance(value, int):
        found.append(st.just(value + 1))
    return st.one_of(found)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), sealed=st.booleans())
def test_any_field_changed(held: Held, data: st.DataObject, sealed: bool) -> None:
    """Never a traceback. Under the seal a changed file proves nothing; without one, nothing by
    bytes that are not the chip's, and nothing in other words.
    """
    file = held.evidence if sealed else held.open_file
    document = json.loads(format_evidence(file))
    path = data.draw(st.sampled_from(list(leaves(document))))
    inner = document
    for step in path:
        inner = inner[step]
    mutant = changed(document, path, lambda _: data.draw(_mutations(inner)))
    try:
        evidence = parse_evidence(json.dumps(mutant).encode())
        judged = held.judge(evidence)
    except ParseError:
        return
    if evidence == file:
        return
    honest = held.judge(held.evidence)
    for verdict in judged.answered("proven"):
        assert not sealed or evidence.time is None or path[:1] == ("audit",)
        _check_same_proof(verdict, honest.verdict(verdict.question))


def _check_same_proof(verdict: Verdict, honest: Verdict) -> None:
    """The same bytes, maybe in another order of lists; a policy is proven by the key's public area,
    and can be published with other blanks in it.
    """
    told = {(one.sha256, one.what) for one in verdict.proof if one.what != "the published policy"}
    assert told <= {(one.sha256, one.what) for one in honest.proof}
