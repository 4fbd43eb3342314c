"""What an approver should look at twice before a certificate or CSR is signed, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from tpmhsm.approval.content import MOST, Flag, Listing, few
from tpmhsm.approval.memory import Certified
from tpmhsm.approval.request import Request
from tpmhsm.approval.screen import readable, suspicions
from tpmhsm.errors import TpmHsmError

MANY_NAMES = 20
BACKDATED = timedelta(days=7)
LEAF_DAYS, SERVER_DAYS, CA_DAYS = 825, 398, 20 * 366
"""Without a profile's own limit: what is unusual for a leaf, a TLS server, a CA."""

MIN_SERIAL_BITS = 64

WIDEST = 3
"""So many wildcards are named, those for the most hosts first."""


def certificate_flags(
    facts: dict[str, Any], request: Request, known: Sequence[Certified], now: datetime
) -> Iterator[Flag]:
    """Flags of a TBSCertificate itself; `known` are earlier approvals for the same key, `now` the
    approver's own time.
    """
    yield from name_flags(facts, request, known)
    yield from _validity_flags(facts, request, now)
    if facts["version"] != 3:
        yield Flag("VERSION", f"X.509 version {facts['version']}, not 3")
    serial = facts["serial"]
    if serial.startswith("-") or len(serial) * 4 < MIN_SERIAL_BITS or not serial.strip("0"):
        yield Flag("SERIAL", f"{serial} can be guessed, or is not allowed (RFC 5280)")
    if facts["self_issued"] and not facts["own_key"]:
        yield Flag("SELF-ISSUED", "subject and issuer are one name, the keys are two")
    if "ocspNoCheck" in {one["name"] for one in facts["extensions"]}:
        words = f"nobody asks whether it is revoked: it counts until {facts['not_after'][:10]}"
        yield Flag("NO CHECK", words)
    if facts["own_key"] and not facts["self_issued"]:
        yield Flag("OWN KEY", "the key certifies itself under another name")


def name_flags(
    facts: dict[str, Any], request: Request, known: Sequence[Certified]
) -> Iterator[Flag]:
    """Flags of what both certificates and CSRs have: names, CA, usage, extensions."""
    yield from _ca_flags(facts)
    names = [readable(name) for name in facts["sans"]]
    yield from _wildcards(names)
    if len(names) > MANY_NAMES:
        yield Flag(f"{len(names):,} NAMES", "read them all: they are listed below")
    yield from _odd_names([readable(facts["subject"]), *names])
    if "OCSPSigning" in facts["extended_key_usage"]:
        words = "says for its issuer which certificates are revoked, and can call each one good"
        yield Flag("OCSP SIGNER", words)
    if "anyExtendedKeyUsage" in facts["extended_key_usage"]:
        yield Flag("ANY USAGE", "the certificate is good for every purpose")
    if not names and any(e["name"] == "subjectAltName" for e in facts["extensions"]):
        yield Flag("ODD", "alternative names without any name")
    yield from few(
        Flag("UNKNOWN", f"critical extension {oid}: not decoded here")
        for oid in facts["unknown_critical"]
    )
    subject = readable(facts["subject"])
    for other in sorted({one.subject for one in known if one.subject != subject}):
        yield Flag("KNOWN KEY", f"approved before as {other}")
    stated = request.claims.texts.get("subject")
    if stated is not None and stated != facts["subject"]:
        yield Flag("CLAIM", f"the host says the subject is {readable(stated)}")


def finding_flags(facts: dict[str, Any], subject: bytes, spki: bytes) -> Iterator[Flag]:
    """What the checks of keys and names say of the same bytes, on this machine too."""
    from tpmhsm.pki.host_checks import san_findings
    from tpmhsm.pki.key_checks import spki_findings
    from tpmhsm.pki.subject_checks import subject_findings

    yield from (Flag("WEAK KEY", one.text) for one in spki_findings(spki))
    found = [*subject_findings(subject), *san_findings(facts["sans"])]
    told = [readable(one.text) for one in found if one.code not in _LOOK_ALIKE]
    yield from few(Flag("NAME", text) for text in told)


_LOOK_ALIKE = ("name-disguised", "dn-hidden")
"""`_odd_names` says these, of every part of a name."""


def _ca_flags(facts: dict[str, Any]) -> Iterator[Flag]:
    if not facts["ca"]:
        if "keyCertSign" in facts["key_usage"]:
            yield Flag("KEY USAGE", "certSign without CA:TRUE: some software takes it for a CA")
        return
    limits = facts["name_constraints"] or {}
    permitted = [readable(name) for name in limits.get("permitted", ())]
    under = f"names under {', '.join(permitted[:3])}" if permitted else "any name"
    yield Flag("CA:TRUE", f"can issue {under}{' …' if len(permitted) > 3 else ''}")
    length = facts["path_length"]
    if length is None and not facts.get("own_key"):
        yield Flag("NO PATHLEN", "can make further CAs, to any depth")
    elif length:
        yield Flag(f"PATHLEN {length}", f"can make further CAs, {length} deep")
    if facts["key_usage"] and "keyCertSign" not in facts["key_usage"]:
        yield Flag("KEY USAGE", "a CA without certSign")


def _wildcards(names: Iterable[str]) -> Iterator[Flag]:
    wild = sorted((name for name in names if "*" in name), key=lambda name: name.count("."))
    if wild:
        more = f" and {len(wild) - WIDEST:,} more" if len(wild) > WIDEST else ""
        named = ", ".join(name[:60] for name in wild[:WIDEST])
        yield Flag("WILDCARD", f"{named}{more}: good for every host there")


def _odd_names(names: Iterable[str]) -> Iterator[Flag]:
    return iter(few(Flag("LOOK-ALIKE", text) for text in _odd(names)))


def _odd(names: Iterable[str]) -> list[str]:
    """What is odd about which name; what hides or disguises first, lest the harmless cover it."""
    found = [(name, why) for name in names for why in suspicions(name)]
    found.sort(key=lambda one: (not one[1].startswith("hidden"), one[1].startswith("xn--")))
    return [f"{name[:60]}: {why}" for name, why in found]


def odd_listings(facts: dict[str, Any]) -> tuple[Listing, ...]:
    """All the names that warnings are about, where warnings tell only the first of them."""
    names = [readable(name) for name in facts["sans"]]
    odd = _odd([readable(facts["subject"]), *names])
    wild = [name for name in names if "*" in name]
    items = (*(odd if len(odd) > MOST else ()), *(wild if len(wild) > WIDEST else ()))
    return (Listing(f"{len(items):,} names to look at", items),) if items else ()


def _validity_flags(facts: dict[str, Any], request: Request, now: datetime) -> Iterator[Flag]:
    days, limit = facts["valid_days"], request.claims.profile_days
    usual = CA_DAYS if facts["ca"] else LEAF_DAYS
    if "serverAuth" in facts["extended_key_usage"] and not facts["ca"]:
        usual = SERVER_DAYS
    if limit and days > limit:
        yield Flag(f"{days:,} DAYS", f"profile says {limit:,}")
    elif days > usual:
        yield Flag(f"{days:,} DAYS", f"more than {usual:,} is unusual")
    start, end = _moment(facts["not_before"]), _moment(facts["not_after"])
    if end < start:
        yield Flag("NEVER VALID", "it ends before it begins")
    if start < now - BACKDATED:
        yield Flag("BACKDATED", f"valid from {facts['not_before'][:10]}")
    if end < now:
        yield Flag("EXPIRED", f"it ended {facts['not_after'][:10]}")
    stated = request.claims.texts.get("not_after")
    if stated is not None and stated != facts["not_after"]:
        yield Flag("CLAIM", f"the host says it ends {readable(stated)}")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def issuer_flags(
    facts: dict[str, Any], request: Request, own: Sequence[Certified]
) -> Iterator[Flag]:
    """Flags of the issuer's name against the issuer's certificate that the host shows, and
    against what this home approved for the signing key (`own`) before.
    """
    issuer = readable(facts["issuer"])
    known = sorted({one.subject for one in own if one.ca})
    if known and issuer not in known and not facts["own_key"]:
        yield Flag("ISSUER", f"this key was approved as {known[0]}")
    if request.claims.issuer:
        yield from _issuer_certificate(facts, request)


def _issuer_certificate(facts: dict[str, Any], request: Request) -> Iterator[Flag]:
    from tpmhsm.attest.statements import signing_key
    from tpmhsm.pki.load import load_certificate
    from tpmhsm.pki.tbs import read_tbs_certificate

    try:
        certificate = load_certificate(request.claims.issuer, "the issuer's certificate")
        fields = read_tbs_certificate(certificate.tbs_certificate_bytes)
    except TpmHsmError:
        yield Flag("ISSUER", "the issuer's certificate that the host shows cannot be read")
        return
    if fields.subject != read_tbs_certificate(request.content).issuer:
        yield Flag("ISSUER", "not the subject of the issuer's certificate that the host shows")
    if request.key is not None and fields.spki != signing_key(request.key.public).spki:
        yield Flag("ISSUER", "the issuer's certificate that the host shows is for another key")
    if not facts["own_key"] and _moment(facts["not_after"]) > fields.not_after:
        yield Flag("OUTLIVES", f"its issuer ends {fields.not_after:%Y-%m-%d}")
