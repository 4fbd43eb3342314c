"""What every command is given: the home, how to print, and lazily the store and the chip."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.files import MAX_INPUT, read_input
from tpmhsm.cli.words import json_text, lines, one_line, screened
from tpmhsm.errors import StoreError, TpmHsmError

if TYPE_CHECKING:
    from tpmhsm.ca.authority import Authorities
    from tpmhsm.ca.crls import Crls
    from tpmhsm.ca.revocation import Revocations
    from tpmhsm.ca.settings import Settings
    from tpmhsm.cli.pins import PinSource
    from tpmhsm.keys.groups import Groups
    from tpmhsm.keys.keyring import Keyring
    from tpmhsm.requests.desk import Desk
    from tpmhsm.requests.notices import Notices
    from tpmhsm.store import Store
    from tpmhsm.tpm.device import Device


_NARROWEST = 10
"""Characters that remain of a column of a table, however narrow the terminal is."""


def say(text: str) -> None:
    """Write to stdout. A reader that has gone away changes nothing of what was done."""
    try:
        click.echo(text)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@dataclass
class App:
    """One run of the command line."""

    home: Path = Path()
    tpm: str = "auto"
    db: str = ""
    as_json: bool = False
    verbosity: int = 0
    pin_file: str | None = None
    pin_fd: int | None = None
    by: str = ""
    notices: Notices | None = None
    _closers: list[Callable[[], None]] = field(default_factory=list)

    # ── the rooms, opened when first needed ──────────────────────────────────

    @cached_property
    def store(self) -> Store:
        """The database of this home. Raises StoreError when there is none."""
        return self._open_store(create=False)

    def own_store(self) -> Store:
        """The same, made when it is not there yet: approvers' machines need no `init`."""
        if "store" not in self.__dict__:
            self.__dict__["store"] = self._open_store(create=True)
        return self.store

    def _open_store(self, *, create: bool) -> Store:
        from tpmhsm.requests.notices import Notices
        from tpmhsm.store import Store

        try:
            store = Store.open(self.db or self.home, create=create)
        except StoreError as error:
            if error.code == "missing" and not self.db and self._has_chip():
                error.hint = "this home was set up: restore the database from a backup, for keys"
                error.hint += " cannot be used without it; tpmhsm init makes a new, empty one"
            raise
        self._closers.append(store.close)
        self.notices = Notices(store)
        store.listener = self.notices.hear
        return store

    def _has_chip(self) -> bool:
        from tpmhsm.tpm.software import directory_of, is_manufactured

        return is_manufactured(directory_of(self.home))

    @cached_property
    def device(self) -> Device:
        """The chip of this home. Raises DeviceError when it is missing."""
        from tpmhsm.tpm.device import open_device

        return replace(open_device(self.tpm, self.home), passwords=self._hierarchy_password)

    def _hierarchy_password(self, hierarchy: int) -> bytes:
        """That of the chip's owner or endorsement hierarchy; empty where `tpmhsm.toml` names no
        file with it. Asked only if the chip does not take the empty one.
        """
        from tpmhsm.cli.sealing import AuthSecret
        from tpmhsm.wire.constants import RH

        settings = self.settings
        owner = hierarchy == RH.OWNER
        file = settings.owner_auth_file if owner else settings.endorsement_auth_file
        return AuthSecret(file).source()("") if file else b""

    @cached_property
    def keyring(self) -> Keyring:
        """Keys by label."""
        from tpmhsm.keys.keyring import Keyring

        store = self.store
        self._closers.append(self.certify_the_log)
        return Keyring(store, self.device, self.pins)

    @cached_property
    def pins(self) -> PinSource:
        """Where PINs of keys come from."""
        from tpmhsm.cli.pins import PinSource

        return PinSource(self)

    @cached_property
    def groups(self) -> Groups:
        """Groups by name."""
        from tpmhsm.keys.groups import Groups

        return Groups(self.store, self.device)

    @cached_property
    def desk(self) -> Desk:
        """Approval requests."""
        from tpmhsm.requests.desk import Desk

        return Desk(self.store, self.keyring, self.groups, tell=lambda one: self.note(one.words))

    @cached_property
    def authorities(self) -> Authorities:
        """Certificate authorities by name."""
        from tpmhsm.ca.authority import Authorities

        return Authorities(self.store, self.desk.signer, self.settings)

    @cached_property
    def settings(self) -> Settings:
        """`tpmhsm.toml` of this home. Raises UsageError."""
        from tpmhsm.ca.settings import read_settings

        return read_settings(self.home)

    @cached_property
    def revocations(self) -> Revocations:
        """Revoking, holding, releasing."""
        from tpmhsm.ca.revocation import Revocations

        return Revocations(self.store, self.authorities, self.settings)

    @cached_property
    def crls(self) -> Crls:
        """The authorities' CRLs."""
        from tpmhsm.ca.crls import Crls

        return Crls(self.store, self.desk.signer, self.authorities, self.settings)

    def tell(self) -> None:
        """Run the hook of `tpmhsm.toml` for what happened to requests. It never fails."""
        from tpmhsm.requests.notices import EVENT, run_hook

        heard = self.notices is not None and self.notices.heard
        if not heard or EVENT in os.environ:  # a hook's own commands tell nobody
            return
        try:
            command, seconds = self.settings.hook, self.settings.hook_seconds
            for document in self.notices.take() if command and self.notices else ():
                run_hook(command, document, seconds, self.home)
        except TpmHsmError as error:
            self.note(f"{error.message}; nothing else is affected")

    def certify_the_log(self, *, now: bool = False) -> None:
        """A checkpoint, where one is due; with `now` wherever the chip audits, for a chip that is
        reset forgets what it has not certified. What the command did does not fail by it.
        """
        from tpmhsm.keys.auditing import Auditing

        try:
            auditing = Auditing(self.store, self.device)
            if auditing.is_on() if now else auditing.is_due():
                auditing.checkpoint()
        except TpmHsmError as error:
            self.note(f"note: no checkpoint of the log was made: {error.message}")

    def at_end(self, act: Callable[[], None]) -> None:
        """Do this when the command ends, however it ends."""
        self._closers.append(act)

    def close(self) -> None:
        """Tell the hook what happened, and close what was opened, last first."""
        self.tell()
        while self._closers:
            self._closers.pop()()

    # ── printing ─────────────────────────────────────────────────────────────

    @property
    def talks(self) -> bool:
        """Whether words for people are wanted: neither --json nor -q."""
        return not self.as_json and self.verbosity >= 0

    def emit(self, data: Mapping[str, Any], text: str | Callable[[], str] = "") -> None:
        """Print an answer: `data` as the one JSON document, or `text` for people, with -q too."""
        if self.as_json:
            say(json_text(data))
        elif shown := text() if callable(text) else text:
            say(screened(shown))

    def done(self, data: Mapping[str, Any], text: str | Callable[[], str], made: str = "") -> None:
        """Say that an act is done, as `emit` does; with -q only the name of the file that was
        `made`, where the command chose it.
        """
        self.emit(data, made if self.verbosity < 0 else text)

    def note(self, text: str, *, styled: bool = False) -> None:
        """A remark for people, on stderr; silent with --json and -q.

        `styled`: colours in it are the program's own, as in `facts` and `table`.
        """
        if self.talks:
            click.echo(screened(text) if styled else lines(text), err=True)

    @contextmanager
    def progress(self, text: str) -> Iterator[Callable[[str], None]]:
        """A spinner for work that takes over a second; on a terminal only.

        What it yields changes the words beside the spinner.
        """
        if not self.talks or not sys.stderr.isatty():
            yield lambda _: None
            return
        from rich.console import Console

        with Console(stderr=True).status(text) as status:
            yield status.update

    # ── files ────────────────────────────────────────────────────────────────

    def read(self, path: str, *, limit: int = MAX_INPUT) -> bytes:
        """The bytes of a file or of stdin (`-`). Raises UsageError if it cannot or is too large."""
        return read_input(path, limit=limit)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> str:
    """A table for people: whole when piped; cut to fit, with bold heads, on a terminal."""
    if not rows:
        return empty
    shown = [[one_line(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in (columns, *shown)) for i in range(len(columns))]
    if sys.stdout.isatty():
        widths = _fitting(widths)

    def line(cells: Sequence[str]) -> str:
        short = (c if len(c) <= w else f"{c[: w - 1]}…" for c, w in zip(cells, widths, strict=True))
        return "  ".join(c.ljust(w) for c, w in zip(short, widths, strict=True)).rstrip()

    head = click.style(line(columns), bold=True)
    return "\n".join([head, *(line(row) for row in shown)])


def _fitting(widths: list[int]) -> list[int]:
    """The widest columns cut until a line fits the terminal, if it can."""
    from shutil import get_terminal_size

    room = get_terminal_size().columns - 2 * (len(widths) - 1)
    while sum(widths) > room and max(widths) > _NARROWEST:
        widest = max(widths)
        widths = [w - 1 if w == widest else w for w in widths]
    return widths


def prose(text: str) -> str:
    """Sentences, one a line: as they are when piped, broken between words on a terminal."""
    from shutil import get_terminal_size
    from textwrap import wrap

    if not sys.stdout.isatty():
        return text
    width = min(100, get_terminal_size().columns)
    broken = (
        wrap(line, width, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)
        for line in text.split("\n")
    )
    return "\n".join("\n".join(parts) for parts in broken)


def facts(pairs: Sequence[tuple[str, object]]) -> str:
    """Aligned `name  value` lines; empty values are left out.

    Newlines in a value make lines below each other: escape those that others wrote (`one_line`).
    """
    shown = [
        (one_line(name), lines(str(value)))
        for name, value in pairs
        if value not in ("", None, [], ())
    ]
    width = max((len(name) for name, _ in shown), default=0)
    found = []
    for name, value in shown:
        first, *rest = value.split("\n")
        found.append(f"{click.style(name.ljust(width), bold=True)}  {first}")
        found += [f"{'':{width}}  {more}" for more in rest]
    return "\n".join(found)


pass_app = click.make_pass_decorator(App)
