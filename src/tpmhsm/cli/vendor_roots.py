"""Where a verifier keeps its pinned vendor roots: a file of its home, no chip, no database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tpmhsm.cli.app import App
from tpmhsm.cli.files import naming, read_input, write_output
from tpmhsm.errors import UsageError

if TYPE_CHECKING:
    from tpmhsm.attest.ek_certificates import EkJudgement
    from tpmhsm.attest.format import EndorsementPart
    from tpmhsm.attest.roots import Pins

FILE = "vendor-roots.json"
_LARGEST = 1 << 26
_PATIENCE = 30.0


def pins_of(app: App) -> Pins:
    """All that is pinned in this home; nothing where nothing was. Raises ParseError, UsageError."""
    from tpmhsm.attest.roots import Pins, parse_pins

    path = app.home / FILE
    if not path.exists():
        return Pins()
    with naming(str(path)):
        return parse_pins(read_input(str(path), limit=_LARGEST))


@contextmanager
def changing(app: App) -> Iterator[Path]:
    """Nobody else changes the pins in the block; what it yields is for `keep`. UsageError."""
    from tpmhsm.store.turns import turnstile

    try:
        app.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {app.home}: {error.strerror or error}") from error
    with turnstile(app.home, _PATIENCE) as left:
        if not left:
            raise UsageError(f"another command has been changing {app.home} for {_PATIENCE:.0f} s")
        yield app.home / FILE


def keep(path: Path, pins: Pins) -> None:
    """Write the pins, whole or not at all."""
    from tpmhsm.attest.roots import format_pins

    write_output(str(path), format_pins(pins), force=True)


def judge_by_pins(app: App, part: EndorsementPart) -> EkJudgement | None:
    """What the certificate of an endorsement key proves now, by what is pinned here; None if it has
    none. ParseError if it is none.
    """
    from tpmhsm.attest.ek_certificates import judge_ek
    from tpmhsm.policy import moments

    if part.certificate is None:
        return None
    pins = pins_of(app)
    further = (*part.chain, *pins.intermediates)
    return judge_ek(part.certificate, pins.roots, further, moments.now())
