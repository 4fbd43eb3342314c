"""Root edits the database: `doctor store` finds it, and changes nothing."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.machines import governed_template, plain_template
from tests.support.shell import Shell

from tpmhsm.tpm import nv
from tpmhsm.tpm.device import open_device

__all__ = ["governed_template", "plain_template"]


@pytest.fixture(scope="module")
def prepared(governed_template: Shell) -> Iterator[Shell]:
    """With two certificates of an open authority, one by a quorum, one that waits."""
    path = Path(tempfile.mkdtemp(prefix="tpmhsm-"))
    machine = governed_template.copy(path / "m")
    for _ in range(2):
        machine("ca", "sign", "open-ca", "web.csr")
    machine.settle(machine.ask("ca", "sign", "root-ca", "web.csr"))
    machine.ask("ca", "sign", "root-ca", "web.csr")
    for act in ("revoke", "hold"):
        machine("ca", "sign", "open-ca", "web.csr", "--out", f"{act}.pem")
        machine("ca", act, "open-ca", f"{act}.pem")
        machine("ca", "crl", "open-ca")
    yield machine
    machine.close()
    shutil.rmtree(path)


@pytest.fixture
def machine(prepared: Shell) -> Iterator[Shell]:
    """The same for every test: its database is put back."""
    file = prepared.home / "tpmhsm.db"
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    before = file.read_bytes()
    yield prepared
    for end in ("-wal", "-shm"):
        file.with_name(file.name + end).unlink(missing_ok=True)
    file.write_bytes(before)


def edit(machine: Shell, *statements: str) -> int:
    """What root does with any SQLite; the append-only triggers are no obstacle."""
    with closing(sqlite3.connect(machine.home / "tpmhsm.db")) as connection, connection:
        return sum(connection.execute(statement).rowcount for statement in statements)


def differing(column: str) -> str:
    """SQL for hexadecimal digits that differ from those of the column in the first."""
    return f"CASE substr({column}, 1, 1) WHEN '1' THEN '2' ELSE '1' END || substr({column}, 2)"


LEAF = "(SELECT max(id) FROM certificates WHERE authority = 'open-ca')"
OTHER = "(SELECT min(id) FROM certificates WHERE authority = 'open-ca' AND NOT is_ca)"

EDITS = {
    "another certificate's bytes": (
        f"UPDATE certificates SET der = (SELECT der FROM certificates WHERE id = {OTHER})"
        f" WHERE id = {LEAF}",
        "certificates",
        "bytes say otherwise of sha256, serial",
    ),
    "broken bytes": (
        f"UPDATE certificates SET der = x'3000' WHERE id = {LEAF}",
        "certificates",
        "no certificate",
    ),
    "another serial": (
        f"UPDATE certificates SET serial = {differing('serial')} WHERE id = {LEAF}",
        "certificates",
        "bytes say otherwise of serial",
    ),
    "another name": (
        f"UPDATE certificates SET subject = 'CN=bank.example' WHERE id = {LEAF}",
        "certificates",
        "bytes say otherwise of subject",
    ),
    "a certificate of one's own": (
        "INSERT INTO certificates (sha256, der, subject, issuer, serial, not_before, not_after,"
        " spki_sha256, ski, aki, is_ca, authority, source, name, added, deleted)"
        f" SELECT {differing('sha256')}, der, subject, issuer, serial, not_before, not_after,"
        f" spki_sha256, ski, aki, is_ca, authority, source, name, added, '' FROM certificates"
        f" WHERE id = {LEAF}",
        "certificates",
        "the log does not know",
    ),
    "an issued certificate is gone": (
        f"DELETE FROM certificates WHERE id = {LEAF}",
        "serials",
        "was issued; its record is gone",
    ),
    "a serial is gone": (
        f"DELETE FROM serials WHERE serial = (SELECT serial FROM certificates WHERE id = {LEAF})",
        "certificates",
        "its serial is not on record",
    ),
    "a serial to be used again": (
        "UPDATE serials SET state = 'reserved'"
        f" WHERE serial = (SELECT serial FROM certificates WHERE id = {LEAF})",
        "certificates",
        "its serial is reserved",
    ),
    "other bytes were reserved": (
        "UPDATE serials SET tbs = x'3000'"
        f" WHERE serial = (SELECT serial FROM certificates WHERE id = {LEAF})",
        "certificates",
        "not what was reserved",
    ),
    "another private part": (
        "UPDATE keys SET private = (SELECT private FROM keys WHERE label = 'web')"
        " WHERE label = 'open-root'",
        "keys",
        "'open-root' does not load",
    ),
    "another key under the label": (
        "UPDATE keys SET private = k.private, public = k.public"
        " FROM (SELECT * FROM keys WHERE label = 'web') AS k WHERE keys.label = 'open-root'",
        "keys",
        "'open-root': its public key is another one",
    ),
    "a quorum key that is said to be open": (
        "UPDATE keys SET policy = 'open' WHERE label = 'root'",
        "keys",
        "'root': its policy in the chip is not open",
    ),
    "another key for an authority": (
        "UPDATE authorities SET key_label = 'web' WHERE name = 'open-ca'",
        "authorities",
        "for another key than 'web'",
    ),
    "an executed request waits again": (
        "UPDATE requests SET state = 'waiting', result = NULL, executed_at = ''"
        " WHERE id = (SELECT max(id) FROM requests WHERE state = 'executed')",
        "requests",
        "it is waiting, and serial",
    ),
    "a waiting request is said to be executed": (
        "UPDATE requests SET state = 'executed' WHERE state = 'waiting'",
        "requests",
        "of 2 approvals",
    ),
    "approvals are gone": (
        "DELETE FROM approvals WHERE request_id = (SELECT max(request_id) FROM approvals)",
        "requests",
        "of 2 approvals",
    ),
    "an approval of another request": (
        "UPDATE approvals SET document = (SELECT document FROM approvals ORDER BY id LIMIT 1)"
        " WHERE id = (SELECT max(id) FROM approvals)",
        "requests",
        "an approval does not hold",
    ),
    "other bytes are asked for": (
        f"UPDATE requests SET digest = {differing('digest')} WHERE state = 'waiting'",
        "requests",
        "asks for something else",
    ),
    "a roster out of force": (
        "UPDATE rosters SET state = 'past'",
        "groups",
        "its roster is not so",
    ),
    "another group's index": (
        "UPDATE groups SET document = CAST(replace(document, 'officers', 'officerz') AS BLOB)",
        "groups",
        "its document is another group's",
    ),
    "text for bytes": (
        "UPDATE groups SET document = replace(document, 'officers', 'officerz')",
        "groups",
        "it cannot be read",
    ),
    "a guard is taken away": (
        "DROP TRIGGER audit_no_update",
        "schema",
        "audit_no_update is missing",
    ),
    "an index is taken away": (
        "DROP INDEX ix_certificates_serial",
        "schema",
        "ix_certificates_serial is missing",
    ),
    "a trap": (
        "CREATE TRIGGER trap AFTER INSERT ON certificates BEGIN SELECT 1; END",
        "schema",
        "trigger trap is not of this program",
    ),
    "a revocation is gone": (
        "DELETE FROM revocations WHERE state = 'revoked'",
        "revocations",
        "was revoked, and has no record",
    ),
    "a hold that is said to have ended": (
        "UPDATE revocations SET state = 'released' WHERE state = 'held'",
        "revocations",
        "the log says it was held last",
    ),
    "a revocation that is off the next CRL": (
        "UPDATE revocations SET state = 'released' WHERE state = 'revoked'",
        "CRLs",
        "is released, and listed",
    ),
    "another reason": (
        "UPDATE revocations SET reason = 'superseded' WHERE state = 'revoked'",
        "revocations",
        "says otherwise of reason",
    ),
    "another certificate's entry": (
        "UPDATE revocations SET entry = (SELECT entry FROM revocations WHERE state = 'held')",
        "revocations",
        "says otherwise of serial",
    ),
    "a revocation nobody made": (
        "INSERT INTO revocations (authority, serial, state, reason, revoked_at, invalidity,"
        " not_after, sha256, entry, changed) SELECT authority, '0' || serial, state, reason,"
        " revoked_at, invalidity, not_after, sha256, entry, changed FROM revocations",
        "revocations",
        "the log does not know that it was",
    ),
    "an older CRL's bytes": (
        "UPDATE crls SET der = (SELECT der FROM crls ORDER BY id LIMIT 1)",
        "CRLs",
        "its bytes say otherwise of number",
    ),
    "a CRL's number": (
        "UPDATE crls SET number = 0 WHERE id = (SELECT max(id) FROM crls)",
        "CRLs",
        "its number does not follow 1",
    ),
    "a CRL that nobody signed": (
        "UPDATE crls SET der = CAST(substr(der, 1, length(der) - 2) || x'0000' AS BLOB)",
        "CRLs",
        "not signed by 'open-ca'",
    ),
    "a CRL is gone": (
        "DELETE FROM crls WHERE id = (SELECT max(id) FROM crls)",
        "CRLs",
        "CRL 2 of 'open-ca' was made, and has no record",
    ),
    "a row that refers to nothing": (
        "UPDATE authorities SET certificate = 'x' WHERE name = 'open-ca'",
        "file",
        "refers to no row of certificates",
    ),
}


@pytest.mark.parametrize("case", EDITS)
def test_what_root_edits_is_found(machine: Shell, case: str) -> None:
    statement, where, words = EDITS[case]
    edit(machine, statement)
    before = (machine.home / "tpmhsm.db").read_bytes()
    found = machine.json("doctor", "store", code=1)
    assert found["ok"] is False
    said = [one for check in found["checks"] if check["name"] == where for one in check["findings"]]
    assert any(words in one["what"] for one in said), found["checks"]
    assert (machine.home / "tpmhsm.db").read_bytes() == before


def test_a_log_that_was_rewritten(machine: Shell) -> None:
    edit(
        machine,
        "DROP TRIGGER audit_no_update",
        "UPDATE audit SET actor = 'somebody else' WHERE seq = 3",
    )
    said = machine("doctor", "store", code=1).out
    assert "the log is broken at entry 3" in said.replace("audit log", "log")


RECORDS = {
    "a signature's record is gone": ("DELETE FROM chip_records WHERE n = 2", "it is the 2."),
    "another signature's digest": (
        f"UPDATE chip_records SET digest = {differing('digest')} WHERE digest != ''",
        "say otherwise of key or digest",
    ),
    "no record": ("UPDATE chip_records SET record = x'00' WHERE n = 3", "are no record"),
    "the last checkpoint is gone": (
        "DELETE FROM chip_records WHERE n = (SELECT max(n) FROM chip_records)",
        "is gone",
    ),
}


@pytest.mark.parametrize("case", RECORDS)
def test_what_root_edits_in_the_chips_records(machine: Shell, case: str) -> None:
    statement, words = RECORDS[case]
    file = machine.home / "tpmhsm.db"
    with closing(sqlite3.connect(file)) as connection, connection:
        query = "SELECT name, sql FROM sqlite_master WHERE tbl_name = 'chip_records'"
        guards = [
            row for row in connection.execute(query) if str(row[1]).startswith("CREATE TRIGGER")
        ]
        for name, _ in guards:
            connection.execute(f"DROP TRIGGER {name}")
        assert connection.execute(statement).rowcount
        for _, sql in guards:
            connection.execute(sql)
    found = machine.json("doctor", "store", code=1)
    wrong = {check["name"]: check["findings"] for check in found["checks"] if check["findings"]}
    assert wrong.keys() == {"chip records"}, wrong
    assert any(words in one["what"] for one in wrong["chip records"]), wrong


def test_all_is_well(machine: Shell) -> None:
    found = machine.json("doctor", "store")
    assert found["ok"] is True
    assert {check["name"] for check in found["checks"]} >= {"file", "log", "keys", "groups", "chip"}
    assert "none" in machine("doctor", "store").out


@pytest.fixture
def own(governed_template: Shell) -> Iterator[Shell]:
    """One whose chip may be changed."""
    path = Path(tempfile.mkdtemp(prefix="tpmhsm-"))
    machine = governed_template.copy(path / "m")
    yield machine
    machine.close()
    shutil.rmtree(path)


def test_what_root_changes_in_the_chip(own: Shell) -> None:
    machine = own
    device = open_device("software", machine.home)
    stranger = 0x01800123
    with device.transaction() as chip:
        nv.define_ordinary(chip, stranger, 8, bytes(32))
    assert "0x01800123 that this home does not know" in machine("doctor", "store", code=1).out
    index = int(machine.json("group", "show", "officers")["roster_index"], 16)
    with device.transaction() as chip:
        nv.undefine(chip, stranger)
        nv.undefine(chip, index)
    said = machine("doctor", "store", code=1).out
    assert "the roster index is missing in the chip" in said
    assert "tpmhsm group change officers" in said
