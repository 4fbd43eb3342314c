"""Prepare → sign → assemble: the only way to a certificate.

`prepare` checks everything and builds the exact bytes to be signed; what it returns is a token that
`assemble` takes once, with the signature. Nothing that was not checked can be assembled. A token
that must outlive the process is written with `to_document` and checked again by `restore`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from tpmhsm.errors import ParseError, UsageError, VerificationError
from tpmhsm.pki import der
from tpmhsm.pki.applicant import Applicant, GrantedNames, grant_names
from tpmhsm.pki.deferred import Unsigned
from tpmhsm.pki.describe import certificate_der
from tpmhsm.pki.extensions import extensions_for
from tpmhsm.pki.issuer import Issuer, issuer_of
from tpmhsm.pki.keys import hash_for, spki_der
from tpmhsm.pki.limits import check_limits
from tpmhsm.pki.lint import check_tbs
from tpmhsm.pki.options import LINTS, IssueOptions
from tpmhsm.pki.profiles import Profile, get_profile
from tpmhsm.pki.signatures import signature_algorithm
from tpmhsm.pki.tbs import read_tbs_certificate
from tpmhsm.pki.validity import Validity, choose_validity, tls_max_days

_SEAL = object()
_VERSION_3 = bytes.fromhex("a003020102")


class Prepared:
    """The one-use token: checked bytes that wait for a signature, from `prepare` or `restore`."""

    def __init__(
        self, seal: object, unsigned: Unsigned, profile: Profile, lint: str, notes: tuple[str, ...]
    ) -> None:
        if seal is not _SEAL:
            raise UsageError("only prepare() and restore() make this token")
        self._unsigned = unsigned
        self._spent = False
        self.profile = profile
        self.lint = lint
        self.notes = notes
        self.facts: dict[str, Any] = check_tbs(unsigned.tbs, profile, lint)

    @property
    def tbs(self) -> bytes:
        """The TBSCertificate: exactly the bytes to be signed."""
        return self._unsigned.tbs

    @property
    def digest(self) -> str:
        """SHA-256 of `tbs`, hexadecimal."""
        return hashlib.sha256(self.tbs).hexdigest()

    @property
    def hash_name(self) -> str:
        """The hash inside the signature, `sha256` or `sha384`."""
        return self._unsigned.hash_name

    @property
    def serial(self) -> int:
        """The serial number inside."""
        return read_tbs_certificate(self.tbs).serial

    @property
    def provisional(self) -> bytes:
        """The certificate (DER) with an empty signature: it proves nothing, and stands for the
        issuer where what is below it is prepared before it is signed.
        """
        return der.encode(
            der.SEQUENCE, self.tbs, self._unsigned.algorithm, der.encode(der.BIT_STRING, b"\0")
        )

    def to_document(self) -> dict[str, Any]:
        """JSON-ready, for `restore`."""
        return {
            "format": "tpmhsm/prepared/1",
            "profile": self.profile.name,
            "lint": self.lint,
            "hash": self.hash_name,
            "tbs": base64.b64encode(self.tbs).decode(),
            "algorithm": base64.b64encode(self._unsigned.algorithm).decode(),
            "signer": base64.b64encode(spki_der(self._unsigned.public_key)).decode(),
            "notes": list(self.notes),
        }


def prepare(
    profile: Profile,
    applicant: Applicant,
    issuer: x509.Certificate | bytes | None,
    options: IssueOptions | None = None,
    now: datetime | None = None,
) -> Prepared:
    """The checked TBSCertificate for an applicant.

    `issuer` is a certificate or its DER, None for a self-signed root.

    UsageError says what the profile, the issuer or the rules of `options.lint` forbid.
    """
    options = options or IssueOptions()
    now = now or datetime.now(UTC)
    if options.lint not in LINTS:
        raise UsageError(f"no lint {options.lint!r}", hint=f"choose one of {', '.join(LINTS)}")
    if (issuer is None) != profile.self_signed:
        needs = "no issuer: it signs itself" if profile.self_signed else "an issuer"
        raise UsageError(f"the profile {profile.name} needs {needs}")
    names = grant_names(profile, applicant, options.lint)
    above = issuer_of(certificate_der(issuer)) if issuer else None
    limits = check_limits(above, profile, names, options) if above else []
    window = (above.fields.not_before, above.fields.not_after) if above else None
    default = min(profile.days, tls_max_days(now) - 1) if profile.tls else profile.days
    validity = choose_validity(
        now, default, days=options.days, not_after=options.not_after, issuer=window
    )
    plan = _Plan(profile, applicant, names, above, options, validity)
    notes = (*names.notes, *limits, *validity.notes, *_notes(options))
    return Prepared(_SEAL, _build(plan), profile, options.lint, notes)


@dataclass(frozen=True)
class _Plan:
    """Everything that has been decided about one certificate."""

    profile: Profile
    applicant: Applicant
    names: GrantedNames
    issuer: Issuer | None
    options: IssueOptions
    validity: Validity


def _build(plan: _Plan) -> Unsigned:
    """The bytes, each part as it is found: verifiers compare names byte by byte."""
    serial, names, validity = plan.options.serial, plan.names, plan.validity
    applicant, issuer = plan.applicant, plan.issuer
    key: Any = issuer.key if issuer else applicant.public_key
    hash_: Any = hash_for(key, plan.options.hash_name)
    if hash_ is None:
        raise UsageError("only ECDSA and RSA keys sign certificates here")
    _check_hash(key, hash_, plan.options.lint)
    algorithm = signature_algorithm(key, hash_.name)
    extensions = extensions_for(
        plan.profile,
        names,
        applicant.public_key,
        applicant.spki,
        issuer,
        plan.options,
        applicant.tls_features,
    )
    tbs = der.encode(
        der.SEQUENCE,
        _VERSION_3,
        der.encode_integer(new_serial() if serial is None else _check_serial(serial)),
        algorithm,
        issuer.fields.subject if issuer else names.subject,
        der.encode(
            der.SEQUENCE,
            der.encode_time(validity.not_before),
            der.encode_time(validity.not_after),
        ),
        names.subject,
        applicant.spki,
        der.encode(0xA3, extensions),
    )
    return Unsigned(tbs, algorithm, key, hash_.name, "certificate")


def _check_hash(key: Any, algorithm: Any, lint: str) -> None:
    """Each curve has its hash in the Baseline Requirements (7.1.3.2.2)."""
    bits, wanted = key.key_size, {256: "sha256", 384: "sha384", 521: "sha512"}
    if lint == "tls-br" and wanted.get(bits, algorithm.name) != algorithm.name:
        raise UsageError(
            f"a P-{bits} key that signs with {algorithm.name}, not {wanted[bits]}"
            " (CABF BR 7.1.3.2.2)",
            hint=f"make the authority's key anew: key create … --hash {wanted[bits]}",
            code="lint",
        )


def _notes(options: IssueOptions) -> list[str]:
    notes = []
    kinds = {text.partition(":")[0] for text in options.permitted}
    if "dns" in kinds and not any(
        t.startswith("ip:") for t in (*options.permitted, *options.excluded)
    ):
        notes.append("IP addresses stay unconstrained (exclude ip:0.0.0.0/0 and ip:::/0)")
    if any(text.startswith("dirname:") for text in options.excluded):
        notes.append("GnuTLS refuses all that is below a CA that excludes directory names")
    if options.base_url.startswith("https:"):
        notes.append("CRL and issuer URLs with https: some clients cannot fetch them")
    return notes


def new_serial() -> int:
    """128 bits of the operating system's CSPRNG, positive (RFC 5280, 4.1.2.2; BR 7.1)."""
    while (serial := secrets.randbits(128)).bit_length() <= 64:
        pass  # one in 2^64: would look short to a linter
    return serial


def _check_serial(serial: int) -> int:
    if not 64 < serial.bit_length() < 160 or serial < 0:
        raise UsageError("a serial number is positive, of 65 to 159 bits")
    return serial


def restore(document: dict[str, Any], signer: PublicKeyTypes) -> Prepared:
    """A token from `to_document`, all checks of the bytes made again.

    `signer` is the issuing key as the caller knows it: a document for another key is refused.
    """
    try:
        if document["format"] != "tpmhsm/prepared/1":
            raise ParseError("this is no prepared certificate of a known format")
        tbs, algorithm, spki = (
            base64.b64decode(document[name], validate=True)
            for name in ("tbs", "algorithm", "signer")
        )
        profile, lint = get_profile(document["profile"]), str(document["lint"])
        hash_name, notes = str(document["hash"]), tuple(map(str, document["notes"]))
    except (KeyError, TypeError, binascii.Error, ValueError) as error:
        raise ParseError(f"this is no prepared certificate: {error!r}") from error
    if spki != spki_der(signer) or read_tbs_certificate(tbs).algorithm != algorithm:
        raise VerificationError("this certificate was prepared for another key")
    unsigned = Unsigned(tbs, algorithm, signer, hash_name, "certificate")
    return Prepared(_SEAL, unsigned, profile, lint, notes)


def assemble(prepared: Prepared, signature: bytes) -> x509.Certificate:
    """The certificate. `signature` is DER (ECDSA) or raw (RSA); it is verified first.

    VerificationError when it does not hold (the token can then still be used) or when the token is
    used a second time.
    """
    return x509.load_der_x509_certificate(assemble_der(prepared, signature))


def assemble_der(prepared: Prepared, signature: bytes) -> bytes:
    """As `assemble`, its DER."""
    if prepared._spent:
        raise VerificationError("this certificate was assembled already: prepare another")
    certificate = prepared._unsigned.complete(signature)
    prepared._spent = True
    return certificate
