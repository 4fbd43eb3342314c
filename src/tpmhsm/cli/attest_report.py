"""`tpmhsm attest report`: a judgement as a page for people, with the evidence inside."""

from __future__ import annotations

import click

from tpmhsm.cli.app import App, pass_app
from tpmhsm.cli.attest_verify import Means, judge, means_options
from tpmhsm.cli.files import STDIO
from tpmhsm.cli.options import Out, named_after, out_options


@click.command(epilog="Example: tpmhsm attest report ca.evidence --out report.html")
@click.argument("file", metavar="EVIDENCE")
@out_options("EVIDENCE with .html by default.")
@means_options
@pass_app
def report(
    app: App,
    file: str,
    out: Out,
    means: Means,
) -> None:
    """Write what `attest verify` finds as one HTML page: sentence, questions, picture, people.

    The page carries its evidence, so that whoever gets it can judge anew: attest verify PAGE. It
    is written whatever is found; exit codes are for attest verify.
    """
    from tpmhsm.attest.format import format_evidence
    from tpmhsm.attest.report import render_report
    from tpmhsm.cli.attest_challenge import read_evidence

    default = named_after(file, ".html")
    target = out.claim(default)
    evidence = read_evidence(app, file)
    judged = judge(app, evidence, means)
    page = render_report(judged, format_evidence(evidence))
    out.write(page.encode(), default)
    if target == STDIO:
        return
    facts = {"file": target, "evidence": judged.evidence, "sentence": judged.sentence}
    app.done(facts, f"{target}: {judged.sentence}", made="" if out.out else target)
