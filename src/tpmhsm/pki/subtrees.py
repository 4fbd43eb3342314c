"""Name constraints as validation needs them: read from DER, indexed, asked about one name.

RFC 5280 sections 4.2.1.10 and 6.1.4 (g). Each question costs a few look-ups however many subtrees
there are; `size` lets the caller bound the work all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.general_names import GeneralName, format_general_name, read_general_name

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_COMPARED = ("dns", "ip", "email", "uri", "dirname")
_SMTP_UTF8 = "1.3.6.1.5.5.7.8.9"


class Subtrees:
    """The extension of one CA: permitted and excluded subtrees."""

    def __init__(self, permitted: Sequence[GeneralName], excluded: Sequence[GeneralName]) -> None:
        self.size = len(permitted) + len(excluded)
        self._permitted = _by_kind(permitted)
        self._excluded = _by_kind(excluded)

    def violation(self, name: GeneralName) -> str:
        """In words why the name is not allowed; empty when it is."""
        mailbox = _mailbox_in(name)
        return (self._violation(mailbox) if mailbox else "") or self._violation(name)

    def _violation(self, name: GeneralName) -> str:
        permitted, excluded = self._permitted.get(name.kind), self._excluded.get(name.kind)
        if permitted is None and excluded is None:
            return ""
        if name.kind not in _COMPARED:
            return self._uncompared(name)
        if not _is_sound(name):
            why = "is no proper name, so no constraint can be met"
        elif permitted is not None and not permitted.holds(name):
            why = f"is outside what the issuer may certify ({permitted.text()})"
        elif excluded is not None and excluded.touches(name):
            why = f"is excluded by the issuer ({excluded.text()})"
        else:
            return ""
        return f"{format_general_name(name)} {why}"

    def _uncompared(self, name: GeneralName) -> str:
        """Forms for which RFC 5280 has no rules: a constraint on one refuses every such name."""
        trees = [t for t in (self._permitted.get(name.kind), self._excluded.get(name.kind)) if t]
        if name.kind == "othername":
            types = {base.value[0] for tree in trees for base in tree.bases}
            if name.value[0] not in types:
                return ""
        return f"{format_general_name(name)} is of a kind whose constraints cannot be judged"


def _mailbox_in(name: GeneralName) -> GeneralName | None:
    """A SmtpUTF8Mailbox as the mailbox that it is: constraints on those hold for it (RFC 9598, 6).

    One that does not decode is a mailbox that no constraint lets pass.
    """
    if name.kind != "othername" or name.value[0] != _SMTP_UTF8:
        return None
    try:
        _, value = der.children(name.raw)
        text = der.read_whole(value.content).content.decode()
    except (ParseError, ValueError):
        text = ""
    return GeneralName("email", text, name.raw)


def read_subtrees(value: bytes) -> Subtrees:
    """The NameConstraints extension. ParseError for one that is empty or malformed."""
    element = der.read_whole(value)
    parts = der.children(element.content) if element.tag == der.SEQUENCE else []
    sides: dict[int, list[GeneralName]] = {0xA0: [], 0xA1: []}
    if not parts or [p.tag for p in parts] != sorted({p.tag for p in parts}):
        raise ParseError("name constraints that constrain nothing")
    for part in parts:
        if part.tag not in sides or not part.content:
            raise ParseError("name constraints with an empty or unknown list")
        sides[part.tag] = [_subtree(item) for item in der.children(part.content)]
    return Subtrees(sides[0xA0], sides[0xA1])


def _subtree(item: der.Element) -> GeneralName:
    parts = der.children(item.content) if item.tag == der.SEQUENCE else []
    if not parts:
        raise ParseError("a name constraint without a name")
    if [(part.tag, part.content) for part in parts[1:]] not in ([], [(0x80, b"\0")]):
        raise ParseError("a name constraint with a minimum or maximum")
    base = read_general_name(parts[0])
    check = _BASES.get(base.kind)
    if check is not None and not check(base.value):
        raise ParseError(f"a malformed name constraint ({format_general_name(base)})")
    return base


def _is_host(text: str) -> bool:
    return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.split("."))


def _is_host_base(text: str) -> bool:
    return not text or _is_host(text.removeprefix("."))


def _is_mail_base(text: str) -> bool:
    local, at, host = text.rpartition("@")
    return bool(local) and "@" not in local and _is_host(host) if at else _is_host_base(text)


def _is_network(octets: bytes) -> bool:
    if len(octets) not in (8, 32):
        return False
    mask = octets[len(octets) // 2 :]
    bits = f"{int.from_bytes(mask, 'big'):0{len(mask) * 8}b}"
    return "01" not in bits


_BASES: dict[str, Callable[[Any], bool]] = {
    "dns": _is_host_base,
    "uri": _is_host_base,
    "email": _is_mail_base,
    "ip": _is_network,
}


def is_sound_host(text: str) -> bool:
    """Whether a dNSName is one: labels of the right form, a wildcard only as the whole first."""
    return _is_host(text.removeprefix("*."))


def _is_sound(name: GeneralName) -> bool:
    match name.kind:
        case "dns":
            return is_sound_host(name.value)
        case "ip":
            return len(name.value) in (4, 16)
        case "email":
            local, at, host = name.value.rpartition("@")
            quoted = local.startswith('"') and local.endswith('"')
            return bool(at and local) and ("@" not in local or quoted) and _is_host(host)
        case "uri":
            return _is_host(_uri_host(name.value))
    return True


def _uri_host(text: str) -> str:
    """The host of a URI; empty where it has none, or an address."""
    try:
        host = urlsplit(text).hostname or ""
    except ValueError:
        return ""
    return "" if host.rpartition(".")[2].isdigit() or ":" in host else host


class _Tree:
    """Subtrees of one kind. `holds`: the name lies in one; `touches`: it reaches into one."""

    def __init__(self, bases: Sequence[GeneralName]) -> None:
        self.bases = bases

    def text(self) -> str:
        shown = [format_general_name(base) for base in self.bases[:4]]
        return ", ".join(shown) + (" …" if len(self.bases) > 4 else "")

    def holds(self, name: GeneralName) -> bool:
        raise NotImplementedError

    def touches(self, name: GeneralName) -> bool:
        return self.holds(name)


class _Hosts:
    """Host names and, with a leading dot, domains whose hosts are meant."""

    def __init__(self, texts: Iterable[str]) -> None:
        lowered = [text.lower() for text in texts]
        self.exact = {text for text in lowered if not text.startswith(".")}
        self.dotted = {text[1:] for text in lowered if text.startswith(".")}
        self.parents = {text.partition(".")[2] for text in self.exact}

    def below(self, host: str) -> bool:
        """The host lies in a domain given with a leading dot."""
        return any(above in self.dotted for above in _domains(host)[1:])


def _domains(host: str) -> list[str]:
    """The host and every domain above it."""
    labels = host.split(".")
    return [".".join(labels[i:]) for i in range(len(labels))]


class _DnsTree(_Tree):
    def __init__(self, bases: Sequence[GeneralName]) -> None:
        super().__init__(bases)
        self.hosts = _Hosts(base.value for base in bases)

    def holds(self, name: GeneralName) -> bool:
        # All hosts that a wildcard stands for lie in a subtree when its domain does.
        host = name.value.lower()
        bare = host.removeprefix("*.")
        if "" in self.hosts.exact or any(d in self.hosts.exact for d in _domains(bare)):
            return True
        return self.hosts.below(host)

    def touches(self, name: GeneralName) -> bool:
        host = name.value.lower()
        wild = host.startswith("*.") and host[2:] in self.hosts.parents
        return wild or self.holds(name)


class _UriTree(_Tree):
    def __init__(self, bases: Sequence[GeneralName]) -> None:
        super().__init__(bases)
        self.hosts = _Hosts(base.value for base in bases)

    def holds(self, name: GeneralName) -> bool:
        host = _uri_host(name.value).lower()
        return "" in self.hosts.exact or host in self.hosts.exact or self.hosts.below(host)


class _MailTree(_Tree):
    def __init__(self, bases: Sequence[GeneralName]) -> None:
        super().__init__(bases)
        self.boxes = {_mailbox(base.value) for base in bases if "@" in base.value}
        self.hosts = _Hosts(base.value for base in bases if "@" not in base.value)

    def holds(self, name: GeneralName) -> bool:
        host = name.value.rpartition("@")[2].lower()
        hosts = self.hosts
        known = "" in hosts.exact or host in hosts.exact or hosts.below(host)
        return known or _mailbox(name.value) in self.boxes


def _mailbox(text: str) -> tuple[str, str]:
    local, _, host = text.rpartition("@")
    return local, host.lower()


class _AddressTree(_Tree):
    def __init__(self, bases: Sequence[GeneralName]) -> None:
        super().__init__(bases)
        halves = [(base.value[: len(base.value) // 2], base.value) for base in bases]
        self.networks = {
            (len(net), _number(both[len(net) :]), _number(net) & _number(both[len(net) :]))
            for net, both in halves
        }
        self.masks = {(size, mask) for size, mask, _ in self.networks}

    def holds(self, name: GeneralName) -> bool:
        size, address = len(name.value), _number(name.value)
        return any((size, m, address & m) in self.networks for s, m in self.masks if s == size)


def _number(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


class _DirectoryTree(_Tree):
    def __init__(self, bases: Sequence[GeneralName]) -> None:
        super().__init__(bases)
        self.keys = {base.value for base in bases}
        self.lengths = {len(key) for key in self.keys}

    def holds(self, name: GeneralName) -> bool:
        return any(name.value[:length] in self.keys for length in self.lengths)


_TREES: dict[str, type[_Tree]] = {
    "dns": _DnsTree,
    "ip": _AddressTree,
    "email": _MailTree,
    "uri": _UriTree,
    "dirname": _DirectoryTree,
}


def _by_kind(bases: Sequence[GeneralName]) -> dict[str, _Tree]:
    kinds: dict[str, list[GeneralName]] = {}
    for base in bases:
        kinds.setdefault(base.kind, []).append(base)
    return {kind: _TREES.get(kind, _Tree)(found) for kind, found in kinds.items()}
