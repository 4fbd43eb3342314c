"""`tpmhsm attest report`: a judgement as a page for people, with the evidence inside."""

from __future__ import annotations

import click

from tpmhsm.cli.app import App, pass_app
from tpmhsm.cli.attest_verify import Means, judge, means_options


@click.command(epilog="Example: tpmhsm attest report ca.evidence --out report.html")
@click.argument("file", metavar="F")
@click.option("-o", "--out", required=True, metavar="PAGE", help="The HTML page.")
@means_options
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@pass_app
def report(
    app: App,
    file: str,
    out: str,
    means: Means,
    force: bool,
) -> None:
    """Write what `attest verify` finds as one HTML page: sentence, questions, picture, people.

    The page carries its evidence, so that whoever gets it can judge anew: attest verify PAGE. It
    is written whatever is found; exit codes are for attest verify.
    """
    from tpmhsm.attest.format import format_evidence
    from tpmhsm.attest.report import render_report
    from tpmhsm.cli.attest_challenge import read_evidence
    from tpmhsm.cli.files import check_free, write_output

    check_free(out, force=force)
    evidence = read_evidence(app, file)
    judged = judge(app, evidence, means)
    page = render_report(judged, format_evidence(evidence))
    write_output(out, page.encode(), force=force)
    facts = {"file": out, "evidence": judged.evidence, "sentence": judged.sentence}
    app.done(facts, f"{out}: {judged.sentence}")
