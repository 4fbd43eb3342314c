"""Evidence that an authority demands before it certifies: asked for, recorded, missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.attest.aiks import BORN_HERE, Chip, csr_with
from tests.ca.doubles import House

from tpmhsm.attest.roots import PinnedRoot, Pins, format_pins
from tpmhsm.ca.authority import Authorities
from tpmhsm.ca.settings import read_settings
from tpmhsm.errors import TpmHsmError, UsageError, VerificationError, WaitingError
from tpmhsm.pki.load import to_pem
from tpmhsm.wire.names import name_of_public


def demanding(house: House, chip: Chip, setting: str = "true", ca: str = "root-ca") -> Authorities:
    """The house, where an authority believes whoever certified this chip's attestation key."""
    (house.home / "attestation-ca.pem").write_bytes(to_pem(chip.ca.certificate))
    (house.home / "tpmhsm.toml").write_text(
        f'[ca.{ca}]\nrequire_evidence = {setting}\nevidence_roots = ["attestation-ca.pem"]\n'
    )
    return Authorities(house.store, house.signer, read_settings(house.home))


def recorded(house: House, event: str = "evidence") -> list[dict[str, object]]:
    with house.store.reading() as tx:
        return [row.facts for row in tx.audit.each(event)]


@pytest.fixture
def chip(house: House) -> Chip:
    house.authorities.create("root-ca", "root", "CN=Root")
    return Chip()


def test_evidence_is_demanded_and_recorded(house: House, chip: Chip) -> None:
    found = demanding(house, chip).sign("root-ca", chip.csr(), profile="tls-server")
    assert any("evidence: the key is in a TPM" in note for note in found.notes)
    (entry,) = recorded(house)
    assert entry["serial"] == found.facts["serial"]
    assert entry["name"] == name_of_public(chip.public).hex()
    assert (entry["device_class"], entry["proof"]) == ("class unknown", "creation")


def test_the_class_of_the_chip_is_recorded(house: House, chip: Chip) -> None:
    authorities = demanding(house, chip)
    pins = Pins((PinnedRoot.of(chip.ca.certificate, "Example", "firmware"),))
    (house.home / "attestation-ca.pem").write_bytes(format_pins(pins))
    authorities.sign("root-ca", chip.csr(), profile="tls-server")
    assert recorded(house)[0]["device_class"] == "firmware"


FAULTS: dict[str, Callable[[Chip], bytes]] = {
    "no-evidence": lambda chip: csr_with(chip.key),
    "untrusted-root": lambda chip: Chip(key=chip.key).csr(),
    "not-fixed": lambda chip: Chip(chip.ca, chip.ak, chip.key, BORN_HERE & ~2).csr(),
    "other-key": lambda chip: Chip(chip.ca, chip.ak).csr(chip.bundle()),
}


@pytest.mark.parametrize("code", FAULTS)
@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_what_is_refused(house: House, chip: Chip, code: str, many: bool) -> None:
    authorities = demanding(house, chip)
    csr = FAULTS[code](chip)
    before = house.signer.signed
    with pytest.raises(VerificationError) as caught:
        if many:
            with authorities.issuer(workers=0) as issuer:
                issuer.sign("root-ca", csr, profile="tls-server").result()
        else:
            authorities.sign("root-ca", csr, profile="tls-server")
    assert caught.value.code == code
    assert house.signer.signed == before
    assert recorded(house) == []


def test_many_are_recorded_too(house: House, chip: Chip) -> None:
    authorities = demanding(house, chip)
    with authorities.issuer(workers=0) as issuer:
        done = issuer.sign("root-ca", chip.csr(), profile="tls-server").result()
    (entry,) = recorded(house)
    assert entry["serial"] == done.serial
    assert any("evidence" in note for note in done.notes)


def test_workers_verify_it(house: House, chip: Chip) -> None:
    authorities = demanding(house, chip)
    with authorities.issuer(workers=1) as issuer:
        assert issuer.sign("root-ca", chip.csr(), profile="tls-server").result().serial
    assert len(recorded(house)) == 1


def test_for_some_profiles_alone(house: House, chip: Chip) -> None:
    authorities = demanding(house, chip, '["tls-client"]')
    plain = csr_with(chip.key)
    authorities.sign("root-ca", plain, profile="tls-server")
    with pytest.raises(VerificationError, match="no evidence"):
        authorities.sign("root-ca", plain, profile="tls-client")
    assert authorities.wants_evidence("root-ca", "tls-client")
    assert not authorities.wants_evidence("root-ca", "tls-server")
    with pytest.raises(VerificationError, match="no evidence"):
        authorities.sign("root-ca", plain, profile="tls-server", evidence=True)


def test_nobody_is_named(house: House, chip: Chip) -> None:
    with pytest.raises(UsageError) as caught:
        house.authorities.sign("root-ca", chip.csr(), profile="tls-server", evidence=True)
    assert caught.value.code == "no-roots"
    assert "evidence_roots" in caught.value.hint


def test_roots_that_are_gone(house: House, chip: Chip) -> None:
    authorities = demanding(house, chip)
    (house.home / "attestation-ca.pem").unlink()
    with pytest.raises(UsageError, match="cannot read the roots"):
        authorities.sign("root-ca", chip.csr(), profile="tls-server")


def test_a_key_without_a_csr_has_none(house: House, chip: Chip) -> None:
    from tpmhsm.pki.applicant import applicant_from_csr

    authorities = demanding(house, chip)
    with pytest.raises(TpmHsmError) as caught:
        authorities.certify_key("root-ca", applicant_from_csr(chip.csr()), profile="tls-server")
    assert caught.value.code == "no-evidence"


def test_where_people_approve_it_is_recorded_with_the_request(house: House, chip: Chip) -> None:
    authorities = demanding(house, chip, ca="root-ca")
    house.signer.guarded.add("root")
    with pytest.raises(WaitingError):
        authorities.sign("root-ca", chip.csr(), profile="tls-server")
    assert len(recorded(house)) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("require_evidence = 1", "require_evidence is 1"),
        ('require_evidence = ["tls"]', "require_evidence is ['tls']"),
        ('evidence_roots = "a.pem"', "evidence_roots is no list"),
        ("evidence_keys = [3]", "evidence_keys is no list"),
    ],
)
def test_settings_that_cannot_be(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "tpmhsm.toml").write_text(f"[ca.x]\n{text}\n")
    with pytest.raises(UsageError) as caught:
        read_settings(tmp_path)
    assert said in caught.value.message
