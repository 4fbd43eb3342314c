"""Decryption keys in the hands of root: what officers did not approve is not decrypted, and a key
that decrypts never signs.

"box" is an RSA key, "ring" one on P-256: of the officers. "open-box" and "open-ring" demand
nothing, so that there the chip's refusal is the key's own. Two officers approved one ciphertext for
"box" and one public key for "ring".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.attacks.conftest import checked
from tests.attacks.house import House
from tests.attacks.root import Loot, refused
from tests.attacks.test_pins_and_pcrs import Wire
from tests.support.messages import message_for

from tpmhsm.approval.request import Claims
from tpmhsm.attest.public_keys import public_key_of
from tpmhsm.errors import ApprovalRefusedError, ParseError, WaitingError
from tpmhsm.policy.plan import Officers, Plan, plan_use
from tpmhsm.policy.steps import Signed, Step
from tpmhsm.requests.execution import votes_by_act
from tpmhsm.store.keys import KeyRow
from tpmhsm.tpm import decryption, objects, policies
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.objects import Loaded
from tpmhsm.tpm.salts import SaltKey
from tpmhsm.tpm.sessions import Password, PolicySession, start_policy
from tpmhsm.wire.commands import (
    Certify,
    Commit,
    ECDH_ZGen,
    ObjectChangeAuth,
    Quote,
    RSA_Decrypt,
    Sign,
)
from tpmhsm.wire.constants import ALG
from tpmhsm.wire.public import RsaParms
from tpmhsm.wire.structures import (
    NULL_HASHCHECK,
    NULL_SCHEME,
    AsymScheme,
    EccPoint,
    RsaDecrypt,
    SchemeHash,
    SigScheme,
    pcr_selection,
)

SECRET = b"the board meets at noon"
OTHER = b"and the vault opens at one"
ANY = sha256(b"whatever root likes").digest()
PEER = ec.generate_private_key(ec.SECP256R1())
OTHER_PEER = ec.generate_private_key(ec.SECP256R1())
BOXES = ("box", "ring")
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def closed(house: House, label: str, data: bytes) -> bytes:
    """A ciphertext, or for a key on a curve a public key."""
    key = house.app.keyring.public_key(house.app.keyring.get(label))
    if isinstance(key, ec.EllipticCurvePublicKey):
        return spki(PEER if data == SECRET else OTHER_PEER)
    algorithm = hashes.SHA256()
    return key.encrypt(data, padding.OAEP(padding.MGF1(algorithm), algorithm, None))


def inside(house: House, label: str) -> bytes:
    key = house.app.keyring.public_key(house.app.keyring.get(label))
    return PEER.exchange(ec.ECDH(), key) if isinstance(key, ec.EllipticCurvePublicKey) else SECRET


def propose(house: House, label: str, content: bytes) -> int:
    """Ask the officers; gives the request that waits."""
    desk = house.app.desk.decryptions
    try:
        (desk.decrypt if len(content) == 256 else desk.derive)(label, content)
    except WaitingError as waiting:
        return waiting.request
    raise AssertionError("nobody was asked")


@dataclass(frozen=True)
class Prey:
    """What root has of one decryption: the key, the content, and the officers' approvals."""

    row: KeyRow
    content: bytes
    loot: Loot

    def plan(self, content: bytes = b"", votes: dict[int, bytes] | None = None) -> Plan:
        """The steps for a content; by default those that were approved."""
        from tpmhsm.policy.bound import command_of
        from tpmhsm.policy.plan import quorum_policy

        policy = quorum_policy(self.loot.group, command_of(self.row.public))
        given = self.loot.votes if votes is None else votes
        officers = Officers(self.loot.group, self.loot.roster, given)
        one = policy.alternatives[0]
        return plan_use(policy, one, self.row.public, content or self.content, officers)


@pytest.fixture(scope="module")
def built_cellar(built: House, tmp_path_factory: pytest.TempPathFactory) -> House:
    """The house with four decryption keys, closed."""
    with checked(built.copy(tmp_path_factory.mktemp("cellar") / "home")) as house:
        for label, alg in (("box", "rsa2048"), ("ring", "p256")):
            house.app.keyring.create(label, alg, policy="quorum(officers)", use="decrypt")
            house.app.keyring.create(f"open-{label}", alg, policy="open", use="decrypt")
        return house


@pytest.fixture
def cellar(built_cellar: House, tmp_path: Path) -> Iterator[House]:
    """One's own, in which two officers approved for both keys; nothing is decrypted yet."""
    with checked(built_cellar.copy(tmp_path / "home")) as house:
        for label in BOXES:
            number = propose(house, label, closed(house, label, SECRET))
            approvals = tuple(house.approve(number, name) for name in ("alice", "bob"))
            request = replace(house.app.desk.request(number), approvals=approvals)
            (votes,) = votes_by_act(request)
            row = house.app.keyring.get(label)
            assert request.roster is not None
            loot = Loot(request, request.roster, row, b"", votes)
            house.loots[label] = loot
        yield house


def prey(house: House, label: str) -> Prey:
    loot = house.loots[label]
    return Prey(loot.key, loot.request.content, loot)


@contextmanager
def thief(house: House) -> Iterator[Chip]:
    """Root at the chip."""
    with house.app.device.transaction() as chip:
        yield chip
        chip.flush_all()
        assert chip.leaks() == []


def load(chip: Chip, row: KeyRow) -> Loaded:
    return objects.load_key(chip, objects.storage_parent(chip), row.public, row.private)


def session(chip: Chip, plan: Plan, steps: Iterable[Step] | None = None) -> PolicySession:
    found = start_policy(chip)
    for step in plan.steps if steps is None else steps:
        policies.run_step(chip, found, plan, step)
    return found


def decrypt(
    chip: Chip, one: Prey, plan: Plan, content: bytes = b"", steps: Iterable[Step] | None = None
) -> bytes:
    """Load, satisfy what can be satisfied, decrypt. Cleans up."""
    key = load(chip, one.row)
    try:
        command = decryption.decrypt_command(key, content or one.content)
        return decryption.secret_of(key, chip.send(command, session(chip, plan, steps)))
    finally:
        chip.flush_all()


# ── who may decrypt what ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("label", BOXES)
def test_one_approval_of_two_for_a_decryption(cellar: House, label: str) -> None:
    """M-1: the ladder does not end, nor does the roster begin without it."""
    one = prey(cellar, label)
    with thief(cellar) as chip:
        plan = one.plan()
        last = max(i for i, step in enumerate(plan.steps) if isinstance(step, Signed))
        with refused(0x1C4, "PolicyOR"):
            decrypt(chip, one, plan, steps=(*plan.steps[:last], *plan.steps[last + 1 :]))
        with refused(0x084, "PolicyAuthorizeNV"):
            decrypt(chip, one, plan, steps=plan.steps[-2:])
        with refused(0x99D, "RSA_Decrypt" if label == "box" else "ECDH_ZGen"):
            decrypt(chip, one, plan, steps=plan.steps[-1:])
        assert decrypt(chip, one, plan) == inside(cellar, label)


@pytest.mark.parametrize("label", BOXES)
def test_another_ciphertext_or_point(cellar: House, label: str) -> None:
    """The approvals are bound to the command: with another ciphertext, or another's public key, the
    session is refused, and shown for it they are no signatures.
    """
    one, other = prey(cellar, label), closed(cellar, label, OTHER)
    with thief(cellar) as chip:
        with refused(0x99D, "RSA_Decrypt" if label == "box" else "ECDH_ZGen"):
            decrypt(chip, one, one.plan(), other)
        with refused(0x5DB, "PolicySigned"):
            decrypt(chip, one, one.plan(other), other)
        assert decrypt(chip, one, one.plan()) == inside(cellar, label)


@pytest.mark.parametrize("label", BOXES)
def test_approvals_of_a_signature_for_a_decryption(cellar: House, label: str) -> None:
    """And the other way round: the purpose is in policyRef, the command in the roster's branch."""
    one, sign = prey(cellar, label), cellar.loots["root"]
    with thief(cellar) as chip:
        with refused(0x5DB, "PolicySigned"):
            decrypt(chip, one, one.plan(votes=dict(sign.votes)))
        key = load(chip, one.row)
        with refused(0x1C4, "PolicyCommandCode"):  # the key's own, after the branch for signatures
            chip.send(
                decryption.decrypt_command(key, one.content),
                session(chip, sign.plan, (*sign.plan.steps[:-1], one.plan().steps[-1])),
            )
        chip.flush_all()
        with refused(0x99D, "RSA_Decrypt" if label == "box" else "ECDH_ZGen"):
            decrypt(chip, one, sign.plan)
        plan = replace_votes(sign, one)
        with refused(0x5DB, "PolicySigned"):
            chip.send(objects.sign_command(load(chip, sign.key), sign.digest), session(chip, plan))


def replace_votes(sign: Loot, one: Prey) -> Plan:
    """The plan of a signature, with the approvals of a decryption in it."""
    from tpmhsm.policy.plan import plan_sign

    return plan_sign(sign.group, sign.roster, sign.key.public, sign.digest, one.loot.votes)


@pytest.mark.parametrize("label", BOXES)
def test_a_decryption_without_any_approval(cellar: House, label: str) -> None:
    one = prey(cellar, label)
    name = "RSA_Decrypt" if label == "box" else "ECDH_ZGen"
    with thief(cellar) as chip:
        key = load(chip, one.row)
        command = decryption.decrypt_command(key, one.content)
        with refused(0x12F, name):
            chip.send(command)
        with refused(0x12F, name):
            chip.send(command, Password(b"root"))
        with refused(0x99D, name):
            chip.send(command, start_policy(chip))


@pytest.mark.parametrize("label", BOXES)
def test_a_decryption_again_and_after_a_change(cellar: House, label: str) -> None:
    """The same approvals open the same thing as often as root likes, until the officers change."""
    one = prey(cellar, label)
    with thief(cellar) as chip:
        for _ in range(2):
            assert decrypt(chip, one, one.plan()) == inside(cellar, label)
    cellar.change()
    with thief(cellar) as chip, refused(0x126, "PolicyNV"):
        decrypt(chip, one, one.plan())


def test_an_approval_for_another_decryption_key(cellar: House) -> None:
    """A second key of the group: cpHash has the key's Name in it."""
    cellar.app.keyring.create("box2", "rsa2048", policy="quorum(officers)", use="decrypt")
    one = prey(cellar, "box")
    other = replace(one, row=cellar.app.keyring.get("box2"))
    with thief(cellar) as chip:
        with refused(0x99D, "RSA_Decrypt"):
            decrypt(chip, other, one.plan(), one.content)
        with refused(0x5DB, "PolicySigned"):
            decrypt(chip, other, other.plan(), one.content)


# ── never also signing ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("label", BOXES)
def test_a_decryption_key_used_to_sign(cellar: House, label: str) -> None:
    """An open one does not sign, for it has not the attribute; of a guarded one the policy says so
    before.
    """
    scheme = SigScheme(ALG.RSASSA if label == "box" else ALG.ECDSA, SchemeHash(ALG.SHA256))
    with thief(cellar) as chip:
        free = load(chip, cellar.app.keyring.get(f"open-{label}"))
        with refused(0x19C, "Sign"):
            chip.send(Sign(free.handle, ANY, scheme, NULL_HASHCHECK))
        with refused(0x19C, "Sign"):
            chip.send(Sign(free.handle, ANY, NULL_SCHEME, NULL_HASHCHECK))
        chip.flush_all()
        one = prey(cellar, label)
        key = load(chip, one.row)
        command = Sign(key.handle, ANY, scheme, NULL_HASHCHECK)
        with refused(0x9A4, "Sign"):
            chip.send(command, session(chip, one.plan()))


def formatted(bits: int = 2048) -> bytes:
    """EMSA-PKCS1-v1_5 of a digest (RFC 8017 section 9.2): what a signature is the power of."""
    info = DIGEST_INFO + ANY
    return b"\0\1" + b"\xff" * (bits // 8 - 3 - len(info)) + b"\0" + info


def test_a_formatted_block_decrypted(cellar: House) -> None:
    """RSA_Decrypt of a formatted block, without padding, is a signature. OAEP in the public area is
    what forbids it: no other scheme is taken, and the block is no OAEP.
    """
    with thief(cellar) as chip:
        key = load(chip, cellar.app.keyring.get("open-box"))
        for scheme, rc in ((RsaDecrypt(ALG.RSAES), 0x2D2), (RsaDecrypt(ALG.NULL), 0x101)):
            with refused(rc, "RSA_Decrypt"):
                chip.send(RSA_Decrypt(key.handle, formatted(), scheme, b""))
        with refused(0x101, "RSA_Decrypt"):
            chip.send(decryption.decrypt_command(key, formatted()))


def test_a_key_that_fixes_no_padding_signs(cellar: House) -> None:
    """Nobody refuses it of a key with the scheme left open: the program never makes one."""
    with thief(cellar) as chip:
        template = decryption.decryption_template("rsa2048", None)
        assert isinstance(template.parameters, RsaParms)
        bare = template.parameters.replace(scheme=AsymScheme(ALG.NULL))
        parent = objects.storage_parent(chip)
        made = objects.create_from(chip, parent, template.replace(parameters=bare), "rsa2048")
        key = objects.load_key(chip, parent, made.public, made.private)
        power = chip.send(RSA_Decrypt(key.handle, formatted(), RsaDecrypt(ALG.NULL), b"")).message
        public: Any = public_key_of(made.public)
        public.verify(power, ANY, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
        with pytest.raises(ParseError, match="not fixed to OAEP"):
            decrypting(made.public)


def decrypting(public: bytes) -> None:
    from tpmhsm.attest.statements import decrypting_key

    decrypting_key(public)


NONCE = b"whatever root likes"
COMMANDS: dict[str, Callable[[int, int], Any]] = {
    "Quote": lambda key, _: Quote(key, NONCE, NULL_SCHEME, (pcr_selection(ALG.SHA256, (0,)),)),
    "Certify": lambda key, ak: Certify(ak, key, NONCE, NULL_SCHEME),
    "Commit": lambda key, _: Commit(key, EccPoint(bytes(32), bytes(32)), b"", b""),
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("label", BOXES)
def test_another_command_with_a_decryption_key(cellar: House, label: str, name: str) -> None:
    """Quote, Certify, Commit: an open key is refused as no signing key, a guarded one by its
    policy, though the approvals are there.
    """
    make, place = COMMANDS[name], 2 if name == "Certify" else 1
    codes = {("Certify", "box"): 0x29C, ("Certify", "ring"): 0x29C, ("Commit", "ring"): 0x192}
    with thief(cellar) as chip:
        ak = objects.attestation_key(chip).handle
        free = load(chip, cellar.app.keyring.get(f"open-{label}"))
        with refused(codes.get((name, label), 0x19C), name):
            chip.send(make(free.handle, ak))
        chip.flush_all()
        one = prey(cellar, label)
        command = make(load(chip, one.row).handle, ak)
        with refused({1: 0x9A4, 2: 0xAA4}[place], name):
            chip.send(command, *[Password()] * (place - 1), session(chip, one.plan()))


@pytest.mark.parametrize("label", BOXES)
def test_a_decryption_keys_password_changed(cellar: House, label: str) -> None:
    one = prey(cellar, label)
    with thief(cellar) as chip:
        parent = objects.storage_parent(chip).handle
        command = ObjectChangeAuth(load(chip, one.row).handle, parent, b"known to root")
        with refused(0x124, "ObjectChangeAuth"):
            chip.send(command)
        with refused(0x9A4, "ObjectChangeAuth"):
            chip.send(command, session(chip, one.plan()))


def test_points_off_the_curve(cellar: House) -> None:
    """An invalid-curve attack would learn the key from a few such points."""
    point = PEER.public_key().public_numbers()
    x, y = point.x.to_bytes(32, "big"), (point.y ^ 1).to_bytes(32, "big")
    with thief(cellar) as chip:
        key = load(chip, cellar.app.keyring.get("open-ring"))
        for bad in (EccPoint(x, y), EccPoint(bytes(32), bytes(32)), EccPoint(b"\xff" * 32, y)):
            with refused(0x1E7, "ECDH_ZGen"):
                chip.send(ECDH_ZGen(key.handle, bad))


# ── where the plaintext goes ─────────────────────────────────────────────────────────────────────


def test_the_plaintext_is_kept_nowhere(cellar: House) -> None:
    """Neither in the database nor in a log, nor on the way from the chip; the record is there."""
    for label in BOXES:
        loot = cellar.loots[label]
        for name in ("alice", "bob"):
            cellar.app.desk.take(cellar.approve(loot.request.id, name).data)
        row = cellar.app.desk.get(loot.request.id)
        assert (row.state, row.result) == ("waiting", None)  # nobody has asked for it yet
        desk = cellar.app.desk.decryptions
        ask = desk.decrypt if label == "box" else desk.derive
        assert ask(label, loot.request.content) == inside(cellar, label)
        assert cellar.app.desk.get(loot.request.id).state == "executed"
    cellar.app.close()
    for path in cellar.app.home.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(inside(cellar, label) in data for label in BOXES), path


@pytest.mark.parametrize("label", ["box", "ring", "open-box", "open-ring"])
def test_the_plaintext_sniffed_at_the_door(cellar: House, label: str) -> None:
    """Whoever listens between us and the chip, on a bus, sees no plaintext go by."""
    with thief(cellar) as chip:
        wire = Wire(chip)
        row = cellar.app.keyring.get(label)
        parent = objects.storage_parent(chip)
        salt, key = SaltKey(parent.handle, parent.public, parent.name), load(chip, row)
        if label.startswith("open"):
            content = closed(cellar, label, SECRET)
            found = decryption.open_secret(chip, key, content, salt)
        else:
            one = prey(cellar, label)
            command = decryption.decrypt_command(key, one.content)
            answer = policies.execute(chip, one.plan(), command, secret=policies.Secrecy(salt))
            found = decryption.secret_of(key, answer)
        assert found == inside(cellar, label)
        assert found not in b"".join(wire.said)


# ── what officers are shown ──────────────────────────────────────────────────────────────────────


def test_a_decryption_disguised(cellar: House) -> None:
    """As a file for a decryption key, or a decryption by a signing key: no tool approves either."""
    loot = cellar.loots["box"]
    for kind, key in (("data", loot.request.key), ("decrypt", cellar.loots["root"].request.key)):
        other = replace(loot.request, kind=kind, key=key, approvals=())
        with pytest.raises(ParseError, match="not fixed to"):
            cellar.machines["carol"].look(other.data)


def test_a_ciphertext_for_another_key(cellar: House) -> None:
    """Of another size, or a point of another curve: the tool says so, before anybody signs."""
    wrong = spki(ec.generate_private_key(ec.SECP384R1()))
    for label, content in (("box", b"\1" * 128), ("ring", wrong), ("ring", b"no key")):
        draft = cellar.app.desk.signer.draft(label, "decrypt", content, Claims())
        with pytest.raises(ApprovalRefusedError) as caught:
            cellar.machines["carol"].look(draft.data)
        assert caught.value.code == "not-for-this-key"


def test_a_message_that_is_another(cellar: House) -> None:
    """The host shows officers a harmless message beside a ciphertext that is not in it."""
    public: Any = cellar.app.keyring.public_key(cellar.app.keyring.get("box"))
    harmless = message_for(public, b"the menu")
    content = cellar.loots["box"].request.content
    draft = cellar.app.desk.signer.draft("box", "decrypt", content, Claims(message=harmless))
    flags = {
        flag.head: flag.text for flag in cellar.machines["carol"].look(draft.data).content.flags
    }
    assert "it is another one" in flags["MESSAGE"]
    assert "HOST READS" in flags
