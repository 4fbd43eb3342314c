"""The keys and groups of a database, proved against the chip. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from tpmhsm.attest.public_keys import spki_of_public
from tpmhsm.errors import (
    ChipRefusedError,
    DeviceError,
    NotFoundError,
    TpmHsmError,
    VerificationError,
)
from tpmhsm.keys.budgets import indices_of, missing_indices
from tpmhsm.keys.choice import policy_of_row
from tpmhsm.keys.evidence import load_birth
from tpmhsm.keys.host import load_host, must_be
from tpmhsm.policy.bound import command_of
from tpmhsm.policy.people import rule_text
from tpmhsm.policy.tree import counter_nv, roster_content, roster_nv
from tpmhsm.store.proof import Check
from tpmhsm.wire.codec import decode
from tpmhsm.wire.constants import CC, NvAttributes
from tpmhsm.wire.names import name_of_nv, name_of_public
from tpmhsm.wire.public import Public

if TYPE_CHECKING:
    from tpmhsm.keys.groups import Groups, GroupState
    from tpmhsm.keys.host import HostDevice
    from tpmhsm.store import Store
    from tpmhsm.store.keys import KeyRow
    from tpmhsm.tpm.attesting import Birth
    from tpmhsm.tpm.chip import Chip
    from tpmhsm.tpm.device import Device
    from tpmhsm.tpm.objects import Loaded
    from tpmhsm.wire.structures import NvPublic

IndexState = Literal["well", "missing", "unwritten", "other"]

_INDEX_WORDS: dict[IndexState, str] = {
    "missing": "is missing in the chip",
    "unwritten": "was made anew, and never written",
    "other": "is another one",
}
_BACKUP = "restore the database from a backup: without its own record the key cannot be used"


def check_chip(store: Store, device: Device) -> Check:
    """This is the chip that the home was made for, with nothing else at our handles."""
    check = Check("chip", seen=1)
    host = load_host(store)
    with store.reading() as tx:
        known = {
            index
            for group in tx.groups.all(failed=True)
            if group.state in ("active", "founding")
            for index in (group.counter_index, group.roster_index)
        }
        known.update(index for row in tx.keys.all() for index in indices_of(row))
    with device.transaction() as chip:
        try:
            must_be(chip, host)
            _strangers(check, chip, (host, load_birth(store)), known)
        except TpmHsmError as error:
            check.found(error.message, error.hint)
    return check


def _strangers(
    check: Check, chip: Chip, ours: tuple[HostDevice, Birth | None], known: set[int]
) -> None:
    from tpmhsm.tpm import attesting, nv, objects

    host, rsa = ours
    own = {
        objects.storage_parent(chip, host.parent_name).handle,
        objects.attestation_key(chip, host.ak_name).handle,
    }
    if rsa is not None and (kept := attesting.find_rsa(chip, rsa)):
        own.add(kept.handle)
    for handle in objects.own_handles(chip):
        check.seen += 1
        if handle not in own:
            check.found(
                f"the chip keeps an object at 0x{handle:08x} that this home does not know",
                "another home of this chip made it, or somebody else",
            )
    for index in nv.indices(chip):
        if nv.FIRST_INDEX <= index <= nv.LAST_INDEX:
            check.seen += 1
            if index not in known:
                check.found(
                    f"the chip has an NV index 0x{index:08x} that this home does not know",
                    "another home or program made it; tpm2_nvundefine removes it",
                )


def check_keys(
    store: Store, device: Device, groups: Groups, tell: Callable[[str], None] = lambda _: None
) -> Check:
    """Every key says the same in each column, has its policy, and loads with its Name."""
    from tpmhsm.tpm.objects import storage_parent

    check = Check("keys")
    host = load_host(store)
    with store.reading() as tx:
        rows = tx.keys.all(deleted=True)
    for number, row in enumerate(rows, 1):
        check.seen += 1
        tell(f"key {number} of {len(rows)}")
        if row.state != "present":
            if row.private:
                check.found(f"the deleted key {row.label!r} still has its private part")
            continue
        for fault in _columns(row, groups):
            check.found(f"key {row.label!r}: {fault}", _BACKUP)
        # a transaction for each: others have their turns in between
        with device.transaction() as chip:
            try:
                parent = storage_parent(chip, host.parent_name)
            except NotFoundError as error:
                check.found(error.message, error.hint)
                return check
            _loads(check, chip, parent, row)
            for group, index in missing_indices(chip, row, groups):
                check.found(
                    f"key {row.label!r}: NV index 0x{index:08x}, which counts its budget of "
                    f"{group!r}, is missing in the chip, or another one",
                    f"tpmhsm key grant {row.label} N makes it anew, with the officers' approvals",
                )
    return check


def _columns(row: KeyRow, groups: Groups) -> list[str]:
    faults = []
    try:
        area = decode(Public, row.public)
        spki = spki_of_public(area)
        if name_of_public(area).hex() != row.name:
            faults.append("its Name is not that of its public area")
        if spki != row.spki:
            faults.append("its public key is another one than the chip's")
        if _hash_of(area) != row.hash:
            faults.append("it uses another hash than the database says")
        if (command_of(area) == CC.Sign) != (row.use == "sign"):
            faults.append("it is for another use than the database says")
        policy = policy_of_row(row, groups)
        if area.auth_policy != policy.digest or policy.text != row.policy:
            faults.append(f"its policy in the chip is not {row.policy}")
    except TpmHsmError as error:
        faults.append(error.message)
    from hashlib import sha256

    if sha256(row.spki).hexdigest() != row.spki_sha256:
        faults.append("the hash of its public key is wrong")
    return faults


def _hash_of(area: Public) -> str:
    from tpmhsm.tpm import objects
    from tpmhsm.tpm.decryption import decrypts, oaep_hash

    return oaep_hash(area) if decrypts(area) else objects.hash_of(area)


def _loads(check: Check, chip: Chip, parent: Loaded, row: KeyRow) -> None:
    from tpmhsm.keys.loading import load_row

    try:
        loaded = load_row(chip, parent, row)
        if loaded.name.hex() != row.name:
            check.found(f"key {row.label!r} has another Name in the chip", _BACKUP)
        chip.flush(loaded.handle)
    except DeviceError:
        raise
    except TpmHsmError as error:
        check.found(f"key {row.label!r} does not load into the chip: {error.message}", _BACKUP)


def check_groups(store: Store, device: Device, groups: Groups) -> Check:
    """Every group in force has its two indices in the chip, with epoch and roster."""
    check = Check("groups")
    with store.reading() as tx:
        rows = tx.groups.all()
    for row in rows:
        check.seen += 1
        try:
            state = groups.state(row.name)
        except TpmHsmError as error:
            check.found(f"group {row.name!r} cannot be read: {error.message}", "restore a backup")
            continue
        if state.group.id.hex() != row.id or state.group.name != row.name:
            check.found(f"group {row.name!r}: its document is another group's", "restore a backup")
        elif (row.state == "active") != state.in_force:
            check.found(f"group {row.name!r} is {row.state}, and its roster is not so")
        elif state.in_force and not state.group.static:
            with device.transaction() as chip:
                _indices(check, chip, state)
    return check


def index_state(chip: Chip, wanted: NvPublic) -> IndexState:
    """How an index stands whose public area was this one when it was written."""
    from tpmhsm.tpm import nv

    try:
        found = nv.read_public(chip, wanted.nv_index)
    except NotFoundError:
        return "missing"
    except (ChipRefusedError, VerificationError):
        return "other"
    if found.name == name_of_nv(wanted):
        return "well"
    unwritten = wanted.attributes & ~NvAttributes.WRITTEN
    return "unwritten" if found.public.attributes == unwritten else "other"


def _indices(check: Check, chip: Chip, state: GroupState) -> None:
    from tpmhsm.tpm import nv

    name, group = state.row.name, state.group
    restore = (
        f"tpmhsm group change {name} --officers {rule_text(state.roster.officers)} puts it back"
    )
    for what, wanted in (
        ("epoch counter", counter_nv(group, written=True)),
        ("roster index", roster_nv(group, written=True)),
    ):
        if (found := index_state(chip, wanted)) != "well":
            check.found(f"group {name!r}: the {what} {_INDEX_WORDS[found]}", restore)
            return
    epoch = nv.read_counter(chip, group.counter_index)
    if epoch != state.roster.epoch:
        check.found(
            f"group {name!r}: the chip is in epoch {epoch}, the database in {state.roster.epoch}",
            "a change is under way (tpmhsm request list), or the database is an old copy",
        )
    elif nv.read(chip, group.roster_index) != roster_content(group, state.roster):
        check.found(f"group {name!r}: the chip holds another roster than the database", restore)
