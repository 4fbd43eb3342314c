"""Root against the chip's hierarchies: the count of wrong PINs, before and after it is sealed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.tpm.conftest import end

from tpmhsm.cli.app import App
from tpmhsm.errors import ChipRefusedError, DeviceError
from tpmhsm.keys import sealing
from tpmhsm.keys.host import load_host, measure, save_host
from tpmhsm.keys.keyring import Keyring
from tpmhsm.store import Store
from tpmhsm.tpm import software
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.hierarchies import Limits
from tpmhsm.tpm.probe import Lockout, lockout
from tpmhsm.tpm.sessions import Password, start_policy
from tpmhsm.wire.commands import (
    Clear,
    ClearControl,
    ClockRateAdjust,
    ClockSet,
    DictionaryAttackLockReset,
    DictionaryAttackParameters,
    HierarchyChangeAuth,
    HierarchyControl,
    PolicyCommandCode,
    PolicyGetDigest,
    PolicySecret,
    ReadClock,
    SetPrimaryPolicy,
)
from tpmhsm.wire.constants import ALG, CC, RH
from tpmhsm.wire.framing import Command

pytestmark = pytest.mark.skipif(not shutil.which("swtpm"), reason="swtpm is not installed")

PIN, GUESS = b"482915", b"000000"
LIMITS = Limits(tries=4)

LOCKOUT_COMMANDS: tuple[Command[Any], ...] = (
    DictionaryAttackLockReset(RH.LOCKOUT),
    DictionaryAttackParameters(RH.LOCKOUT, 1000, 60, 60),
    ClearControl(RH.LOCKOUT, True),
    SetPrimaryPolicy(RH.LOCKOUT, b"", ALG.NULL),
    HierarchyChangeAuth(RH.LOCKOUT, b""),
    Clear(RH.LOCKOUT),
)


class Pins:
    """PINs as they come from a prompt."""

    group, given = "", True

    def __init__(self, value: bytes) -> None:
        self.value = value

    def pin_of(self, label: str) -> bytes:
        return self.value

    new_pin_of = pin_of


class Place:
    """A home with the key "safe", which has a PIN; root has all of it."""

    def __init__(self, home: Path) -> None:
        self.app = App(home, tpm="software")
        self.app.__dict__["store"] = Store.open(home, create=True)
        self.directory = software.directory_of(home)
        software.manufacture(self.directory)
        save_host(self.app.store, measure(self.app.device))
        self.ring(PIN).create("safe", "p256", policy="pin", pin=PIN)

    def ring(self, pin: bytes) -> Keyring:
        return Keyring(self.app.store, self.app.device, Pins(pin))

    def sign(self, pin: bytes = PIN) -> None:
        ring = self.ring(pin)
        ring.sign_digest(ring.get("safe"), bytes(32))

    def seal(self) -> bytes:
        """As `device seal` does; gives what the people keep elsewhere."""
        kept: list[bytes] = []
        found = sealing.Sealing(LIMITS, kept.append)
        sealing.seal(self.app.device, load_host(self.app.store), found)
        return kept[0]

    @contextmanager
    def root(self) -> Iterator[Chip]:
        with self.app.device.transaction() as chip:
            yield chip
            assert chip.leaks() == []

    def state(self) -> Lockout:
        with self.root() as chip:
            return lockout(chip)

    def brute_force(self) -> int:
        """Guess until the chip takes no PIN any more; gives the number of guesses."""
        for count in range(100):
            try:
                self.sign(GUESS)
            except ChipRefusedError as error:
                assert error.rc == 0x98E
            except DeviceError as error:
                assert error.details["rc"] == "0x921"
                return count
        raise AssertionError("nothing stops guessing")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("care") / "home"
    place = Place(home)
    place.app.store.close()
    end(place.directory)
    return home


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Iterator[Place]:
    home = tmp_path / "home"
    home.mkdir()
    (home / "tpm").mkdir(mode=0o700)
    shutil.copytree(made / "tpm" / "chip", home / "tpm" / "chip")
    shutil.copy(made / "tpmhsm.db", home)
    found = Place.__new__(Place)
    found.app = App(home, tpm="software")
    found.app.__dict__["store"] = Store.open(home)
    found.directory = software.directory_of(home)
    try:
        yield found
    finally:
        found.app.store.close()
        end(found.directory)


def code_of(chip: Chip, command: Command[Any], *auths: Any) -> int:
    """The chip's answer; 0 for obedience."""
    try:
        chip.send(command, *auths)
    except ChipRefusedError as error:
        return error.rc
    except DeviceError as error:
        return int(str(error.details["rc"]), 16)
    return 0


def test_a_chip_that_is_not_sealed(place: Place) -> None:
    """Nobody refuses root anything: guesses without end, and any limits."""
    for command in LOCKOUT_COMMANDS[:5]:
        with place.root() as chip:
            assert code_of(chip, command) == 0
    for _ in range(5):
        with pytest.raises(ChipRefusedError):
            place.sign(GUESS)
        with place.root() as chip:
            assert code_of(chip, LOCKOUT_COMMANDS[0]) == 0
    place.sign()


@pytest.mark.parametrize("command", LOCKOUT_COMMANDS, ids=lambda one: type(one).__name__)
def test_the_lockout_hierarchy_with_the_empty_password(place: Place, command: Any) -> None:
    """0x98e, and from then on 0x921 whatever the password, for as long as was set."""
    place.seal()
    with place.root() as chip:
        assert code_of(chip, command) == 0x98E
        assert code_of(chip, command) == 0x921
        assert lockout(chip).max_tries == LIMITS.tries
    place.sign()


def test_root_guesses_until_the_chip_stops_it(place: Place) -> None:
    """As many guesses as there are tries. Stopped for good: over an orderly stop, and over a kill
    of the chip, which is not how root gets more (0x921).
    """
    secret = place.seal()
    assert place.brute_force() == LIMITS.tries
    software.stop(place.directory)
    assert place.brute_force() == 0
    state = software.state(place.directory)
    for pid in (state.keeper, state.swtpm):
        assert pid
        os.kill(pid, signal.SIGKILL)
    assert place.brute_force() == 0
    assert place.state().active
    with place.root() as chip:
        assert code_of(chip, DictionaryAttackLockReset(RH.LOCKOUT)) == 0x98E
    with pytest.raises(DeviceError):
        place.sign()
    assert secret not in (place.app.home / "tpmhsm.db").read_bytes()


def test_the_right_password_ends_it(place: Place) -> None:
    """What the people keep elsewhere; all tries are back, and no more."""
    secret = place.seal()
    assert place.brute_force() == LIMITS.tries
    state = sealing.lift(place.app.device, load_host(place.app.store), secret)
    assert state.tries == 0
    place.sign()
    assert place.brute_force() == LIMITS.tries


def test_an_unclean_stop_gives_no_try_back(place: Place) -> None:
    """A kill between a wrong PIN and the next: it costs a try more."""
    place.seal()
    place.sign()
    with pytest.raises(ChipRefusedError):
        place.sign(GUESS)
    state = software.state(place.directory)
    for pid in (state.keeper, state.swtpm):
        assert pid
        os.kill(pid, signal.SIGKILL)
    assert place.state().tries == 2


def test_the_owner_hierarchy_moves_the_clock(place: Place) -> None:
    """ClockSet by the owner is obeyed, and no try comes back (0x921): running time counts."""
    place.seal()
    assert place.brute_force() == LIMITS.tries
    with place.root() as chip:
        now = chip.send(ReadClock()).current_time.clock_info.clock
        assert code_of(chip, ClockSet(RH.OWNER, now + 400 * 86_400_000)) == 0
        assert code_of(chip, ClockRateAdjust(RH.OWNER, 3)) == 0
    assert place.state().tries == LIMITS.tries
    assert place.brute_force() == 0


def test_the_owner_hierarchy_is_no_lockout_hierarchy(place: Place) -> None:
    """0x184 (the wrong hierarchy) where it would have to be the other."""
    place.seal()
    with place.root() as chip:
        assert code_of(chip, DictionaryAttackLockReset(RH.OWNER)) == 0x184
        assert code_of(chip, DictionaryAttackParameters(RH.OWNER, 99, 60, 60)) == 0x184
        assert code_of(chip, ClearControl(RH.OWNER, False)) == 0x184
        assert code_of(chip, Clear(RH.OWNER)) == 0x184
    place.sign()


def test_the_platform_hierarchy(place: Place) -> None:
    """Off since the start (0x185), and the owner cannot switch it on (0x124)."""
    place.seal()
    with place.root() as chip:
        for command in (Clear(RH.PLATFORM), ClearControl(RH.PLATFORM, False)):
            assert code_of(chip, command) == 0x185
        assert code_of(chip, HierarchyControl(RH.OWNER, RH.PLATFORM, True)) == 0x124
        assert code_of(chip, HierarchyControl(RH.PLATFORM, RH.PLATFORM, True)) == 0x185
    place.sign()


def test_a_policy_that_root_left_before_the_sealing(place: Place) -> None:
    """The lockout hierarchy's policy is another way than its password: sealing removes it. Before
    it, a session that satisfies root's policy resets the count; after it, 0x12f.
    """
    reset = DictionaryAttackLockReset(RH.LOCKOUT)
    with place.root() as chip:
        trial = start_policy(chip)
        chip.send(PolicyCommandCode(trial.handle, CC.DictionaryAttackLockReset))
        chip.send(PolicySecret(RH.OWNER, trial.handle, b"", b"", b"", 0))
        policy = chip.send(PolicyGetDigest(trial.handle)).policy_digest
        chip.flush(trial.handle)
        chip.send(SetPrimaryPolicy(RH.LOCKOUT, policy, ALG.SHA256))
        for expected in (0, 0x12F):
            session = start_policy(chip)
            chip.send(PolicyCommandCode(session.handle, CC.DictionaryAttackLockReset))
            chip.send(PolicySecret(RH.OWNER, session.handle, b"", b"", b"", 0))
            assert code_of(chip, reset, session) == expected
            chip.flush(session.handle)
            if not expected:
                sealing.hierarchies.seal_lockout(
                    chip,
                    sealing._salt(chip, load_host(place.app.store)),
                    b"s" * 32,
                    LIMITS,
                )


def test_the_password_is_not_heard_at_the_door(place: Place) -> None:
    """It goes to the chip inside an encrypted parameter, and later only as the key of an HMAC."""
    said: list[bytes] = []
    device = place.app.device
    with device.transaction() as chip:
        inner = chip._door.send
        chip._door.send = lambda data: said.append(data) or inner(data)  # type: ignore
        salt = sealing._salt(chip, load_host(place.app.store))
        secret = os.urandom(31) + b"\1"
        sealing.hierarchies.seal_lockout(chip, salt, secret, LIMITS)
        sealing.hierarchies.lift(chip, salt, secret)
    assert len(said) > 6
    assert secret not in b"".join(said)
    with place.root() as chip:
        assert code_of(chip, DictionaryAttackLockReset(RH.LOCKOUT), Password(secret)) == 0


def test_root_burns_the_tries_and_the_passwords(place: Place) -> None:
    """Nobody refuses that: root can lock PINs out, and keep the lockout hierarchy closed, so that
    the right password ends nothing either (0x921). Service stops; no signature is gained.
    """
    secret = place.seal()
    assert place.brute_force() == LIMITS.tries
    with place.root() as chip:
        assert code_of(chip, DictionaryAttackLockReset(RH.LOCKOUT)) == 0x98E
    with pytest.raises(DeviceError) as closed:
        sealing.lift(place.app.device, load_host(place.app.store), secret)
    assert closed.value.code == "lockout-closed"
    assert closed.value.details["rc"] == "0x921"
