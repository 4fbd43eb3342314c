"""Whether certificates of a path are revoked, by the CRLs at hand (RFC 5280 section 6.3).

Complete, partitioned, indirect and delta CRLs. A CRL that cannot be used says nothing; a
certificate for which no CRL says anything is not known to be good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from tpmhsm.errors import ParseError
from tpmhsm.pki.crl_file import REASONS, REMOVED, Entry, PathCrl
from tpmhsm.pki.general_names import GeneralName, NameKey
from tpmhsm.pki.names import format_dn_der
from tpmhsm.pki.path_certificate import DistributionPoint, Fault, PathCertificate
from tpmhsm.pki.path_keys import Budget, broken_hash
from tpmhsm.pki.path_search import Finding, Forest, Path, working_keys
from tpmhsm.pki.tbs import rfc3339

_ALL = frozenset(range(1, 9))
_MAX_NESTING = 4
_ENTRIES_A_STEP = 10_000
"""Octets of a CRL's entries that cost as much as one step of the search."""

FindPath = Callable[[PathCertificate, PathCertificate], Iterator[Path]]
"""Valid paths from a CRL's signer to one anchor."""


class _Unusable(Exception):  # noqa: N818 (says why one CRL says nothing about one certificate)
    """`reason` is a stable word; the text the rest of a sentence about the CRL."""

    def __init__(self, words: str, reason: str = "crl-missing") -> None:
        super().__init__(words)
        self.reason = reason


class _Target(NamedTuple):
    """A certificate, its path to the anchor (itself first), and those being checked already."""

    certificate: PathCertificate
    path: Path
    pending: frozenset[bytes]


class Revocation:
    """The CRLs of one question. `strict`: the Baseline Requirements' profile of CRLs (7.2)."""

    def __init__(
        self,
        crls: Sequence[PathCrl],
        forest: Forest,
        find_path: FindPath,
        at: datetime,
        budget: Budget,
        *,
        strict: bool,
    ) -> None:
        self._crls, self._forest, self._find_path = crls, forest, find_path
        self._at, self._budget, self._strict = at, budget, strict
        self._point_names: dict[PathCrl, frozenset[tuple[str, object]]] = {}
        self._entries: dict[tuple[PathCrl, bytes, bytes], Entry | None] = {}

    def check(self, path: Path, *, require: bool) -> tuple[Finding | None, tuple[int, ...]]:
        """(finding, positions settled): from the anchor down, the first that is revoked, or else
        the first that is not known to be good.

        `require`: every certificate below the anchor must be covered. Otherwise the leaf must,
        and CAs as far as there is a CRL of their issuer.
        """
        settled: list[int] = []
        first: Finding | None = None
        for position in range(len(path) - 2, -1, -1):
            certificate = path[position]
            if position and not require and not self._speaks_of(certificate):
                continue
            fault = self._status(_Target(certificate, path[position:], frozenset()))
            if fault is None:
                settled.append(position)
            elif fault.reason == "revoked":  # says more than a CRL that is missing above
                return Finding(position, fault), tuple(settled)
            else:
                first = first or Finding(position, fault)
        return first, tuple(sorted(settled))

    def _speaks_of(self, certificate: PathCertificate) -> bool:
        issuers = {certificate.issuer_key}
        issuers.update(key for point in certificate.points or () for key in point.issuers)
        return any(crl.issuer_key in issuers for crl in self._crls)

    def _status(self, target: _Target) -> Fault | None:
        """None when it is not revoked; every reason must be covered (6.3.3 (d), (l))."""
        missing, troubles = _ALL, [_Unusable("")]
        for point in (*(target.certificate.points or ()), None):
            for crl in self._crls:
                if not missing:
                    return None
                try:
                    covered, entry = self._ask(crl, point, target)
                except _Unusable as trouble:
                    troubles.append(trouble)
                    continue
                except ParseError as error:
                    troubles.append(_Unusable(f"does not decode: {error.message}"))
                    continue
                if entry is not None:
                    return _revoked(entry)
                missing -= covered
        return self._unsettled(target.certificate, troubles) if missing else None

    def _unsettled(self, certificate: PathCertificate, troubles: list[_Unusable]) -> Fault:
        stale = [trouble for trouble in troubles if trouble.reason == "crl-stale"]
        told = [t for t in (*stale, *troubles) if str(t)]
        if stale:
            return Fault("crl-stale", f"the CRL for {{}} is {stale[0]}")
        if told:
            return Fault("crl-missing", f"the CRL for {{}} does not settle it: it {told[0]}")
        issuer = format_dn_der(certificate.issuer)
        return Fault("crl-missing", f"no CRL given covers {{}}: one of {issuer} is needed")

    def _ask(
        self, crl: PathCrl, point: DistributionPoint | None, target: _Target
    ) -> tuple[frozenset[int], Entry | None]:
        """(reasons covered, entry) of a CRL for one distribution point. _Unusable says why not."""
        if crl.delta_base is not None:
            raise _Unusable("")
        self._check_issuer(crl, point, target.certificate)
        self._budget.step()
        covered = self._check_scope(crl, point, target.certificate)
        self._check_form(crl)
        self._check_times(crl)
        signer = self._signer(crl, target)
        if self._strict and crl.has_twins:
            raise _Unusable("has a serial number twice")
        entry = self._current_entry(crl, signer, target.certificate)
        return covered, entry

    def _check_issuer(
        self, crl: PathCrl, point: DistributionPoint | None, certificate: PathCertificate
    ) -> None:
        """6.3.3 (b) (1)."""
        if point is not None and point.issuers:
            indirect = crl.point is not None and crl.point.indirect
            if crl.issuer_key not in point.issuers or not indirect:
                raise _Unusable("")
        elif crl.issuer_key != certificate.issuer_key:
            raise _Unusable("")

    def _check_scope(
        self, crl: PathCrl, point: DistributionPoint | None, certificate: PathCertificate
    ) -> frozenset[int]:
        """6.3.3 (b) (2) and (d): the reasons for which the CRL speaks of the certificate."""
        asked = _ALL if point is None or point.reasons is None else point.reasons
        scope = crl.point
        if scope is None:
            return asked
        if scope.only_attribute:
            raise _Unusable("is for attribute certificates only")
        if scope.only_user and certificate.is_ca:
            raise _Unusable("is for certificates of users only")
        if scope.only_ca and not certificate.is_ca:
            raise _Unusable("is for certificates of CAs only")
        if scope.names is not None or scope.relative is not None:
            self._check_point_names(crl, point, certificate)
        return asked if scope.reasons is None else asked & scope.reasons

    def _check_point_names(
        self, crl: PathCrl, point: DistributionPoint | None, certificate: PathCertificate
    ) -> None:
        assert crl.point is not None  # noqa: S101 (for the type checker; the caller asked)
        theirs = self._point_names.get(crl)
        if theirs is None:
            theirs = _names(crl.point.names, crl.point.relative, crl.issuer_key)
            self._point_names[crl] = theirs
        ours: frozenset[tuple[str, object]]
        if point is None:
            ours = frozenset({("dirname", certificate.issuer_key)})
        elif point.names is None and point.relative is None:
            ours = frozenset(("dirname", key) for key in point.issuers)
        else:
            above = point.issuers[0] if point.issuers else certificate.issuer_key
            ours = _names(point.names, point.relative, above)
        if not ours & theirs:
            raise _Unusable("is of another distribution point")
        if self._strict and not all(kind == "uri" for kind, _ in (ours | theirs)):
            raise _Unusable("has a distribution point that is no URI")

    def _check_form(self, crl: PathCrl) -> None:
        """RFC 5280, 5.2, and with `strict` the Baseline Requirements 7.2.2."""
        if crl.unknown:
            raise _Unusable(f"has critical extensions unknown here: {', '.join(crl.unknown)}")
        if not self._strict:
            return
        if not crl.number_is_proper:
            raise _Unusable("has no CRL number, or marks it as critical")
        if crl.odd_times:
            raise _Unusable("writes its times in another form than RFC 5280 demands")
        if crl.point is not None and crl.point.indirect:
            raise _Unusable("is indirect, which servers' certificates do not allow")

    def _check_times(self, crl: PathCrl) -> None:
        if self._at < crl.this_update:
            raise _Unusable(f"not valid until {rfc3339(crl.this_update)}", "crl-stale")
        if crl.next_update is None:
            raise _Unusable("does not say when the next one comes (nextUpdate)")
        if self._at > crl.next_update:
            raise _Unusable(f"too old: it was valid until {rfc3339(crl.next_update)}", "crl-stale")

    def _signer(self, crl: PathCrl, target: _Target) -> bytes:
        """6.3.3 (f) and (g): the key that signed the CRL, of a certificate that may sign CRLs."""
        if name := broken_hash(crl.algorithm):
            raise _Unusable(f"is signed with a weak algorithm ({name})")
        above = dict(zip(target.path[1:], working_keys(target.path)[1:], strict=True))
        trouble = "is signed by no CA that is here"
        for item in dict.fromkeys((*above, *self._forest.named(crl.issuer_key))):
            key = above.get(item, item.spki)
            if item.subject_key != crl.issuer_key or not self._budget.is_signed(
                crl.tbs, crl.algorithm, crl.signature, key
            ):
                continue
            if item.key_usage is not None and "cRLSign" not in item.key_usage:
                trouble = "is signed by a key that may not sign CRLs (cRLSign)"
            elif item in above or self._is_trusted(item, target):
                return key
        raise _Unusable(trouble)

    def _is_trusted(self, signer: PathCertificate, target: _Target) -> bool:
        """Another certificate of the issuer: it must have a valid path to the same anchor.

        A signer of indirect CRLs may stand on its own list, where its issuer says so.
        """
        if signer is target.certificate and target.pending:
            return any(signer.subject_key in point.issuers for point in signer.points or ())
        pending = target.pending | {target.certificate.raw}
        if signer.raw in pending or len(pending) > _MAX_NESTING:
            return False
        for path in self._find_path(signer, target.path[-1]):
            self._budget.step(100)
            steps = (_Target(path[i], path[i:], pending) for i in range(len(path) - 2, -1, -1))
            if not any(self._status(step) for step in steps):
                return True
        return False

    def _current_entry(
        self, crl: PathCrl, key: bytes, certificate: PathCertificate
    ) -> Entry | None:
        """The entry in the newest delta that fits, else in the complete CRL (6.3.3 (h) to (k))."""
        asked = (crl, key, certificate.raw)
        if asked not in self._entries:
            self._budget.step(len(crl.entries) // _ENTRIES_A_STEP)
            self._entries[asked] = self._newest_entry(crl, key, certificate)
        return self._entries[asked]

    def _newest_entry(self, crl: PathCrl, key: bytes, certificate: PathCertificate) -> Entry | None:
        entry = crl.find(certificate.serial, certificate.issuer_key)
        for delta in sorted(self._deltas(crl, key), key=lambda item: item.number or 0):
            newer = delta.find(certificate.serial, certificate.issuer_key)
            if newer is not None:
                entry = None if newer.reason == REMOVED else newer
        return entry

    def _deltas(self, crl: PathCrl, key: bytes) -> Iterator[PathCrl]:
        """6.3.3 (c) and 5.2.4: same scope, same key, built on this CRL or on an older one."""
        for delta in self._crls:
            if delta.delta_base is None or crl.number is None or delta.number is None:
                continue
            fits = delta.delta_base <= crl.number < delta.number and delta.same_scope(crl)
            if (
                not fits
                or delta.unknown
                or broken_hash(delta.algorithm)
                or not _is_current(delta, self._at)
            ):
                continue
            if self._budget.is_signed(delta.tbs, delta.algorithm, delta.signature, key):
                yield delta


def _is_current(crl: PathCrl, at: datetime) -> bool:
    return crl.next_update is not None and crl.this_update <= at <= crl.next_update


def _names(
    full: Sequence[GeneralName] | None, relative: object | None, above: NameKey
) -> frozenset[tuple[str, object]]:
    if relative is not None:
        return frozenset({("dirname", (*above, relative))})
    return frozenset((name.kind, name.value) for name in full or ())


def _revoked(entry: Entry) -> Fault:
    if entry.unknown:
        why = "with a critical extension unknown here"
    else:
        known = 0 <= entry.reason < len(REASONS)
        why = (REASONS[entry.reason] if known else "") or f"reason {entry.reason}"
    return Fault("revoked", f"was revoked on {rfc3339(entry.when)}: {why}")
