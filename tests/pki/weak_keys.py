"""Weak public keys: some met in the world, the rest made as their faults were made.

`DEBIAN` and `ROCA` are from the tests of badkeys 0.0.3 (MIT licence, Hanno Böck), their
origins are said there; the others are computed here.
"""

from __future__ import annotations

import math
import random
from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa

from tpmhsm.pki import der
from tpmhsm.pki.weak_rsa import primes_below

DEBIAN = int(
    "c096530c4c4a343fc388ff8b6e14c88b617485966dd0f757f3decb2f03dfdfe6f518e0948f5387059bd5aa12"
    "4f26d38f139dd6ebc234360561689758e9b14e03f714508167374cbf64e24e26c3cd95ed5a5d04e3c404be15"
    "7bb8090e9ada9cdc53ef7e806c1e77b5f10242150a24e9adf991088daf20a75beb54bc91fe43dd8755447fd3"
    "abdefb9f1c987a8b0419824504e213f8dd26a9c6b7ed2f2103d8422720f7a7400ce34743e4ce40440c69013e"
    "fea2a39790fcdfccbb424da1d824adfe58071ed76d41af836e4093ea60f5719e250fa214f8631153a81eefc1"
    "7d82e3f819da57691ed9602550074fdea73ac9e5cfe10f6b91adc31b402c3e370b03a559",
    16,
)
"""openssl on a system with CVE-2008-0166, 2048 bits."""

ROCA = int(
    "9132ad211fcc0dfb4dae48326ac864c227e4b394b09bd1c4930e197028a3c907694d2b489e4f69754aeae338"
    "c6ead939c57f406985cbbb8edf9a2055cc2946bc05d365ba67e896c6d4811152cfa2d290514f90b352eeef27"
    "feb72fbd8dcd5bc915a4f4494139cc1ca10a3244fa97e53275f57b5529b4e767379007798e112a4ba056c7b7"
    "5cedb132cdf21f7bd3c9976d9da38815153477a13b3ebb2046d100a851dc00698f530d19396f00fbef2c4bf1"
    "659ebc4c7fd9556b5ffc93f03ca2d3dfacd222a5f028ab430a27ea31136c0c2f50c3c481931a635a37780f00"
    "d2727ae71aee9b40f8d1aae68535c77a56317812beb5525d4a28364f31224acac52cf72d",
    16,
)
"""An Infineon chip's, 2048 bits."""


def rsa_spki(modulus: int, exponent: int = 65537) -> bytes:
    """A SubjectPublicKeyInfo of any two numbers, as no library writes it."""
    key = der.encode(der.SEQUENCE, der.encode_integer(modulus), der.encode_integer(exponent))
    algorithm = der.encode(
        der.SEQUENCE, der.encode_oid("1.2.840.113549.1.1.1"), der.encode(der.NULL)
    )
    return der.encode(der.SEQUENCE, algorithm, der.encode(der.BIT_STRING, b"\0", key))


def prime_from(start: int) -> int:
    """The first probable prime from here upwards."""
    candidate = start | 1
    small = math.prod(primes_below(752))
    while math.gcd(candidate, small) != 1 or pow(2, candidate - 1, candidate) != 1:
        candidate += 2
    return candidate


@cache
def prime(bits: int, seed: int = 0) -> int:
    """A prime whose two highest bits are set, the same each time."""
    generator = random.Random(f"{bits}/{seed}")
    return prime_from(generator.getrandbits(bits) | 3 << (bits - 2))


@cache
def good(bits: int = 2048) -> int:
    """A sound modulus."""
    return rsa.generate_private_key(65537, bits).public_key().public_numbers().n


@cache
def close_primes(bits: int = 2048, apart: int = 1 << 512) -> int:
    """p and the next prime some way above it, as one printer's firmware chose them (2022)."""
    p = prime(bits // 2)
    return p * prime_from(p + apart)


@cache
def roca_made(bits: int = 2048) -> int:
    """N = p·q with p = k·M + (65537^a mod M), the structure of Infineon's generator."""
    modulus = math.prod(primes_below(702))  # the first 126 primes, as for 2048 bits

    def one(seed: int) -> int:
        generator = random.Random(seed)
        high = (1 << bits // 2) // modulus
        while True:
            k = generator.randrange(high * 3 // 4, high)
            candidate = k * modulus + pow(65537, generator.randrange(1 << 80), modulus)
            if pow(2, candidate - 1, candidate) == 1:
                return candidate

    return one(1) * one(2)


@cache
def sparse() -> int:
    """A product of primes that are mostly zeros, as a broken generator fills 128-bit words."""

    def one(seed: int) -> int:
        generator = random.Random(seed)
        words = sum(generator.getrandbits(40) << shift for shift in range(0, 1024, 128))
        return prime_from(words | 3 << 1022)

    return one(3) * one(4)


@cache
def with_factor(factor: int) -> int:
    """A modulus of 2048 bits with one small factor."""
    p = prime(1024)
    return factor * p * prime_from((3 << 2046) // (factor * p))
