"""Evidence collected from a chip: complete, by as few commands as it takes, nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from tests.attacks.conftest import checked
from tests.attacks.house import House
from tests.attest.json_schema import faults

import tpmhsm.attest.format as form
from tpmhsm.attest.reading import parse_evidence
from tpmhsm.attest.statements import check_attest
from tpmhsm.errors import NotFoundError
from tpmhsm.keys.evidence import RSA_SETTING, Collected, Wanted, collect
from tpmhsm.keys.host import load_host
from tpmhsm.keys.proof import check_chip
from tpmhsm.policy.group import parse_roster
from tpmhsm.requests.statics import propose_static
from tpmhsm.tpm import attesting, evidence, nv, objects
from tpmhsm.wire.attest import Attest, CertifyInfo
from tpmhsm.wire.codec import decode
from tpmhsm.wire.constants import RC, RH, ST
from tpmhsm.wire.names import name_of_nv, name_of_public
from tpmhsm.wire.structures import NvPublic

NONCE = sha256(b"of the verifier").digest()
SCHEMA = json.loads(Path(form.__file__).with_name("schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A group, keys of three policies, a budget that was granted and one that was not, a key that
    was imported.
    """
    with checked(House.build(tmp_path_factory.mktemp("collect") / "home")) as house:
        house.found()
        house.app.keyring.create("open", "p256", policy="open")
        house.key("root", "p384")
        for label in ("granted", "poor"):
            house.app.keyring.create(label, "p256", policy="budget(officers)")
        asked = house.app.desk.grants.propose("granted", 3).request
        assert house.settle(asked).state == "executed"
        app = house.app
        propose_static(app.store, app.device, app.desk.drafts, "fixed", "2:alice,bob,dave")
        house.key("vault", group="fixed")
        yield house


@pytest.fixture(scope="module")
def first(house: House) -> Collected:
    """The first of this home, which makes the RSA key."""
    return gather(house)


def gather(house: House, **wanted: object) -> Collected:
    asked = Wanted(**{"nonce": NONCE, **wanted})  # type: ignore[arg-type]
    app = house.app
    return collect(app.store, app.device, app.groups, asked)


def test_it_is_whole(house: House, first: Collected) -> None:
    found = first.evidence
    assert found.nonce == NONCE
    assert [one.nv_index for one in found.eks] == [0x01C00002, 0x01C00016]
    assert [key.label for key in found.keys] == ["granted", "open", "poor", "root", "vault"]
    assert all(key.creation for key in found.keys)
    fixed, group = found.groups
    assert (fixed.counter, fixed.held, len(fixed.cards)) == (None, None, 3)
    assert parse_roster(group.roster).epoch == house.app.groups.active("officers").roster.epoch
    assert len(group.cards) == 3
    assert {one.key: bool(one.statement) for one in found.budgets} == {
        "granted": True,
        "poor": False,
    }
    assert first.notes == (
        "the budget of 'poor' granted by 'officers' is not in the chip, or was never written",
    )
    assert found.quote is not None
    assert sorted(found.quote.pcrs["sha256"]) == list(range(24))
    data = form.format_evidence(found)
    assert faults(json.loads(data), SCHEMA, SCHEMA) == []
    assert parse_evidence(data) == found


def test_each_statement_is_by_the_first_key_over_its_own_purpose(first: Collected) -> None:
    found = first.evidence
    ak = found.aks[0].public
    group = found.groups[1]
    identity = decode_group(group.document)
    said = [
        (found.time, ST.ATTEST_TIME, found.qualifying("time", found.seal)),
        (found.quote.statement, ST.ATTEST_QUOTE, found.qualifying("quote")),
        (group.counter, ST.ATTEST_NV, found.qualifying("counter", identity)),
        (group.held, ST.ATTEST_NV, found.qualifying("roster", identity)),
        (found.aks[1].certified, ST.ATTEST_CERTIFY, over_name(found, "ak", found.aks[1].public)),
    ]
    for key in found.keys:
        over = over_name(found, "creation", key.public)
        said.append((key.creation.statement, ST.ATTEST_CREATION, over))
    for budget in found.budgets:
        if budget.statement:
            key = next(one for one in found.keys if one.label == budget.key)
            over = over_name(found, "budget", key.public)
            said.append((budget.statement, ST.ATTEST_NV, over))
    for statement, kind, over in said:
        check_attest(ak, statement.attest, statement.signature, kind, over)
        signer = decode(Attest, statement.attest).qualified_signer
        hierarchy = RH.ENDORSEMENT.to_bytes(4, "big")
        assert signer == b"\x00\x0b" + sha256(hierarchy + name_of_public(ak)).digest()
    for key in found.keys:
        info = decode(Attest, key.creation.attest).attested
        assert info.creation_hash == sha256(key.creation.data).digest()
    for budget in found.budgets:
        if budget.statement:
            info = decode(Attest, budget.statement.attest).attested
            assert info.index_name == name_of_nv(budget.index)


def test_the_rsa_key_says_of_itself_what_go_attestation_asks(first: Collected) -> None:
    """attest.AttestationParameters: Public, CreateData, CreateAttestation, CreateSignature; and a
    quote by the same key.
    """
    found = first.evidence
    rsa = found.aks[1]
    name = name_of_public(rsa.public)
    over = found.qualifying("creation", name)
    said = rsa.creation.statement
    info = check_attest(rsa.public, said.attest, said.signature, ST.ATTEST_CREATION, over)
    assert (info.object_name, info.creation_hash) == (name, sha256(rsa.creation.data).digest())
    over = found.qualifying("quote")
    check_attest(rsa.public, rsa.quote.attest, rsa.quote.signature, ST.ATTEST_QUOTE, over)
    certified = decode(Attest, rsa.certified.attest).attested
    assert isinstance(certified, CertifyInfo)
    assert certified.name == name


def test_commands(house: House, first: Collected) -> None:
    """docs/evidence.md says them; what is left in the chip is the RSA key alone."""
    assert first.evidence.aks[1:]
    keys, groups, budgets = 5, 1, 2  # the static group has nothing in the chip
    again = gather(house)
    assert again.commands == 20 + 1 + 3 * keys + 2 * groups + budgets
    assert gather(house, rsa=False).commands == again.commands - 4
    assert gather(house, labels=("open",)).commands == 20 + 1 + 3
    with house.app.device.transaction() as chip:
        assert chip.leaks() == []
        assert len(objects.own_handles(chip)) == 3
    assert check_chip(house.app.store, house.app.device).findings == []


def test_one_key_with_what_belongs_to_it(house: House, first: Collected) -> None:
    found = gather(house, labels=("root",)).evidence
    assert [key.label for key in found.keys] == ["root"]
    assert len(found.groups) == 1
    assert found.budgets == ()
    found = gather(house, labels=("open",)).evidence
    assert found.groups == ()
    with pytest.raises(NotFoundError):
        gather(house, labels=("nobody",))


def test_a_nonce_of_its_own(house: House) -> None:
    one, two = (gather(house, nonce=b"").evidence.nonce for _ in range(2))
    assert len(one) == 32
    assert one != two


def test_what_is_given_is_under_the_seal(house: House) -> None:
    found = gather(house, event_log=b"log", ak_certificates=(b"one", b"two")).evidence
    assert found.event_log == b"log"
    assert found.aks[0].certificates == (b"one", b"two")
    over = found.qualifying("time", found.seal)
    ak = load_host(house.app.store).ak_public
    check_attest(ak, found.time.attest, found.time.signature, ST.ATTEST_TIME, over)


def test_an_index_that_somebody_removed(house: House, first: Collected) -> None:
    index = decode(NvPublic, next(b for b in first.evidence.budgets if b.key == "poor").index)
    with house.app.device.transaction() as chip:
        nv.undefine(chip, index.nv_index)
    found = gather(house, labels=("poor",))
    assert [one.statement for one in found.evidence.budgets] == [None]
    assert "of 'poor' granted by 'officers' is not in the chip" in " ".join(found.notes)


def test_a_chip_without_room_for_the_rsa_key(
    house: House, first: Collected, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tpmhsm.errors import ChipRefusedError

    def full(*_: object) -> int:
        raise ChipRefusedError("full", rc=RC.NV_SPACE, command="EvictControl")

    monkeypatch.setattr(attesting, "find_rsa", lambda *_: None)
    monkeypatch.setattr(attesting, "all_persistent", lambda _: [])
    monkeypatch.setattr(attesting, "persist", full)
    found = gather(house)
    assert found.evidence.aks[1].public == first.evidence.aks[1].public
    assert "no room to keep" in " ".join(found.notes)
    with house.app.device.transaction() as chip:
        assert chip.leaks() == []


def test_a_power_failure_before_the_rsa_key_was_noted(house: House, first: Collected) -> None:
    """It is found again by its Name, and noted then."""
    house.rewrite("delete from settings where key = ?", RSA_SETTING)
    assert check_chip(house.app.store, house.app.device).findings
    assert gather(house).evidence.aks[1].public == first.evidence.aks[1].public
    assert check_chip(house.app.store, house.app.device).findings == []


def test_a_chip_that_keeps_no_certificate(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "_present", lambda _: [])
    monkeypatch.setattr(nv, "indices", lambda _: [])
    found = gather(house)
    (ek,) = found.evidence.eks
    assert (ek.certificate, ek.nv_index) == (None, None)
    assert "keeps no EK certificate" in " ".join(found.notes)


def test_a_chip_without_rsa(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from tpmhsm.errors import ChipRefusedError

    def none(*_: object) -> None:
        raise ChipRefusedError("this chip makes no rsa2048 keys", rc=0x2C4, command="CreatePrimary")

    monkeypatch.setattr(attesting, "rsa_attestation_key", none)
    found = gather(house)
    assert len(found.evidence.aks) == 1
    assert "no RSA attestation key" in " ".join(found.notes)


def over_name(found: form.Evidence, purpose: form.Purpose, public: bytes) -> bytes:
    return found.qualifying(purpose, name_of_public(public))


def decode_group(document: bytes) -> bytes:
    from tpmhsm.policy.group import parse_group

    return parse_group(document).id


def test_made_is_now(first: Collected) -> None:
    assert abs((datetime.now(UTC) - first.evidence.made).total_seconds()) < 600
