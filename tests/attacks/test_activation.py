"""Which chip is it? Root answers a verifier's challenge with what root has: two chips, or none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.attacks.house import House
from tests.attacks.root import refused
from tests.tpm.conftest import end

from tpmhsm.attest.credential import (
    Kept,
    Response,
    answer_of,
    check_response,
    make_challenge,
    make_credential,
)
from tpmhsm.errors import ParseError, RefusedError, VerificationError
from tpmhsm.keys.activation import open_credential
from tpmhsm.keys.host import load_host
from tpmhsm.tpm import evidence, objects, software
from tpmhsm.tpm.activation import activate
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.device import open_device
from tpmhsm.tpm.ek_templates import TEMPLATES
from tpmhsm.tpm.sessions import EMPTY_PASSWORD, Password, Session, start_hmac, start_plain_policy
from tpmhsm.wire.codec import decode, encode
from tpmhsm.wire.commands import (
    ActivateCredential,
    ECDH_ZGen,
    LoadExternal,
    PolicySecret,
    RSA_Decrypt,
)
from tpmhsm.wire.constants import ALG, RH
from tpmhsm.wire.public import Public
from tpmhsm.wire.structures import EccPoint, RsaDecrypt

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
RSA, ECC = 0x01C00002, 0x01C0000A


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chip]:
    """Another software TPM, of root's."""
    home = tmp_path_factory.mktemp("emulator")
    assert software.manufacture(software.directory_of(home))
    try:
        with open_device("software", home).transaction() as chip:
            yield chip
    finally:
        end(software.directory_of(home))


def endorsement(chip: Chip, index: int) -> Public:
    made = evidence._primary(chip, TEMPLATES[index])
    assert made is not None
    return made


@pytest.mark.parametrize("index", [RSA, ECC])
def test_an_attestation_key_of_another_chip(still: House, emulator: Chip, index: int) -> None:
    """The relay: evidence with the EK of a genuine chip, signed by an AK that root can read. The
    genuine chip opens nothing for an AK that it has not; the other has not the EK.
    """
    theirs = objects.attestation_key(emulator)
    with still.root() as root:
        ek = endorsement(root.chip, index)
        asked = make_challenge(encode(ek), encode(theirs.public), NOW).challenge
        ours = objects.attestation_key(root.chip)
        key = evidence.load_endorsement(root.chip, ek)
        session = start_plain_policy(root.chip, ALG.SHA256)
        root.chip.send(PolicySecret(RH.ENDORSEMENT, session.handle, b"", b"", b"", 0))
        sealed = (asked.credential, asked.secret)
        with refused(0x1DF, "ActivateCredential"):
            root.chip.send(
                ActivateCredential(ours.handle, key.handle, *sealed), EMPTY_PASSWORD, session
            )
        root.chip.flush_all()
        with pytest.raises(RefusedError) as words:
            activate(root.chip, ek, ours, *sealed)
        assert words.value.code == "other-chip"
        root.chip.flush_all()
        own = make_credential(ek, ours.name, b"ours")
        assert activate(root.chip, ek, ours, *own) == b"ours"
        root.chip.flush_all()
    with pytest.raises(RefusedError) as words:
        open_credential(still.app.store, still.app.device, (asked.ek, asked.ak), sealed)
    assert words.value.code == "other-chip"
    foreign = endorsement(emulator, index)
    code = {RSA: 0x101, ECC: 0x1DF}[index]
    with pytest.raises(RefusedError, match="nothing is wrong with the chip") as words:
        activate(emulator, foreign, theirs, *sealed)
    assert words.value.details["rc"] == f"0x{code:03x}"
    emulator.flush_all()


@pytest.mark.parametrize("index", [RSA, ECC])
def test_the_endorsement_key_decrypts_for_nobody(still: House, index: int) -> None:
    """With its policy fulfilled: it is restricted, so the chip gives no seed of a credential."""
    with still.root() as root:
        ek = endorsement(root.chip, index)
        key = evidence.load_endorsement(root.chip, ek)
        name = objects.attestation_key(root.chip).name
        _, encrypted = make_credential(ek, name, b"secret")
        session = start_plain_policy(root.chip, ALG.SHA256)
        root.chip.send(PolicySecret(RH.ENDORSEMENT, session.handle, b"", b"", b"", 0))
        if index == RSA:
            with refused(0x182, "RSA_Decrypt"):
                scheme = RsaDecrypt(ALG.NULL)
                root.chip.send(RSA_Decrypt(key.handle, encrypted, scheme, b""), session)
        else:
            with refused(0x182, "ECDH_ZGen"):
                root.chip.send(ECDH_ZGen(key.handle, decode(EccPoint, encrypted)), session)
        root.chip.flush_all()


def test_the_public_half_of_a_foreign_attestation_key(still: House, emulator: Chip) -> None:
    """The chip binds a credential to a Name, and root can load any public area under it: but the
    chip authorizes nothing by an object of which it has no secret half.
    """
    theirs = objects.attestation_key(emulator)
    with still.root() as root:
        chip = root.chip
        ek = endorsement(chip, ECC)
        sealed = make_credential(ek, theirs.name, b"secret")
        key = evidence.load_endorsement(chip, ek)
        shown = chip.send(LoadExternal(None, theirs.public, RH.NULL))
        assert shown.name == theirs.name
        command = ActivateCredential(shown.object_handle, key.handle, *sealed)
        for code, first in (
            (0x12F, lambda: EMPTY_PASSWORD),
            (0x12F, lambda: start_plain_policy(chip, ALG.SHA256)),
            (0x12F, lambda: start_hmac(chip)),
        ):
            session = start_plain_policy(chip, ALG.SHA256)
            chip.send(PolicySecret(RH.ENDORSEMENT, session.handle, b"", b"", b"", 0))
            other = first()
            with refused(code, "ActivateCredential"):
                chip.send(command, other, session)
            for one in (session, other):
                if isinstance(one, Session):
                    chip.flush(one.handle)
        chip.flush_all()


def test_an_unrestricted_key_in_the_place_of_the_attestation_key(still: House) -> None:
    """The chip opens credentials for any object that it has; the verifier says what an AK is."""
    host, row = load_host(still.app.store), still.open_key
    with pytest.raises(ParseError, match="restricted"):
        make_challenge(host.ek_public, row.public, NOW)
    with still.root() as root:
        ek, key = decode(Public, host.ek_public), root.load(row)
        with pytest.raises(RefusedError):  # ADMIN role under adminWithPolicy: its own policy alone
            activate(root.chip, ek, key, *make_credential(ek, key.name, b"secret"))
        root.chip.flush_all()
    make_challenge(host.ek_public, host.ak_public, NOW)


def test_the_endorsement_key_without_its_policy(still: House) -> None:
    with still.root() as root:
        ek = endorsement(root.chip, ECC)
        ak, key = objects.attestation_key(root.chip), evidence.load_endorsement(root.chip, ek)
        command = ActivateCredential(ak.handle, key.handle, *make_credential(ek, ak.name, b"s"))
        with refused(0xA9D, "ActivateCredential"):
            session = start_plain_policy(root.chip, ALG.SHA256)
            root.chip.send(command, EMPTY_PASSWORD, session)
        with refused(0x12F, "ActivateCredential"):
            root.chip.send(command, EMPTY_PASSWORD, Password())
        root.chip.flush_all()


def answered(house: House, kept: Kept) -> Response:
    asked = kept.challenge
    sealed = (asked.credential, asked.secret)
    return answer_of(
        asked, open_credential(house.app.store, house.app.device, (asked.ek, asked.ak), sealed)
    )


def test_answers_that_are_none(still: House) -> None:
    """Without the secret; to another challenge; too late, or from the future."""
    host = load_host(still.app.store)
    kept = make_challenge(host.ek_public, host.ak_public, NOW)
    good = answered(still, kept)
    check_response(kept, good, NOW)
    other = make_challenge(host.ek_public, host.ak_public, NOW)
    cases = [
        (kept, answer_of(kept.challenge, bytes(32)), NOW, "wrong-answer"),
        (kept, replace(good, answer=answered(still, other).answer), NOW, "wrong-answer"),
        (other, good, NOW, "other-challenge"),
        (kept, good, NOW + timedelta(days=8), "challenge-stale"),
        (kept, good, NOW - timedelta(hours=1), "challenge-stale"),
    ]
    for asked, given, now, code in cases:
        with pytest.raises(VerificationError) as error:
            check_response(asked, given, now)
        assert error.value.code == code


def test_the_challenge_does_not_tell_its_secret(still: House, tmp_path: Path) -> None:
    host = load_host(still.app.store)
    kept = make_challenge(host.ek_public, host.ak_public, NOW)
    good = answered(still, kept)
    for file in (kept.challenge.encoded, good.encoded):
        assert kept.secret not in file
        assert kept.secret.hex().encode() not in file
    with pytest.raises(VerificationError) as error:
        answer = replace(good, challenge=bytes(32))
        check_response(kept, answer, NOW)
    assert error.value.code == "other-challenge"
