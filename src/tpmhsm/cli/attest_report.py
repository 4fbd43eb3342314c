"""`tpmhsm attest report`: a judgement as a page for people, with the evidence inside."""

from __future__ import annotations

import click

from tpmhsm.cli.app import App, pass_app


@click.command(epilog="Example: tpmhsm attest report ca.evidence --out report.html")
@click.argument("file", metavar="F")
@click.option("-o", "--out", required=True, metavar="PAGE", help="The HTML page.")
@click.option("--nonce", metavar="HEX", help="The one that you chose, and the chip had to answer.")
@click.option("--response", metavar="R", help="The host's answer to a challenge of this home.")
@click.option("--trust", multiple=True, metavar="F",
              help="CAs whose word on attestation keys you take (attest certify).")  # fmt: skip
@click.option("--at", metavar="TIME", help="Judge certificates at this time, RFC 3339.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@pass_app
def report(
    app: App,
    file: str,
    out: str,
    nonce: str | None,
    response: str | None,
    trust: tuple[str, ...],
    at: str | None,
    force: bool,
) -> None:
    """Write what `attest verify` finds as one HTML page: sentence, questions, picture, people.

    The page carries its evidence, so that whoever gets it can judge anew: attest verify PAGE. It
    is written whatever is found; exit codes are for attest verify.
    """
    from tpmhsm.attest.format import format_evidence
    from tpmhsm.attest.report import render_report
    from tpmhsm.cli.attest_challenge import read_evidence
    from tpmhsm.cli.attest_verify import Means, judge
    from tpmhsm.cli.files import check_free, write_output

    check_free(out, force=force)
    evidence = read_evidence(app, file)
    judged = judge(app, evidence, Means(nonce, response, trust, at))
    page = render_report(judged, format_evidence(evidence))
    write_output(out, page.encode(), force=force)
    facts = {"file": out, "evidence": judged.evidence, "sentence": judged.sentence}
    app.done(facts, f"{out}: {judged.sentence}")
