"""A budget belongs to one key: refused when this home knows it as another's.

Approvals of a grant name the NV index and no key, for a key's Name holds the index's and not the
other way round. Root can make a harmless key whose policy names the index of another, and ask for
a budget of that one. So each home remembers on which index every key counts that it approved
anything for.
"""

from __future__ import annotations

from tpmhsm.approval.guarded import check_guarded_key
from tpmhsm.approval.memory import GrantedTotal, Memory
from tpmhsm.approval.request import Request
from tpmhsm.attest.statements import ChipKey
from tpmhsm.errors import ApprovalRefusedError
from tpmhsm.wire.codec import decode
from tpmhsm.wire.public import Public


def own_budgets(request: Request, key: ChipKey, memory: Memory) -> tuple[GrantedTotal, ...]:
    """Return what to remember of the indices on which the key of a request counts: one each, with
    a total of 0, for nothing was approved.

    ApprovalRefusedError `shared-budget` when this home knows one as another key's, or another key
    with the very same policy.
    """
    assert request.key is not None  # noqa: S101 - Request's own rule
    policy = check_guarded_key(key, request.group, request.key.policy)
    names = [policy.budget_name(label) for label in policy.granting]
    for name in names:
        known = memory.granted(name)
        if known is not None and known.keys - {key.name}:
            raise _shared("this home knows its budget as that of another key")
    if names:
        _check_policies(request, key, memory)
    return tuple(GrantedTotal(name, key.name, 0) for name in names)


def _check_policies(request: Request, key: ChipKey, memory: Memory) -> None:
    policy = decode(Public, key.public).auth_policy
    for other in memory.pinned_keys(request.group.id):
        if other.name != key.name and decode(Public, other.public).auth_policy == policy:
            raise _shared(f'the key "{other.label}" has the very same policy')


def _shared(why: str) -> ApprovalRefusedError:
    return ApprovalRefusedError(
        f"{why}: what is granted to one, the other may use",
        code="shared-budget",
        hint="ask the host for a key with a budget of its own",
    )
