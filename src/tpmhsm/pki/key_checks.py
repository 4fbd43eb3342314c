"""A requester's public key, judged from the bytes of its SubjectPublicKeyInfo.

From the bytes, so that what no library loads is refused with the reason. CA/Browser Forum TLS
Baseline Requirements 6.1.1.3, 6.1.5, 6.1.6 and 7.1.3.1; NIST SP 800-56A section 5.6.2.3; RFC 5480,
RFC 8017, RFC 8410. The curves of NIST have cofactor 1: a point on one of them has its order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from tpmhsm.errors import ParseError
from tpmhsm.pki import der
from tpmhsm.pki.findings import Finding, refusal, refuse, warning
from tpmhsm.pki.recall import recalled

_EC, _RSA = "1.2.840.10045.2.1", "1.2.840.113549.1.1.1"
_OTHER_RSA = {"1.2.840.113549.1.1.7": "RSAES-OAEP", "1.2.840.113549.1.1.10": "RSASSA-PSS"}
_ED25519, _ED448 = "1.3.101.112", "1.3.101.113"
_AGREEMENT = {"1.3.101.110": "X25519", "1.3.101.111": "X448", "1.2.840.113549.1.3.1": "DH",
              "1.2.840.10046.2.1": "DH"}  # fmt: skip
_NULL = bytes((der.NULL, 0))
HINT = "make a new key: P-256, P-384 or RSA of 2048 bits and more"


class Curve(NamedTuple):
    """y² = x³ - 3x + b over the integers modulo p (SP 800-186)."""

    name: str
    p: int
    b: int


_CURVES = {
    "1.2.840.10045.3.1.7": Curve(
        "P-256",
        2**256 - 2**224 + 2**192 + 2**96 - 1,
        0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    ),
    "1.3.132.0.34": Curve(
        "P-384",
        2**384 - 2**128 - 2**96 + 2**32 - 1,
        0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
    ),
    "1.3.132.0.35": Curve(
        "P-521",
        2**521 - 1,
        0x0051953EB9618E1C9A1F929A21A0B68540EEA2DA725B99B315F3B8B489918EF109E156193951EC7E937B1652C0BD3BB1BF073573DF883D2C34F1EF451FD46B503F00,
    ),
}
_NAMED = {der.encode_oid(oid): curve for oid, curve in _CURVES.items()}
_OTHER_CURVES = {
    "1.2.840.10045.3.1.1": "secp192r1",
    "1.3.132.0.33": "secp224r1",
    "1.3.132.0.10": "secp256k1",
    "1.3.36.3.3.2.8.1.1.7": "brainpoolP256r1",
    "1.3.36.3.3.2.8.1.1.11": "brainpoolP384r1",
    "1.3.36.3.3.2.8.1.1.13": "brainpoolP512r1",
    "1.2.156.10197.1.301": "SM2",
}


def check_spki(spki: bytes, lint: str = "pkix") -> tuple[Finding, ...]:
    """All findings of a requester's key; UsageError (`weak-key`) when one is a refusal."""
    found = spki_findings(spki, lint)
    refuse(found, "the public key", hint=HINT, code="weak-key")
    return found


@recalled
def spki_findings(spki: bytes, lint: str = "pkix") -> tuple[Finding, ...]:
    """What there is to say of the key in a DER SubjectPublicKeyInfo. Never raises."""
    try:
        return tuple(_findings(spki, lint))
    except ParseError as error:
        return (refusal("key-malformed", f"it does not decode: {error.message}", "RFC 5280, 4.1"),)


def _findings(spki: bytes, lint: str) -> Iterator[Finding]:
    oid, parameters, key = _parts(spki)
    if oid == _EC:
        yield from _ec(parameters, key, lint)
    elif oid == _RSA:
        yield from _rsa(parameters, key)
    elif oid in (_ED25519, _ED448):
        yield from _edwards(oid, parameters, key, lint)
    else:
        yield _unsupported(oid)


def _unsupported(oid: str) -> Finding:
    if name := _OTHER_RSA.get(oid):
        words = f"the RSA key is bound to {name}: certificates here hold keys of rsaEncryption"
        return refusal("key-kind", words, "CABF BR 7.1.3.1.1")
    if name := _AGREEMENT.get(oid):
        words = f"{name} keys sign nothing, so nobody can prove to have one"
        return refusal("key-kind", words, "RFC 2986")
    words = f"the key ({oid}) is neither ECDSA, RSA nor EdDSA"
    return refusal("key-kind", words, "CABF BR 6.1.5")


_POINTS = {
    91: bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"),  # P-256
    120: bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004"),  # P-384
}
"""How the one SubjectPublicKeyInfo of an uncompressed point begins (RFC 5480), by its length."""


def usual_point(spki: bytes) -> tuple[bytes, bytes] | None:
    """The curve (DER) and the point's octets, when these bytes have the form that nearly all
    SubjectPublicKeyInfos of P-256 and P-384 have, for which there is no other.
    """
    beginning = _POINTS.get(len(spki))
    if beginning is None or not spki.startswith(beginning):
        return None
    return beginning[13:-4], spki[len(beginning) - 1 :]


@recalled
def _parts(spki: bytes) -> tuple[str, bytes, bytes]:
    """Algorithm, its parameters (DER, empty when absent), the key's octets."""
    if point := usual_point(spki):
        return _EC, point[0], point[1]
    parts = der.children(_content(der.read_whole(spki), der.SEQUENCE))
    if [part.tag for part in parts] != [der.SEQUENCE, der.BIT_STRING]:
        raise ParseError("it is no SubjectPublicKeyInfo")
    algorithm = der.children(parts[0].content)
    if not 1 <= len(algorithm) <= 2 or algorithm[0].tag != der.OID:
        raise ParseError("its algorithm is no AlgorithmIdentifier")
    if parts[1].content[:1] != b"\0":
        raise ParseError("its key is no whole number of octets")
    parameters = algorithm[1].raw if len(algorithm) == 2 else b""
    return der.decode_oid(algorithm[0].content), parameters, parts[1].content[1:]


def _content(element: der.Element, tag: int) -> bytes:
    if element.tag != tag:
        raise ParseError("it is of another type")
    return element.content


# ── RSA ──────────────────────────────────────────────────────────────────────


def rsa_numbers(spki: bytes) -> tuple[int, int] | None:
    """Modulus and exponent of an RSA key, None for anything else."""
    try:
        oid, _, key = _parts(spki)
        return _rsa_numbers(key) if oid == _RSA else None
    except ParseError:
        return None


def usual_digest(spki: bytes) -> str:
    """SHA-256, hexadecimal, of the SubjectPublicKeyInfo that stands for all keys whose private
    half one has with the private half of this one.

    An RSA key as if its exponent were 65537, for one private exponent gives the factors. A point
    on a curve or its negative (private d and n - d), whichever has the even coordinate.
    """
    from tpmhsm.pki.keys import sha256_hex, spki_digest

    numbers = rsa_numbers(spki)
    if numbers is None:
        return spki_digest(_even(spki))
    pair = der.encode(der.SEQUENCE, der.encode_integer(numbers[0]), der.encode_integer(65537))
    algorithm = der.encode(der.SEQUENCE, der.encode_oid(_RSA), _NULL)
    return sha256_hex(der.encode(der.SEQUENCE, algorithm, der.encode(der.BIT_STRING, b"\0", pair)))


def _even(spki: bytes) -> bytes:
    """The same with the negative of an odd point; anything else as it is."""
    try:
        oid, parameters, key = _parts(spki)
    except ParseError:
        return spki
    if oid in (_ED25519, _ED448):  # RFC 8032, 5.1.2 and 5.2.2: the last bit is that of x
        return spki[:-1] + bytes((spki[-1] & 0x7F,))
    if oid != _EC or not key or not key[-1] & 1 or parameters not in _NAMED:
        return spki
    curve = _NAMED[parameters]
    size = (curve.p.bit_length() + 7) // 8
    if _off_curve(curve, key):
        return spki
    return spki[:-size] + (curve.p - int.from_bytes(key[-size:])).to_bytes(size)


def key_octets(spki: bytes) -> bytes:
    """What the BIT STRING of a SubjectPublicKeyInfo holds. ParseError when it is none."""
    return _parts(spki)[2]


def _rsa_numbers(key: bytes) -> tuple[int, int]:
    parts = der.children(_content(der.read_whole(key), der.SEQUENCE))
    if [part.tag for part in parts] != [der.INTEGER, der.INTEGER]:
        raise ParseError("an RSA key is two numbers")
    modulus, exponent = (int.from_bytes(part.content, signed=True) for part in parts)
    return modulus, exponent


def _rsa(parameters: bytes, key: bytes) -> Iterator[Finding]:
    from tpmhsm.pki.weak_rsa import rsa_findings

    if parameters != _NULL:
        words = "the parameters of rsaEncryption are not NULL"
        yield refusal("key-malformed", words, "RFC 3279, 2.3.1")
    yield from rsa_findings(*_rsa_numbers(key))


# ── curves in Weierstrass form ───────────────────────────────────────────────


def point_of(spki: bytes) -> bytes | None:
    """The octets of an ECDSA or EdDSA key, None for anything else."""
    try:
        oid, _, key = _parts(spki)
    except ParseError:
        return None
    return key if oid in (_EC, _ED25519, _ED448) and key else None


def _ec(parameters: bytes, point: bytes, lint: str) -> Iterator[Finding]:
    curve = None
    if parameters[:1] != bytes((der.OID,)):
        words = "the curve is not named: explicit and inherited parameters can name a curve of"
        yield refusal("ec-curve", f"{words} somebody's own", "RFC 5480, 2.1.1")
    else:
        curve, oid = _NAMED.get(parameters), ""
        if curve is None:
            oid = der.decode_oid(der.read_whole(parameters).content)
            curve = _CURVES.get(oid)
        if curve is None:
            words = f"the curve {_OTHER_CURVES.get(oid, oid)} is not P-256, P-384 or P-521"
            yield refusal("ec-curve", words, "CABF BR 6.1.5")
    if point == b"\0":
        yield refusal("ec-point", "the point at infinity is no key", "SP 800-56A, 5.6.2.3.3")
    elif point[:1] in (b"\2", b"\3", b"\6", b"\7"):
        words = "the point is written compressed, which much software cannot read"
        yield refusal("ec-point", words, "RFC 5480, 2.2")
    elif curve is not None and (words := _off_curve(curve, point)):
        yield refusal("ec-point", words, "SP 800-56A, 5.6.2.3.3; CABF BR 6.1.6")
    if curve and curve.name == "P-521" and lint == "tls-br":
        words = "P-521 is outside what Mozilla's and Apple's root programs take"
        yield warning("ec-curve", words, "Mozilla Root Store Policy 5.1")


def _off_curve(curve: Curve, point: bytes) -> str:
    size = (curve.p.bit_length() + 7) // 8
    if point[:1] != b"\4" or len(point) != 1 + 2 * size:
        return f"the key's octets are no point of {curve.name}"
    x, y = int.from_bytes(point[1 : 1 + size]), int.from_bytes(point[1 + size :])
    if x >= curve.p or y >= curve.p:
        return f"a coordinate of the point is not below the prime of {curve.name}"
    if (y * y - (x * x - 3) * x - curve.b) % curve.p:
        return f"the point is not on the curve {curve.name}"
    return ""


# ── curves in Edwards form ───────────────────────────────────────────────────

_P25519, _P448 = 2**255 - 19, 2**448 - 2**224 - 1
_D25519 = -121665 * pow(121666, -1, _P25519) % _P25519
_EIGHTH = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
_SMALL_25519 = frozenset({0, 1, _P25519 - 1, _EIGHTH, _P25519 - _EIGHTH})
_SMALL_448 = frozenset({0, 1, _P448 - 1})
"""The y of all points whose order divides the cofactor (8 and 4)."""


def _edwards(oid: str, parameters: bytes, key: bytes, lint: str) -> Iterator[Finding]:
    name, size = ("Ed25519", 32) if oid == _ED25519 else ("Ed448", 57)
    if parameters:
        yield refusal("key-malformed", f"{name} has no parameters", "RFC 8410, 3")
    if len(key) != size:
        words = f"an {name} key has {size} octets, this one {len(key)}"
        yield refusal("key-malformed", words, "RFC 8032")
        return
    number = int.from_bytes(key, "little") & ((1 << (8 * size - 1)) - 1)
    prime, small = (_P25519, _SMALL_25519) if size == 32 else (_P448, _SMALL_448)
    if number >= prime or not _on_edwards(number, prime, size):
        yield refusal("ec-point", f"the key's octets are no point of {name}", "RFC 8032, 5")
    elif number in small:
        words = f"the point of the {name} key has small order: one signature fits many messages"
        yield refusal("ec-small-order", words, "RFC 8032, 8; SP 800-186, D.1")
    if lint == "tls-br":
        yield refusal("key-kind", f"{name} keys are not among those allowed", "CABF BR 6.1.5")


def _on_edwards(y: int, prime: int, size: int) -> bool:
    """Whether some x² solves the curve's equation for this y."""
    square = y * y % prime
    if size == 32:  # -x² + y² = 1 + d x² y²
        above, below = square - 1, _D25519 * square + 1
    else:  # x² + y² = 1 + d x² y², d = -39081
        above, below = 1 - square, 1 + 39081 * square
    return pow(above * below % prime, (prime - 1) // 2, prime) in (0, 1)
