"""PINs, PCRs and alternatives: root has the host, the database and the way to the chip."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.attacks.conftest import checked
from tests.attacks.house import House
from tests.attacks.root import check, refused

from tpmhsm.errors import DeviceError, VerificationError
from tpmhsm.keys.host import load_host
from tpmhsm.policy.bound import bound_sign
from tpmhsm.policy.normal import Alternative
from tpmhsm.policy.plan import Officers, Plan, plan_use
from tpmhsm.policy.steps import AuthValue, CommandCode, Or, Step
from tpmhsm.policy.steps import Pcr as PcrStep
from tpmhsm.store.keys import KeyRow
from tpmhsm.tpm import objects, policies, software
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.pcrs import unpack_selection
from tpmhsm.tpm.pins import Pin
from tpmhsm.tpm.sessions import Password, PolicySession, start_hmac, start_policy
from tpmhsm.wire.commands import (
    ObjectChangeAuth,
    PCR_Extend,
    PCR_Reset,
    PolicyAuthValue,
    PolicyCommandCode,
    PolicyPassword,
    PolicyPCR,
    Quote,
)
from tpmhsm.wire.constants import ALG, CC
from tpmhsm.wire.structures import NULL_SCHEME, Ha

PIN = b"four 1742 words"
GUESS = b"a guess"
ANY = sha256(b"whatever root likes").digest()

KEYS = {
    "safe": "pin",
    "boot": "pcr(sha256:0,7)",
    "both": "all(quorum(officers), pin)",
    "either": "any(all(quorum(officers), pcr(sha256:0)), all(pin, pcr(sha256:7)))",
}


def extend(chip: Chip, number: int, what: bytes) -> None:
    chip.send(PCR_Extend(number, (Ha(ALG.SHA256, sha256(what).digest()),)))


def boot(chip: Chip) -> None:
    """What firmware measures."""
    for number in (0, 7):
        extend(chip, number, b"firmware %d" % number)


@pytest.fixture
def guarded(built: House, tmp_path: Path) -> Iterator[House]:
    """A house with keys of each kind; the officers approved nothing with them yet."""
    with checked(built.copy(tmp_path / "home")) as house:
        with house.app.device.transaction() as chip:
            boot(chip)
        for label, policy in KEYS.items():
            house.app.keyring.create(label, "p256", policy=policy, pin=PIN)
        yield house


class Burglar:
    """Root with one conversation, the keys out of the database, and perhaps the PIN."""

    def __init__(self, house: House, chip: Chip) -> None:
        self.house = house
        self.chip = chip
        self.parent = objects.storage_parent(chip, load_host(house.app.store).parent_name)

    def row(self, label: str) -> KeyRow:
        return self.house.app.keyring.get(label)

    def load(self, label: str) -> objects.Loaded:
        row = self.row(label)
        return objects.load_key(self.chip, self.parent, row.public, row.private)

    def plan(self, label: str, number: int = 0, officers: Officers | None = None) -> Plan:
        """The honest steps of one alternative."""
        row = self.row(label)
        policy = self.house.app.keyring.policy(row)
        return plan_use(policy, policy.alternatives[number], row.public, ANY, officers)

    def steps(self, label: str, alternative: Alternative) -> tuple[Step, ...]:
        """The steps of an alternative, without the approvals that some want."""
        return self.house.app.keyring.policy(self.row(label)).way(alternative)

    def session(self, plan: Plan, value: bytes, steps: tuple[Step, ...] = ()) -> PolicySession:
        session = start_policy(self.chip, salt_key=Pin.to(self.parent, PIN).salt)
        session.auth_value = value
        for step in steps or plan.steps:
            policies.run_step(self.chip, session, plan, step)
        return session

    def sign(self, label: str, value: bytes = PIN, number: int = 0) -> bytes:
        """The honest way."""
        plan, key = self.plan(label, number), self.load(label)
        pin = Pin.to(self.parent, value) if plan.has_pin else None
        try:
            answer = policies.execute(self.chip, plan, objects.sign_command(key, ANY), pin)
        finally:
            self.chip.flush_all()
        signature = objects.plain_signature(answer.signature)
        check(self.row(label), ANY, signature)
        return signature


@contextmanager
def burglar(house: House) -> Iterator[Burglar]:
    with house.app.device.transaction() as chip:
        yield Burglar(house, chip)
        chip.flush_all()
        assert chip.leaks() == []


class Wire:
    """The door, with somebody at it."""

    def __init__(self, chip: Chip) -> None:
        self._inner = chip._door
        self.said: list[bytes] = []
        self.broken = False
        chip._door = self

    def send(self, data: bytes) -> bytes:
        answer = self._inner.send(data)
        self.said += [data, answer]
        return answer

    def close(self) -> None:
        self._inner.close()

    def answer(self, code: int) -> bytes:
        """The answer to the last command of this code."""
        at = max(i for i in range(0, len(self.said), 2) if self.said[i][6:10] == _code(code))
        return self.said[at + 1]

    def last(self, code: int) -> bytes:
        """The last command of this code, byte for byte."""
        return [d for d in self.said[::2] if d[6:10] == _code(code)][-1]


def _code(code: int) -> bytes:
    return int(code).to_bytes(4, "big")


# ── PINs ─────────────────────────────────────────────────────────────────────────────────────


def test_a_wrong_pin(guarded: House) -> None:
    """0x98e each time; then the chip takes no PIN at all (0x921), not even the right one."""
    with burglar(guarded) as root:
        root.sign("safe")
        for _ in range(3):
            with refused(0x98E, "Sign"):
                root.sign("safe", GUESS)
        with pytest.raises(DeviceError) as locked:
            root.sign("safe")
        assert (locked.value.code, locked.value.details["rc"]) == ("chip-lockout", "0x921")


def test_the_empty_password_on_a_pin_key(guarded: House) -> None:
    """Password, HMAC session, policy without PIN, PolicyPassword: 0x12f, 0x99d, 0x98e."""
    with burglar(guarded) as root:
        root.sign("safe")
        key = root.load("safe")
        command = objects.sign_command(key, ANY)
        for value in (b"", PIN):
            with refused(0x12F, "Sign"):
                root.chip.send(command, Password(value))
        session: Any = start_hmac(root.chip)
        session.auth_value = PIN
        with refused(0x12F, "Sign"):
            root.chip.send(command, session)
        session = start_policy(root.chip)
        root.chip.send(PolicyCommandCode(session.handle, CC.Sign))
        with refused(0x99D, "Sign"):
            root.chip.send(command, session)
        root.chip.flush(session.handle)
        session = start_policy(root.chip)
        root.chip.send(PolicyPassword(session.handle))
        root.chip.send(PolicyCommandCode(session.handle, CC.Sign))
        session.with_password = True
        with refused(0x98E, "Sign"):
            root.chip.send(command, session)


def test_a_pin_sniffed_at_the_door(guarded: House) -> None:
    """Birth and use: what goes over the wire has neither the PIN nor a hash of it, and the HMAC
    cannot be tried with guesses, for it is keyed by a salt that only the chip can open.
    """
    with guarded.app.device.transaction() as chip:
        wire = Wire(chip)
        root = Burglar(guarded, chip)
        pin = Pin.to(root.parent, PIN)
        digest = guarded.app.keyring.policy(root.row("safe")).digest
        objects.create_key(chip, root.parent, "p256", digest, pin=pin)
        root.sign("safe")
        said = b"".join(wire.said)
    for secret in (PIN, PIN[:6], sha256(PIN).digest(), PIN.hex().encode()):
        assert secret not in said
    name = bytes.fromhex(root.row("safe").name)
    assert not _tried(wire, name, PIN)


def test_a_session_without_salt_would_give_the_pin_away(guarded: House) -> None:
    """Nobody refuses one; the program never makes one. A listener tries guesses until one fits."""
    with burglar(guarded) as root:
        root.sign("safe")
        wire = Wire(root.chip)
        key, plan = root.load("safe"), root.plan("safe")
        session = start_policy(root.chip)
        session.auth_value = PIN
        for step in plan.steps:
            policies.run_step(root.chip, session, plan, step)
        root.chip.send(objects.sign_command(key, ANY), session)
        assert _tried(wire, key.name, PIN)
        assert not _tried(wire, key.name, GUESS)


def _tried(wire: Wire, name: bytes, guess: bytes) -> bool:
    """Whether a listener sees that `guess` is the PIN: it is the HMAC's key in the last Sign."""
    sign = wire.last(CC.Sign)
    nonce, attributes, mac, parameters = sign[24:40], sign[40:41], sign[43:75], sign[75:]
    tpm = wire.answer(CC.StartAuthSession)[16:32]
    hashed = sha256(int(CC.Sign).to_bytes(4, "big") + name + parameters).digest()
    return hmac.digest(guess, hashed + nonce + tpm + attributes, "sha256") == mac


def test_a_salt_key_of_roots_own(guarded: House) -> None:
    """Another key is shown in the parent's place, so that the salt could be read."""
    other = guarded.app.keyring.get("boot").public
    with guarded.app.device.transaction() as chip:
        inner = chip._door.send

        class Between:
            broken = False

            def send(self, data: bytes) -> bytes:
                answer = inner(data)
                if int.from_bytes(data[6:10], "big") != CC.ReadPublic:
                    return answer
                body = len(other).to_bytes(2, "big") + other + answer[-72:]
                return answer[:2] + (10 + len(body)).to_bytes(4, "big") + answer[6:10] + body

        door, chip._door = chip._door, Between()
        with pytest.raises(VerificationError, match=r"Name of .* is not that of its public area"):
            Burglar(guarded, chip)
        chip._door = door


def test_a_signature_replayed(guarded: House) -> None:
    """The command's bytes again: the session ended with it (0x918); or it goes on, its policy
    forgotten (0x99d), and satisfied again it has another nonce, so the HMAC is wrong (0x98e).
    """
    with burglar(guarded) as root:
        root.sign("safe")
        wire = Wire(root.chip)
        root.sign("safe")
        key = root.load("safe")
        again = wire.last(CC.Sign)
        assert wire.send(again)[6:10].hex() == "00000918"
        plan = root.plan("safe")
        session = root.session(plan, PIN)
        root.chip.send(objects.sign_command(key, ANY), session)
        again = wire.last(CC.Sign)
        assert wire.send(again)[6:10].hex() == "0000099d"
        for step in plan.steps:
            policies.run_step(root.chip, session, plan, step)
        assert wire.send(again)[6:10].hex() == "0000098e"


def test_the_pin_changed(guarded: House) -> None:
    """ObjectChangeAuth with the old PIN: adminWithPolicy is set (0x124, 0x9a4)."""
    with burglar(guarded) as root:
        root.sign("safe")
        key = root.load("safe")
        command = ObjectChangeAuth(key.handle, root.parent.handle, b"known to root")
        with refused(0x124, "ObjectChangeAuth"):
            root.chip.send(command, Password(PIN))
        session = root.session(root.plan("safe"), PIN)
        with refused(0x9A4, "ObjectChangeAuth"):
            root.chip.send(command, session)
        root.chip.flush(key.handle)
        root.chip.flush(session.handle)
        root.sign("safe")


def test_another_command_with_the_pin(guarded: House) -> None:
    """The PIN lets the key sign, not certify what root likes (0x9a4, 0x99d)."""
    with burglar(guarded) as root:
        root.sign("safe")
        key = root.load("safe")
        command = Quote(key.handle, b"", NULL_SCHEME, ())
        session = root.session(root.plan("safe"), PIN)
        with refused(0x9A4, "Quote"):
            root.chip.send(command, session)
        root.chip.flush(session.handle)
        session = root.session(root.plan("safe"), PIN, (AuthValue(),))
        with refused(0x99D, "Quote"):
            root.chip.send(command, session)


# ── PCRs ─────────────────────────────────────────────────────────────────────────────────────


def test_a_pcr_moved_between_policy_and_signature(guarded: House) -> None:
    """0x128, whichever PCR it is."""
    with burglar(guarded) as root:
        root.sign("boot")
        for number in (10, 7):
            key = root.load("boot")
            session = root.session(root.plan("boot"), b"")
            extend(root.chip, number, b"an update")
            with refused(0x128, "Sign"):
                root.chip.send(objects.sign_command(key, ANY), session)
            root.chip.flush_all()


def test_pcrs_of_another_boot(guarded: House) -> None:
    """0x1c4 where the values are named, 0x99d where the chip takes those of now."""
    with burglar(guarded) as root:
        root.sign("boot")
        extend(root.chip, 7, b"another boot loader")
        with refused(0x1C4, "PolicyPCR"):
            root.sign("boot")
        key = root.load("boot")
        session = start_policy(root.chip)
        (pcrs,) = (s for s in root.plan("boot").steps if isinstance(s, PcrStep))
        root.chip.send(PolicyPCR(session.handle, b"", unpack_selection(pcrs.selection)))
        root.chip.send(PolicyCommandCode(session.handle, CC.Sign))
        with refused(0x99D, "Sign"):
            root.chip.send(objects.sign_command(key, ANY), session)


def test_pcrs_reset(guarded: House) -> None:
    """PCR 0 cannot be (0x907); 16 and 23 can, so no policy is made of them."""
    with burglar(guarded) as root:
        with refused(0x907, "PCR_Reset"):
            root.chip.send(PCR_Reset(0))
        for number in (16, 23):
            root.chip.send(PCR_Reset(number))
        root.sign("boot")


def test_a_software_tpm_started_anew(guarded: House) -> None:
    """Nobody refuses: whoever starts it measures into it what it wants to have."""
    directory = software.directory_of(guarded.app.home)
    with burglar(guarded) as root:
        extend(root.chip, 7, b"another boot loader")
        with refused(0x1C4, "PolicyPCR"):
            root.sign("boot")
    software.stop(directory)
    with burglar(guarded) as root:
        boot(root.chip)
        root.sign("boot")


# ── alternatives ─────────────────────────────────────────────────────────────────────────────


def test_one_of_two_demands(guarded: House) -> None:
    """all(quorum, pin): the PIN without the officers (0x084, 0x99d)."""
    with burglar(guarded) as root:
        key = root.load("both")
        policy = guarded.app.keyring.policy(root.row("both"))
        way = policy.way(policy.alternatives[0])
        index = guarded.loot.group.roster_index
        bound = bound_sign(key.public, ANY)
        plan = Plan("steal", (), bound, bytes(32), {}, {way[0].name: index})  # type: ignore[attr-defined]
        with refused(0x084, "PolicyAuthorizeNV"):
            root.session(plan, PIN, way)
        root.chip.flush_all()
        key = root.load("both")
        session = root.session(plan, PIN, way[1:])
        with refused(0x99D, "Sign"):
            root.chip.send(objects.sign_command(key, ANY), session)


def test_another_alternatives_part(guarded: House) -> None:
    """any(all(quorum, pcr 0), all(pin, pcr 7)): PIN and PCR 0, PCR 7 without the PIN, the PIN
    alone: 0x1c4 at the PolicyOR, 0x99d with a PolicyOR of root's own or none.
    """
    with burglar(guarded) as root:
        policy = guarded.app.keyring.policy(root.row("either"))
        by_pin = next(one for one in policy.alternatives if one.pin)
        by_people = next(one for one in policy.alternatives if one.group)
        pcr7, pin, code, either = policy.way(by_pin)
        pcr0 = policy.way(by_people)[1]
        place = policy.alternatives.index(by_pin)
        plan = root.plan("either", place)
        assert isinstance(either, Or) and isinstance(code, CommandCode)
        assert isinstance(pin, AuthValue)
        for part in ((pcr0, pin, code), (pcr0, code), (pcr7, code), (pin, code), (pin, pcr7, code)):
            with refused(0x1C4, "PolicyOR"):
                root.session(plan, PIN, (*part, either))
            root.chip.flush_all()
            for end in ((), (Or((either.branches[0], _after(part))),)):
                key = root.load("either")
                session = root.session(plan, PIN, (*part, *end))
                with refused(0x99D, "Sign"):
                    root.chip.send(objects.sign_command(key, ANY), session)
                root.chip.flush_all()
        root.sign("either", number=place)


def _after(steps: tuple[Step, ...]) -> bytes:
    from tpmhsm.policy.steps import digest_of

    return digest_of(steps)


def test_the_alternative_of_another_key(guarded: House) -> None:
    """A session that satisfies one key's policy is of no use for another's (0x99d)."""
    with burglar(guarded) as root:
        session = root.session(root.plan("boot"), b"")
        key = root.load("safe")
        with refused(0x99D, "Sign"):
            root.chip.send(objects.sign_command(key, ANY), session)
        root.chip.send(PolicyAuthValue(session.handle))
