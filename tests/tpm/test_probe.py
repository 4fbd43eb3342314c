"""What a chip says and shows of itself."""

from __future__ import annotations

import dataclasses
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tpmhsm.attest.public_keys import public_key_of
from tpmhsm.errors import DeviceError
from tpmhsm.tpm import evidence, nv, software
from tpmhsm.tpm.ek_templates import POLICY_A, TEMPLATES
from tpmhsm.tpm.probe import probe
from tpmhsm.wire.codec import decode
from tpmhsm.wire.commands import EvictControl
from tpmhsm.wire.constants import HT, RH
from tpmhsm.wire.constants import ObjectAttributes as Attribute
from tpmhsm.wire.public import Public

CERTIFICATE = b"\x30\x82\x01\x00" + bytes(range(256))  # all that is looked at is the length


def spki(key) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_probe_of_swtpm(chip):
    before = nv.indices(chip)
    found = probe(chip)
    assert nv.indices(chip) == before
    assert set(found.key_algorithms) >= {"p256", "p384", "rsa2048"}
    assert set(found.hashes) >= {"sha256", "sha384"}
    assert "p256" in found.curves
    assert found.pcr_banks == ("sha256",)
    assert found.policy_authorize_nv
    assert found.pin_pass
    assert found.command_audit
    assert not found.owner_auth_set
    assert found.ek_certificates == 2
    assert found.limits.transient_objects == 3
    assert found.limits.loaded_sessions == 3
    assert found.limits.active_sessions == 64
    assert found.limits.context_gap >= 255
    assert found.limits.nv_free > 512
    assert not found.lockout.active
    assert ("rsa4096 keys" in found.missing) == ("rsa4096" not in found.key_algorithms)
    assert json.dumps(dataclasses.asdict(found))


def test_free_nv_space_is_found_by_trying(chip):
    """Fill the chip with large indices, until less than the largest is left."""
    with pytest.raises(DeviceError, match="no NV space"):
        for number in range(1, 300):
            nv.define_ordinary(chip, nv.FIRST_INDEX + number, 2048, bytes(32))
    free = probe(chip).limits.nv_free
    assert free < 2048
    if free:
        nv.define_ordinary(chip, nv.FIRST_INDEX, free, bytes(32))
    with pytest.raises(DeviceError):
        nv.define_ordinary(chip, nv.FIRST_INDEX + 400, 512, bytes(32))


def test_facts_are_hints(chip):
    facts = evidence.device_facts(chip)
    assert facts.manufacturer == "IBM"
    assert facts.vendor == "SWTPM"
    assert facts.specification.startswith("2.0 revision 1.")


def test_endorsement_certificates_are_of_the_home_s_own_ca(chip, software_home):
    issuer = software.directory_of(software_home) / "chip" / "localca" / "issuercert.pem"
    ca = x509.load_pem_x509_certificate(issuer.read_bytes())
    certificates = evidence.ek_certificates(chip)
    assert len(certificates) == 2
    for der in certificates:
        x509.load_der_x509_certificate(der).verify_directly_issued_by(ca)


def test_endorsement_key_is_the_certificate_s(chip):
    found = evidence.endorsement(chip)
    assert found.certificate == evidence.ek_certificates(chip)[0]
    certificate = x509.load_der_x509_certificate(found.certificate)
    assert spki(public_key_of(found.public)) == spki(certificate.public_key())
    attributes = decode(Public, found.public).attributes
    assert attributes & Attribute.RESTRICTED
    assert attributes & Attribute.DECRYPT
    assert evidence.ek_public(chip) == found.public


def test_endorsement_key_that_nobody_made_persistent(chip):
    """As on most hardware: it is made again by the template of its certificate."""
    expected = evidence.endorsement(chip)
    for handle in chip.handles(HT.PERSISTENT):
        chip.send(EvictControl(RH.OWNER, handle, handle))
    assert evidence.endorsement(chip) == expected
    assert chip.created == ()


@pytest.mark.parametrize("template", [0x01C00002, 0x01C00016])
def test_templates_make_the_keys_that_the_makers_certified(chip, template):
    certificate = x509.load_der_x509_certificate(nv.read(chip, template))
    public = evidence._primary(chip, TEMPLATES[template])
    assert spki(public_key_of(public)) == spki(certificate.public_key())


def test_a_chip_without_certificates(chip, monkeypatch):
    monkeypatch.setattr(nv, "indices", lambda chip: [])
    assert evidence.ek_certificates(chip) == []
    found = evidence.endorsement(chip)
    assert found.certificate is None
    assert decode(Public, found.public).auth_policy == POLICY_A


@pytest.mark.parametrize(
    "content",
    [b"", b"\x30", b"\x30\x82\xff\xff", b"\x00" * 900, b"\x30\x82\x00\x04\xde\xad\xbe\xef\0"],
)
def test_rubbish_in_place_of_a_certificate(chip, monkeypatch, content):
    monkeypatch.setattr(nv, "read", lambda chip, index: content)
    for der in evidence.ek_certificates(chip):
        assert der == CERTIFICATE
    assert evidence.endorsement(chip).public


def test_nothing_of_a_probe_is_left(chip):
    probe(chip)
    evidence.endorsement(chip)
    assert chip.leaks() == []
