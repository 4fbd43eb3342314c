"""The audit log: chained, append-only, verifiable, in the transaction of the act."""

import hashlib
import itertools
import json

import pytest

from tpmhsm.errors import StoreError, VerificationError
from tpmhsm.store.audit import GENESIS, AuditHead, os_user

FACTS = {"key": "root", "bytes": 702, "who": ["alice", "bob"], "name": "Žofie"}


def fill(store, count=4):
    with store.transaction() as tx:
        return [tx.audit.append("sign", FACTS | {"n": n}) for n in range(count)]


def test_chain(store):
    rows = fill(store)
    assert [row.seq for row in rows] == [1, 2, 3, 4]
    assert rows[0].prev == GENESIS and rows[0].actor == os_user()
    with store.reading() as tx:
        assert tx.audit.all() == rows
        assert tx.audit.all(after=1, limit=2) == rows[1:3]
        assert tx.audit.verify_chain() == tx.audit.head() == AuditHead(4, rows[3].hash)
        assert tx.audit.verify_chain(AuditHead(2, rows[1].hash)).seq == 4
    for before, row in itertools.pairwise(rows):
        entry = {k: v for k, v in vars(row).items() if k != "hash"}
        text = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert row.hash == hashlib.sha256(text.encode()).hexdigest()
        assert row.prev == before.hash


@pytest.mark.parametrize("first", [0, 1, 2, 5, 16, 17, 30])
def test_entries_are_counted_from_a_moment_on(store, first, monkeypatch):
    """Wherever it lies, and however many entries there are."""
    with store.transaction() as tx:
        for n in range(30):
            at = f"2026-11-{24 if n >= first else 23}T{n:02}:00:00Z"
            monkeypatch.setattr("tpmhsm.store.audit.now", lambda at=at: at)
            tx.audit.append("crl" if n % 3 else "issued")
    with store.reading() as tx:
        found = tx.audit.counts("2026-11-24T00:00:00Z")
    left = range(first, 30)
    wanted = {"crl": sum(n % 3 > 0 for n in left), "issued": sum(n % 3 == 0 for n in left)}
    assert found == {act: count for act, count in wanted.items() if count}


def test_empty_chain(tx):
    assert tx.audit.counts("2026-11-24T00:00:00Z") == {}
    assert tx.audit.verify_chain() == AuditHead(0, GENESIS)
    assert tx.audit.verify_chain(AuditHead(0, GENESIS)).seq == 0


def test_facts_that_json_would_change_still_verify(tx):
    row = tx.audit.append("x", {"pair": (1, 2), "map": {1: "one"}}, actor="carol")
    assert row.facts == {"pair": [1, 2], "map": {"1": "one"}}
    assert row.actor == "carol"
    tx.audit.verify_chain()


def test_entry_is_undone_with_its_act(store):
    fill(store)
    with pytest.raises(RuntimeError), store.transaction() as tx:
        tx.audit.append("sign")
        raise RuntimeError
    with store.reading() as tx:
        assert tx.audit.verify_chain().seq == 4


@pytest.mark.parametrize("sql", ["UPDATE audit SET act = 'x'", "DELETE FROM audit"])
def test_the_database_refuses_to_change_entries(store, sql):
    fill(store)
    with pytest.raises(StoreError, match="only be added to"), store.transaction() as tx:
        tx._connection.exec_driver_sql(sql)


TAMPERED = {
    "act": ("UPDATE audit SET act = 'deny' WHERE seq = 2", 2, "content was changed"),
    "time": ("UPDATE audit SET at = '2020' WHERE seq = 3", 3, "content was changed"),
    "facts": ("UPDATE audit SET facts = '{\"n\":7}' WHERE seq = 1", 1, "content was changed"),
    "hash": ("UPDATE audit SET hash = '00' WHERE seq = 4", 4, "content was changed"),
    "twice": (
        "UPDATE audit SET facts = '{\"n\":9,' || substr(facts, 2) WHERE seq = 2",
        2,
        "not canonical",
    ),
    "garbage": ("UPDATE audit SET facts = 'garbage' WHERE seq = 2", 2, "not canonical"),
    "hole": ("DELETE FROM audit WHERE seq = 2", 3, "entry 2 is missing"),
    "beginning": ("DELETE FROM audit WHERE seq = 1", 2, "entry 1 is missing"),
    "relinked": ("UPDATE audit SET prev = '00' WHERE seq = 3", 3, "does not continue"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_tampering_is_named(store, how):
    """With the triggers out of the way, as root on the host can have it."""
    sql, seq, words = TAMPERED[how]
    fill(store)
    with store.transaction() as tx:
        unprotect(store, tx)
        tx._connection.exec_driver_sql(sql)
    with store.reading() as tx, pytest.raises(VerificationError, match=words) as caught:
        tx.audit.verify_chain()
    assert caught.value.details["seq"] == seq
    with pytest.raises(VerificationError):
        store.check()


def test_a_cut_end_shows_against_a_remembered_head(store):
    rows = fill(store)
    with store.transaction() as tx:
        unprotect(store, tx)
        tx._connection.exec_driver_sql("DELETE FROM audit WHERE seq > 2")
        assert tx.audit.verify_chain().seq == 2
        with pytest.raises(VerificationError, match="cut or rewritten"):
            tx.audit.verify_chain(AuditHead(4, rows[3].hash))


def unprotect(store, tx):
    if store.kind == "sqlite":
        tx._connection.exec_driver_sql("DROP TRIGGER audit_no_update")
        tx._connection.exec_driver_sql("DROP TRIGGER audit_no_delete")
    else:
        tx._connection.exec_driver_sql("ALTER TABLE audit DISABLE TRIGGER USER")
