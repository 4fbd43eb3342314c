"""Bundles of vendor certificates: what is offered to be pinned, and what each would stand for.

PEM with comments (tpm-ca-certificates and its like), DER, PKCS #7, cabinets (TrustedTpm.cab), our
own lists. Bundles do not say what hardware a root stands for: here is what their makers usually
make, to be shown to a person, who decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from tpmhsm.attest.cabinets import is_cabinet, read_cabinet
from tpmhsm.attest.makers import MAKERS
from tpmhsm.attest.roots import KINDS, is_pins, parse_pins
from tpmhsm.errors import ParseError
from tpmhsm.pki.bundle import Bundle, read_bundle
from tpmhsm.pki.load import PemBlock, scan_pem
from tpmhsm.pki.names import show_dn
from tpmhsm.pki.path_certificate import PathCertificate, read_path_certificate_loosely
from tpmhsm.pki.signatures import is_signed_by

MAX_FILE = 1 << 25

_USUAL = {
    **dict.fromkeys(("ATML", "BRCM", "IFX", "NSG", "NSM", "NTC", "NTZ", "SNS", "STM"), "discrete"),
    **dict.fromkeys(("AMD", "INTC", "QCOM"), "firmware"),
    **dict.fromkeys(("AMZN", "GOOG"), "virtual"),
}
"""What a maker's roots usually stand for."""

_TELLING = (  # words in a subject that tell more than the maker; the first that fits
    ("swtpm", "emulator"),
    ("virtual", "virtual"),
    ("vtpm", "virtual"),
    ("tpm_ek_v1_cloud", "virtual"),
    ("pluton", "firmware"),
)

_MAKER_WORDS = {
    "infineon": "IFX",
    "nuvoton": "NTC",
    "stmicro": "STM",
    "globalsign trusted platform module": "STM",  # the root above STMicroelectronics' CAs
    "intel": "INTC",
    "amd": "AMD",
    "advanced micro devices": "AMD",
    "microsoft": "MSFT",
    "google": "GOOG",
    "nationz": "NTZ",
    "nsing": "NSG",
    "qualcomm": "QCOM",
    "qc": "QCOM",
    "atmel": "ATML",
    "broadcom": "BRCM",
    "sinosun": "SNS",
    "swtpm": "IBM",
}
"""Words in names of directories and subjects, and the makers' letters."""


class Trouble(NamedTuple):
    """What should be a certificate of a vendor and is not taken: where, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class Offered:
    """One certificate. `root`: it is offered as a root, else as an intermediate; `kind` what it
    would stand for, empty if nothing tells; `maker` letters, or words where there are none.
    `declared`: its bundle says which role it has; `labelled`: a person gave it this kind in a list
    of ours.
    """

    der: bytes = field(repr=False)
    where: str
    subject: str
    maker: str
    kind: str
    root: bool
    self_signed: bool
    not_after: datetime
    declared: bool = False
    labelled: bool = False

    @property
    def sha256(self) -> str:
        """Of the DER, in hexadecimal."""
        return sha256(self.der).hexdigest()


@dataclass
class Offer:
    """All that a bundle offers, each certificate once, and what in it cannot be taken."""

    certificates: dict[bytes, Offered] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    passed: int = 0

    @property
    def roots(self) -> list[Offered]:
        """Those that are offered as roots."""
        return [one for one in self.certificates.values() if one.root]

    @property
    def intermediates(self) -> list[Offered]:
        """The others."""
        return [one for one in self.certificates.values() if not one.root]

    def add(self, one: Offered) -> None:
        """A certificate that is offered in both roles is a root."""
        known = self.certificates.get(one.der)
        if known is None or (one.root and not known.root):
            self.certificates[one.der] = one


def read_offer(path: str, data: bytes, offer: Offer, *, strict: bool = True) -> None:
    """Add what a file offers. `path` tells roles and makers: `…/Infineon/RootCA/x.crt`.

    ParseError for a file that is none of the known forms; not `strict`, it is passed over (files
    beside certificates in directories and cabinets).
    """
    if is_cabinet(data):
        for file in read_cabinet(data):
            read_offer(f"{path}/{file.name}", file.data, offer, strict=False)
        return
    if is_pins(data):
        _from_pins(path, data, offer)
        return
    if not strict and not _may_be_certificates(data):
        offer.passed += 1
        return
    try:
        bundle = read_bundle(data, path, limit=MAX_FILE)
    except ParseError as error:
        if strict:
            raise
        offer.troubles.append(Trouble(path, error.message))
        return
    _from_bundle(path, data, bundle, offer)
    if strict and not bundle.faults:
        bundle.only("certificate", "a certificate")


def _may_be_certificates(data: bytes) -> bool:
    return data[:1] == b"\x30" or b"-----BEGIN " in data[: 1 << 16]


def _from_bundle(path: str, data: bytes, bundle: Bundle, offer: Offer) -> None:
    said = {note.digest: note for note in _comments(data)}
    told = _role(path, data)
    offer.troubles += [Trouble(f"{path}, {one.where}", one.reason) for one in bundle.faults]
    for item in bundle.items:
        if item.kind != "certificate":
            continue
        where = f"{path}, {item.where}" if item.where else path
        note = said.get(sha256(item.der).hexdigest())
        if note and note.claimed and note.claimed != note.digest:
            words = f"its comment says SHA-256 {note.claimed}, and it is {note.digest}"
            offer.troubles.append(Trouble(where, words))
            continue
        try:
            offer.add(_offered(item.der, where, note.owner if note else "", told))
        except ParseError as error:
            offer.troubles.append(Trouble(where, error.message))


def _offered(raw: bytes, where: str, owner: str, told: bool | None) -> Offered:
    """A CA certificate, with its role and maker. ParseError when it is no CA's."""
    certificate = read_path_certificate_loosely(raw)
    if certificate.version == 3 and not certificate.is_ca:
        raise ParseError("it is no CA, so neither a root nor an intermediate")
    signed = certificate.self_issued and is_self_signed(certificate)
    subject = show_dn(certificate.subject)
    maker = owner or _maker(subject) or _maker(where) or subject
    return Offered(
        raw,
        where,
        subject,
        maker,
        _kind(where, subject, maker),
        signed if told is None else told,
        signed,
        certificate.not_after,
        told is not None,
    )


def is_self_signed(certificate: PathCertificate) -> bool:
    """Whether its own key made its signature."""
    return is_signed_by(certificate.raw, certificate.spki)


def _from_pins(path: str, data: bytes, offer: Offer) -> None:
    """A list of ours brings its kinds with it."""
    pins = parse_pins(data)
    for root in pins.roots:
        one = _offered(root.der, path, root.maker, True)
        offer.add(replace(one, kind=root.kind, labelled=True))
    for raw in pins.intermediates:
        offer.add(_offered(raw, path, "", False))


class _Note(NamedTuple):
    digest: str
    owner: str
    claimed: str


_OWNER = re.compile(rb"^# Owner:[ \t]*([A-Za-z0-9]{2,8})[ \t]*\r?$", re.MULTILINE)
_PRINT = re.compile(
    rb"^# Fingerprint \(SHA-256\):[ \t]*([0-9A-Fa-f:]{64,95})[ \t]*\r?$", re.MULTILINE
)


def _comments(data: bytes) -> Iterator[_Note]:
    """What tpm-ca-certificates' comments say of the certificate below them."""
    end = 0
    for block in scan_pem(data):
        if isinstance(block, PemBlock):
            owners = _OWNER.findall(data, end, block.offset)
            prints = _PRINT.findall(data, end, block.offset)
            owner = owners[-1].decode().upper() if owners else ""
            claimed = prints[-1].decode().replace(":", "").lower() if prints else ""
            yield _Note(sha256(block.der).hexdigest(), owner, claimed)
        end = block.end


_HEAD = re.compile(rb"^## .*\b(Root|Intermediate) Endorsement Certificates", re.MULTILINE)


def _role(path: str, data: bytes) -> bool | None:
    """Whether a bundle says that it holds roots (or intermediates); None where it does not."""
    if head := _HEAD.search(data, 0, 4096):
        return head[1] == b"Root"
    for part in reversed(path.lower().split("/")[:-1]):
        if "intermediate" in part:
            return False
        if part in ("root", "roots", "rootca", "root-ca", "root_ca"):
            return True
    return None


def _maker(text: str) -> str:
    words = re.split(r"[^a-z0-9 ]+", text.lower())
    for known, letters in _MAKER_WORDS.items():
        if any(re.search(rf"\b{known}", word) for word in words):
            return letters
    parts = re.split(r"[/\\]", text)
    return next((part.upper() for part in parts if part.upper() in MAKERS), "")


def _kind(where: str, subject: str, maker: str) -> str:
    """What a root would stand for: a directory named so, words in its subject, its maker."""
    for part in reversed(where.lower().split("/")[:-1]):
        if part in KINDS:
            return part
    for word, kind in _TELLING:
        if word in subject.lower():
            return kind
    return _USUAL.get(maker, "")
