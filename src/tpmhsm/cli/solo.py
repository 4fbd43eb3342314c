"""`tpmhsm init --solo`: an open root and issuer for a first try or a laptop, in one command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from tpmhsm.cli.app import App
from tpmhsm.cli.options import packed
from tpmhsm.errors import ExistsError, NotFoundError, UsageError

if TYPE_CHECKING:
    from cryptography import x509

ROOT, ISSUER = "solo-root", "solo"
"""The authorities, and their keys."""

LOOPBACK = ("dns:localhost", "ip:127.0.0.0/8", "ip:::1/128")
OPEN = (
    "open: anyone who can use this machine's chip issues by it, within these names.\n"
    "Its keys demand nothing, for ever: they never become a quorum's.\n"
    "A CA that people govern is another one, with new keys: tpmhsm ceremony"
)


@dataclass(frozen=True)
class Solo:
    """What `init` was asked for."""

    wanted: bool
    domains: tuple[str, ...]
    name: str | None

    def check(self) -> None:
        """UsageError for options that go with --solo alone, and for domains that are none."""
        if not self.wanted and (self.domains or self.name):
            raise UsageError("--domain and --name go with --solo", hint="tpmhsm init --solo")
        _ = self.permitted

    @property
    def permitted(self) -> tuple[str, ...]:
        """The name constraints. All kinds of names that a server or a person has are limited: what
        is not listed would be free otherwise (RFC 5280 section 4.2.1.10).
        """
        from tpmhsm.pki.hosts import normalize_host

        domains = [normalize_host(one.removeprefix("*.").removeprefix(".")) for one in self.domains]
        mine = [f"{kind}:{one}" for one in domains for kind in ("dns", "email", "uri")]
        if not domains:
            mine = ["email:localhost", "uri:localhost"]
        return (*dict.fromkeys(mine), *LOOPBACK)


solo_options = packed(
    "solo",
    Solo,
    click.option("--solo", "wanted", is_flag=True,
                 help="Also an open root and issuer, for a year: for a first try or a laptop."),
    click.option("--domain", "domains", multiple=True, metavar="NAME",
                 help="With --solo: only names below this, beside localhost; repeatable."),
    click.option("--name", metavar="TEXT", help="With --solo: what the root is called."),
)  # fmt: skip


def set_up(app: App, solo: Solo) -> dict[str, Any]:
    """Make what is missing of keys and authorities; JSON-ready facts. Again changes nothing, and
    goes on with what was interrupted.

    Raises ExistsError where a key or an authority of these names is another one.
    """
    import socket

    from tpmhsm.pki.options import IssueOptions

    permitted = solo.permitted
    called = solo.name or f"Solo of {socket.gethostname().partition('.')[0]}"
    fresh = not _is_there(app, ROOT, permitted if solo.domains else None)
    if not fresh and solo.name:
        _must_be_called(app, _subject(called, "root"))
    if fresh:
        _open_key(app, ROOT)
        limits = IssueOptions(permitted=permitted)
        app.authorities.create(
            ROOT, ROOT, _subject(called, "root"), profile="limited-root", options=limits
        )
    root = app.authorities.certificate(ROOT)
    if not _is_there(app, ISSUER, None):
        _open_key(app, ISSUER)
        limits = IssueOptions(permitted=tuple(_permitted_by(root)))
        app.authorities.create(
            ISSUER, ISSUER, _subject(called, "issuer"), issuer=ROOT, options=limits
        )
    issuer = app.authorities.certificate(ISSUER)
    return {
        "new": fresh,
        "root": ROOT,
        "issuer": ISSUER,
        "policy": "open",
        "subject": root.subject.rfc4514_string(),
        "issuer_subject": issuer.subject.rfc4514_string(),
        "permitted": _permitted_by(root),
        "not_after": f"{root.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
    }


def words(found: dict[str, Any]) -> list[tuple[str, object]]:
    """The same for people."""
    names = found["permitted"]
    first = next((n.removeprefix("dns:") for n in names if n.startswith("dns:")), "localhost")
    host = first if first == "localhost" else f"www.{first}"
    return [
        ("Root", f"{found['root']}: {found['subject']}, until {found['not_after'][:10]}"),
        ("Issuer", f"{found['issuer']}: {found['issuer_subject']}"),
        ("Only for", "\n".join(names)),
        ("Policy", OPEN),
        ("Next", f"tpmhsm ca issue {ISSUER} --host {host} --chain --out {host}.pem\n"
                 f"tpmhsm cert export {ROOT} --out root.pem: what clients are told to trust"),
    ]  # fmt: skip


def _subject(called: str, what: str) -> str:
    """A distinguished name. The word behind a space keeps it from reading as a host."""
    from cryptography import x509

    try:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{called} {what}")])
    except ValueError as error:
        raise UsageError(f"{called!r} is no name for a CA: {error}") from error
    return name.rfc4514_string()


def _open_key(app: App, label: str) -> None:
    try:
        row = app.keyring.get(label)
    except NotFoundError:
        app.keyring.create(label, "p256", policy="open")
        return
    if row.policy != "open":
        raise ExistsError(
            f"there is a key {label!r} already, and it is not open but {row.policy}",
            hint="a solo CA is not grown into another, nor out of one: --home names another home",
        )


def _is_there(app: App, name: str, permitted: tuple[str, ...] | None) -> bool:
    """Whether the authority is made. ExistsError where its names are others than `permitted`."""
    row = next((row for row in app.authorities.all() if row.name == name), None)
    if row is None or row.state == "pending":
        return False
    if row.key_label != name:
        raise ExistsError(
            f"there is an authority {name!r} already, of the key {row.key_label}",
            hint="--home names another home",
        )
    held = _permitted_by(app.authorities.certificate(name))
    if permitted is not None and set(held) != set(permitted):
        raise ExistsError(
            f"the authority {name!r} is for other names: {', '.join(held)}",
            hint="name constraints never change: tpmhsm --home DIR init --solo --domain NAME "
            "makes another one",
        )
    return True


def _must_be_called(app: App, subject: str) -> None:
    held = app.authorities.certificate(ROOT).subject.rfc4514_string()
    if held != subject:
        raise ExistsError(
            f"the authority {ROOT!r} is called {held}", hint="--home names another home"
        )


def _permitted_by(certificate: x509.Certificate) -> list[str]:
    """The name constraints of a certificate, as --permit takes them."""
    from cryptography import x509

    from tpmhsm.pki.sans import format_san

    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return []
    return [format_san(name).replace("DNS:", "dns:") for name in found.permitted_subtrees or ()]
