"""A key's policy, recomputed from what is published, and in words.

The key demands what stands in its authPolicy, a digest. It is recomputed here from policy and group
documents; only documents that lead to that very digest say who must agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from tpmhsm.attest.format import KeyEvidence
from tpmhsm.attest.group_findings import GroupView
from tpmhsm.attest.statements import MADE_HERE, ChipKey, guarded_attributes
from tpmhsm.errors import ParseError, VerificationError
from tpmhsm.policy.bound import command_of
from tpmhsm.policy.compile import KeyPolicy
from tpmhsm.policy.copying import copy_end
from tpmhsm.policy.normal import Alternative
from tpmhsm.policy.people import describe_rule
from tpmhsm.policy.published import read_policy
from tpmhsm.policy.tree import anchor
from tpmhsm.policy.words import demands_in_words, explain_copies, explain_policy
from tpmhsm.wire.codec import decode
from tpmhsm.wire.constants import ALG, CC, ObjectAttributes
from tpmhsm.wire.public import Public

A = ObjectAttributes
_OPEN = MADE_HERE | A.USER_WITH_AUTH | A.ADMIN_WITH_POLICY | A.NO_DA

Groups = Mapping[str, GroupView]


def policy_of(part: KeyEvidence, key: ChipKey, groups: Groups) -> KeyPolicy:
    """The policy that the key has, recomputed from what is published.

    VerificationError (`policy-differs`, `policy-text-differs`) when it is not the key's authPolicy,
    other UsageErrors when it cannot be recomputed: `policy-unknown-group`, ….
    """
    area = decode(Public, key.public)
    policy = _published(part, area, groups)
    if policy.digest != area.auth_policy:
        raise VerificationError(
            "the published policy is not the one that the chip demands of this key (its digest "
            "differs)",
            code="policy-differs",
        )
    return policy


def _published(part: KeyEvidence, area: Public, groups: Groups) -> KeyPolicy:
    command = command_of(area)
    said = _read(part.policy)
    if not part.document:
        known = {label: groups[label].group for label in said.rosters if label in groups}
        indices = {label: anchor(group, command) for label, group in known.items()}
        return replace(said, indices=indices, command=command)
    policy = _read(part.document).for_command(command)
    if policy.alternatives != said.alternatives:
        raise VerificationError(
            "its policy is written in two ways that differ", code="policy-text-differs"
        )
    return policy


@lru_cache(256)
def _read(text: str) -> KeyPolicy:
    return read_policy(text)


def check_attributes(key: ChipKey, policy: KeyPolicy) -> None:
    """VerificationError (`key-attributes`) unless they are exactly those of such a key, so that
    nothing but the policy lets it act.
    """
    area = decode(Public, key.public)
    if area.name_alg != ALG.SHA256:
        raise VerificationError("the key's Name is not a SHA-256 Name", code="key-attributes")
    wanted = guarded_attributes(key, pin=policy.has_pin, copied=bool(policy.backup))
    if policy.is_open:
        use = A.DECRYPT if key.decrypts else A.SIGN
        wanted = _OPEN | use
        if key.imported:
            wanted &= ~MADE_HERE
    if area.attributes != wanted:
        odd = A(area.attributes ^ wanted)
        raise VerificationError(
            f"its attributes are not those of a key with this policy (they differ in {odd!s}): it "
            "may be used in other ways",
            code="key-attributes",
        )


def check_groups(policy: KeyPolicy, groups: Groups) -> None:
    """The rosters in the policy are those of the file's groups. VerificationError
    (`policy-other-group`), ParseError (`group-missing`).
    """
    for label in policy.rosters:
        if label not in groups:
            raise ParseError(
                f'the documents of the group "{label}" are not in the file', code="group-missing"
            )
        if policy.indices.get(label) != anchor(groups[label].group, policy.command):
            raise VerificationError(
                f'it obeys another group than the "{label}" of the file', code="policy-other-group"
            )
    for label, end in policy.backup.items():
        if end != copy_end(groups[label].group):
            raise VerificationError(
                f'others than the custodians of the "{label}" of the file may have it copied',
                code="policy-other-group",
            )


# ── in words ─────────────────────────────────────────────────────────────────


def in_one_sentence(key: ChipKey, policy: KeyPolicy, groups: Groups) -> str:
    """Who must agree: 'it signs only with approvals of 2 of 3 (alice, bob, carol), …'."""
    verb = "signs" if policy.command == CC.Sign else "decrypts"
    if policy.is_open:
        return f"nobody must agree; whoever has the machine {verb} with it."
    ways = " or with ".join(_way(one, groups) for one in policy.alternatives)
    told = [f"it {verb} only with {ways}."]
    for label in policy.rosters:
        view = groups[label]
        if not view.group.static:
            custodians = describe_rule(view.group.custodians)
            told.append(f'The custodians of "{label}", {custodians}, can replace its officers.')
        if key.name in view.roster.windows:
            told.append(
                f'Officers of "{label}" may open it for a time; while it is open, whoever has the '
                f"machine {verb} with it."
            )
    return " ".join(told)


def _way(one: Alternative, groups: Groups) -> str:
    parts = []
    if one.group:
        who = describe_rule(groups[one.group].roster.officers)
        what = "a window opened by" if one.window else "approvals, over the very bytes, of"
        parts.append(f"{what} {who}")
    if rest := demands_in_words(replace(one, budget="")):
        parts.append(rest)
    if one.budget:
        who = describe_rule(groups[one.budget].roster.officers)
        parts.append(f"a unit of the budget that {who} granted in advance")
    return ", and ".join(parts)


def at_length(policy: KeyPolicy, groups: Groups) -> str:
    """The same with all that is and is not protected, as `policy explain` says it."""
    known = {name: (view.group, view.roster) for name, view in groups.items()}
    lines = [*explain_policy(policy.policy, known), *explain_copies(policy, known)]
    return " ".join(line.strip() for line in lines)
