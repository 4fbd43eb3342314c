"""A million certificates: pages and searches go by indices, which is asked, not timed."""

from __future__ import annotations

import pytest
from sqlalchemy import event
from tests.store.test_nouns import certificate

from tpmhsm.store import Store
from tpmhsm.store.authorities import SerialRow, serials
from tpmhsm.store.certificates import Ends, Wanted

COUNT = 300


def digest(number: int) -> str:
    return f"{number:04x}" * 16


def row(number: int, **changes):
    host = f"host-{number}.example.com"
    values = {
        "serial": f"{number:032x}",
        "spki_sha256": digest(number % 100),
        "name": host,
        "names": f"{host}\n*.shop-{number % 10}.example.org",
        "authority": "ca",
        "not_after": f"2027-01-{1 + number % 28:02}T00:00:00Z",
    }
    return certificate(digest(number), **(values | changes))


@pytest.fixture
def full(store: Store) -> Store:
    with store.transaction() as tx:
        tx.certificates.add_all([row(number) for number in range(COUNT)])
        tx.certificates.add(
            row(9999, is_ca=True, subject="CN=Root", names="example root\nmail@example.net")
        )
    return store


def found(store: Store, limit: int = 100, **wanted) -> list[str]:
    with store.reading() as tx:
        return [one.name for one in tx.certificates.page(Wanted(**wanted), limit)]


def test_pages(full: Store) -> None:
    with full.reading() as tx:
        first = tx.certificates.page(Wanted(), 100)
        second = tx.certificates.page(Wanted(before=first[-1].id), 250)
    assert [one.id for one in first + second] == list(range(COUNT + 1, 0, -1))


@pytest.mark.parametrize(
    ("wanted", "hosts"),
    [
        ({"name": "host-7.example.com"}, ["host-7.example.com"]),
        ({"name": "HOST-7.example.com"}, ["host-7.example.com"]),
        ({"name": "7.example.com"}, []),
        ({"name": "xample.com"}, []),
        ({"name": "shop-3.example.org"}, [f"host-{n}.example.com" for n in range(293, 0, -10)]),
        ({"name": "example.net"}, ["host-9999.example.com"]),
        ({"name": "example root"}, ["host-9999.example.com"]),
        ({"name": "%"}, []),
        ({"serial": f"{7:032x}"}, ["host-7.example.com"]),
        ({"serial": "7"}, ["host-7.example.com"]),
        ({"sha256": digest(0xAB)}, ["host-171.example.com"]),
        ({"sha256": "00ab00"}, ["host-171.example.com"]),
        ({"spki_sha256": digest(7)}, ["host-207.example.com", "host-107.example.com",
                                      "host-7.example.com"]),
        ({"spki_sha256": digest(7), "name": "host-107.example.com"}, ["host-107.example.com"]),
        ({"authority": "other"}, []),
    ],
)  # fmt: skip
def test_searches(full: Store, wanted: dict[str, str], hosts: list[str]) -> None:
    assert found(full, **wanted) == hosts


def test_a_name_below_a_domain_and_no_other(full: Store) -> None:
    assert len(found(full, 1000, name="example.com")) == COUNT
    assert len(found(full, 1000, name="example.org")) == COUNT


def test_deleted_ones_are_not_found(full: Store) -> None:
    with full.transaction() as tx:
        tx.certificates.delete(digest(7))
    assert found(full, name="host-7.example.com") == []
    assert len(found(full, 1000)) == COUNT


def test_ends_and_cas(full: Store) -> None:
    with full.reading() as tx:
        assert tx.certificates.ends("2026-01-01", "2027-01-02") == Ends(
            COUNT, 11, "2027-01-01T00:00:00Z"
        )
        assert tx.certificates.ends("2028", "2029") == Ends(0, 0, None)
        assert [one.subject for one in tx.certificates.cas()] == ["CN=Root"]


def test_what_is_met_by_any_of_its_names(full: Store) -> None:
    with full.reading() as tx:
        assert tx.certificates.get("mail@example.net").subject == "CN=Root"


@pytest.fixture
def plans(tmp_path):
    """What SQLite says it would do for each query of a block."""
    with Store.create(tmp_path / "home") as store:
        asked: list[tuple[str, object]] = []

        def note(_connection, _cursor, statement, parameters, _context, _many):
            if statement.startswith("SELECT"):
                asked.append((statement, parameters))

        def of(block) -> list[str]:
            with store.reading() as tx:
                asked.clear()
                event.listen(store._engine, "before_cursor_execute", note)
                try:
                    block(tx)
                finally:
                    event.remove(store._engine, "before_cursor_execute", note)
                assert asked
                return [
                    line[3]
                    for statement, parameters in asked
                    for line in tx._connection.exec_driver_sql(
                        f"EXPLAIN QUERY PLAN {statement}", parameters
                    )
                ]

        yield of


QUERIES = {
    "a page": lambda tx: tx.certificates.page(Wanted(before=5000), 100),
    "by name": lambda tx: tx.certificates.page(Wanted(name="example.com"), 100),
    "by serial": lambda tx: tx.certificates.page(Wanted(serial="77"), 100),
    "by key": lambda tx: tx.certificates.page(Wanted(spki_sha256="77"), 100),
    "by fingerprint": lambda tx: tx.certificates.page(Wanted(sha256="77777777"), 100),
    "what a person means": lambda tx: tx.certificates.find_all("77777777"),
    "the certificate of a digest": lambda tx: tx.certificates.find("77"),
    "CAs": lambda tx: tx.certificates.cas(),
    "ends": lambda tx: tx.certificates.ends("2026", "2027"),
    "a serial": lambda tx: tx.serials.find("ca", "77"),
    "the serial of a request": lambda tx: tx.serials._first(serials.c.request_id == 7),
    "stale serials": lambda tx: tx.serials.stale("ca", "2026"),
    "the end of the log": lambda tx: tx.audit.verify_chain(last=10),
    "certificates of a key": lambda tx: tx.certificates.all(spki_sha256="77"),
}


@pytest.mark.parametrize("query", QUERIES)
def test_no_query_reads_a_whole_table(plans, query: str) -> None:
    steps = plans(QUERIES[query])
    assert not [step for step in steps if step.startswith("SCAN") and "USING" not in step], steps


def test_a_page_needs_no_sorting(plans) -> None:
    assert not [step for step in plans(QUERIES["a page"]) if "TEMP B-TREE" in step]


def test_many_serials_at_once(store: Store) -> None:
    rows = [SerialRow("ca", f"{n:x}", b"tbs", "") for n in range(20)]
    with store.transaction() as tx:
        tx.serials.reserve_all(rows)
        assert tx.serials.issue_all([("ca", f"{n:x}") for n in range(25)]) == 20
        assert tx.serials.issue_all([("ca", "1")]) == 0
        assert tx.serials.count() == 20
        assert len(tx.serials.lost()) == 20
        assert {row.state for row in tx.serials.all()} == {"issued"}


def test_the_end_of_a_log_that_was_changed_before_it(store: Store) -> None:
    with store.transaction() as tx:
        for _ in range(30):
            tx.audit.append("x")
        assert tx.audit.verify_chain(last=10) == tx.audit.verify_chain()
        assert tx.audit.verify_chain(last=1000) == tx.audit.verify_chain()
