"""The extensions of a certificate, from its profile, issuer and options (RFC 5280 section 4.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import AuthorityInformationAccessOID

from tpmhsm.errors import UsageError
from tpmhsm.pki import der
from tpmhsm.pki.applicant import GrantedNames
from tpmhsm.pki.constraints import build_constraints
from tpmhsm.pki.csr import extended_key_usage, key_usage
from tpmhsm.pki.key_checks import key_octets
from tpmhsm.pki.keys import spki_der
from tpmhsm.pki.options import IssueOptions
from tpmhsm.pki.profiles import DOMAIN_VALIDATED, Profile

if TYPE_CHECKING:
    from tpmhsm.pki.issuer import Issuer

_SKI, _SAN = "2.5.29.14", "2.5.29.17"
_DNS = 0x82

Extension = tuple[x509.ExtensionType, bool]


def extensions_for(  # noqa: PLR0917 (all that decides)
    profile: Profile,
    names: GrantedNames,
    public_key: object,
    spki: bytes,
    issuer: Issuer | None,
    options: IssueOptions,
    features: tuple[x509.TLSFeatureType, ...] = (),
) -> bytes:
    """The Extensions, DER, in the order they are written. `features` are what a CSR asked for."""
    is_rsa = isinstance(public_key, rsa.RSAPublicKey)
    before, after = _frame(profile, issuer, options, is_rsa, features)
    parts = [before]
    if names.sans:
        critical = not names.has_subject
        parts.append(der.encode_extension(_SAN, _alternative(names.sans), critical=critical))
    digest = key_identifier(spki)
    # The Baseline Requirements discourage it in subscriber certificates (7.1.2.7.6).
    if profile.ca or options.lint != "tls-br":
        parts.append(der.encode_extension(_SKI, der.encode(der.OCTET_STRING, digest)))
    if issuer is None:
        parts.append(_authority_identifier(digest))
    return der.encode(der.SEQUENCE, *parts, after)


def _alternative(names: tuple[x509.GeneralName, ...]) -> bytes:
    """The names, DER; of host names, as nearly all are, without `cryptography`'s detours."""
    if all(type(name) is x509.DNSName for name in names):
        return der.encode(der.SEQUENCE, *[der.encode(_DNS, n.value.encode()) for n in names])
    return x509.SubjectAlternativeName(names).public_bytes()


def key_identifier(spki: bytes) -> bytes:
    """SHA-1 of a public key's octets (RFC 5280, 4.2.1.2, method 1), 20 bytes."""
    return hashlib.sha1(key_octets(spki), usedforsecurity=False).digest()


@lru_cache(64)
def _frame(
    profile: Profile,
    issuer: Issuer | None,
    options: IssueOptions,
    is_rsa: bool,
    features: tuple[x509.TLSFeatureType, ...],
) -> tuple[bytes, bytes]:
    """What stands before and after a certificate's own names and key: alike in all of one kind."""
    certificate = issuer.certificate if issuer else None
    before = list(_constraints(profile, certificate, options))
    before.append((key_usage(_key_usages(profile, is_rsa)), True))
    if usages := _extended_usages(profile, options):
        before.append((extended_key_usage(usages), False))
    after: list[Extension] = []
    if policies := _policies(profile, options):
        after.append((x509.CertificatePolicies(policies), False))
    if not profile.self_signed:
        after += _locations(options)
    if granted := _tls_features(profile, features, certificate, options):
        after.append((x509.TLSFeature(granted), False))
    aki = _authority_identifier(_issuer_ski(certificate)) if certificate else b""
    return _joined(before), aki + _joined(after)


def _joined(extensions: Iterable[Extension]) -> bytes:
    return b"".join(_encoded(value, critical) for value, critical in extensions)


def _encoded(value: x509.ExtensionType, critical: bool) -> bytes:
    return der.encode_extension(value.oid.dotted_string, value.public_bytes(), critical=critical)


def _constraints(
    profile: Profile, issuer: x509.Certificate | None, options: IssueOptions
) -> Iterator[Extension]:
    length = path_length(profile, issuer, options) if profile.ca else None
    yield x509.BasicConstraints(ca=profile.ca, path_length=length), True
    constraints = build_constraints(options.permitted, options.excluded)
    if profile.limited and constraints is None:
        raise UsageError(
            f"{profile.name} is for some names alone", hint="--permit dns:example.com names them"
        )
    if constraints is not None:
        if not profile.ca or (profile.self_signed and not profile.limited):
            raise UsageError(
                f"name constraints belong into intermediates, not into {profile.name}",
                hint="--profile limited-root is a root that has them" if profile.ca else "",
            )
        yield constraints, True


def path_length(
    profile: Profile, issuer: x509.Certificate | None, options: IssueOptions
) -> int | None:
    """The path length granted. UsageError when the issuer's own leaves no room for it."""
    wanted = profile.path_length if options.path_length is None else options.path_length
    if wanted is not None and wanted < 0:
        raise UsageError("a path length is 0 or more")
    limit = _issuer_limit(issuer)
    if limit is None:
        return wanted
    if limit == 0:
        raise UsageError(
            "the issuer has path length 0: it certifies no CAs below it", code="path-length"
        )
    if wanted is None or wanted < limit:
        return limit - 1 if wanted is None else wanted
    raise UsageError(
        f"path length {wanted} does not fit below an issuer with path length {limit}",
        hint=f"ask for {limit - 1} at most",
        code="path-length",
    )


def _issuer_limit(issuer: x509.Certificate | None) -> int | None:
    if issuer is None:
        return None
    found = issuer.extensions.get_extension_for_class(x509.BasicConstraints)
    return found.value.path_length


def _key_usages(profile: Profile, is_rsa: bool) -> tuple[str, ...]:
    if profile.tls and is_rsa:
        return (*profile.key_usage, "keyEncipherment")  # TLS 1.2 key transport
    return profile.key_usage


def _extended_usages(profile: Profile, options: IssueOptions) -> tuple[str, ...]:
    if options.extended_key_usage:
        if profile.self_signed:
            raise UsageError("a root has no extended key usages: put them into the intermediate")
        return tuple(dict.fromkeys((*profile.extended_key_usage, *options.extended_key_usage)))
    if profile.ca and not profile.self_signed and options.lint == "tls-br":
        return ("serverAuth",)  # Baseline Requirements 7.1.2.10.6
    return profile.extended_key_usage


def _issuer_ski(issuer: x509.Certificate) -> bytes:
    try:
        return issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return key_identifier(spki_der(issuer.public_key()))


def _authority_identifier(digest: bytes) -> bytes:
    return _encoded(x509.AuthorityKeyIdentifier(digest, None, None), False)


def _policies(profile: Profile, options: IssueOptions) -> list[x509.PolicyInformation]:
    oids = options.policies
    if not oids and options.lint == "tls-br" and (profile.tls or profile.ca):
        oids = () if profile.self_signed else (DOMAIN_VALIDATED,)
    try:
        found = [x509.ObjectIdentifier(oid) for oid in dict.fromkeys(oids)]
    except ValueError as error:
        raise UsageError(f"a certificate policy is a dotted OID: {error}") from None
    return [x509.PolicyInformation(oid, None) for oid in found]


def _locations(options: IssueOptions) -> Iterator[Extension]:
    """Where the issuer's certificate and CRL will be found: the paths that `serve` publishes."""
    if not options.base_url:
        return
    base, label = check_base_url(options.base_url), quote(options.issuer_label, safe="")
    if not label:
        raise UsageError("the URLs of a base_url need the name of the issuing authority")
    methods = AuthorityInformationAccessOID
    access = [x509.AccessDescription(methods.CA_ISSUERS, _uri(f"{base}/ca/{label}.cer"))]
    if options.ocsp:
        access.insert(0, x509.AccessDescription(methods.OCSP, _uri(f"{base}/ocsp/{label}")))
    yield x509.AuthorityInformationAccess(access), False
    point = x509.DistributionPoint([_uri(f"{base}/crl/{label}.crl")], None, None, None)
    yield x509.CRLDistributionPoints([point]), False


_STAPLED = (x509.TLSFeatureType.status_request, x509.TLSFeatureType.status_request_v2)


def _tls_features(
    profile: Profile,
    asked: tuple[x509.TLSFeatureType, ...],
    issuer: x509.Certificate | None,
    options: IssueOptions,
) -> list[x509.TLSFeatureType]:
    """What a TLS server promises to do (RFC 7633): what it asked for and its issuer demands.

    UsageError for a promise that nobody can keep: stapling takes an authority that answers OCSP.
    """
    demanded = _features_of(issuer)
    granted = list(dict.fromkeys((*demanded, *(asked if profile.tls else ()))))
    if not profile.ca and not options.ocsp and any(one in _STAPLED for one in granted):
        who = "the issuer's certificate demands" if demanded else "the CSR asks for"
        raise UsageError(
            f"{who} OCSP stapling (RFC 7633), and this authority answers no OCSP: no client would"
            " accept the server",
            hint="leave the TLS feature status_request out of the CSR" if not demanded else
            "use another authority",
            code="tls-feature",
        )  # fmt: skip
    return granted


def _features_of(issuer: x509.Certificate | None) -> tuple[x509.TLSFeatureType, ...]:
    """The TLS features that everything below an issuer must have too (RFC 7633, 4.2.2)."""
    if issuer is None:
        return ()
    try:
        return tuple(issuer.extensions.get_extension_for_class(x509.TLSFeature).value)
    except x509.ExtensionNotFound:
        return ()


def _uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def check_base_url(text: str) -> str:
    """The base URL without a slash at its end. UsageError when it is no http(s) URL."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"base_url {text!r} is no URL: {error}") from None
    sound = parts.scheme in ("http", "https") and parts.hostname and text.isascii()
    if not sound or parts.query or parts.fragment or parts.username or port == 0 or " " in text:
        raise UsageError(
            f"base_url {text!r} is not of the form http://host[:port][/path]",
            hint="use http, not https: a client must fetch CRLs before it can trust anything",
        )
    return text.rstrip("/")
