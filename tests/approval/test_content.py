"""The bytes: refused, or shown with what deserves a second look."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.approval.doubles import (
    NOW,
    World,
    builder,
    csr_info,
    leaf_tbs,
    root_tbs,
    tbs_of,
)
from tests.approval.looking import founded, heads, look, refused

from tpmhsm.approval.acts import acts_of
from tpmhsm.approval.memory import Certified
from tpmhsm.approval.request import Claims
from tpmhsm.policy.group import RosterDocument

# ── content ──────────────────────────────────────────────────────────────────────────────────────


def test_content_of_another_kind_is_refused(world: World) -> None:
    memory = founded(world)
    tbs, info = root_tbs(world.key), csr_info(world.key)
    refused(world.certificate(info), memory, "content-refused")
    refused(world.request("csr", tbs), memory, "content-refused")
    refused(world.certificate(b"hello"), memory, "content-refused")
    refused(world.certificate(tbs + b"\0"), memory, "content-refused")
    refused(world.certificate(tbs[:-1]), memory, "content-refused")
    assert look(world.request("csr", info), memory).acts


def test_a_csr_for_another_key_is_refused(world: World) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    refused(world.request("csr", csr_info(other)), founded(world), "content-refused")


def test_a_certificate_that_cannot_be_shown_in_full_is_refused(world: World) -> None:
    made = builder(world.key.public_key(), "Root", "Root").add_extension(
        x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.30"), b"\x05\x00"), critical=True
    )
    refused(world.certificate(tbs_of(made, world.key)), founded(world), "content-refused")


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(32)),
        b"\xff" * 48,
        b"a" * 0 + b"\x80" * 64,
        b"\x80" * 20,
        sha256(b"x").hexdigest().encode() + b"\n",
        bytes.fromhex("3031300d060960864801650304020105000420") + bytes(32),
    ],
)
def test_bare_digests_are_refused_as_data(world: World, data: bytes) -> None:
    refused(world.request("data", data), founded(world), "bare-digest")


def test_structures_are_refused_as_data(world: World) -> None:
    memory = founded(world)
    tbs = root_tbs(world.key)
    refused(world.request("data", tbs), memory, "structure-as-data")
    refused(world.request("data", sha256(tbs).digest()), memory, "bare-digest")
    refused(world.request("data", csr_info(world.key)), memory, "structure-as-data")
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.Name([]))
        .last_update(NOW)
        .next_update(NOW + timedelta(days=1))
        .sign(world.key, hashes.SHA256())
    )
    refused(world.request("data", crl.tbs_certlist_bytes), memory, "structure-as-data")
    attest = world.chip.creation(world.key_part().public)[0]
    refused(world.request("data", attest), memory, "attestation-as-data")
    statement = b"tpmhsm/card/1\0" + b"{}" * 100
    refused(world.request("data", statement), memory, "statement-as-data")
    assert look(world.request("data", b"hello"), memory).acts
    assert look(world.request("data", bytes(range(33))), memory).acts


def test_a_key_that_this_home_does_not_know_is_said(world: World) -> None:
    """It might be an authority's whose certificates others approved."""
    memory = founded(world)
    request = world.request("data", b"hello")
    checked = look(request, memory)
    assert "NEW KEY" in {flag.head for flag in checked.content.flags}
    memory.keep(checked.entries)
    assert "NEW KEY" not in {flag.head for flag in look(request, memory).content.flags}


def test_an_authoritys_key_signs_no_data(world: World) -> None:
    memory = founded(world)
    memory.keep(look(world.certificate(), memory).entries)
    refused(world.request("data", b"hello"), memory, "authority-key")


def test_what_deserves_a_second_look_is_said(world: World) -> None:
    found = heads(world, world.certificate())
    assert found["CA:TRUE"] == "can issue any name"
    assert "NO PATHLEN" not in found  # a root's usual shape
    made = builder(ec.generate_private_key(ec.SECP256R1()).public_key(), "Sub", "Example Root")
    for length, head in ((None, "NO PATHLEN"), (2, "PATHLEN 2"), (0, "CA:TRUE")):
        sub = made.add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
        assert head in heads(world, world.certificate(tbs_of(sub, world.key)))
    wild = leaf_tbs(world.key, [x509.DNSName("*.example.com")], days=4000)
    found = heads(
        world, world.certificate(wild, claims=Claims(profile="tls-server", profile_days=90))
    )
    assert "*.example.com" in found["WILDCARD"]
    assert found["4,000 DAYS"] == "profile says 90"
    found = heads(
        world, world.certificate(leaf_tbs(world.key, [x509.DNSName("a.example")], days=500))
    )
    assert "398" in found["500 DAYS"]


def test_dates_are_judged_by_the_approvers_own_time(world: World) -> None:
    """The host's `created` would make an old certificate look like a new one."""
    long_ago = NOW - timedelta(days=20)
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    for days, heads_expected in ((90, {"BACKDATED"}), (10, {"BACKDATED", "EXPIRED"})):
        made = builder(public, "www", "Example Root")
        made._not_valid_before = long_ago.replace(tzinfo=None)
        made._not_valid_after = (long_ago + timedelta(days=days)).replace(tzinfo=None)
        request = world.certificate(tbs_of(made, world.key), created=long_ago)
        assert heads_expected <= heads(world, request).keys()
    now = heads(world, world.certificate(tbs_of(builder(public, "www", "Root"), world.key)))
    assert not {"BACKDATED", "EXPIRED"} & now.keys()


def test_hidden_and_look_alike_names_are_said(world: World) -> None:
    for subject, word in (
        ("www\u202egnp.exe", "\\u{202e}"),
        ("pаypal", "CYRILLIC"),  # a Cyrillic а
        ("раураӏ", "looks like Latin"),
    ):
        content = leaf_tbs(world.key, [x509.DNSName("a.example")], subject=subject)
        found = heads(world, world.certificate(content))
        assert word in found["LOOK-ALIKE"]
    content = leaf_tbs(world.key, [x509.DNSName("xn--80ak6aa92e.com")])
    assert "'аррӏе'" in heads(world, world.certificate(content))["LOOK-ALIKE"]


def test_unknown_critical_extensions_are_said(world: World) -> None:
    made = builder(world.key.public_key(), "Root", "Root").add_extension(
        x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), critical=True
    )
    found = heads(world, world.certificate(tbs_of(made, world.key)))
    assert "1.2.3.4" in found["UNKNOWN"]
    checked = look(world.certificate(tbs_of(made, world.key)), founded(world))
    assert "1.2.3.4 (critical) = 0500" in [row.text for row in checked.content.rows]


def test_a_key_that_was_certified_before_is_said(world: World) -> None:
    memory = founded(world)
    content = root_tbs(world.key)
    checked = look(world.certificate(content), memory)
    memory.keep(checked.entries)
    made = builder(world.key.public_key(), "Other", "Other")
    found = heads(world, world.certificate(tbs_of(made, world.key)), memory)
    assert "Example Root" in found["KNOWN KEY"]


def test_an_issuer_name_that_is_not_the_keys_is_said(world: World) -> None:
    memory = founded(world)
    memory.keep(look(world.certificate(), memory).entries)
    made = builder(ec.generate_private_key(ec.SECP256R1()).public_key(), "www", "Somebody Else")
    found = heads(world, world.certificate(tbs_of(made, world.key)), memory)
    assert "Example Root" in found["ISSUER"]


def test_the_hosts_lies_are_said(world: World) -> None:
    claims = Claims(
        texts={"subject": "CN=Harmless", "not_after": "2027-01-01T00:00:00Z", "digest": "00"}
    )
    checked = look(world.certificate(claims=claims), founded(world))
    said = [f.text for f in (*checked.flags, *checked.content.flags) if f.head == "CLAIM"]
    assert len(said) == 3
    part = replace(world.key_part(), policy="open")
    assert "open" in heads(world, world.certificate(key=part))["CLAIM"]


def test_differences_to_the_csr_are_said(world: World) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding
    from tests.approval.doubles import csr_der

    key = ec.generate_private_key(ec.SECP256R1())
    made = builder(key.public_key(), "www", "Example Root").add_extension(
        x509.SubjectAlternativeName([x509.DNSName("a.example"), x509.DNSName("b.example")]), False
    )
    content = tbs_of(made, world.key)
    csr = csr_der(key, "www", [x509.DNSName("a.example"), x509.DNSName("c.example")])
    found = heads(world, world.certificate(content, claims=Claims(csr=csr)))
    assert found["CSR"] == "+ dns:b.example, − dns:c.example"
    same = csr_der(key, "www", [x509.DNSName("a.example"), x509.DNSName("b.example")])
    assert "CSR" not in heads(world, world.certificate(content, claims=Claims(csr=same)))
    other = csr_der(world.key, "www", [])
    assert "KEY" in heads(world, world.certificate(content, claims=Claims(csr=other)))
    broken = csr[:-1] + bytes([csr[-1] ^ 1])
    assert "not hold" in heads(world, world.certificate(content, claims=Claims(csr=broken)))["CSR"]
    issuer = made.sign(world.key, hashes.SHA256()).public_bytes(Encoding.DER)
    assert "ISSUER" in heads(world, world.certificate(content, claims=Claims(issuer=issuer)))


def test_what_is_remembered_is_what_was_approved(world: World) -> None:
    memory = founded(world)
    assert memory.epochs(world.group.id) == {0: world.group.id, 1: world.roster.hash}
    checked = look(world.certificate(), memory)
    assert memory.pinned_key(checked.acts[0].bound.names[0]) is None  # nothing before the approval
    memory.keep(checked.entries)
    assert memory.pinned_key(checked.acts[0].bound.names[0]) is not None
    (spki,) = {c.spki_sha256 for c in checked.entries.certified}
    assert memory.certified(spki) == [Certified(spki, "CN=Example Root,O=Example", True)]


def test_acts_of_other_groups_or_epochs_differ(world: World) -> None:
    other = World()
    other.key = world.key
    mine, theirs = acts_of(world.certificate())[0], acts_of(other.certificate())[0]
    assert mine.policy_ref != theirs.policy_ref
    world.roster = RosterDocument(world.group.id, 2, (world.officers,))
    assert acts_of(world.certificate())[0].policy_ref != mine.policy_ref


def test_weak_keys_and_strange_names_are_said(world: World) -> None:
    """A host that skips its own checks gains nothing: the same ones are made here."""
    names = [x509.DNSName("intranet"), x509.IPAddress(ip_address("::ffff:8.8.8.8"))]
    tbs = leaf_tbs(world.key, names, days=90)
    flags = look(world.certificate(tbs), founded(world)).content.flags
    said = {(flag.head, flag.text) for flag in flags}
    assert any(head == "NAME" and "internal name" in text for head, text in said)
    assert any(head == "NAME" and "IPv6 clothes" in text for head, text in said)
    weak = rsa.generate_private_key(3, 2048).public_key()
    made = builder(weak, "Sub", "Example Root")
    assert "exponent" in heads(world, world.certificate(tbs_of(made, world.key)))["WEAK KEY"]
    good = leaf_tbs(world.key, [x509.DNSName("www.example.com")], days=90)
    assert {"NAME", "WEAK KEY"}.isdisjoint(heads(world, world.certificate(good)))
