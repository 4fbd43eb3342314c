"""Keys that are refused, each made as its class is made in the world."""

from __future__ import annotations

import hashlib
import math
import subprocess
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from tests.pki import weak_keys
from tests.pki.weak_keys import rsa_spki

from tpmhsm.errors import ParseError, UsageError
from tpmhsm.pki import der, weak_list
from tpmhsm.pki.key_checks import check_spki, spki_findings
from tpmhsm.pki.keys import check_public_key, load_spki
from tpmhsm.pki.weak_rsa import has_close_primes, is_prime, is_roca, perfect_power, rsa_findings

P256 = 2**256 - 2**224 + 2**192 + 2**96 - 1


def spki(public) -> bytes:
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def ec_spki(point: bytes, curve: str = "1.2.840.10045.3.1.7") -> bytes:
    return any_spki("1.2.840.10045.2.1", point, der.encode_oid(curve))


def any_spki(oid: str, key: bytes, *parameters: bytes) -> bytes:
    algorithm = der.encode(der.SEQUENCE, der.encode_oid(oid), *parameters)
    return der.encode(der.SEQUENCE, algorithm, der.encode(der.BIT_STRING, b"\0", key))


def codes(data: bytes, lint: str = "pkix") -> list[str]:
    return [one.code for one in spki_findings(data, lint) if one.severity == "refusal"]


def good_point(form: str = "UncompressedPoint") -> bytes:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    return public.public_bytes(Encoding.X962, getattr(PublicFormat, form))


def off_curve() -> bytes:
    point = good_point()
    return point[:-1] + bytes([point[-1] ^ 1])


RSA = [
    (lambda: weak_keys.DEBIAN, 65537, "debian-weak"),
    (lambda: weak_keys.DEBIAN, 65539, "debian-weak"),
    (lambda: weak_keys.ROCA, 65537, "roca"),
    (weak_keys.close_primes, 65537, "fermat"),
    (lambda: weak_keys.prime(1024) ** 2, 65537, "fermat"),
    (lambda: weak_keys.prime(2048), 65537, "rsa-prime"),
    (lambda: weak_keys.prime(3072, 1), 65537, "rsa-prime"),
    (lambda: weak_keys.prime_from(1 << 682 | 1 << 681) ** 3, 65537, "rsa-power"),
    (lambda: weak_keys.with_factor(3), 65537, "rsa-small-factor"),
    (lambda: weak_keys.with_factor(751), 65537, "rsa-small-factor"),
    (weak_keys.sparse, 65537, "rsa-sparse"),
    (weak_keys.good, 1, "rsa-exponent"),
    (weak_keys.good, 3, "rsa-exponent"),
    (weak_keys.good, 65535, "rsa-exponent"),
    (weak_keys.good, 65538, "rsa-exponent"),
    (weak_keys.good, 2**256 + 1, "rsa-exponent"),
    (weak_keys.good, 2**2048 + 1, "rsa-exponent"),
    (weak_keys.good, 0, "rsa-number"),
    (weak_keys.good, -65537, "rsa-number"),
    (lambda: 0, 65537, "rsa-number"),
    (lambda: 1, 65537, "rsa-size"),
    (lambda: weak_keys.good() - 1, 65537, "rsa-even"),
    (lambda: weak_keys.prime(512) * weak_keys.prime(512, 1), 65537, "rsa-size"),
    (lambda: weak_keys.prime(1020) * weak_keys.prime(1030), 65537, "rsa-size"),
    (lambda: 2**16383 + 1, 65537, "rsa-size"),
    (lambda: 2**200000 + 1, 65537, "rsa-size"),
    (lambda: -weak_keys.good(), 65537, "rsa-number"),
]


@pytest.mark.parametrize(
    ("modulus", "exponent", "code"), RSA, ids=[str(n) for n in range(len(RSA))]
)
def test_rsa_keys_that_are_refused(modulus, exponent: int, code: str) -> None:
    data = rsa_spki(modulus(), exponent)
    assert code in codes(data)
    with pytest.raises(UsageError, match="the public key is refused") as caught:
        check_spki(data)
    assert caught.value.code == "weak-key"
    assert caught.value.details["findings"][0]["source"]


def test_sound_rsa_keys_are_not_refused() -> None:
    for bits in (2048, 3072, 4096):
        assert spki_findings(rsa_spki(weak_keys.good(bits))) == ()
    assert codes(rsa_spki(weak_keys.good(), 2**256 - 1)) == []
    plain = rsa.generate_private_key(65537, 2056).public_key()
    assert codes(spki(plain)) == []


def test_openssl_too_takes_the_prime_for_one() -> None:
    number = f"{weak_keys.prime(2048):x}"
    done = subprocess.run(["openssl", "prime", "-hex", number], capture_output=True, check=True)
    assert b"is prime" in done.stdout


def test_each_test_alone() -> None:
    good = weak_keys.good()
    assert not is_prime(good) and is_prime(weak_keys.prime(2048)) and not is_prime(good * 5)
    assert perfect_power(good) == 0
    for power in (2, 3, 5, 7, 11, 199):
        assert perfect_power(weak_keys.prime(2040 // power) ** power) == power
    assert is_roca(weak_keys.roca_made()) and is_roca(weak_keys.ROCA) and not is_roca(good)


def test_fermat_stops_where_it_is_told() -> None:
    p = weak_keys.prime(1024)
    assert has_close_primes(p * weak_keys.prime_from(p + (1 << 514)))
    assert not has_close_primes(p * weak_keys.prime_from(p + (1 << 530)))


@given(st.integers(2**24, 2**40), st.integers(0, 60))
def test_fermat_does_what_the_rounds_say(p: int, rounds: int) -> None:
    """Against the factorisation done plainly, for odd N = p·(p+2d)."""
    p |= 1
    q = p + 2 * rounds
    n, needed = p * q, 0
    a = math.isqrt(n - 1) + 1
    while math.isqrt(a * a - n) ** 2 != a * a - n:
        a, needed = a + 1, needed + 1
    assert has_close_primes(n, needed + 1)
    assert not has_close_primes(n, needed)


EC = [
    (lambda: ec_spki(b"\0"), "ec-point", "infinity"),
    (lambda: ec_spki(good_point("CompressedPoint")), "ec-point", "compressed"),
    (lambda: ec_spki(b"\6" + good_point()[1:]), "ec-point", "compressed"),
    (lambda: ec_spki(b"\4" + bytes(64)), "ec-point", "not on the curve"),
    (lambda: ec_spki(off_curve()), "ec-point", "not on the curve"),
    (lambda: ec_spki(good_point()[:-1]), "ec-point", "no point"),
    (lambda: ec_spki(good_point() + b"\0"), "ec-point", "no point"),
    (lambda: ec_spki(b""), "ec-point", "no point"),
    (lambda: ec_spki(b"\4" + P256.to_bytes(32) + bytes(32)), "ec-point", "not below"),
    (lambda: ec_spki(good_point(), "1.3.132.0.34"), "ec-point", "no point of P-384"),
    (lambda: spki(ec.generate_private_key(ec.SECP256K1()).public_key()), "ec-curve", "secp256k1"),
    (lambda: spki(ec.generate_private_key(ec.SECP224R1()).public_key()), "ec-curve", "secp224r1"),
    (
        lambda: spki(ec.generate_private_key(ec.BrainpoolP256R1()).public_key()),
        "ec-curve",
        "brainpoolP256r1",
    ),
    (lambda: ec_spki(good_point(), "1.2.3.4"), "ec-curve", "1.2.3.4"),
    (
        lambda: any_spki("1.2.840.10045.2.1", good_point(), der.encode(der.NULL)),
        "ec-curve",
        "not named",
    ),
    (lambda: any_spki("1.2.840.10045.2.1", good_point()), "ec-curve", "not named"),
]
OTHER = [
    (lambda: spki(x25519.X25519PrivateKey.generate().public_key()), "key-kind", "X25519"),
    (lambda: spki(dsa.generate_private_key(2048).public_key()), "key-kind", "neither"),
    (lambda: any_spki("2.16.840.1.101.3.4.3.18", bytes(1952)), "key-kind", "neither"),
    (
        lambda: any_spki("1.2.840.113549.1.1.10", b"\x30\0"),
        "key-kind",
        "RSASSA-PSS",
    ),
    (lambda: any_spki("1.3.101.112", bytes(31)), "key-malformed", "32 octets"),
    (lambda: any_spki("1.3.101.112", bytes(32), der.encode(der.NULL)), "key-malformed", "no param"),
    (lambda: any_spki("1.3.101.112", b"\1" + bytes(31)), "ec-small-order", "small order"),
    (lambda: any_spki("1.3.101.112", bytes(32)), "ec-small-order", "small order"),
    (lambda: any_spki("1.3.101.112", b"\2" + bytes(31)), "ec-point", "no point"),
    (lambda: any_spki("1.3.101.112", b"\xee" + b"\xff" * 30 + b"\x7f"), "ec-point", "no point"),
    (lambda: any_spki("1.3.101.113", b"\1" + bytes(56)), "ec-small-order", "small order"),
    (lambda: b"", "key-malformed", "decode"),
    (lambda: b"\x30\0", "key-malformed", "decode"),
    (lambda: any_spki("1.2.840.113549.1.1.1", b"x", der.encode(der.NULL)), "key-malformed", ""),
    (
        lambda: any_spki("1.2.840.113549.1.1.1", b"\x30\3\2\1\1", der.encode(der.NULL)),
        "key-malformed",
        "two numbers",
    ),
    (
        lambda: rsa_spki(weak_keys.good()).replace(b"\5\0", b"\4\0"),
        "key-malformed",
        "not NULL",
    ),
]


@pytest.mark.parametrize(("make", "code", "why"), EC + OTHER)
def test_other_keys_that_are_refused(make, code: str, why: str) -> None:
    data = make()
    found = [one for one in spki_findings(data) if one.severity == "refusal"]
    assert code in [one.code for one in found]
    assert any(why in one.message for one in found), found
    with pytest.raises(UsageError, match="refused"):
        check_spki(data)


def test_explicit_parameters_are_refused() -> None:
    command = "openssl ecparam -name prime256v1 -genkey -noout -param_enc explicit"
    key = subprocess.run(command.split(), capture_output=True, check=True).stdout
    out = subprocess.run(
        ["openssl", "pkey", "-pubout", "-outform", "DER"],
        input=key,
        capture_output=True,
        check=True,
    ).stdout
    assert codes(out) == ["ec-curve"]


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_points_of_the_curves(curve) -> None:
    for _ in range(20):
        data = spki(ec.generate_private_key(curve).public_key())
        assert spki_findings(data) == ()
        check_public_key(load_spki(data))


@pytest.mark.parametrize("kind", [ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey])
def test_points_of_edwards_curves(kind) -> None:
    for _ in range(20):
        data = spki(kind.generate().public_key())
        assert spki_findings(data) == ()
        assert codes(data, "tls-br") == ["key-kind"]


def test_all_points_of_small_order_are_known() -> None:
    """Eight times each is the neutral element: computed here by the addition law of RFC 8032."""
    from tpmhsm.pki.key_checks import _D25519, _P25519, _SMALL_25519

    p, d = _P25519, _D25519

    def add(a, b):
        (x1, y1), (x2, y2) = a, b
        k = d * x1 * x2 * y1 * y2 % p
        x = (x1 * y2 + x2 * y1) * pow(1 + k, -1, p) % p
        return x, (y1 * y2 + x1 * x2) * pow(1 - k, -1, p) % p

    assert len(_SMALL_25519) == 5
    root = pow(2, (p - 1) // 4, p)
    for y in _SMALL_25519:
        square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
        x = pow(square, (p + 3) // 8, p)
        x = x if x * x % p == square else x * root % p
        assert x * x % p == square
        point = (x, y)
        for _ in range(3):
            point = add(point, point)
        assert point == (0, 1)


def test_p521_under_the_baseline_requirements_is_warned_of() -> None:
    data = spki(ec.generate_private_key(ec.SECP521R1()).public_key())
    assert [one.severity for one in spki_findings(data, "tls-br")] == ["warning"]


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else(data: bytes) -> None:
    assert codes(data) == ["key-malformed"]


@given(st.integers(0, 90), st.integers(1, 255))
def test_changed_keys_never_crash(at: int, change: int) -> None:
    data = bytearray(ec_spki(good_point()))
    data[at % len(data)] ^= change
    spki_findings(bytes(data))


# ── lists ────────────────────────────────────────────────────────────────────


def test_the_built_in_list_is_the_one_that_was_made() -> None:
    folder = Path(weak_list.__file__).parent
    digest = hashlib.sha256((folder / "debian_weak.bin").read_bytes()).hexdigest()
    assert digest in (folder / "debian_weak.md").read_text()
    assert weak_list.is_debian_weak(weak_keys.DEBIAN)
    assert not any(weak_list.is_debian_weak(weak_keys.DEBIAN + 2 * n) for n in range(1, 2000))


def records(*moduli: int) -> bytes:
    entries = (hashlib.sha256(m.to_bytes((m.bit_length() + 7) // 8)).digest()[:15] for m in moduli)
    return b"".join(entry + b"\3" for entry in sorted(entries))


def test_badkeys_blocklists_are_read() -> None:
    point = good_point()
    x = int.from_bytes(point[1:33])
    listed = weak_list.Blocklist(records(weak_keys.good(), weak_keys.DEBIAN, x, *range(1, 99)), "f")
    assert rsa_spki(weak_keys.good()) in listed and rsa_spki(weak_keys.DEBIAN) in listed
    assert ec_spki(point) in listed
    assert rsa_spki(weak_keys.good(3072)) not in listed
    assert ec_spki(good_point()) not in listed


def test_lists_of_text_are_read() -> None:
    modulus = weak_keys.good()
    line = subprocess.run(
        "openssl rsa -pubin -inform DER -noout -modulus | sha1sum | cut -d ' ' -f 1 | cut -c 21-",
        shell=True, input=rsa_spki(modulus), capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert len(line) == 21
    point = ec_spki(good_point())
    other = hashlib.sha256(point).hexdigest().upper().encode()
    text = b"# Debian's\n\n" + line + b"  \t\r\n# SHA-256\n" + other
    for data in (text, text + b"\n"):
        listed = weak_list.Blocklist(data, "f")
        assert rsa_spki(modulus) in listed and point in listed
        assert rsa_spki(weak_keys.DEBIAN) not in listed and b"" not in listed


@pytest.mark.parametrize(
    "data", [b"nonsense\n", b"00" * 9, bytes(range(200)), records(1, 2, 3)[::-1], b"# none\n"]
)
def test_what_is_no_list(data: bytes) -> None:
    with pytest.raises(ParseError, match="no list of keys"):
        weak_list.Blocklist(data, "f")


def test_an_empty_file_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(ParseError, match="is empty"):
        weak_list.map_file(tmp_path / "x")


# ── speed ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("make", "limit"), [("ec", 0.3), ("rsa", 5.0)])
def test_checks_are_quick(make: str, limit: float) -> None:
    """Milliseconds, the best of several rounds: others may be using the machine."""
    data = ec_spki(good_point()) if make == "ec" else rsa_spki(weak_keys.good())
    spki_findings(data)
    best = 1e9
    for _ in range(20):
        rsa_findings.cache_clear()
        start = time.perf_counter()
        spki_findings(data)
        best = min(best, time.perf_counter() - start)
    assert best * 1000 < limit
