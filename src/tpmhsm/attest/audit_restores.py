"""A database that was put back from a backup, as the log itself says, and as the chip sees it.

The chip's checkpoints of the time since the backup then know entries that are in no log any more,
or are missing. Where an entry `restore` explains that, nobody is accused and nothing proven: who
wants to hide something can write such an entry, too, and gains no "complete" by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tpmhsm.attest.audit_faults import LogFinding
from tpmhsm.attest.audit_proof import GENESIS, Entry
from tpmhsm.attest.audit_records import Checkpoint

_EXPLAINED = frozenset(
    ("log-cut", "log-rewritten", "checkpoint-removed", "signature-removed", "unknown-signature")
)


@dataclass(frozen=True)
class Restore:
    """One entry `restore`. It explains what is wrong with checkpoints after number `last`, which is
    the last one that the backup knew, and before `first`, the first one that knows the entry; and
    what is wrong between them, `first` included.
    """

    entry: Entry
    last: int
    first: int

    def finding(self) -> LogFinding:
        """In words."""
        entry = self.entry
        made = entry.read_facts().get("made")
        words = (
            f"the database was restored at {entry.at} from a backup"
            f"{f' of {made}' if isinstance(made, str) else ''}: what was signed between the two is"
            " in no log"
        )
        return LogFinding("not-proven", "restored", words, f"entries[{entry.seq - 1}]")


def restores(entries: Sequence[Entry], checkpoints: Sequence[Checkpoint]) -> list[Restore]:
    """All of a log that say how far the backup went."""
    hashes = {entry.seq: entry.hash for entry in entries} | {0: GENESIS}
    fits = [hashes.get(one.seq) == one.head.hex() for one in checkpoints]
    found = []
    for entry in entries:
        kept = entry.read_facts().get("entry")
        if entry.act != "restore" or type(kept) is not int:
            continue
        known = (n for n, one in enumerate(checkpoints) if fits[n] and one.seq >= entry.seq)
        first = next(known, len(checkpoints))
        before = [n for n in range(first) if fits[n] and checkpoints[n].seq <= kept]
        found.append(Restore(entry, before[-1] if before else -1, first))
    return found


def explained(found: LogFinding, all_of_them: Sequence[Restore], number: int) -> LogFinding:
    """A finding about checkpoint `number`, or what came between it and the one before; or what
    explains it.
    """
    for one in all_of_them:
        if found.code in _EXPLAINED and one.last < number <= one.first:
            return one.finding()
    return found
