"""Which CRLs settle what (RFC 5280 section 6.3; the Baseline Requirements for servers)."""
# ruff: noqa: E501 (tables are read one case a line)

from __future__ import annotations

import glob
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID as Ext
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pki import forge
from tests.pki.forge import aki, ca, crl, entry, leaf, of, usage
from tests.pki.makers import NOW, key
from tests.pki.test_path_profile import ask

from tpmhsm.errors import ParseError, TpmHsmError
from tpmhsm.pki import der
from tpmhsm.pki.crl_file import crl_ders, read_path_crl
from tpmhsm.pki.load import to_pem
from tpmhsm.pki.path_certificate import read_path_certificate
from tpmhsm.pki.verify import VerifyOptions, verify_certificate

URI, OTHER_URI = "http://example.com/partition.crl", "http://example.com/other.crl"
DAY = timedelta(days=1)
UNKNOWN = forge.extension("1.3.6.1.4.1.55738.666.1", b"", critical=True)
HARMLESS = forge.extension("1.3.6.1.4.1.55738.666.1", b"")


def uri(text):
    return x509.UniformResourceIdentifier(text)


def points(*names, reasons=None, issuer=None):
    point = x509.DistributionPoint(list(names) or None, None, reasons, issuer)
    return {Ext.CRL_DISTRIBUTION_POINTS: of(x509.CRLDistributionPoints([point]))}


def scope(*names, relative=None, user=False, authority=False, attribute=False, reasons=None,
          indirect=False):  # fmt: skip
    return of(
        x509.IssuingDistributionPoint(
            list(names) or None, relative, user, authority, reasons, indirect, attribute
        ),
        True,
    )


def revoked(end, lists, *, top, pool=(), purpose="server"):
    return ask(end, [top], pool, crls=tuple(lists), require_crl=True, purpose=purpose)


TOP = ca("CN=CRL Root")
END = leaf(TOP)
CDP = leaf(TOP, change=points(uri(URI)))
REASONS = x509.ReasonFlags

CASES = [
    # id, the leaf, arguments of the CRL, what server says, what any says
    ("empty", END, {}, "valid", "valid"),
    ("others", END, {"entries": [entry(5), entry(6)]}, "valid", "valid"),
    ("revoked", END, {"entries": [entry(END)]}, "revoked", "revoked"),
    ("revoked in the future", END, {"entries": [entry(END, NOW + DAY)]}, "revoked", "revoked"),
    ("entry with an unknown extension", END, {"entries": [entry(END, NOW, UNKNOWN)]}, "revoked", "revoked"),
    ("wrong key", END, {"signer": key("p256", "none")}, "crl-missing", "crl-missing"),
    ("not yet", END, {"this": NOW + DAY}, "crl-stale", "crl-stale"),
    ("no more", END, {"this": NOW - 9 * DAY, "after": NOW - DAY}, "crl-stale", "crl-stale"),
    ("no nextUpdate", END, {"after": None}, "crl-missing", "crl-missing"),
    ("unknown extension", END, {"more": (UNKNOWN,)}, "crl-missing", "crl-missing"),
    ("harmless extension", END, {"more": (HARMLESS,)}, "valid", "valid"),
    ("no number", END, {"number": None}, "crl-missing", "valid"),
    ("critical number", END, {"number": of(x509.CRLNumber(5), True)}, "crl-missing", "valid"),
    ("version 1", END, {"version": None}, "crl-missing", "valid"),
    ("a serial number twice", END, {"entries": [entry(7), entry(7)]}, "crl-missing", "valid"),
    ("users only", END, {"more": (scope(user=True),)}, "valid", "valid"),
    ("CAs only", END, {"more": (scope(authority=True),)}, "crl-missing", "crl-missing"),
    ("attributes only", END, {"more": (scope(attribute=True),)}, "crl-missing", "crl-missing"),
    ("same point", CDP, {"more": (scope(uri(URI)),)}, "valid", "valid"),
    ("another point", CDP, {"more": (scope(uri(OTHER_URI)),)}, "crl-missing", "crl-missing"),
    ("no point in the leaf", END, {"more": (scope(uri(URI)),)}, "crl-missing", "crl-missing"),
    ("a point that is no URI", CDP, {"more": (scope(uri(URI), x509.DNSName("a.example")),)}, "crl-missing", "valid"),
    ("a leaf's point that is no URI", leaf(TOP, change=points(uri(URI), x509.DNSName("a.example"))), {"more": (scope(uri(URI)),)}, "crl-missing", "valid"),
    ("indirect", CDP, {"more": (scope(uri(URI), indirect=True),)}, "crl-missing", "valid"),
    ("some reasons", CDP, {"more": (scope(uri(URI), reasons=frozenset([REASONS.key_compromise])),)}, "crl-missing", "crl-missing"),
]  # fmt: skip


@pytest.mark.parametrize(("end", "given", "server", "anything"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])  # fmt: skip
def test_one_crl(end, given, server, anything):
    given = dict(given)
    made = crl(TOP, *given.pop("entries", ()), **given)
    assert revoked(end, [made], top=TOP) == server
    assert revoked(end, [made], top=TOP, purpose="any") == anything


def odd_entry(serial, when, *, tail=b"", header=None):
    body = der.encode_integer(serial) + when + tail
    return (header or der.header)(der.SEQUENCE, len(body)) + body


def with_entries(entries):
    """A CRL whose entries are these octets."""
    items = (aki(TOP), of(x509.CRLNumber(5)))
    tbs = der.encode(
        der.SEQUENCE,
        der.encode_integer(1),
        forge.algorithm(TOP.key),
        TOP.name,
        forge.time(NOW - DAY),
        forge.time(NOW + DAY),
        der.encode(der.SEQUENCE, entries),
        der.encode(0xA0, der.encode(der.SEQUENCE, *items)),
    )
    return forge.signed(TOP.key, tbs)


WHEN = forge.time(NOW - DAY)
REASON = forge.extension("2.5.29.21", b"zz")
ODD_ENTRIES = [
    # id, octets, what is said
    ("a fraction", odd_entry(END.serial, der.encode(0x18, b"20261101000000.5Z")), "crl-missing"),
    ("an offset", odd_entry(END.serial, der.encode(0x17, b"261101000000+0100")), "crl-missing"),
    ("no date", odd_entry(END.serial, der.encode(0x17, b"then")), "crl-missing"),
    ("a long length", odd_entry(END.serial, WHEN, header=lambda t, n: bytes((t, 0x82, 0, n))), "revoked"),
    ("an open end", b"\x30\x80" + der.encode_integer(END.serial) + WHEN + b"\0\0", "crl-missing"),
    ("a reason that is none", odd_entry(END.serial, WHEN, tail=der.encode(der.SEQUENCE, REASON)), "crl-missing"),
    ("four parts", odd_entry(END.serial, WHEN, tail=der.encode(der.SEQUENCE) + der.encode(der.NULL)), "crl-missing"),
    ("64 KiB", odd_entry(END.serial, WHEN, tail=der.encode(der.SEQUENCE, forge.extension("1.2.3", bytes(70_000)))), "revoked"),
]  # fmt: skip


@pytest.mark.parametrize(("octets", "said"), [c[1:] for c in ODD_ENTRIES], ids=[c[0] for c in ODD_ENTRIES])  # fmt: skip
def test_an_entry_that_breaks_rules_revokes_all_the_same(octets, said):
    made = with_entries(odd_entry(1, WHEN) + octets + odd_entry(2, WHEN))
    assert revoked(END, [made], top=TOP, purpose="any") == said


def test_octets_that_look_like_the_serial_number_revoke_nobody():
    inner = forge.extension("1.2.3", b"\x30\x05" + der.encode_integer(END.serial) + b"x")
    made = with_entries(odd_entry(1, WHEN, tail=der.encode(der.SEQUENCE, inner)))
    assert revoked(END, [made], top=TOP, purpose="any") == "valid"


def test_of_two_lists_the_newer_one_decides():
    older = crl(TOP, this=NOW - 2 * DAY, number=of(x509.CRLNumber(4)))
    newer = crl(TOP, entry(END))
    assert revoked(END, [older, newer], top=TOP) == "revoked"
    assert revoked(END, [newer, older], top=TOP) == "revoked"
    held = crl(TOP, entry(END), this=NOW - 2 * DAY, number=of(x509.CRLNumber(4)))
    assert revoked(END, [held, crl(TOP)], top=TOP) == "valid"
    same_day = crl(TOP, number=of(x509.CRLNumber(4)))
    assert revoked(END, [same_day, newer], top=TOP) == "revoked"


def test_a_critical_extension_of_any_entry_spoils_the_list():
    assert revoked(END, [crl(TOP, entry(7, NOW, UNKNOWN))], top=TOP) == "crl-missing"
    assert revoked(END, [crl(TOP, entry(7, NOW, HARMLESS))], top=TOP) == "valid"
    known = forge.extension("2.5.29.21", der.encode(0x0A, b"\1"), critical=True)
    assert revoked(END, [crl(TOP, entry(7, NOW, known))], top=TOP) == "valid"


def test_the_whole_path_needs_crls():
    middle = ca("CN=CRL Issuing", TOP)
    end = leaf(middle)
    both = [crl(TOP), crl(middle)]
    assert revoked(end, both, top=TOP, pool=[middle]) == "valid"
    assert revoked(end, both[:1], top=TOP, pool=[middle]) == "crl-missing"
    assert revoked(end, both[1:], top=TOP, pool=[middle]) == "crl-missing"
    gone = [crl(TOP, entry(middle)), crl(middle)]
    assert revoked(end, gone, top=TOP, pool=[middle]) == "revoked"
    users = [crl(TOP, more=(scope(user=True),)), crl(middle)]
    assert revoked(end, users, top=TOP, pool=[middle]) == "crl-missing"


def test_another_issuers_list_says_nothing():
    other = ca("CN=Another CRL Root")
    lists = (crl(TOP), crl(other, entry(END)))
    options = {"crls": lists, "require_crl": True}
    assert ask(END, [TOP, other], **options) == "valid"


def test_the_issuer_must_be_allowed_to_sign_crls():
    top = ca("CN=No CRLs", change={Ext.KEY_USAGE: usage("key_cert_sign")})
    assert revoked(leaf(top), [crl(top)], top=top) == "crl-missing"
    top = ca("CN=No Usage", change={Ext.KEY_USAGE: None})
    assert revoked(leaf(top), [crl(top)], top=top) == "valid"


def test_a_delta_adds_and_removes():
    def delta(*entries, number=7, base=5):
        return crl(
            TOP, *entries, number=of(x509.CRLNumber(number)), more=(of(x509.DeltaCRLIndicator(base), True),)
        )  # fmt: skip

    held = entry(END, NOW, of(x509.CRLReason(REASONS.certificate_hold)))
    freed = entry(END, NOW, of(x509.CRLReason(REASONS.remove_from_crl)))
    ask_any = {"top": TOP, "purpose": "any"}
    assert revoked(END, [delta()], **ask_any) == "crl-missing"
    assert revoked(END, [crl(TOP), delta()], **ask_any) == "valid"
    assert revoked(END, [crl(TOP), delta(entry(END))], **ask_any) == "revoked"
    assert revoked(END, [crl(TOP, held), delta()], **ask_any) == "revoked"
    assert revoked(END, [crl(TOP, held), delta(freed)], **ask_any) == "valid"
    assert revoked(END, [crl(TOP), delta(entry(END), base=6)], **ask_any) == "valid"
    assert revoked(END, [crl(TOP), delta(entry(END), number=5)], **ask_any) == "valid"


def test_indirect_lists():
    signer = ca("CN=CRL Signer", TOP)
    directory = x509.DirectoryName(x509.Name.from_rfc4514_string("CN=CRL Signer"))
    end = leaf(TOP, change=points(issuer=[directory]))
    named = of(x509.CertificateIssuer([x509.DirectoryName(x509.Name.from_rfc4514_string("CN=CRL Root"))]), True)  # fmt: skip
    flag = (scope(indirect=True),)
    lists = {
        "valid": crl(signer, more=flag),
        "revoked": crl(signer, entry(5, NOW, named), entry(end), more=flag),
        "crl-missing": crl(signer, entry(5, NOW, named), entry(end)),
    }
    for expected, made in lists.items():
        given = [made, crl(TOP, more=(scope(authority=True),))]
        assert revoked(end, given, top=TOP, pool=[signer], purpose="any") == expected
    unnamed = crl(signer, entry(end), more=flag)
    given = [unnamed, crl(TOP, more=(scope(authority=True),))]
    assert revoked(end, given, top=TOP, pool=[signer], purpose="any") == "valid"
    assert revoked(end, given, top=TOP, purpose="any") == "crl-missing"


def test_reasons_may_come_from_two_lists():
    some = frozenset([REASONS.key_compromise, REASONS.ca_compromise])
    rest = frozenset(set(REASONS) - some - {REASONS.unspecified, REASONS.remove_from_crl})
    one, two = (crl(TOP, more=(scope(reasons=part),)) for part in (some, rest))
    assert revoked(END, [one, two], top=TOP, purpose="any") == "valid"
    assert revoked(END, [one], top=TOP, purpose="any") == "crl-missing"
    hit = crl(TOP, entry(END), more=(scope(reasons=rest),))
    assert revoked(END, [one, hit], top=TOP, purpose="any") == "revoked"


def test_a_large_list_is_searched_quickly():
    count = 200_000
    record = der.encode(der.SEQUENCE, der.encode_integer(1 << 100), forge.time(NOW))
    size = len(record)
    at = record.index((1 << 100).to_bytes(13, "big"))
    entries = b"".join(
        record[:at] + (i + (1 << 100)).to_bytes(13, "big") + record[at + 13 :] for i in range(count)
    )
    assert len(entries) == size * count
    tbs = der.encode(
        der.SEQUENCE,
        der.encode_integer(1),
        forge.algorithm(TOP.key),
        TOP.name,
        forge.time(NOW - DAY),
        forge.time(NOW + DAY),
        der.encode(der.SEQUENCE, entries),
        der.encode(0xA0, der.encode(der.SEQUENCE, aki(TOP), of(x509.CRLNumber(1)))),
    )
    made = forge.signed(TOP.key, tbs)
    begin = time.process_time()
    assert revoked(leaf(TOP, serial=(1 << 100) + 77_777), [made], top=TOP) == "revoked"
    assert revoked(END, [made], top=TOP, purpose="any") == "valid"
    assert time.process_time() - begin < 3


def test_a_spent_budget_is_no_good_word():
    """Junk under the issuer's name, before the list that revokes: never "valid"."""
    junk = [crl(TOP, number=of(x509.CRLNumber(100 + i))) for i in range(4)]
    junk = [junk[i % 4][:-8] + i.to_bytes(8, "big") for i in range(1600)]
    assert revoked(END, [*junk, crl(TOP, entry(END))], top=TOP) == "too-complex"
    assert revoked(END, [*junk, crl(TOP, entry(END))], top=TOP, purpose="any") == "too-complex"


def test_many_points_and_many_names_cost_no_product():
    names = [uri(f"http://b.example/{i}") for i in range(10_000)]
    made = crl(TOP, more=(scope(*names),))
    many = [
        x509.DistributionPoint([uri(f"http://a.example/{i}")], None, None, None) for i in range(800)
    ]
    end = leaf(TOP, change={Ext.CRL_DISTRIBUTION_POINTS: of(x509.CRLDistributionPoints(many))})
    started = time.process_time()
    assert revoked(end, [made], top=TOP) == "crl-missing"
    assert revoked(end, [made] * 100, top=TOP) in ("crl-missing", "too-complex")
    assert time.process_time() - started < 3


def test_files_of_crls():
    raw = crl(TOP)
    assert crl_ders(raw) == [raw]
    assert crl_ders(to_pem(raw, "X509 CRL") * 2) == [raw, raw]
    for data in (b"", b"x", b"\x30\x03\x02\x01\x01", END.raw, crl(TOP, version=7), raw[:-1]):
        with pytest.raises(ParseError):
            crl_ders(data, "f")


@pytest.mark.parametrize("kind", ["crl", "x509"])
def test_fuzz_samples(kind):
    folder = os.environ.get("TPMHSM_TEST_DATA")
    if not folder:
        pytest.skip("fuzz samples: TPMHSM_TEST_DATA is not set")
    files = sorted(glob.glob(f"{folder}/fuzz/{kind}/*"))
    assert files
    for file in files:
        data = Path(file).read_bytes()
        begin = time.process_time()
        for read in (read_path_crl, read_path_certificate):
            try:
                read(data)
            except ParseError:
                continue
        try:
            lists = tuple(crl_ders(data))
        except ParseError:
            lists = ()
        try:
            ask(END, [TOP], crls=(*lists, crl(TOP)), require_crl=True)
            ask(forge.Forged(data, b"", None), [TOP], [END])
        except TpmHsmError:
            pass
        assert time.process_time() - begin < 1, file


MIDDLE = ca("CN=Damaged Issuing", TOP)
LOW = leaf(MIDDLE)
LISTS = (crl(TOP), crl(MIDDLE, entry(7), entry(8)))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 3), st.integers(0, 10**6), st.integers(1, 255), st.booleans())
def test_damage_is_refused_in_words(which, at, flip, cut):
    """One octet changed, or the end cut off, in an intermediate, a root or a CRL."""
    raws = [bytearray(raw) for raw in (MIDDLE.raw, TOP.raw, *LISTS)]
    damaged = raws[which]
    at %= len(damaged)
    damaged[at] ^= flip
    if cut:
        del damaged[at:]
    middle, top, *lists = (bytes(raw) for raw in raws)
    options = VerifyOptions("server", "example.com", NOW, tuple(lists), require_crl=True)
    try:
        found = verify_certificate(LOW.raw, [top], [middle], options)
    except TpmHsmError:
        return
    assert which == 1, found.facts  # a root is trusted as it is: its signature is not looked at
