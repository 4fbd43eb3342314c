"""Evidence, challenges and responses: what is in the files, and nothing of whether it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tpmhsm.cli.app import facts, table
from tpmhsm.cli.words import one_line
from tpmhsm.errors import TpmHsmError

if TYPE_CHECKING:
    from tpmhsm.attest.format import EndorsementPart, Evidence, KeyEvidence

Shown = tuple[dict[str, Any], str]


def show_evidence(data: bytes) -> Shown | None:
    """What an evidence file is about; None for all else. ParseError for a damaged one."""
    from tpmhsm.attest.reading import is_evidence, parse_evidence

    if not is_evidence(data):
        return None
    found = _described(parse_evidence(data))
    return found, _words(found)


def show_challenge(data: bytes) -> Shown | None:
    """A challenge; None for all else."""
    from hashlib import sha256

    from tpmhsm.attest.credential import parse_challenge
    from tpmhsm.policy import moments

    try:
        asked = parse_challenge(data)
    except TpmHsmError:
        return None
    found = {
        "made": moments.stamp(asked.made),
        "challenge": asked.digest.hex(),
        "ek": sha256(asked.ek).hexdigest(),
        "ek_kind": _kind(asked.ek),
        "ak_name": asked.ak_name.hex(),
    }
    words = [
        ("Made", found["made"]),
        ("For EK", f"{found['ek_kind']} {found['ek'][:16]}…"),
        ("And AK", f"{found['ak_name'][4:20]}…"),
        ("SHA-256", found["challenge"]),
        ("Next", "on the host: tpmhsm attest respond FILE --out RESPONSE"),
    ]
    return found, facts(words)


def show_response(data: bytes) -> Shown | None:
    """A response to a challenge; None for all else."""
    from tpmhsm.attest.credential import parse_response

    try:
        answer = parse_response(data)
    except TpmHsmError:
        return None
    found = {"challenge": answer.challenge.hex()}
    words = [
        ("To challenge", found["challenge"]),
        ("Next", "in the home that asked: tpmhsm attest verify EVIDENCE --response FILE"),
    ]
    return found, facts(words)


def _described(evidence: Evidence) -> dict[str, Any]:
    from tpmhsm.policy import moments

    device = evidence.device
    return {
        "made": moments.stamp(evidence.made),
        "nonce": evidence.nonce.hex(),
        "device": {
            "kind": device.kind,
            "manufacturer": device.manufacturer,
            "vendor": device.vendor,
            "firmware": device.firmware,
            "specification": device.specification,
        },
        "eks": [_ek(one) for one in evidence.eks],
        "aks": [
            {"kind": _kind(one.public), "certificates": len(one.certificates)}
            for one in evidence.aks
        ],
        "keys": [_key(one) for one in evidence.keys],
        "groups": [_group(one.document, one.roster, len(one.cards)) for one in evidence.groups],
        "budgets": [{"key": one.key, "group": one.group} for one in evidence.budgets],
        "pcrs": {bank: len(values) for bank, values in evidence.quote.pcrs.items()}
        if evidence.quote
        else {},
        "event_log": None if evidence.event_log is None else len(evidence.event_log),
        "audit": evidence.audit is not None,
        "receives": evidence.parent is not None,
        "copies": [_copy(one.document, len(one.approvals)) for one in evidence.copies],
    }


def _ek(one: EndorsementPart) -> dict[str, Any]:
    return {
        "kind": _kind(one.public),
        "certificate": one.certificate is not None,
        "nv_index": None if one.nv_index is None else f"0x{one.nv_index:08x}",
        "chain": len(one.chain),
    }


def _key(one: KeyEvidence) -> dict[str, Any]:
    return {
        "label": one.label,
        "use": one.use,
        "kind": _kind(one.public),
        "policy": one.policy,
        "born_here": one.creation is not None,
        "certificates": len(one.certificates),
    }


def _group(document: bytes, roster: bytes, cards: int) -> dict[str, Any]:
    from tpmhsm.policy.group import parse_group, parse_roster

    try:
        name, epoch = parse_group(document).name, parse_roster(roster).epoch
    except TpmHsmError as error:
        return {"name": None, "problem": error.message, "cards": cards}
    return {"name": name, "epoch": epoch, "cards": cards}


def _copy(document: bytes, approvals: int) -> dict[str, Any]:
    from tpmhsm.policy.copying import parse_copy

    try:
        found = parse_copy(document)
    except TpmHsmError as error:
        return {"key": None, "problem": error.message, "approvals": approvals}
    return {"key": found.key.hex(), "ak": found.device_ak.hex(), "approvals": approvals}


def _kind(public: bytes) -> str:
    """'P-256', 'RSA-2048'; empty for what is no such key."""
    from tpmhsm.attest.public_keys import public_key_of

    try:
        key = public_key_of(public)
    except TpmHsmError:
        return "?"
    curve = getattr(key, "curve", None)
    return f"P-{key.key_size}" if curve is not None else f"RSA-{key.key_size}"


def _words(found: dict[str, Any]) -> str:
    device = found["device"]
    said = [device[name] for name in ("manufacturer", "vendor", "firmware", "specification")]
    log = found["event_log"]
    lines = [
        ("Made", found["made"]),
        ("Nonce", found["nonce"]),
        ("Device", f"{device['kind']}; it says: {one_line(', '.join(said))}"),
        ("EKs", "\n".join(map(_ek_words, found["eks"])) or "none"),
        ("AKs", "\n".join(map(_ak_words, found["aks"]))),
        ("Groups", "\n".join(map(_group_words, found["groups"]))),
        ("Budgets", ", ".join(f"{one['key']} ({one['group']})" for one in found["budgets"])),
        ("PCRs", ", ".join(f"{count} ({bank})" for bank, count in found["pcrs"].items())),
        ("Event log", "none" if log is None else f"{log:,} bytes"),
        ("Log proof", "there" if found["audit"] else "none"),
        ("Copies", "\n".join(map(_copy_words, found["copies"]))),
        ("", "it shows a storage key that takes copies" if found["receives"] else ""),
    ]
    keys = table(
        ("KEY", "USE", "KIND", "POLICY", "BORN HERE", "CERTIFICATES"),
        [
            (
                one["label"],
                one["use"],
                one["kind"],
                one["policy"],
                "the chip says so" if one["born_here"] else "not said",
                str(one["certificates"]),
            )
            for one in found["keys"]
        ],
        empty="no keys",
    )
    last = "nothing of it is verified here: tpmhsm attest verify FILE judges it"
    return f"{facts(lines)}\n\n{keys}\n\n{last}"


def _ek_words(one: dict[str, Any]) -> str:
    if not one["certificate"]:
        return f"{one['kind']}, no certificate"
    more = f", {one['chain']} more behind it" if one["chain"] else ""
    return f"{one['kind']}, certificate from {one['nv_index']}{more}"


def _ak_words(one: dict[str, Any]) -> str:
    count = one["certificates"]
    return f"{one['kind']}, {f'{count} certificates' if count else 'no certificate'}"


def _copy_words(one: dict[str, Any]) -> str:
    if one["key"] is None:
        return f"one that cannot be read: {one_line(one['problem'])}"
    return f"key {one['key'][4:20]}… for the chip with the AK {one['ak'][4:20]}…"


def _group_words(one: dict[str, Any]) -> str:
    if one["name"] is None:
        return one_line(f"cannot be read: {one['problem']}")
    return one_line(f"{one['name']}, epoch {one['epoch']}, {one['cards']} cards")
