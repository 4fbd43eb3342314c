"""What differs from the certificate that this home approved last for the same subject."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from tests.approval.doubles import CA_USAGE, LEAF_USAGE, World, builder, tbs_of
from tests.approval.looking import founded, heads, look

from tpmhsm.approval.batch import batch_of, unseen
from tpmhsm.approval.display import render

KEY = ec.generate_private_key(ec.SECP256R1())
OCSP = x509.oid.ExtendedKeyUsageOID.OCSP_SIGNING


def leaf(world: World, names: str = "a b", days: int = 90, key=KEY, subject: str = "www") -> bytes:
    sans = [x509.DNSName(f"{name}.example.com") for name in names.split()]
    made = builder(key.public_key(), subject, "Example Root", days).add_extension(
        x509.SubjectAlternativeName(sans), critical=False
    )
    return tbs_of(made.add_extension(LEAF_USAGE, critical=True), world.key)


def authority(world: World, *, under: str, length: int | None) -> bytes:
    limits = x509.NameConstraints([x509.DNSName(under)], None)
    made = (
        builder(KEY.public_key(), "Issuing", "Example Root", 1000)
        .add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
        .add_extension(CA_USAGE, critical=True)
        .add_extension(limits, critical=True)
    )
    return tbs_of(made, world.key)


def last(world: World, before: bytes, now: bytes) -> str:
    """What is said of `now` after `before` was approved; empty for nothing."""
    memory = founded(world)
    memory.keep(look(world.certificate(before), memory).entries)
    return heads(world, world.certificate(now), memory).get("LAST", "")


def test_the_first_one_is_compared_with_nothing(world: World) -> None:
    assert "LAST" not in heads(world, world.certificate(leaf(world)))


def test_the_very_same_bytes_are_no_difference(world: World) -> None:
    one = leaf(world)
    assert last(world, one, one) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"names": "a c"}, "the same key, + dns:c.example.com, − dns:b.example.com"),
        ({"days": 89}, "the same key, 90 days before"),
        ({"key": ec.generate_private_key(ec.SECP256R1())}, "another key"),
    ],
)
def test_changes_of_a_leaf(world: World, change: dict, words: str) -> None:
    assert last(world, leaf(world), leaf(world, **change)) == f"2026-11-23: {words}"


def test_another_subject_is_another_holder(world: World) -> None:
    assert last(world, leaf(world), leaf(world, subject="mail")) == ""


def test_values_of_extensions_are_compared(world: World) -> None:
    before = authority(world, under="example.com", length=0)
    now = authority(world, under="example.org", length=1)
    said = last(world, before, now)
    assert said == "2026-11-23: the same key, other name constraint, pathlen was 0"


def test_it_is_a_difference_and_no_warning(world: World) -> None:
    """Of two that are decided together, the first approved makes no new warning for the second."""
    memory = founded(world)
    requests = [replace(world.certificate(leaf(world, days=days)), id=days) for days in (90, 80)]
    batch = batch_of([look(one, memory) for one in requests])
    memory.keep(batch.reviews[0].entries)
    now = look(requests[1], memory)
    assert "Δ LAST" in render(now)
    assert unseen(batch.reviews[1], now) == ()


def test_an_ocsp_signer_is_explained(world: World) -> None:
    made = (
        builder(KEY.public_key(), "ocsp", "Example Root", 90)
        .add_extension(LEAF_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage([OCSP]), critical=False)
    )
    found = heads(world, world.certificate(tbs_of(made, world.key)))
    assert "can call each one good" in found["OCSP SIGNER"] and "NO CHECK" not in found
    made = made.add_extension(x509.OCSPNoCheck(), critical=False)
    request = world.certificate(tbs_of(made, world.key))
    assert "counts until 2027-02-21" in heads(world, request)["NO CHECK"]
    assert "OCSP signing certificate" in render(look(request, founded(world)))
