"""Certificates from files of any form into the database: all of them, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tpmhsm.cli.app import App
from tpmhsm.cli.files import naming, read_bundle_input
from tpmhsm.errors import ParseError, UsageError

if TYPE_CHECKING:
    from tpmhsm.pki.bundle import Bundle
    from tpmhsm.store.certificates import CertificateRow

_SHOWN = 20


@dataclass
class Gathered:
    """What files hold. `left` is what is no certificate and is passed over, `bad` what should be
    one and cannot be read; both as `file`, `where` and `reason`.
    """

    certificates: dict[bytes, None] = field(default_factory=dict)
    repeated: int = 0
    left: list[dict[str, str]] = field(default_factory=list)
    bad: list[dict[str, str]] = field(default_factory=list)

    @property
    def skipped(self) -> list[dict[str, str]]:
        """All that is not stored."""
        return [*self.bad, *self.left]


def gather(files: Iterable[str], ask: Callable[[str], bytes]) -> Gathered:
    """Read all files. UsageError for one that cannot be read at all or has a wrong passphrase."""
    from tpmhsm.pki.bundle import read_bundle

    found = Gathered()
    for file in files:
        data = read_bundle_input(file)
        try:
            with naming(file):
                _take(found, read_bundle(data, file, ask))
        except ParseError as error:
            found.bad.append({"file": file, "where": "", "reason": error.message})
    return found


def _take(found: Gathered, bundle: Bundle) -> None:
    from tpmhsm.pki.recognise import in_words

    file = bundle.what
    found.repeated += bundle.repeated
    if not bundle.faults:
        bundle.only("certificate", "a certificate")
    for item in bundle.items:
        if item.kind != "certificate":
            reason = in_words(item.kind)
            if "private key" in reason:
                reason += ", which is never stored"
            found.left.append({"file": file, "where": item.where, "reason": reason})
        elif item.der in found.certificates:
            found.repeated += 1
        else:
            found.certificates[item.der] = None
    found.left += [{"file": file, "where": "", "reason": note} for note in bundle.notes]
    found.bad += [{"file": file, **fault._asdict()} for fault in bundle.faults]


def refuse_bad(found: Gathered, *, skip: bool) -> None:
    """ParseError when something is bad and is not to be skipped, or when nothing is left."""
    if not found.bad or (skip and found.certificates):
        return
    said = [_said(one) for one in found.bad[:_SHOWN]]
    if len(found.bad) > _SHOWN:
        said.append(f"and {len(found.bad) - _SHOWN} more")
    head = "nothing was stored, for not everything can be read:\n  " if len(said) > 1 else ""
    raise ParseError(
        head + "\n  ".join(said),
        hint="--skip-bad stores the others" if found.certificates else "",
        details={"bad": found.bad[:1000]},
    )


def _said(one: dict[str, str]) -> str:
    parts = [one["where"]] if one["where"] else []
    return ": ".join([", ".join([one["file"], *parts]), one["reason"]]) if (
        one["file"] not in one["reason"]
    ) else one["reason"]  # fmt: skip


def keep(app: App, certificates: Sequence[bytes], name: str) -> list[tuple[CertificateRow, bool]]:
    """Store them in one transaction: the rows, and whether each is new here."""
    from tpmhsm.ca.records import certificate_row

    rows = [certificate_row(raw, source="imported", name=name) for raw in certificates]
    with app.store.transaction() as tx:
        known = [tx.certificates.find(row.sha256) for row in rows]
        kept = [
            (row, old is None or bool(old.deleted)) for row, old in zip(rows, known, strict=True)
        ]
        kept = [(tx.certificates.add(row), new) for row, new in kept]
        tx.audit.append("cert-import", {"sha256": [row.sha256 for row, _ in kept]})
    if name and kept[0][0].name != name:
        app.note(f"note: it was here before and keeps its name {kept[0][0].name!r}")
    return kept


def check_name(name: str, found: Gathered) -> None:
    """UsageError for one name and several certificates."""
    if name and len(found.certificates) != 1:
        raise UsageError(f"--name is for one certificate; there are {len(found.certificates)}")


def words(items: Sequence[dict[str, Any]], found: Gathered) -> str:
    """What was stored and what was not, a line each."""
    lines = []
    for item in items:
        done = "stored" if item["new"] else "was here"
        who = item["subject"] or ", ".join(item["sans"]) or "(empty)"
        marked = f"  ({item['marks'][0]})" if item["marks"] else ""
        lines.append(f"{done} {who} {item['sha256'][:16]}{marked}")
    lines += [f"left out: {_said(one)}" for one in found.skipped[:_SHOWN]]
    if len(found.skipped) > _SHOWN:
        lines.append(f"left out: {len(found.skipped) - _SHOWN} more")
    return "\n".join(lines)
