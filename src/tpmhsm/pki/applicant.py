"""Who is to be certified: the key, the names asked for, and what of them a profile grants."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import NameOID

from tpmhsm.errors import UsageError
from tpmhsm.pki.csr import csr_der, verify_csr
from tpmhsm.pki.facts import decode_extensions, extension_facts
from tpmhsm.pki.findings import warnings_of
from tpmhsm.pki.host_checks import san_findings
from tpmhsm.pki.hosts import normalize_host, parse_ip
from tpmhsm.pki.key_checks import check_spki, usual_point
from tpmhsm.pki.keys import spki_der
from tpmhsm.pki.names import format_dn, read_name
from tpmhsm.pki.profiles import Profile
from tpmhsm.pki.sans import format_san, parse_san, unique
from tpmhsm.pki.signatures import split_signed
from tpmhsm.pki.subject_checks import subject_findings
from tpmhsm.pki.tbs import read_request_info


@dataclass(frozen=True)
class Applicant:
    """A public key and the names asked for it: `subject` as DER, as it was found.

    `asked` are the facts of its CSR, for notes; `spki` is the key as SubjectPublicKeyInfo, DER.
    """

    public_key: PublicKeyTypes
    subject: bytes
    sans: tuple[x509.GeneralName, ...] = ()
    asked: dict[str, Any] = field(default_factory=dict)
    tls_features: tuple[x509.TLSFeatureType, ...] = ()
    spki: bytes = b""

    def __post_init__(self) -> None:
        if not self.spki:
            object.__setattr__(self, "spki", spki_der(self.public_key))


def applicant_from_csr(csr: x509.CertificateSigningRequest | bytes) -> Applicant:
    """The applicant that a CSR (or its DER) speaks for. Raises as `verify_csr` does."""
    raw = csr_der(csr)
    key = verify_csr(raw)
    info = read_request_info(split_signed(raw, "a CSR")[0])
    decoded, problems = decode_extensions(info.extensions)
    if problems:
        raise UsageError(f"the CSR's extensions are broken: {'; '.join(problems)}")
    sans: tuple[x509.GeneralName, ...] = ()
    features: tuple[x509.TLSFeatureType, ...] = ()
    for extension in decoded:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            sans = unique(extension.value)
        elif isinstance(extension.value, x509.TLSFeature):
            features = tuple(extension.value)
    asked = {**extension_facts(info.extensions), "attributes": info.attributes}
    if _sole_common_name(info.subject) is None:
        read_name(info.subject)  # refused where nobody could read it
    spki = info.spki if usual_point(info.spki) else spki_der(key)
    return Applicant(key, info.subject, sans, asked, features, spki)


@dataclass(frozen=True)
class GrantedNames:
    """The subject (DER) and alternative names that a profile grants.

    `notes` say what it did not grant, and what the checks warn of.
    """

    subject: bytes
    sans: tuple[x509.GeneralName, ...]
    notes: tuple[str, ...] = ()

    @property
    def has_subject(self) -> bool:
        """Whether the subject says anything."""
        return self.subject != EMPTY_NAME


def grant_names(profile: Profile, applicant: Applicant, lint: str) -> GrantedNames:
    """What of the names asked for goes into the certificate. UsageError says what cannot."""
    warned = check_spki(applicant.spki, lint)
    sans, notes = _grant_sans(profile, applicant)
    subject = applicant.subject
    if profile.tls:
        subject, sans, more = _tls_subject(subject, sans, lint)
        notes += more
    if profile.ca and subject == EMPTY_NAME:
        raise UsageError("a CA certificate needs a subject", hint="give --subject CN=…,O=…")
    if profile.needs_san and not sans:
        raise UsageError(
            f"the profile {profile.name} needs a host name or address",
            hint="name the hosts: --host www.example.com, or --san dns:… in the CSR",
        )
    if subject == EMPTY_NAME and not sans:
        raise UsageError("a certificate needs a subject or an alternative name")
    found = [  # the refusals among them are those of `check_tbs`, with all others
        *subject_findings(subject, lint, ca=profile.ca),
        *san_findings(map(format_san, sans), lint),
    ]
    wishes = _wishes(profile, applicant.asked)
    return GrantedNames(subject, sans, (*notes, *warnings_of((*warned, *found)), *wishes))


def _kind(name: x509.GeneralName) -> str:
    return format_san(name).partition(":")[0]


def _grant_sans(
    profile: Profile, applicant: Applicant
) -> tuple[tuple[x509.GeneralName, ...], tuple[str, ...]]:
    kept, notes = [], []
    for name in applicant.sans:
        if _kind(name) not in profile.san_types:
            notes.append(f"{format_san(name)} is left out: {profile.name} has no such names")
            continue
        _check_spaces(name)
        kept.append(parse_san(format_san(name)))  # a CSR's names keep the same rules as typed ones
    if notes and not kept and not profile.ca:
        raise UsageError(f"the profile {profile.name} grants none of the names: {'; '.join(notes)}")
    return unique(kept), tuple(notes)


def _check_spaces(name: x509.GeneralName) -> None:
    """Typed names lose the spaces around them; in a CSR they are part of the name."""
    value = name.value
    if isinstance(value, str) and value != value.strip():
        raise UsageError(f"{format_san(name)!r} has spaces around it", code="bad-name")


def _tls_subject(
    subject: bytes, sans: tuple[x509.GeneralName, ...], lint: str
) -> tuple[bytes, tuple[x509.GeneralName, ...], tuple[str, ...]]:
    """CN only where it is one of the alternative names (Baseline Requirements 7.1.4.3)."""
    notes: list[str] = []
    hosts = {format_san(name).partition(":")[2]: name for name in sans}
    if subject == EMPTY_NAME or _sole_common_name(subject) in hosts:
        return subject, sans, ()
    rdns: list[x509.RelativeDistinguishedName] = []
    for rdn in read_name(subject).rdns:
        kept: list[x509.NameAttribute[str | bytes]] = []
        for item in rdn:
            if item.oid == NameOID.COMMON_NAME:
                text = str(item.value)
                if not hosts and (name := _host_in_cn(text)) is not None:
                    sans, hosts = (name,), {format_san(name).partition(":")[2]: name}
                    notes.append(f"CN={text} becomes the alternative name {format_san(name)}")
                host = _text_of_host(text)
                if host in hosts:
                    kept.append(x509.NameAttribute(item.oid, host))
                else:
                    notes.append(f"CN={text} is left out: it is none of the alternative names")
            elif lint == "tls-br" and item.oid != NameOID.COUNTRY_NAME:
                label = format_dn(x509.Name([item]))
                notes.append(
                    f"{label} is left out: a domain-validated certificate vouches for it not"
                )
            else:
                kept.append(item)
        if kept:
            rdns.append(x509.RelativeDistinguishedName(kept))
    return x509.Name(rdns).public_bytes(), sans, tuple(notes)


def _sole_common_name(subject: bytes) -> str | None:
    """The CN of a subject that says nothing else, in the one spelling that is never changed."""
    size = len(text := subject[13:])
    head = bytes((0x30, 11 + size, 0x31, 9 + size, 0x30, 7 + size)) if size <= 64 else b""
    if subject[:13] != head + _CN_UTF8 + bytes((size,)) or not _PLAIN.fullmatch(text):
        return None
    return text.decode()


def _text_of_host(text: str) -> str:
    """A CN in the spelling of alternative names: lower case, A-labels, short addresses."""
    name = _host_in_cn(text)
    return text.lower() if name is None else format_san(name).partition(":")[2]


def _host_in_cn(text: str) -> x509.GeneralName | None:
    if (address := parse_ip(text)) is not None:
        return x509.IPAddress(address)
    try:
        return x509.DNSName(normalize_host(text)) if "." in text else None
    except UsageError:
        return None


EMPTY_NAME = b"\x30\x00"
_CN_UTF8 = b"\x06\x03\x55\x04\x03\x0c"
_PLAIN = re.compile(rb"[a-z0-9.*-]+")
_KNOWN_WISHES = ("subjectAltName", "keyUsage", "extKeyUsage", "basicConstraints")
_ATTRIBUTES = {
    "1.2.840.113549.1.9.2": "unstructuredName",
    "1.2.840.113549.1.9.7": "challengePassword",
    "1.2.840.113549.1.9.8": "unstructuredAddress",
    "1.2.840.113549.1.9.16.2.59": "evidence of the key's chip",
    "1.3.6.1.4.1.311.2.1.14": "Microsoft's extension request",
    "1.3.6.1.4.1.311.13.2.2": "Microsoft's enrolment service",
    "1.3.6.1.4.1.311.13.2.3": "the version of Windows",
    "1.3.6.1.4.1.311.21.20": "Microsoft's client",
}


def _wishes(profile: Profile, asked: dict[str, Any]) -> Iterable[str]:
    """What a CSR asked for beyond names, and the profile decides otherwise."""
    if asked.get("ca") and not profile.ca:
        yield "the CSR asks for CA:TRUE, which this profile does not give: --profile intermediate"
    granted = set(profile.extended_key_usage)
    for usage in asked.get("extended_key_usage", ()):
        if usage not in granted and not profile.ca:
            yield f"the CSR asks for {usage}, which this profile does not give"
    given = {*profile.key_usage, "keyEncipherment"} if profile.tls else {*profile.key_usage}
    for usage in asked.get("key_usage", ()):
        if usage not in given:
            yield f"the CSR asks for {usage}, which this profile does not give"
    for extension in asked.get("extensions", ()):
        if extension["name"] not in (*_KNOWN_WISHES, "subjectKeyIdentifier", "tlsFeature"):
            label = extension["name"] or extension["oid"]
            yield f"the CSR asks for the extension {label}, which this profile does not give"
        elif extension["name"] == "tlsFeature" and not profile.tls:
            yield "the CSR asks for TLS features, which are for TLS servers"
    for oid in asked.get("attributes", ()):
        yield f"the CSR has the attribute {_ATTRIBUTES.get(oid, oid)}, which is not copied"
