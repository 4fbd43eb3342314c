"""Vendor roots: bundles of every form, who is pinned as what, and the command."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attest.cabs import cabinet, mszip, stored
from tests.attest.eks import Ek, make_ca
from tests.attest.lzx_writer import ALIGNED, PLAIN, VERBATIM, pack
from tests.support.shell import Shell

from tpmhsm.attest import cabinets
from tpmhsm.attest.bundles import Offer, read_offer
from tpmhsm.attest.cabinets import read_cabinet
from tpmhsm.attest.lzx import Lzx
from tpmhsm.attest.roots import KINDS, PinnedRoot, Pins, format_pins, parse_pins
from tpmhsm.errors import NotFoundError, ParseError, TpmHsmError, UsageError
from tpmhsm.pki.containers import certificates_only
from tpmhsm.pki.load import to_pem

Find = Callable[[str], Path]
ROOT = make_ca("Maker Root")
MIDDLE = make_ca("Maker CA 1", ROOT)
OTHER = make_ca("Infineon Root")
EK = Ek(MIDDLE).make()
ROOTS, OTHERS = "MIRROR.tpm-ca-certificates.pem", "MIRROR.tpm-intermediate-ca-certificates.pem"


def offered(**files: bytes) -> Offer:
    offer = Offer()
    for name, data in files.items():
        read_offer(name, data, offer)
    return offer


# ── the given bundles ────────────────────────────────────────────────────────


def test_all_given_roots_are_read_though_cryptography_rejects_five(test_data: Find) -> None:
    offer = Offer()
    for name in (ROOTS, OTHERS):
        path = test_data(f"tpm-roots/{name}")
        read_offer(str(path), path.read_bytes(), offer)
    assert (len(offer.roots), len(offer.intermediates)) == (26, 143)
    assert not offer.troubles
    rejected = [one for one in offer.roots if not _loads(one.der)]
    assert len(rejected) == 5
    assert [one.subject for one in offer.roots if not one.self_signed] == [
        "CN=AMD Pluton Global Factory ICA,OU=IT,O=Advanced Micro Devices Inc.,L=Santa Clara,"
        "ST=California,C=US",
        "CN=STM TPM ECC Root CA 01,O=STMicroelectronics NV,C=CH",
        "CN=STM TPM EK Root CA,O=STMicroelectronics NV,C=CH",
    ], "the bundle says that these are roots, too"
    usual = {(one.maker, one.kind) for one in offer.roots}
    assert usual == {
        ("AMD", "firmware"), ("IFX", "discrete"), ("INTC", "firmware"), ("MSFT", "firmware"),
        ("MSFT", ""), ("NSG", "discrete"), ("NTC", "discrete"), ("STM", "discrete"),
    }  # fmt: skip


def _loads(raw: bytes) -> bool:
    try:
        x509.load_der_x509_certificate(raw)
    except ValueError:
        return False
    return True


def test_microsofts_root_says_nothing_of_hardware(test_data: Find) -> None:
    """It certifies attestation keys of chips of every kind: a person must say what it means."""
    path = test_data("webauthn-tpm/microsoft-tpm-root-2014.cer")
    offer = offered(root=path.read_bytes())
    assert [(one.maker, one.kind) for one in offer.roots] == [("MSFT", "")]


# ── forms ────────────────────────────────────────────────────────────────────

TREE = {
    "Infineon\\RootCA\\root.crt": ROOT.raw,
    "Infineon\\IntermediateCA\\ca.crt": MIDDLE.raw,
    "Infineon\\IntermediateCA\\Ünder.cer": to_pem(OTHER.raw),
    "setup.cmd": b"echo hello",
    "version.txt": b"1.2",
}
FORMS: Mapping[str, bytes] = {
    "PEM": to_pem(ROOT.raw) + to_pem(MIDDLE.raw),
    "PEM with anything around": b"# hello\n" + to_pem(ROOT.raw) + b"\nbye\n" + to_pem(MIDDLE.raw),
    "DER after DER": ROOT.raw + MIDDLE.raw,
    "PKCS #7": certificates_only([ROOT.raw, MIDDLE.raw]),
    "PKCS #7 in PEM": to_pem(certificates_only([MIDDLE.raw, ROOT.raw]), "PKCS7"),
    "mixture": to_pem(MIDDLE.raw) + certificates_only([ROOT.raw]),
    "cabinet": cabinet({"a/root.crt": ROOT.raw, "a/ca.crt": to_pem(MIDDLE.raw)}),
    "our own": format_pins(Pins((PinnedRoot.of(ROOT.raw, "IFX", "virtual"),), (MIDDLE.raw,))),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    offer = offered(file=FORMS[form])
    assert [one.der for one in offer.roots] == [ROOT.raw]
    assert [one.der for one in offer.intermediates] == [MIDDLE.raw]
    assert not offer.troubles


def test_directories_tell_roles_and_makers() -> None:
    offer = offered(**{"TrustedTpm.cab": cabinet(TREE)})
    assert [(one.der, one.maker, one.kind) for one in offer.roots] == [
        (ROOT.raw, "IFX", "discrete")
    ]
    assert {one.der for one in offer.intermediates} == {MIDDLE.raw, OTHER.raw}, (
        "what signs itself is no root where the bundle calls it an intermediate"
    )
    assert offer.passed == 2


def test_a_directory_named_by_its_kind() -> None:
    offer = offered(**{"emulator/x.pem": to_pem(OTHER.raw)})
    assert [one.kind for one in offer.roots] == ["emulator"]


def test_what_is_no_ca_is_not_taken() -> None:
    offer = offered(file=to_pem(EK) + to_pem(ROOT.raw))
    assert [one.der for one in offer.certificates.values()] == [ROOT.raw]
    assert "it is no CA" in offer.troubles[0].reason


def test_a_comment_about_another_certificate() -> None:
    """tpm-ca-certificates says the digest above each: where it is another's, somebody erred."""
    digest = PinnedRoot.of(OTHER.raw, "x", "virtual").sha256.upper()
    colons = ":".join(re.findall("..", digest)).encode()
    comment = b"# Owner: NTC\n# Fingerprint (SHA-256): " + colons + b"\n"
    assert offered(file=comment + to_pem(OTHER.raw)).roots[0].maker == "NTC"
    swapped = offered(file=comment + to_pem(ROOT.raw))
    assert not swapped.certificates and "its comment says" in swapped.troubles[0].reason


def test_what_holds_no_certificate_is_refused() -> None:
    for data in (b"", b"hello", to_pem(b"\x30\x00"), b"MSCF", b'{"format": "tpmhsm/roots/1"}'):
        with pytest.raises(TpmHsmError):
            offer = offered(file=data)
            assert offer.troubles
            raise ParseError("as a trouble")


# ── cabinets ─────────────────────────────────────────────────────────────────

LARGE = {"one": bytes(range(256)) * 300, "two": b"certificate" * 9_000, "empty": b""}


@pytest.mark.parametrize("reserve", [None, (20, 4, 8)])
@pytest.mark.parametrize("packed", [True, False])
def test_cabinets(packed: bool, reserve: tuple[int, int, int] | None) -> None:
    content = b"".join(LARGE.values())
    made = cabinet(
        LARGE, mszip(content) if packed else stored(content), int(packed), reserve=reserve
    )
    assert {file.name: file.data for file in read_cabinet(made)} == LARGE


def test_cabinets_that_other_programs_made(tmp_path: Path) -> None:
    if shutil.which("gcab") is None:
        pytest.skip("gcab is not installed")
    for name, data in LARGE.items():
        (tmp_path / name).write_bytes(data)
    for options in ("-cz", "-c"):
        target = tmp_path / "x.cab"
        subprocess.run(["gcab", options, target, *LARGE], cwd=tmp_path, check=True)
        assert {one.name: one.data for one in read_cabinet(target.read_bytes())} == LARGE


CALLS = b"".join(b"\xe8" + (n * 7919 % 60_000).to_bytes(4, "little") + bytes(3) for n in range(700))
LZX = (to_pem(ROOT.raw) * 8 + CALLS + to_pem(MIDDLE.raw) + bytes(30_000))[:40_000]
MIXED = [(VERBATIM, 9_000), (PLAIN, 7_001), (ALIGNED, 20_001), (PLAIN, 1_000)]


@pytest.mark.parametrize("translated", [0, 50_000])
@pytest.mark.parametrize("window", [15, 21])
@pytest.mark.parametrize("plan", [[(VERBATIM, 1 << 20)], [(ALIGNED, 1 << 20)], MIXED])
def test_cabinets_in_lzx(
    tmp_path: Path, plan: list[tuple[int, int]], window: int, translated: int
) -> None:
    made = cabinet({"x.pem": LZX}, pack(LZX, window, plan, translated), 3 | window << 8)
    assert [file.data for file in read_cabinet(made)] == [LZX]
    if shutil.which("cabextract") is None:
        pytest.skip("cabextract is not installed")
    # that what is made here is LZX, and not our idea of it
    (tmp_path / "x.cab").write_bytes(made)
    subprocess.run(["cabextract", "-q", "-d", tmp_path, tmp_path / "x.cab"], check=True)
    assert (tmp_path / "x.pem").read_bytes() == LZX


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_lzx_is_harmless(data: st.DataObject) -> None:
    packed = bytearray(PACKED[0][0])
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    begun = time.process_time()
    with suppress(ParseError):
        Lzx(15).block(bytes(packed), PACKED[0][1])
    assert time.process_time() - begun < 1


PACKED = pack(LZX[:20_000], 15, [(ALIGNED, 1 << 20)])
SMALL = cabinet({"a": b"abc" * 100})
DAMAGED = {
    "cut off": SMALL[:-5],
    "another byte": SMALL[:-3] + bytes([SMALL[-3] ^ 1]) + SMALL[-2:],
    "part of several": cabinet({"a": b"x"}, flags=1),
    "not MSZIP": cabinet({"a": b"x"}, [(b"xxxx", 1)]),
    "no deflate": cabinet({"a": b"x"}, [(b"CK\xff\xff", 1)]),
    "too small": cabinet({"a": b"x" * 9}, stored(b"x"), 0),
    "a wrong size": cabinet({"a": b"x"}, [(mszip(b"x" * 50)[0][0], 60)]),
    "Quantum": cabinet({"a": b"x"}, stored(b"x"), 2),
    "too many files": SMALL[:28] + b"\xff\xff" + SMALL[30:],
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_cabinets_are_refused(case: str) -> None:
    with pytest.raises(ParseError):
        read_cabinet(DAMAGED[case])


def test_a_cabinet_that_unpacks_to_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cabinets, "MAX_CONTENT", 100_000)
    with pytest.raises(ParseError, match="more than"):
        read_cabinet(cabinet({"a": bytes(200_000)}))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_bundles_are_harmless(data: st.DataObject) -> None:
    raw = bytearray(FORMS[data.draw(st.sampled_from(sorted(FORMS)))])
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    begun = time.process_time()
    try:
        offered(file=bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    except TpmHsmError as error:
        assert error.message
    assert time.process_time() - begun < 1


# ── pins ─────────────────────────────────────────────────────────────────────


def test_pins_in_and_out() -> None:
    pins = Pins((PinnedRoot.of(ROOT.raw, "IFX", "discrete"),), (MIDDLE.raw,))
    assert parse_pins(format_pins(pins)) == pins
    more = pins.with_more([PinnedRoot.of(MIDDLE.raw, "x", "virtual")], [ROOT.raw, OTHER.raw])
    assert [root.kind for root in more.roots] == ["discrete", "virtual"]
    assert more.intermediates == (OTHER.raw,), "what is believed is kept once"
    again = pins.with_more([PinnedRoot.of(ROOT.raw, "IFX", "emulator")], [])
    assert [root.kind for root in again.roots] == ["emulator"]
    digest = pins.roots[0].sha256
    assert pins.find(digest[:8]) == pins.find(digest.upper()) == pins.roots[0]
    assert not pins.without(pins.roots[0]).roots
    for wrong in (digest[:5], "f" * 64, ""):
        with pytest.raises(NotFoundError):
            pins.find(wrong)
    with pytest.raises(UsageError):
        PinnedRoot.of(ROOT.raw, "x", "hardware")


def test_another_certificate_in_the_place_of_a_pinned_one() -> None:
    document = json.loads(format_pins(Pins((PinnedRoot.of(ROOT.raw, "IFX", "discrete"),))))
    other = json.loads(format_pins(Pins((PinnedRoot.of(OTHER.raw, "IFX", "discrete"),))))
    document["roots"][0]["der"] = other["roots"][0]["der"]
    with pytest.raises(ParseError, match="was changed"):
        parse_pins(json.dumps(document).encode())


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"format": "tpmhsm/roots/1", "roots": [{}], "intermediates": []}',
     '{"format": "tpmhsm/roots/1", "roots": [], "intermediates": ["?"]}', "[" * 9_000],
)  # fmt: skip
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(ParseError):
        parse_pins(text.encode())


# ── the command ──────────────────────────────────────────────────────────────


def test_roots_are_pinned_shown_and_removed(bare: Shell) -> None:
    (bare.path / "all.pem").write_bytes(FORMS["PEM"])
    assert "no vendor root is pinned" in bare("attest", "roots", "list").out
    done = bare.json("attest", "roots", "add", "all.pem", "--as", "discrete", "--maker", "IFX")
    assert [(i["kind"], i["maker"], i["was"]) for i in done["items"]] == [("discrete", "IFX", None)]
    assert done["intermediates"] == 1
    listed = bare.json("attest", "roots", "list")
    digest = listed["items"][0]["sha256"]
    assert digest == PinnedRoot.of(ROOT.raw, "", "discrete").sha256
    assert listed["intermediates"] == 1
    shown = bare("attest", "roots", "show", digest[:8]).out
    assert f"discrete: {KINDS['discrete']}" in shown and "CN=Maker Root" in shown
    again = bare.json("attest", "roots", "add", "all.pem", "--as", "emulator")
    assert [(i["kind"], i["was"]) for i in again["items"]] == [("emulator", "discrete")]
    assert bare.json("attest", "roots", "remove", digest[:8])["sha256"] == digest
    assert not bare.json("attest", "roots", "list")["items"]
    bare("attest", "roots", "remove", digest[:8], code=2)
    assert not (bare.home / "tpmhsm.db").exists(), "a verifier needs no database"


def test_a_person_says_what_roots_stand_for(bare: Shell) -> None:
    (bare.path / "ifx.pem").write_bytes(to_pem(OTHER.raw) + to_pem(ROOT.raw))
    refused = bare("attest", "roots", "add", "ifx.pem", code=2)
    assert "discrete" in refused.err and "--by-maker" in refused.err
    assert bare.json("attest", "roots", "add", "ifx.pem", code=2)["error"]["code"] == "kind-missing"
    assert not bare.json("attest", "roots", "list")["items"]
    done = bare.json("attest", "roots", "add", "ifx.pem", "--by-maker")
    assert [(i["maker"], i["kind"]) for i in done["items"]] == [("IFX", "discrete")]
    assert [one["subject"] for one in done["left_out"]] == ["CN=Maker Root"]
    bare("attest", "roots", "add", "ifx.pem", "--by-maker", "--as", "virtual", code=2)


def test_an_intermediate_is_never_pinned_by_accident(bare: Shell) -> None:
    (bare.path / "ca.crt").write_bytes(MIDDLE.raw)
    refused = bare.json("attest", "roots", "add", "ca.crt", "--as", "discrete", code=2)
    assert refused["error"]["code"] == "no-root"
    assert bare.json("attest", "roots", "add", "ca.crt")["intermediates"] == 1
    done = bare.json("attest", "roots", "add", "ca.crt", "--as", "virtual", "--anchors")
    assert [one["subject"] for one in done["items"]] == ["CN=Maker CA 1"]
    assert bare.json("attest", "roots", "list")["intermediates"] == 0


def test_directories_and_lists_of_another_home(bare: Shell) -> None:
    folder = bare.path / "vendors" / "Infineon"
    for name, data in TREE.items():
        path = bare.path / "vendors" / name.replace("\\", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    done = bare.json("attest", "roots", "add", "vendors", "--by-maker")
    assert [one["kind"] for one in done["items"]] == ["discrete"] and done["intermediates"] == 2
    shutil.copy(bare.home / "vendor-roots.json", folder.parent / "theirs.json")
    (bare.home / "vendor-roots.json").unlink()
    taken = bare.json("attest", "roots", "add", "vendors/theirs.json")
    assert [one["kind"] for one in taken["items"]] == ["discrete"]
    assert bare.json("show", "vendors/theirs.json")["type"] == "vendor-roots"


def test_a_list_that_was_changed_is_refused_and_kept(bare: Shell) -> None:
    (bare.path / "all.pem").write_bytes(FORMS["PEM"])
    bare("attest", "roots", "add", "all.pem", "--as", "discrete")
    path = bare.home / "vendor-roots.json"
    changed = path.read_bytes().replace(b'"sha256": "', b'"sha256": "0')
    path.write_bytes(changed)
    for verb in (("list",), ("add", "all.pem", "--as", "virtual"), ("remove", "abcdef12")):
        assert "was changed" in bare("attest", "roots", *verb, code=2).err
    assert path.read_bytes() == changed


def test_the_root_of_a_software_tpm(bare: Shell) -> None:
    """swtpm's own CA, pinned as an emulator's: its EK certificates lead to it."""
    from tpmhsm.attest.ek_certificates import judge_ek

    if shutil.which("swtpm_localca") is None:
        pytest.skip("swtpm_localca is not installed")
    ca = bare.path / "ca"
    ca.mkdir()
    (ca / "conf").write_text(
        f"statedir = {ca}\nsigningkey = {ca}/key.pem\nissuercert = {ca}/issuer.pem\n"
        f"certserial = {ca}/serial\n"
    )
    subprocess.run(
        ["swtpm_localca", "--type", "ek", "--ek", "ab" * 256, "--dir", ca, "--vmid", "x",
         "--configfile", ca / "conf", "--optsfile", "/dev/null", "--tpm2",
         "--tpm-spec-family", "2.0", "--tpm-spec-revision", "164", "--tpm-spec-level", "0",
         "--tpm-manufacturer", "id:00001014", "--tpm-model", "swtpm",
         "--tpm-version", "id:20191023"],
        check=True, capture_output=True,
    )  # fmt: skip
    root = next(ca.glob("*rootca-cert.pem"))
    done = bare.json("attest", "roots", "add", root, ca / "issuer.pem", "--as", "emulator")
    assert len(done["items"]) == 1 and done["intermediates"] == 1
    pins = parse_pins((bare.home / "vendor-roots.json").read_bytes())
    found = judge_ek(
        (ca / "ek.cert").read_bytes(), pins.roots, pins.intermediates, datetime.now(UTC)
    )
    assert found.root is not None and found.root.kind == "emulator"
    assert found.holds or [fault.reason for fault in found.faults] == ["key"], "the key is invented"
    assert found.hints.model == "swtpm"
