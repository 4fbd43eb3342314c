"""People, groups and rosters for tests. Keys are cached: making RSA keys is slow."""

from functools import cache
from hashlib import sha256

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from tpmhsm.policy import approver
from tpmhsm.policy.group import GroupDocument, RosterDocument, founders_of
from tpmhsm.policy.people import Member, Threshold, members_of

EK = b"an EK certificate"
NAMES = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy")


@cache
def key(number, kind="p256"):
    if kind == "p256":
        return ec.derive_private_key(
            int.from_bytes(sha256(b"test approver %d" % number).digest(), "big") >> 1,
            ec.SECP256R1(),
        )
    return rsa.generate_private_key(65537, int(kind))


def label(number):
    return NAMES[number] if number < len(NAMES) else f"person{number}"


def contribution(number):
    return sha256(b"contribution %d" % number).digest()


def member(number, *, founding=False, kind="p256"):
    spki = approver.spki_of(key(number, kind).public_key())
    return Member(label(number), spki, contribution(number) if founding else b"")


def threshold(m, people, *, founding=False, kind="p256"):
    return Threshold(m, tuple(member(p, founding=founding, kind=kind) for p in people))


def group(custodians=None, officers=(), **other):
    custodians = joined(custodians or threshold(2, (0, 1, 2), founding=True))
    founders = [m.contribution for m in members_of(custodians)]
    facts = {
        "name": "officers",
        "device_ek": sha256(EK).digest(),
        "device_ak": b"\x00\x0b" + bytes(32),
        "nonce": sha256(b"nonce").digest(),
        "counter_index": 0x01800001,
        "roster_index": 0x01800002,
        "custodians": custodians,
        "founders": founders_of([*founders, *map(contribution, officers)]),
    }
    return GroupDocument(**{**facts, **other})


def roster(of, officers=None, epoch=1):
    """`officers`: a threshold, or a tuple of them."""
    return RosterDocument(of.id, epoch, joined(officers or threshold(2, (0, 1, 2))))


def joined(rule):
    return rule if isinstance(rule, tuple) else (rule,)


def tpmt_sign(private, message, algorithm=None):
    """A TPMT_SIGNATURE over `message` as an approver's tool makes it."""
    algorithm = algorithm or hashes.SHA256()
    if isinstance(private, rsa.RSAPrivateKey):
        raw = private.sign(message, padding.PKCS1v15(), algorithm)
    else:
        raw = private.sign(message, ec.ECDSA(algorithm))
    return approver.tpmt_signature(private.public_key(), raw)
