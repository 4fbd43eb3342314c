"""What chips and firmware leave in files: event logs, EK certificates as read from NV.

Nothing is verified: a log is proven by a quote, an EK certificate by a pinned root.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tpmhsm.cli.app import facts, table
from tpmhsm.cli.show_ours import Shown
from tpmhsm.errors import ParseError

if TYPE_CHECKING:
    from tpmhsm.attest.event_log import EventLog

_MOST_EVENTS = 1_000
_STARTS = (b"\x10\x01", b"\x10\x02")


def show_event_log(data: bytes) -> Shown | None:
    """An event log with its events in words and the PCRs that it replays to; None for all else.

    ParseError when it begins as one and is damaged.
    """
    from tpmhsm.attest.event_log import is_event_log, may_be_event_log, parse_event_log

    certain = is_event_log(data)
    if not certain and not may_be_event_log(data):
        return None
    try:
        log = parse_event_log(data)
    except ParseError:
        if certain:
            raise
        return None
    return _described(log)


def _described(log: EventLog) -> Shown:
    from tpmhsm.attest.event_words import errors, secure_boot, tell

    told = [tell(event) for event in log.events[:_MOST_EVENTS]]
    events = [
        {
            "number": one.event.number,
            "pcr": one.event.pcr,
            "event": one.event.name,
            "words": one.words,
            "proven": one.proven,
            "digests": {name: value.hex() for name, value in one.event.digests.items()},
        }
        for one in told
    ]
    pcrs = {
        bank: {str(pcr): value.hex() for pcr, value in sorted(values.items())}
        for bank, values in log.replay().items()
    }
    found: dict[str, Any] = {
        "crypto_agile": log.agile,
        "algorithms": list(log.algorithms),
        "count": len(log.events),
        "secure_boot": secure_boot(log),
        "errors": [event.number for event in errors(log)],
        "remarks": list(log.remarks),
        "events": events,
        "pcrs": pcrs,
    }
    return found, _words(found)


def _words(found: Mapping[str, Any]) -> str:
    boot = {True: "on", False: "off", None: "this log does not tell"}[found["secure_boot"]]
    head = facts(
        [
            ("Form", "crypto agile" if found["crypto_agile"] else "SHA-1 alone, the older form"),
            ("Hashes", ", ".join(found["algorithms"])),
            ("Events", found["count"]),
            ("Secure Boot", boot),
            ("ERRORS", ", ".join(f"event {number}" for number in found["errors"])),
            ("Remarks", "\n".join(found["remarks"])),
        ]
    )
    rows = [
        (str(e["number"]), str(e["pcr"]), e["event"], _PROVEN[e["proven"]], e["words"])
        for e in found["events"]
    ]
    shown = table(("#", "PCR", "EVENT", "WORDS ARE", "WORDS"), rows, empty="no events")
    banks = [
        (bank, pcr, value)
        for bank, values in found["pcrs"].items()
        for pcr, value in values.items()
    ]
    replayed = table(("BANK", "PCR", "VALUE AFTER REPLAY"), banks, empty="it changes no PCR")
    more = found["count"] - len(rows)
    rest = [f"and {more} events more"] if more > 0 else []
    note = "(a log is its host's word: a quote over these PCRs proves the measured ones)"
    return "\n\n".join([head, "\n".join([shown, *rest]), replayed, note])


_PROVEN = {True: "measured", False: "unproven", None: ""}
"""Whether the digest is that of what the words say."""


def show_ek_dump(data: bytes) -> Shown | None:
    """An EK certificate with a header of NV before it; None for anything else. ParseError."""
    from tpmhsm.attest.ek_reading import read_ek_dump
    from tpmhsm.pki.describe import certificate_lines, describe_certificate

    headed = data[:2] in _STARTS
    if not headed and b"\x30\x82" not in (data[2:4], data[4:6]):
        return None
    try:
        dump = read_ek_dump(data)
    except ParseError:
        if headed:
            raise
        return None
    items = [describe_certificate(raw) | tpm_facts(raw) for raw in dump.certificates]
    shown = [facts([*certificate_lines(one), *tpm_lines(one)]) for one in items]
    found = {"notes": list(dump.notes), "items": items, **items[0]}
    return found, "\n\n".join([*shown, *(f"note: {note}" for note in dump.notes)])


def tpm_facts(raw: bytes) -> dict[str, Any]:
    """What a certificate says of a TPM, as `tpm`; nothing for other certificates."""
    from tpmhsm.pki.loose import read_loosely

    certificate = read_loosely(raw)
    extensions = certificate.extensions
    if not any(b"\x67\x81\x05" in item.value for item in extensions):  # the TCG's arc, 2.23.133
        return {}
    from tpmhsm.attest.ek_reading import read_hints
    from tpmhsm.pki.facts import extension_facts

    hints = read_hints(extensions)
    usages = extension_facts(extensions)["extended_key_usage"]
    if not hints.text and "tcg-kp-EKCertificate" not in usages:
        return {}
    ek = "tcg-kp-EKCertificate" in usages
    return {"tpm": {**vars(hints), "ek": ek, "key": _key(certificate.spki)}}


def _key(spki: bytes) -> str:
    """`RSA-2048`, of keys that are marked as OAEP's too; empty when it cannot be used."""
    from tpmhsm.attest.ek_certificates import normal_spki
    from tpmhsm.pki.keys import describe_spki

    try:
        return str(describe_spki(normal_spki(spki))["text"])
    except ParseError:
        return ""


def tpm_lines(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The line about the TPM for people."""
    if "tpm" not in found:
        return []
    tpm = found["tpm"]
    said = [tpm[name] for name in ("maker", "model", "version", "specification") if tpm[name]]
    what = f"an endorsement key ({tpm['key']})" if tpm["ek"] else "a key"
    return [("TPM", f"{what} of {', '.join(said) or 'a TPM'} (as it says itself)")]
