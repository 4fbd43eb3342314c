"""Many certificates at a time: each only after its commit, none twice, none half done."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from tests.ca.doubles import House
from tests.ca.test_authority import csr, serials

from tpmhsm.ca import issuance, pipeline
from tpmhsm.ca.line import HAND_OVER
from tpmhsm.ca.records import certificate_row
from tpmhsm.errors import (
    ChipRefusedError,
    DeviceError,
    RefusedError,
    StoreError,
    TpmHsmError,
    UsageError,
)
from tpmhsm.store.commits import Commits

PROFILE = "tls-server"


@pytest.fixture
def root(house: House) -> House:
    house.authorities.create("root-ca", "root", "CN=Root,O=Example")
    return house


@pytest.fixture(params=[0, 1, 2], ids=["inline", "one process", "two processes"])
def issuer(root: House, request: pytest.FixtureRequest) -> Iterator[pipeline.Issuer]:
    with root.authorities.issuer(request.param) as made:
        yield made


def test_all_are_kept_when_their_futures_are_done(root: House, issuer: pipeline.Issuer) -> None:
    hosts = [f"host-{n}.example.com" for n in range(100)]
    wanted = [issuer.sign("root-ca", csr(root, host=host), profile=PROFILE) for host in hosts]
    for host, future in zip(hosts, wanted, strict=True):
        done = future.result(60)
        with root.store.reading() as tx:  # already: not only when all are
            row = tx.certificates.find(done.sha256)
            assert tx.serials.get("root-ca", done.serial).state == "issued"
        assert row is not None
        assert (row.name, row.der, row.authority) == (host, done.der, "root-ca")
        expected = certificate_row(
            x509.load_der_x509_certificate(row.der), source="issued", authority="root-ca"
        )
        assert vars(row) == vars(expected) | {"id": row.id, "added": row.added}
        assert done.issued().facts["sans"] == [f"dns:{host}"]
    with root.store.reading() as tx:
        entries = [entry.facts for entry in tx.audit.all() if entry.act == "issued"]
    assert [len(entries), len({entry["serial"] for entry in entries})] == [101, 101]


def test_threads_hand_over_soon_while_a_line_is_open(root: House) -> None:
    usual = sys.getswitchinterval()
    with root.authorities.issuer(0):
        assert sys.getswitchinterval() == pytest.approx(HAND_OVER)
    assert sys.getswitchinterval() == usual


def test_one_that_is_refused_fails_alone(root: House, issuer: pipeline.Issuer) -> None:
    good = issuer.sign("root-ca", csr(root), profile=PROFILE)
    bad = issuer.sign("root-ca", b"no CSR", profile=PROFILE, what="bad.csr")
    more = issuer.sign("root-ca", csr(root), profile=PROFILE)
    assert good.result(60).serial != more.result(60).serial
    with pytest.raises(UsageError, match=r"bad\.csr"):
        bad.result(60)
    with pytest.raises(UsageError, match="a root signs itself"):
        issuer.sign("root-ca", csr(root), profile="root")
    assert serials(root, "root-ca") == ["issued"] * 3


def test_a_guarded_key_asks_people_one_by_one(house: House) -> None:
    house.authorities.create("root-ca", "root", "CN=Root")
    house.signer.guarded.add("root")
    with (
        house.authorities.issuer(0) as issuer,
        pytest.raises(RefusedError, match="only with approvals"),
    ):
        issuer.sign("root-ca", csr(house), profile=PROFILE)


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (ChipRefusedError("no", rc=0x99D, command="Sign"), "abandoned"),
        (DeviceError("gone", code="device-vanished"), "reserved"),
    ],
    ids=["refused", "vanished"],
)
def test_a_signature_that_fails(
    root: House, issuer: pipeline.Issuer, error: TpmHsmError, left: str
) -> None:
    def fail() -> None:
        raise error

    root.signer.before = fail
    with pytest.raises(type(error)):
        issuer.sign("root-ca", csr(root), profile=PROFILE).result(60)
    root.signer.before = lambda: None
    issuer.sign("root-ca", csr(root), profile=PROFILE).result(60)
    assert serials(root, "root-ca") == ["issued", left, "issued"]


def test_a_wrong_signature_is_no_certificate(root: House, issuer: pipeline.Issuer) -> None:
    root.signer.keys["root"], right = root.signer.keys["leaf"], root.signer.keys["root"]
    wrong = issuer.sign("root-ca", csr(root, "issuing"), profile=PROFILE)
    with pytest.raises(RefusedError, match="signature"):
        wrong.result(60)
    root.signer.keys["root"] = right
    assert serials(root, "root-ca") == ["issued", "abandoned"]


def test_a_serial_that_was_given_up_meanwhile(
    root: House, issuer: pipeline.Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that slept past the quarter of an hour keeps no certificate."""
    monkeypatch.setattr(issuance, "STALE", timedelta(seconds=-5))

    def meanwhile() -> None:
        root.signer.before = lambda: None
        with root.store.transaction() as tx:
            issuance.abandon_stale(tx, "root-ca")

    root.signer.before = meanwhile
    with pytest.raises(UsageError, match="given up meanwhile"):
        issuer.sign("root-ca", csr(root), profile=PROFILE).result(60)
    with root.store.reading() as tx:
        assert len(tx.certificates.all(authority="root-ca")) == 1
    assert serials(root, "root-ca") == ["issued", "abandoned"]


def test_a_worker_that_dies_is_told_of(root: House) -> None:
    with root.authorities.issuer(1) as issuer:
        issuer.sign("root-ca", csr(root), profile=PROFILE).result(60)
        (worker,) = issuer._workers
        worker._process.kill()  # type: ignore[attr-defined]
        with pytest.raises(TpmHsmError, match="has ended"):
            for _ in range(100):
                issuer.sign("root-ca", csr(root), profile=PROFILE).result(60)


# ── group commit ─────────────────────────────────────────────────────────────


class Told:
    """What became of works."""

    def __init__(self, count: int) -> None:
        self.results: dict[Any, Any] = {}
        self._left = threading.Semaphore(0)
        self._count = count

    def of(self, item: Any) -> Any:
        def then(result: Any, error: BaseException | None) -> None:
            self.results[item] = error or result
            self._left.release()

        return then

    def all(self) -> dict[Any, Any]:
        for _ in range(self._count):
            assert self._left.acquire(timeout=30)
        return self.results


def test_many_works_are_one_transaction(house: House) -> None:
    sizes = []

    def note(tx: Any, items: Any) -> Any:
        sizes.append(len(items))
        tx.audit.append_all([("note", {"item": item}) for item in items])
        return items

    told = Told(50)
    with Commits(house.store) as commits:
        for item in range(50):
            commits.put(note, item, told.of(item))
        assert told.all() == {item: item for item in range(50)}
    assert len(sizes) < 25
    with house.store.reading() as tx:
        assert sum(entry.act == "note" for entry in tx.audit.all()) == 50
    with pytest.raises(StoreError, match="closed"):
        commits.put(note, 1, told.of(1))


def test_a_work_that_fails_takes_no_other_with_it(house: House) -> None:
    def note(tx: Any, items: Any) -> Any:
        tx.audit.append_all([("note", {"item": item}) for item in items])
        if 7 in items:
            raise UsageError("seven")
        return items

    told = Told(20)
    with Commits(house.store) as commits:
        for item in range(20):
            commits.put(note, item, told.of(item))
        found = told.all()
    assert str(found.pop(7)) == "seven"
    assert found == {item: item for item in range(20) if item != 7}
    with house.store.reading() as tx:
        kept = [entry.facts["item"] for entry in tx.audit.all() if entry.act == "note"]
    assert sorted(kept) == sorted(found)
