"""All attacks, in the order in which they are told; last those that nobody promises to refuse."""

from __future__ import annotations

from tpmhsm.cli.attacks import (
    budgets,
    commands,
    copies,
    evidence,
    indices,
    machine,
    signatures,
    tools,
    windows,
)
from tpmhsm.cli.attacks.scene import Attack
from tpmhsm.errors import NotFoundError

_TESTS = "tests/attacks/"

ATTACKS: tuple[Attack, ...] = (
    Attack(
        "too-few",
        "sign with M-1 approvals",
        "One of two officers is enough, if the chip can be led past the other.",
        "The threshold ladder in the key's policy: PolicySigned for each approver, PolicyOR "
        "over what leads to a quorum (docs/policies.md).",
        f"{_TESTS}test_signatures.py:test_one_approval_of_two",
        signatures.too_few,
    ),
    Attack(
        "other-bytes",
        "sign other bytes with true approvals",
        "Two true approvals of a harmless certificate will do for a certificate of mine.",
        "The approvers sign the cpHash: command, key and bytes (docs/policies.md).",
        f"{_TESTS}test_signatures.py:test_other_bytes",
        signatures.other_bytes,
    ),
    Attack(
        "other-key",
        "use the approvals with another key",
        "Another key of the group has the same policy, so the same approvals fit.",
        "The key's Name is in the cpHash that was approved (docs/policies.md).",
        f"{_TESTS}test_signatures.py:test_other_key",
        signatures.other_key,
    ),
    Attack(
        "old-epoch",
        "use approvals of an old epoch",
        "Bob was removed, but his approvals of before are true for ever.",
        "The roster begins with PolicyNV: the epoch counter in the chip is the roster's "
        "(docs/policies.md).",
        f"{_TESTS}test_indices.py:test_old_epoch",
        signatures.old_epoch,
    ),
    Attack(
        "roster-replayed",
        "write the roster of before again",
        "The custodians approved it once, so the chip writes it again.",
        "It says its epoch, which is over: a roster that comes back serves nobody "
        "(docs/policies.md).",
        f"{_TESTS}test_indices.py:test_a_roster_replayed",
        indices.roster_replayed,
    ),
    Attack(
        "roster-remade",
        "remove the roster index and make it anew",
        "A new index is empty, and I own the hierarchy that makes it.",
        "Unwritten it authorises nothing, and only the custodians' policy writes it "
        "(docs/policies.md).",
        f"{_TESTS}test_indices.py:test_the_roster_index_remade",
        indices.roster_remade,
    ),
    Attack(
        "roster-own",
        "… with attributes that let the owner write it",
        "I make it with OWNERWRITE, and write a roster of one: mallory.",
        "The attributes are in the index's Name, and that Name is in the key's policy "
        "(docs/policies.md).",
        f"{_TESTS}test_indices.py:test_a_roster_index_of_roots_own",
        indices.roster_of_roots_own,
    ),
    Attack(
        "owner-writes",
        "write the group's indices as the owner",
        "Whoever has the owner hierarchy writes NV.",
        "POLICYWRITE alone; the platform hierarchy is off (docs/policies.md).",
        f"{_TESTS}test_indices.py:test_the_owner_writes_no_index",
        indices.owner_writes,
    ),
    Attack(
        "certify",
        "Certify with the CA's key",
        "TPM2_Certify signs what I have certified: the CA's key would sign it.",
        "CommandCode(Sign) in the key's policy and in every branch of the roster "
        "(docs/policies.md).",
        f"{_TESTS}test_commands.py:test_another_command_with_satisfied_approvals",
        commands.certify,
    ),
    Attack(
        "certify-x509",
        "CertifyX509 with the CA's key",
        "The chip makes a real certificate, of my words.",
        "CommandCode(Sign), as before (docs/policies.md).",
        f"{_TESTS}test_commands.py:test_another_command_with_satisfied_approvals",
        commands.certify_x509,
    ),
    Attack(
        "quote",
        "Quote with the CA's key",
        "A quote holds 64 bytes of my choice.",
        "CommandCode(Sign), as before (docs/policies.md).",
        f"{_TESTS}test_commands.py:test_another_command_with_satisfied_approvals",
        commands.quote,
    ),
    Attack(
        "get-time",
        "GetTime with the CA's key",
        "So does the time.",
        "CommandCode(Sign), as before (docs/policies.md).",
        f"{_TESTS}test_commands.py:test_another_command_with_satisfied_approvals",
        commands.get_time,
    ),
    Attack(
        "nv-certify",
        "NV_Certify with the CA's key",
        "I write the index whose content it signs.",
        "CommandCode(Sign), as before (docs/policies.md).",
        f"{_TESTS}test_commands.py:test_another_command_with_satisfied_approvals",
        commands.nv_certify,
    ),
    Attack(
        "commit",
        "Commit with the CA's key",
        "It multiplies points by the private key.",
        "CommandCode(Sign), as before; an ECDSA key does not commit (docs/policies.md).",
        f"{_TESTS}test_commands.py:test_another_command_with_satisfied_approvals",
        commands.commit,
    ),
    Attack(
        "ecdh-zgen",
        "ECDH_ZGen with the CA's key",
        "So does this.",
        "CommandCode(Sign), as before; a signing key does not decrypt (docs/policies.md).",
        f"{_TESTS}test_commands.py:test_another_command_with_satisfied_approvals",
        commands.ecdh_zgen,
    ),
    Attack(
        "change-auth",
        "ObjectChangeAuth of the CA's key",
        "With a password of mine the key is mine.",
        "adminWithPolicy is set, and the policy allows TPM2_Sign alone (docs/policies.md).",
        f"{_TESTS}test_commands.py:test_another_command_with_satisfied_approvals",
        commands.change_auth,
    ),
    Attack(
        "wrong-prefix",
        "enter the ladder with a wrong prefix",
        "The people's part of the policy alone, without the epoch or the command.",
        "A ladder's digests begin where the roster's do; from elsewhere no PolicyOR has them "
        "(docs/policies.md).",
        f"{_TESTS}test_signatures.py:test_a_ladder_entered_with_a_wrong_prefix",
        signatures.wrong_prefix,
    ),
    Attack(
        "one-person-twice",
        "count one approval twice",
        "Alice approved: her approval in two places makes two.",
        "The ladder has a place for each person, in order (docs/policies.md).",
        f"{_TESTS}test_signatures.py:test_one_approver_twice",
        signatures.twice,
    ),
    Attack(
        "two-cards",
        "put one key on two cards",
        "With alice's key under bob's name too, alice alone is two.",
        "The documents: all members' keys differ as keys. The chip could not tell "
        "(docs/policies.md).",
        f"{_TESTS}test_first_use.py:test_one_key_on_two_cards",
        tools.two_cards,
    ),
    Attack(
        "fake-counter",
        "an ordinary index as the epoch counter",
        "A counter only goes forward; an ordinary index says the epoch that I like.",
        "The counter's type is in its Name, and that Name is in the roster (docs/policies.md).",
        f"{_TESTS}test_indices.py:test_an_ordinary_index_posing_as_the_counter",
        indices.fake_counter,
    ),
    Attack(
        "budget-refill",
        "refill a budget: undefine and replay",
        "A new index counts from nothing, and I kept all grants.",
        "The first write of an index is approved over a live nonce with the unwritten Name, "
        "later ones for the written (docs/policies.md).",
        f"{_TESTS}test_budgets.py:test_a_refill_by_undefining_and_replaying",
        budgets.refill,
    ),
    Attack(
        "budget-other",
        "use the budget of another key",
        "The officers gave a hundred units to a harmless key.",
        "The Name of its own index is in the key's policy (docs/policies.md).",
        f"{_TESTS}test_budgets.py:test_the_budget_of_another_key",
        budgets.of_another_key,
    ),
    Attack(
        "budget-write",
        "write a budget's limit",
        "It is four bytes of NV, and I am the owner.",
        "POLICYWRITE alone, by the roster's branch for budgets (docs/policies.md).",
        f"{_TESTS}test_budgets.py:test_the_owner_writes_no_budget",
        budgets.owner_writes,
    ),
    Attack(
        "ticket-key",
        "tickets of a window with another key",
        "The officers opened one key; the other may be opened, too.",
        "The key's Name is in the policyRef of the tickets, and PolicyNameHash in the branch "
        "(docs/policies.md).",
        f"{_TESTS}test_windows.py:test_the_tickets_of_another_key",
        windows.other_key,
    ),
    Attack(
        "ticket-altered",
        "tickets altered",
        "A ticket with a later end lasts longer.",
        "A ticket is an HMAC of the chip's over its end, its digest and its hierarchy "
        "(docs/policies.md).",
        f"{_TESTS}test_windows.py:test_an_altered_ticket",
        windows.altered,
    ),
    Attack(
        "ticket-expired",
        "tickets after the window's end",
        "Perhaps nobody looks at the time.",
        "The chip does: by Time, since its start (docs/policies.md).",
        f"{_TESTS}test_windows.py:test_after_the_end",
        windows.expired,
    ),
    Attack(
        "ticket-reset",
        "tickets after a reset of the chip",
        "A chip that starts anew begins to count anew.",
        "The NULL hierarchy has a new secret after each reset: the tickets' HMACs are void "
        "(docs/policies.md).",
        f"{_TESTS}test_windows.py:test_after_a_start_of_the_chip",
        windows.after_reset,
    ),
    Attack(
        "window-nonce",
        "a window over a nonce of another length",
        "aHash has no lengths inside: with another nonce it reads as something else.",
        "An approver's key signs windows over 16 octets alone (docs/security.md).",
        f"{_TESTS}test_windows.py:test_a_blank_cheque_for_another_purpose",
        windows.other_nonce,
    ),
    Attack(
        "no-cphash",
        "show an approval without its cpHash, or as a ticket",
        "Without the cpHash an approval would do for any command, as a ticket for a day.",
        "cpHash and expiration are in what the approver signed (docs/policies.md).",
        f"{_TESTS}test_signatures.py:test_an_approval_without_its_cp_hash",
        signatures.no_cp_hash,
    ),
    Attack(
        "blank-cheque",
        "ask an approver for an empty cpHash",
        "The chip would take it for any digest.",
        "An approver's key signs approvals that its own tool built, and statements; nothing "
        "else (docs/security.md).",
        f"{_TESTS}test_approvals.py:test_a_blank_cheque",
        tools.blank_cheque,
    ),
    Attack(
        "challenge",
        "a possession challenge shaped as an approval",
        "Alice proves that she has her key, over words of mine.",
        "A challenge enters hashed, into a tagged statement that is longer than any approval "
        "(docs/security.md).",
        f"{_TESTS}test_approvals.py:test_a_challenge_shaped_as_an_approval",
        tools.challenge,
    ),
    Attack(
        "sha1",
        "an approval over SHA-1",
        "The chip takes SHA-1, and SHA-1 has collisions.",
        "No tool makes one and the host takes none; a true one does not become one "
        "(docs/security.md).",
        f"{_TESTS}test_approvals.py:test_sha1",
        tools.sha1,
    ),
    Attack(
        "decrypt-signs",
        "sign with a decryption key",
        "RSA_Decrypt of a formatted block is a signature.",
        "A key signs or decrypts, and one that decrypts has OAEP in its public area "
        "(docs/policies.md).",
        f"{_TESTS}test_decryption.py:test_a_formatted_block_decrypted",
        machine.decrypt_to_sign,
    ),
    Attack(
        "bare-digest",
        "a certificate as a bare digest, or as a file",
        "Nobody can tell what 32 bytes are the digest of.",
        "Tools refuse digests, and files that are to-be-signed structures; a CA's key signs "
        "no files (docs/security.md).",
        f"{_TESTS}test_content.py:test_a_bare_digest",
        tools.bare_digest,
    ),
    Attack(
        "two-rosters",
        "two rosters for one epoch",
        "Two quorums of custodians, and I choose whose officers are true.",
        "Custodians are more than half, so two quorums share a person, whose tool remembers "
        "(docs/security.md).",
        f"{_TESTS}test_rosters.py:test_two_rosters_for_one_epoch",
        tools.two_rosters,
    ),
    Attack(
        "increment-replayed",
        "replay an increment of the epoch",
        "Its approval never changes, so I move the epoch where I like.",
        "Forward alone: service stops, nothing is undone, and the custodians go on "
        "(docs/policies.md).",
        f"{_TESTS}test_indices.py:test_an_increment_replayed",
        indices.increment_replayed,
    ),
    Attack(
        "low-counter",
        "a copy for a chip whose counter is behind",
        "On a second chip that never hears of the change, bob is an officer still.",
        "A custodian's tool asks the second chip itself, and takes none that is behind an epoch it "
        "approved (docs/backup.md).",
        f"{_TESTS}test_backup.py:test_a_chip_whose_counter_is_behind",
        copies.low_counter,
    ),
    Attack(
        "imported-twin",
        "import a twin of the CA's key",
        "A key of mine in the chip, with the CA's attributes, is the CA's.",
        "fixedTPM says that it was born here, the chip's creation ticket says which one, and "
        "tools look (docs/evidence.md).",
        f"{_TESTS}test_evidence.py:test_an_imported_twin_has_no_birth_certificate",
        evidence.twin,
    ),
    Attack(
        "unrestricted-ak",
        "an unrestricted key as the attestation key",
        "A key that signs anything signs fake attestations.",
        "Cards and tools take restricted keys alone (docs/evidence.md).",
        f"{_TESTS}test_evidence.py:test_an_unrestricted_attestation_key",
        evidence.unrestricted,
    ),
    Attack(
        "relay-ak",
        "the attestation key of another chip",
        "The certificate of this chip, and the attestations of an emulator of mine.",
        "MakeCredential: the secret opens only where both keys are (docs/evidence.md).",
        f"{_TESTS}test_activation.py:test_an_attestation_key_of_another_chip",
        evidence.relay,
    ),
    Attack(
        "stale-nonce",
        "a stale nonce",
        "What the chip said before the change is as well signed as what it says now.",
        "A custodian's tool takes the chip's word over its own nonce alone, and once "
        "(docs/security.md).",
        f"{_TESTS}test_live_nonces.py:test_a_stale_nonce",
        tools.stale_nonce,
    ),
    Attack(
        "pcr-moved",
        "move a PCR between policy and signature",
        "The policy looked, then I start another boot loader.",
        "The chip counts changes of PCRs, and the session remembers the count (docs/policies.md).",
        f"{_TESTS}test_pins_and_pcrs.py:test_a_pcr_moved_between_policy_and_signature",
        machine.pcr_moved,
    ),
    Attack(
        "clock-moved",
        "move the chip's clock",
        "The owner sets Clock, so windows end when I like.",
        "Clock goes forward alone, and windows end by Time, which nobody sets (docs/policies.md).",
        f"{_TESTS}test_windows.py:test_the_clock_set",
        windows.clock_moved,
    ),
    Attack(
        "same-bytes",
        "have the approved bytes signed again",
        "What was approved once I can have signed as often as I like.",
        "Nothing: approvals have no nonce. Serial number and dates are in the bytes, so it is"
        " the same certificate (docs/security.md).",
        f"{_TESTS}test_host.py:test_an_approval_used_again",
        signatures.same_bytes,
        promised=False,
    ),
    Attack(
        "burn-units",
        "burn the units of a budget",
        "What officers granted I may use for anything.",
        "Nothing but the number that was granted (docs/security.md).",
        f"{_TESTS}test_budgets.py:test_a_sixth_signature",
        budgets.burn,
        promised=False,
    ),
    Attack(
        "open-window",
        "sign in an open window",
        "While the key is open nobody looks.",
        "Nothing but the window's end (docs/security.md).",
        f"{_TESTS}test_windows.py:test_after_the_end",
        windows.inside,
        promised=False,
    ),
    Attack(
        "clock-slowed",
        "make the chip's clock slower",
        "A slower clock makes a longer window.",
        "Nothing: by about a sixth at most (docs/security.md).",
        f"{_TESTS}test_windows.py:test_the_clock_slowed",
        windows.slowed,
        promised=False,
    ),
    Attack(
        "open-key",
        "sign with a key that demands nothing",
        "The web server's own key is open.",
        'Nothing: "open" means anyone with this machine, and the program says so when it '
        "makes the key (docs/policies.md).",
        f"{_TESTS}test_open_keys.py:test_an_open_key_signs_for_anyone",
        signatures.sign_open,
        promised=False,
    ),
    Attack(
        "stop-service",
        "stop service",
        "I am the owner: I remove the roster index.",
        "Nothing, and nothing is gained: tpmhsm group change puts it back (docs/security.md).",
        f"{_TESTS}test_recovery.py:test_going_on_after_indices_were_removed",
        machine.service_stopped,
        promised=False,
    ),
    Attack(
        "withhold",
        "withhold an approval or a denial",
        "What comes back from the people passes through my hands.",
        "Nothing: a denial binds an honest host, not the chip (docs/security.md).",
        f"{_TESTS}test_host.py:test_a_denial_is_no_veto_of_the_chip",
        tools.withheld,
        promised=False,
    ),
)


def find(word: str) -> Attack:
    """An attack by its number in the list, from 1, or the beginning of its name. NotFoundError."""
    if word.isdigit() and 1 <= int(word) <= len(ATTACKS):
        return ATTACKS[int(word) - 1]
    exact = [attack for attack in ATTACKS if attack.name == word]
    found = exact or [attack for attack in ATTACKS if word and attack.name.startswith(word)]
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFoundError(f"{word!r} could be {', '.join(attack.name for attack in found)}")
    raise NotFoundError(f"no attack is called {word!r}", hint="list shows them, help the commands")
