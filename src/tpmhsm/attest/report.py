"""The report: a judgement as one HTML page that carries its evidence.

The sentence first, the nine questions, the picture, people, keys, what is not proven in the same
size of type, clauses, and how to check it oneself. Without script, pictures from elsewhere or a
network: what others wrote is text and nothing else. The page's words prove nothing;
`evidence_in` gives back the bytes that do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING

from tpmhsm.attest.page import BADGES, carried_in, html_page
from tpmhsm.attest.report_picture import picture
from tpmhsm.policy.moments import stamp
from tpmhsm.policy.visible import in_html

if TYPE_CHECKING:
    from tpmhsm.attest.verdicts import Answer, Judgement, KeyFacts, People, Question, Verdict

WHY: dict[Question, str] = {
    "chip": "A chip is known by a key that its maker put into it. Without this, the statements "
    "below could come from any machine.",
    "maker": "The maker vouches for that key with a certificate, as an authority does for a site.",
    "kind": "Hardware keeps its keys even from whoever owns the machine. A software TPM keeps them "
    "in a file, which can be copied.",
    "born": "A key that was made elsewhere may have been copied before it came here.",
    "leave": "A key that cannot leave can be used only where this chip is.",
    "agree": "The chip itself checks these people's approvals; the machine's administrator cannot "
    "go round it.",
    "roster": "Somebody who was removed must not be able to agree any more.",
    "log": "If nothing can be left out of the log, no signature was made in secret.",
    "fresh": "Old evidence says what once was. A number that you chose yourself, and that the chip "
    "signed, shows that it is new.",
}
"""What a question is for, to a reader who knows no TPM."""


def evidence_in(page: bytes) -> bytes:
    """Return the evidence that a report carries. ParseError unless there is exactly one."""
    return carried_in(page, "evidence", "tpmhsm attest report")


def render_report(judgement: Judgement, evidence: bytes) -> str:
    """Return a judgement as an HTML page, with the file of evidence it is of inside."""
    title = f"Evidence: {', '.join(key.label for key in judgement.keys) or 'no key'}"[:120]
    parts = (
        *_opening(judgement, title),
        *_questions(judgement),
        "<h2>From the maker to the certificates</h2>",
        picture(judgement.links),
        *_keys(judgement.keys),
        *_people(judgement.people),
        *_signatures(judgement),
        *_not_proven(judgement),
        *_clauses(judgement),
        *_check_it(judgement, evidence),
    )
    return html_page(title, parts, "evidence", evidence)


def _opening(judgement: Judgement, title: str) -> Iterator[str]:
    answers = {one.answer for one in judgement.verdicts}
    tone = "refuted" if "refuted" in answers else "proven"
    if tone == "proven" and answers != {"proven"}:
        tone = "not-proven"
    yield f"<h1>{in_html(title)}</h1>"
    yield f'<p class="sentence {tone}">{in_html(judgement.sentence)}</p>'
    nonce = "answered" if judgement.nonce else "none answered"
    yield (
        f'<p class="facts">Evidence collected {stamp(judgement.made)} · certificates judged for '
        f"{stamp(judgement.at)} · a reader's own number: {nonce} · SHA-256 of the evidence "
        f'<span class="hex">{judgement.evidence}</span></p>'
    )


def _badge(answer: Answer) -> str:
    return f'<span class="badge {answer}">{BADGES[answer]}</span>'


def _questions(judgement: Judgement) -> Iterator[str]:
    yield "<h2>Nine questions</h2>"
    yield "<table>"
    for verdict in judgement.verdicts:
        yield (
            f'<tr><td class="answer">{_badge(verdict.answer)}</td><td><strong>{verdict.asked}'
            f"</strong><br>{in_html(verdict.words) or 'The file says nothing of it.'}"
            f'<div class="why">{WHY[verdict.question]}</div>{_bytes(verdict)}</td></tr>'
        )
    yield "</table>"


def _bytes(verdict: Verdict) -> str:
    """The bytes behind an answer, folded away."""
    if not verdict.proof:
        return ""
    items = "".join(
        f"<li>{in_html(one.what)}: <code>{in_html(one.path)}</code>, SHA-256 "
        f'<span class="hex">{in_html(one.sha256)}</span></li>'
        for one in verdict.proof[:64]
    )
    return f"<details><summary>the bytes that say so</summary><ul>{items}</ul></details>"


def _keys(keys: Iterable[KeyFacts]) -> Iterator[str]:
    yield "<h2>Keys</h2>"
    yield "<table><tr><th>Key</th><th>What it demands before it acts</th><th>Certificates</th></tr>"
    for key in keys:
        budgets = "".join(
            f'<div class="why">{in_html(group)} granted {granted:,} signatures without approvals; '
            f"{used:,} are used</div>"
            for group, used, granted in key.budgets
        )
        certificates = "<br>".join(in_html(subject) for subject in key.certificates) or "none"
        yield (
            f"<tr><td><strong>{in_html(key.label)}</strong><br>{in_html(key.words)}</td>"
            f"<td><code>{in_html(key.policy)}</code><br>{in_html(key.demands)}{budgets}</td>"
            f"<td>{certificates}</td></tr>"
        )
    yield "</table>"


def _people(groups: Iterable[People]) -> Iterator[str]:
    yield "<h2>People</h2>"
    found = False
    for group in groups:
        found = True
        yield (
            f"<p><strong>{in_html(group.group)}</strong>, epoch {group.epoch} "
            f"{_badge(group.current)}<br>Who approves: {in_html(group.officers)}<br>"
            f"Who can change that: {in_html(group.custodians)}</p>"
        )
        if group.fingerprint:
            yield (
                "<p>Its fingerprint, to compare aloud with one of these people: "
                f"<strong>{in_html(group.fingerprint)}</strong></p>"
            )
        yield "<ul>"
        yield from (f"<li>{in_html(name)}: {in_html(what)}</li>" for name, what in group.names)
        yield "</ul>"
    if not found:
        yield "<p>No people stand behind these keys: whoever has the machine uses them.</p>"


def _signatures(judgement: Judgement) -> Iterator[str]:
    verdict = judgement.verdict("log")
    yield f"<h2>Signatures and gaps</h2><p>{_badge(verdict.answer)} {in_html(verdict.words)}</p>"
    others = [one for one in verdict.findings if one.answer != verdict.answer]
    if others:
        yield "<ul>"
        yield from (f"<li>{in_html(one.words)}</li>" for one in others)
        yield "</ul>"


def _not_proven(judgement: Judgement) -> Iterator[str]:
    yield "<h2>Not proven</h2><ul>"
    for verdict in judgement.verdicts:
        for words in dict.fromkeys(
            one.words for one in verdict.findings if one.answer == "not-proven"
        ):
            yield f"<li>{verdict.asked} {in_html(words)}</li>"
    yield (
        "<li>That the chip has no fault: a maker's root says who made it, not that nobody can "
        "break it.</li><li>That these statements come from the machine that you think of: another "
        "genuine chip elsewhere could answer. Compare its certificate, or the fingerprint above, "
        "with somebody who stands before it.</li>"
    )
    if judgement.hints:
        yield from (f"<li>Said, and not proven: {in_html(hint)}</li>" for hint in judgement.hints)
    yield "</ul>"


def _clauses(judgement: Judgement) -> Iterator[str]:
    from tpmhsm.attest.clauses import CLAUSES, DISCLAIMER

    yield f"<h2>For auditors</h2><p>{DISCLAIMER}</p>"
    yield "<table><tr><th>Clause</th><th>What it asks</th><th>Answers that speak to it</th></tr>"
    for clause in CLAUSES:
        asked = "<br>".join(judgement.verdict(one).asked for one in clause.questions)
        yield (
            f"<tr><td>{in_html(clause.source)}<br>{in_html(clause.number)}</td>"
            f'<td>{in_html(clause.asks)}<div class="why">Not answered here: '
            f"{in_html(clause.beyond)}</div></td><td>{_badge(clause.answer(judgement))}<br>{asked}"
            "</td></tr>"
        )
    yield "</table>"


def _check_it(judgement: Judgement, evidence: bytes) -> Iterator[str]:
    roots = [link for link in judgement.links if link.kind == "root" and link.proof]
    pinned = "".join(
        f"<li>Root: {in_html(link.label)}, SHA-256 "
        f'<span class="hex">{in_html(link.proof.sha256) if link.proof else ""}</span></li>'
        for link in roots
    )
    commands = in_html(
        "pip install tpmhsm\n"
        "tpmhsm attest roots add ROOTS.pem --as discrete   # the maker's own file\n"
        "tpmhsm attest verify THIS-PAGE.html"
    )
    yield "<h2>Check it yourself</h2>"
    yield (
        "<p>Do not believe this page: it was written by a program on somebody's machine. The "
        "evidence itself is inside it, and any machine can judge it anew, without a chip and "
        "without asking anybody. The words of the page are not read for that.</p>"
        f"<pre>{commands}</pre><ul><li>Take the roots from the makers themselves, and decide what "
        "each of them stands for.</li>"
        f"{pinned}<li>For fresh evidence choose a number: <code>openssl rand -hex 32</code>, have "
        "the host run <code>tpmhsm attest collect --nonce NUMBER</code>, and verify with "
        "<code>--nonce NUMBER</code>.</li><li>To know that the chip is the one of the certificate: "
        "<code>tpmhsm attest challenge</code> on your machine, <code>tpmhsm attest respond</code> "
        "on the host, and verify with <code>--response</code>.</li><li>Without this program: the "
        "last element of the page is the evidence in base64, a JSON document of "
        f"{len(evidence):,} bytes, SHA-256 "
        f'<span class="hex">{sha256(evidence).hexdigest()}</span>. Its statements are TPMS_ATTEST '
        "and TPMT_SIGNATURE of the TPM 2.0 specification; <code>tpm2_print</code> shows them.</li>"
        "</ul>"
    )
