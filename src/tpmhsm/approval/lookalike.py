"""Names of people, groups and keys that look alike, whatever their letters are.

After Unicode TS 39, 4 (skeletons), with a table of our own: letters of other scripts that pass for
Latin ones, and what a hurried eye takes for the same (l, I and 1, O and 0, rn and m).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_LETTERS = str.maketrans(
    "аеорсхуіјѕԁԛԝһӏгтпшвкмнАВЕКМНОРСТХУІЈЅαενικορτυχηΑΒΕΖΗΙΚΜΝΟΡΤΥΧօսոհցաԱՕՏ",
    "aeopcxyijsdqwhlrtnwbkmhABEKMHOPCTXYIJSaevikoptuxnABEZHIKMNOPTYXounhgwUOS",
)
_ALIKE = (("rn", "m"), ("vv", "w"))
_SAME = str.maketrans("i1|0", "lllo", "-_. ")


def skeleton(name: str) -> str:
    """What is left of a name for a hurried eye: names that look alike have the same."""
    letters = unicodedata.normalize("NFKD", name.translate(_LETTERS))
    plain = "".join(c for c in letters if not unicodedata.combining(c))
    found = plain.casefold().translate(_LETTERS).translate(_SAME)
    for pair, one in _ALIKE:
        found = found.replace(pair, one)
    return found


def alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """The names, two or more together, that look alike and are not the same."""
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(skeleton(name), set()).add(name)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)
