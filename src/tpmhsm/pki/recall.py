"""What one issuance asks again and again is worked out once.

The checks of a certificate read the same names, keys and extensions at each step, and most of what
an authority writes is the same in all its certificates.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

SMALL = 1 << 12
"""Bytes or characters; what is longer is not kept."""


def recalled(function: F) -> F:
    """Keep the last results of a pure function; the length of its first argument counts.

    Results are shared: they must not be changed by who gets them.
    """
    kept = lru_cache(256)(function)

    @wraps(function)
    def recall(first: Any, *others: Any, **named: Any) -> Any:
        chosen = kept if len(first) <= SMALL else function
        return chosen(first, *others, **named)

    return cast("F", recall)
