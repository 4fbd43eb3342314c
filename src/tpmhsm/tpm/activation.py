"""TPM2_ActivateCredential: the chip gives up a secret that was made for it (Part 3 §12.5).

The EK acts by its own policy: PolicySecret of the endorsement hierarchy, in the high range as one
of two branches (TCG EK Credential Profile, B.6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpmhsm.errors import ChipRefusedError, RefusedError
from tpmhsm.tpm.ek_templates import BRANCHES
from tpmhsm.tpm.evidence import load_endorsement
from tpmhsm.tpm.sessions import EMPTY_PASSWORD, start_plain_policy
from tpmhsm.wire.commands import ActivateCredential, PolicyOR, PolicySecret
from tpmhsm.wire.constants import RC, RH
from tpmhsm.wire.rc import base_code

if TYPE_CHECKING:
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.objects import Loaded
    from tpmhsm.tpm.sessions import PolicySession
    from tpmhsm.wire.public import Public

_FOREIGN = (RC.INTEGRITY, RC.FAILURE, RC.VALUE, RC.SIZE, RC.ECC_POINT)
"""How chips refuse a credential that is not for them. TPM_RC_FAILURE (0x101) here is libtpms' word
for a seed that the EK cannot decrypt: the chip has not failed.
"""


def activate(chip: Chip, ek: Public, ak: Loaded, credential: bytes, secret: bytes) -> bytes:
    """What a credential holds, if it is for this EK and this AK.

    Seven commands (eight in the high range) with a persistent EK. NotFoundError for a chip without
    that EK, RefusedError `other-chip` when the chip cannot open the credential, ChipRefusedError.
    """
    key = load_endorsement(chip, ek)
    session = start_plain_policy(chip, ek.name_alg)
    _satisfy(chip, session, ek.auth_policy)
    session.last = True
    command = ActivateCredential(ak.handle, key.handle, credential, secret)
    try:
        return bytes(chip.send(command, EMPTY_PASSWORD, session).cert_info)
    except ChipRefusedError as error:
        if base_code(error.rc) not in _FOREIGN:
            raise
        raise RefusedError(
            "the challenge is not for this chip: its secret is for another endorsement key, or for"
            " another attestation key; nothing is wrong with the chip",
            code="other-chip",
            hint="tpmhsm attest collect on this host, and a challenge made from that file",
            details={"rc": f"0x{error.rc:03x}"},
        ) from error


def _satisfy(chip: Chip, session: PolicySession, policy: bytes) -> None:
    chip.send(PolicySecret(RH.ENDORSEMENT, session.handle, b"", b"", b"", 0))
    if branches := BRANCHES.get(policy):
        chip.send(PolicyOR(session.handle, branches))
