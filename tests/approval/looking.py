"""Reviews as tests make them: of what comes out of the request's file."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.approval.doubles import (
    NOW,
    World,
    identity,
)

from tpmhsm.approval.approve import make_approval
from tpmhsm.approval.memory import InMemory
from tpmhsm.approval.request import Request, parse_request
from tpmhsm.approval.review import Review, review
from tpmhsm.errors import ApprovalRefusedError


def look(
    request: Request, memory: InMemory | None = None, who: str = "alice", **options: object
) -> Review:
    """Review a request as it comes out of its file."""
    seen = parse_request(request.data)
    now = options.get("now", NOW + timedelta(hours=1))
    name = options.get("name", who)
    return review(seen, memory or InMemory(), identity(who), name, now)  # type: ignore[arg-type]


def refused(request: Request, memory: InMemory, code: str, who: str = "alice", **o: object) -> str:
    with pytest.raises(ApprovalRefusedError) as error:
        look(request, memory, who, **o)
    assert error.value.code == code, error.value.message
    return error.value.message


def approve(request: Request, memory: InMemory, who: str) -> Request:
    """Let somebody approve, remember it, and return the request with the approval."""
    checked = look(request, memory, who)
    approval = make_approval(checked, identity(who))
    memory.keep(checked.entries)
    return replace(request, approvals=(*request.approvals, approval))


def founded(world: World, who: str = "alice") -> InMemory:
    memory = world.memory(who)
    approve(world.founding(), memory, who)
    return memory


def heads(world: World, request: Request, memory: InMemory | None = None) -> dict[str, str]:
    checked = look(request, memory or founded(world))
    return {f.head: f.text for f in (*checked.flags, *checked.content.flags)}
