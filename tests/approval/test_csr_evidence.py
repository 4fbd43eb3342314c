"""Evidence in a CSR, as the approver's own machine sees it."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from tests.approval.doubles import Chip, World, builder, csr_info, ecc_public, tbs_of
from tests.approval.looking import founded, heads, look
from tests.attest.aiks import BORN_HERE, csr_with

from tpmhsm.approval.request import Claims
from tpmhsm.attest.csr_bundle import (
    AK_PUBLIC,
    ATTRIBUTE,
    TPM_CREATION,
    TpmEvidence,
    write_bundle,
    write_octets,
    write_tpm_evidence,
)
from tpmhsm.attest.statements import AK_ATTRIBUTES, QUORUM_KEY_ATTRIBUTES
from tpmhsm.pki import der
from tpmhsm.policy.tree import key_policy


def bundle_of(chip: Chip, public: bytes) -> bytes:
    statement = write_tpm_evidence(TPM_CREATION, TpmEvidence(*chip.creation(public), public))
    shown = write_octets(AK_PUBLIC, ecc_public(chip.ak.public_key(), AK_ATTRIBUTES))
    return write_bundle([statement, shown])


class Asked:
    """A certificate for a key, and the CSR that the host shows."""

    def __init__(self, world: World, key: ec.EllipticCurvePrivateKey | None = None) -> None:
        self.world = world
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName("a.example")])
        made = builder(self.key.public_key(), "www", "Example Root").add_extension(names, False)
        self.content = tbs_of(made, world.key)

    def public(self, attributes: int = BORN_HERE) -> bytes:
        return ecc_public(self.key.public_key(), attributes)

    def flags(self, bundle: bytes, **texts: str) -> dict[str, str]:
        return heads(self.world, self._request(bundle, texts))

    def row(self, bundle: bytes) -> tuple[str, str] | None:
        found = look(self._request(bundle, {}), founded(self.world)).content.rows
        return next(((r.text, r.note) for r in found if r.label == "Evidence"), None)

    def _request(self, bundle: bytes, texts: dict[str, str]) -> object:
        claims = Claims(csr=csr_with(self.key, bundle), texts=texts)
        return self.world.certificate(self.content, claims=claims)


def test_a_key_of_the_groups_own_chip(world: World) -> None:
    asked = Asked(world)
    bundle = bundle_of(world.chip, asked.public())
    assert asked.row(bundle) == ("made in the group's own chip, cannot leave it", "verified")
    assert "EVIDENCE" not in asked.flags(bundle, evidence="in a TPM (discrete)")


def test_another_chip_proves_nothing_here(world: World) -> None:
    asked = Asked(world)
    found = asked.row(bundle_of(Chip(), asked.public()))
    assert found == ("of another chip, which this tool does not know", "NOT PROVEN")


def test_what_does_not_hold_is_a_warning(world: World) -> None:
    asked = Asked(world)
    other = Asked(world)
    said = asked.flags(bundle_of(world.chip, other.public()))["EVIDENCE"]
    assert "for another key than the CSR's" in said
    said = asked.flags(bundle_of(world.chip, asked.public(BORN_HERE & ~2)))["EVIDENCE"]
    assert "fixedTPM" in said
    assert "cannot be read" in asked.flags(der.encode(der.SEQUENCE))["EVIDENCE"]


def test_the_host_claims_what_is_not_there(world: World) -> None:
    asked = Asked(world)
    assert asked.row(b"") is None
    assert "EVIDENCE" not in asked.flags(b"")
    said = asked.flags(b"", evidence="in a TPM (discrete), made in it")
    assert said["EVIDENCE"] == "the host claims some, the CSR has none"


def test_evidence_in_a_csr_that_is_to_be_signed(world: World) -> None:
    public = ecc_public(world.key.public_key(), QUORUM_KEY_ATTRIBUTES, key_policy(world.group))
    version, subject, spki, *_ = der.children(der.read_whole(csr_info(world.key)).content)
    value = der.encode(der.SET, bundle_of(world.chip, public))
    attribute = der.encode(der.SEQUENCE, der.encode_oid(ATTRIBUTE), value)
    parts = (version.raw, subject.raw, spki.raw, der.encode(0xA0, attribute))
    request = world.request("csr", der.encode(der.SEQUENCE, *parts))
    found = look(request, founded(world)).content.rows
    assert ("Evidence", "verified") in [(row.label, row.note) for row in found]
