"""What the purpose server refuses and accepts: one certificate of the chain changed at a time."""
# ruff: noqa: E501 (tables are read one case a line)

from __future__ import annotations

import functools
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.x509.oid import ExtensionOID as Ext
from tests.pki import forge
from tests.pki.forge import AFTER, BEFORE, CLIENT, EMAIL, SERVER, ca, dns, ekus, leaf, of, usage
from tests.pki.makers import NOW, key

from tpmhsm.errors import TpmHsmError
from tpmhsm.pki import der
from tpmhsm.pki.verify import VerifyOptions, verify_certificate

UNKNOWN = forge.extension("1.3.6.1.4.1.55738.666.1", b"", critical=True)
DNS = x509.DNSName


def ask(end, trust, pool=(), **options) -> str:
    options = {"purpose": "server", "host": "example.com", "at": NOW} | options
    try:
        verify_certificate(
            end.raw, [t.raw for t in trust], [p.raw for p in pool], VerifyOptions(**options)
        )
    except TpmHsmError as error:
        assert error.message and "Traceback" not in error.message
        return error.details.get("reason", "error")
    return "valid"


def constraints(permitted=(), excluded=()):
    return of(x509.NameConstraints(list(permitted) or None, list(excluded) or None), True)


def root(**options):
    return ca(**options)


def middle(issuer, **options):
    return ca(options.pop("subject", "CN=Forged Issuing"), issuer, **options)


def chain_of(top=None, mid=None, end=None, **options):
    """root, intermediate (when given) and leaf made with those options."""
    one = root(**(top or {}))
    pool = [] if mid is None else [middle(one, **mid)]
    return ask(leaf(pool[-1] if pool else one, **(end or {})), [one], pool, **options)


@functools.cache
def odd_key(kind: str):
    if kind == "dsa":
        return dsa.generate_private_key(2048)
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    return ec.generate_private_key({"p192": ec.SECP192R1(), "k256": ec.SECP256K1()}[kind])


BC, KU, EKU, SAN = (
    Ext.BASIC_CONSTRAINTS,
    Ext.KEY_USAGE,
    Ext.EXTENDED_KEY_USAGE,
    Ext.SUBJECT_ALTERNATIVE_NAME,
)
AKI, SKI, NC = Ext.AUTHORITY_KEY_IDENTIFIER, Ext.SUBJECT_KEY_IDENTIFIER, Ext.NAME_CONSTRAINTS
AIA = Ext.AUTHORITY_INFORMATION_ACCESS
NO_USAGE = forge.extension(KU.dotted_string, bytes.fromhex("03020700"))
ACCESS = x509.AuthorityInformationAccess(
    [x509.AccessDescription(x509.OID_CA_ISSUERS, DNS("example.com"))]
)
POLICY_CONSTRAINTS = x509.PolicyConstraints(3, None)
OTHER_ID = of(x509.AuthorityKeyIdentifier(b"12345678", None, None))


def _san_of(*names, critical=False):
    return {"change": {SAN: forge.sans(*names, critical=critical)}}


FINE = [
    ("plain", {}),
    ("an intermediate", {"mid": {}}),
    ("no key usage", {"end": {"change": {KU: None}}}),
    ("basicConstraints of a leaf", {"end": {"change": {BC: of(x509.BasicConstraints(False, None))}}}),
    ("information access", {"end": {"change": {AIA: of(ACCESS)}}}),
    ("client too", {"end": {"change": {EKU: ekus(SERVER, CLIENT)}}}),
    ("a root with its own identifier", {"top": {"change": {AKI: "own"}}}),
    ("a root with key usage uncritical", {"top": {"change": {KU: usage("key_cert_sign", critical=False)}}}),
    ("a root without key usage", {"top": {"change": {KU: None}}}),
    ("constraints uncritical", {"mid": {"change": {NC: of(x509.NameConstraints([DNS("example.com")], None))}}}),
    ("an empty subject", {"end": {"subject": "", "change": {SAN: dns("example.com", critical=True)}}}),
    ("the first second", {"end": {"not_before": NOW}}),
    ("the last second", {"end": {"not_after": NOW}}),
    ("a part of a second more", {"end": {"not_after": NOW}, "at": NOW + timedelta(milliseconds=5)}),
    ("a common name above", {"end": {"change": {SAN: dns("a.b.example.com")}}, "host": "a.b.example.com"}),
    ("an address", {"end": _san_of(x509.IPAddress(IPv4Address("127.0.0.1"))), "host": "127.0.0.1"}),
    ("organisation and common name", {"end": {"subject": "CN=bad.example.org,O=Some"}}),
    ("a wildcard", {"end": {"change": {SAN: dns("*.example.com")}}, "host": "foo.example.com"}),
    ("a serial number of 20 octets", {"end": {"serial": 1 << 158}}),
]  # fmt: skip

BAD = [
    ("empty issuer", {"end": {"issuer_name": forge.name("")}}, None),
    ("a CA without a name", {"mid": {"subject": ""}}, None),
    ("unknown critical, leaf", {"end": {"more": (UNKNOWN,)}}, "unknown-critical"),
    ("unknown critical, middle", {"mid": {"more": (UNKNOWN,)}}, "unknown-critical"),
    ("unknown critical, root", {"top": {"more": (UNKNOWN,)}}, "unknown-critical"),
    ("middle no CA", {"mid": {"change": {BC: of(x509.BasicConstraints(False, None), True)}}}, "not-a-ca"),
    ("middle without basicConstraints", {"mid": {"change": {BC: None}}}, "not-a-ca"),
    ("root without basicConstraints", {"top": {"change": {BC: None}}}, "not-a-ca"),
    ("root with basicConstraints uncritical", {"top": {"change": {BC: of(x509.BasicConstraints(True, None))}}}, "profile"),
    ("root with no usage", {"top": {"change": {KU: NO_USAGE}}}, None),
    ("root without keyCertSign", {"top": {"change": {KU: usage("crl_sign")}}}, "not-a-ca"),
    ("middle without keyCertSign", {"mid": {"change": {KU: usage("digital_signature")}}}, "not-a-ca"),
    ("leaf with keyCertSign", {"end": {"change": {KU: usage("digital_signature", "key_cert_sign")}}}, "profile"),
    ("leaf with no usage", {"end": {"change": {KU: NO_USAGE}}}, None),
    ("critical access", {"end": {"change": {AIA: of(ACCESS, True)}}}, "profile"),
    ("malformed access", {"end": {"change": {AIA: forge.extension(AIA.dotted_string, b"malformed")}}}, None),
    ("twice", {"end": {"more": (dns("example.com"),)}}, "broken"),
    ("malformed names", {"end": {"change": {SAN: forge.extension(SAN.dotted_string, b"example.com")}}}, None),
    ("two algorithms", {"end": {"inner": forge.algorithm(None, "1.2.840.10045.4.3.3")}}, "broken"),
    ("two algorithms in the root", {"top": {"inner": forge.algorithm(None, "1.2.840.10045.4.3.3")}}, "broken"),
    ("critical key identifier", {"top": {"change": {SKI: "critical"}}}, "profile"),
    ("critical authority key identifier", {"mid": {"change": {AKI: "critical"}}}, "profile"),
    ("leaf without authority key", {"end": {"change": {AKI: None}}}, "profile"),
    ("middle without authority key", {"mid": {"change": {AKI: None}}}, "profile"),
    ("root without key identifier", {"top": {"change": {SKI: None}}}, "profile"),
    ("middle without key identifier", {"mid": {"change": {SKI: None}}}, "profile"),
    ("root with a foreign identifier", {"top": {"change": {AKI: OTHER_ID}}}, "profile"),
    ("root with extended usages", {"top": {"change": {EKU: ekus(SERVER)}}}, "profile"),
    ("policy constraints uncritical", {"mid": {"change": {Ext.POLICY_CONSTRAINTS: of(POLICY_CONSTRAINTS)}}}, "profile"),
    ("names uncritical without subject", {"end": {"subject": ""}}, "profile"),
    ("names critical beside a subject", {"end": {"change": {SAN: dns("example.com", critical=True)}}}, "profile"),
    ("no names", {"end": {"change": {SAN: None}}}, "wrong-host"),
    ("serial zero", {"end": {"serial": 0}}, "profile"),
    ("serial negative", {"end": {"serial": -5}}, "profile"),
    ("serial long", {"end": {"serial": 1 << 170}}, "profile"),
    ("constraints in a leaf", {"end": {"change": {NC: constraints([DNS("example.com")])}}}, "profile"),
    ("a client", {"end": {"change": {EKU: ekus(CLIENT)}}}, "wrong-purpose"),
    ("no extended usage", {"end": {"change": {EKU: None}}}, "profile"),
    ("any usage", {"end": {"change": {EKU: ekus(SERVER, "2.5.29.37.0")}}}, "profile"),
    ("mail too", {"end": {"change": {EKU: ekus(SERVER, EMAIL)}}}, "profile"),
    ("precertificates too", {"end": {"change": {EKU: ekus(SERVER, "1.3.6.1.4.1.11129.2.4.4")}}}, "profile"),
    ("critical extended usage", {"end": {"change": {EKU: ekus(SERVER, critical=True)}}}, "profile"),
    ("middle for mail", {"mid": {"change": {EKU: ekus(EMAIL)}}}, "wrong-purpose"),
    ("version 1", {"end": {"version": 1, "change": dict.fromkeys((KU, EKU, SAN, SKI, AKI))}}, None),
    ("extensions in version 1", {"end": {"version": 1}}, "broken"),
    ("expired", {"end": {"not_after": NOW - timedelta(seconds=1)}}, "expired"),
    ("expired middle", {"mid": {"not_after": NOW - timedelta(seconds=1)}}, "expired"),
    ("expired root", {"top": {"not_after": NOW - timedelta(seconds=1)}}, "expired"),
    ("a moment too early", {"end": {"not_before": NOW}, "at": NOW - timedelta(milliseconds=1)}, "not-yet-valid"),
    ("another common name", {"end": {"subject": "CN=other.example.com"}}, "profile"),
    ("common name in capitals", {"end": {"subject": "CN=Example.COM"}}, "profile"),
    ("hexadecimal address", {"end": {"subject": "CN=0xC0A80101"} | _san_of(x509.IPAddress(IPv4Address("192.168.1.1"))), "host": "192.168.1.1"}, "profile"),
    ("long form of an address", {"end": {"subject": "CN=2001:db8:0:0:1:0:0:1"} | _san_of(x509.IPAddress(IPv6Address("2001:db8::1:0:0:1"))), "host": "2001:db8::1:0:0:1"}, "profile"),
    ("wildcard of all", {"end": {"change": {SAN: dns("*")}}}, "wrong-host"),
    ("wildcard of com", {"end": {"change": {SAN: dns("*.com")}}}, None),
    ("wildcard of co.uk", {"end": {"change": {SAN: dns("*.co.uk")}}, "host": "example.co.uk"}, "profile"),
    ("wildcard within a label", {"end": {"change": {SAN: dns("ba*.example.com", "example.com")}}}, "profile"),
    ("weak hash", {"mid": {"oid": "1.2.840.10045.4.1", "digest": hashes.SHA1()}}, "weak-algorithm"),
    ("weak hash of the leaf", {"end": {"oid": "1.2.840.10045.4.1", "digest": hashes.SHA1()}}, "weak-algorithm"),
]  # fmt: skip


def _filled(options: dict, subject: str) -> dict:
    """`own` and `critical` become extensions that depend on the key, given by a word."""
    private = key("p256", hash(("forge", subject)))
    made = {}
    identifier = x509.AuthorityKeyIdentifier(forge.key_id(private), None, None)
    own = of(x509.SubjectKeyIdentifier(forge.key_id(private)), True)
    above = key("p256", hash(("forge", "CN=Forged Root")))
    upper = of(x509.AuthorityKeyIdentifier(forge.key_id(above), None, None), True)
    words = {"own": of(identifier), "critical": upper}
    for oid, value in options.get("change", {}).items():
        made[oid] = own if value == "critical" and oid == SKI else words.get(value, value)
    return options | {"change": made} if made else options


def run(spec: dict) -> str:
    spec = dict(spec)
    if "top" in spec:
        spec["top"] = _filled(spec["top"], "CN=Forged Root")
    if "mid" in spec:
        spec["mid"] = _filled(spec["mid"], "CN=Forged Issuing")
    return chain_of(**spec)


@pytest.mark.parametrize("spec", [pytest.param(s, id=i) for i, s in FINE])
def test_accepted(spec):
    assert run(spec) == "valid"


@pytest.mark.parametrize(("spec", "reason"), [pytest.param(s, r, id=i) for i, s, r in BAD])
def test_refused(spec, reason):
    found = run(spec)
    assert found != "valid"
    assert reason in (None, found)


@pytest.mark.parametrize("kind", ["dsa", "p192", "k256", "rsa1024", "rsa2052"])
def test_weak_keys_are_refused_in_every_place(kind):
    weak = odd_key(kind)
    assert chain_of(end={"private": weak}) == "weak-key"
    if kind != "dsa":
        assert chain_of(top={"private": weak}) == "weak-key"
        assert chain_of(mid={"private": weak}) == "weak-key"


def test_post_quantum_signatures():
    mldsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.mldsa")
    one, two = mldsa.MLDSA44PrivateKey.generate(), mldsa.MLDSA44PrivateKey.generate()
    assert chain_of(top={"private": one}, end={"private": two}) == "valid"
    exchange = {KU: usage("digital_signature", "key_encipherment")}
    assert chain_of(top={"private": one}, end={"private": two, "change": exchange}) == "profile"
    impostor = root(private=two)
    forged = leaf(impostor, change={AKI: forge.aki(root(private=one))})
    assert ask(forged, [root(private=one)]) == "bad-signature"


NETWORK = IPv4Network("192.0.2.0/24")
HOST, OUTSIDE = IPv4Address("192.0.2.1"), IPv4Address("192.0.3.1")
MAIL = x509.RFC822Name
OTHER = x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.55738.666.3"), b"\5\0")
DN = x509.DirectoryName


def dn(text):
    return DN(x509.Name.from_rfc4514_string(text))


CONSTRAINED = [
    # permitted, excluded, names of the leaf, valid?
    ([DNS("example.com")], [], [DNS("not-example.com")], False),
    ([DNS("example.com")], [], [DNS("foo.bar.example.com")], True),
    ([DNS("example.com")], [], [DNS("EXAMPLE.com")], True),
    ([DNS("")], [], [DNS("example.com")], True),
    ([DNS(".example.com")], [], [DNS("example.com")], False),
    ([DNS(".example.com")], [], [DNS("a.example.com")], True),
    ([], [DNS("example.com")], [DNS("example.com")], False),
    ([], [DNS("not-allowed.example.com")], [DNS("example.com"), DNS("not-allowed.example.com")], False),
    ([DNS("example.com")], [DNS("example.com")], [DNS("example.com")], False),
    ([DNS("example.com")], [], [DNS("*.example.com")], True),
    ([DNS("foo.example.com")], [], [DNS("*.example.com")], False),
    ([DNS("example.com")], [DNS("bar.example.com")], [DNS("*.example.com")], False),
    ([DNS("example.com")], [DNS("a.bar.example.com")], [DNS("*.example.com")], True),
    ([DNS("example.com")], [], [DNS(".example.com"), DNS("foo.example.com")], False),
    ([x509.IPAddress(NETWORK)], [], [x509.IPAddress(HOST)], True),
    ([x509.IPAddress(NETWORK)], [], [x509.IPAddress(OUTSIDE)], False),
    ([x509.IPAddress(NETWORK)], [], [DNS("example.com")], True),
    ([x509.IPAddress(NETWORK)], [], [x509.IPAddress(IPv6Address("::1"))], False),
    ([], [x509.IPAddress(ip_network("::/0"))], [x509.IPAddress(HOST)], True),
    ([], [x509.IPAddress(ip_network("::1/128"))], [x509.IPAddress(IPv6Address("::1"))], False),
    ([x509.IPAddress(NETWORK)], [], [x509.IPAddress(NETWORK), x509.IPAddress(HOST)], False),
    ([], [x509.IPAddress(NETWORK)], [x509.IPAddress(HOST)], False),
    ([MAIL("foo@example.com")], [], [MAIL("foo@example.com")], True),
    ([MAIL("foo@example.com")], [], [MAIL("bar@example.com")], False),
    ([MAIL("example.com")], [], [MAIL("foo@EXAMPLE.com")], True),
    ([MAIL("example.com")], [], [MAIL("foo@sub.example.com")], False),
    ([MAIL(".example.com")], [], [MAIL("foo@sub.example.com")], True),
    ([MAIL("example.com")], [], [MAIL._init_without_validation("a@b@example.com")], False),
    ([x509.UniformResourceIdentifier("example.com")], [], [x509.UniformResourceIdentifier("https://example.com/x")], True),
    ([x509.UniformResourceIdentifier("example.com")], [], [x509.UniformResourceIdentifier("https://a.example.com/x")], False),
    ([x509.UniformResourceIdentifier(".example.com")], [], [x509.UniformResourceIdentifier("https://u@a.example.com:1/x")], True),
    ([], [x509.UniformResourceIdentifier("example.com")], [x509.UniformResourceIdentifier("urn:x:y")], False),
    ([], [x509.UniformResourceIdentifier("example.com")], [x509.UniformResourceIdentifier("http://192.0.2.1/")], False),
    ([dn("CN=foo")], [], [dn("CN=not-foo")], False),
    ([], [dn("O=Forged")], [dn("CN=x,O=forged")], False),
    ([], [OTHER], [DNS("example.com"), OTHER], False),
    ([], [OTHER], [DNS("example.com")], True),
]  # fmt: skip


@pytest.mark.parametrize(("permitted", "excluded", "names", "fine"), CONSTRAINED)
@pytest.mark.parametrize("place", ["top", "mid"])
def test_name_constraints(permitted, excluded, names, fine, place):
    limits = {"change": {NC: constraints(permitted, excluded)}}
    spec = {"mid": {}, place: limits}
    end = {"subject": "CN=A person" if permitted != [dn("CN=foo")] else "CN=foo"}
    found = run(spec | {"end": end | _san_of(*names), "host": "", "purpose": "any"})
    assert (found == "valid") == fine, found


def mailbox(text):
    value = der.encode(der.UTF8_STRING, text.encode()) if text is not None else b"\5\0"
    return x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9"), value)


@pytest.mark.parametrize(
    ("permitted", "excluded", "text", "fine"),
    [
        ([], [MAIL("example.com")], "ж@example.com", False),
        ([], [MAIL("example.com")], "user@Example.COM", False),
        ([], [MAIL("example.com")], "ж@example.org", True),
        ([MAIL("example.com")], [], "ж@example.com", True),
        ([MAIL("example.com")], [], "ж@example.org", False),
        ([MAIL("example.com")], [], "ж@bücher.example", False),
        ([MAIL("example.com")], [], None, False),
        ([DNS("example.com")], [], "ж@example.org", True),
        ([], [mailbox("x@example.org")], "ж@example.org", False),
    ],
)
def test_constraints_on_mailboxes_hold_beyond_ascii(permitted, excluded, text, fine):
    """RFC 9598, section 6."""
    limits = {"mid": {"change": {NC: constraints(permitted, excluded)}}}
    end = {"subject": "CN=A person"} | _san_of(mailbox(text))
    found = run(limits | {"end": end, "host": "", "purpose": "any"})
    assert (found == "valid") == fine, found


def test_constraints_of_the_subject():
    limits = {"mid": {"change": {NC: constraints([dn("O=Forged")])}}}
    for subject, fine in (("CN=x,O=FORGED", True), ("CN=x,O=Other", False)):
        found = run(limits | {"end": {"subject": subject}, "purpose": "any"})
        assert (found == "valid") == fine


@pytest.mark.parametrize(
    "base", [b"\x82\x0d*.example.com", b"\x87\x04\x7f\0\0\1", b"\x87\x08\x7f\0\0\1\xff\0\xff\0"]
)
def test_malformed_constraints_are_refused(base):
    tree = der.encode(der.SEQUENCE, der.encode(0xA0, der.encode(der.SEQUENCE, base)))
    change = {NC: forge.extension(NC.dotted_string, tree, True)}
    assert run({"mid": {"change": change}}) == "broken"
    for empty in (b"\x30\0", b"\x30\x04\xa0\0\xa1\0"):
        change = {NC: forge.extension(NC.dotted_string, empty, True)}
        assert run({"mid": {"change": change}}) == "broken"


def test_constraints_add_up():
    top = root()
    one = ca(
        "CN=One", top, change={NC: constraints([DNS("foo.example.com"), DNS("bar.example.com")])}
    )
    two = ca("CN=Two", one, change={NC: constraints([DNS("bar.example.com")])})
    for host, fine in (("foo.example.com", False), ("bar.example.com", True)):
        end = leaf(two, subject="", change={SAN: dns(host, critical=True)})
        found = ask(end, [top], [one, two], host=host)
        assert (found == "valid") == fine


def test_constraints_bind_intermediates_but_no_self_issued_ones():
    top = ca("CN=not-example.com", change={NC: constraints([DNS("example.com")])})
    rolled = ca(
        "CN=not-example.com",
        top,
        private=key("p256", "rolled"),
        change={SAN: dns("not-example.com")},
    )
    assert ask(leaf(rolled), [top], [rolled]) == "valid"
    other = ca("CN=Other", top, change={SAN: dns("not-example.com")})
    assert ask(leaf(other), [top], [other]) == "name-constraint"
    own = leaf(rolled, subject="CN=not-example.com", change={SAN: dns("not-example.com")})
    assert ask(own, [top], [rolled], host="not-example.com") == "name-constraint"


def test_dates_use_both_forms():
    assert BEFORE < NOW < AFTER < forge.FAR
    assert chain_of(end={"not_after": forge.FAR}) == "valid"


def test_mail():
    boxes = _san_of(MAIL("user@example.com"))["change"]
    good = {"change": boxes | {EKU: ekus(EMAIL)}}
    mail = {"purpose": "email", "host": "user@example.com"}
    assert chain_of(end=good, **mail) == "valid"
    assert chain_of(end=good, mid={}, **mail) == "valid"
    assert chain_of(end=good, **mail | {"host": "other@example.com"}) == "wrong-host"
    assert chain_of(end=good, **mail | {"host": "user@example.org"}) == "wrong-host"
    for change in (
        {EKU: None},
        {EKU: ekus(EMAIL, SERVER)},
        {EKU: ekus(EMAIL, "2.5.29.37.0")},
        {KU: None},
        {KU: usage("digital_signature", "key_cert_sign")},
        {SAN: forge.sans(MAIL("user@example.com"), critical=True)},
    ):
        assert chain_of(end={"change": good["change"] | change}, **mail) == "profile"
    for change in ({KU: usage("key_cert_sign")}, {EKU: ekus(EMAIL, SERVER)}):
        assert chain_of(end=good, mid={"change": change}, **mail) == "profile"
    assert chain_of(end=good, mid={"change": {EKU: ekus(SERVER)}}, **mail) == "wrong-purpose"
    assert chain_of(end=good, top={"change": {EKU: ekus(EMAIL)}}, **mail) == "profile"


# ── keys for RSASSA-PSS (RFC 4055) ───────────────────────────────────────────


def pss(*hashes_):
    """AlgorithmIdentifier of RSASSA-PSS with this hash, and this one of the mask."""
    fields = []
    if hashes_:
        one, two = (der.encode(der.SEQUENCE, der.encode_oid(oid)) for oid in hashes_)
        mgf = der.encode(der.SEQUENCE, der.encode_oid("1.2.840.113549.1.1.8"), two)
        fields = [der.encode(0xA0, one), der.encode(0xA1, mgf)]
        fields.append(der.encode(0xA2, der.encode_integer(32)))
    parameters = der.encode(der.SEQUENCE, *fields)
    return der.encode(der.SEQUENCE, der.encode_oid("1.2.840.113549.1.1.10"), parameters)


SHA1, SHA256, SHA512 = "1.3.14.3.2.26", "2.16.840.1.101.3.4.2.1", "2.16.840.1.101.3.4.2.3"
PLAIN_RSA = forge.algorithm(key("rsa2048"))
RSA_KEY = forge.algorithm(key("rsa2048"), "1.2.840.113549.1.1.1")
PSS_ALONE = der.encode(der.SEQUENCE, der.encode_oid("1.2.840.113549.1.1.10"))
SCHEMES = {SHA1: (hashes.SHA1(), 20), SHA256: (hashes.SHA256(), 32), SHA512: (hashes.SHA512(), 32)}


def by_rsa(digest, subject_key, algorithm):
    """(leaf, root): the root's key has this AlgorithmIdentifier, the leaf's signature that one."""
    private = key("rsa2048")
    top = ca("CN=PSS Root", private=private)
    fields = der.children(der.children(der.read_whole(top.raw).content)[0].content)
    bits = der.children(fields[6].content)[1].raw
    raws = [field.raw for field in fields]
    raws[6] = der.encode(der.SEQUENCE, subject_key, bits)
    root_raw = forge.signed(private, der.encode(der.SEQUENCE, *raws))
    fields = der.children(der.children(der.read_whole(leaf(top).raw).content)[0].content)
    raws = [field.raw for field in fields]
    raws[2] = algorithm
    tbs = der.encode(der.SEQUENCE, *raws)
    if algorithm == PLAIN_RSA:
        signature = forge.sign(private, tbs)
    else:
        scheme, salt = SCHEMES[digest]
        signature = private.sign(tbs, padding.PSS(padding.MGF1(scheme), salt), scheme)
    signed = der.encode(der.SEQUENCE, tbs, algorithm, der.encode(der.BIT_STRING, b"\0", signature))
    return signed, root_raw


@pytest.mark.parametrize(
    ("subject_key", "algorithm", "digest", "said"),
    [
        (RSA_KEY, PLAIN_RSA, "", "valid"),
        (RSA_KEY, pss(SHA256, SHA256), SHA256, "valid"),
        (PSS_ALONE, pss(SHA256, SHA256), SHA256, "valid"),
        (PSS_ALONE, PLAIN_RSA, "", "bad-signature"),
        (pss(SHA256, SHA256), pss(SHA256, SHA256), SHA256, "valid"),
        (pss(SHA256, SHA256), pss(SHA512, SHA512), SHA512, "bad-signature"),
        (pss(SHA256, SHA256), PLAIN_RSA, "", "bad-signature"),
        (RSA_KEY, pss(), SHA1, "weak-algorithm"),
    ],
    ids=range(8),
)
def test_keys_for_pss_sign_with_pss(subject_key, algorithm, digest, said):
    end, top = by_rsa(digest, subject_key, algorithm)
    found = "valid"
    try:
        verify_certificate(end, [top], (), VerifyOptions(at=NOW))
    except TpmHsmError as error:
        found = error.details["reason"]
    assert found == said
