"""EK certificates: real ones, odd ones, forged ones; and what their words are worth."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attest import eks
from tests.attest.eks import END, NOW, Ca, Ek, make_ca
from tests.support.shell import Shell

from tpmhsm.attest.ek_certificates import EkJudgement, judge_ek, normal_spki
from tpmhsm.attest.ek_reading import EkHints, read_ek_dump
from tpmhsm.attest.roots import PinnedRoot
from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.bundle import read_bundle
from tpmhsm.pki.load import to_pem

Find = Callable[[str], Path]
ROOT = make_ca("Maker Root")
MIDDLE = make_ca("Maker CA 1", ROOT)
EK = Ek(MIDDLE)
PIN = PinnedRoot.of(ROOT.raw, "IFX", "discrete")
GOOD = EK.make()


def judge(
    raw: bytes,
    *,
    roots: tuple[PinnedRoot, ...] = (PIN,),
    others: tuple[bytes, ...] = (MIDDLE.raw,),
    at: datetime = NOW,
) -> EkJudgement:
    return judge_ek(raw, roots, others, at)


def reasons(judgement: EkJudgement) -> list[str]:
    return [fault.reason for fault in judgement.faults]


# ── the given certificates ───────────────────────────────────────────────────


@functools.cache
def bundle(path: Path) -> list[bytes]:
    return read_bundle(path.read_bytes()).of_kind("certificate")


@pytest.fixture
def judged(test_data: Find) -> Callable[[str, int], EkJudgement]:
    """A given certificate judged by all given roots, at the middle of a year."""
    roots = bundle(test_data("tpm-roots/MIRROR.tpm-ca-certificates.pem"))
    others = bundle(test_data("tpm-roots/MIRROR.tpm-intermediate-ca-certificates.pem"))

    def judged(name: str, year: int) -> EkJudgement:
        pins = [PinnedRoot.of(raw, "x", "discrete") for raw in roots]
        raw = test_data(f"ek-certs/{name}").read_bytes()
        return judge_ek(raw, pins, others, datetime(year, 6, 1, tzinfo=UTC))

    return judged


def test_a_real_infineon_chip(judged: Callable[[str, int], EkJudgement]) -> None:
    found = judged("EK-234480e4f236.der", 2026)
    assert found.holds and not found.cautions and len(found.chain) == 3
    assert found.root is not None and found.root.sha256.startswith("899e3547")
    assert found.hints == EkHints(
        "IFX", "Infineon", "SLB 9670 TPM2.0", "073f", "2.0 level 0 revision 116"
    )
    assert isinstance(found.public_key, rsa.RSAPublicKey)
    later = judged("EK-234480e4f236.der", 2034)
    assert reasons(later) == ["expired"] and later.root == found.root and not later.holds


def test_a_real_chip_with_an_oaep_key_signed_with_sha1(
    judged: Callable[[str, int], EkJudgement],
) -> None:
    found = judged("EK-411a4bb6732b.der", 2020)
    assert found.holds and found.hints.letters == "STM"
    assert isinstance(found.public_key, rsa.RSAPublicKey) and found.public_key.key_size == 2048
    assert found.cautions == (
        "the EK certificate is signed with a weak algorithm (SHA-1 with RSA)",
    )
    later = judged("EK-411a4bb6732b.der", 2026)
    assert later.faults[0].words == "the EK certificate expired 2024-02-22T00:00:00Z"


def test_a_real_virtual_one_whose_maker_is_not_pinned(
    judged: Callable[[str, int], EkJudgement],
) -> None:
    found = judged("EK-9c49baf0285c.der", 2026)
    assert not found.holds and found.root is None
    assert reasons(found) == ["unknown-issuer"]
    assert "https://pki.goog/cloud_integrity/tpm_ek_intermediate_3.crt" in found.faults[0].words
    assert found.hints.text == "Google, vTPM, 20160511"


# ── what holds ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_keys_of_each_curve(curve: ec.EllipticCurve) -> None:
    public = eks.ec_key(curve).public_key()
    found = judge(EK.but(public=public))
    assert found.holds and found.chain[1:] == (MIDDLE.raw, ROOT.raw) and found.root == PIN
    assert found.spki == public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_an_oaep_key_is_the_rsa_key_that_it_is() -> None:
    key = rsa.generate_private_key(65537, 2048).public_key()
    raw = eks.resigned(EK.but(public=key), MIDDLE, 6, eks.oaep_spki(key))
    found = judge(raw)
    assert found.holds
    assert found.spki == key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert found.public_key == key


def test_certificates_that_never_end() -> None:
    found = judge(EK.but(end=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)))
    assert found.holds and found.expires == "never"
    assert judge(GOOD).expires == "2040-01-01T00:00:00Z"


HARMLESS = {
    "attributes of the chip, critical": ((eks.unknown("2.5.29.9"), True),),
    "measured firmware, critical": ((eks.unknown("2.23.133.5.4.1"), True),),
    "unknown and not critical": ((eks.unknown("1.2.3.4"), False),),
    "an unreadable CRL address": ((eks.unknown("2.5.29.31"), False),),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_odd_extensions_do_no_harm(case: str) -> None:
    assert judge(EK.but(more=HARMLESS[case])).holds


def test_names_that_cannot_be_read_are_no_names() -> None:
    """Alternative names that do not parse, or none at all: hints, and no more."""
    found = judge(EK.but(san=eks.unknown("2.5.29.17", b"\x30\x03\xa4\x05\x00")))
    assert found.holds and not found.hints.text and found.cautions
    assert judge(EK.but(san=None)).cautions == ("the EK certificate does not name its TPM",)
    strange = judge(EK.but(san=eks.tpm_name("Infineon")))
    assert strange.hints.maker == "Infineon" and not strange.hints.letters


def test_a_certificate_that_is_not_in_strict_der() -> None:
    serial = b"\x02\x81\x01\x05"  # a length in two octets where one does
    raw = eks.resigned(GOOD, MIDDLE, 1, serial)
    with pytest.raises(ValueError, match="parsing asn1"):
        x509.load_der_x509_certificate(raw)
    found = judge(raw)
    assert found.holds and "the EK certificate is not in strict DER" in found.cautions


def test_a_root_that_does_not_sign_itself_is_one_when_it_is_pinned() -> None:
    pin = PinnedRoot.of(MIDDLE.raw, "IFX", "firmware")
    found = judge(GOOD, roots=(pin,), others=())
    assert found.holds and found.root == pin and len(found.chain) == 2


# ── what does not ────────────────────────────────────────────────────────────


STRANGER = make_ca("Stranger Root")
NAMESAKE = make_ca("Maker CA 1", STRANGER)
OLD = make_ca("Maker CA 1", ROOT, end=datetime(2025, 1, 1, tzinfo=UTC), key=MIDDLE.key)
NO_CA = make_ca("Maker CA 1", ROOT, constraints=x509.BasicConstraints(False, None))
FLAT = make_ca("Flat Root", constraints=x509.BasicConstraints(True, 0))
BELOW_FLAT = make_ca("Flat CA", FLAT)
AIK = x509.ObjectIdentifier("2.23.133.8.3")


def flat(ca: Ca) -> tuple[PinnedRoot, ...]:
    return (PinnedRoot.of(ca.raw, "x", "discrete"),)


def test_faults_are_named() -> None:
    def fault(raw: bytes, **how: object) -> str:
        found = judge(raw, **how)  # type: ignore[arg-type]
        assert not found.holds
        return found.faults[0].reason

    foreign = Ek(STRANGER).make()
    assert fault(foreign) == "unknown-issuer"
    assert fault(foreign, others=(STRANGER.raw,)) == "foreign-root"
    assert fault(GOOD, roots=()) == "unknown-issuer"
    assert fault(GOOD, roots=(), others=(MIDDLE.raw, ROOT.raw)) == "foreign-root"
    assert fault(GOOD, others=()) == "unknown-issuer"
    assert fault(Ek(NAMESAKE).make()) == "bad-signature"
    assert fault(GOOD, others=(OLD.raw,)) == "expired"
    assert fault(GOOD, at=datetime(2019, 1, 1, tzinfo=UTC)) == "not-yet-valid"
    assert fault(Ek(NO_CA).make(), others=(NO_CA.raw,)) == "not-a-ca"
    assert fault(Ek(BELOW_FLAT).make(), roots=flat(FLAT), others=(BELOW_FLAT.raw,)) == "path-length"
    assert fault(EK.but(usage=[AIK])) == "not-an-ek"
    assert fault(EK.but(ca=True)) == "not-an-ek"
    assert fault(EK.but(usage=None, san=None)) == "not-an-ek"
    assert fault(EK.but(more=((eks.unknown("1.2.3.4"), True),))) == "unknown-critical"
    assert fault(EK.but(public=eks.ec_key(ec.SECP256K1()).public_key(), end=OLD_END)) == "expired"


OLD_END = datetime(2025, 1, 1, tzinfo=UTC)


def test_an_expired_root_is_told_from_an_expired_chip() -> None:
    root = make_ca("Old Root", end=OLD_END)
    found = judge(Ek(root).make(), roots=flat(root), others=())
    assert [f.words for f in found.faults] == [
        "the pinned root CN=Old Root expired 2025-01-01T00:00:00Z"
    ]
    chip = judge(EK.but(end=OLD_END))
    assert [f.words for f in chip.faults] == ["the EK certificate expired 2025-01-01T00:00:00Z"]
    assert chip.root == PIN, "it led to the root while it was valid"


def test_a_foreign_root_is_named_with_its_digest() -> None:
    found = judge(Ek(STRANGER).make(), others=(STRANGER.raw,))
    digest = PinnedRoot.of(STRANGER.raw, "x", "discrete").sha256
    assert digest in found.faults[0].words and "CN=Stranger Root" in found.faults[0].words


def test_a_certificate_is_no_root_of_its_own() -> None:
    """Pinned by mistake: an EK certificate proves nothing by being pinned."""
    found = judge(GOOD, roots=(PinnedRoot.of(GOOD, "x", "discrete"),), others=())
    assert not found.holds and found.root is None


def test_any_bit_of_the_certificate_matters() -> None:
    """The signature of the maker covers it, down to the last bit; or it is another encoding."""
    for at in range(0, len(GOOD), 7):
        changed = bytearray(GOOD)
        changed[at] ^= 1 << at % 8
        try:
            found = judge(bytes(changed))
        except ParseError:
            continue
        assert not found.holds, at


def test_hostile_intermediates_cost_no_time() -> None:
    """Two hundred CAs of one name that certified each other; the work is bounded."""
    keys = [eks.ec_key() for _ in range(6)]
    tangle = [
        make_ca("Maker CA 1", Ca("Maker CA 1", above, b""), key=below).raw
        for above in keys
        for below in keys
        for _ in range(5)
    ]
    leaf = Ek(Ca("Maker CA 1", keys[0], b"")).make()
    begun = time.process_time()
    found = judge(leaf, others=tuple(tangle))
    assert time.process_time() - begun < 1
    assert not found.holds


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_certificates_are_harmless(data: st.DataObject) -> None:
    raw = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    begun = time.process_time()
    try:
        dump = read_ek_dump(bytes(raw))
        found = judge(dump.certificates[0])
    except ParseError:
        pass
    else:
        assert found.hints is not None
    assert time.process_time() - begun < 1


# ── dumps of NV ──────────────────────────────────────────────────────────────

SIZE = len(GOOD)
DUMPS = {
    "bare": GOOD,
    "zeros follow": GOOD + bytes(200),
    "erased flash follows": GOOD + b"\xff" * 200,
    "TCG header": b"\x10\x01\0" + (SIZE + 2).to_bytes(2, "big") + b"\x10\x02" + GOOD + bytes(40),
    "TCG header without the inner one": b"\x10\x01\0" + SIZE.to_bytes(2, "big") + GOOD,
    "inner header": b"\x10\x02" + GOOD,
    "length of 2": SIZE.to_bytes(2, "big") + GOOD,
    "length of 2, little": SIZE.to_bytes(2, "little") + GOOD,
    "length of 4": SIZE.to_bytes(4, "big") + GOOD + b"\xff" * 9,
    "length of 4, little": SIZE.to_bytes(4, "little") + GOOD,
    "PEM": to_pem(GOOD),
    "chain": GOOD + MIDDLE.raw + ROOT.raw + bytes(10),
}


@pytest.mark.parametrize("case", DUMPS)
def test_dumps(case: str) -> None:
    dump = read_ek_dump(DUMPS[case])
    assert dump.certificates[0] == GOOD
    if case == "chain":
        assert dump.certificates == (GOOD, MIDDLE.raw, ROOT.raw)
        assert judge(GOOD, others=dump.certificates[1:]).holds


BROKEN = {
    "nothing": b"",
    "zeros": bytes(800),
    "erased": b"\xff" * 800,
    "cut off": GOOD[:-1],
    "header and cut off": DUMPS["TCG header without the inner one"][:-1],
    "partial": b"\x10\x01\x01" + SIZE.to_bytes(2, "big") + GOOD,
    "another structure": der.encode(der.SEQUENCE, bytes(300)),
    "too large": GOOD + bytes(1 << 17),
    "a word": b"MIIC certificate",
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_dump(case: str) -> None:
    with pytest.raises(ParseError):
        read_ek_dump(BROKEN[case])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(sorted(DUMPS)), st.integers(0, SIZE))
def test_noise_is_no_dump(noise: bytes, case: str, cut: int) -> None:
    for data in (noise, DUMPS[case][:cut] + noise, noise + DUMPS[case]):
        try:
            assert read_ek_dump(data).certificates
        except ParseError:
            continue


def test_a_key_that_is_none() -> None:
    with pytest.raises(ParseError):
        normal_spki(b"\x30\x00")
    found = judge(eks.resigned(GOOD, MIDDLE, 6, der.encode(der.SEQUENCE)))
    assert "key" in reasons(found) and not found.holds


# ── show ─────────────────────────────────────────────────────────────────────


def test_show_tells_whose_chip(bare: Shell) -> None:
    (bare.path / "ek.nv").write_bytes(DUMPS["TCG header"])
    (bare.path / "ek.der").write_bytes(GOOD)
    found = bare.json("show", "ek.nv")
    assert found["type"] == "ek-dump" and found["tpm"]["letters"] == "IFX"
    assert found["notes"][-1] == "40 bytes follow: padding (00)"
    plain = json.loads(bare("--json", "show", "ek.der").out)
    assert plain["type"] == "certificate" and plain["tpm"]["model"] == "SLB9672"
    assert "an endorsement key (P-256) of Infineon, SLB9672" in bare("show", "ek.der").out
    (bare.path / "broken.nv").write_bytes(DUMPS["TCG header"][:100])
    assert "cut off" in bare("show", "broken.nv", code=2).err
    assert END.year == 2040
