"""A home whose chip audits, with a log of a thousand signatures, and root, who owns both."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.attacks.house import copied_app, new_app

from tpmhsm.attest.audit_chain import LogJudgement, judge_log
from tpmhsm.attest.audit_proof import LogProof, read_proof
from tpmhsm.cli.app import App
from tpmhsm.keys.auditing import Auditing
from tpmhsm.keys.host import load_host
from tpmhsm.policy.documents import encode_json
from tpmhsm.store.audit import GENESIS, entry_hash
from tpmhsm.tpm import objects, software
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.objects import Loaded

NONCE = b"the verifier's own"
FILES = 3
TOTAL = 1000
"""Signatures in the log of the original, files included."""


@dataclass
class Home:
    """A home with an open key `web`, whose chip audits."""

    app: App

    @classmethod
    def build(cls, home: Path) -> Home:
        """Auditing, then the key, files, and signatures up to `TOTAL`."""
        app = new_app(home)
        made = cls(app)
        assert made.auditing.start()
        app.keyring.create("web", "p256", policy="open")
        for number in range(FILES):
            app.desk.sign_file("web", b"file %d\n" % number, name=f"{number}.txt")
        made.sign(TOTAL - FILES)
        made.auditing.checkpoint()  # what is not certified, a stop would lose
        return made

    def copy(self, home: Path) -> Home:
        """The same at another place; this one must be closed and its chip stopped in order."""
        return Home(copied_app(self.app, home, "chip.journal"))

    @property
    def auditing(self) -> Auditing:
        """The audit of this home's chip."""
        return Auditing(self.app.store, self.app.device)

    def sign(self, count: int = 1) -> None:
        """As issuing does: many in one turn at the chip."""
        row, failures = self.app.keyring.get("web"), []
        with self.app.keyring.turns() as turns:
            for number in range(count):
                digest = sha256(b"%d of %d" % (number, count)).digest()
                turns.put(row, digest, lambda _, error: failures.append(error))
        assert failures == [None] * count

    def proof(self, nonce: bytes = NONCE) -> LogProof:
        """As `audit prove` writes it, and read again."""
        return read_proof(encode_json(self.auditing.prove(nonce).encode()))

    def judged(self, proof: LogProof | None = None, nonce: bytes = NONCE) -> LogJudgement:
        """As `audit verify` says it, with the chip's card at hand."""
        ak = load_host(self.app.store).ak_public
        return judge_log(self.proof() if proof is None else proof, ak, (), nonce)

    # ── root ─────────────────────────────────────────────────────────────────

    @contextmanager
    def raw(self) -> Iterator[Chip]:
        """The chip, with nothing of ours that writes a journal."""
        directory = software.directory_of(self.app.home)
        with software.lock_of(directory).held(10):
            door = software.connect(directory)
            chip = Chip(door)
            try:
                yield chip
            finally:
                chip.flush_all()
                door.close()

    def load(self, chip: Chip) -> Loaded:
        """The key out of the database."""
        row = self.app.keyring.get("web")
        return objects.load_key(chip, objects.storage_parent(chip), row.public, row.private)

    def sign_secretly(self, chip: Chip) -> bytes:
        """What the log must not hide."""
        digest = sha256(b"what nobody is to know").digest()
        return objects.sign_digest(chip, self.load(chip), digest)

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """The database file, without the guards that a root takes away first."""
        self.app.store.close()
        with closing(sqlite3.connect(self.app.home / "tpmhsm.db")) as db:
            names = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
            for (name,) in names:
                db.execute(f"DROP TRIGGER {name}")
            yield db
            db.commit()

    def rewrite(self, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        """The whole chain of the log anew, with every hash right."""
        with self.database() as db:
            db.row_factory = sqlite3.Row
            rows = [dict(row) for row in db.execute("SELECT * FROM audit ORDER BY seq")]
            prev = GENESIS
            db.execute("DELETE FROM audit")
            for seq, row in enumerate(change(rows), 1):
                row |= {"seq": seq, "prev": prev}
                prev = row["hash"] = entry_hash(row)
                db.execute(
                    "INSERT INTO audit (seq, at, actor, act, facts, prev, hash)"
                    " VALUES (:seq, :at, :actor, :act, :facts, :prev, :hash)",
                    row,
                )

    def kill_the_chip(self) -> None:
        """As a power failure does."""
        directory = software.directory_of(self.app.home)
        pid = software.state(directory).swtpm
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while software.running(directory):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def without(act: str, fact: str, value: str) -> Callable[[list[Any]], list[Any]]:
    """All entries but those of an act with a fact."""

    def change(rows: list[Any]) -> list[Any]:
        return [r for r in rows if r["act"] != act or json.loads(r["facts"]).get(fact) != value]

    return change
