"""Whether the log hides a signature: root changes database, journal and chip, and each is named.

The claim is "each signature that the chip made is in the log". `proven` must never be said where it
is not so; what cannot be told from an accident (a crash, a power failure) is `not-proven`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.attacks.conftest import checked
from tests.attacks.logs import FILES, NONCE, TOTAL, Home, without
from tests.attacks.test_commands import partial_certificate

from tpmhsm.attest.audit_chain import LogJudgement, judge_log
from tpmhsm.attest.audit_records import (
    SIGNING,
    Audited,
    Checkpoint,
    anchor,
    read_record,
    still_there,
)
from tpmhsm.keys.host import load_host
from tpmhsm.store import Store
from tpmhsm.tpm import audit, objects, software
from tpmhsm.wire.attest import Attest
from tpmhsm.wire.codec import decode, encode
from tpmhsm.wire.commands import (
    CertifyX509,
    Clear,
    CreatePrimary,
    SetCommandCodeAuditStatus,
    Shutdown,
)
from tpmhsm.wire.constants import ALG, CC, RH, SU, ObjectAttributes
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import NULL_SCHEME, CreationData, SensitiveCreate


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Closed; its chip was stopped in order, so that copies go on from there."""
    if not shutil.which("swtpm_setup"):
        pytest.skip("swtpm and swtpm-tools are not installed")
    with checked(Home.build(tmp_path_factory.mktemp("log") / "home")) as home:
        pass
    return home


@pytest.fixture
def home(original: Home, tmp_path: Path) -> Iterator[Home]:
    """A home of one's own, with a thousand signatures, all certified."""
    with checked(original.copy(tmp_path / "home")) as home:
        yield home


def is_named(judged: LogJudgement, answer: str, code: str, words: str) -> None:
    """This finding, this answer, and the words say what happened."""
    codes = [one.code for one in judged.findings]
    assert (judged.answer, code in codes) == (answer, True), (codes, judged.words)
    assert words in judged.words, judged.words
    assert "complete" not in judged.words


def test_a_thousand_signatures_are_proven(home: Home) -> None:
    """No tampering: complete, over stops in order, and over checkpoints between."""
    judged = home.judged()
    assert (judged.answer, judged.signatures, judged.findings) == ("proven", TOTAL, ())
    assert judged.words.startswith(f"complete: each of the {TOTAL:,} signatures")
    software.stop(software.directory_of(home.app.home))
    home.sign(4)
    home.auditing.checkpoint()
    with home.raw() as chip:  # as a machine with a chip of its own is switched off
        chip.send(Shutdown(SU.CLEAR))
    home.kill_the_chip()
    home.sign(3)
    judged = home.judged()
    assert (judged.answer, judged.signatures) == ("proven", TOTAL + 7), judged.words


def test_a_signature_is_left_out(home: Home) -> None:
    """Its record is removed from the database: the gap is named (record-removed)."""
    home.auditing.collect()
    with home.database() as db:
        db.execute("DELETE FROM chip_records WHERE n = 500")
    is_named(home.judged(), "refuted", "record-removed", "record 500 of what the chip did")


@pytest.mark.parametrize("entry", [True, False], ids=["with its entry", "without"])
def test_a_signature_is_left_out_and_the_rest_numbered_anew(home: Home, entry: bool) -> None:
    """The entry that says what it was over is still there (signature-removed); or that is taken
    out as well, and nobody knows what it was (unknown-signature).
    """
    home.auditing.collect()
    with home.database() as db:
        digest, number = db.execute(
            "SELECT digest, n FROM chip_records WHERE digest != '' ORDER BY n"
        ).fetchone()
        db.execute("DELETE FROM chip_records WHERE n = ?", [number])
        db.execute("UPDATE chip_records SET n = -n WHERE n > ?", [number])
        db.execute("UPDATE chip_records SET n = -n - 1 WHERE n < 0")
    if entry:
        is_named(home.judged(), "refuted", "signature-removed", "a signature was removed between")
    else:
        home.rewrite(without("signed", "digest", digest))
        is_named(home.judged(), "refuted", "unknown-signature", "the log was written anew")


def test_root_signs_past_the_log(home: Home) -> None:
    """TPM2_Sign by raw commands, which nothing writes down (unknown-signature)."""
    with home.raw() as chip:
        home.sign_secretly(chip)
    words = "something that this log does not know signed between"
    home.sign()
    is_named(home.judged(), "not-proven", "unknown-signature", words)


def test_root_certifies_with_an_open_key(home: Home) -> None:
    """TPM2_CertifyX509 is audited as well (unknown-signature)."""
    with home.raw() as chip:
        key = home.load(chip)
        ak = objects.attestation_key(chip)
        partial = partial_certificate()
        chip.send(CertifyX509(ak.handle, key.handle, b"", NULL_SCHEME, partial))
    is_named(home.judged(), "not-proven", "unknown-signature", "something that this log does not")


def test_a_record_is_changed(home: Home) -> None:
    """Another digest in the place of the true one (signature-changed)."""
    home.auditing.collect()
    with home.database() as db:
        (data,) = db.execute("SELECT record FROM chip_records WHERE n = 700").fetchone()
        record = read_record(data)
        assert isinstance(record, Audited)
        other = b"\xee" * 32
        forged = record._replace(digest=other, sent=record.sent.replace(record.digest, other))
        told = [forged.encode(), other.hex()]
        db.execute("UPDATE chip_records SET record = ?, digest = ? WHERE n = 700", told)
    is_named(home.judged(), "refuted", "signature-changed", "record 700 was changed: no signature")


def test_a_record_is_added(home: Home) -> None:
    """A signature that the chip made elsewhere, or twice in the log (record-added)."""
    home.auditing.collect()
    with home.database() as db:
        db.execute("UPDATE chip_records SET n = -n WHERE n > 300")
        db.execute("UPDATE chip_records SET n = 1 - n WHERE n < 0")
        db.execute(
            "INSERT INTO chip_records (n, key_name, digest, record)"
            " SELECT 301, key_name, digest, record FROM chip_records WHERE n = 300"
        )
    is_named(home.judged(), "refuted", "record-added", "was added: the chip never did that")


def test_records_are_reordered(home: Home) -> None:
    """Two neighbours exchanged (record-moved)."""
    home.auditing.collect()
    with home.database() as db:
        for one, two in ((400, -1), (401, 400), (-1, 401)):
            db.execute("UPDATE chip_records SET n = ? WHERE n = ?", [two, one])
    is_named(home.judged(), "refuted", "record-moved", "records 400 and 401 were exchanged")


def test_an_entry_is_changed(home: Home) -> None:
    """In its place (entry-changed), and with all hashes after it made right (log-rewritten)."""
    home.auditing.checkpoint()
    with home.database() as db:
        db.execute("UPDATE audit SET actor = 'somebody else' WHERE act = 'key-create'")
    is_named(home.judged(), "refuted", "entry-changed", "of the log (key-create, ")
    home.rewrite(lambda rows: rows)
    is_named(home.judged(), "refuted", "log-rewritten", "the log was written anew up to entry")


def test_an_entry_is_removed(home: Home) -> None:
    """As it is (entry-removed), and with the rest made right (log-rewritten)."""
    home.auditing.checkpoint()
    with home.database() as db:
        (seq,) = db.execute("SELECT seq FROM audit WHERE act = 'key-create'").fetchone()
        db.execute("DELETE FROM audit WHERE seq = ?", [seq])
    is_named(home.judged(), "refuted", "entry-removed", f"entry {seq} of the log was removed")
    home.rewrite(lambda rows: rows)
    is_named(home.judged(), "refuted", "log-rewritten", "the log was written anew up to entry")


def test_entries_are_reordered(home: Home) -> None:
    """Two exchanged in their places (entry-changed), or made right (log-rewritten)."""
    home.auditing.checkpoint()
    with home.database() as db:
        one, two = (s for (s,) in db.execute("SELECT seq FROM audit WHERE act = 'signed' LIMIT 2"))
        for here, there in ((one, -1), (two, one), (-1, two)):
            db.execute("UPDATE audit SET seq = ? WHERE seq = ?", [there, here])
    is_named(home.judged(), "refuted", "entry-changed", f"entry {one} of the log (signed, ")
    home.rewrite(lambda rows: rows)
    is_named(home.judged(), "refuted", "log-rewritten", "the log was written anew up to entry")


def test_the_log_is_cut_at_its_end(home: Home) -> None:
    """Everything after a checkpoint, from both tables, with the hashes right: the chip counts
    checkpoints, those without a signature between them as well (checkpoint-removed).
    """
    home.auditing.checkpoint()
    with home.database() as db:
        (entry,) = db.execute("SELECT max(seq) FROM audit").fetchone()
        (record,) = db.execute("SELECT max(n) FROM chip_records").fetchone()
    with home.app.store.transaction() as tx:
        tx.audit.append("trust-add", {"name": "what is to be forgotten"})
    home.auditing.checkpoint()
    with home.database() as db:
        db.execute("DELETE FROM audit WHERE seq > ?", [entry])
        db.execute("DELETE FROM chip_records WHERE n > ?", [record])
    is_named(home.judged(), "refuted", "checkpoint-removed", "a checkpoint is missing between")


@pytest.mark.parametrize("journal", [True, False], ids=["with the journal", "without"])
def test_the_database_is_restored_from_a_backup(home: Home, journal: bool) -> None:
    """The chip is ahead: its checkpoints know entries that are gone (log-cut), or are gone
    themselves (checkpoint-removed).
    """
    home.auditing.checkpoint()
    home.app.store.close()
    backup = home.app.home / "backup"
    shutil.copy(home.app.home / "tpmhsm.db", backup)
    home.app.desk.sign_file("web", b"what is to be forgotten\n", name="x")
    home.auditing.checkpoint()
    home.app.store.close()
    for path in home.app.home.glob("tpmhsm.db*"):
        path.unlink()
    shutil.copy(backup, home.app.home / "tpmhsm.db")
    home.app.__dict__["store"] = Store.open(home.app.home)
    if journal:
        is_named(home.judged(), "refuted", "log-cut", "or its database restored from an older back")
    else:
        (home.app.home / "chip.journal").unlink()
        words = "the log was cut or its database restored from a backup"
        is_named(home.judged(), "refuted", "checkpoint-removed", words)


def test_auditing_is_switched_off_and_on(home: Home) -> None:
    """TPM2_SetCommandCodeAuditStatus is audited itself (audit-off)."""
    with home.raw() as chip:
        chip.send(SetCommandCodeAuditStatus(RH.OWNER, ALG.SHA256, (), SIGNING))
        home.sign_secretly(chip)
        audit.mark(chip)
    home.sign(3)
    words = "auditing was switched off right after"
    is_named(home.judged(), "not-proven", "audit-off", words)


def test_auditing_is_switched_off(home: Home) -> None:
    """The next checkpoint switches it on again, which hides nothing (audit-off)."""
    home.auditing.checkpoint()
    with home.raw() as chip:
        chip.send(SetCommandCodeAuditStatus(RH.OWNER, ALG.SHA256, (), SIGNING[:1]))
        home.sign_secretly(chip)
    home.sign(3)
    is_named(home.judged(), "not-proven", "audit-off", "auditing was switched off right after")


def test_the_hash_of_the_audit_is_changed_and_back(home: Home) -> None:
    """That empties the chip's digest, and a count goes up (checkpoint-removed)."""
    home.auditing.checkpoint()
    with home.raw() as chip:
        home.sign_secretly(chip)
        for alg in (ALG.SHA384, ALG.SHA256):
            chip.send(SetCommandCodeAuditStatus(RH.OWNER, alg, (), ()))
    words = "or somebody else took the chip's audit"
    is_named(home.judged(), "refuted", "checkpoint-removed", words)


def test_root_takes_the_audit_before_the_log_does(home: Home) -> None:
    """TPM2_GetCommandAuditDigest with a key of root's own empties it (checkpoint-removed)."""
    home.auditing.checkpoint()
    with home.raw() as chip:
        home.sign_secretly(chip)
        chip.flush_all()
        audit.take(chip, home.load(chip), b"for nobody")
    words = "or somebody else took the chip's audit"
    is_named(home.judged(), "refuted", "checkpoint-removed", words)


def test_the_chip_is_reset(home: Home) -> None:
    """A kill -9 of the chip between checkpoints: what was signed before is not proven, and the
    rest fits again (chip-reset).
    """
    home.sign()
    home.kill_the_chip()
    home.sign(2)
    judged = home.judged()
    is_named(judged, "not-proven", "chip-reset", "the chip was reset between")
    assert "the records from 1008 on fit again" in judged.words
    assert judged.answer != "proven"


def test_the_chip_is_reset_right_after_a_checkpoint(home: Home) -> None:
    """The count fits; a chip whose power failed may not have written all of it (chip-reset)."""
    home.auditing.checkpoint()
    home.kill_the_chip()
    home.sign(2)
    is_named(home.judged(), "not-proven", "chip-reset", "the chip was reset without notice between")


def test_a_reset_hides_no_signature(home: Home) -> None:
    """A secret signature right after a checkpoint, then a reset (chip-reset)."""
    home.auditing.checkpoint()
    with home.raw() as chip:
        home.sign_secretly(chip)
    home.kill_the_chip()
    home.sign(2)
    is_named(home.judged(), "not-proven", "chip-reset", "the chip was reset between")


def test_a_saved_state_hides_no_signature(home: Home) -> None:
    """TPM2_Shutdown(STATE) saves the audit digest; a secret signature after it, then the power cut:
    the chip goes on with the digest of before, which fits (chip-restarted).
    """
    home.auditing.checkpoint()
    home.sign(2)
    with home.raw() as chip:
        chip.send(Shutdown(SU.STATE))
        home.sign_secretly(chip)
    home.kill_the_chip()
    home.sign()
    words = "the chip was stopped with its state saved, and started again, between"
    is_named(home.judged(), "not-proven", "chip-restarted", words)


def test_a_saved_state_after_a_reset_hides_no_signature(home: Home) -> None:
    """The same where a reset in order is to hide the restart (chip-restarted)."""
    home.auditing.checkpoint()
    with home.raw() as chip:
        chip.send(Shutdown(SU.CLEAR))
    home.kill_the_chip()
    home.sign()
    with home.raw() as chip:
        chip.send(Shutdown(SU.STATE))
        home.sign_secretly(chip)
    home.kill_the_chip()
    assert "chip-restarted" in [one.code for one in home.judged().findings]
    assert home.judged().answer == "not-proven"


def test_a_key_shown_with_another_public_area(home: Home) -> None:
    """Shown as one that signs nothing, so that nobody asks when it was made (key-forged)."""
    proof = home.proof()
    key = proof.keys[0]
    area = decode(Public, key.public)
    attributes = area.attributes & ~ObjectAttributes.SIGN | ObjectAttributes.DECRYPT
    shown = replace(key, public=encode(area.replace(attributes=attributes)), data=b"")
    forged, ak = replace(proof, keys=(shown,)), load_host(home.app.store).ak_public
    for names in ((), (key.name,)):
        judged = judge_log(forged, ak, names, NONCE)
        is_named(judged, "not-proven", "key-forged", "its public area has another Name")


def test_a_parent_that_outlives_a_clear(home: Home) -> None:
    """A storage key of the endorsement hierarchy, which TPM2_Clear does not take away, shown as the
    keys' parent (chip-cleared).
    """
    proof = home.proof()
    last = proof.records[-1]
    assert isinstance(last, Checkpoint)
    with home.raw() as chip:
        template = objects.storage_parent(chip).public
        made = chip.send(CreatePrimary(RH.ENDORSEMENT, SensitiveCreate(), template, b"", ()))
        other = objects.Loaded(made.object_handle, made.out_public, made.name)
        ak = objects.attestation_key(chip)
        said = audit.certify(chip, ak, other, still_there(NONCE, last.attest))
        early = audit.certify(chip, ak, other, still_there(b"", b""))
        chip.flush_all()
    facts = {"attest": early.attest.hex(), "signature": early.signature.hex()}
    entries = tuple(
        replace(one, facts=json.dumps(facts)) if one.act == "audit-on" else one
        for one in proof.entries
    )
    forged = replace(proof, parent=replace(proof.parent, **vars(said)), entries=entries)
    codes = [one.code for one in home.judged(forged).findings]
    assert "chip-cleared" in codes, codes
    gone = replace(proof.keys[0], data=encode(parented(proof.keys[0].data, made.name)))
    judged = home.judged(replace(proof, keys=(gone,)))
    assert "chip-cleared" in [one.code for one in judged.findings]


def parented(data: bytes, parent: bytes) -> CreationData:
    """A key's creation under another parent, as the host may write it."""
    return decode(CreationData, data).replace(parent_name=parent)


def test_the_chip_is_cleared_and_its_counter_brought_back(home: Home) -> None:
    """TPM2_Clear sets the counter to 0, and the attestation key comes back with its old Name; the
    keys' parent never does (chip-cleared).
    """
    before = home.proof()
    last = before.records[-1]
    assert isinstance(last, Checkpoint)
    told = decode(Attest, last.attest).attested
    nonce = b"a nonce of later"
    with home.raw() as chip:
        home.sign_secretly(chip)
        chip.flush_all()
        chip.send(Clear(RH.LOCKOUT))
        audit.switch_on(chip)
        ak, parent = objects.attestation_key(chip), objects.storage_parent(chip)
        assert encode(ak.public) == before.ak
        while decode(Attest, audit.take(chip, ak, b"").attest).attested.audit_counter < (
            told.audit_counter
        ):
            audit.mark(chip)
        audit.mark(chip)
        said = audit.take(chip, ak, anchor(last.seq, last.head, nonce))
        again = Checkpoint(last.at, last.seq, last.head, nonce, said.attest, said.signature)
        new = audit.certify(chip, ak, parent, still_there(nonce, said.attest))
        chip.flush_all()
    mark = next(r for r in reversed(before.records) if isinstance(r, Audited))
    forged = replace(
        before,
        nonce=nonce,
        records=(*before.records, mark, again),
        numbers=(*before.numbers, *(before.numbers[-1] + n for n in (1, 2))),
    )
    for statement in (before.parent, replace(before.parent, **vars(new))):
        judged = home.judged(replace(forged, parent=statement), nonce)
        is_named(judged, "not-proven", "chip-cleared", "that the chip was not cleared meanwhile")


def test_a_checkpoint_is_forged(home: Home) -> None:
    """By another key, or with another counter (checkpoint-forged)."""
    proof = home.proof()
    last = proof.records[-1]
    assert isinstance(last, Checkpoint)
    for forged in (
        replace(last, attest=last.attest[:-70] + bytes([last.attest[-70] ^ 1]) + last.attest[-69:]),
        replace(last, signature=last.signature[:-1] + bytes([last.signature[-1] ^ 1])),
        replace(last, head=bytes(32)),
    ):
        judged = home.judged(replace(proof, records=(*proof.records[:-1], forged)))
        is_named(judged, "refuted", "checkpoint-forged", "is not the chip's word")


def test_a_checkpoint_is_asked_for_twice(home: Home) -> None:
    """Over a log that was written anew, when the chip has just been asked (checkpoint-forged)."""
    proof = home.proof()
    last = proof.records[-1]
    assert isinstance(last, Checkpoint)
    with home.raw() as chip:
        ak = objects.attestation_key(chip, load_host(home.app.store).ak_name)
        said = audit.take(chip, ak, anchor(last.seq, last.head, NONCE))
    again = replace(last, attest=said.attest, signature=said.signature)
    twice = replace(
        proof,
        records=(*proof.records, again),
        numbers=(*proof.numbers, proof.numbers[-1] + 1),
    )
    is_named(home.judged(twice), "refuted", "checkpoint-forged", "asked for a second time")
    judged = home.judged(replace(proof, records=(*proof.records[:-1], again)))
    assert judged.answer != "proven"


def test_an_old_proof_is_shown(home: Home) -> None:
    """From before what is to be hidden (stale)."""
    old = home.proof(b"another nonce")
    with home.raw() as chip:
        home.sign_secretly(chip)
    is_named(home.judged(old), "not-proven", "stale", "it may be an old proof")


def test_a_key_is_older_than_the_log(home: Home) -> None:
    """Its mark is that of no checkpoint, whatever the log says of its making (key-before-log)."""
    row = home.app.keyring.get("web")
    with home.app.device.transaction() as chip:
        parent = objects.storage_parent(chip)
        made = objects.create_key(chip, parent, "p256", None)
        loaded = objects.load_key(chip, parent, made.public, made.private)
        objects.sign_digest(chip, loaded, bytes(32))  # before the checkpoint below
        ak = objects.attestation_key(chip)
        born = objects.certify_creation(chip, ak, loaded, made, b"")
        chip.flush_all()
    proof = home.proof()
    key = replace(
        proof.keys[0],
        name=made.name,
        public=made.public,
        data=made.creation_data,
        creation=replace(proof.keys[0].creation, **vars(born)),
    )
    judged = home.judged(replace(proof, keys=(key,)))
    is_named(judged, "not-proven", "key-before-log", "key 'web' was made before the log")
    other = replace(key, data=proof.keys[0].data)  # the mark of an honest key
    is_named(home.judged(replace(proof, keys=(other,))), "not-proven", "key-forged", "another")
    assert row.name == proof.keys[0].name.hex()


def test_the_files_are_among_the_signatures(home: Home) -> None:
    """What the log says was signed is what the chip signed: counted, with nothing left over."""
    judged = home.judged()
    words = f"of the signatures {FILES} are over certificates and CRLs of this proof, or files"
    assert any(note.startswith(words) for note in judged.notes)
    assert CC.Sign in SIGNING
