"""The kinds of PEM and DER beside certificates, each described by its own reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from tpmhsm.cli.app import facts
from tpmhsm.cli.show import Ask, Shown, certificates_words, repeated_words
from tpmhsm.cli.show_ours import lines_of
from tpmhsm.errors import ParseError
from tpmhsm.pki.bundle import Item
from tpmhsm.pki.recognise import in_words


def show_structure(item: Item, what: str, ask: Ask | None) -> tuple[str, Shown]:
    """The kind as `show` names it, with facts and words. ParseError."""
    if item.kind == "pkcs12":
        return "pkcs12", _pkcs12(item.der, what, ask)
    if item.kind in ("pkcs7", "netscape-sequence"):
        return _pkcs7(item)
    reader = _READERS.get(item.kind)
    if reader is None:
        return item.kind, ({}, in_words(item.kind))
    return reader(item)


def _csr(item: Item) -> tuple[str, Shown]:
    from tpmhsm.pki.describe import csr_lines, describe_csr

    found = describe_csr(item.der)
    return "csr", (found, facts(csr_lines(found)))


def _crl(item: Item) -> tuple[str, Shown]:
    from tpmhsm.pki.crl_facts import crl_lines, describe_crl

    found = describe_crl(item.der)
    return "crl", (found, facts(crl_lines(found)))


def _pkcs7(item: Item) -> tuple[str, Shown]:
    from tpmhsm.pki.containers import read_signed_data
    from tpmhsm.pki.describe import describe_certificate
    from tpmhsm.pki.message_facts import describe_cms, describe_timestamp

    inside = read_signed_data(item.der)
    if item.kind == "pkcs7":
        try:
            found = describe_timestamp(item.der)
            return "timestamp", (found, _signed_words(found))
        except ParseError:
            found = describe_cms(item.der)
    else:
        found = {"content_type": "Netscape certificate sequence", "signers": []}
    certificates, faults = [], []
    for number, raw in enumerate(inside.certificates, 1):
        try:
            certificates.append(describe_certificate(raw))
        except ParseError as error:
            faults.append({"where": f"certificate {number}", "reason": error.message})
    found |= {
        "certificates": certificates,
        "crls": [_crl_facts(raw) for raw in inside.crls],
        "others": inside.others,
        "repeated": inside.repeated,
        "faults": faults,
    }
    return "pkcs7", (found, _pkcs7_words(found))


def _crl_facts(raw: bytes) -> dict[str, Any]:
    from tpmhsm.pki.crl_facts import describe_crl

    try:
        return describe_crl(raw)
    except ParseError as error:
        return {"problem": error.message}


def _pkcs7_words(found: Mapping[str, Any]) -> str:
    counted = f"{len(found['certificates'])} certificates, {len(found['crls'])} CRLs"
    wanted = ("content_type", *(("signed", "detached", "size") if found["signers"] else ()))
    rows = {k: v for k, v in found.items() if k in wanted}
    parts = [lines_of({**rows, "holds": counted}), *(_signer(one) for one in found["signers"])]
    parts += [f"BROKEN: {one['where']}: {one['reason']}" for one in found["faults"]]
    if found["repeated"]:
        parts.append(repeated_words(found["repeated"]))
    for crl in found["crls"]:
        from tpmhsm.pki.crl_facts import crl_lines

        parts.append(facts(crl_lines(crl)) if "issuer" in crl else lines_of(crl))
    if found["certificates"]:
        parts.append(certificates_words(found["certificates"]))
    return "\n\n".join(parts)


def _signer(one: Mapping[str, Any]) -> str:
    return lines_of({"signed by": one["issuer"] or one["ski"], **one})


def _signed_words(found: Mapping[str, Any]) -> str:
    rows = {k: v for k, v in found.items() if k != "signers"}
    return "\n\n".join([lines_of(rows), *(_signer(one) for one in found.get("signers", ()))])


def _pkcs12(raw: bytes, what: str, ask: Ask | None) -> Shown:
    from tpmhsm.pki.describe import describe_certificate
    from tpmhsm.pki.pkcs12 import open_pkcs12

    inside = open_pkcs12(raw, (lambda: ask(f"Passphrase of {what}")) if ask else None)
    described = cache(describe_certificate)  # the same one may stand there under many names
    certificates = [{"name": one.name, **described(one.der)} for one in inside.certificates]
    found = {
        "protection": inside.protection,
        "private_keys": len(inside.keys),
        "key_names": [name for name in inside.keys if name],
        "secrets": inside.secrets,
        "closed": inside.closed,
        "certificates": certificates,
        "crls": [_crl_facts(crl) for crl in dict.fromkeys(inside.crls)],
    }
    rows = {k: v for k, v in found.items() if k not in ("certificates", "crls", "closed")}
    count = "?" if inside.closed else str(len(certificates))
    parts = [lines_of({**rows, "certificates": count})]
    if inside.closed:
        parts.append(
            f"{inside.closed} part(s) are encrypted; --passphrase-file F shows what is in them"
        )
    if certificates:
        parts.append(certificates_words(certificates))
    return found, "\n\n".join(parts)


def _key(item: Item) -> tuple[str, Shown]:
    from tpmhsm.pki import key_facts

    described = {
        "private-key": key_facts.describe_private_key,
        "encrypted-private-key": key_facts.describe_encrypted_key,
        "encrypted-pem-key": key_facts.describe_encrypted_pem_key,
        "openssh-key": key_facts.describe_openssh_key,
        "public-key": key_facts.describe_public_key,
    }[item.kind]
    try:
        found = described(item.der)
    except ParseError as error:
        found = {"key": in_words(item.kind), "problem": error.message}
    public = found.get("public")
    rows = {k: v for k, v in found.items() if k != "public"}
    if isinstance(public, dict):
        rows |= {"public key": f"{public['text']} {public['sha256']}"}
    return "key", ({"kind": item.kind, **found}, f"{in_words(item.kind)}\n{lines_of(rows)}")


def _tpm_key(item: Item) -> tuple[str, Shown]:
    from tpmhsm.cli.show_tpm import describe_tss2
    from tpmhsm.pki import der

    with der.complete("a TPM key"):
        found = describe_tss2(item.der)
    return "tpm-key", (found, lines_of(found))


def _by(name: str) -> Callable[[Item], tuple[str, Shown]]:
    """A kind whose reader in `message_facts` has this name."""

    def read(item: Item) -> tuple[str, Shown]:
        from tpmhsm.pki import message_facts

        found = getattr(message_facts, name)(item.der)
        listed = found.get("responses", [])
        rows = {k: v for k, v in found.items() if k != "responses"}
        words = "\n\n".join([_signed_words(rows), *(lines_of(one) for one in listed)])
        return item.kind, (found, words)

    return read


_READERS: dict[str, Callable[[Item], tuple[str, Shown]]] = {
    "csr": _csr,
    "crl": _crl,
    "private-key": _key,
    "encrypted-private-key": _key,
    "encrypted-pem-key": _key,
    "openssh-key": _key,
    "public-key": _key,
    "tpm-key": _tpm_key,
    "cms": _by("describe_cms"),
    "ocsp-request": _by("describe_ocsp_request"),
    "ocsp-response": _by("describe_ocsp_response"),
    "timestamp-request": _by("describe_timestamp_request"),
    "timestamp-response": _by("describe_timestamp_response"),
    "cmp": _by("describe_cmp"),
}
