"""Each noun on each database: what is kept comes back, what is taken is refused."""

import json
import re
from dataclasses import replace
from hashlib import sha256

import pytest

from tpmhsm.errors import ExistsError, NotFoundError, UsageError
from tpmhsm.store import to_json
from tpmhsm.store.authorities import AuthorityRow
from tpmhsm.store.certificates import CertificateRow
from tpmhsm.store.groups import GroupRow, RosterRow
from tpmhsm.store.keys import KeyRow
from tpmhsm.store.people import ApproverRow
from tpmhsm.store.requests import ApprovalRow, DenialRow, RequestRow

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
BLOB = bytes(range(256))


def key(label="root", **changes):
    row = KeyRow(
        label, "p256", "sha256", "sign", "open", b"\0pub", BLOB, "000b" + "11" * 32, b"spki"
    )
    return replace(row, **changes)


def group(name="officers", group_id="ab" * 32):
    return GroupRow(group_id, name, b'{"name":"x"}', 0x01800000, 0x01800001)


def certificate(sha="11" * 32, **changes):
    row = CertificateRow(
        sha,
        BLOB,
        "CN=a,O=Example",
        "CN=Example Root",
        "0a1b2c3d4e5f",
        "2026-01-01T00:00:00Z",
        "2027-01-01T00:00:00Z",
        "22" * 32,
    )
    return replace(row, **changes)


def request(**changes):
    return replace(RequestRow("certificate", 2, "33" * 32), **changes)


def test_settings_keep_json_values(tx):
    tx.settings.set("ak", {"name": "000b", "n": [1, None, "ü"]})
    tx.settings.set("ak", {"name": "000c"})
    tx.settings.set("a", 1)
    assert tx.settings.get("ak") == {"name": "000c"}
    assert tx.settings.all() == {"a": 1, "ak": {"name": "000c"}}
    assert tx.settings.remove("a") and not tx.settings.remove("a")
    assert tx.settings.get("a", "default") == "default"


def test_key_round_trip(store):
    with store.transaction() as tx:
        kept = tx.keys.add(key(creation_ticket=b"ticket"))
    with store.reading() as tx:
        assert tx.keys.get("root") == kept
        assert tx.keys.find_by_name(kept.name) == kept
        assert tx.keys.find_by_spki(sha256(b"spki").hexdigest()) == kept
        assert tx.keys.all() == [kept]
    assert kept.id == 1
    assert kept.private == BLOB
    assert RFC3339.fullmatch(kept.created)


def test_label_is_taken_until_its_key_is_deleted(tx):
    first = tx.keys.add(key())
    with pytest.raises(ExistsError, match="'root'"):
        tx.keys.add(key())
    gone = tx.keys.delete("root")
    assert (gone.state, gone.id) == ("deleted", first.id)
    second = tx.keys.add(key())
    assert second.id > first.id
    assert tx.keys.all() == [second]
    assert [k.state for k in tx.keys.all(deleted=True)] == ["deleted", "present"]
    with pytest.raises(NotFoundError):
        tx.keys.delete("other")


def test_rows_are_json_ready(tx):
    text = json.dumps(to_json(tx.keys.add(key())))
    assert json.loads(text)["public"] == "AHB1Yg=="


def test_one_key_stands_for_one_approver(tx):
    alice = ApproverRow("alice", b"card", b"spki", "000b01")
    kept = tx.approvers.add(alice)
    assert tx.approvers.add(alice) == kept
    with pytest.raises(ExistsError, match="another card"):
        tx.approvers.add(replace(alice, card=b"other", key_name="000b02"))
    with pytest.raises(ExistsError, match="already that of 'alice'"):
        tx.approvers.add(replace(alice, name="bob", card=b"other"))
    tx.approvers.remove("alice")
    assert tx.approvers.all() == []
    with pytest.raises(NotFoundError):
        tx.approvers.get("alice")


def test_trusted_cards(tx):
    one = tx.trusted.add("approver", "alice", b"one")
    assert tx.trusted.add("approver", "alice", b"one") == one
    two = tx.trusted.add("device", "host", b"two")
    assert tx.trusted.all() == [one, two]
    assert tx.trusted.all("device") == [two]
    assert tx.trusted.find(sha256(b"one").hexdigest()) == one
    with pytest.raises(NotFoundError):
        tx.trusted.remove(two.digest[:7])
    with pytest.raises(NotFoundError):
        tx.trusted.remove("%%%%%%%%")
    assert tx.trusted.remove(two.digest[:8].upper()) == [two]
    assert tx.trusted.remove("alice") == [one]


def test_group_name_is_free_again_after_failure(tx):
    kept = tx.groups.add(group())
    assert kept.state == "founding"
    with pytest.raises(ExistsError):
        tx.groups.add(group(group_id="cd" * 32))
    tx.groups.save(replace(kept, state="failed"))
    second = tx.groups.add(group(group_id="cd" * 32))
    assert tx.groups.get("officers") == second
    assert tx.groups.all() == [second]
    assert len(tx.groups.all(failed=True)) == 2
    assert tx.groups.get_by_id("ab" * 32).state == "failed"
    with pytest.raises(NotFoundError):
        tx.groups.get_by_id("ef" * 32)
    with pytest.raises(NotFoundError):
        tx.groups.save(group("x", "ef" * 32))


def test_one_roster_is_in_force(tx):
    tx.groups.add(group())
    gid = "ab" * 32
    for epoch, digest in ((1, "aa"), (2, "bb"), (2, "cc"), (3, "dd")):
        tx.rosters.add(RosterRow(gid, epoch, b"doc", digest))
    assert tx.rosters.in_force(gid) is None
    tx.rosters.put_in_force(gid, 1, "aa")
    tx.rosters.put_in_force(gid, 2, "cc")
    assert tx.rosters.in_force(gid).digest == "cc"
    assert [r.state for r in tx.rosters.all(gid)] == ["past", "past", "in-force", "proposed"]
    again = tx.rosters.add(RosterRow(gid, 2, b"doc", "cc"))
    assert again.state == "in-force"
    with pytest.raises(NotFoundError):
        tx.rosters.put_in_force(gid, 9, "aa")


def test_request_ids_increase_and_are_never_reused(store):
    with store.transaction() as tx:
        first = tx.requests.add(request())
        assert tx.requests.set_document(first.id, b"file").document == b"file"
    with store.transaction() as tx:
        second = tx.requests.add(request())
        tx._connection.exec_driver_sql(f"DELETE FROM requests WHERE id = {second.id}")
    with store.transaction() as tx:
        third = tx.requests.add(request())
    assert (first.id, second.id, third.id) == (1, 2, 3)


@pytest.mark.parametrize("bad", [0, -1, 1 << 63, 1 << 200])
def test_request_ids_beyond_all_bounds_are_not_found(tx, bad):
    with pytest.raises(NotFoundError):
        tx.requests.get(bad)


def test_only_a_waiting_request_can_change(tx):
    made = tx.requests.add(request())
    done = tx.requests.finish(made.id, "executed", {"certificate": "aa"})
    assert RFC3339.fullmatch(done.executed_at)
    assert tx.requests.get(made.id) == done
    for act in (
        lambda: tx.requests.finish(made.id, "denied"),
        lambda: tx.requests.set_document(made.id, b"x"),
        lambda: tx.requests.approve(ApprovalRow(made.id, "alice", "file", b"x")),
        lambda: tx.requests.deny(DenialRow(made.id, "alice", "no", b"x")),
    ):
        with pytest.raises(UsageError, match="executed already") as caught:
            act()
        assert caught.value.code == "request-closed"
    with pytest.raises(UsageError, match="cannot end"):
        tx.requests.finish(made.id, "waiting")
    assert tx.requests.all("waiting") == []
    assert tx.requests.all() == [done]


def test_requests_expire(tx):
    past = tx.requests.add(request(expires="2026-01-01T00:00:00Z"))
    tx.requests.add(request(expires="2099-01-01T00:00:00Z"))
    tx.requests.add(request())
    assert [r.id for r in tx.requests.expire()] == [past.id]
    assert tx.requests.get(past.id).state == "expired"
    assert len(tx.requests.all("waiting")) == 2


def test_one_answer_for_each_approver(tx):
    rid = tx.requests.add(request()).id
    alice = tx.requests.approve(ApprovalRow(rid, "alice", "file", b"yes"))
    assert tx.requests.approve(ApprovalRow(rid, "alice", "file", b"yes")) == alice
    with pytest.raises(ExistsError, match="alice has already approved"):
        tx.requests.approve(ApprovalRow(rid, "alice", "file", b"other"))
    with pytest.raises(ExistsError, match="alice has already approved"):
        tx.requests.deny(DenialRow(rid, "alice", "changed my mind", b"no"))
    bob = tx.requests.deny(DenialRow(rid, "bob", "wrong name", b"no"))
    assert tx.requests.deny(DenialRow(rid, "bob", "wrong name", b"no")) == bob
    with pytest.raises(ExistsError, match="bob has already denied"):
        tx.requests.approve(ApprovalRow(rid, "bob", "file", b"yes"))
    assert tx.requests.approvals(rid) == [alice]
    assert tx.requests.denials(rid) == [bob]
    with pytest.raises(NotFoundError):
        tx.requests.approve(ApprovalRow(rid + 1, "alice", "file", b"yes"))


def test_certificates_are_found_by_what_people_say(tx):
    one = tx.certificates.add(certificate(name="web", authority="issuing", source="issued"))
    two = tx.certificates.add(certificate("99" * 32, serial="0b", subject="CN=www.example.com"))
    for said in ("web", "CN=a,O=Example", "0A:1B:2C:3D:4E:5F", "a1b2c3d4e5f", "11" * 4, "1"):
        found = [tx.certificates.get(said)] if said != "a1b2c3d4e5f" else [one]
        assert found == [one], said
    assert tx.certificates.get("www.example.com") == two
    assert tx.certificates.all(authority="issuing") == [one]
    assert tx.certificates.all(spki_sha256="22" * 32) == [one, two]
    for said in ("", "%", "99" * 3, "CN=nobody", "7" * 40):
        with pytest.raises(NotFoundError):
            tx.certificates.get(said)
    tx.certificates.add(certificate("98" * 32, name="web"))
    with pytest.raises(UsageError, match="2 certificates") as caught:
        tx.certificates.get("web")
    assert caught.value.details["sha256"] == ["11" * 32, "98" * 32]


def test_a_deleted_certificate_comes_back_as_it_was(tx):
    one = tx.certificates.add(certificate(authority="issuing", source="issued"))
    tx.certificates.delete(one.sha256)
    assert tx.certificates.find(one.sha256) is None
    assert tx.certificates.all() == []
    with pytest.raises(NotFoundError):
        tx.certificates.delete(one.sha256)
    again = tx.certificates.add(certificate())
    assert (again.id, again.authority, again.source) == (one.id, "issuing", "issued")
    assert tx.certificates.add(certificate(name="other")).name == ""


def test_starting_over_drops_approvals(tx):
    rid = tx.requests.add(request()).id
    tx.requests.approve(ApprovalRow(rid, "alice", "file", b"yes"))
    tx.requests.start_over(rid, b"other file", 3)
    assert tx.requests.approvals(rid) == []
    assert (tx.requests.get(rid).document, tx.requests.get(rid).needed) == (b"other file", 3)


def test_authority_from_pending_to_active(tx):
    root = AuthorityRow("root-ca", "root", "root", "CN=Root", settings={"days": 3650})
    kept = tx.authorities.add(root)
    assert (kept.state, kept.certificate) == ("pending", None)
    with pytest.raises(ExistsError):
        tx.authorities.add(root)
    with pytest.raises(NotFoundError):
        tx.authorities.activate("other", "11" * 32)
    tx.certificates.add(certificate(is_ca=True))
    active = tx.authorities.activate("root-ca", "11" * 32)
    assert active.state == "active" and active.settings == {"days": 3650}
    sub = tx.authorities.add(AuthorityRow("sub", "k", "intermediate", "CN=S", issuer="root-ca"))
    assert tx.authorities.all() == [active, sub]
    tx.authorities.remove_pending("sub")
    with pytest.raises(UsageError):
        tx.authorities.remove_pending("root-ca")
    assert tx.authorities.all() == [active]


def test_a_serial_is_used_once_for_ever(tx):
    rid = tx.requests.add(request()).id
    one = tx.serials.reserve("root-ca", "0a", b"tbs", rid)
    assert one.tbs_sha256 == sha256(b"tbs").hexdigest() and one.state == "reserved"
    with pytest.raises(ExistsError):
        tx.serials.reserve("root-ca", "0a", b"other")
    tx.serials.reserve("other-ca", "0a", b"tbs")
    assert tx.serials.issued("root-ca", "0a").state == "issued"
    assert tx.serials.issued("root-ca", "0a").state == "issued"
    with pytest.raises(UsageError, match="issued already"):
        tx.serials.abandoned("root-ca", "0a")
    tx.serials.abandoned("other-ca", "0a")
    with pytest.raises(ExistsError):
        tx.serials.reserve("other-ca", "0a", b"tbs")
    with pytest.raises(NotFoundError):
        tx.serials.issued("root-ca", "0b")
    assert [s.authority for s in tx.serials.all(state="abandoned")] == ["other-ca"]
    assert len(tx.serials.all(authority="root-ca")) == 1
