"""`tpmhsm policy`: what a key demands, as text, in words and as a digest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tpmhsm.cli.app import App, facts, pass_app
from tpmhsm.cli.files import STDIO
from tpmhsm.errors import NotFoundError, ParseError, StoreError

if TYPE_CHECKING:
    from tpmhsm.policy.model import Policy


@click.group(epilog="Example: tpmhsm policy check 'quorum(officers)'")
def policy() -> None:
    """Policies as text: check, explain, digest."""


def policy_text(app: App, given: str) -> str:
    """The policy's text: what was given, or the content of the file it names."""
    if given != STDIO and ("(" in given or not _is_file(given)):
        return given
    try:
        return app.read(given).decode().strip()
    except UnicodeDecodeError:
        raise ParseError(f"{given} is no policy: it is not even text") from None


def _is_file(given: str) -> bool:
    try:
        return Path(given).is_file()
    except (OSError, ValueError):
        return False


@policy.command(epilog="Example: tpmhsm policy check 'quorum(officers)'")
@click.argument("given", metavar="TEXT|FILE")
@pass_app
def check(app: App, given: str) -> None:
    """Is this a policy that a key can have?"""
    from tpmhsm.policy.text import format_policy, parse_policy

    text = format_policy(parse_policy(policy_text(app, given)))
    app.emit({"policy": text, "valid": True}, f"{text}: a policy")


@policy.command(epilog="Example: tpmhsm policy explain 'quorum(officers)'")
@click.argument("given", metavar="TEXT|FILE")
@pass_app
def explain(app: App, given: str) -> None:
    """Who can do what, and what is not protected."""
    from tpmhsm.policy.text import format_policy, parse_policy

    parsed = parse_policy(policy_text(app, given))
    words = _explained(app, parsed)
    app.emit({"policy": format_policy(parsed), "text": words}, words)


def _explained(app: App, parsed: Policy) -> str:
    """With the people of the groups that are known in this home, if there is one."""
    from tpmhsm.policy.explain import explain_policy
    from tpmhsm.policy.model import groups_of

    if not groups_of(parsed):
        return "\n".join(explain_policy(parsed))
    try:
        return app.groups.explain_policy(parsed)
    except (StoreError, NotFoundError) as error:
        if error.code not in ("missing", "not-found"):
            raise
        return "\n".join(explain_policy(parsed))


@policy.command(epilog="Example: tpmhsm policy digest 'quorum(officers)'")
@click.argument("given", metavar="TEXT|FILE")
@pass_app
def digest(app: App, given: str) -> None:
    """The authPolicy that a key of this policy has in the chip."""
    from tpmhsm.policy.model import Open, makeable
    from tpmhsm.policy.text import format_policy, parse_policy

    parsed = makeable(parse_policy(policy_text(app, given)))
    value = b"" if isinstance(parsed, Open) else app.groups.policy_digest(parsed)
    found = {"policy": format_policy(parsed), "digest": value.hex()}
    app.emit(found, facts([("Policy", found["policy"]), ("Digest", value.hex() or "(empty)")]))
