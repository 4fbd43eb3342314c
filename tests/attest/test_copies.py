"""Original, copy, or imported twin: what the files of two chips prove of one key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.attacks.chips import Pair as Hosts
from tests.attacks.conftest import built, checked, still  # noqa: F401
from tests.attacks.house import House
from tests.attest.collecting import NONCE, bond_of, localca, trusting
from tests.attest.second import (
    Second,
    approved,
    document_of,
    evidence_of,
    second_machine,
    with_copies,
)

from tpmhsm.attest.copies import Elsewhere
from tpmhsm.attest.device_findings import Trusted
from tpmhsm.attest.format import Evidence, format_evidence
from tpmhsm.attest.reading import parse_evidence
from tpmhsm.attest.roots import PinnedRoot
from tpmhsm.attest.verdicts import Judgement
from tpmhsm.attest.verify import verify_evidence
from tpmhsm.errors import ParseError
from tpmhsm.keys.evidence import Wanted, collect
from tpmhsm.policy.documents import canonical, parse_json
from tpmhsm.requests.copied import copies_of
from tpmhsm.store.keys import KeyRow


@dataclass(frozen=True)
class Place:
    """Where a second machine keeps its chip."""

    home: Path


@dataclass
class Pair:
    """Two machines with one group, and a key of the first that may be copied."""

    house: House
    second: Second | Place
    row: KeyRow
    first_file: Evidence
    second_file: Evidence

    @property
    def name(self) -> bytes:
        return bytes.fromhex(self.row.name)

    def trusted(self, evidence: Evidence) -> Trusted:
        """Whoever judges has pinned both CAs, and activated both keys."""
        one = trusting(self.house.app.home, bond_of(evidence))
        root, between = localca(self.second.home)
        more = (*one.intermediates, *between)
        return replace(
            one, roots=(*one.roots, PinnedRoot.of(root, "swtpm", "emulator")), intermediates=more
        )

    def judge(self, evidence: Evidence, *others: Evidence, old: bool = False) -> Judgement:
        """By one nonce; `old`: the other files answer none."""
        nonce = None if old else NONCE
        elsewhere = tuple(
            Elsewhere(f"file {n}", one, verify_evidence(one, self.trusted(one), nonce))
            for n, one in enumerate(others, 1)
        )
        return verify_evidence(evidence, self.trusted(evidence), NONCE, elsewhere)


@pytest.fixture(scope="module")
def pair(still: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:  # noqa: F811
    with second_machine(still, tmp_path_factory.mktemp("second") / "home") as second:
        row = still.app.keyring.create(
            "twice", "p256", policy="quorum(officers)", backup_to="officers"
        )
        copy = document_of(second, bytes.fromhex(row.name))
        voted = approved(copy, second.group, ("alice", "carol"))
        first = with_copies(still, voted, labels=("twice",))
        yield Pair(still, second, row, first, evidence_of(second, row))


def codes(judged: Judgement, question: str, answer: str = "") -> set[str]:
    verdict = judged.verdict(question)
    return {one.code for one in verdict.findings if answer in ("", one.answer)}


def test_an_original(pair: Pair) -> None:
    judged = pair.judge(pair.first_file)
    assert judged.verdict("born").answer == "proven"
    assert [key.origin for key in judged.keys] == ["original"]
    leave = judged.verdict("leave")
    assert (leave.answer, leave.code) == ("not-proven", "may-be-copied")
    assert "2 of 3 (alice, bob, carol)" in leave.words and "alice, carol" in leave.words
    assert "Whether these are all is not proven" in leave.words
    (copy,) = judged.copies
    assert (copy.key, copy.approved, copy.answer) == ("twice", ("alice", "carol"), "proven")
    assert copy.ak == pair.second.host.ak_name.hex()
    # the second chip holds a copy, and of its officers nothing is known
    assert codes(judged, "roster", "not-proven") == {"copy-not-shown"}
    assert judged.answered("refuted") == ()


def test_a_copy(pair: Pair) -> None:
    judged = pair.judge(pair.second_file, pair.first_file)
    assert judged.verdict("born").answer == "proven" and judged.verdict("born").code == "copy"
    assert 'The key "twice" is a copy of the one that another chip made' in judged.sentence
    assert [key.origin for key in judged.keys] == ["copy"]
    assert judged.verdict("agree").answer == "proven"
    assert judged.verdict("roster").answer == "proven"
    assert "in-force-there" in codes(judged, "roster")
    assert judged.verdict("leave").code == "may-be-copied"
    encoded = judged.encode()
    assert encoded["keys"][0]["origin"] == "copy" and encoded["receives"] == judged.receives


def test_both_files_together_show_where_the_list_is_in_force(pair: Pair) -> None:
    judged = pair.judge(pair.first_file, pair.second_file)
    assert judged.verdict("roster").answer == "proven"
    assert codes(judged, "roster") == {"in-force", "in-force-there"}


def test_a_copy_alone_could_be_imported(pair: Pair) -> None:
    judged = pair.judge(pair.second_file)
    assert judged.verdict("born").code == "could-be-imported"
    assert codes(judged, "roster", "not-proven") == {"copy-not-shown"}
    assert [key.origin for key in judged.keys] == ["unproven"]
    assert codes(judged, "agree", "not-proven") >= {"founded-elsewhere"}
    assert judged.answered("refuted") == ()


def test_an_old_file_of_the_other_chip(pair: Pair) -> None:
    """Its birth counts; that the list is in force there does not."""
    judged = pair.judge(pair.second_file, pair.first_file, old=True)
    assert judged.verdict("born").code == "copy"
    assert "copy-not-fresh" in codes(judged, "roster", "not-proven")


def test_the_file_says_it_in_one_way(pair: Pair) -> None:
    for evidence in (pair.first_file, pair.second_file):
        data = format_evidence(evidence)
        assert parse_evidence(data) == evidence
    first, document = (
        parse_json(format_evidence(one), "evidence", 1 << 24)
        for one in (pair.first_file, pair.second_file)
    )
    assert "parent" not in first and "copies" not in document
    for change in ({"copies": []}, {"parent": None}, {"parent": {}}):
        with pytest.raises(ParseError):
            parse_evidence(canonical({**document, **change}) + b"\n")


# ── by the commands of the product ───────────────────────────────────────────


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """A key copied from one host to the other, by the custodians' approvals."""
    found = Hosts.build(tmp_path_factory.mktemp("hosts"))
    with checked(found.first), checked(found.second):
        found.key("root")
        found.join()
        found.second.app.desk.copies.restore(found.backup())
        yield found


def collected(house: House) -> Evidence:
    app = house.app
    wanted = Wanted(("root",), NONCE, rsa=False, copies=copies_of(app.store, app.desk))
    found = collect(app.store, app.device, app.groups, wanted)
    assert found.commands < 40
    return parse_evidence(format_evidence(found.evidence))


def pair_of(hosts: Hosts, one: Evidence, two: Evidence) -> Pair:
    row = hosts.first.app.keyring.get("root")
    return Pair(hosts.first, Place(hosts.second.app.home), row, one, two)


def test_what_both_hosts_collect(hosts: Hosts) -> None:
    one, two = collected(hosts.first), collected(hosts.second)
    assert (one.parent, two.copies) == (None, ())
    pair = Pair(
        hosts.first, Place(hosts.second.app.home), hosts.first.app.keyring.get("root"), one, two
    )
    first, second = pair.judge(one, two), pair.judge(two, one)
    assert [key.origin for key in (*first.keys, *second.keys)] == ["original", "copy"]
    for judged in (first, second):
        answers = {one.question: one.answer for one in judged.verdicts}
        assert answers["leave"] == answers["log"] == "not-proven"
        del answers["leave"], answers["log"]
        assert set(answers.values()) == {"proven"}, judged.sentence
    assert second.receives == first.copies[0].parent


def test_a_removal_is_not_in_force_while_one_chip_is_behind(hosts: Hosts) -> None:
    """The first chip has a new list, the second the old one, until it is brought up to date."""
    hosts.first.change("2:alice,bob,dave")
    one, two = collected(hosts.first), collected(hosts.second)
    pair = Pair(
        hosts.first, Place(hosts.second.app.home), hosts.first.app.keyring.get("root"), one, two
    )
    for judged in (pair.judge(one, two), pair.judge(two, one)):
        assert codes(judged, "roster", "refuted") == {"other-epoch"}
        assert "still an officer" in judged.verdict("roster").words
    hosts.join()
    judged = pair.judge(collected(hosts.second), collected(hosts.first))
    assert judged.verdict("roster").answer == "proven"
