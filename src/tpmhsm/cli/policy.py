"""`tpmhsm policy`: what a key demands, as text, in words and as a digest."""

from __future__ import annotations

from pathlib import Path

import click

from tpmhsm.cli.app import App, facts, pass_app


@click.group(epilog="Example: tpmhsm policy check 'quorum(officers)'")
def policy() -> None:
    """Policies as text: check, explain, digest."""


def policy_text(app: App, given: str) -> str:
    """The policy's text: what was given, or the content of the file it names."""
    if given == "-" or ("(" not in given and Path(given).is_file()):
        return app.read(given).decode(errors="replace").strip()
    return given


@policy.command()
@click.argument("given", metavar="TEXT|FILE")
@pass_app
def check(app: App, given: str) -> None:
    """Is this a policy that a key can have?"""
    from tpmhsm.policy.text import format_policy, parse_policy

    text = format_policy(parse_policy(policy_text(app, given)))
    app.emit({"policy": text, "valid": True}, f"{text}: a policy")


@policy.command()
@click.argument("given", metavar="TEXT|FILE")
@pass_app
def explain(app: App, given: str) -> None:
    """Who can do what, and what is not protected."""
    from tpmhsm.policy.text import format_policy, parse_policy

    parsed = parse_policy(policy_text(app, given))
    words = app.groups.explain_policy(parsed)
    app.emit({"policy": format_policy(parsed), "text": words}, words)


@policy.command()
@click.argument("given", metavar="TEXT|FILE")
@pass_app
def digest(app: App, given: str) -> None:
    """The authPolicy that a key of this policy has in the chip."""
    from tpmhsm.policy.text import format_policy, parse_policy

    parsed = parse_policy(policy_text(app, given))
    value = app.groups.policy_digest(parsed)
    found = {"policy": format_policy(parsed), "digest": value.hex()}
    app.emit(found, facts([("Policy", found["policy"]), ("Digest", value.hex() or "(empty)")]))
