"""What guards a signing key: its policy, recomputed from the group's documents, and its attributes.

The host says which policy a key has. That is believed only when its digest, computed here with the
roster index of the group whose documents were checked, is the authPolicy in the key's public area.
"""

from __future__ import annotations

from dataclasses import replace

from tpmhsm.approval.content import Flag
from tpmhsm.attest.statements import ChipKey, guarded_attributes
from tpmhsm.errors import UsageError, VerificationError
from tpmhsm.policy.bound import command_of
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.explain import STATIC
from tpmhsm.policy.group import GroupDocument
from tpmhsm.policy.normal import Alternative
from tpmhsm.policy.people import describe_rule
from tpmhsm.policy.plan import quorum_policy
from tpmhsm.policy.published import read_policy
from tpmhsm.policy.tree import anchor
from tpmhsm.policy.words import demands_in_words
from tpmhsm.wire.codec import decode
from tpmhsm.wire.constants import ALG, CC, ObjectAttributes
from tpmhsm.wire.public import Public


def check_guarded_key(key: ChipKey, group: GroupDocument, said: str) -> KeyPolicy:
    """Return the policy that this key has: `quorum` of this group, or what the host `said` it is.

    VerificationError unless the authPolicy is that policy's, the group takes part in it, and the
    attributes are exactly those of a guarded key (with a PIN: that the chip counts wrong ones).
    """
    area = decode(Public, key.public)
    if area.name_alg != ALG.SHA256:
        raise VerificationError("the key's Name is not a SHA-256 Name")
    try:
        policy = quorum_policy(group, command_of(area))
    except UsageError as e:
        raise VerificationError(e.message) from None
    if area.auth_policy != policy.digest:
        policy = _said(said, policy, group)
    elif said == (window := replace(policy, alternatives=(_window(group),))).text:
        policy = window  # the same to the chip: the roster says whether it may be opened
    if area.auth_policy != policy.digest:
        raise VerificationError(f"the key's policy is not {policy.text}")
    wanted = guarded_attributes(key, pin=policy.has_pin, copied=bool(policy.backup))
    if area.attributes != wanted:
        odd = ObjectAttributes(area.attributes ^ wanted)
        raise VerificationError(
            f"the key's attributes are not those of a guarded key (they differ in {odd!s})"
        )
    return policy


def _window(group: GroupDocument) -> Alternative:
    return Alternative(group.name, window=True)


def _said(said: str, plain: KeyPolicy, group: GroupDocument) -> KeyPolicy:
    """The policy document that the host shows. VerificationError unless it is of this group."""
    try:
        policy = read_policy(said).for_command(plain.command)
        if policy.alternatives == plain.alternatives and not policy.backup:
            return plain
        if policy.backup:  # by the custodians that the group has, whatever is written there
            policy = policy.copied_by(group)
        _ = policy.digest
    except UsageError as e:
        raise VerificationError(
            f"the key's policy is not {plain.text}, and what the host says it is does not "
            f"explain it: {e.message}"
        ) from None
    if policy.indices.get(group.name) != anchor(group, policy.command):
        raise VerificationError(f'the key is not of this group "{group.name}", but of another')
    return policy


def policy_flags(
    policy: KeyPolicy, group: GroupDocument, *, granting: bool = False, copying: bool = False
) -> list[Flag]:
    """Return what an approver must know of a policy that is more than `quorum` of the group:
    what is demanded besides, and who can sign without them. `granting`: the group is asked for a
    budget, not for a signature; `copying`: for a copy.
    """
    part = "budget" if granting else "group"
    own = [one for one in policy.alternatives if getattr(one, part) == group.name]
    besides = "" if granting else " or ".join(filter(None, map(demands_in_words, own)))
    flags = []
    if besides:
        flags.append(Flag("ALSO", f"the chip wants, besides your approvals: {besides}"))
    if group.static:
        flags.append(Flag("STATIC", STATIC[0]))
    if policy.backup and not copying:
        whom = describe_rule(group.custodians)
        words = f"its custodians, {whom}, can have this key copied to another chip"
        flags.append(Flag("MAY BE COPIED", words))
    for one in policy.alternatives:
        if one not in own and not (granting and one.group == group.name):
            verb = "signs" if policy.command == CC.Sign else "decrypts"
            whom = f' (who is in "{one.group}" is not said here)' if one.group else ""
            flags.append(Flag("WITHOUT YOU", f"this key also {verb} by {one.text}{whom}"))
    return flags
