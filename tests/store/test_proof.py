"""What a PostgreSQL database proves of itself; SQLite's checks are in tests/attacks."""

from __future__ import annotations

import pytest

from tpmhsm.store import Store
from tpmhsm.store.proof import check_file, check_schema

EDITS = {
    "a guard is taken away": (
        "DROP TRIGGER audit_append_only ON audit",
        "trigger audit_append_only is missing",
    ),
    "a guard is switched off": (
        "ALTER TABLE audit DISABLE TRIGGER audit_append_only",
        "trigger audit_append_only, switched off",
    ),
    "an index is taken away": (
        "DROP INDEX ix_certificates_serial",
        "index ix_certificates_serial is missing",
    ),
    "a column": ("ALTER TABLE keys ADD COLUMN x text", "column keys.x is not of this program"),
    "a table": ("CREATE TABLE mine (x int)", "table mine is not of this program"),
    "a foreign key": (
        "ALTER TABLE authorities DROP CONSTRAINT fk_authorities_certificate",
        "foreign key authorities (certificate) to certificates is missing",
    ),
    "foreign keys are switched off": (
        "ALTER TABLE authorities DISABLE TRIGGER ALL",
        "foreign keys of authorities, switched off",
    ),
    "what is unique": (
        "ALTER TABLE revocations DROP CONSTRAINT uq_revocations_authority_serial",
        "unique revocations (authority, serial) is missing",
    ),
}


@pytest.fixture
def whole(postgres):
    with Store.create(postgres.url()) as store:
        yield store


def test_a_whole_one(whole) -> None:
    assert check_schema(whole).findings == check_file(whole).findings == []
    assert check_schema(whole).seen > 100


@pytest.mark.parametrize("case", EDITS)
def test_what_its_owner_edits_is_found(whole, case: str) -> None:
    statement, words = EDITS[case]
    with whole.transaction() as tx:
        tx._connection.exec_driver_sql(statement)
    assert any(words in one.what for one in check_schema(whole).findings)


def test_a_row_that_refers_to_nothing(whole) -> None:
    with whole.transaction() as tx:
        tx._connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        tx._connection.exec_driver_sql(
            "INSERT INTO authorities (name, key_label, profile, subject, certificate, state,"
            " created) VALUES ('a', 'k', 'root', 'CN=A', 'nothing', 'active', '')"
        )
    (found,) = check_file(whole).findings
    assert "certificate nothing of authorities refers to no row of certificates" in found.what
