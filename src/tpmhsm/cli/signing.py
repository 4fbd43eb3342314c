"""`tpmhsm ca sign` of several CSRs at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpmhsm.cli.app import App
from tpmhsm.cli.files import STDIO, write_output
from tpmhsm.cli.issuing import Choices
from tpmhsm.cli.options import Out
from tpmhsm.errors import RefusedError, TpmHsmError, UsageError

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
) -> None:
    """Certify several CSRs; one that is refused keeps no other from its certificate.

    Raises the first refusal when all others are issued and written.
    """
    targets = _targets(files, out)
    data = [app.read(file) for file in files]
    issued, failed = [], []
    futures = _futures(app, name, files, data, profile, options)
    for file, target, future in zip(files, targets, futures, strict=True):
        try:
            done = future.result()
        except TpmHsmError as error:
            failed.append((file, error))
            continue
        issued.append(_deliver(app, file, target, done, choices, out))
    _report(app, name, issued, failed)


def _futures(
    app: App,
    name: str,
    files: Sequence[str],
    data: Sequence[bytes],
    profile: str,
    options: IssueOptions,
) -> list[Future[Certified]]:
    """All of them done, one way or the other."""
    futures = []
    with (
        app.progress("preparing") as tell,
        app.authorities.issuer(workers=int(len(files) >= MANY)) as issuer,
    ):
        for number, (file, csr) in enumerate(zip(files, data, strict=True)):
            tell(f"{number} of {len(files)} are under way")
            try:
                future = issuer.sign(name, csr, profile=profile, what=file, options=options)
            except RefusedError as error:
                if error.code == "needs-people":
                    error.hint = "one CSR at a time: each certificate is a request of its own"
                raise
            futures.append(future)
    return futures


def _targets(files: Sequence[str], out: Out) -> list[str]:
    if out.der:
        raise UsageError("DER holds one certificate", hint="leave --der out, or one CSR at a time")
    if out.out is None or out.out == STDIO:
        return [STDIO] * len(files)
    folder = Path(out.out)
    if not folder.is_dir():
        raise UsageError(
            f"{out.out} is no directory", hint="with several CSRs, --out names a directory"
        )
    targets = [str(folder / f"{Path(file).stem}.pem") for file in files]
    if len(set(targets)) < len(targets):
        raise UsageError("two of the CSRs have the same name: their certificates would, too")
    for target in targets:
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
) -> None:
    for file, error in failed:
        app.note(f"{file}: {error.message}")
    words = f"{name} issued {len(issued)} of {len(issued) + len(failed)} certificates"
    if failed:
        file, error = failed[0]
        error.message = f"{file}: {error.message}" if file not in error.message else error.message
        error.details["issued"] = [one["sha256"] for one in issued]
        error.hint = f"{words}; the others are kept. {error.hint}".rstrip()
        raise error
    if app.as_json:
        app.emit({"ca_name": name, "items": issued})
    else:
        app.note(words)
