"""Evidence in CSRs: what holds, and each fault by its name."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from tests.attest.aiks import (
    AK_ATTRIBUTES,
    BORN_HERE,
    NOW,
    AttestationCa,
    Chip,
    certify_info,
    creation_info,
    csr_with,
    sign,
    tpmt_signature,
)
from tests.attest.test_webauthn import cbor
from tests.support.swtpm import bare_swtpm

from tpmhsm.attest.believed import Believed, read_believed
from tpmhsm.attest.csr_bundle import (
    AK_PUBLIC,
    TPM_CERTIFY,
    WEBAUTHN,
    Statement,
    TpmEvidence,
    find_bundle,
    read_bundle,
    write_bundle,
    write_octets,
    write_tpm_evidence,
)
from tpmhsm.attest.csr_evidence import ProvenKey, verify_csr_evidence
from tpmhsm.attest.roots import PinnedRoot, Pins, format_pins
from tpmhsm.errors import ParseError, TpmHsmError, UsageError, VerificationError
from tpmhsm.pki import der
from tpmhsm.pki.csr import verify_csr
from tpmhsm.pki.load import to_pem
from tpmhsm.wire.constants import ALG
from tpmhsm.wire.names import name_of_public


def proven(chip: Chip, bundle: bytes = b"", believed: Believed | None = None) -> ProvenKey:
    return verify_csr_evidence(
        chip.csr(bundle), chip.believed() if believed is None else believed, NOW
    )


def refused(chip: Chip, bundle: bytes = b"", believed: Believed | None = None) -> str:
    with pytest.raises(TpmHsmError) as caught:
        proven(chip, bundle, believed)
    return caught.value.code


# ── what holds ───────────────────────────────────────────────────────────────


def test_a_key_is_proven_by_a_certified_attestation_key() -> None:
    chip = Chip()
    verify_csr(chip.csr())
    found = proven(chip)
    assert (found.name, found.how, found.kind) == (
        name_of_public(chip.public),
        "creation",
        "discrete",
    )
    assert found.words == (
        "in a TPM (discrete), which calls itself Infineon SLB9672, made in it, cannot leave it"
    )
    assert found.facts["device_class"] == "discrete"


def test_the_class_is_that_of_the_root() -> None:
    chip = Chip()
    assert proven(chip, believed=chip.believed("emulator")).facts["device_class"] == "emulator"
    plain = read_believed([("ca.pem", to_pem(chip.ca.certificate))])
    assert proven(chip, believed=plain).facts["device_class"] == "class unknown"
    pins = Pins((PinnedRoot.of(chip.ca.certificate, "Example", "virtual"),))
    listed = read_believed([("roots.json", format_pins(pins))])
    assert proven(chip, believed=listed).kind == "virtual"


def test_by_the_name_of_an_activated_attestation_key() -> None:
    chip = Chip()
    shown = write_bundle([chip.statement(), write_octets(AK_PUBLIC, chip.ak_public)])
    own = read_believed([], [name_of_public(chip.ak_public).hex()])
    assert proven(chip, shown, own).ak_name == name_of_public(chip.ak_public)
    assert refused(chip, shown, Believed()) == "unknown-ak"
    other = Believed(names=frozenset({name_of_public(Chip().ak_public)}))
    assert refused(chip, shown, other) == "unknown-ak"


def test_certify_as_other_programs_write_it() -> None:
    """With the sizes of the TPM2Bs, with a hint, in a list of bundles, as drafts up to -14 had."""
    chip = Chip()
    info = certify_info(chip.public, b"nonce")
    sized = [len(part).to_bytes(2, "big") + part for part in (info, chip.public)]
    strings = (sized[0], tpmt_signature(chip.ak, info), sized[1])
    content = der.encode(der.SEQUENCE, *(der.encode(der.OCTET_STRING, one) for one in strings))
    hint = der.encode(der.UTF8_STRING, b"tpmverifier.example.com")
    statement = der.encode(der.SEQUENCE, der.encode_oid(TPM_CERTIFY), content, hint)
    certs = der.encode(der.SEQUENCE, chip.certificate())
    one = der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, statement), certs)
    for bundle in (one, der.encode(der.SEQUENCE, one)):
        assert proven(chip, bundle).how == "certify"


def test_an_rsa_attestation_key() -> None:
    assert proven(Chip(ak=rsa.generate_private_key(65537, 2048))).how == "creation"


def test_a_webauthn_statement() -> None:
    chip = Chip()
    bundle = write_bundle([_webauthn(chip)])
    found = proven(chip, bundle)
    assert (found.how, found.kind) == ("webauthn", "discrete")
    other = Chip(ca=chip.ca, ak=chip.ak)
    assert refused(other, bundle) == "other-key"


def _webauthn(chip: Chip) -> Statement:
    info = certify_info(chip.public, bytes(32))
    found = {
        "alg": -7,
        "sig": sign(chip.ak, info),
        "ver": "2.0",
        "x5c": [chip.certificate()],
        "pubArea": chip.public,
        "certInfo": info,
    }
    return write_octets(WEBAUTHN, cbor({"fmt": "tpm", "attStmt": found}))


def test_a_statement_that_proves_nothing_hides_none_that_does() -> None:
    chip = Chip()
    unknown = Statement("1.2.3.4", der.encode(der.NULL))
    foreign = Chip().statement()
    bundle = write_bundle([unknown, foreign, chip.statement()], [chip.certificate()])
    assert proven(chip, bundle)


# ── what does not ────────────────────────────────────────────────────────────


def test_no_evidence() -> None:
    chip = Chip()
    with pytest.raises(VerificationError) as caught:
        verify_csr_evidence(csr_with(chip.key), chip.believed(), NOW)
    assert caught.value.code == "no-evidence"
    assert "--evidence" in caught.value.hint
    assert refused(chip, write_bundle([Statement("1.2.3.4", b"\5\0")])) == "no-evidence"


def test_a_foreign_root() -> None:
    chip = Chip()
    assert refused(chip, believed=Chip().believed()) == "untrusted-root"
    assert refused(chip, believed=Believed()) == "untrusted-root"
    assert refused(chip, write_bundle([_webauthn(chip)]), Chip().believed()) == "untrusted-root"


def test_one_of_several_certificates_is_enough() -> None:
    chip = Chip()
    elsewhere = AttestationCa("Another CA").certify(chip.ak.public_key())
    bundle = write_bundle([chip.statement()], [elsewhere, chip.certificate()])
    assert proven(chip, bundle).certified
    assert refused(chip, write_bundle([chip.statement()], [elsewhere])) == "untrusted-root"


@pytest.mark.parametrize("bit", [0x02, 0x10, 0x20])
def test_a_key_that_may_leave_or_came_from_elsewhere(bit: int) -> None:
    """fixedTPM, fixedParent, sensitiveDataOrigin."""
    assert refused(Chip(attributes=BORN_HERE & ~bit)) == "not-fixed"


def test_the_evidence_of_another_key() -> None:
    chip = Chip()
    other = Chip(ca=chip.ca, ak=chip.ak)
    assert refused(other, chip.bundle()) == "other-key"
    mixed = chip.statement(public=other.public)
    assert refused(other, write_bundle([mixed], [chip.certificate()])) == "other-name"


@pytest.mark.parametrize(
    "attributes", [AK_ATTRIBUTES & ~0x10000, AK_ATTRIBUTES & ~0x02, AK_ATTRIBUTES | 0x20000]
)
def test_an_unrestricted_attestation_key(attributes: int) -> None:
    """It could sign a TPMS_ATTEST that somebody made up; or it may leave; or it decrypts."""
    chip = Chip(ak_attributes=attributes)
    statements = [chip.statement(), write_octets(AK_PUBLIC, chip.ak_public)]
    assert refused(chip, write_bundle(statements, [chip.certificate()])) == "unrestricted"
    named = Believed(names=frozenset({name_of_public(chip.ak_public)}))
    assert refused(chip, write_bundle(statements), named) == "unrestricted"


FAULTY: dict[str, tuple[dict[str, Any], str]] = {
    "is for servers": ({"usage": x509.ObjectIdentifier("1.3.6.1.5.5.7.3.1")}, "aik-certificate"),
    "is a CA's": ({"ca": True}, "bad-signature"),
    "expired": ({"until": NOW.replace(year=NOW.year - 1)}, "aik-path"),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_the_attestation_keys_certificate(fault: str) -> None:
    changes, code = FAULTY[fault]
    if "until" in changes:
        changes = {"until": NOW - (NOW - changes["until"]) / 365}
    chip = Chip()
    assert refused(chip, chip.bundle(**changes)) == code


def test_signed_by_a_key_that_is_not_shown() -> None:
    chip = Chip()
    assert refused(chip, write_bundle([chip.statement()])) == "bad-signature"
    assert refused(chip, write_bundle([chip.statement()], [Chip().certificate()])) == (
        "bad-signature"
    )


def test_sha1_is_not_relied_on() -> None:
    chip = Chip(ak=rsa.generate_private_key(65537, 2048))
    info = creation_info(chip.public)
    weak = chip.statement(info, signature=tpmt_signature(chip.ak, info, ALG.SHA1))
    assert refused(chip, write_bundle([weak], [chip.certificate()])) == "weak-hash"


def test_what_the_chip_did_not_say_of_a_key() -> None:
    chip = Chip()
    made_up = b"\0" + creation_info(chip.public)[1:]
    statement = chip.statement(made_up)
    assert refused(chip, write_bundle([statement], [chip.certificate()])) == "parse"


def test_each_bit_of_the_statement_counts() -> None:
    chip = Chip()
    certificate, believed = chip.certificate(), chip.believed()
    info, public = creation_info(chip.public), chip.public
    whole = {"attest": info, "signature": tpmt_signature(chip.ak, info), "public": public}
    assert proven(chip, write_bundle([chip.statement(**whole)], [certificate]), believed)
    for part, data in whole.items():
        for place in range(8 * len(data)):
            changed = bytearray(data)
            changed[place // 8] ^= 1 << place % 8
            broken = TpmEvidence(**(whole | {part: bytes(changed)}))
            bundle = write_bundle([write_tpm_evidence(TPM_CERTIFY, broken)], [certificate])
            assert refused(chip, bundle, believed), (part, place)


BAD_BUNDLES = {
    "nothing": b"\x30\0",
    "no sequence": b"\5\0",
    "no statements": b"\x30\2\x30\0",
    "a statement without content": bytes.fromhex("3007300530030601" + "2a"),
    "three parts": write_bundle([Statement("1.2.3", b"\5\0")])[:2] + b"",
    "too many": write_bundle([Statement("1.2.3", b"\5\0")] * 17),
    "too large": write_bundle([Statement("1.2.3", der.encode(der.OCTET_STRING, bytes(1 << 17)))]),
    "an attribute certificate": der.encode(
        der.SEQUENCE,
        der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, der.encode_oid("1.2.3"), b"\5\0")),
        der.encode(der.SEQUENCE, b"\xa2\0"),
    ),
}


@pytest.mark.parametrize("what", BAD_BUNDLES)
def test_malformed_bundles(what: str) -> None:
    with pytest.raises(ParseError):
        read_bundle(BAD_BUNDLES[what])


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read_bundle(data)
    except ParseError:
        return


@pytest.mark.parametrize("text", ["", "00", "000c" + "00" * 32, "zz" * 34])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(UsageError, match="no Name of an attestation key"):
        read_believed([], [text])


# ── other makers ─────────────────────────────────────────────────────────────


@dataclass
class Tools:
    """tpm2-tools on a software TPM of their own."""

    folder: Path
    tcti: str

    def run(self, *command: str) -> None:
        """Run a tool, then let go of what it leaves in the chip, which holds three objects."""
        for one in (command, ("tpm2_flushcontext", "-t")):
            done = subprocess.run(
                [*one, "-T", self.tcti],
                cwd=self.folder,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, (one, done.stderr)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tools]:
    if not shutil.which("tpm2_certify"):
        pytest.skip("tpm2-tools is not installed")
    with bare_swtpm() as path:
        found = Tools(tmp_path_factory.mktemp("tools"), f"swtpm:path={path}")
        found.run("tpm2_createek", "-c", "ek.ctx", "-G", "ecc", "-u", "ek.pub")
        found.run("tpm2_createak", "-C", "ek.ctx", "-c", "ak.ctx", "-G", "ecc", "-g", "sha256",
                  "-s", "ecdsa", "-u", "ak.pub", "-f", "tpmt")  # fmt: skip
        found.run("tpm2_createprimary", "-C", "o", "-c", "parent.ctx")
        found.run("tpm2_create", "-C", "parent.ctx", "-G", "ecc256:ecdsa-sha256", "-u", "key.pub",
                  "-r", "key.priv", "-t", "key.ticket", "-d", "key.hash")  # fmt: skip
        found.run(
            "tpm2_load", "-C", "parent.ctx", "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx"
        )
        yield found


def _csr_of(tools: Tools, bundle: bytes) -> bytes:
    """A CSR of the key that tpm2-tools made, signed by them."""
    from tpmhsm.attest.csr_bundle import ATTRIBUTE
    from tpmhsm.attest.public_keys import public_key_of
    from tpmhsm.pki.csr import CsrContent, prepare_csr, with_attribute
    from tpmhsm.pki.names import parse_dn

    key = public_key_of(tools.read("key.pub")[2:])
    unsigned = with_attribute(prepare_csr(key, CsrContent(parse_dn("CN=tools"))), ATTRIBUTE, bundle)
    (tools.folder / "cri").write_bytes(unsigned.tbs)
    tools.run("tpm2_sign", "-c", "key.ctx", "-g", "sha256", "-f", "plain", "-o", "cri.sig", "cri")
    return unsigned.complete(tools.read("cri.sig"))


def _by_openssl(folder: Path, parts: list[bytes], certificate: bytes) -> bytes:
    """An AttestationBundle that OpenSSL encoded."""
    (folder / "ak.der").write_bytes(certificate)
    octets = "\n".join(f"o{n}=FORMAT:HEX,OCTETSTRING:{one.hex()}" for n, one in enumerate(parts))
    config = f"""asn1=SEQUENCE:bundle
[bundle]
attestations=SEQUENCE:attestations
[attestations]
one=SEQUENCE:statement
[statement]
type=OID:2.23.133.20.1
stmt=SEQUENCE:certify
[certify]
{octets}
"""
    (folder / "bundle.cnf").write_text(config)
    command = ["openssl", "asn1parse", "-genconf", "bundle.cnf", "-noout", "-out", "bundle.der"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    whole = der.read_whole((folder / "bundle.der").read_bytes())
    return der.encode(der.SEQUENCE, whole.content, der.encode(der.SEQUENCE, certificate))


@pytest.mark.parametrize("command", ["certify", "certifycreation"])
def test_statements_of_tpm2_tools(tools: Tools, command: str) -> None:
    from tpmhsm.attest.public_keys import public_key_of

    if command == "certify":
        tools.run("tpm2_certify", "-c", "key.ctx", "-C", "ak.ctx", "-g", "sha256",
                  "-o", "attest", "-s", "sig")  # fmt: skip
    else:
        tools.run("tpm2_certifycreation", "-C", "ak.ctx", "-c", "key.ctx", "-d", "key.hash",
                  "-t", "key.ticket", "-g", "sha256", "--attestation", "attest",
                  "-o", "sig")  # fmt: skip
    ca = AttestationCa()
    parts = [tools.read("attest"), tools.read("sig"), tools.read("key.pub")]
    certificate = ca.certify(public_key_of(tools.read("ak.pub")))
    csr = _csr_of(tools, _by_openssl(tools.folder, parts, certificate))
    believed = read_believed([("ca.pem", to_pem(ca.certificate))])
    found = verify_csr_evidence(csr, believed, NOW)
    assert found.how == (command.removeprefix("certify") or "certify")
    (tools.folder / "csr.der").write_bytes(csr)
    said = subprocess.run(
        ["openssl", "req", "-verify", "-noout", "-inform", "der", "-in", "csr.der"],
        cwd=tools.folder, capture_output=True, check=True, text=True,
    )  # fmt: skip
    assert "verify OK" in said.stdout + said.stderr


def test_an_unrestricted_key_of_the_same_chip_certifies_nothing(tools: Tools) -> None:
    """The chip lets any signing key certify; such a key signs made-up statements, too."""
    from tpmhsm.attest.public_keys import public_key_of

    tools.run("tpm2_certify", "-c", "key.ctx", "-C", "key.ctx", "-g", "sha256",
              "-o", "attest", "-s", "sig")  # fmt: skip
    parts = TpmEvidence(tools.read("attest"), tools.read("sig"), tools.read("key.pub")[2:])
    ca = AttestationCa()
    certificate = ca.certify(public_key_of(parts.public))
    statements = [write_tpm_evidence(TPM_CERTIFY, parts), write_octets(AK_PUBLIC, parts.public)]
    csr = _csr_of(tools, write_bundle(statements, [certificate]))
    with pytest.raises(VerificationError) as caught:
        verify_csr_evidence(csr, read_believed([("ca.pem", to_pem(ca.certificate))]), NOW)
    assert caught.value.code == "unrestricted"


def test_openssl_reads_our_bundle() -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    chip = Chip()
    found = find_bundle(chip.csr())
    assert found is not None
    said = subprocess.run(
        ["openssl", "asn1parse", "-inform", "der"],
        input=chip.bundle(),
        capture_output=True,
        check=True,
    ).stdout.decode()
    assert "2.25.331949619372622551396469103433944618910.1" in said
