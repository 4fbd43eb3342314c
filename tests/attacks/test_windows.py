"""Windows: root, with the owner's authorisation, all tickets and all approvals, gets no signature
by another key, for another purpose, after the end, or after the chip was started anew.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.attacks.house import House
from tests.attacks.root import check, declined, refused, votes_of

from tpmhsm.approval.further_acts import Opening
from tpmhsm.approval.request import Claims, Request
from tpmhsm.errors import UsageError
from tpmhsm.keys.choice import policy_of_row
from tpmhsm.policy.ahash import live_preimage
from tpmhsm.policy.approver import tpmt_signature
from tpmhsm.policy.plan import Given, Held, Opened, Plan, plan_use
from tpmhsm.policy.refs import policy_ref
from tpmhsm.policy.steps import CommandCode, NameHash, Step
from tpmhsm.policy.tree import window as branch_of
from tpmhsm.policy.windows import WindowDocument, parse_window
from tpmhsm.requests.drafts import Edits
from tpmhsm.store.keys import KeyRow
from tpmhsm.tpm import live, objects, policies, software, windows
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.door import SocketDoor
from tpmhsm.tpm.objects import Loaded
from tpmhsm.tpm.sessions import PolicySession, start_policy
from tpmhsm.wire.codec import decode, encode
from tpmhsm.wire.commands import (
    ClockRateAdjust,
    ClockSet,
    ContextLoad,
    ContextSave,
    LoadExternal,
    NV_Write,
    PolicySigned,
    Quote,
    ReadClock,
    Shutdown,
    Startup,
)
from tpmhsm.wire.constants import CC, RH, SU
from tpmhsm.wire.structures import NULL_SCHEME, Context, Ticket

DIGEST = bytes(range(32))


@dataclass
class Sash:
    """A house in which the keys "issuing" and "second" may be opened, and all that root finds."""

    house: House

    def __post_init__(self) -> None:
        for label in ("issuing", "second"):
            self.house.app.keyring.create(label, "p256", policy="window(officers)")
        self.allow("issuing", "second")

    def allow(self, *labels: str) -> None:
        """The custodians change the roster."""
        asked = self.house.app.desk.propose_roster("officers", Edits(opened=labels))
        assert self.house.settle(asked.request, ("alice", "carol")).state == "executed"

    def row(self, label: str = "issuing") -> KeyRow:
        return self.house.app.keyring.get(label)

    def asked(self, label: str = "issuing", seconds: int = 600) -> Request:
        """A request with the approvals of two officers, in the hands of root."""
        number = self.house.app.desk.openings.propose(label, seconds).request
        approvals = tuple(self.house.approve(number, name) for name in ("alice", "bob"))
        return replace(self.house.app.desk.request(number), approvals=approvals)

    def opened(self, label: str = "issuing", seconds: int = 600) -> Opened:
        """The same, given to the chip; root keeps the tickets."""
        request = self.asked(label, seconds)
        for approval in request.approvals:
            self.house.app.desk.take(approval.data)
        found = self.house.app.keyring.windows.current(self.row(label), "officers")
        assert found is not None
        return found

    def plan(self, opened: Opened, label: str = "issuing", digest: bytes = DIGEST) -> Plan:
        """The honest steps."""
        row = self.row(label)
        policy = policy_of_row(row, self.house.app.groups)
        return plan_use(policy, policy.alternatives[0], row.public, digest, opened)

    def load(self, chip: Chip, label: str = "issuing") -> Loaded:
        row = self.row(label)
        return objects.load_key(chip, objects.storage_parent(chip), row.public, row.private)

    def sign(self, chip: Chip, plan: Plan, label: str = "issuing", digest: bytes = DIGEST) -> None:
        """A signature by these steps, whatever they are."""
        key = self.load(chip, label)
        try:
            answer = policies.execute(chip, plan, objects.sign_command(key, digest))
            check(self.row(label), digest, objects.plain_signature(answer.signature))
        finally:
            chip.flush_all()

    def primed(self, chip: Chip, plan: Plan, steps: tuple[Step, ...] = ()) -> PolicySession:
        """A session after these steps, by default the honest ones."""
        session = start_policy(chip)
        for step in steps or plan.steps:
            policies.run_step(chip, session, plan, step)
        return session

    @contextmanager
    def root(self) -> Iterator[Chip]:
        with self.house.app.device.transaction() as chip:
            yield chip


@pytest.fixture
def sash(house: House) -> Sash:
    return Sash(house)


def changed(opened: Opened, **fields: bytes) -> Opened:
    """The same window with altered tickets."""
    tickets = {index: replace(held, **fields) for index, held in opened.approvals.items()}
    return replace(opened, approvals=tickets)


# ── where a window ends ──────────────────────────────────────────────────────────────────────


def test_after_the_end(sash: Sash) -> None:
    """The ticket (0x1e3), and a session that was primed inside (0x9a3)."""
    opened = sash.opened(seconds=3)
    plan = sash.plan(opened)
    with sash.root() as chip:
        sash.sign(chip, plan)
        key, session = sash.load(chip), sash.primed(chip, plan)
        time.sleep(3)
        with refused(0x9A3, "Sign"):
            chip.send(objects.sign_command(key, DIGEST), session)
        chip.flush_all()
        with refused(0x1E3, "PolicyTicket"):
            sash.sign(chip, plan)
    again = sash.opened()
    with sash.root() as chip:
        sash.sign(chip, sash.plan(again))


def test_the_time_runs_from_the_question(sash: Sash) -> None:
    """Root delays the approvals, and keeps the session: the window is no longer for it (0x4e3)."""
    request = sash.asked(seconds=3)
    window = parse_window(request.content)
    (votes,) = votes_of(request)
    shelf = sash.house.app.device.shelf
    assert request.roster is not None and shelf is not None
    later = time.time() + 3600
    os.utime(shelf / f"{window.nonce.hex()}.session", (later, later))
    time.sleep(3)
    with sash.root() as chip:
        session = live.resume(chip, window.nonce)
        with refused(0x4E3, "PolicySigned"):
            windows.open_window(chip, session, window, request.roster, votes)


def test_an_altered_ticket(sash: Sash) -> None:
    """Another end, another digest (0x5e0), another hierarchy (0x5e0)."""
    opened = sash.opened(seconds=3)
    held = opened.approvals[0]
    later = (int.from_bytes(held.timeout, "big") + 3_600_000).to_bytes(len(held.timeout), "big")
    ticket = decode(Ticket, held.ticket)
    digest = bytes([ticket.digest[0] ^ 1]) + ticket.digest[1:]
    with sash.root() as chip:
        for fake in (
            changed(opened, timeout=later),
            changed(opened, ticket=encode(ticket.replace(digest=digest))),
            changed(opened, ticket=encode(ticket.replace(hierarchy=RH.OWNER))),
        ):
            with refused(0x5E0, "PolicyTicket"):
                sash.sign(chip, sash.plan(fake))
        sash.sign(chip, sash.plan(opened))


def test_the_end_of_a_later_window(sash: Sash) -> None:
    """Tickets of one approver are of no use beside another's of another window: both must last."""
    short, long = sash.opened(seconds=3), sash.opened(seconds=600)
    mixed = replace(long, approvals={0: short.approvals[0], 1: long.approvals[1]})
    with sash.root() as chip:
        sash.sign(chip, sash.plan(mixed))
        time.sleep(3)
        with refused(0x1E3, "PolicyTicket"):
            sash.sign(chip, sash.plan(mixed))
        sash.sign(chip, sash.plan(long))


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_after_a_start_of_the_chip(sash: Sash, how: str) -> None:
    """In good order or by kill -9: tickets are void (0x5e0), and so is the session that waits."""
    opened = sash.opened()
    waiting = sash.asked("second")
    directory = software.directory_of(sash.house.app.home)
    if how == "stop":
        software.stop(directory)
    else:
        state = software.state(directory)
        for pid in (state.keeper, state.swtpm):
            assert pid
            os.kill(pid, signal.SIGKILL)
    with sash.root() as chip, refused(0x5E0, "PolicyTicket"):
        sash.sign(chip, sash.plan(opened))
    with pytest.raises(Exception, match="session that was waiting") as caught:
        for approval in waiting.approvals:
            sash.house.app.desk.take(approval.data)
    assert caught.value.code == "live-session-gone"
    again = sash.opened()
    with sash.root() as chip:
        sash.sign(chip, sash.plan(again))


def test_after_a_suspend(sash: Sash) -> None:
    """Shutdown(STATE), power off, Startup(STATE): 0x5e0. The session that waits ended (0x4e3)."""
    opened = sash.opened()
    request = sash.asked("second")
    waiting = parse_window(request.content)
    directory = software.directory_of(sash.house.app.home)
    shelf = sash.house.app.device.shelf
    assert shelf is not None
    saved = decode(Context, (shelf / f"{waiting.nonce.hex()}.session").read_bytes())
    plan = sash.plan(opened)
    with sash.root() as chip:
        sash.sign(chip, plan)
        chip.send(Shutdown(SU.STATE))
        state = software.state(directory)
        for pid in (state.keeper, state.swtpm):
            assert pid
            os.kill(pid, signal.SIGKILL)
    with resumed(directory / "chip" / "state") as chip:
        with refused(0x5E0, "PolicyTicket"):
            sash.sign(chip, plan)
        handle = chip.send(ContextLoad(saved)).loaded_handle
        assert request.roster is not None
        (votes,) = votes_of(request)
        given = Given(request.roster.officers[0].members[0], votes[0])
        ref = sash_ladder(request, waiting)
        with refused(0x4E3, "PolicySigned"):
            show(chip, given, handle, waiting.nonce, waiting.seconds, ref)


def _power_on(command: list[str], socket: Path) -> subprocess.Popen[bytes]:
    """Again while the one that was killed still has the state's lock."""
    deadline = time.monotonic() + 20
    while True:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None:
            if socket.exists():
                return process
            time.sleep(0.01)
        assert time.monotonic() < deadline, "swtpm did not start"


@contextmanager
def resumed(state: Path) -> Iterator[Chip]:
    """The same chip after a sleep of the machine: Startup(STATE)."""
    with tempfile.TemporaryDirectory(prefix="tpm-") as folder:
        command = ["swtpm", "socket", "--tpm2", "--flags", "not-need-init"]
        command += ["--server", f"type=unixio,path={folder}/s", "--tpmstate", f"dir={state}"]
        process = _power_on(command, Path(folder, "s"))
        try:
            door = SocketDoor(Path(folder, "s"))
            chip = Chip(door)
            chip.send(Startup(SU.STATE))
            yield chip
            chip.flush_all()
            door.close()
        finally:
            process.kill()
            process.wait()


def test_the_clock_set(sash: Sash) -> None:
    """The owner sets Clock a day ahead: the window ends by Time, which nobody sets. It cannot be
    set back (0x1c4).
    """
    opened = sash.opened(seconds=3)
    with sash.root() as chip:
        now = chip.send(ReadClock()).current_time.clock_info.clock
        chip.send(ClockSet(RH.OWNER, now + 86_400_000))
        sash.sign(chip, sash.plan(opened))
        with refused(0x1C4, "ClockSet"):
            chip.send(ClockSet(RH.OWNER, now))
        time.sleep(3)
        with refused(0x1E3, "PolicyTicket"):
            sash.sign(chip, sash.plan(opened))


def test_the_clock_slowed(sash: Sash) -> None:
    """Nobody refuses ClockRateAdjust: the owner makes a window longer, by less than a fifth."""
    with sash.root() as chip:
        for _ in range(40):
            chip.send(ClockRateAdjust(RH.OWNER, -3))
        before, start = chip.send(ReadClock()).current_time.time, time.monotonic()
        time.sleep(1)
        ticked = chip.send(ReadClock()).current_time.time - before
        passed = (time.monotonic() - start) * 1000
    assert 0.80 < ticked / passed < 0.99
    opened = sash.opened(seconds=3)
    with sash.root() as chip:
        time.sleep(4)
        with refused(0x1E3, "PolicyTicket"):
            sash.sign(chip, sash.plan(opened))


# ── what a window is for ─────────────────────────────────────────────────────────────────────


def test_the_tickets_of_another_key(sash: Sash) -> None:
    """0x5e0: the key's Name is in the policyRef; and with its own steps the chip finds another Name
    at TPM2_Sign (0x99d).
    """
    opened = sash.opened("issuing")
    other = replace(opened, key_name=bytes.fromhex(sash.row("second").name))
    with sash.root() as chip:
        with refused(0x5E0, "PolicyTicket"):
            sash.sign(chip, sash.plan(other, "second"), "second")
        with refused(0x99D, "Sign"):
            sash.sign(chip, sash.plan(opened), "second")
        sash.sign(chip, sash.plan(opened))


def test_a_key_that_the_roster_does_not_list(sash: Sash) -> None:
    """The tool asks nobody and signs nothing (window-not-allowed); with approvals from elsewhere
    the chip has no branch for it (0x084).
    """
    papers = sash.row("papers")
    with pytest.raises(UsageError) as caught:
        sash.house.app.desk.openings.propose("papers", 600)
    assert caught.value.code == "window-not-allowed"
    state = sash.house.app.groups.active("officers")
    name = bytes.fromhex(papers.name)
    with sash.root() as chip:
        nonce = live.begin(chip, time.time() + 60)
    window = WindowDocument(state.group.id, state.roster.epoch, name, nonce, 60)
    desk = sash.house.app.desk
    draft = desk.drafts.of_grant("window", papers, "officers", window.encoded, Claims())
    with declined("window-not-allowed"):
        sash.house.machines["alice"].look(draft.data)
    listed = replace(state.roster, windows=tuple(sorted((*state.roster.windows, name))))
    with sash.root() as chip:
        session, votes = live.resume(chip, nonce), _forced(sash, window)
        tickets = windows.open_window(chip, session, window, listed, votes)
        opened = Opened(state.group, listed, name, tickets)
        with refused(0x084, "PolicyAuthorizeNV"):
            sash.sign(chip, sash.plan(opened, "papers"), "papers")


def _forced(sash: Sash, window: WindowDocument) -> dict[int, bytes]:
    """What officers would sign with another program than this one."""
    votes = {}
    roster = sash.house.app.groups.active("officers").roster
    for index, name in enumerate(("alice", "bob")):
        identity = sash.house.machines[name].identity
        act = Opening("force", window, 1, roster.officers[0])
        votes[index] = tpmt_signature(identity.public_key, identity.sign(act.preimage))
    return votes


def test_another_command_in_a_window(sash: Sash) -> None:
    """The tickets for a budget, a roster, a quote: 0x1c4, 0x9a4, 0x99d."""
    opened = sash.opened()
    plan = sash.plan(opened)
    group = sash.house.app.groups.active("officers").group
    with sash.root() as chip:
        for code in (CC.NV_Write, CC.Quote, CC.Certify):
            steps = tuple(
                CommandCode(code) if isinstance(step, CommandCode) else step for step in plan.steps
            )
            with refused(0x1C4, "PolicyOR"):
                sash.primed(chip, plan, steps)
            chip.flush_all()
        key, session = sash.load(chip), sash.primed(chip, plan)
        with refused(0x9A4, "Quote"):
            chip.send(Quote(key.handle, b"", NULL_SCHEME, ()), session)
        command = NV_Write(group.roster_index, group.roster_index, bytes(74), 0)
        with refused(0x99D, "NV_Write"):
            chip.send(command, session)
        chip.flush_all()


def test_a_window_without_its_name_hash(sash: Sash) -> None:
    """The tickets on the ladder of other purposes: no branch has them without the key's Name."""
    opened = sash.opened()
    plan = sash.plan(opened)
    steps = tuple(step for step in plan.steps if not isinstance(step, NameHash))
    with sash.root() as chip, refused(0x1C4, "PolicyOR"):
        sash.primed(chip, plan, steps)


def test_tickets_of_an_old_epoch(sash: Sash) -> None:
    """0x126 after any change of the roster. What was primed before still signs, until the end."""
    opened = sash.opened(seconds=6)
    plan = sash.plan(opened)
    # the session is kept across the change, as root can
    with sash.root() as chip:
        session = sash.primed(chip, plan)
        kept = live_context(chip, session)
    sash.house.change("2:alice,carol,dave", ("alice", "carol"))
    with sash.root() as chip:
        with refused(0x126, "PolicyNV"):
            sash.sign(chip, plan)
        key, again = sash.load(chip), load_context(chip, kept)
        answer = chip.send(objects.sign_command(key, DIGEST), again)
        check(sash.row(), DIGEST, objects.plain_signature(answer.signature))


def live_context(chip: Chip, session: PolicySession) -> bytes:
    context = chip.send(ContextSave(session.handle)).context
    chip.forget(session.handle)
    return encode(context)


def load_context(chip: Chip, data: bytes) -> PolicySession:
    handle = chip.send(ContextLoad(decode(Context, data))).loaded_handle
    return PolicySession(handle, bytes(16), b"", encrypts=False, bound_name=b"")


# ── the approvals of a window ────────────────────────────────────────────────────────────────


def show(
    chip: Chip, given: Given, session: int, nonce: bytes, seconds: int, ref: bytes, cp: bytes = b""
) -> None:
    """An approval shown to the chip as root likes."""
    key = chip.send(LoadExternal(None, given.member.public, RH.NULL)).object_handle
    try:
        chip.send(PolicySigned(key, session, nonce, cp, ref, -seconds, given.parsed))
    finally:
        chip.flush(key)


def test_the_approvals_again(sash: Sash) -> None:
    """In another session: its nonce is another one (0x1cf); without a nonce they hold for nothing
    (0x5db); with more seconds neither (0x5db).
    """
    request = sash.asked()
    window = parse_window(request.content)
    (votes,) = votes_of(request)
    assert request.roster is not None
    ladder = sash_ladder(request, window)
    given = Given(request.roster.officers[0].members[0], votes[0])
    with sash.root() as chip:
        session = start_policy(chip)
        with refused(0x1CF, "PolicySigned"):
            show(chip, given, session.handle, window.nonce, window.seconds, ladder)
        with refused(0x5DB, "PolicySigned"):
            show(chip, given, session.handle, b"", window.seconds, ladder)
        with refused(0x5DB, "PolicySigned"):
            show(chip, given, session.handle, session.nonce_tpm, window.seconds, ladder)
        chip.flush(session.handle)
        waiting = live.resume(chip, window.nonce)
        for seconds in (window.seconds + 1, 0, 1 << 30):
            with refused(0x5DB, "PolicySigned"):
                show(chip, given, waiting.handle, window.nonce, seconds, ladder)
        show(chip, given, waiting.handle, window.nonce, window.seconds, ladder)
        chip.flush(waiting.handle)


def sash_ladder(request: Request, window: WindowDocument) -> bytes:
    assert request.roster is not None
    return branch_of(window.key_name).ladders(request.roster)[0].policy_ref


def test_the_approvals_for_another_purpose(sash: Sash) -> None:
    """The policyRef says window, and which key: 0x5db for signing, budgets, other keys."""
    request = sash.asked()
    window = parse_window(request.content)
    (votes,) = votes_of(request)
    assert request.roster is not None
    given = Given(request.roster.officers[0].members[0], votes[0])
    other = bytes.fromhex(sash.row("second").name)
    with sash.root() as chip:
        waiting = live.resume(chip, window.nonce)
        for ref in (
            policy_ref("sign", window.group, window.epoch),
            policy_ref("budget", window.group, window.epoch),
            policy_ref("window", window.group, window.epoch, 1, other),
            policy_ref("window", window.group, window.epoch + 1, 1, window.key_name),
        ):
            with refused(0x5DB, "PolicySigned"):
                show(chip, given, waiting.handle, window.nonce, window.seconds, ref)
        chip.flush(waiting.handle)


def test_a_window_shown_as_something_else(sash: Sash) -> None:
    """The tool decodes it: of another key or epoch (other-window), too long, with another nonce's
    length (parse), or as a file.
    """
    state = sash.house.app.groups.active("officers")
    row, other = sash.row(), sash.row("second")
    drafts, alice = sash.house.app.desk.drafts, sash.house.machines["alice"]
    epoch, name = state.roster.epoch, bytes.fromhex(row.name)
    honest = WindowDocument(state.group.id, epoch, name, bytes(16), 60)
    found = alice.look(drafts.of_grant("window", row, "officers", honest.encoded, Claims()).data)
    assert "ANYTHING" in [flag.head for flag in found.content.flags]
    for odd in (
        replace(honest, key_name=bytes.fromhex(other.name)),
        replace(honest, epoch=epoch + 1),
        replace(honest, group=bytes(32)),
    ):
        draft = drafts.of_grant("window", row, "officers", odd.encoded, Claims())
        with declined("other-window"):
            alice.look(draft.data)
    for old, new in (
        (b'"seconds":60', b'"seconds":86401'),
        (b'"seconds":60', b'"seconds":-60'),
        (b'"nonce":"' + b"00" * 16, b'"nonce":"' + b"00" * 32),
        (b'"nonce":"' + b"00" * 16, b'"nonce":"'),
    ):
        content = honest.encoded.replace(old, new)
        assert content != honest.encoded
        draft = drafts.of_grant("window", row, "officers", content, Claims())
        with pytest.raises(UsageError, match="window"):
            alice.look(draft.data)


def test_a_blank_cheque_for_another_purpose(sash: Sash) -> None:
    """An empty cpHash without a window, or with one that is no ticket: the approver's key signs no
    such shape (not-signable).
    """
    identity = sash.house.machines["alice"].identity
    nonce, ref = b"n" * 16, b"r" * 32
    good = live_preimage(nonce, -600, b"", ref)
    identity.sign(good)
    for message in (
        nonce + bytes(4) + ref,
        bytes(4) + ref,
        nonce + (-600).to_bytes(4, "big", signed=True) + bytes(32) + ref,
        nonce * 2 + good[16:],
        nonce[:8] + good[16:],
    ):
        with declined("not-signable"):
            identity.sign(message)


def test_tickets_under_another_hierarchy(sash: Sash) -> None:
    """Root shows the approvals with the approvers' keys under the owner: such tickets last no
    longer. They, too, are void after a start (0x5e0).
    """
    request = sash.asked()
    window = parse_window(request.content)
    (votes,) = votes_of(request)
    assert request.roster is not None
    ref, tickets = sash_ladder(request, window), {}
    with sash.root() as chip:
        waiting = live.resume(chip, window.nonce)
        for index in (0, 1):
            given = Given(request.roster.officers[0].members[index], votes[index])
            key = chip.send(LoadExternal(None, given.member.public, RH.OWNER)).object_handle
            command = PolicySigned(
                key, waiting.handle, window.nonce, b"", ref, -window.seconds, given.parsed
            )
            answer = chip.send(command)
            chip.flush(key)
            tickets[index] = Held(given.member, answer.timeout, encode(answer.policy_ticket))
        chip.flush(waiting.handle)
        opened = Opened(request.group, request.roster, window.key_name, tickets)
        sash.sign(chip, sash.plan(opened))
    software.stop(software.directory_of(sash.house.app.home))
    with sash.root() as chip, refused(0x5E0, "PolicyTicket"):
        sash.sign(chip, sash.plan(opened))
