"""What one issuance asks again and again is worked out once.

The checks of a certificate read the same names, keys and extensions at each step, and most of what
an authority writes is the same in all its certificates.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from inspect import signature
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

_MANY = 256
SMALL = 1 << 12
"""Bytes or characters; what is longer is not kept."""


def recalled(function: F) -> F:
    """Keep the last results of a pure function; the length of its first argument counts.

    Results are shared: they must not be changed by who gets them.
    """
    kept = lru_cache(_MANY)(function)

    @wraps(function)
    def recall(first: Any, *others: Any, **named: Any) -> Any:
        chosen = kept if len(first) <= SMALL else function
        return chosen(first, *others, **named)

    known = _Known(function)

    @wraps(function)
    def recall_one(only: Any) -> Any:
        return known[only] if len(only) <= SMALL else function(only)

    return cast("F", recall_one if len(signature(function).parameters) == 1 else recall)


class _Known(dict[Any, Any]):
    """Results by the one argument: a look into a dictionary takes half the time of anything else.

    When they are too many all are forgotten.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __missing__(self, only: Any) -> Any:
        result = self._function(only)
        if len(self) >= _MANY:
            self.clear()
        self[only] = result
        return result
