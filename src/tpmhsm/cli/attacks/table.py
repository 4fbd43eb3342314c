"""All attacks, in the order in which they are told."""

from __future__ import annotations

from tpmhsm.cli.attacks import signatures
from tpmhsm.cli.attacks.scene import Attack
from tpmhsm.errors import NotFoundError

_SIGN = "tests/attacks/test_signatures.py:"

ATTACKS: tuple[Attack, ...] = (
    Attack(
        "too-few",
        "sign with M-1 approvals",
        "One of two officers is enough, if the chip can be led past the other.",
        "The threshold ladder in the key's policy: PolicySigned for each approver, PolicyOR over "
        "what leads to a quorum (docs/policies.md).",
        f"{_SIGN}test_one_approval_of_two",
        signatures.too_few,
    ),
    Attack(
        "other-bytes",
        "sign other bytes with true approvals",
        "Two true approvals of a harmless certificate will do for a certificate of mine.",
        "The approvers sign the cpHash: command, key and bytes (docs/policies.md).",
        f"{_SIGN}test_other_bytes",
        signatures.other_bytes,
    ),
    Attack(
        "other-key",
        "use the approvals with another key",
        "Another key of the group has the same policy, so the same approvals fit.",
        "The key's Name is in the cpHash that was approved (docs/policies.md).",
        f"{_SIGN}test_other_key",
        signatures.other_key,
    ),
    Attack(
        "old-epoch",
        "use approvals of an old epoch",
        "Bob was removed, but his approvals of before are true for ever.",
        "The roster begins with PolicyNV: the epoch counter in the chip is the roster's "
        "(docs/policies.md).",
        "tests/attacks/test_indices.py:test_old_epoch",
        signatures.old_epoch,
    ),
    Attack(
        "wrong-prefix",
        "enter the ladder with a wrong prefix",
        "The people's part of the policy alone, without the epoch or the command.",
        "A ladder's digests begin where the roster's do; from elsewhere no PolicyOR has them "
        "(docs/policies.md).",
        f"{_SIGN}test_a_ladder_entered_with_a_wrong_prefix",
        signatures.wrong_prefix,
    ),
    Attack(
        "one-person-twice",
        "count one person twice",
        "Alice approved: her approval in two places makes two.",
        "The ladder has a place for each person, in order (docs/policies.md).",
        f"{_SIGN}test_one_approver_twice",
        signatures.twice,
    ),
    Attack(
        "no-cphash",
        "show an approval without its cpHash, or as a ticket",
        "Without the cpHash an approval would do for any command, as a ticket for a day.",
        "cpHash and expiration are in what the approver signed (docs/policies.md).",
        f"{_SIGN}test_an_approval_without_its_cp_hash",
        signatures.no_cp_hash,
    ),
    Attack(
        "same-bytes",
        "have the approved bytes signed again",
        "What was approved once I can have signed as often as I like.",
        "Nothing: approvals have no nonce. Serial number and dates are in the bytes, so it is the "
        "same certificate (docs/security.md).",
        "tests/attacks/test_host.py:test_an_approval_used_again",
        signatures.same_bytes,
        promised=False,
    ),
    Attack(
        "open-key",
        "sign with a key that demands nothing",
        "The web server's own key is open.",
        'Nothing: "open" means anyone with this machine, and the program says so when it makes '
        "the key (docs/policies.md).",
        "tests/attacks/test_open_keys.py:test_an_open_key_signs_for_anyone",
        signatures.sign_open,
        promised=False,
    ),
)


def find(word: str) -> Attack:
    """An attack by its number in the list, from 1, or the beginning of its name. NotFoundError."""
    if word.isdigit() and 1 <= int(word) <= len(ATTACKS):
        return ATTACKS[int(word) - 1]
    exact = [attack for attack in ATTACKS if attack.name == word]
    found = exact or [attack for attack in ATTACKS if attack.name.startswith(word)]
    if len(found) == 1:
        return found[0]
    more = f": {', '.join(attack.name for attack in found)}" if found else ""
    raise NotFoundError(f"no attack is called {word!r}" if not found else f"which one{more}",
                        hint="list shows them all")  # fmt: skip
