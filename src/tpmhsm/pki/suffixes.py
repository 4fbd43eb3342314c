"""The public suffix list (https://publicsuffix.org), read when it is first asked."""

from __future__ import annotations

from functools import cache
from typing import Any


def public_suffix(host: str) -> str | None:
    """The public suffix of a host name (A-labels), None when its top-level domain is unknown."""
    found: str | None = _list().publicsuffix(host, accept_unknown=False)
    return found


def is_public_suffix(domain: str) -> bool:
    """Whether everybody may have names below a domain; an unknown top-level domain is one."""
    return bool(_list().is_public(domain))


@cache
def _list() -> Any:
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()
