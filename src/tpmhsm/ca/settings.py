"""`tpmhsm.toml` in the home: what an authority writes into certificates, and where secrets of the
chip's hierarchies are."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tpmhsm.errors import UsageError

FILE = "tpmhsm.toml"
LINTS = ("tls-br", "pkix")
_OF_AUTHORITY = (
    "base_url",
    "lint",
    "crl_days",
    "require_evidence",
    "evidence_roots",
    "evidence_keys",
)
_OF_KEYS = ("blocklists",)
_OF_REQUESTS = ("hook", "hook_seconds")
_OF_APPROVER = ("pkcs11_module",)
_OF_DEVICE = ("owner_auth_file", "endorsement_auth_file")


@dataclass(frozen=True)
class AuthoritySettings:
    """`[ca.NAME]`. `base_url` without a trailing slash, empty when there is none; `crl_days` is how
    long a CRL is good, 0 for the default. `require_evidence`: True, or the profiles for which a CSR
    must prove that its key is in a TPM; `evidence_roots` are files of who certifies attestation
    keys, `evidence_keys` Names of attestation keys in hexadecimal.
    """

    base_url: str = ""
    lint: str = "pkix"
    crl_days: int = 0
    require_evidence: bool | tuple[str, ...] = False
    evidence_roots: tuple[str, ...] = ()
    evidence_keys: tuple[str, ...] = ()

    def wants_evidence(self, profile: str) -> bool:
        """Whether CSRs for this profile must have evidence."""
        wanted = self.require_evidence
        return wanted if isinstance(wanted, bool) else profile in wanted


@dataclass(frozen=True)
class Settings:
    """The whole file, as far as authorities read it.

    `blocklists` are the files of `[keys]`: keys that nobody certifies (`tpmhsm.pki.weak_list`).
    `owner_auth_file` and `endorsement_auth_file` of `[device]` have the passwords of the chip's
    hierarchies, if somebody set any. `pkcs11_module` of `[approver]` speaks to a person's token.
    `hook` of `[requests]` is a command that is told of requests, within `hook_seconds`.
    """

    authorities: dict[str, AuthoritySettings] = field(default_factory=dict)
    blocklists: tuple[str, ...] = ()
    owner_auth_file: str = ""
    endorsement_auth_file: str = ""
    pkcs11_module: str = ""
    hook: tuple[str, ...] = ()
    hook_seconds: int = 10

    def of(self, name: str) -> AuthoritySettings:
        """The settings of one authority; the defaults when it has none."""
        return self.authorities.get(name, AuthoritySettings())


def read_settings(home: Path) -> Settings:
    """Read the file; no file means defaults. Raises UsageError naming the field that is wrong."""
    path = home / FILE
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    tables = document.get("ca", {})
    if not isinstance(tables, dict):
        raise UsageError(f"{path}: [ca] is no table")
    return Settings(
        {name: _authority(path, name, table) for name, table in tables.items()},
        _blocklists(path, document.get("keys", {})),
        **_requests(path, document.get("requests", {})),
        **_files(path, "device", document.get("device", {}), _OF_DEVICE),
        **_files(path, "approver", document.get("approver", {}), _OF_APPROVER),
    )


def _blocklists(path: Path, table: Any) -> tuple[str, ...]:
    """Paths, those that are not absolute below the home."""
    if isinstance(table, dict):
        _refuse_unknown(f"{path}, [keys]", table, _OF_KEYS)
    files = table.get("blocklists", []) if isinstance(table, dict) else None
    if not isinstance(files, list) or not all(isinstance(file, str) and file for file in files):
        raise UsageError(
            f"{path}, [keys]: blocklists is no list of files",
            hint='[keys] and below it blocklists = ["blocklist.dat"]',
        )
    return tuple(str(path.parent / file) for file in files)


def _files(path: Path, name: str, table: Any, known: tuple[str, ...]) -> dict[str, Any]:
    """Paths, those that are not absolute below the home."""
    where = f"{path}, [{name}]"
    if not isinstance(table, dict):
        raise UsageError(f"{where} is no table")
    _refuse_unknown(where, table, known)
    if not all(isinstance(file, str) and file for file in table.values()):
        raise UsageError(f"{where}: the names of files", hint=f'{known[0]} = "FILE"')
    return {name: str(path.parent / file) for name, file in table.items()}


def _requests(path: Path, table: Any) -> dict[str, Any]:
    where = f"{path}, [requests]"
    if not isinstance(table, dict):
        raise UsageError(f"{where} is no table")
    _refuse_unknown(where, table, _OF_REQUESTS)
    hook, seconds = table.get("hook", []), table.get("hook_seconds", 10)
    if not isinstance(hook, list) or not all(isinstance(word, str) and word for word in hook):
        raise UsageError(
            f"{where}: hook is no list of words",
            hint='hook = ["/usr/local/bin/tell", "--by-mail"]: no shell reads it',
        )
    if hook and not hook[0].startswith("/"):
        raise UsageError(f"{where}: hook is {hook[0]!r}", hint="an absolute path")
    if type(seconds) is not int or not 1 <= seconds <= 300:
        raise UsageError(f"{where}: hook_seconds is {seconds!r}", hint="1 to 300")
    return {"hook": tuple(hook), "hook_seconds": seconds}


def _authority(path: Path, name: str, table: Any) -> AuthoritySettings:
    where = f"{path}, [ca.{name}]"
    if not isinstance(table, dict):
        raise UsageError(
            f"{where} is no table", hint=f"[ca.NAME], and below it {_OF_AUTHORITY[0]} = …"
        )
    _refuse_unknown(where, table, _OF_AUTHORITY)
    base_url, lint = table.get("base_url", ""), table.get("lint", "pkix")
    if lint not in LINTS:
        raise UsageError(f"{where}: lint is {lint!r}; it is one of {', '.join(LINTS)}")
    if not isinstance(base_url, str) or (base_url and not _is_http(base_url)):
        raise UsageError(
            f"{where}: base_url is {base_url!r}",
            hint='base_url = "http://pki.example.com": plain http, as RFC 5280 §8 advises',
        )
    days = table.get("crl_days", 0)
    if type(days) is not int or not 0 <= days <= 365:
        raise UsageError(f"{where}: crl_days is {days!r}", hint="crl_days = 7: a number of days")
    return AuthoritySettings(
        base_url.rstrip("/"), lint, days, _profiles(where, table), **_believed(path, where, table)
    )


def _profiles(where: str, table: dict[str, Any]) -> bool | tuple[str, ...]:
    wanted = table.get("require_evidence", False)
    if isinstance(wanted, bool):
        return wanted
    from tpmhsm.pki.profiles import PROFILES

    if isinstance(wanted, list) and all(one in PROFILES for one in wanted):
        return tuple(wanted)
    raise UsageError(
        f"{where}: require_evidence is {wanted!r}",
        hint=f"true, or a list of profiles: {', '.join(PROFILES)}",
    )


def _believed(path: Path, where: str, table: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """Files, those that are not absolute below the home; Names."""
    found = {name: table.get(name, []) for name in ("evidence_roots", "evidence_keys")}
    for name, texts in found.items():
        if not isinstance(texts, list) or not all(isinstance(one, str) and one for one in texts):
            raise UsageError(f"{where}: {name} is no list of texts", hint=f'{name} = ["…"]')
    roots = tuple(str(path.parent / file) for file in found["evidence_roots"])
    return {"evidence_roots": roots, "evidence_keys": tuple(found["evidence_keys"])}


def _refuse_unknown(where: str, table: dict[str, Any], known: tuple[str, ...]) -> None:
    """A misspelt setting must not stand for its default: certificates would be without a CRL."""
    for name in table:
        if name not in known:
            raise UsageError(
                f"{where}: {name!r} is no setting", hint=f"the settings are {', '.join(known)}"
            )


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query
    except ValueError:
        return False
