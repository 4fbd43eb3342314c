"""Evidence that root wrote: what a careful auditor must not accept.

Root has the chip, with its owner's and endorsement authorisation, and writes the file. The auditor
has pinned the root of the chip's CA, has a nonce, and had the attestation key activated.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier
from tests.approval.doubles import Chip as ForgingChip
from tests.approval.doubles import ecc_public
from tests.attacks.auditor import (
    OTHER_AK,
    TWIN,
    Auditor,
    another_ak,
    collecting,
    of_root,
    sealed,
    with_group,
    with_key,
)
from tests.attacks.house import House
from tests.attacks.root import refused
from tests.attest.collecting import (
    NONCE,
    bond_of,
    collect,
    trusting,
)

from tpmhsm.attest.format import (
    AttestationPart,
    EndorsementPart,
    Statement,
)
from tpmhsm.attest.public_keys import public_key_of
from tpmhsm.attest.roots import PinnedRoot
from tpmhsm.attest.statements import AK_ATTRIBUTES
from tpmhsm.attest.verdicts import QUESTIONS
from tpmhsm.policy.steps import CommandCode, digest_of
from tpmhsm.tpm import objects, software
from tpmhsm.tpm.sessions import start_policy
from tpmhsm.wire.codec import decode
from tpmhsm.wire.commands import (
    ActivateCredential,
    LoadExternal,
    MakeCredential,
    PolicyCommandCode,
)
from tpmhsm.wire.constants import CC, RH, ST, ObjectAttributes
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import Public

A = ObjectAttributes


# ── what holds ───────────────────────────────────────────────────────────────


def test_an_honest_file(auditor: Auditor) -> None:
    """All is proven but the log, of which there is no proof; and it is no hardware."""
    judged = auditor.judge(auditor.honest)
    answers = {one.question: one.answer for one in judged.verdicts}
    assert answers == dict.fromkeys(QUESTIONS, "proven") | {"log": "not-proven"}
    assert judged.device_class == "emulator" and not judged.is_hardware
    assert judged.sentence.startswith("Emulator, not hardware")
    assert all(one.proof for one in judged.verdicts if one.answer == "proven")


def test_a_software_tpm_with_no_pinned_root(auditor: Auditor) -> None:
    """It is named, and nothing that only a chip can say is proven."""
    judged = auditor.lacks(auditor.honest, "kind", "software-tpm", roots=())
    assert judged.device_class == "software" and not judged.is_hardware
    assert judged.sentence.startswith("Software TPM, not proven to be hardware")
    assert judged.answered("proven") == ()
    quiet = replace(auditor.honest.device, kind="hardware", vendor="SLB9670", manufacturer="IFX")
    judged = auditor.judge(sealed(auditor.house, replace(auditor.honest, device=quiet)), roots=())
    assert judged.device_class == "unproven"
    assert "Not proven to be hardware" in judged.sentence


def test_an_emulators_root_pinned_as_hardware(auditor: Auditor) -> None:
    """A software TPM that says what it is contradicts a pin that says otherwise."""
    trusted = trusting(auditor.house.app.home, auditor.bond, "discrete")
    judged = auditor.refutes(auditor.honest, "kind", "class-contradicted", roots=trusted.roots)
    assert not judged.is_hardware


# ── whose chip ───────────────────────────────────────────────────────────────


def test_an_unrestricted_key_signs_a_fake_attestation(auditor: Auditor) -> None:
    """It signs any bytes, so also a TPMS_ATTEST that root wrote."""
    public = auditor.house.open_key.public
    forged = replace(auditor.honest, aks=(AttestationPart(public),))
    auditor.refutes(forged, "chip", "attestation-key")
    auditor.refutes(forged, "born", "attestation-key")
    bond = replace(auditor.bond, ak=name_of_public(public))
    judged = auditor.refutes(forged, "chip", "attestation-key", bond=bond)
    assert judged.answered("proven") == ()


def test_an_attestation_key_that_never_was_in_a_chip(auditor: Auditor) -> None:
    """A software key with the right attributes attests what root likes: nobody activated it, and
    the activation of the true key is not its own.
    """
    chip = ForgingChip()
    public = ecc_public(chip.ak.public_key(), AK_ATTRIBUTES | A.USER_WITH_AUTH | A.NO_DA)
    forged = replace(auditor.honest, aks=(AttestationPart(public),), groups=(), keys=(), quote=None)
    attest, signature = chip.attest(ST.ATTEST_TIME, _time(), forged.qualifying("time", forged.seal))
    forged = replace(forged, time=Statement(attest, signature))
    auditor.refutes(forged, "chip", "activation-of-another-key")
    auditor.refutes(forged, "fresh", "other-signer")
    judged = auditor.judge(forged, bond=None)
    assert judged.verdict("chip").code == "not-activated" and judged.answered("proven") == ()


def _time() -> Any:
    from tpmhsm.wire.attest import TimeAttestInfo
    from tpmhsm.wire.structures import ClockInfo, TimeInfo

    return TimeAttestInfo(TimeInfo(1, ClockInfo(1, 0, 0, True)), 1)


@pytest.mark.parametrize("attributes", [A.USER_WITH_AUTH, A.ADMIN_WITH_POLICY])
def test_a_software_key_does_not_answer_a_challenge(still: House, attributes: int) -> None:
    """Its public part can be loaded into a true chip, as an attestation key's; the chip opens no
    credential for what it has no private part of (0x12f).
    """
    policy = digest_of((CommandCode(CC.ActivateCredential),))
    policy = policy if attributes & A.ADMIN_WITH_POLICY else b""
    public = ecc_public(TWIN.public_key(), AK_ATTRIBUTES | attributes, policy)
    with of_root(still) as chip:
        ek = objects.storage_parent(chip).handle  # any key that decrypts will do
        fake = chip.send(LoadExternal(None, decode(Public, public), RH.NULL)).object_handle
        made = chip.send(MakeCredential(ek, b"secret", name_of_public(public)))
        command = ActivateCredential(fake, ek, made.credential_blob, made.secret)
        auths = ()
        if policy:
            session = start_policy(chip)
            chip.send(PolicyCommandCode(session.handle, CC.ActivateCredential))
            auths = (session,)
        with refused(0x12F, "ActivateCredential"):
            chip.send(command, *auths)
        chip.flush_all()


def test_an_attestation_key_of_another_chip(auditor: Auditor, tmp_path: Path) -> None:
    """Relay: the challenge is answered by one chip, and another one speaks."""
    second = House.build(tmp_path / "second")
    try:
        with of_root(second) as chip:
            theirs = collecting(chip)
            other = theirs.sealed(replace(theirs.frame, eks=theirs.endorsements()))
            mixed = theirs.sealed(replace(theirs.frame, eks=auditor.honest.eks))
    finally:
        second.app.close()
        second.app.store.close()
        software.stop(software.directory_of(second.app.home))
    auditor.refutes(other, "chip", "activation-of-another-key")
    auditor.refutes(mixed, "chip", "activation-of-another-key")
    # activated beside its own EK, with the first chip's EK and its certificate in the file
    auditor.refutes(mixed, "chip", "activation-of-another-chip", bond=bond_of(other))
    swapped = replace(
        mixed, eks=(EndorsementPart(other.eks[0].public, auditor.honest.eks[0].certificate),)
    )
    auditor.refutes(swapped, "chip", "ek-certificate-of-another-key", bond=bond_of(other))
    # all of it another chip's: its CA has the name of the pinned one, and another key
    later = {"at": auditor.trusted.at + timedelta(1)}
    auditor.refutes(other, "chip", "ek-certificate-bad-signature", bond=bond_of(other), **later)
    # the group was founded on the first
    grouped = replace(other, groups=auditor.honest.groups)
    auditor.refutes(grouped, "agree", "group-of-another-device", bond=bond_of(other))


@pytest.mark.parametrize(
    ("change", "hierarchy"),
    [
        pytest.param({"attributes": AK_ATTRIBUTES & ~A.RESTRICTED}, RH.ENDORSEMENT, id="free"),
        pytest.param(
            {"attributes": AK_ATTRIBUTES & ~A.FIXED_TPM & ~A.FIXED_PARENT},
            RH.ENDORSEMENT,
            id="duplicable",
        ),
        pytest.param({"auth_policy": bytes(32)}, RH.ENDORSEMENT, id="policy"),
    ],
)
def test_an_attestation_key_with_other_attributes(
    auditor: Auditor, change: dict[str, Any], hierarchy: RH
) -> None:
    """A true key of the chip, activated, and not one that signs the chip's words alone."""
    template = OTHER_AK
    if "attributes" in change:
        template = template.replace(attributes=change["attributes"] | A.USER_WITH_AUTH)
    else:
        template = template.replace(**change)
    with of_root(auditor.house) as chip:
        ak = another_ak(chip, template, hierarchy)
        theirs = collecting(chip, ak)
        forged = theirs.sealed(replace(theirs.frame, eks=auditor.honest.eks))
        chip.flush_all()
    judged = auditor.refutes(forged, "chip", "attestation-key", bond=bond_of(forged))
    assert judged.answered("proven") == ()


def test_an_attestation_key_of_another_hierarchy(auditor: Auditor) -> None:
    """Restricted and in the chip; but its qualified Name says that it is not the endorsement's."""
    with of_root(auditor.house) as chip:
        theirs = collecting(chip, another_ak(chip, OTHER_AK, RH.OWNER))
        forged = theirs.sealed(replace(theirs.frame, eks=auditor.honest.eks))
        chip.flush_all()
    auditor.refutes(forged, "fresh", "other-signer", bond=bond_of(forged))


def test_an_endorsement_certificate_of_another_chip(auditor: Auditor) -> None:
    """Certificates are public: this one's key is not the one in the file."""
    (ek,) = auditor.honest.eks
    other = certificate(ecc_key(), datetime(2020, 1, 1, tzinfo=UTC))
    forged = sealed(
        auditor.house, replace(auditor.honest, eks=(replace(ek, certificate=other[0]),))
    )
    auditor.refutes(forged, "chip", "ek-certificate-of-another-key")


def ecc_key() -> Any:
    return ec.generate_private_key(ec.SECP256R1()).public_key()


def certificate(key: Any, begin: datetime, days: int = 3650) -> tuple[bytes, bytes]:
    """An EK certificate of root's making, and its root (DER)."""
    ca = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A Maker of Chips")])
    base = x509.CertificateBuilder().issuer_name(name).serial_number(7)
    base = base.not_valid_before(begin).not_valid_after(begin + timedelta(days))
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    root = base.subject_name(name).public_key(ca.public_key()).add_extension(constraints, True)
    usage = x509.ExtendedKeyUsage([ObjectIdentifier("2.23.133.8.1")])
    leaf = base.subject_name(x509.Name([])).public_key(key).add_extension(usage, False)
    signed = [one.sign(ca, hashes.SHA256()).public_bytes(Encoding.DER) for one in (leaf, root)]
    return signed[0], signed[1]


def test_a_root_that_is_foreign_or_past(auditor: Auditor) -> None:
    """A certificate for the true key by a maker whom nobody pinned; by one who is pinned, and
    whose certificates are past.
    """
    (ek,) = auditor.honest.eks
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    leaf, root = certificate(public_key_of(ek.public), begin, 365)
    forged = sealed(auditor.house, replace(auditor.honest, eks=(replace(ek, certificate=leaf),)))
    pinned = (PinnedRoot.of(root, "A Maker", "discrete"),)
    auditor_at = {"at": begin + timedelta(10)}
    auditor.refutes(forged, "chip", "ek-certificate-expired", roots=pinned)
    judged = auditor.judge(forged, **auditor_at)
    assert judged.verdict("maker").answer == "not-proven"
    judged = auditor.judge(forged, roots=pinned, **auditor_at)
    assert judged.device_class == "discrete" and judged.verdict("maker").answer == "proven"
    assert judged.verdict("kind").code == "class-contradicted"
    # a maker who is pinned is believed, and nobody else: so pins are chosen with care
    quiet = replace(forged.device, kind="hardware", vendor="SLB9670", manufacturer="IFX")
    said = sealed(auditor.house, replace(forged, device=quiet))
    judged = auditor.judge(said, roots=pinned, **auditor_at)
    assert judged.is_hardware
    assert judged.sentence.startswith("Proven by the pinned root of A Maker: a chip of its own")


# ── old, changed, put together ───────────────────────────────────────────────


def test_a_stale_nonce_in_a_file(auditor: Auditor) -> None:
    """An old file, true in every word; and one whose nonce was written over."""
    with of_root(auditor.house) as chip:
        old = collecting(chip, nonce=os.urandom(16)).file(auditor.house)
    judged = auditor.refutes(old, "fresh", "stale-nonce")
    assert judged.verdict("born").answer == "proven"
    forged = replace(old, nonce=NONCE)
    auditor.refutes(forged, "fresh", "seal-broken")
    for question in ("born", "roster"):
        auditor.refutes(forged, question, "other-qualifying")


def test_statements_of_another_purpose(auditor: Auditor) -> None:
    """What the chip said of one thing, in the place of another."""
    group = auditor.honest.groups[0]
    swapped = with_group(auditor.honest, counter=group.held, held=group.counter)
    auditor.refutes(swapped, "roster", "other-qualifying")
    other = auditor.honest.keys[1].creation
    auditor.refutes(with_key(auditor.honest, creation=other), "born", "other-qualifying")
    quote = auditor.honest.quote
    assert quote is not None
    moved = replace(auditor.honest, time=quote.statement)
    auditor.refutes(moved, "fresh", "other-kind")


def test_a_file_changed_after_it_was_sealed(auditor: Auditor) -> None:
    """A label, a certificate left out, a hint: the seal breaks, and nothing is proven."""
    honest = auditor.honest
    for forged in (
        with_key(honest, label="issuing"),
        replace(honest, keys=honest.keys[:1]),
        replace(honest, device=replace(honest.device, kind="hardware")),
        replace(honest, made=honest.made + timedelta(1)),
    ):
        judged = auditor.refutes(forged, "fresh", "seal-broken")
        assert judged.answered("proven") == ()
    auditor.lacks(replace(honest, time=None), "fresh", "no-seal")


def test_statements_of_two_boots(house: House) -> None:
    """Between them the chip was started anew, and what it said before may have changed."""
    before = collect(house)
    house.app.close()
    software.stop(software.directory_of(house.app.home))
    auditor = Auditor(house, before)
    with of_root(house) as chip:
        theirs = collecting(chip)
        late = theirs.sealed(replace(before, time=None))
        early = replace(before, quote=theirs.quote())
    auditor.refutes(late, "fresh", "other-boot")
    auditor.refutes(early, "fresh", "other-boot")


def test_a_statement_made_after_the_seal(auditor: Auditor) -> None:
    """Put in later, with the seal left out of sight."""
    with of_root(auditor.house) as chip:
        late = collecting(chip).quote()
    judged = auditor.judge(replace(auditor.honest, quote=late))
    codes = {one.code for one in judged.verdict("fresh").findings if one.answer == "refuted"}
    assert {"seal-broken"} <= codes


def test_pcrs_and_an_event_log_that_are_not_quoted(auditor: Auditor) -> None:
    """Values that the chip did not sign, fewer PCRs, a log that leads elsewhere."""
    quote = auditor.honest.quote
    assert quote is not None
    values = dict(quote.pcrs["sha256"])
    for changed in ({**values, 0: bytes([1] * 32)}, {k: values[k] for k in (0, 1)}):
        forged = replace(auditor.honest, quote=replace(quote, pcrs={"sha256": changed}))
        auditor.refutes(sealed(auditor.house, forged), "fresh", "pcrs-differ")
    logged = replace(auditor.honest, event_log=LOG)
    auditor.refutes(sealed(auditor.house, logged), "fresh", "event-log-differs")


def _log() -> bytes:
    """A crypto agile log (TCG PC Client Platform Firmware Profile 10.2) with one event in PCR 0."""
    head = b"Spec ID Event03\0" + bytes(4) + bytes([0, 2, 0, 2]) + (1).to_bytes(4, "little")
    head += (0x0B).to_bytes(2, "little") + (32).to_bytes(2, "little") + b"\0"
    first = bytes(4) + (3).to_bytes(4, "little") + bytes(20) + len(head).to_bytes(4, "little")
    event = bytes(4) + (1).to_bytes(4, "little") + (1).to_bytes(4, "little")
    event += (0x0B).to_bytes(2, "little") + sha256(b"x").digest() + (1).to_bytes(4, "little") + b"x"
    return first + head + event


LOG = _log()
