"""RSA keys whose private half can be computed, or that nobody made on purpose.

CA/Browser Forum TLS Baseline Requirements 6.1.1.3, 6.1.5 and 6.1.6; NIST SP 800-89 section 5.3.3;
for ROCA, which came out of TPM chips, Nemec et al., "The Return of Coppersmith's Attack" (2017).
Primes shared with other people's keys are not looked for: that takes those keys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache, lru_cache

from tpmhsm.pki.findings import Finding, refusal, warning

MIN_BITS, MAX_BITS = 2048, 8192
FERMAT_ROUNDS = 100
"""Baseline Requirements 6.1.1.3 (5)."""

SMALLEST_FACTOR = 752
_PRIME_TESTED = 3072
"""OpenSSL takes exponents as long as the modulus up to here; without it the test takes 0.2 s."""

_BR_SIZE, _BR_EXPONENT = "CABF BR 6.1.5", "CABF BR 6.1.6"
_BR_WEAK, _NIST = "CABF BR 6.1.1.3", "NIST SP 800-89, 5.3.3"
_SAME_OCTETS = re.compile(rb"(.)\1{15}", re.DOTALL)


@lru_cache(maxsize=256)
def rsa_findings(modulus: int, exponent: int) -> tuple[Finding, ...]:
    """Everything found about one RSA public key; sizes and forms first, then weaknesses."""
    shape = tuple(_shape(modulus, exponent))
    if any(one.severity == "refusal" for one in shape):
        return shape  # what follows would take numbers of any size
    return (*shape, *_weaknesses(modulus))


@lru_cache(maxsize=256)
def quick_fault(modulus: int, exponent: int) -> str:
    """Why a key is refused, without the tests that take milliseconds; empty when it is not."""
    found = [*_shape(modulus, exponent)] or [*_factorable(modulus)]
    return next((one.message for one in found if one.severity == "refusal"), "")


def _shape(modulus: int, exponent: int) -> Iterator[Finding]:
    bits = modulus.bit_length()
    if modulus <= 0 or exponent <= 0:
        yield refusal("rsa-number", "the RSA numbers are not positive", "RFC 8017, 3.1")
        return
    if bits < MIN_BITS:
        words = f"RSA of {bits} bits is too short ({MIN_BITS} is the least)"
        yield refusal("rsa-size", words, _BR_SIZE)
    if bits > MAX_BITS:
        words = f"RSA of {bits} bits is longer than most software verifies ({MAX_BITS})"
        yield refusal("rsa-size", words, "limit of this program")
    if bits % 8:
        words = f"an RSA modulus of {bits} bits is not a whole number of bytes"
        yield refusal("rsa-size", words, _BR_SIZE)
    if modulus % 2 == 0:
        yield refusal("rsa-even", "the RSA modulus is even: 2 is a factor", _BR_EXPONENT)
    yield from _exponent(modulus, exponent)


def _exponent(modulus: int, exponent: int) -> Iterator[Finding]:
    reason = ""
    if exponent == 1:
        reason = "the RSA exponent is 1: a signature would be the message itself"
    elif exponent % 2 == 0:
        reason = "the RSA exponent is even, which no key pair can have"
    elif exponent >= modulus:
        reason = "the RSA exponent is not below the modulus"
    elif exponent < 65537:
        reason = f"the RSA exponent is {exponent}: it must be odd, 65537 or more, below 2^256"
    elif exponent.bit_length() > 256:
        reason = f"the RSA exponent has {exponent.bit_length()} bits: it must be below 2^256"
    if reason:
        yield refusal("rsa-exponent", reason, _BR_EXPONENT)


def _weaknesses(modulus: int) -> Iterator[Finding]:
    from tpmhsm.pki.weak_list import is_debian_weak

    if is_debian_weak(modulus):
        words = "a Debian weak key (CVE-2008-0166): its private half is public"
        yield refusal("debian-weak", words, _BR_WEAK)
    found = tuple(_factorable(modulus))
    yield from found
    if found:
        return
    if is_prime(modulus):
        words = "the RSA modulus is prime: the private half follows from it"
        yield refusal("rsa-prime", words, _NIST)
    elif power := perfect_power(modulus):
        words = f"the RSA modulus is a number to the power of {power}: its root is a factor"
        yield refusal("rsa-power", words, _NIST)
    yield from _patterns(modulus)


def _factorable(modulus: int) -> Iterator[Finding]:
    if math.gcd(modulus, _small_primes()) != 1:
        words = f"the RSA modulus has a factor below {SMALLEST_FACTOR}"
        yield refusal("rsa-small-factor", words, _BR_EXPONENT)
    if is_roca(modulus):
        words = (
            "the RSA key has the ROCA weakness (CVE-2017-15361): its private half can be computed"
        )
        yield refusal("roca", words, _BR_WEAK)
    if has_close_primes(modulus):
        words = (
            "the RSA primes are so close together that the modulus can be factored"
            f" (Fermat, {FERMAT_ROUNDS} rounds)"
        )
        yield refusal("fermat", words, _BR_WEAK)


@cache
def _small_primes() -> int:
    return math.prod(primes_below(SMALLEST_FACTOR))


@cache
def primes_below(limit: int) -> tuple[int, ...]:
    """All primes below a small limit."""
    return tuple(n for n in range(2, limit) if all(n % d for d in range(2, math.isqrt(n) + 1)))


def is_roca(modulus: int) -> bool:
    """Infineon's generator made N a power of 65537 modulo each small prime."""
    return all(modulus % prime in powers for prime, powers in _roca_table())


@cache
def _roca_table() -> tuple[tuple[int, frozenset[int]], ...]:
    return tuple((prime, _powers_of_65537(prime)) for prime in primes_below(168)[1:])


def _powers_of_65537(prime: int) -> frozenset[int]:
    powers, value = set(), 1
    while value not in powers:
        powers.add(value)
        value = value * 65537 % prime
    return frozenset(powers)


def has_close_primes(modulus: int, rounds: int = FERMAT_ROUNDS) -> bool:
    """Fermat's factorisation: whether it succeeds within so many rounds."""
    a = math.isqrt(modulus - 1) + 1
    rest = a * a - modulus
    for _ in range(rounds):
        # squares are 0, 1, 4 or 9 modulo 16: spares three roots of four
        if rest & 15 in (0, 1, 4, 9) and math.isqrt(rest) ** 2 == rest:
            return True
        rest += 2 * a + 1
        a += 1
    return False


def is_prime(modulus: int) -> bool:
    """Whether an odd modulus of up to 3072 bits is (a probable) prime; False for longer ones.

    Fermat's test to one base, by OpenSSL, which is ten times as fast as `pow`: for a prime N,
    s^(N-2) is the inverse of s, so the inverse of a padded digest verifies as its RSA signature
    under the exponent N-2. Whoever builds a pseudoprime has nobody to deceive but himself.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

    if modulus.bit_length() > _PRIME_TESTED:
        return False
    size, digest = (modulus.bit_length() + 7) // 8, bytes(32)
    try:
        inverse = pow(int.from_bytes(_padded(digest, size)), -1, modulus)
        key = rsa.RSAPublicNumbers(modulus - 2, modulus).public_key()
        algorithm = Prehashed(hashes.SHA256())
        key.verify(inverse.to_bytes(size), digest, padding.PKCS1v15(), algorithm)
    except (InvalidSignature, ValueError):  # ValueError: no inverse, so a factor was met
        return False
    return True


def _padded(digest: bytes, size: int) -> bytes:
    """EMSA-PKCS1-v1_5 of a SHA-256 digest (RFC 8017 section 9.2)."""
    info = bytes.fromhex("3031300d060960864801650304020105000420") + digest
    return b"\0\1" + b"\xff" * (size - len(info) - 3) + b"\0" + info


def perfect_power(modulus: int) -> int:
    """The least prime k for which N has a whole k-th root, 0 when there is none."""
    longest = modulus.bit_length() // (SMALLEST_FACTOR.bit_length() - 1) + 1
    for power in primes_below(longest + 1):
        if _may_be_power(modulus, power) and _root(modulus, power) ** power == modulus:
            return power
    return 0


def _may_be_power(modulus: int, power: int) -> bool:
    """Sieve: modulo a prime q with k | q-1 only one in k residues is a k-th power."""
    return all(
        residue == 0 or pow(residue, (q - 1) // power, q) == 1
        for q in _sieve(power)
        for residue in (modulus % q,)
    )


@cache
def _sieve(power: int, count: int = 12) -> tuple[int, ...]:
    found: list[int] = []
    q = 2 * power + 1 if power > 2 else 3
    while len(found) < count:
        if all(q % d for d in range(2, math.isqrt(q) + 1)):
            found.append(q)
        q += 2 * power if power > 2 else 2
    return tuple(found)


def _root(number: int, power: int) -> int:
    """The whole k-th root, rounded down (Newton)."""
    guess = 1 << -(-number.bit_length() // power)
    while True:
        better = ((power - 1) * guess + number // guess ** (power - 1)) // power
        if better >= guess:
            return guess
        guess = better


def _patterns(modulus: int) -> Iterator[Finding]:
    bits = modulus.bit_length()
    low = modulus & ((1 << bits // 2) - 1)
    ones, low_ones = modulus.bit_count() / bits, low.bit_count() / (bits // 2)
    if ones < 0.4 and low_ones < 0.4:
        words = "the RSA modulus is mostly zeros, as products of sparse primes are: it factors"
        yield refusal("rsa-sparse", words, _BR_WEAK)
    elif _SAME_OCTETS.search(modulus.to_bytes((bits + 7) // 8)):
        words = "the RSA modulus has 16 equal octets in a row, which no random number has"
        yield warning("rsa-pattern", words, _BR_WEAK)
