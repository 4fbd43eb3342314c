"""Minutes in words: sections of paragraphs, tables and lines to sign on, for a page and for paper.

Both renderings (`minutes_page`, `minutes_pdf`) show these words and no others. What others wrote is
in them as it is; the renderings make it harmless.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Literal

from tpmhsm.approval.cards import key_words
from tpmhsm.approval.content import short_facts
from tpmhsm.approval.minutes import KeyMinutes, Minutes
from tpmhsm.approval.minutes_check import CheckedAct, CheckedMinutes, spki_of
from tpmhsm.attest.group_findings import GroupView, people_of
from tpmhsm.attest.key_policies import in_one_sentence
from tpmhsm.attest.page import BADGES
from tpmhsm.attest.report_picture import Box
from tpmhsm.attest.verdicts import CLASS_WORDS, QUESTIONS, Answer, People
from tpmhsm.errors import TpmHsmError
from tpmhsm.pki.describe import describe_certificate
from tpmhsm.policy import moments
from tpmhsm.policy.people import describe_rule, members_of, write_rule
from tpmhsm.policy.published import read_policy
from tpmhsm.policy.rosters import explain_roster
from tpmhsm.policy.windows import describe_seconds

Style = Literal["plain", "mono", "soft", "strong", "proven", "refuted", "not-proven"]

LONGEST = 1500
"""Characters of one piece of text that are shown; the document has all of it."""

GRANTS = ("budget", "window")

_CLAIMED = {
    "software TPM": "a software TPM",
    "hardware": "a chip that is not proven to be hardware",
    "other TPM": "a TPM of a kind that is not proven",
}
"""For devices whose class nothing proves, by what their card says."""

_BORN = {
    True: "The chip certifies that it made it.",
    False: "That the chip made it is said by the evidence, not here.",
}

NOT_SIGNED = (
    "Place, times, labels, transcript, notes, the names of witnesses and what was found of the "
    "evidence are the words of the host's program: no key signed them. For these those present "
    "sign on paper.",
    "That anybody was present, and that each card is that person's, no file can prove: they "
    "compared fingerprints from outside the host, and read the eight words aloud.",
    "That nothing was left out: an act or a denial that is not in here leaves no gap. The log in "
    "the evidence has every signature.",
    "What the chip is, its evidence says: judge it anew, from its file and with roots of your own.",
)


@dataclass(frozen=True)
class Span:
    """A piece of text on a line of its own."""

    text: str
    style: Style = "plain"


Cell = tuple[Span, ...]


@dataclass(frozen=True)
class Table:
    """Rows of cells. `widths` are parts of the whole; `heads` may be empty."""

    heads: tuple[str, ...]
    widths: tuple[int, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Lines:
    """Lines for ink: a name with its role each; empty names are for whoever else is present."""

    signers: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Picture:
    """Who agrees to what, as a tree. `kinds`: words for each kind of box."""

    title: str
    boxes: tuple[Box, ...]


Block = Span | Table | Lines | Picture


@dataclass(frozen=True)
class Section:
    """A title and what stands below it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Words:
    """All of it: a title, one sentence in a tone, a line of facts, sections."""

    title: str
    sentence: Span
    facts: str
    sections: tuple[Section, ...]


def words_of(checked: CheckedMinutes) -> Words:
    """Return what is to be shown of minutes whose signatures hold."""
    minutes = checked.minutes
    people = people_of(_view(minutes), (minutes.ek,))
    seconds = int((minutes.ended - minutes.began).total_seconds())
    facts = (
        f"{minutes.place or 'no place given'} · {moments.stamp(minutes.began)} to "
        f"{moments.stamp(minutes.ended)}"
        f"{f' ({describe_seconds(seconds)})' if seconds else ''} · written by {minutes.program}"
    )
    sections = (
        Section("The eight words", tuple(_eight(minutes))),
        Section("The chip", tuple(_device(minutes))),
        Section("People", (_people(checked, people),)),
        Section("The group", tuple(_group(minutes, people))),
        Section("Keys", (_keys(checked),)),
        Section("Certificates", tuple(_certificates(checked))),
        Section("Who agrees to what", (_picture(checked),)),
        Section("What was approved, and by whom", tuple(_acts(checked))),
        Section("Transcript", (_transcript(minutes),)),
        Section("Evidence", tuple(_evidence(minutes))),
        Section("Deviations and notes", tuple(_notes(minutes))),
        Section("Signatures by key", tuple(_signatures(checked))),
        Section("Signatures by hand", tuple(_by_hand(checked, people))),
        Section("What is not proven here", tuple(Span(line) for line in NOT_SIGNED)),
        Section("Check it yourself", tuple(_check_it(minutes))),
    )
    return Words(f"Minutes: {minutes.title}", _sentence(checked), facts, sections)


def cut(text: str, most: int = LONGEST) -> str:
    """Long text up to `most` characters, and how many there are in all."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters in all)"


def in_fours(digest: bytes) -> str:
    """Hex in groups of eight digits, so that people can compare it."""
    text = digest.hex()
    return " ".join(text[i : i + 8] for i in range(0, len(text), 8))


def _view(minutes: Minutes) -> GroupView:
    return GroupView(minutes.group, minutes.roster, "proven", (), 0)


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _when(moment: datetime) -> str:
    return moments.stamp(moment).replace("T", " ").removesuffix("Z")


# ── sections ─────────────────────────────────────────────────────────────────


def _sentence(checked: CheckedMinutes) -> Span:
    minutes = checked.minutes
    done = sum(one.act.executed is not None for one in checked.acts)
    left = len(checked.acts) - done
    deviations = sum(note.kind == "deviation" for note in minutes.notes)
    text = (
        f'The group "{minutes.group.name}" was founded on {_chip_words(minutes)}: '
        f"{_short_rule(minutes)} must approve. {_plural(done, 'act')} approved and carried out, "
        f"{_plural(len(minutes.keys), 'key')} made, "
        f"{_plural(len(minutes.certificates), 'certificate')} issued. Every approval was verified."
    )
    if left:
        text += f" {_plural(left, 'act')} not carried out."
    if deviations:
        text += f" {_plural(deviations, 'deviation')}: see below."
    if minutes.evidence and any(one.answer == "refuted" for one in minutes.evidence.verdicts):
        return Span(f"{text} The evidence REFUTES something: see below.", "refuted")
    return Span(text, "not-proven" if left or deviations else "proven")


def _chip_words(minutes: Minutes) -> str:
    known = minutes.evidence.device_class if minutes.evidence else "unproven"
    words = CLASS_WORDS[known] if known != "unproven" else _CLAIMED[minutes.device.kind]
    return f'{words}, "{minutes.device.label}"'


def _short_rule(minutes: Minutes) -> str:
    """The rule, with names only if they are few."""
    rule = minutes.roster.officers
    if len(members_of(rule)) <= 7:
        return describe_rule(rule)
    return " and ".join(f"{one.m} of {one.n}" for one in rule)


def _eight(minutes: Minutes) -> Iterator[Block]:
    yield Span(" · ".join(minutes.words), "strong")
    yield Span(
        "The group's fingerprint. It stays the same as long as the group lives; whoever is asked "
        "to trust it compares these words, read aloud by one of the people below.",
        "soft",
    )


def _device(minutes: Minutes) -> Iterator[Block]:
    device, evidence = minutes.device, minutes.evidence
    if device.kind == "software TPM":
        yield Span("A software TPM: its keys are in a file that can be copied.", "not-proven")
    known = CLASS_WORDS[evidence.device_class if evidence else "unproven"]
    endorsed = device.ek_certificates[:1]
    ek = "SHA-256 of the EK certificate" if endorsed else "SHA-256 of the EK (no certificate)"
    yield _facts(
        ("Device", Span(f"{device.label}: {device.kind}")),
        ("Says of itself", Span(cut(minutes.maker) or "nothing")),
        ("Found of it", Span(f"{known}, as the host's pinned roots have it")),
        (ek, Span(in_fours(minutes.group.device_ek), "mono")),
        ("Name of its AK", Span(in_fours(device.ak_name), "mono")),
        ("SHA-256 of its card", Span(in_fours(device.digest), "mono")),
    )


def _facts(*pairs: tuple[str, Span]) -> Table:
    return Table((), (3, 9), tuple(((Span(name, "soft"),), (value,)) for name, value in pairs))


def _people(checked: CheckedMinutes, people: People) -> Table:
    """All whose card is here, with what they did: that they were present, no card says."""
    minutes = checked.minutes
    roles = dict(people.names)
    rows: list[tuple[Cell, ...]] = []
    for card in minutes.cards:
        proof = card.proof.words if card.proof else f"a key in a {card.kind}"
        if card.kind == "pkcs11":
            proof = "a key in a PKCS #11 token, as its card says"
        told = (Span(key_words(card.key)), Span(proof, "soft"))
        rows.append((
            (
                Span(card.name, "strong"),
                Span(roles.get(card.name, ""), "soft"),
                Span(_did(checked, card.name), "soft"),
            ),
            told,
            (Span(in_fours(card.digest), "mono"),),
        ))  # fmt: skip
    for name in minutes.witnesses:
        who = (Span(cut(name), "strong"), Span("witness", "soft"))
        rows.append((who, (Span("no key", "soft"),), (Span("no card", "soft"),)))
    return Table(("Person", "Key", "SHA-256 of the card"), (3, 4, 5), tuple(rows))


def _did(checked: CheckedMinutes, name: str) -> str:
    approved = sum(name in one.approvers for one in checked.acts)
    return (
        f"approved {approved} of {_plural(len(checked.acts), 'act')}"
        if approved
        else ("approved nothing here")
    )


def _group(minutes: Minutes, people: People) -> Iterator[Block]:
    group, roster = minutes.group, minutes.roster
    governed = people.custodians or "nobody: the group is static, its officers are fixed for good"
    yield _facts(
        ("Officers", Span(people.officers)),
        ("Who can change them", Span(governed)),
        ("As it is typed", Span(write_rule(_typed(minutes)), "mono")),
        ("Epoch", Span(str(roster.epoch))),
        ("Group id", Span(in_fours(group.id), "mono")),
        ("SHA-256 of the roster", Span(in_fours(roster.hash), "mono")),
    )
    for line in explain_roster(roster):
        yield Span(line, "soft")


def _typed(minutes: Minutes) -> Iterator[tuple[int, list[str]]]:
    return ((one.m, [m.name for m in one.members]) for one in minutes.roster.officers)


def _keys(checked: CheckedMinutes) -> Table:
    rows = tuple(
        (
            (Span(key.label, "strong"), Span(key.chip_key.words, "soft")),
            (
                Span(_policy_text(key), "mono"),
                Span(demands_of(checked.minutes, key)),
                Span(_BORN[key.public in checked.born], "soft"),
            ),
            (Span(in_fours(key.name), "mono"),),
        )
        for key in checked.minutes.keys
    )
    return Table(("Key", "What it demands before it signs", "Name"), (3, 5, 4), rows)


def _policy_text(key: KeyMinutes) -> str:
    try:
        return cut(read_policy(key.policy).text)
    except TpmHsmError:
        return cut(key.policy)


def demands_of(minutes: Minutes, key: KeyMinutes) -> str:
    """Who must agree before a key signs, in a sentence."""
    try:
        policy = read_policy(key.policy)
        views = {minutes.group.name: _view(minutes)}
        told = in_one_sentence(key.chip_key, policy, views)
    except (TpmHsmError, KeyError) as e:
        return f"not understood: {e}"
    return told[:1].upper() + told[1:]


def _certificates(checked: CheckedMinutes) -> Iterator[Block]:
    rows = []
    for one, place in zip(checked.minutes.certificates, checked.approved, strict=True):
        facts = describe_certificate(one.der, now=checked.minutes.ended)
        issuer = "itself" if facts["self_signed"] else facts["issuer"]
        by = "nobody asked: its issuer signs unattended"
        if place >= 0:
            by = f"approved as request {checked.acts[place].act.request.id}"
        rows.append((
            (Span(one.label, "strong"), Span(cut(facts["subject"], 300) or "(empty)"),
             Span(by, "soft")),
            (Span(f"{_day(facts['not_before'])} to {_day(facts['not_after'])}"),
             Span(f"issued by {cut(issuer, 300)}", "soft")),
            (Span(facts["serial"], "mono"), Span("SHA-256", "soft"),
             Span(in_fours(sha256(one.der).digest()), "mono")),
        ))  # fmt: skip
    if not rows:
        yield Span("None were issued.")
        return
    heads = ("Certificate", "Valid", "Serial and SHA-256")
    yield Table(heads, (5, 3, 4), tuple(rows))


def _day(moment: str | None) -> str:
    return moment[:10] if moment else "?"


# ── acts ─────────────────────────────────────────────────────────────────────


def act_in_words(act: CheckedAct) -> str:
    """What was asked for: 'certificate CN=Example Root', 'found the group "officers"'."""
    request = act.act.request
    facts = short_facts(request)
    if request.kind == "group":
        return f'found the group "{request.group.name}" and its first roster'
    label = request.key.label if request.key else ""
    if request.kind == "budget":
        return f"let {label} sign {facts.get('total', '?')} times without approvals"
    if request.kind == "window":
        seconds = facts.get("seconds", "0")
        return f"open {label} for {describe_seconds(int(seconds))} without approvals"
    if request.kind == "certificate":
        return f"certificate {facts.get('subject', '?')}, signed by {label}"
    return f"{request.kind} under {label}"


def _acts(checked: CheckedMinutes) -> Iterator[Block]:
    yield Span(
        "Each of these was approved by the people named, each with their own key on their own "
        "machine, over the very bytes with this SHA-256; the signatures are in the document and "
        "were verified when this page was written."
    )
    rows = tuple(_act_row(one) for one in checked.acts)
    yield Table(("Act", "Approved by", "SHA-256 of the bytes"), (5, 3, 4), rows)


def _act_row(one: CheckedAct) -> tuple[Cell, ...]:
    executed, number = one.act.executed, f"request {one.act.request.id}"
    when = Span(f"{number}, NOT carried out", "refuted")
    if executed:
        when = Span(f"{number}, carried out {_when(executed)} UTC", "soft")
    by = Span(", ".join(one.approvers) or "nobody")
    enough = Span(f"{len(one.approvers)}, it takes {one.needed}", "soft")
    denied = [Span(f"denied by {d.approver}", "refuted") for d in one.act.request.denials]
    return (
        (Span(cut(act_in_words(one), 300)), when),
        (by, enough, *denied),
        (Span(in_fours(one.act.request.digest), "mono"),),
    )


def _picture(checked: CheckedMinutes) -> Picture:
    return Picture("From the people to what they allow", tuple(_boxes(checked)))


def _boxes(checked: CheckedMinutes) -> list[Box]:
    """Custodians, officers, keys, and below each key its certificates and what it was granted."""
    minutes = checked.minutes
    founded = next(one for one in checked.acts if one.act.request.kind == "group")
    top = "officers, for good" if minutes.group.static else "custodians, for the group's life"
    how = f"{_names(founded.approvers)} approved the founding"
    boxes = [Box(top, describe_rule(minutes.group.custodians), -1, "proven", how)]
    if not minutes.group.static:
        rule = describe_rule(minutes.roster.officers)
        how = "the custodians put them in force, and can put others in their place"
        boxes.append(Box(f"officers, epoch {minutes.roster.epoch}", rule, 0, "proven", how))
    officers = len(boxes) - 1
    for key in minutes.keys:
        label = f"{key.label}: {key.chip_key.words}"
        if key.policy.strip() == "open":
            boxes.append(Box("key", label, -1, "not-proven", "anybody with the machine may use it"))
        else:
            how = f"signs only by {_policy_text(key)}"
            boxes.append(Box("key", label, officers, "proven", how))
        boxes += _below(checked, key, len(boxes) - 1)
    return boxes


def _below(checked: CheckedMinutes, key: KeyMinutes, parent: int) -> Iterator[Box]:
    spki = key.chip_key.spki
    for one, place in zip(checked.minutes.certificates, checked.approved, strict=True):
        if spki_of(one.der) == spki:
            how = "its issuer signs unattended"
            if place >= 0:
                how = f"approved by {_names(checked.acts[place].approvers)}"
            subject = describe_certificate(one.der)["subject"]
            yield Box("certificate", cut(subject, 200), parent, "proven", how)
    for act in checked.acts:
        request = act.act.request
        if request.kind in GRANTS and request.key and request.key.public == key.public:
            how = f"approved by {_names(act.approvers) or 'nobody'}"
            done: Answer = "proven" if act.act.executed else "not-proven"
            how += "" if act.act.executed else "; not carried out"
            yield Box(f"first {request.kind}", act_in_words(act), parent, done, how)


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 7 else f"{len(names)} people"


# ── what nobody's key signed ─────────────────────────────────────────────────


def _transcript(minutes: Minutes) -> Table:
    rows = tuple(
        ((Span(_when(one.at), "soft"),), (Span(cut(one.what), "strong"),), (Span(cut(one.words)),))
        for one in minutes.steps
    )
    return Table(("Time (UTC)", "Step", "How it went"), (3, 3, 6), rows)


def _evidence(minutes: Minutes) -> Iterator[Block]:
    found = minutes.evidence
    if found is None:
        yield Span("No evidence was collected.", "not-proven")
        return
    answers: dict[str, Answer] = {one.question: one.answer for one in found.verdicts}
    tone: Answer = "refuted" if "refuted" in answers.values() else "proven"
    yield Span(cut(found.sentence), tone if set(answers.values()) == {tone} else "not-proven")
    nonce = "a number chosen beforehand was answered" if found.nonce else "no number was answered"
    yield Span(f"As the host judged it on the day, with the roots that it had pinned; {nonce}.")
    yield _facts(("SHA-256 of the file", Span(in_fours(found.sha256), "mono")))
    rows = tuple(
        (
            (Span(BADGES[one.answer], one.answer),),
            (Span(QUESTIONS[one.question], "strong"), Span(cut(one.words) or "Nothing is said.")),
        )
        for one in found.verdicts
    )
    yield Table((), (5, 22), rows)


def _notes(minutes: Minutes) -> Iterator[Block]:
    if not minutes.notes:
        yield Span("None.")
        return
    rows = tuple(
        (
            (Span(_when(one.at), "soft"),),
            (Span(one.kind, "refuted" if one.kind == "deviation" else "plain"),),
            (Span(cut(one.words)),),
        )
        for one in minutes.notes
    )
    yield Table(("Time (UTC)", "Kind", "What"), (3, 2, 7), rows)


# ── signatures ───────────────────────────────────────────────────────────────


def _signatures(checked: CheckedMinutes) -> Iterator[Block]:
    yield Span(
        "A tick is a signature by that person's key over that act; anybody can verify it from "
        "these minutes, and it covers group, roster, certificates and grants, not the words around."
    )
    numbers = [str(one.act.request.id) for one in checked.acts]
    rows = tuple(
        (
            (Span(card.name, "strong"),),
            (Span(in_fours(card.member(contribution=False).chip_name[2:])[:17], "mono"),),
            *(
                (Span("✓", "proven") if card.name in one.approvers else Span("–", "soft"),)
                for one in checked.acts
            ),
        )
        for card in checked.minutes.cards
    )
    widths = (4, 4, *(1 for _ in numbers))
    yield Table(("Person", "Name of the key, begins", *numbers), widths, rows)


def _by_hand(checked: CheckedMinutes, people: People) -> Iterator[Block]:
    yield Span(
        "Those of us who sign here were present. What is written here, transcript and notes "
        "included, is what was done; the eight words were read aloud and compared. A line that is "
        "left empty says that this person was not there, or does not vouch for it."
    )
    signers = [(card.name, dict(people.names).get(card.name, "")) for card in checked.minutes.cards]
    signers += [(cut(name), "witness") for name in checked.minutes.witnesses]
    yield Lines((*signers, ("", "")))


def _check_it(minutes: Minutes) -> Iterator[Block]:
    yield Span("Do not believe these pages: a program on somebody's machine wrote them.")
    yield Span("tpmhsm minutes verify FILE", "mono")
    yield Span(
        "FILE is the page in HTML or the PDF, which both carry the document, or the document "
        "itself. Every signature is verified from it, without a chip and without asking anybody. "
        "The words around it are compared with what the same version of the program writes; with "
        "another version, have your own pages written from it: tpmhsm minutes print FILE."
    )
    yield _facts(("SHA-256 of the document", Span(in_fours(minutes.digest), "mono")))
