"""One attack as it runs: what is tried, what came of it, and what that is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from tpmhsm.cli.attacks.house import House
from tpmhsm.cli.attacks.root import Loot, Root
from tpmhsm.cli.attacks.watching import Heard
from tpmhsm.errors import TpmHsmError
from tpmhsm.tpm.chip import Chip

Verdict = Literal["refused", "not-promised", "otherwise", "succeeded"]


@dataclass(frozen=True)
class Attack:
    """One row of the table. `hope`: what root hopes for; `stands`: what stands in the way, and in
    which document; `test`: the test of docs/attacks.md. `promised`: that it is refused.
    """

    name: str
    title: str
    hope: str
    stands: str
    test: str
    run: Callable[[Scene], None]
    promised: bool = True


@dataclass(frozen=True)
class Try:
    """One thing that was tried. `by`: who refused it, or nobody; `code`: the chip's, as 0x99d, or
    the tool's; `wanted`: the codes that docs/attacks.md names.
    """

    what: str
    by: str
    code: str
    message: str
    wanted: str
    control: bool = False

    @property
    def verdict(self) -> Verdict:
        """What it is worth."""
        if self.control:
            return "refused" if self.by == "nobody" else "otherwise"
        if self.wanted == "":
            return "not-promised" if self.by == "nobody" else "otherwise"
        if self.by == "nobody":
            return "succeeded"
        return "refused" if self.code == self.wanted else "otherwise"


class Teller(Protocol):
    """Who tells of it as it happens."""

    def trying(self, what: str) -> None:
        """Something is about to be tried."""

    def heard(self, one: Heard) -> None:
        """A command went to the chip."""

    def came(self, one: Try) -> None:
        """What came of it."""

    def remark(self, text: str) -> None:
        """A remark."""


@dataclass
class Scene:
    """What an attack is given."""

    house: House
    teller: Teller
    tries: list[Try] = field(default_factory=list)
    commands: list[Heard] = field(default_factory=list)

    def hear(self, one: Heard) -> None:
        """Every command to the chip."""
        self.commands.append(one)
        self.teller.heard(one)

    @contextmanager
    def chip(self) -> Iterator[Chip]:
        """Root's conversation with the chip."""
        with self.house.at_chip(self.hear) as chip:
            yield chip

    @contextmanager
    def root(self, loot: Loot | None = None) -> Iterator[Root]:
        """The same, with the approvals of a signature in force, or of `loot`."""
        loot = loot or self.house.fresh
        with self.house.root(self.hear, loot) as root:
            yield root

    def refused(self, what: str, rc: int, act: Callable[[], Any]) -> None:
        """Try it: the chip is to refuse with this code."""
        self._try(what, f"0x{rc:03x}", act)

    def declined(self, what: str, code: str, act: Callable[[], Any]) -> None:
        """Try it: an approver's tool, the host or a verifier is to refuse with this code."""
        self._try(what, code, act)

    def granted(self, what: str, act: Callable[[], Any]) -> None:
        """Try what nobody promises to refuse."""
        self._try(what, "", act)

    def able(self, what: str, act: Callable[[], Any]) -> None:
        """What root is able to do, on the way to something that is refused."""
        self._try(what, "", act, control=True)

    def honest(self, what: str, act: Callable[[], Any]) -> None:
        """What is allowed must go on: else the refusals before it say nothing."""
        self._try(what, "", act, control=True)

    def remark(self, text: str) -> None:
        """Something that explains what is seen."""
        self.teller.remark(text)

    def _try(
        self, what: str, wanted: str, act: Callable[[], Any], *, control: bool = False
    ) -> None:
        self.teller.trying(what)
        try:
            act()
        except TpmHsmError as error:
            rc = error.details.get("rc", "")  # of a chip, in whoever's words
            by = "the chip" if rc else "a tool"
            found = Try(what, by, rc or error.code, error.message, wanted, control)
        else:
            found = Try(what, "nobody", "", "", wanted, control)
        self.tries.append(found)
        self.teller.came(found)


@dataclass(frozen=True)
class Outcome:
    """What came of one attack."""

    attack: Attack
    tries: Sequence[Try]
    commands: Sequence[Heard]

    @property
    def verdict(self) -> Verdict:
        """The worst of what was tried; an attack in which nothing was tried is none."""
        found = {one.verdict for one in self.tries}
        order: tuple[Verdict, ...] = ("succeeded", "otherwise", "not-promised", "refused")
        return next((one for one in order if one in found), "otherwise")

    @property
    def codes(self) -> list[str]:
        """The codes by which it was refused, each once, in order."""
        return list(dict.fromkeys(one.code for one in self.tries if one.code))

    @property
    def json(self) -> dict[str, Any]:
        """JSON-ready facts."""
        attack = self.attack
        return {
            "name": attack.name,
            "title": attack.title,
            "promised": attack.promised,
            "verdict": self.verdict,
            "codes": self.codes,
            "test": attack.test,
            "commands": [f"{one.words}: {one.answer}" for one in self.commands],
            "tries": [
                {"what": one.what, "refused_by": one.by, "code": one.code, "wanted": one.wanted,
                 "message": one.message, "control": one.control, "verdict": one.verdict}
                for one in self.tries
            ],
        }  # fmt: skip


def run(attack: Attack, house: House, teller: Teller) -> Outcome:
    """Run one attack, and let the people go on afterwards. One that cannot be mounted proves
    nothing, and is not called refused.
    """
    scene = Scene(house, teller)
    try:
        attack.run(scene)
        house.repair()
    except TpmHsmError as error:
        message = f"{error.message} ({error.hint})" if error.hint else error.message
        failed = Try("mount the attack", "", error.code, message, "", control=True)
        scene.tries.append(failed)
        teller.came(failed)
    return Outcome(attack, scene.tries, scene.commands)
