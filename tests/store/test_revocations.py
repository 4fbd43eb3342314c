"""Revocations and CRLs as the database keeps them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tpmhsm.errors import ExistsError, NotFoundError, UsageError
from tpmhsm.store.memory import ApprovedCrlRow
from tpmhsm.store.revocations import CrlRow, RevocationRow


def row(serial: str, state: str = "revoked", **changes: object) -> RevocationRow:
    found = RevocationRow(
        authority="ca",
        serial=serial,
        state=state,
        reason="superseded",
        revoked_at="2026-01-01T00:00:00Z",
        not_after="2027-01-01T00:00:00Z",
        entry=serial.encode(),
        changed=1,
    )
    return replace(found, **changes)


def crl(number: int, **changes: object) -> CrlRow:
    found = CrlRow("ca", number, "2026-06-01T00:00:00Z", "2026-06-08T00:00:00Z", 10, 0)
    return replace(found, **changes)


def test_one_row_a_certificate(store):
    with store.transaction() as tx:
        first = tx.revocations.put(row("01", "held"))
        tx.revocations.put(row("01", "held", authority="other"))
        again = tx.revocations.put(row("01", "revoked", changed=5))
        assert again.id == first.id
        assert tx.revocations.count("ca") == {"revoked": 1, "held": 0}
        assert tx.revocations.count("other") == {"revoked": 0, "held": 1}
        assert tx.revocations.count("nobody") == {"revoked": 0, "held": 0}
        assert (tx.revocations.changes("ca", 4), tx.revocations.changes("ca", 5)) == (1, 0)


def test_states_of_many_at_once(store):
    with store.transaction() as tx:
        for n in range(600):
            tx.revocations.put(row(f"{n:04x}", "released" if n % 3 == 0 else "revoked"))
        pairs = [("ca", f"{n:04x}") for n in range(700)] + [("other", "0001")]
        found = tx.revocations.of(pairs)
    assert len(found) == 400
    assert ("ca", "0001") in found
    assert ("ca", "0000") not in found


def test_entries_of_the_next_list(store):
    with store.transaction() as tx:
        for one in (
            row("01"),
            row("02", "held"),
            row("03", "released"),
            row("04", not_after="2026-05-01T00:00:00Z"),
            row("05", not_after="2026-05-01T00:00:00Z", changed=11),
            row("06", authority="other"),
        ):
            tx.revocations.put(one)

        def entries(last: CrlRow | None) -> bytes:
            pieces = list(tx.revocations.entries("ca", last))
            assert sum(count for count, _ in pieces) * 2 == sum(len(p) for _, p in pieces)
            return b"".join(piece for _, piece in pieces)

        assert entries(None) == b"01040502"
        assert entries(crl(1)) == b"010502"  # 04 was on CRL 1, after it had expired


def test_numbers_only_grow(store):
    with store.transaction() as tx:
        tx.crls.reserve(crl(3))
        for number in (3, 2, 0):
            with pytest.raises(UsageError, match="has been used"):
                tx.crls.reserve(crl(number))
        tx.crls.reserve(crl(1, authority="other"))
        assert tx.crls.highest("ca") == 3
        assert tx.crls.highest("nobody") == 0


def test_a_crl_is_issued_once_and_its_bytes_come_back(store):
    with store.transaction() as tx:
        first, second = tx.crls.reserve(crl(1)), tx.crls.reserve(crl(2))
        assert tx.crls.latest("ca") is None
        done = tx.crls.issued(first, b"crl")
        assert tx.crls.der(done) == b"crl"
        assert tx.crls.issued(first, b"crl") == done
        assert tx.crls.latest("ca") == done
        tx.crls.abandoned(second)
        with pytest.raises(UsageError, match="abandoned already"):
            tx.crls.issued(second, b"crl")
        with pytest.raises(NotFoundError):
            tx.crls.der(second)
        with pytest.raises(UsageError, match="issued already"):
            tx.crls.abandoned(done)
        with pytest.raises(NotFoundError):
            tx.crls.of_request(1)
        assert [one.state for one in tx.crls.all("ca")] == ["issued", "abandoned"]


def test_the_database_itself_refuses_a_number_twice(store):
    with store.transaction() as tx:
        tx.crls.reserve(crl(1))
    with pytest.raises(ExistsError), store.transaction() as tx:
        tx.crls._insert(crl(1))


def test_an_approver_remembers_the_newest_crl(store):
    big = str((1 << 159) - 1)
    with store.transaction() as tx:
        for number, kept in (("9", "9"), ("10", "10"), ("8", "10"), (big, big), ("11", big)):
            tx.memory.remember_crl(ApprovedCrlRow("key", number, "2026-01-01T00:00:00Z", "00", b""))
            found = tx.memory.approved_crl("key")
            assert found is not None
            assert found.number == kept
        assert tx.memory.approved_crl("other") is None


def test_a_database_of_the_first_schema_is_brought_up_to_date(tmp_path):
    from alembic import command
    from sqlalchemy import create_engine

    from tpmhsm.store import Store
    from tpmhsm.store.migrate import configuration
    from tpmhsm.store.version import HEAD, found_version

    engine = create_engine(f"sqlite:///{tmp_path / 'tpmhsm.db'}")
    with engine.begin() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql("INSERT INTO settings VALUES ('kept', '1')")
    engine.dispose()
    with Store.open(tmp_path) as store, store.transaction() as tx:
        assert found_version(tx._connection) == HEAD
        tx.revocations.put(row("01"))
        assert tx.settings.get("kept") == 1
