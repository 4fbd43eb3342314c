"""What travels between two hosts with one group: its export, and a key's backup."""

from __future__ import annotations

from typing import Any

Shown = tuple[dict[str, Any], str]


def show_export(data: bytes) -> Shown | None:
    """A group's export; None for anything else."""
    from tpmhsm.cli.show_ours import lines_of
    from tpmhsm.policy.people import describe_rule
    from tpmhsm.requests.joining import is_export, parse_export

    if not is_export(data):
        return None
    history = parse_export(data)
    found = {
        "group": history.founding.group.name,
        "id": history.founding.group.id.hex(),
        "epoch": history.roster.epoch,
        "officers": describe_rule(history.roster.officers),
        "custodians": describe_rule(history.founding.group.custodians),
    }
    return found, f"{lines_of(found)}\n(tpmhsm group join brings it into force in another chip)"


def show_backup(data: bytes) -> Shown | None:
    """A key's backup; None for anything else."""
    from tpmhsm.approval.backup_file import is_backup, parse_backup
    from tpmhsm.cli.show_ours import lines_of

    if not is_backup(data):
        return None
    file = parse_backup(data)
    part = file.request.key
    found = {
        "label": part.label if part else "",
        "name": file.copy.key.hex(),
        "policy": file.key["policy"],
        "group": file.request.group.name,
        "from": file.request.device.label,
        "for_ak": file.copy.device_ak.hex(),
        "approvals": [approval.approver for approval in file.request.approvals],
        "authorities": [one["name"] for one in file.authorities],
    }
    return found, f"{lines_of(found)}\n(tpmhsm key restore takes it in, on that chip alone)"
