"""`tpmhsm ceremony`: from an empty home to a governed CA in one sitting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App, pass_app, table
from tpmhsm.cli.files import naming, write_output
from tpmhsm.cli.options import packed
from tpmhsm.errors import ExistsError, StoreError, TpmHsmError, UsageError, WaitingError

if TYPE_CHECKING:
    from tpmhsm.requests.ceremony import Ceremonies, Founding, Held
    from tpmhsm.store.requests import RequestRow

CARD = ".card"
EVIDENCE, MINUTES = "evidence", "minutes"
"""What files end with that are written at the end."""


@dataclass(frozen=True)
class Said:
    """What people say of a ceremony for its minutes."""

    place: str
    witnesses: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """The options that say what a ceremony makes, as they were typed."""

    group: str | None
    officers: tuple[str, ...]
    custodians: tuple[str, ...]
    root: str | None
    issuer: str | None
    budget: int | None
    window: str | None
    permit: tuple[str, ...]
    exclude: tuple[str, ...]
    alg: str | None

    @property
    def any(self) -> bool:
        """Whether anything was asked for."""
        return any(value for value in vars(self).values())


_asked = packed(
    "asked",
    Asked,
    click.option("--group", metavar="NAME", help="The group's name; officers by default."),
    click.option("--officers", multiple=True, metavar="M:CARD,…",
                 help='Who approves: M of these; again for "and M of those".'),
    click.option("--custodians", multiple=True, metavar="M:CARD,…",
                 help="Who governs, for ever; the officers by default."),
    click.option("--root", metavar="DN", help="The root's name, as CN=Root,O=Example."),
    click.option("--issuer", metavar="DN", help="The name of an authority below it."),
    click.option("--budget", type=click.IntRange(1), metavar="N",
                 help="The issuer signs N times with nobody present."),
    click.option("--window", metavar="TIME",
                 help="Or: officers open its key for some time; first for this long (8h)."),
    click.option("--permit", multiple=True, metavar="TYPE:NAME",
                 help="Name constraint of the issuer, as dns:example.com; repeatable."),
    click.option("--exclude", multiple=True, metavar="TYPE:NAME", help="Nothing below this."),
    click.option("--alg", metavar="ALG", help="Of both keys; p256 by default."),
)  # fmt: skip


_said = packed(
    "said",
    Said,
    click.option("--place", default="", metavar="TEXT", help="For the minutes: where."),
    click.option("--witness", "witnesses", multiple=True, metavar="NAME",
                 help="For the minutes: who is present without a key; repeatable."),
    click.option("--note", "notes", multiple=True, metavar="TEXT",
                 help="For the minutes: what else is to be remembered; repeatable."),
)  # fmt: skip


@click.command()
@click.argument("files", nargs=-1, metavar="[APPROVAL…]")
@_asked
@_said
@click.option("-o", "--out", metavar="DIR", help="Where files are written; here by default.")
@click.option("--cancel", is_flag=True, help="Withdraw what waits, and forget the ceremony.")
@pass_app
def ceremony(
    app: App, files: tuple[str, ...], asked: Asked, said: Said, out: str | None, cancel: bool
) -> None:
    """Found a group, a root and an issuer with one file that each approver approves once.

    Sets up the device, takes in people's cards, draws everything up and writes GROUP.ceremony.
    Each approver approves that file on a machine of their own; the same command again takes what
    they send back, does what was approved, and says what is missing.

    \b
    Example:
      tpmhsm ceremony --officers 2:alice.card,bob.card,carol.card \\
        --root CN=Root,O=Example --issuer CN=Issuing,O=Example --budget 1000
      laptop$ tpmhsm approve officers.ceremony --as alice -i alice.key \\
        --trust bob.card,carol.card
      tpmhsm ceremony officers-alice.approval officers-bob.approval
    """
    if cancel:
        _cancel(app)
        return
    if not asked.any and _find(app) is None:
        asked = _questions(app)
    folder = None if out is None else _folder(out)
    set_up(app)
    ceremonies = _ceremonies(app)
    held = _begun(app, ceremonies, asked, folder)
    with app.progress("drawing up"):
        held = ceremonies.prepare()
    _write_file(held, ceremonies)
    _take_in(app, ceremonies, held, files)
    try:
        with app.progress("doing what was approved"):
            ceremonies.go_on()
    except WaitingError as error:
        raise _waits(app, ceremonies, error) from None
    conclude(app, ceremonies, said)
    found = state_json(app, ceremonies)
    app.done(found, lambda: f"{state_words(found)}\n{_last_words(found)}")


def set_up(app: App) -> None:
    """What `tpmhsm init` does, if that is still to be done."""
    from tpmhsm.cli.top import init

    quiet = replace(app, verbosity=min(app.verbosity, -1), as_json=False, _closers=[])
    with suppress(click.exceptions.Exit):
        init.main([], obj=quiet, standalone_mode=False)
    quiet.close()


def _ceremonies(app: App) -> Ceremonies:
    from tpmhsm.requests.ceremony import Ceremonies

    return Ceremonies(app.store, app.keyring, app.groups, app.authorities, app.desk)


def _folder(out: str) -> str:
    path = Path(out).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {out}: {error.strerror or error}") from error
    return str(path)


# ── what is asked ────────────────────────────────────────────────────────────


def _begun(app: App, ceremonies: Ceremonies, asked: Asked, folder: str | None) -> Held:
    """The ceremony of this home, begun if there is none."""
    held = ceremonies.find()
    if asked.any:
        held = ceremonies.begin(_wanted(app, asked, held))
    assert held is not None  # noqa: S101 - begun or found
    where = folder or held.folder or str(Path.cwd())
    return held if held.folder == where else ceremonies.note(folder=where)


def _find(app: App) -> Held | None:
    """The ceremony of this home, if there is a home."""
    from tpmhsm.requests.ceremony import find

    try:
        return find(app.store)
    except StoreError as error:
        if error.code != "missing":
            raise
        return None


def _questions(app: App) -> Asked:
    """What a person at the terminal answers. UsageError where there is none."""
    from tpmhsm.cli.ceremony_questions import questions
    from tpmhsm.cli.prompts import at_terminal
    from tpmhsm.requests.ceremony import none_begun

    if not (app.talks and at_terminal()):
        raise none_begun()
    return questions()


def _wanted(app: App, asked: Asked, held: Held | None) -> Founding:
    """The options as a ceremony knows them; what is left out of a later call stays as it was."""
    from tpmhsm.cli.opening import seconds_of
    from tpmhsm.requests.ceremony import Founding

    if not (asked.officers and asked.root) and held is None:
        raise UsageError(
            "a ceremony needs --officers and --root",
            hint="--officers 2:alice.card,bob.card,carol.card --root CN=Root,O=Example",
        )
    officers = _rule(app, asked.officers)
    given: dict[str, Any] = {
        "group": asked.group,
        "officers": officers,
        "custodians": _rule(app, asked.custodians),
        "root": asked.root,
        "issuer": asked.issuer,
        "budget": asked.budget,
        "window": seconds_of(asked.window) if asked.window else None,
        "permit": asked.permit,
        "exclude": asked.exclude,
        "alg": asked.alg,
    }
    said = {name: value for name, value in given.items() if value}
    if held is not None:
        return replace(held.wanted, **said)
    return Founding(**{"group": "officers", "custodians": officers, **said})


def _rule(app: App, texts: tuple[str, ...]) -> str:
    """`2:alice.card,bob` as `2:alice,bob`; the cards are taken in."""
    return "+".join(_named(app, text) for text in texts)


def _named(app: App, text: str) -> str:
    from tpmhsm.cli.people import add_approvers
    from tpmhsm.policy.people import read_rule, write_rule

    ladders = read_rule(text)
    files = [name for _, names in ladders for name in names if name.endswith(CARD)]
    cards = add_approvers(app, [(file, app.read(file)) for file in files])
    called = {file: card.name for file, card in zip(files, cards, strict=True)}
    return write_rule((m, [called.get(name, name) for name in names]) for m, names in ladders)


# ── files ────────────────────────────────────────────────────────────────────


def _path(held: Held, ending: str = "ceremony") -> Path:
    return Path(held.folder) / f"{held.wanted.group}.{ending}"


def _write_file(held: Held, ceremonies: Ceremonies) -> None:
    """The file for approvers, unless it is there."""
    from tpmhsm.approval.ceremony import MAX_CEREMONY, is_ceremony, parse_ceremony
    from tpmhsm.cli.files import read_input

    path = str(_path(held))
    if Path(path).exists():
        data = read_input(path, limit=MAX_CEREMONY)
        if is_ceremony(data) and parse_ceremony(data).digest.hex() == held.digest:
            return
        raise ExistsError(
            f"{path} is another file than the one of this ceremony",
            hint="move it away, or name another directory with -o DIR",
        )
    write_output(path, ceremonies.file().data)


def _take_in(app: App, ceremonies: Ceremonies, held: Held, files: tuple[str, ...]) -> None:
    """Approvals that were named, and those of this ceremony that lie beside its file."""
    from tpmhsm.approval.ceremony import MAX_CEREMONY, is_ceremony_approval

    for file in files:
        data = app.read(file, limit=MAX_CEREMONY)
        if not is_ceremony_approval(data):
            _take_vote(app, file, data)
            continue
        with naming(file, data, "approvals of a ceremony"):
            app.note(f"{file}: approved by {ceremonies.take(data)}")
    for path in sorted(Path(held.folder).glob("*.approval")):
        if str(path) not in files and (data := _beside(path, held)):
            with naming(str(path)):
                ceremonies.take(data)


def _beside(path: Path, held: Held) -> bytes:
    """The file's bytes if it approves this very ceremony."""
    from tpmhsm.approval.ceremony import is_ceremony_approval, parse_ceremony_approval

    with suppress(OSError, TpmHsmError):
        data = path.read_bytes()
        if is_ceremony_approval(data):
            same = parse_ceremony_approval(data).ceremony.hex() == held.digest
            return data if same else b""
    return b""


def _take_vote(app: App, file: str, data: bytes) -> None:
    """An approval or denial of one act alone."""
    with naming(file, data, "an approval or denial"):
        app.desk.take(data)


# ── the end ──────────────────────────────────────────────────────────────────


def conclude(app: App, ceremonies: Ceremonies, said: Said) -> None:
    """Write evidence and minutes, unless that was done."""
    from hashlib import sha256

    from tpmhsm.policy import moments

    held = ceremonies.get()
    if held.ended:
        return
    evidence = _evidence(app)
    _write_own(held, EVIDENCE, evidence)
    written = {EVIDENCE: evidence, **_minutes(app, held, said, evidence)}
    for name, data in written.items():
        if name != EVIDENCE:
            _write_own(held, name, data)
    ceremonies.note(
        written={name: sha256(data).hexdigest() for name, data in written.items()},
        ended=moments.stamp(moments.now()),
    )


def _evidence(app: App) -> bytes:
    from tpmhsm.attest.format import format_evidence
    from tpmhsm.cli.attest_collect import gather
    from tpmhsm.keys.evidence import Wanted

    return format_evidence(gather(app, Wanted(rsa=False)).evidence)


def _minutes(app: App, held: Held, said: Said, evidence: bytes) -> dict[str, bytes]:
    """The minutes by what their files end with: the document, and as a page for people."""
    from tpmhsm.approval.minutes_check import check_minutes
    from tpmhsm.approval.minutes_page import render_minutes
    from tpmhsm.approval.minutes_pdf import can_write_pdf, find_fonts, write_pdf
    from tpmhsm.attest.reading import parse_evidence
    from tpmhsm.cli.attest_verify import Means, judge
    from tpmhsm.requests import minutes

    judged = judge(app, parse_evidence(evidence), Means())
    words = minutes.Said(**vars(said))
    checked = check_minutes(minutes.minutes_of(app.store, app.desk, held, judged, words))
    found = {MINUTES: checked.minutes.data, "minutes.html": render_minutes(checked).encode()}
    if can_write_pdf():
        return {**found, "minutes.pdf": write_pdf(checked, find_fonts())}
    app.note("no PDF of the minutes: pip install 'tpmhsm[pdf]', or print the page")
    return found


def _write_own(held: Held, ending: str, data: bytes) -> None:
    """A file of this ceremony; one that an interrupted run has left is written anew."""
    path = _path(held, ending)
    left = path.exists() and path.read_bytes()[:9] == data[:9]
    write_output(str(path), data, force=left)


# ── where it stands ──────────────────────────────────────────────────────────


def _waits(app: App, ceremonies: Ceremonies, error: WaitingError) -> WaitingError:
    """The same with the ceremony's next step, and its table."""
    held = ceremonies.get()
    anew = error.request == held.anew
    path = _path(held)
    if anew:
        path = Path(held.folder) / f"{error.request}.req"
        if not path.exists():
            write_output(str(path), app.desk.export(error.request))
    back = f"tpmhsm request import {error.request}-NAME.approval, then " if anew else ""
    error.hint = (
        f"each approver, elsewhere: tpmhsm approve {path.name} --as NAME -i KEY; "
        f"then here: {back}tpmhsm ceremony"
    )
    found = state_json(app, ceremonies)
    error.details = {**found, **error.details, "digest": held.digest, "ceremony": held.digest}
    app.note(state_words(found), styled=True)
    return error


def state_json(app: App, ceremonies: Ceremonies) -> dict[str, Any]:
    """Where the ceremony stands."""
    held = ceremonies.get()
    return {
        "group": held.wanted.group,
        "fingerprint": _fingerprint(app, held),
        "ceremony": held.digest,
        "file": str(_path(held)),
        "state": "done" if held.ended else "waiting",
        "written": dict(held.written or {}),
        "steps": list(_steps(app, held)),
    }


def _fingerprint(app: App, held: Held) -> str:
    with app.store.reading() as tx:
        return tx.groups.get_by_id(held.group).fingerprint if held.group else ""


def _steps(app: App, held: Held) -> Iterator[dict[str, Any]]:
    yield {"step": "device", "state": "done", "words": app.device.kind, "request": None}
    people = held.wanted.officers
    yield {"step": "people", "state": "done", "words": people, "request": None}
    yield {"step": "file", "state": "done", "words": _path(held).name, "request": None}
    waiting = False
    for name, number in (held.requests or {}).items():
        row = app.desk.get(held.anew if name == "grant" and held.anew else number)
        state = {"executed": "done", "waiting": "to come" if waiting else "waiting"}
        yield {
            "step": name,
            "state": state.get(row.state, row.state),
            "words": _until(app.desk.title(row), row, live=name == "grant"),
            "request": row.id,
            "approvals": [one.approver for one in app.desk.approvals(row.id)],
            "missing": app.desk.missing(row),
        }
        waiting = waiting or row.state == "waiting"
    for name in (EVIDENCE, MINUTES):
        done = "done" if name in (held.written or {}) else "to come"
        yield {"step": name, "state": done, "words": _path(held, name).name, "request": None}


def _until(title: str, row: RequestRow, *, live: bool) -> str:
    """What counts in a session of the chip has to be approved while that waits."""
    waits = live and row.state == "waiting"
    return f"{title}, by {row.expires[:16].replace('T', ' ')}" if waits else title


def state_words(found: dict[str, Any]) -> str:
    """The table, and what people compare."""
    rows = [(s["step"], s["state"], s["words"], ", ".join(s.get("approvals", ())))
            for s in found["steps"]]  # fmt: skip
    shown = table(("STEP", "STATE", "WHAT", "APPROVED BY"), rows, empty="")
    return f"{shown}\nfingerprint: {found['fingerprint']}\nSHA-256: {found['ceremony']}"


def _last_words(found: dict[str, Any]) -> str:
    pages = [name for name in found["written"] if name.startswith("minutes.")]
    last = f"{found['group']}.{pages[-1]}" if pages else ""
    return f"print {last}: those present sign it on paper" if last else ""


def _cancel(app: App) -> None:
    ceremonies = _ceremonies(app)
    held, founded = ceremonies.cancel()
    stays = "; the group stands, with all that was executed" if founded else ""
    app.done(
        {"group": held.wanted.group, "state": "cancelled", "founded": founded},
        f"the ceremony of {held.wanted.group} is withdrawn{stays}",
    )
