"""What the chip signs of itself besides keys and NV: its PCRs, its time, a second attestation key.

The second is RSA, because some verifiers take no other (google/go-attestation). It is made when it
is first asked for, in the endorsement hierarchy as the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpmhsm.errors import ChipRefusedError, DeviceError
from tpmhsm.policy.model import Pcr
from tpmhsm.policy.pcrs import ALGORITHMS, Measured, pcr_digest
from tpmhsm.tpm import capabilities
from tpmhsm.tpm.objects import (
    ATTESTATION_KEY_TEMPLATE,
    RSA_AK_HANDLES,
    Attestation,
    Loaded,
    all_persistent,
    object_at,
    persist,
    unsupported,
)
from tpmhsm.tpm.pcrs import measure
from tpmhsm.wire.attest import Attest
from tpmhsm.wire.codec import decode, encode
from tpmhsm.wire.commands import CertifyCreation, CreatePrimary, GetTime, Quote
from tpmhsm.wire.constants import ALG, RC, RH
from tpmhsm.wire.names import name_of_public
from tpmhsm.wire.public import Public, RsaParms
from tpmhsm.wire.rc import base_code
from tpmhsm.wire.structures import (
    NULL_SCHEME,
    NULL_SYM,
    AsymScheme,
    SchemeHash,
    SensitiveCreate,
    Ticket,
    pcr_selection,
)

if TYPE_CHECKING:
    from tpmhsm.tpm.chip import Chip

RSA_ATTESTATION_TEMPLATE = Public(
    ALG.RSA,
    ALG.SHA256,
    ATTESTATION_KEY_TEMPLATE.attributes,
    b"",
    RsaParms(NULL_SYM, AsymScheme(ALG.RSASSA, SchemeHash(ALG.SHA256)), 2048, 0),
    bytes(256),
)

_BANKS = ("sha256", "sha384", "sha512", "sha1")
_ALL_PCRS = tuple(range(24))
_TRIES = 5


@dataclass(frozen=True)
class Birth:
    """What TPM2_CreatePrimary gave besides the key: its Name, TPMS_CREATION_DATA, its hash, and the
    ticket (TPMT_TK_CREATION) with which the chip certifies it later.
    """

    name: bytes
    data: bytes
    hash: bytes
    ticket: bytes


@dataclass(frozen=True)
class RsaKey:
    """The RSA attestation key. `transient`: the chip had no room to keep it."""

    loaded: Loaded
    birth: Birth
    transient: bool = False


@dataclass(frozen=True)
class Quoted:
    """A quote, and the values of PCRs that it is of."""

    statement: Attestation
    pcrs: Measured


def rsa_attestation_key(chip: Chip, known: Birth | None = None) -> RsaKey:
    """The persistent RSA AK; made on first use, or when the `known` one is gone.

    One command when it is where it was put. ChipRefusedError for a chip without RSA.
    """
    if known is not None and (found := find_rsa(chip, known)):
        return RsaKey(found, known)
    command = CreatePrimary(RH.ENDORSEMENT, SensitiveCreate(), RSA_ATTESTATION_TEMPLATE, b"", ())
    try:
        made = chip.send(command)
    except ChipRefusedError as error:
        raise unsupported(error, "rsa2048") from error
    name = name_of_public(made.out_public)
    data = encode(made.creation_data) if made.creation_data else b""
    birth = Birth(name, data, made.creation_hash, encode(made.creation_ticket))
    area = made.out_public
    present = all_persistent(chip)
    same = next((one for one in present if one.name == name), None)
    try:
        if same is None:
            taken = {one.handle for one in present}
            places = [at for at in RSA_AK_HANDLES if at not in taken]
            same = Loaded(persist(chip, made.object_handle, places), area, name)
    except ChipRefusedError as error:
        if base_code(error.rc) != RC.NV_SPACE:
            chip.flush(made.object_handle)
            raise
        return RsaKey(Loaded(made.object_handle, area, name), birth, transient=True)
    chip.flush(made.object_handle)
    return RsaKey(same, birth)


def find_rsa(chip: Chip, known: Birth) -> Loaded | None:
    """The RSA AK where the chip keeps it; None if it is gone."""
    usual = object_at(chip, RSA_AK_HANDLES.start)
    if usual is not None and usual.name == known.name:
        return usual
    return next((one for one in all_persistent(chip) if one.name == known.name), None)


def certify_itself(chip: Chip, key: RsaKey, qualifying: bytes) -> Attestation:
    """TPM2_CertifyCreation of the key, signed by the key itself: its parent was a hierarchy."""
    handle, ticket = key.loaded.handle, decode(Ticket, key.birth.ticket)
    answer = chip.send(
        CertifyCreation(handle, handle, qualifying, key.birth.hash, NULL_SCHEME, ticket)
    )
    return Attestation(answer.certify_info, encode(answer.signature))


def quote_all(chip: Chip, ak: Loaded, qualifying: bytes) -> Quoted:
    """TPM2_Quote of PCRs 0 to 23 of one bank (SHA-256 if it is switched on), and their values.

    Five commands, if nothing is measured meanwhile. DeviceError for a chip without PCRs, or one
    that does not come to rest.
    """
    banks = capabilities.pcr_banks(chip)
    bank = next((name for name in _BANKS if ALGORITHMS[name] in banks), None)
    if bank is None:
        raise DeviceError("the chip has no bank of PCRs switched on")
    selected = (Pcr(bank, _ALL_PCRS),)
    for _ in range(_TRIES):
        values = measure(chip, selected)
        said = quote(chip, ak, qualifying, bank)
        attested = decode(Attest, said.attest).attested
        if attested.pcr_digest == pcr_digest(selected, values):  # type: ignore[union-attr]
            return Quoted(said, values)
    raise DeviceError("the chip's PCRs change faster than they can be read")


def quote(chip: Chip, ak: Loaded, qualifying: bytes, bank: str) -> Attestation:
    """TPM2_Quote of PCRs 0 to 23 of a bank (Part 3 §18.4)."""
    selection = (pcr_selection(ALGORITHMS[bank], _ALL_PCRS),)
    answer = chip.send(Quote(ak.handle, qualifying, NULL_SCHEME, selection))
    return Attestation(answer.quoted, encode(answer.signature))


def time(chip: Chip, ak: Loaded, qualifying: bytes) -> Attestation:
    """TPM2_GetTime: the chip's clock, resets and restarts (Part 3 §18.7)."""
    answer = chip.send(GetTime(RH.ENDORSEMENT, ak.handle, qualifying, NULL_SCHEME))
    return Attestation(answer.time_info, encode(answer.signature))
