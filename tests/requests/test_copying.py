"""Keys and groups on a second chip: what comes along, what may fail in between, what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from tests.attacks.chips import Pair
from tests.attacks.conftest import checked
from tests.attacks.house import House
from tests.attacks.root import declined

from tpmhsm.approval.backup_file import is_backup, parse_backup, parse_origin
from tpmhsm.approval.request import parse_request
from tpmhsm.errors import ExistsError, ParseError, RefusedError, UsageError, WaitingError
from tpmhsm.keys.founding import stands
from tpmhsm.policy.published import read_policy
from tpmhsm.requests.joining import is_export, parse_export
from tpmhsm.tpm import nv


class PowerFailure(BaseException):
    """The process ends here."""


@contextmanager
def power_fails_at(target: str) -> Iterator[None]:
    with mock.patch(target, side_effect=PowerFailure), pytest.raises(PowerFailure):
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Alice, bob and carol know the group; "root" is a CA's and may be copied."""
    if not shutil.which("swtpm_setup"):
        pytest.skip("swtpm and swtpm-tools are not installed")
    pair = Pair.build(tmp_path_factory.mktemp("copies") / "original")
    with checked(pair.first), checked(pair.second):
        pair.key()
        pair.first.settle(pair.first.propose("root", "CN=Example Root,O=Example"))
        pair.first.change()
        pair.join()
    return pair


@pytest.fixture
def pair(built: Pair, tmp_path: Path) -> Iterator[Pair]:
    found = built.copy(tmp_path / "pair")
    with checked(found.first), checked(found.second):
        yield found


# ── what comes along ─────────────────────────────────────────────────────────────────────────


def test_certificates_and_authorities_come_along(pair: Pair) -> None:
    file = pair.backup()
    row = pair.second.app.desk.copies.restore(parse_backup(file.data))
    app = pair.second.app
    (authority,) = app.authorities.all()
    (own,) = app.keyring.certificates(row)
    assert (authority.name, authority.key_label, authority.state) == ("root-ca", "root", "active")
    assert authority.certificate == own.sha256
    origin = parse_origin(row.origin)
    assert origin.request.device.ak_name == pair.first.app.desk.drafts.own_card().ak_name
    assert "wrapped" not in row.origin and row.parent == file.copy.parent_name.hex()


def test_the_second_chip_is_asked_and_answers_as_the_first(pair: Pair) -> None:
    """Officers whose homes asked it approve for it, keys that they never saw included: their birth
    is certified by the group's own device, whose card comes with each request.
    """
    pair.second.app.desk.copies.restore(pair.backup())
    carol = pair.first.machines["carol"]
    carol.memory.keys.clear()
    data = pair.second.draft("data", b"a file").data
    with declined("other-device"):  # this home never asked that chip
        carol.look(data)
    pair.answer("carol")
    carol.look(data)
    with declined("key-evidence"):
        carol.look(replace(parse_request(data), origin=None).data)
    forged = replace(parse_request(data), origin=pair.second.app.desk.drafts.own_card())
    with declined("key-evidence"):
        carol.look(forged.data)


def test_whole_certificates_on_both(pair: Pair) -> None:
    """A CSR approved on the second host is signed there, with its own numbers of requests."""
    pair.second.app.desk.copies.restore(pair.backup())
    number = pair.second.propose_csr("root", "CN=Second")
    data = pair.second.app.desk.export(number)
    for name in ("alice", "bob"):
        row = pair.second.app.desk.take(pair.first.machines[name].approve(data).data)
    assert row.state == "executed"


@pytest.mark.parametrize(
    ("alg", "policy", "use"),
    [
        ("p256", "all(quorum(officers), pin)", "sign"),
        ("p384", "window(officers)", "sign"),
        ("rsa2048", "quorum(officers)", "decrypt"),
        ("p256", "quorum(officers)", "decrypt"),
    ],
)
def test_other_kinds_of_keys(pair: Pair, alg: str, policy: str, use: str) -> None:
    keyring = pair.first.app.keyring
    pin = b"2580" if "pin" in policy else b""
    made = keyring.create("k", alg, policy=policy, pin=pin, use=use, backup_to="officers")  # type: ignore[arg-type]
    taken = pair.second.app.desk.copies.restore(pair.backup("k"))
    assert (taken.name, taken.alg, taken.use) == (made.name, alg, use)
    assert taken.policy_document == made.policy_document
    assert read_policy(taken.policy_document).has_pin is bool(pin)


def test_a_key_goes_back(pair: Pair) -> None:
    """A key whose private part this home has lost comes back under its own label."""
    file = pair.backup()
    first = pair.second.app.desk.copies.restore(file)
    pair.second.rewrite("update keys set private = ? where label = 'root'", b"lost")
    again = pair.second.app.desk.copies.restore(file)
    assert again.id == first.id and again.private not in (b"lost", first.private)


# ── groups ───────────────────────────────────────────────────────────────────────────────────


def test_a_change_made_on_the_second_host_is_joined_by_the_first(pair: Pair) -> None:
    for name in ("alice", "bob"):
        pair.answer(name)
    asked = pair.second.app.desk.propose_roster("officers", "2:alice,bob")
    data = pair.second.app.desk.export(asked.request)
    for name in ("alice", "bob"):
        row = pair.second.app.desk.take(pair.first.machines[name].approve(data).data)
    assert row.state == "executed"
    file = pair.second.app.desk.joining.export("officers")
    assert is_export(file) and not is_backup(file)
    assert pair.first.app.desk.joining.join(parse_export(file)) == "officers"
    for house in (pair.first, pair.second):
        state = house.app.groups.active("officers")
        assert house.app.groups.holds(state.group, state.roster)
        assert len(state.roster.officers[0].members) == 2


def test_joining_goes_on_after_a_failure(pair: Pair, tmp_path: Path) -> None:
    """At each step of the chip, and between chip and database."""
    history = parse_export(pair.first.app.desk.joining.export("officers"))
    with checked(House.build(tmp_path / "three")) as third:
        join = third.app.desk.joining.join
        for target in (
            "tpmhsm.tpm.policies.run_increment",
            "tpmhsm.tpm.policies.run_roster_write",
            "tpmhsm.requests.joining._keep",
        ):
            with power_fails_at(target):
                join(history)
        assert third.app.groups.all() == []
        join(history)
        state = third.app.groups.active("officers")
        with third.app.device.transaction() as chip:
            assert stands(chip, state.group, state.roster)
        assert state.row.fingerprint == pair.first.app.groups.active("officers").row.fingerprint


def test_a_chip_whose_counters_went_further(pair: Pair, tmp_path: Path) -> None:
    """Counters never go back; on the first host changes move the epoch on, and then it can join."""
    with checked(House.build(tmp_path / "three")) as third:
        with third.app.device.transaction() as chip:
            while nv.next_counter_value(chip) < 4:
                pass
        with pytest.raises(RefusedError) as caught:
            pair.join(third)
        assert caught.value.code == "counter-ahead"
        while pair.first.app.groups.active("officers").roster.epoch < 5:
            pair.first.change()
        pair.join(third)


def test_an_index_that_is_in_use(pair: Pair, tmp_path: Path) -> None:
    with checked(House.build(tmp_path / "three")) as third:
        third.found("others")
        with pytest.raises(RefusedError) as caught:
            pair.join(third)
        assert caught.value.code == "index-taken"


def test_another_group_of_the_name(pair: Pair, tmp_path: Path) -> None:
    with checked(House.build(tmp_path / "three")) as third:
        third.found()
        with pytest.raises(ExistsError):
            third.app.desk.joining.join(
                parse_export(pair.first.app.desk.joining.export("officers"))
            )


def test_people_whom_the_second_host_knows_by_other_names(pair: Pair, tmp_path: Path) -> None:
    with checked(House.build(tmp_path / "three")) as third:
        third.rewrite("update approvers set name = 'robert' where name = 'bob'")
        pair.join(third)
        with third.app.store.reading() as tx:
            names = [row.name for row in tx.approvers.all()]
        assert "robert" in names and "bob" not in names


def test_a_group_that_waits_here_is_not_joined(pair: Pair) -> None:
    history = parse_export(pair.first.app.desk.joining.export("officers"))
    pair.first.rewrite("update groups set state = 'founding' where name = 'officers'")
    with pytest.raises(UsageError) as caught:
        pair.first.app.desk.joining.join(history)
    assert caught.value.code == "group-founding"


# ── failures ─────────────────────────────────────────────────────────────────────────────────


def test_the_file_may_be_lost(pair: Pair) -> None:
    """Power fails between TPM2_Duplicate and the record of it, or the file: the same again works by
    the same approvals, and makes another copy for the same chip.
    """
    copies = pair.first.app.desk.copies
    evidence, _ = pair.answer("alice"), pair.answer("bob")
    number = pair.ask("root", evidence)
    pair.first.settle(number)
    with power_fails_at("tpmhsm.requests.copying.finish"):
        copies.backup("root", evidence)
    assert pair.first.app.desk.get(number).state == "waiting"
    first, second = (parse_backup(copies.backup("root", evidence)) for _ in range(2))
    assert pair.first.app.desk.get(number).state == "executed"
    assert first.wrapped["duplicate"] != second.wrapped["duplicate"]
    for file in (first, second):
        pair.second.app.desk.copies.restore(file)


def test_restoring_goes_on_after_a_failure(pair: Pair) -> None:
    file = pair.backup()
    with power_fails_at("tpmhsm.requests.restoring._keep"):
        pair.second.app.desk.copies.restore(file)
    assert pair.second.app.keyring.all() == []
    pair.second.app.desk.copies.restore(file)


# ── refused ──────────────────────────────────────────────────────────────────────────────────


def test_refused_before_anybody_is_asked(pair: Pair, tmp_path: Path) -> None:
    copies = pair.first.app.desk.copies
    with pytest.raises(RefusedError) as caught:
        copies.backup("root", pair.answer("carol", pair.first))
    assert caught.value.code == "same-chip"
    with pytest.raises(ParseError):
        copies.backup("root", b"{}")
    with checked(House.build(tmp_path / "three")) as third:
        file = pair.backup()
        with pytest.raises(RefusedError) as caught:
            third.app.desk.copies.restore(file)
        assert caught.value.code == "unknown-group"
        third.found()
        from tpmhsm.requests.certifying import certify_group

        plain = certify_group(third.app.store, third.app.groups, "officers", "ab" * 32)
        with pytest.raises(RefusedError) as caught:
            copies.backup("root", plain)
        assert caught.value.code == "other-group"
    plain = certify_group(pair.second.app.store, pair.second.app.groups, "officers", "ab" * 32)
    with pytest.raises(UsageError) as said:
        copies.backup("root", plain)
    assert said.value.code == "no-parent"
    pair.second.app.keyring.create("root", "p256", policy="open")
    with pytest.raises(ExistsError):
        pair.second.app.desk.copies.restore(file)


def test_a_copy_is_asked_once(pair: Pair) -> None:
    """Whichever custodian's evidence is shown: it is the same chip and storage key."""
    one, two = pair.answer("alice"), pair.answer("bob")
    assert pair.ask("root", one) == pair.ask("root", two)
    with pytest.raises(WaitingError, match="2 of the custodians of officers"):
        pair.first.app.desk.copies.backup("root", one)


def test_a_copied_key_takes_one_command_more(pair: Pair) -> None:
    """A PolicyOR; and four commands in the place of one where it is loaded on the second chip."""
    loot = pair.first.steal_fresh()
    plain = pair.first.app.keyring.create("plain", "p256", policy="quorum(officers)")
    copied = pair.first.app.keyring.get("root")
    taken = pair.second.app.desk.copies.restore(pair.backup())
    from tpmhsm.policy.plan import Officers

    officers = Officers(loot.group, loot.roster, loot.votes)
    counts = []
    for house, row in ((pair.first, plain), (pair.first, copied), (pair.second, taken)):
        choice = house.app.keyring._chooser.choose(row, "officers")
        plan = choice.plan(row, loot.digest, officers)
        counts.append(plan.commands if plan else 0)
    assert counts[1] == counts[2] == counts[0] + 1
