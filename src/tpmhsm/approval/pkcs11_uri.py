"""PKCS #11 URIs (RFC 7512): which token, which key, through which module.

    pkcs11:token=work;object=alice?module-path=/usr/lib/softhsm/libsofthsm2.so

What is not understood is refused: an attribute that is misspelt would match other keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from tpmhsm.errors import UsageError

SCHEME = "pkcs11:"

_TOKEN = ("token", "manufacturer", "serial", "model")
_MODULE = ("library-manufacturer", "library-description", "library-version")
_SLOT = ("slot-manufacturer", "slot-description", "slot-id")
_KEY = ("object", "id", "type")
_QUERY = ("module-path", "module-name", "pin-source")
_TYPES = ("private", "public")

_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class Pkcs11Uri:
    """What a URI says. `token`: attributes of the token, its slot and its library, decoded.

    `label` and `key_id` name the key, each None when the URI leaves it open. `module_path` is
    absolute; `pin_file` an absolute path; all empty when they are not there.
    """

    token: Mapping[str, str]
    label: str | None = None
    key_id: bytes | None = None
    module_path: str = ""
    module_name: str = ""
    pin_file: str = ""

    @property
    def names_a_key(self) -> bool:
        """Whether the URI names the key, not the token alone."""
        return self.label is not None or self.key_id is not None


def parse_uri(text: str) -> Pkcs11Uri:
    """Read a URI. UsageError for what RFC 7512 does not allow, and for a PIN written into it."""
    if not text.startswith(SCHEME):
        raise UsageError(f"{text[:80]!a} is no PKCS #11 URI", hint="pkcs11:token=NAME;object=KEY")
    path, _, query = text.removeprefix(SCHEME).partition("?")
    if "pin-value" in text:
        raise UsageError(
            "a PKCS #11 URI with pin-value: other programs see arguments, so a PIN is none",
            code="pin-in-argument",
            hint="leave it out to be asked; or pin-source=file:/PATH, or --passphrase-file F",
        )
    found = _pairs(path, ";", (*_TOKEN, *_MODULE, *_SLOT, *_KEY))
    asked = _pairs(query, "&", _QUERY)
    if (kind := found.get("type", b"private").decode("utf-8", "replace")) not in _TYPES:
        raise UsageError(f"a PKCS #11 URI for type={kind[:20]!a}: an approver needs a private key")
    return Pkcs11Uri(
        token={n: _words(n, found[n]) for n in (*_TOKEN, *_MODULE, *_SLOT) if n in found},
        label=_words("object", found["object"]) if "object" in found else None,
        key_id=found.get("id"),
        module_path=_absolute("module-path", _words("module-path", asked.get("module-path", b""))),
        module_name=_name(_words("module-name", asked.get("module-name", b""))),
        pin_file=_pin_file(_words("pin-source", asked.get("pin-source", b""))),
    )


def _pairs(text: str, separator: str, known: tuple[str, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in text.split(separator) if text else ():
        name, equals, value = part.partition("=")
        if name not in known or not equals:
            raise UsageError(
                f"a PKCS #11 URI with {name[:40]!a}: not known here",
                hint=f"{'before' if separator == ';' else 'after'} the ? stand: {', '.join(known)}",
            )
        if name in found:
            raise UsageError(f"a PKCS #11 URI that says {name} twice")
        if _PERCENT.search(value) or not value.isascii():
            raise UsageError(f"a PKCS #11 URI whose {name} is not percent-encoded as RFC 7512 asks")
        found[name] = unquote_to_bytes(value)
    return found


def _words(name: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise UsageError(f"a PKCS #11 URI whose {name} is not UTF-8") from None
    if "\0" in text:
        raise UsageError(f"a PKCS #11 URI whose {name} has a zero byte")
    return text


def _absolute(name: str, path: str) -> str:
    if path and not path.startswith("/"):
        raise UsageError(f"a PKCS #11 URI whose {name} is not absolute", hint=f"{name}=/…")
    return path


def _name(name: str) -> str:
    if "/" in name:
        raise UsageError("a PKCS #11 URI whose module-name is a path", hint="module-path=/…")
    return name


def _pin_file(source: str) -> str:
    if source.startswith("|"):
        raise UsageError(
            "a PKCS #11 URI whose pin-source is a command: none is run for a PIN",
            hint="pin-source=file:/PATH",
        )
    path = source.removeprefix("file:")
    return _absolute("pin-source", path.removeprefix("//") if path.startswith("///") else path)
