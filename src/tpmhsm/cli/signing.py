"""`tpmhsm ca sign` of several CSRs at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import TYPE_CHECKING, Any

from tpmhsm.cli.app import App
from tpmhsm.cli.files import STDIO, write_output
from tpmhsm.cli.issuing import Choices
from tpmhsm.cli.options import Out
from tpmhsm.errors import RefusedError, TpmHsmError, UsageError, WaitingError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tpmhsm.ca.pipeline import Certified
    from tpmhsm.pki.options import IssueOptions

MANY = 16
"""From so many CSRs on it pays to start a process that checks them."""


def sign_all(
    app: App,
    name: str,
    files: Sequence[str],
    profile: str,
    options: IssueOptions,
    choices: Choices,
    out: Out,
    *,
    evidence: bool = False,
) -> None:
    """Certify several CSRs; one that is refused keeps no other from its certificate.

    Raises the first refusal when all others are issued and written; WaitingError when the key wants
    people: each CSR is a request then.
    """
    targets = _targets(files, out)
    data = [app.read(file) for file in files]
    issued, failed = [], []
    try:
        futures = _futures(app, name, files, data, profile, options, evidence=evidence)
    except RefusedError as error:
        if error.code != "needs-people":
            raise
        csrs = dict(zip(files, data, strict=True))
        _ask_people(app, name, csrs, profile, options, choices, evidence=evidence)
        return
    for file, target, future in zip(files, targets, futures, strict=False):
        try:
            done = future.result()
        except TpmHsmError as error:
            failed.append((file, error))
            continue
        issued.append(_deliver(app, file, target, done, choices, out))
    if left := files[len(futures) :]:
        failed.append((left[0], _stopped(left[0], len(left))))
    _report(app, name, issued, failed, len(files))


def _stopped(file: str, left: int) -> RefusedError:
    return RefusedError(
        f"stopped before {file}",
        code="interrupted",
        hint=f"the same command with the last {left} CSRs goes on; the others are done",
    )


@contextmanager
def _stop_asked() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was typed: once it asks for the end, what is under way is finished. Typed
    again it interrupts.
    """
    if current_thread() is not main_thread():
        yield lambda: False
        return
    asked = Event()

    def ask(_signal: int, _frame: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def _futures(
    app: App,
    name: str,
    files: Sequence[str],
    data: Sequence[bytes],
    profile: str,
    options: IssueOptions,
    *,
    evidence: bool,
) -> list[Future[Certified]]:
    """All of them done, one way or the other; those of the last CSRs are missing after Ctrl-C."""
    futures: list[Future[Certified]] = []
    with (
        _stop_asked() as stop_asked,
        app.progress("preparing") as tell,
        app.authorities.issuer(None if len(files) >= MANY else 0, evidence=evidence) as issuer,
    ):
        for number, (file, csr) in enumerate(zip(files, data, strict=True)):
            if stop_asked():
                break
            tell(f"{number} of {len(files)} are under way")
            futures.append(issuer.sign(name, csr, profile=profile, what=file, options=options))
    return futures


def _ask_people(
    app: App,
    name: str,
    csrs: Mapping[str, bytes],
    profile: str,
    options: IssueOptions,
    choices: Choices,
    *,
    evidence: bool,
) -> None:
    """Draft a request for each CSR. Raises WaitingError, or the first refusal."""
    if choices.wait:
        raise UsageError("--wait waits for one certificate", hint="without it, all are asked for")
    waiting, failed = [], []
    for file, csr in csrs.items():
        try:
            app.authorities.sign(
                name,
                csr,
                profile=profile,
                what=file,
                options=options,
                reason=choices.reason,
                repeat=False,
                evidence=evidence,
            )
        except WaitingError as error:
            waiting.append(error.request)
            app.note(f"{file}: request {error.request}")
        except TpmHsmError as error:
            failed.append((file, error))
    if failed:
        raise _first_of(app, failed, f"{len(waiting)} of {len(csrs)} certificates are asked for",
                        {"requests": waiting})  # fmt: skip
    numbers = ", ".join(map(str, waiting))
    raise WaitingError(
        f"{len(waiting)} certificates wait for approvals: requests {numbers}",
        request=waiting[0],
        hint="tpmhsm request export --all writes them for the approvers' machines; "
        "tpmhsm cert export writes each certificate when it is issued",
        details={"requests": waiting},
    )


def _targets(files: Sequence[str], out: Out) -> list[str]:
    if out.der:
        raise UsageError("DER holds one certificate", hint="leave --der out, or one CSR at a time")
    if out.out is None or out.out == STDIO:
        return [STDIO] * len(files)
    folder = Path(out.out)
    if not folder.is_dir():
        make = "" if folder.exists() else f"mkdir {out.out}: "
        raise UsageError(
            f"{out.out} is no directory", hint=f"{make}with several CSRs, --out names a directory"
        )
    targets = [str(folder / f"{Path(file).stem}.pem") for file in files]
    seen: set[str] = set()
    for target in targets:
        if target in seen:
            raise UsageError(
                f"several of the certificates would be {target}: their CSRs have the same name",
                hint="rename the CSRs, or sign them one by one",
            )
        seen.add(target)
        Out(target, force=out.force).claim()
    return targets


def _deliver(
    app: App, file: str, target: str, done: Certified, choices: Choices, out: Out
) -> dict[str, Any]:
    from tpmhsm.cli.exporting import bundle_ders
    from tpmhsm.pki.load import to_pem

    form = "fullchain" if choices.chain else "leaf"
    pem = b"".join(to_pem(der) for der in bundle_ders(app, done.sha256, form))
    if target != STDIO or not app.as_json:
        write_output(target, pem, force=out.force)
    for note in done.notes:
        app.note(f"note: {file}: {note}")
    return {**done.issued().facts, "csr": file, "file": target, "notes": list(done.notes)}


def _report(
    app: App,
    name: str,
    issued: list[dict[str, Any]],
    failed: list[tuple[str, TpmHsmError]],
    total: int,
) -> None:
    words = f"{name} issued {len(issued)} of {total} certificates"
    if failed:
        raise _first_of(app, failed, words, {"issued": [one["sha256"] for one in issued]})
    if app.as_json:
        app.emit({"ca_name": name, "items": issued})
        return
    if same := _of_one_key(issued):
        app.note(f"note: {same} of them are for one key")
    app.note(words)


def _first_of(
    app: App, failed: Sequence[tuple[str, TpmHsmError]], words: str, details: dict[str, Any]
) -> TpmHsmError:
    """The first refusal, with all of them in its details; the others are said on stderr."""
    for file, error in failed:
        if file not in error.message:
            error.message = f"{file}: {error.message}"
    for _, error in failed[1:]:
        app.note(f"refused: {error.message}")
    app.note(words)
    first = failed[0][1]
    first.details |= details
    first.details["failed"] = [
        {"csr": file, "code": error.code, "message": error.message} for file, error in failed
    ]
    return first


def _of_one_key(issued: Sequence[Mapping[str, Any]]) -> int:
    """How many certificates are for the key that most of them have; 0: each has its own."""
    from collections import Counter

    keys = Counter(one["key"]["sha256"] for one in issued)
    return count if (count := max(keys.values(), default=0)) > 1 else 0
