"""Whose chip is it: an EK certificate, its key, and its path to a pinned vendor root.

TCG EK Credential Profile for TPM Family 2.0, section 3.1; RFC 5280, section 6, for the path. Chips
carry what was burnt into them, so what breaks a rule without letting anybody forge is a caution:
SHA-1 signatures of makers, odd names, marks that are missing. What would let a stranger's key pass
for an endorsement key is a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from tpmhsm.attest.ek_reading import EkHints, read_hints
from tpmhsm.attest.roots import PinnedRoot
from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.keys import load_spki, spki_der
from tpmhsm.pki.names import format_dn_der
from tpmhsm.pki.path_certificate import (
    UNDERSTOOD,
    Fault,
    PathCertificate,
    read_path_certificate_loosely,
)
from tpmhsm.pki.path_keys import Budget, TooComplexError, broken_hash
from tpmhsm.pki.path_rules import Rules, date_faults
from tpmhsm.pki.path_search import Candidate, Finding, Forest, Path, Search
from tpmhsm.pki.signatures import is_signed_by
from tpmhsm.pki.tbs import rfc3339

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

_OPEN = ("foreign-root", "unknown-issuer")

EK_USAGE = "2.23.133.8.1"
"""tcg-kp-EKCertificate."""

NEVER = datetime(9999, 12, 31, tzinfo=UTC)
"""From here on a certificate has no end (RFC 5280, 4.1.2.5)."""

MAX_INTERMEDIATES = 5_000
_MAX_TRIED = 64
_WORK = {"signatures": 300, "steps": 20_000}
_RSAES_OAEP = "1.2.840.113549.1.1.7"
_RSA = der.encode(der.SEQUENCE, der.encode_oid("1.2.840.113549.1.1.1"), der.encode(der.NULL))

# Critical in certificates of makers, and without a meaning for whose chip it is: attributes of the
# chip, how long a key may be used, what layers of firmware were measured (TCG DICE), Intel's own.
_HARMLESS = ("2.5.29.9", "2.5.29.16")
_HARMLESS_ARCS = ("2.23.133.", "1.2.840.113741.")
_TELLING = {"2.5.29.19": "basic", "2.5.29.15": "key_usage", "2.5.29.37": "usages"}


class EkFault(NamedTuple):
    """Why a certificate does not prove a chip: a stable word, and a sentence.

    `foreign-root`, `unknown-issuer`, `bad-signature`, `expired`, `not-yet-valid`, `not-an-ek`,
    `key`, and those of `path_certificate.Fault`.
    """

    reason: str
    words: str


@dataclass(frozen=True)
class EkJudgement:
    """What follows from an EK certificate. Only `holds` says that it proves a chip of its maker.

    `root` is the pinned root that the signatures lead to, if they do; `chain` DER, the EK's first,
    as far as it was found; `spki` the key as `cryptography` writes it (as found, where the key
    cannot be used); `cautions` are odd and harmless; `hints` are the certificate's own words.
    """

    root: PinnedRoot | None
    chain: tuple[bytes, ...]
    spki: bytes
    not_after: datetime
    faults: tuple[EkFault, ...]
    cautions: tuple[str, ...]
    hints: EkHints

    @property
    def holds(self) -> bool:
        """Whether it leads to a pinned root without a fault."""
        return self.root is not None and not self.faults

    @property
    def broken(self) -> tuple[EkFault, ...]:
        """The faults that refute it; for those left out it only proves nothing here."""
        return tuple(one for one in self.faults if one.reason not in _OPEN)

    @property
    def public_key(self) -> PublicKeyTypes:
        """The endorsement key, as an object of `cryptography`. Raises ParseError."""
        return load_spki(self.spki)

    @property
    def expires(self) -> str:
        """Until when it is valid, in words."""
        return in_words_until(self.not_after)


def in_words_until(not_after: datetime) -> str:
    """The end of a validity (RFC 3339), or `never`."""
    return "never" if not_after >= NEVER else rfc3339(not_after)


def judge_ek(
    certificate: bytes,
    roots: Sequence[PinnedRoot],
    intermediates: Iterable[bytes],
    at: datetime,
) -> EkJudgement:
    """What an EK certificate (DER) proves at a moment; its work is bounded.

    ParseError when it is no certificate; everything else is in the judgement.
    """
    leaf = read_path_certificate_loosely(certificate)
    spki, unusable = _usable(leaf.spki)
    faults, cautions = _own(leaf)
    if unusable:
        faults.append(EkFault("key", f"the EK certificate's key cannot be used: {unusable}"))
    rules = Rules(at.astimezone(UTC).replace(microsecond=0))
    pinned = {one.der: one for one in roots}
    forest = Forest(_readable(pinned), _readable(_few(intermediates)))
    # its own faults are judged above, by milder rules than those of the engine
    found = _path(replace(leaf, faults=()), forest, rules)
    faults += found.faults
    cautions += found.cautions
    chain = tuple(one.raw for one in found.path) or (leaf.raw,)
    root = pinned.get(chain[-1]) if found.complete else None
    return EkJudgement(
        root,
        chain,
        spki,
        leaf.not_after,
        tuple(faults),
        tuple(dict.fromkeys(cautions)),
        read_hints(list(leaf.extensions.values())),
    )


def normal_spki(spki: bytes) -> bytes:
    """A SubjectPublicKeyInfo in the one spelling in which keys are compared. ParseError.

    STMicroelectronics marked RSA keys as being for RSAES-OAEP (RFC 4055, 1.2), which no library
    loads; the numbers are those of any RSA key.
    """
    parts = der.children(der.read_whole(spki, lenient=True).content, lenient=True)
    if len(parts) == 2 and _algorithm(parts[0]) == _RSAES_OAEP:
        spki = der.encode(der.SEQUENCE, _RSA, parts[1].raw)
    return spki_der(load_spki(spki))


def _algorithm(element: der.Element) -> str:
    parts = der.children(element.content, lenient=True)
    return der.decode_oid(parts[0].content) if parts and parts[0].tag == der.OID else ""


def _usable(spki: bytes) -> tuple[bytes, str]:
    try:
        return normal_spki(spki), ""
    except ParseError as error:
        return spki, error.message


# ── the certificate itself ───────────────────────────────────────────────────


def _own(leaf: PathCertificate) -> tuple[list[EkFault], list[str]]:
    faults = [EkFault(reason, f"the EK certificate {words}") for reason, words in _own_faults(leaf)]
    return faults, [f"the EK certificate {words}" for words in _own_cautions(leaf)]


def _own_faults(leaf: PathCertificate) -> Iterator[Fault]:
    if leaf.version != 3:
        yield Fault("not-an-ek", f"is of version {leaf.version}, not 3")
    if leaf.is_ca or "keyCertSign" in (leaf.key_usage or ()):
        yield Fault("not-an-ek", "is a CA's, and no endorsement key's")
    if leaf.usages is not None and EK_USAGE not in leaf.usages:
        yield Fault("not-an-ek", f"is for {', '.join(leaf.usages)}, not for endorsement keys")
    if leaf.usages is None and not read_hints(list(leaf.extensions.values())).maker:
        yield Fault("not-an-ek", "does not say that it is for an endorsement key, nor of which TPM")
    for oid, attribute in _TELLING.items():
        if oid in leaf.extensions and getattr(leaf, attribute) is None:
            yield Fault("broken", f"has a malformed extension {oid}")
    if unknown := _unknown(leaf):
        yield Fault(
            "unknown-critical", f"has critical extensions unknown here: {', '.join(unknown)}"
        )
    yield from (fault for fault in leaf.faults if _is_grave(fault))


def _is_grave(fault: Fault) -> bool:
    """Extensions are judged one by one; of what remains all is grave."""
    return fault.reason == "broken" and "malformed extension" not in fault.words


def _unknown(certificate: PathCertificate) -> list[str]:
    """Critical extensions that might mean anything."""
    return [
        item.oid
        for item in certificate.extensions.values()
        if item.critical
        and item.oid not in UNDERSTOOD
        and item.oid not in _HARMLESS
        and not item.oid.startswith(_HARMLESS_ARCS)
    ]


def _own_cautions(leaf: PathCertificate) -> Iterator[str]:
    if leaf.usages is None:
        yield f"lacks the extended key usage of EK certificates ({EK_USAGE})"
    allowed = leaf.key_usage or {"keyEncipherment"}
    if not allowed & {"keyEncipherment", "keyAgreement"}:
        yield f"allows {', '.join(sorted(allowed))}, where the profile wants an encrypting key"
    if leaf.extensions.get("2.5.29.17") is None:
        yield "does not name its TPM"
    for fault in (*leaf.faults, *leaf.minor_faults):
        if not _is_grave(fault) or fault in leaf.minor_faults:
            yield fault.words


# ── its path ─────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Found:
    """The best path. `complete`: its signatures lead to a pinned root."""

    path: Path
    complete: bool
    faults: tuple[EkFault, ...] = ()
    cautions: tuple[str, ...] = ()


def _path(leaf: PathCertificate, forest: Forest, rules: Rules) -> _Found:
    best: _Found | None = None
    search = Search(forest, rules, Budget(**_WORK), strict=False)
    spent = False
    try:
        for count, candidate in enumerate(search.candidates(leaf)):
            if len(candidate.path) > 1:
                found = _judged(candidate)
                best = min(best or found, found, key=lambda one: len(one.faults))
            if (best and not best.faults) or count >= _MAX_TRIED:
                break
    except TooComplexError:
        spent = True
    if best is not None:
        return best
    if spent:
        words = "the EK certificate has more possible paths than can be tried"
        return _Found((leaf,), False, (EkFault("too-complex", words),))
    return _missing(leaf, forest, rules)


def _judged(candidate: Candidate) -> _Found:
    faults, cautions = [], []
    for finding in candidate.findings:
        subject = candidate.path[finding.position]
        words = f"{_role(finding, candidate.path)} {finding.fault.words}"
        if _is_harmless(finding.fault, subject):
            cautions.append(words)
        else:
            faults.append(EkFault(finding.fault.reason, words))
    return _Found(candidate.path, True, tuple(faults), tuple(cautions))


def _is_harmless(fault: Fault, subject: PathCertificate) -> bool:
    """SHA-1: nobody finds a second certificate to a maker's signature; a maker signs nothing that a
    stranger chose whole.
    """
    if fault.reason == "weak-algorithm":
        return broken_hash(subject.algorithm).startswith("SHA-1")
    return fault.reason == "unknown-critical" and not _unknown(subject)


def _role(finding: Finding, path: Path) -> str:
    if finding.position == 0:
        return "the EK certificate"
    name = _name(path[finding.position])
    return f"the {'pinned root' if finding.position == len(path) - 1 else 'CA'} {name}"


def _name(certificate: PathCertificate) -> str:
    return format_dn_der(certificate.subject) or f"serial {certificate.serial:x}"


def _missing(leaf: PathCertificate, forest: Forest, rules: Rules) -> _Found:
    """No path: how far it goes, and what is missing or foreign there."""
    path, namesake = _climb(leaf, forest, rules)
    dates = [EkFault(*fault) for fault in date_faults(leaf, rules.at)]
    faults = [EkFault(one.reason, f"the EK certificate {one.words}") for one in dates]
    return _Found(path, False, (_why(path[-1], namesake), *faults))


def _climb(leaf: PathCertificate, forest: Forest, rules: Rules) -> tuple[Path, bool]:
    try:
        return Search(forest, rules, Budget(**_WORK)).climb(leaf)
    except TooComplexError:
        return (leaf,), False


def _why(last: PathCertificate, namesake: bool) -> EkFault:
    issuer = format_dn_der(last.issuer) or "(empty name)"
    if last.self_issued and is_signed_by(last.raw, last.spki):
        digest = sha256(last.raw).hexdigest()
        return EkFault(
            "foreign-root", f"it ends at {_name(last)} (SHA-256 {digest}), which is not pinned here"
        )
    if namesake:
        return EkFault(
            "bad-signature",
            f"the signature of {_name(last)} was not made by any key of {issuer} that is known",
        )
    where = next(iter(_issuer_urls(last)), "")
    more = f"; it says that the certificate is at {where}" if where else ""
    return EkFault("unknown-issuer", f"the issuer of {_name(last)} is not here: {issuer}{more}")


def _issuer_urls(certificate: PathCertificate) -> Iterator[str]:
    """caIssuers of authorityInfoAccess (RFC 5280, 4.2.2.1)."""
    item = certificate.extensions.get("1.3.6.1.5.5.7.1.1")
    try:
        for one in der.children(der.read_whole(item.value).content) if item else ():
            method, place = der.children(one.content)
            if place.tag == 0x86 and der.decode_oid(method.content) == "1.3.6.1.5.5.7.48.2":
                yield place.content[:200].decode("ascii", "replace")
    except (ParseError, ValueError):
        return


def _few(intermediates: Iterable[bytes]) -> list[bytes]:
    return list(dict.fromkeys(intermediates))[:MAX_INTERMEDIATES]


def _readable(ders: Iterable[bytes]) -> Iterator[PathCertificate]:
    for raw in ders:
        if (found := _read(raw)) is not None:
            yield found


@lru_cache(maxsize=8192)
def _read(raw: bytes) -> PathCertificate | None:
    try:
        return read_path_certificate_loosely(raw)
    except ParseError:
        return None
