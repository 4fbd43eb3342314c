"""Signatures through our own command layer and through tpm2-pytss, on one swtpm in one run.

`bare`: TPM2_Sign with an empty password, a digest in and the signature's bytes out. `policy`: the
same with a 2-of-3 quorum's whole policy session. Both contestants send the same commands; what does
not change from one signature to the next is prepared: the approvals' and public keys' structures.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.support.swtpm import bare_swtpm
from tests.tpm.quorums import World

from bench.rounds import Contestant, Outcome, alternate
from tpmhsm.policy.plan import Plan, plan_sign
from tpmhsm.policy.steps import AuthorizeNv, CommandCode, Nv, Or, Signed, Step
from tpmhsm.tpm import objects, policies
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.door import SocketDoor
from tpmhsm.wire.codec import encode

DIGEST = sha256(b"to be signed").digest()


@dataclass(frozen=True)
class Stage:
    """A chip with an open key and a key of a 2-of-3 quorum, both loaded, and who approved."""

    socket: Path
    open_key: objects.Loaded
    quorum_key: objects.Loaded
    world: World
    approvals: dict[int, bytes]

    @property
    def plan(self) -> Plan:
        """The commands of one quorum signature."""
        world = self.world
        assert world.roster
        return plan_sign(world.group, world.roster, self.quorum_key.public, DIGEST, self.approvals)


@contextmanager
def talking(socket: Path) -> Iterator[Chip]:
    door = SocketDoor(socket)
    try:
        yield Chip(door)
    finally:
        door.close()


def set_the_stage(socket: Path) -> Stage:
    with talking(socket) as chip:
        world = World.make(chip)
        parent = objects.storage_parent(chip)
        made = objects.create_key(chip, parent, "p256", None)
        open_key = objects.load_key(chip, parent, made.public, made.private)
        quorum_key = world.key()
        approvals = world.approvals(quorum_key, DIGEST, (0, 2))
    return Stage(socket, open_key, quorum_key, world, approvals)


# --- ours -----------------------------------------------------------------------------------------


def ours_bare(stage: Stage) -> Contestant:
    @contextmanager
    def open_() -> Iterator[Callable[[], object]]:
        with talking(stage.socket) as chip:
            yield lambda: objects.sign_digest(chip, stage.open_key, DIGEST)

    return open_


def quorum_signature(chip: Chip, plan: Plan, key: objects.Loaded) -> bytes:
    answer = policies.execute(chip, plan, objects.sign_command(key, DIGEST))
    return objects.plain_signature(answer.signature)


def ours_policy(stage: Stage) -> Contestant:
    plan = stage.plan

    @contextmanager
    def open_() -> Iterator[Callable[[], object]]:
        with talking(stage.socket) as chip:
            yield lambda: quorum_signature(chip, plan, stage.quorum_key)

    return open_


def ours_whole(stage: Stage) -> Contestant:
    """With the plan made anew for each signature, as the product does."""

    @contextmanager
    def open_() -> Iterator[Callable[[], object]]:
        with talking(stage.socket) as chip:
            yield lambda: quorum_signature(chip, stage.plan, stage.quorum_key)

    return open_


# --- tpm2-pytss -----------------------------------------------------------------------------------


@contextmanager
def esys(socket: Path) -> Iterator[Any]:
    os.environ.setdefault("TSS2_LOG", "all+none")
    from tpm2_pytss import ESAPI

    context = ESAPI(f"swtpm:path={socket}")
    try:
        yield context
    finally:
        context.close()


def scheme_and_ticket() -> tuple[Any, Any]:
    from tpm2_pytss import TPM2_ALG, TPM2_RH, TPM2_ST, TPMT_SIG_SCHEME, TPMT_TK_HASHCHECK

    scheme = TPMT_SIG_SCHEME(scheme=TPM2_ALG.ECDSA)
    scheme.details.any.hashAlg = TPM2_ALG.SHA256
    return scheme, TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)


def pytss_bare(stage: Stage) -> Contestant:
    @contextmanager
    def open_() -> Iterator[Callable[[], object]]:
        with esys(stage.socket) as context:
            key = context.tr_from_tpmpublic(stage.open_key.handle)
            yield lambda: context.sign(key, DIGEST, *scheme_and_ticket()).marshal()

    return open_


def pytss_policy(stage: Stage) -> Contestant:
    from tpm2_pytss import ESYS_TR, TPM2_ALG, TPM2_SE, TPMT_SYM_DEF

    plan = stage.plan

    @contextmanager
    def open_() -> Iterator[Callable[[], object]]:
        with esys(stage.socket) as context:
            steps = [pytss_step(context, plan, step) for step in plan.steps]
            key = context.tr_from_tpmpublic(stage.quorum_key.handle)
            none = TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL)

            def act() -> bytes:
                session = context.start_auth_session(
                    ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.POLICY, none, TPM2_ALG.SHA256
                )
                # The session ends with the command, as ours does: no flush.
                context.trsess_set_attributes(session, 0, 1)
                for step in steps:
                    step(session)
                signature = context.sign(key, DIGEST, *scheme_and_ticket(), session1=session)
                return bytes(signature.marshal())

            yield act

    return open_


def pytss_step(context: Any, plan: Plan, step: Step) -> Callable[[Any], object]:
    """One policy command, with its structures made beforehand."""
    from tpm2_pytss import TPM2B_DIGEST, TPML_DIGEST

    if isinstance(step, Signed):
        return pytss_approval(context, plan, step)
    if isinstance(step, Or):
        branches = TPML_DIGEST([TPM2B_DIGEST(branch) for branch in step.branches])
        return lambda session: context.policy_or(session, branches)
    if isinstance(step, CommandCode):
        return lambda session: context.policy_command_code(session, step.code)
    if isinstance(step, Nv | AuthorizeNv):
        index = context.tr_from_tpmpublic(plan.indices[step.name])
        if isinstance(step, AuthorizeNv):
            return lambda session: context.policy_authorize_nv(index, session, auth_handle=index)
        return lambda session: context.policy_nv(
            index, index, session, step.operand, step.operation, step.offset
        )
    raise NotImplementedError(type(step).__name__)


def pytss_approval(context: Any, plan: Plan, step: Signed) -> Callable[[Any], object]:
    from tpm2_pytss import ESYS_TR, TPM2B_PUBLIC, TPMT_PUBLIC, TPMT_SIGNATURE

    given = plan.given[step.approver]
    public = TPM2B_PUBLIC(TPMT_PUBLIC.unmarshal(encode(given.member.public))[0])
    signature = TPMT_SIGNATURE.unmarshal(given.signature)[0]

    def act(session: Any) -> None:
        key = context.load_external(public, hierarchy=ESYS_TR.NULL)
        context.policy_signed(
            key,
            session,
            auth=signature,
            cp_hash_a=plan.bound.cp_hash,
            policy_ref=step.policy_ref,
            expiration=0,
        )
        context.flush_context(key)

    return act


def report(name: str, outcome: Outcome) -> None:
    print(f"{name}: {outcome.first:.0f}/s ours, {outcome.second:.0f}/s tpm2-pytss")
    print(f"RESULT sign {name} {outcome.ratio:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench sign", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each round")
    asked = parser.parse_args()
    with bare_swtpm() as socket:
        stage = set_the_stage(socket)
        print(f"one swtpm, {asked.rounds} rounds of {asked.seconds} s each; P-256, 2 of 3")
        bare = alternate(ours_bare(stage), pytss_bare(stage), asked.rounds, asked.seconds)
        report("bare", bare)
        policy = alternate(ours_policy(stage), pytss_policy(stage), asked.rounds, asked.seconds)
        report("policy", policy)
        whole = alternate(ours_whole(stage), pytss_policy(stage), 3, asked.seconds)
        print(f"policy, planned anew for each: {whole.first:.0f}/s ours")


if __name__ == "__main__":
    main()
