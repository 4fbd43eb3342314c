"""Which writing systems a word mixes, and whether it looks like another word (Unicode TS 39).

Python knows no script property, but each letter's Unicode name begins with its script: that is the
table used here. A word is in order when it is of one script, or of the East Asian mixtures that
TS 39 (5.2) calls highly restrictive: Latin with Han and kana, bopomofo or hangul. What looks alike
is known for the Cyrillic, Greek and Armenian letters that pass for Latin ones in common fonts; not
for accents, nor for digits or letters of one script that resemble each other (rn and m).
"""

from __future__ import annotations

import unicodedata

_LIKE_LATIN = frozenset(
    "аеорсхуіјѕԁԛԝһӏгтпшвкмнАВЕКМНОРСТХУІЈЅαενικορτυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧօսոհցաԱՕՏⅼⅰⅴⅹ"
)
_SAME = {
    "IDEOGRAPHIC": "CJK",
    "KATAKANA-HIRAGANA": "KATAKANA",
    "HALFWIDTH": "KATAKANA",
    "FULLWIDTH": "LATIN",
}
_MIXTURES = (
    frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA"}),
    frozenset({"LATIN", "CJK", "BOPOMOFO"}),
    frozenset({"LATIN", "CJK", "HANGUL"}),
)


def scripts_of(word: str) -> frozenset[str]:
    """The scripts of a word's letters, in capitals as Unicode names them: `LATIN`, `CJK` …"""
    first = (unicodedata.name(c, "?").split(" ")[0] for c in word if c.isalpha())
    return frozenset(_SAME.get(name, name) for name in first)


def is_mixed(word: str) -> bool:
    """Whether a word mixes scripts that no language mixes."""
    scripts = scripts_of(word)
    return len(scripts) > 1 and not any(scripts <= mixture for mixture in _MIXTURES)


def looks_latin(word: str) -> bool:
    """Whether a word has no Latin letter and every letter looks like one."""
    scripts = scripts_of(word)
    return bool(scripts - {"LATIN"}) and all(c in _LIKE_LATIN for c in word if c.isalpha())


def disguise(word: str) -> str:
    """In words what is misleading about a word, with its first 40 letters; usually empty."""
    if word.isascii():
        return ""
    if is_mixed(word):
        return f"'{word[:40]}' mixes {' and '.join(sorted(scripts_of(word)))} letters"
    if looks_latin(word):
        return f"'{word[:40]}' is {min(scripts_of(word))}, and looks like Latin"
    return ""
