"""Decryption keys in the chip: any policy, as many commands as needed, and each demand asked for.

What is computed by us is compared with the chip's own trial session, what the chip decrypts with
`cryptography`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from tests.tpm.quorums import sign_for
from tests.tpm.test_key_policies import COSTS, PIN, Town, expressible, trial, written

from tpmhsm.attest.public_keys import public_key_of
from tpmhsm.errors import ChipRefusedError, UsageError
from tpmhsm.policy.bound import bound_decrypt, bound_use, command_of
from tpmhsm.policy.plan import Officers, plan_use
from tpmhsm.policy.published import format_document, read_policy
from tpmhsm.policy.steps import Or
from tpmhsm.policy.tree import ECDH_ZGEN, RSA_DECRYPT
from tpmhsm.tpm import decryption, objects, policies
from tpmhsm.tpm.pins import Pin
from tpmhsm.tpm.sessions import start_policy
from tpmhsm.wire.constants import CC

SECRET = b"attack at dawn"
PEER = ec.generate_private_key(ec.SECP256R1())
SPKI = PEER.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
BRANCHES = {CC.RSA_Decrypt: RSA_DECRYPT, CC.ECDH_ZGen: ECDH_ZGEN}


def may_decrypt(text: str) -> bool:
    """Windows and budgets are for keys that sign."""
    return "window(" not in text and "budget(" not in text


TAKEN = [text for text in COSTS if may_decrypt(text)]


@dataclass
class Cellar(Town):
    """The same chip and groups, with keys that decrypt."""

    alg: str = "p256"

    def bind(self, text):
        command = CC.RSA_Decrypt if self.alg.startswith("rsa") else CC.ECDH_ZGen
        return super().bind(text).for_command(command)

    def key(self, policy, value=PIN):
        pin = Pin.to(self.parent, value) if policy.has_pin else None
        template = decryption.decryption_template(
            self.alg, policy.digest or None, counts=policy.has_pin
        )
        made = objects.create_from(self.chip, self.parent, template, self.alg, pin)
        return objects.load_key(self.chip, self.parent, made.public, made.private)

    def content(self, key):
        """What is asked of the chip, and what it must give."""
        public = public_key_of(key.public)
        if self.alg == "p256":
            return SPKI, PEER.exchange(ec.ECDH(), public)
        sha = hashes.SHA256()
        return public.encrypt(SECRET, padding.OAEP(padding.MGF1(sha), sha, None)), SECRET

    def plan_for(self, policy, one, key, content):
        officers = None
        if one.group:
            world = self.worlds[one.group]
            bound = bound_decrypt(key.public, content)
            ladder = BRANCHES[bound.code].ladders(world.roster)[0]
            people = {i: world.officers[i] for i in range(world.roster.officers[0].m)}
            officers = Officers(world.group, world.roster, sign_for(bound, ladder, people))
        return plan_use(policy, one, key.public, content, officers)

    def decrypt(self, policy, one, key):
        """Decrypt by one alternative; the commands that it took beside the plan's."""
        content, wanted = self.content(key)
        plan = self.plan_for(policy, one, key, content)
        pin = Pin.to(self.parent, PIN) if plan.has_pin else None
        command = decryption.decrypt_command(key, content)
        secret = policies.Secrecy(Pin.to(self.parent, PIN).salt, policy.has_pin)
        before = self.chip.commands
        answer = policies.execute(self.chip, plan, command, pin, secret=secret)
        assert decryption.secret_of(key, answer) == wanted
        return self.chip.commands - before, plan


@pytest.fixture(params=["p256", "rsa2048"])
def cellar(chip, request):
    made = Town.make(chip)
    return Cellar(made.chip, made.worlds, request.param)


@pytest.mark.parametrize(
    ("cellar", "text"),
    [("p256", t) for t in TAKEN] + [("rsa2048", t) for t in TAKEN if t.startswith("any")],
    indirect=["cellar"],
)
def test_it_decrypts_with_as_many_commands_as_are_needed(cellar, text):
    """As many as a signature; one more for a key with a PIN that the alternative does not want,
    for such a key's own session cannot encrypt.
    """
    policy = cellar.bind(text)
    key = cellar.key(policy)
    assert key.public.auth_policy == policy.digest
    one = next(a for a in policy.alternatives if a.group or not text.startswith("any(quorum"))
    if policy.has_pin:  # once after each start the chip says RETRY
        cellar.decrypt(policy, one, key)
    commands, plan = cellar.decrypt(policy, one, key)
    assert plan.commands == COSTS[text]
    assert commands == COSTS[text] + (policy.has_pin and not plan.has_pin)


def test_an_open_key_takes_two_commands(cellar):
    key = cellar.key(cellar.bind("open"))
    content, wanted = cellar.content(key)
    before = cellar.chip.commands
    salt = Pin.to(cellar.parent, PIN).salt
    looks = cellar.chip.commands - before  # what the test itself asked for
    assert decryption.open_secret(cellar.chip, key, content, salt) == wanted
    assert cellar.chip.commands - before - looks == 2


@settings(
    max_examples=4, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)  # fmt: skip
@given(text=written.filter(lambda text: expressible(text) and may_decrypt(text)))
def test_any_policy_of_a_decryption_key(cellar, text):
    any_policy(cellar, text)


@pytest.mark.long
@settings(
    max_examples=200, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)  # fmt: skip
@given(text=written.filter(lambda text: expressible(text) and may_decrypt(text)))
def test_any_policy_of_a_decryption_key_long(cellar, text):
    any_policy(cellar, text)


def any_policy(cellar, text):
    """The digest is the chip's; each alternative decrypts; none does without any one demand."""
    policy = cellar.bind(text)
    assert read_policy(format_document(policy)) == policy
    assert set(trial(cellar.chip, policy, cellar)) == {policy.digest}
    signing = Town.bind(cellar, text)
    assert signing.digest != policy.digest
    key = cellar.key(policy)
    try:
        for one in policy.alternatives:
            cellar.decrypt(policy, one, key)
            refuse_without_one(cellar, policy, one, key)
    finally:
        cellar.chip.flush(key.handle)


def refuse_without_one(cellar, policy, one, key):
    content, _ = cellar.content(key)
    plan = cellar.plan_for(policy, one, key, content)
    for missing, step in enumerate(plan.steps):
        if isinstance(step, Or):
            continue  # a consequence of what was done, not a demand
        session = start_policy(cellar.chip, salt_key=Pin.to(cellar.parent, PIN).salt)
        session.auth_value = PIN
        try:
            with pytest.raises(ChipRefusedError) as e:
                for i, other in enumerate(plan.steps):
                    if i != missing:
                        policies.run_step(cellar.chip, session, plan, other)
                cellar.chip.send(decryption.decrypt_command(key, content), session)
            assert e.value.rc in {0x1C4, 0x084, 0x99D}, (step, e.value)
        finally:
            cellar.chip.flush(session.handle)


# ── what a key is for ────────────────────────────────────────────────────────────────────────


def test_a_key_is_for_one_command():
    signing = objects.signing_template("p256", None)
    rsa = decryption.decryption_template("rsa2048", None)
    curve = decryption.decryption_template("p384", None)
    found = [command_of(one) for one in (signing, rsa, curve)]
    assert found == [CC.Sign, CC.RSA_Decrypt, CC.ECDH_ZGen]
    both = signing.replace(attributes=signing.attributes | rsa.attributes)
    neither = signing.replace(attributes=signing.attributes & rsa.attributes)
    for odd in (both, neither):
        with pytest.raises(UsageError, match="both, or neither"):
            command_of(odd)
    with pytest.raises(UsageError, match="it does not decrypt"):
        bound_decrypt(signing, SPKI)
    with pytest.raises(UsageError, match="a ciphertext of 3 bytes"):
        bound_use(rsa.replace(unique=bytes(256)), b"123")


def test_another_commands_document(cellar):
    policy = cellar.bind("all(quorum(a), pin)")
    document = format_document(policy)
    assert f'command = "{policy.command.name}"' in document
    assert read_policy(document).digest == policy.digest
    signed = read_policy(document.replace(f'command = "{policy.command.name}"\n', ""))
    assert signed.digest == Town.bind(cellar, "all(quorum(a), pin)").digest
    with pytest.raises(UsageError, match="command is RSA_Decrypt or ECDH_ZGen"):
        read_policy(document.replace(policy.command.name, "Sign"))
