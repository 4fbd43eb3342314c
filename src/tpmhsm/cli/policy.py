"""`tpmhsm policy`: what a key demands, as text, in words and as a digest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tpmhsm.cli.app import App, facts, pass_app, prose
from tpmhsm.cli.files import STDIO
from tpmhsm.errors import NotFoundError, ParseError, StoreError, UsageError

if TYPE_CHECKING:
    from tpmhsm.policy.model import Policy


_WORDS = ("open", "pin")


@click.group(epilog="Example: tpmhsm policy check 'quorum(officers)'")
def policy() -> None:
    """Policies as text: check, explain, digest."""


def policy_text(app: App, given: str) -> str:
    """The policy's text: what was given, or the content of the file it names.

    A file called `pin` is not meant by `pin`: errors would show what it holds. `./pin` is.
    """
    if given != STDIO and (given in _WORDS or "(" in given or not _is_file(given)):
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


@policy.command(epilog="Example: tpmhsm policy check 'all(quorum(officers), pin)'")
@click.argument("given", metavar="TEXT|FILE")
@click.option("--toml", is_flag=True, help="Print the policy as a document.")
@pass_app
def check(app: App, given: str, toml: bool) -> None:
    """Is this a policy that a key can have? Says it in its canonical form."""
    from tpmhsm.policy.published import format_document, read_policy

    found = read_policy(policy_text(app, given))
    document = format_document(found)
    app.emit(
        {"policy": found.text, "valid": True, "document": document},
        document.rstrip() if toml else f"{found.text}: a policy",
    )


@policy.command(epilog="Example: tpmhsm policy explain 'quorum(officers)'")
@click.argument("given", metavar="TEXT|FILE", required=False)
@click.option("--key", "label", metavar="LABEL", help="Explain the policy of a key instead.")
@pass_app
def explain(app: App, given: str | None, label: str | None) -> None:
    """Who can do what, what is not protected, and what root could still do."""
    from tpmhsm.policy.text import format_policy

    if (given is None) == (label is None):
        raise UsageError(
            "a policy, or --key LABEL", hint="tpmhsm policy explain 'quorum(officers)'"
        )
    if label is None:
        parsed = _written(policy_text(app, given or ""))
        words = _explained(app, parsed)
    else:
        parsed, words = _of_key(app, label)
    app.emit({"policy": format_policy(parsed), "text": words}, lambda: prose(words))


def _of_key(app: App, label: str) -> tuple[Policy, str]:
    """A key's policy in words, after what must be known of the key before."""
    from tpmhsm.keys.births import was_imported
    from tpmhsm.policy.words import explain_copies, explain_use, of_imported

    row = app.keyring.get(label)
    bound, imported = app.keyring.policy(row), was_imported(row)
    parsed = bound.policy
    said = _explained(app, parsed).split("\n")
    states = {name: app.groups.state(name) for name in bound.backup}
    known = {name: (one.group, one.roster) for name, one in states.items()}
    said += explain_copies(bound, known)
    about = explain_use(decrypts=row.use == "decrypt", imported=imported)
    return parsed, "\n".join([*about, *(of_imported(said) if imported else said)])


def _written(text: str) -> Policy:
    """The policy as it was written, though no key can have it: that is explained, too."""
    from tpmhsm.policy.published import is_document, read_policy
    from tpmhsm.policy.text import parse_policy

    return read_policy(text).policy if is_document(text) else parse_policy(text)


def _explained(app: App, parsed: Policy) -> str:
    """With the people of the groups that are known in this home, if there is one."""
    from tpmhsm.policy.model import groups_of
    from tpmhsm.policy.words import explain_policy

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
    """The authPolicy of a key of this policy.

    A document that was published with a key has all it takes; otherwise groups are those of this
    home, and PCRs are measured now.
    """
    from tpmhsm.policy.published import read_policy

    found = read_policy(policy_text(app, given))
    if not (found.is_open or found.is_complete):
        from tpmhsm.keys.choice import bind

        found = bind(found, app.groups, app.device)
    value = found.digest.hex()
    app.emit(
        {"policy": found.text, "digest": value},
        facts([("Policy", found.text), ("Digest", value or "(empty)")]),
    )
