"""Signatures by keys of each policy kind against bare TPM2_Sign, on one swtpm in one run.

RESULT policy KIND R: R is the median ratio of rates, bare : KIND. Plans are prepared, as they are
between two signatures of one alternative; approvals are made beforehand.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.support.swtpm import bare_swtpm
from tests.tpm.test_key_policies import DIGEST, PIN, Town
from tests.tpm.test_static_groups import StaticTown

from bench.rounds import Contestant, alternate
from bench.sign import talking
from tpmhsm.policy.plan import Plan
from tpmhsm.tpm import objects, policies
from tpmhsm.tpm.pins import Pin

KINDS = {
    "pin": "pin",
    "pcr": "pcr(sha256:0,7)",
    "pin+pcr": "all(pin, pcr(sha256:0,7))",
    "quorum-1-of-2": "quorum(b)",
    "quorum-2-of-3": "quorum(a)",
    "quorum-2-of-3+pin": "all(quorum(a), pin)",
    "quorum-2-of-3+pcr": "all(quorum(a), pcr(sha256:0,7))",
    "static-1-of-2": "quorum(o)",
    "static-2-of-3": "quorum(s)",
    "budget": "budget(a)",
    "budget+pin": "all(budget(a), pin)",
    "quorum-2-of-3+budget": "all(quorum(a), budget(a))",
    "any-of-2": "any(quorum(a), pcr(sha256:0,7))",
    "window-1-of-2": "window(b)",
    "window-2-of-3": "window(a)",
}
"""What `any-of-2` is measured by is its second alternative: the PCRs. `static`: groups that stand
in the key's own policy."""


def bare(socket: Path, key: objects.Loaded) -> Contestant:
    """TPM2_Sign and nothing else."""

    @contextmanager
    def open_() -> Iterator[Callable[[], object]]:
        with talking(socket) as chip:
            yield lambda: objects.sign_digest(chip, key, DIGEST)

    return open_


def guarded(socket: Path, key: objects.Loaded, plan: Plan) -> Contestant:
    """The plan's session and its signature."""

    @contextmanager
    def open_() -> Iterator[Callable[[], object]]:
        with talking(socket) as chip:
            pin = Pin.to(objects.storage_parent(chip), PIN) if plan.has_pin else None
            command = objects.sign_command(key, DIGEST)
            yield lambda: policies.execute(chip, plan, command, pin)

    return open_


def measure(socket: Path, made_once: Town, name: str, rounds: int, seconds: float) -> None:
    """One kind: its key and a bare one, loaded together, then flushed."""
    with talking(socket) as chip:
        town = replace(made_once, chip=chip)
        for world in town.worlds.values():
            world.chip = chip
        parent = objects.storage_parent(chip)
        made = objects.create_key(chip, parent, "p256", None)
        plain = objects.load_key(chip, parent, made.public, made.private)
        policy = town.bind(KINDS[name])
        key = town.key(policy)
        cheapest = next((one for one in policy.alternatives if not one.group), None)
        plan = town.plan(policy, cheapest or policy.alternatives[0], key)
    found = alternate(bare(socket, plain), guarded(socket, key, plan), rounds, seconds)
    print(
        f"{name}: {plan.commands} commands, {1000 / found.second:.2f} ms; "
        f"bare: 1 command, {1000 / found.first:.2f} ms"
    )
    print(f"RESULT policy {name} {found.ratio:.2f}", flush=True)
    with talking(socket) as chip:
        for loaded in (plain, key):
            chip.flush(loaded.handle)


def main() -> None:
    """Run all kinds, or those named."""
    parser = argparse.ArgumentParser(prog="./dev bench policy", description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], default=[])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each round")
    asked = parser.parse_args()
    print(f"one swtpm, {asked.rounds} rounds of {asked.seconds} s each; P-256")
    with bare_swtpm() as socket:
        with talking(socket) as chip:
            made = Town.make(chip)
            town = StaticTown(made.chip, made.worlds)
        for name in asked.kinds or KINDS:
            measure(socket, town, name, asked.rounds, asked.seconds)


if __name__ == "__main__":
    main()
