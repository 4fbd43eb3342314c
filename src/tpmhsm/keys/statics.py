"""Static groups: nothing of them stands in the chip, so that they need no TPM2_PolicyAuthorizeNV.

Their officers' ladder is in the policy of each key, from its birth to its end.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tpmhsm.errors import RefusedError
from tpmhsm.keys.host import load_host, must_be
from tpmhsm.policy.fingerprint import fingerprint
from tpmhsm.policy.group import GroupDocument, founders_of, static_roster
from tpmhsm.store.groups import GroupRow, RosterRow

if TYPE_CHECKING:
    from tpmhsm.policy.people import Thresholds
    from tpmhsm.store import Store
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.device import Device


def must_authorize_nv(chip: Chip) -> None:
    """Raise RefusedError `no-authorize-nv` if the chip cannot look a policy up in an NV index."""
    from tpmhsm.tpm.capabilities import command_codes
    from tpmhsm.wire.constants import CC

    if CC.PolicyAuthorizeNV not in command_codes(chip):
        raise RefusedError(
            "this chip has no TPM2_PolicyAuthorizeNV: it cannot have groups whose people change",
            code="no-authorize-nv",
            hint="tpmhsm group create NAME --officers … --static: its people never change, and a "
            "lost quorum ends its keys",
        )


def found_static(
    store: Store, device: Device, name: str, officers: Thresholds, contributions: Iterable[bytes]
) -> GroupRow:
    """Write a static group down; it is in force at once, for nothing is asked of the chip.

    `officers` with their contributions. Raises ExistsError for a taken name, UsageError for a rule
    that cannot be, RefusedError for another chip.
    """
    host = load_host(store)
    with device.transaction() as chip:
        must_be(chip, host)
    group = GroupDocument(
        name=name,
        device_ek=host.ek_digest,
        device_ak=host.ak_name,
        nonce=secrets.token_bytes(32),
        counter_index=0,
        roster_index=0,
        custodians=officers,
        founders=founders_of(contributions),
    )
    roster = static_roster(group)
    words = " ".join(fingerprint(group, host.ek_evidence))
    row = GroupRow(group.id.hex(), name, group.encoded, 0, 0, "active", words)
    with store.transaction() as tx:
        kept = tx.groups.add(row)
        tx.rosters.add(
            RosterRow(row.id, roster.epoch, roster.encoded, roster.hash.hex(), "in-force")
        )
        tx.audit.append("group-static", {"group": name, "id": row.id})
    return kept
