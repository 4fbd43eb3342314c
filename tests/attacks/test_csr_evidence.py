"""CSRs whose evidence is a lie: keys in software, of other chips, that may leave.

Who certifies demands evidence by the attestation key of this chip, and of no other.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from tests.approval.doubles import ecc_public
from tests.attacks.auditor import TWIN
from tests.attacks.house import House
from tests.attacks.root import refused
from tests.attacks.test_evidence import FOREIGN, imported, sign_fake
from tests.attest.aiks import BORN_HERE, AttestationCa, Chip, certify_info, creation_info, csr_with

from tpmhsm.attest.believed import Believed
from tpmhsm.attest.csr_bundle import (
    AK_PUBLIC,
    TPM_CREATION,
    Statement,
    TpmEvidence,
    write_bundle,
    write_octets,
    write_tpm_evidence,
)
from tpmhsm.attest.csr_evidence import verify_csr_evidence
from tpmhsm.attest.key_attestation import (
    Reported,
    check_key_attestation,
    read_key_attestation,
    write_key_attestation,
)
from tpmhsm.attest.public_keys import public_key_of
from tpmhsm.errors import VerificationError
from tpmhsm.keys.host import load_host
from tpmhsm.policy import moments
from tpmhsm.requests.csr_evidence import evidence_bundle
from tpmhsm.tpm import objects
from tpmhsm.wire.codec import decode, encode
from tpmhsm.wire.commands import Certify, CertifyCreation, Hash, Load, Sign
from tpmhsm.wire.constants import ALG, RH, ObjectAttributes
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import NULL_SCHEME, Ticket


def believed(house: House) -> Believed:
    """The attestation key of the house's chip, and nobody else."""
    return Believed(names=frozenset({load_host(house.app.store).ak_name}))


def judged(csr: bytes, by: Believed) -> str:
    """How a CA refuses a CSR."""
    with pytest.raises(VerificationError) as caught:
        verify_csr_evidence(csr, by, moments.now())
    return caught.value.code


def bundle(house: House, statement: Statement, ak: bytes = b"") -> bytes:
    shown = write_octets(AK_PUBLIC, ak or load_host(house.app.store).ak_public)
    return write_bundle([statement, shown])


def statement(attest: bytes, signature: bytes, public: bytes) -> Statement:
    return write_tpm_evidence(TPM_CREATION, TpmEvidence(attest, signature, public))


def honest(house: House) -> None:
    """A key of the chip is proven all the same."""
    from tpmhsm.pki.csr import CsrContent
    from tpmhsm.pki.names import parse_dn

    app, row = house.app, house.open_key
    csr = app.desk.make_csr(
        row.label, CsrContent(parse_dn("CN=open")), evidence=evidence_bundle(app.store, row)
    )
    assert verify_csr_evidence(csr, believed(house), moments.now()).name.hex() == row.name


def test_a_made_up_attestation(still: House) -> None:
    """An unrestricted key of the chip signs it; whether shown as it is, certified by a CA that was
    fooled, or under the name of the true attestation key.
    """
    public = ecc_public(TWIN.public_key(), BORN_HERE)
    with still.root() as root:
        opened = root.load(still.open_key)
        attest, signature = sign_fake(root, opened, creation_info(public))
        root.chip.flush_all()
    fake = statement(attest, signature, public)
    unrestricted = bundle(still, fake, still.open_key.public)
    assert judged(csr_with(TWIN, unrestricted), believed(still)) == "unrestricted"
    ca = AttestationCa()
    pins = Believed({ca.certificate: "discrete"})
    fooled = ca.certify(public_key_of(still.open_key.public))
    shown = write_octets(AK_PUBLIC, still.open_key.public)
    assert judged(csr_with(TWIN, write_bundle([fake, shown], [fooled])), pins) == "unrestricted"
    assert judged(csr_with(TWIN, bundle(still, fake)), believed(still)) == "bad-signature"
    honest(still)


def test_a_software_key_that_the_chip_holds(still: House) -> None:
    """Imported, it is certified like any other (TPM2_Certify): and its attributes say that there
    may be copies. With the attributes of a key born here the chip imports none.
    """
    free = FOREIGN & ~ObjectAttributes.ADMIN_WITH_POLICY | ObjectAttributes.USER_WITH_AUTH
    public = decode(Public, ecc_public(TWIN.public_key(), free))
    with still.root() as root:
        ak, parent = objects.attestation_key(root.chip), objects.storage_parent(root.chip)
        with refused(0x2C2, "Import"):
            imported(root, public.replace(attributes=BORN_HERE))
        private = imported(root, public).out_private
        handle = root.chip.send(Load(parent.handle, private, public)).object_handle
        said = root.chip.send(Certify(handle, ak.handle, b"", NULL_SCHEME))
        root.chip.flush_all()
    one = statement(said.certify_info, encode(said.signature), encode(public))
    assert judged(csr_with(TWIN, bundle(still, one)), believed(still)) == "not-fixed"
    honest(still)


def test_the_evidence_of_a_true_key_for_another(still: House) -> None:
    """In a CSR of root's own key; with root's public area in it; with the ticket of its birth."""
    row = still.open_key
    true = evidence_bundle(still.app.store, row)
    assert judged(csr_with(TWIN, true), believed(still)) == "other-key"
    public = ecc_public(TWIN.public_key(), BORN_HERE)
    mixed = statement(row.creation_attest, row.creation_signature, public)
    assert judged(csr_with(TWIN, bundle(still, mixed)), believed(still)) == "other-name"
    with still.root() as root:
        ak, loaded = objects.attestation_key(root.chip), root.load(still.loot.key)
        with refused(0x4E0, "CertifyCreation"):
            ticket = decode(Ticket, row.creation_ticket)
            root.chip.send(
                CertifyCreation(
                    ak.handle, loaded.handle, b"", row.creation_hash, NULL_SCHEME, ticket
                )
            )
        opened = root.load(row)  # no key of ours has a branch for this, an open one neither
        with refused(0x124, "Certify"):
            root.chip.send(Certify(opened.handle, ak.handle, b"", NULL_SCHEME))
        root.chip.flush_all()
    honest(still)


def test_the_evidence_of_another_chip(still: House) -> None:
    """Genuine, of a chip that nobody here believes; and with this chip's attestation key beside."""
    other = Chip()
    shown = write_octets(AK_PUBLIC, other.ak_public)
    foreign = write_bundle([other.statement(), shown], [other.certificate()])
    assert judged(csr_with(other.key, foreign), believed(still)) == "untrusted-root"
    beside = bundle(still, other.statement())
    assert judged(csr_with(other.key, beside), believed(still)) == "bad-signature"
    pins = replace(other.believed(), names=believed(still).names)
    assert verify_csr_evidence(csr_with(other.key, foreign), pins, moments.now())
    honest(still)


def test_a_certificate_that_is_for_no_attestation_key(still: House) -> None:
    """Root has a certificate from the very CA that is believed, for servers: its key signs."""
    ca = AttestationCa()
    pins = Believed({ca.certificate: "discrete"})
    chip = Chip(ca=ca)
    from cryptography import x509

    server = chip.certificate(usage=x509.ObjectIdentifier("1.3.6.1.5.5.7.3.1"))
    forged = write_bundle([chip.statement(certify_info(chip.public, b""))], [server])
    assert judged(csr_with(chip.key, forged), pins) == "aik-certificate"
    assert verify_csr_evidence(csr_with(chip.key, chip.bundle()), pins, moments.now())


def test_the_attestation_key_signs_a_made_up_key_attestation(still: House) -> None:
    """It signs DER that root wrote, for that does not begin like a TPMS_ATTEST: which is why our
    key attestations have no such signature. What they claim must stand in the chip's own words.
    """
    host, row = load_host(still.app.store), still.open_key
    public = ecc_public(TWIN.public_key(), BORN_HERE)
    born = TpmEvidence(row.creation_attest, row.creation_signature, public)
    made_up = write_key_attestation(host.ak_public, [Reported("root", born)])
    with still.root() as root:
        ak = objects.attestation_key(root.chip)
        hashed = root.chip.send(Hash(made_up[:512], ALG.SHA256, RH.ENDORSEMENT))
        assert hashed.out_hash == sha256(made_up[:512]).digest()
        assert root.chip.send(Sign(ak.handle, hashed.out_hash, NULL_SCHEME, hashed.validation))
        root.chip.flush_all()
    with pytest.raises(VerificationError, match="creation of another key"):
        check_key_attestation(read_key_attestation(made_up), host.ak_public)
    true = TpmEvidence(row.creation_attest, row.creation_signature, row.public)
    told = write_key_attestation(host.ak_public, [Reported("root", true)])
    check_key_attestation(read_key_attestation(told), host.ak_public)
    assert name_of_public(row.public).hex() == row.name
