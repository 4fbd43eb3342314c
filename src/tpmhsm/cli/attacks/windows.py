"""Windows: root has all tickets that the chip gave for the officers' approvals."""

from __future__ import annotations

import time
from dataclasses import replace

from tpmhsm.cli.attacks.scene import Scene
from tpmhsm.cli.attacks.signatures import OTHER
from tpmhsm.keys.choice import policy_of_row
from tpmhsm.policy.ahash import live_preimage
from tpmhsm.policy.plan import Held, Opened, Plan, plan_use
from tpmhsm.tpm import objects, policies, software
from tpmhsm.tpm.chip import Chip
from tpmhsm.wire.codec import encode
from tpmhsm.wire.commands import ClockRateAdjust, ClockSet, ReadClock
from tpmhsm.wire.constants import RH

SHORT = 3.0
"""Seconds of a window whose end is waited for."""


def plan_of(scene: Scene, opened: Opened, label: str = "night") -> Plan:
    """The honest steps, with the tickets in the people's place."""
    row = scene.house.row(label)
    policy = policy_of_row(row, scene.house.app.groups)
    return plan_use(policy, policy.alternatives[0], row.public, OTHER, opened)


def sign(scene: Scene, chip: Chip, plan: Plan, label: str = "night") -> None:
    """A signature by the steps of a plan."""
    row = scene.house.row(label)
    key = objects.load_key(chip, objects.storage_parent(chip), row.public, row.private)
    try:
        policies.execute(chip, plan, objects.sign_command(key, OTHER))
    finally:
        chip.flush_all()


def other_key(scene: Scene) -> None:
    """Tickets for "night", and the key "dawn", which may be opened too."""
    opened = scene.house.opened()
    name = bytes.fromhex(scene.house.row("dawn").name)
    theirs = plan_of(scene, replace(opened, key_name=name), "dawn")
    ours = plan_of(scene, opened)
    with scene.chip() as chip:
        scene.refused('the tickets on the way of "dawn"', 0x5E0,
                      lambda: sign(scene, chip, theirs, "dawn"))  # fmt: skip
        scene.refused('the way of "night", and then the key "dawn"', 0x99D,
                      lambda: sign(scene, chip, ours, "dawn"))  # fmt: skip
        scene.honest('the tickets, for "night"', lambda: sign(scene, chip, ours))


def altered(scene: Scene) -> None:
    """Another end, another digest, another hierarchy."""
    opened = scene.house.opened()

    def longer(held: Held) -> Held:
        later = int.from_bytes(held.timeout, "big") + 3_600_000
        return replace(held, timeout=later.to_bytes(len(held.timeout), "big"))

    def other_digest(held: Held) -> Held:
        ticket = held.parsed
        digest = bytes([ticket.digest[0] ^ 1]) + ticket.digest[1:]
        return replace(held, ticket=encode(ticket.replace(digest=digest)))

    def of_owner(held: Held) -> Held:
        return replace(held, ticket=encode(held.parsed.replace(hierarchy=RH.OWNER)))

    fakes = {
        "an hour longer": longer,
        "another digest": other_digest,
        "the owner's hierarchy": of_owner,
    }
    with scene.chip() as chip:
        for what, fake in fakes.items():
            tickets = {index: fake(held) for index, held in opened.approvals.items()}
            plan = plan_of(scene, replace(opened, approvals=tickets))
            scene.refused(f"tickets with {what}", 0x5E0,
                          lambda p=plan: sign(scene, chip, p))  # type: ignore[misc]  # fmt: skip
        scene.honest("the tickets as they are",
                     lambda: sign(scene, chip, plan_of(scene, opened)))  # fmt: skip


def expired(scene: Scene) -> None:
    """A window of three seconds, after four."""
    ends = time.monotonic() + SHORT + 1
    plan = plan_of(scene, scene.house.opened(f"{SHORT:.0f}s"))
    with scene.chip() as chip:
        scene.honest("the tickets inside the window", lambda: sign(scene, chip, plan))
        scene.remark("… the window ends")
        time.sleep(max(0.0, ends - time.monotonic()))
        scene.refused("the tickets after its end", 0x1E3, lambda: sign(scene, chip, plan))


def after_reset(scene: Scene) -> None:
    """The chip started anew, within the window."""
    plan = plan_of(scene, scene.house.opened())
    with scene.chip() as chip:
        scene.honest("the tickets inside the window", lambda: sign(scene, chip, plan))
    scene.remark("… root stops the software TPM, and starts it again")
    software.stop(software.directory_of(scene.house.app.home))
    with scene.chip() as chip:
        scene.refused("the tickets, still inside the window", 0x5E0,
                      lambda: sign(scene, chip, plan))  # fmt: skip


def clock_moved(scene: Scene) -> None:
    """Clock set ahead and back, to make a window longer."""
    ends = time.monotonic() + SHORT + 1
    plan = plan_of(scene, scene.house.opened(f"{SHORT:.0f}s"))
    with scene.chip() as chip:
        now = chip.send(ReadClock()).current_time.clock_info.clock
        scene.able("the owner sets the clock a day ahead",
                   lambda: chip.send(ClockSet(RH.OWNER, now + 86_400_000)))  # fmt: skip
        scene.refused("… and back again", 0x1C4, lambda: chip.send(ClockSet(RH.OWNER, now)))
        scene.honest("the tickets inside the window", lambda: sign(scene, chip, plan))
        time.sleep(max(0.0, ends - time.monotonic()))
        scene.refused("the tickets after its end, by Time, which nobody sets", 0x1E3,
                      lambda: sign(scene, chip, plan))  # fmt: skip


def other_nonce(scene: Scene) -> None:
    """A window over a nonce of another length, to be read as something else."""
    alice = scene.house.people["alice"]
    nonce, ref = b"n" * 16, b"r" * 32
    good = live_preimage(nonce, -600, b"", ref)
    for what, message in (("8 octets", nonce[:8]), ("32 octets", nonce * 2)):
        scene.declined(f"alice's key is asked for a window over a nonce of {what}",
                       "not-signable", lambda m=message: alice.key.sign(m + good[16:]))  # type: ignore[misc]  # fmt: skip
    scene.honest("one of 16 octets", lambda: alice.key.sign(good))


def inside(scene: Scene) -> None:
    """What an open window is."""
    plan = plan_of(scene, scene.house.opened())
    with scene.chip() as chip:
        scene.granted("any digest, nobody present", lambda: sign(scene, chip, plan))


def slowed(scene: Scene) -> None:
    """ClockRateAdjust is the owner's."""
    with scene.chip() as chip:
        for _ in range(3):
            scene.granted("the chip's clock made slower",
                          lambda: chip.send(ClockRateAdjust(RH.OWNER, -3)))  # fmt: skip
        for _ in range(3):
            chip.send(ClockRateAdjust(RH.OWNER, 3))
