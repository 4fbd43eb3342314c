"""The log and the chip's audit of it: several programs at once, kills, every kind of key."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from hashlib import new, sha256
from pathlib import Path

import pytest
from tests.attacks.logs import Home
from tests.tpm.conftest import end

from tpmhsm.attest.audit_records import Audited, Checkpoint
from tpmhsm.errors import NotFoundError, VerificationError
from tpmhsm.keys import auditing as module
from tpmhsm.keys.auditing import Auditing
from tpmhsm.keys.keyring import Keyring
from tpmhsm.tpm import software
from tpmhsm.tpm.journal import NAME

SIGNER = """
import sys
from hashlib import sha256
from pathlib import Path
from tpmhsm.cli.app import App

app = App(Path(sys.argv[1]), tpm="software")
row = app.keyring.get("web")
print("go", flush=True)
with app.keyring.turns() as turns:
    for number in range(int(sys.argv[2])):
        turns.put(row, sha256(b"%d" % number).digest(), lambda *_: None)
app.close()
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    if not shutil.which("swtpm_setup"):
        pytest.skip("swtpm and swtpm-tools are not installed")
    monkeypatch.setattr("tests.attacks.logs.TOTAL", 3)
    home = Home.build(tmp_path / "home")
    try:
        yield home
    finally:
        home.app.close()
        home.app.store.close()
        end(software.directory_of(home.app.home))


def signer(home: Home, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SIGNER, str(home.app.home), str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"go\n"
    return process


def test_several_programs_and_threads_sign_at_once(home: Home) -> None:
    """The journal is in the chip's order, whoever asked."""
    programs = [signer(home, 60) for _ in range(2)]
    threads = [threading.Thread(target=home.sign, args=(40,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for program in programs:
        assert program.wait(60) == 0
        assert program.stdout is not None
        program.stdout.close()
    judged = home.judged()
    assert (judged.answer, judged.signatures) == ("proven", 3 + 200), judged.words


def test_killed_programs_take_no_signature_with_them(home: Home) -> None:
    """Complete, or a signature was under way in the very moment: then it is not proven."""
    for round_ in range(4):
        program = signer(home, 100_000)
        time.sleep(0.5 + 0.07 * round_)
        os.kill(program.pid, signal.SIGKILL)
        program.wait()
        assert program.stdout is not None
        program.stdout.close()
    judged = home.judged()
    codes = {one.code for one in judged.findings}
    assert judged.signatures > 10
    assert judged.answer == "proven" or codes == {"unknown-signature"}, judged.words


class Pins:
    """Knows every PIN."""

    group = ""
    given = True

    def pin_of(self, label: str) -> bytes:
        return b"a secret"


def test_every_kind_of_key_is_in_it(home: Home) -> None:
    """With a PIN the digest goes to the chip encrypted."""
    ring = Keyring(home.app.store, home.app.device, Pins())
    for label, alg, policy, hash_name in (
        ("pin", "p256", "pin", "sha256"),
        ("p384", "p384", "open", "sha384"),
        ("rsa", "rsa2048", "open", "sha256"),
        ("rsa-pin", "rsa2048", "pin", "sha384"),
    ):
        pin = b"a secret" if policy == "pin" else b""
        row = ring.create(label, alg, policy=policy, hash_name=hash_name, pin=pin)
        for number in range(2):
            ring.sign_digest(row, new(hash_name, b"%d" % number).digest())
    proof = home.proof()
    judged = home.judged(proof)
    assert (judged.answer, judged.signatures) == ("proven", 11), judged.words
    encrypted = [r for r in proof.records if isinstance(r, Audited) and not r.is_plain]
    assert len(encrypted) == 4


def test_a_home_that_does_not_audit(home: Home) -> None:
    """Nothing is written down, and nothing can be proven (tests/cli/test_audit.py goes on)."""
    with home.database() as db:
        db.execute("DELETE FROM settings WHERE key = 'audit'")
    (home.app.home / NAME).unlink()
    assert not home.auditing.is_on()
    home.sign()
    home.auditing.collect()
    assert not (home.app.home / NAME).exists()
    with pytest.raises(NotFoundError) as caught:
        home.auditing.prove()
    assert caught.value.code == "audit-off"


def test_a_start_that_was_interrupted_goes_on(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each step that is on disk."""
    with home.database() as db:
        db.execute("DELETE FROM settings WHERE key = 'audit'")

    def stop(_: Auditing) -> None:
        raise KeyboardInterrupt

    for step in ("checkpoint", "collect"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Auditing, step, stop)
            home.auditing.start()
        assert not home.auditing.is_on()
    assert home.auditing.start()
    home.app.keyring.create("young", "p256", policy="open")
    assert home.judged().answer == "proven"


def test_the_journal_begins_anew_when_it_is_long(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LARGE", 1000)
    path = home.app.home / NAME
    first = path.read_bytes()[:60]
    home.sign(3)
    assert path.read_bytes()[:60] == first  # not before all of it is in the database
    home.auditing.checkpoint()
    home.auditing.checkpoint()
    assert path.read_bytes()[:60] != first
    home.sign(2)
    judged = home.judged()
    assert (judged.answer, judged.signatures) == ("proven", 8), judged.words


def test_a_checkpoint_is_due_an_hour_after(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not home.auditing.is_due()
    monkeypatch.setattr(module, "OLDEST", -1.0)
    os.utime(home.app.home / NAME, (time.time() + 60,) * 2)
    assert home.auditing.is_due()
    home.app.certify_the_log()
    os.utime(home.app.home / NAME, (time.time() - 60,) * 2)
    assert not home.auditing.is_due()


def test_a_checkpoint_is_two_commands(home: Home) -> None:
    """And one to look at the attestation key."""
    with home.app.device.transaction() as chip:
        before = chip.commands
    assert before == 0
    seen: list[int] = []
    real = type(home.app.device).transaction

    from contextlib import contextmanager

    @contextmanager
    def counting(self, timeout: float = 60.0):  # type: ignore[no-untyped-def]
        with real(self, timeout) as chip:
            yield chip
            seen.append(chip.commands)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(home.app.device), "transaction", counting)
        made = home.auditing.checkpoint()
    assert isinstance(made, Checkpoint)
    assert seen == [3]


def test_a_record_that_is_none_any_more_is_named(home: Home) -> None:
    home.auditing.collect()
    with home.database() as db:
        db.execute("UPDATE chip_records SET record = x'00' WHERE n = 5")
    with pytest.raises(VerificationError, match="record 5 of what the chip did was changed") as e:
        home.auditing.prove()
    assert e.value.code == "record-changed"
    assert sha256(b"").digest_size == 32
