"""An approver's key in a PKCS #11 token: `-i pkcs11:token=work;object=alice`.

The token signs digests that were computed here: CKM_ECDSA (r ‖ s, PKCS #11 v2.40 mechanisms,
2.3.1) becomes DER, RSA is CKM_RSA_PKCS over a DigestInfo (RFC 8017, 9.2). A key that wants a PIN
for every signature (CKA_ALWAYS_AUTHENTICATE) gets the PIN that was typed once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpmhsm.approval.cryptoki import (
    Pin,
    find_module,
    find_token,
    info_of,
    load_module,
    log_in,
    speaking,
)
from tpmhsm.approval.identity import Passphrase, check_signable
from tpmhsm.approval.pkcs11_uri import Pkcs11Uri, parse_uri
from tpmhsm.approval.tokens import TokenInfo
from tpmhsm.errors import NotFoundError, ParseError, RefusedError, UsageError, VerificationError
from tpmhsm.policy.approver import check_key, check_signature, tpmt_signature
from tpmhsm.policy.visible import escape

if TYPE_CHECKING:
    import pkcs11

    from tpmhsm.policy.approver import PublicKey

_P256 = bytes.fromhex("06082a8648ce3d030107")
_SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
"""DigestInfo of SHA-256, RFC 8017 section 9.2, note 1."""


@dataclass(frozen=True)
class Pkcs11Identity:
    """A key in a token that is logged in to; `close` logs out, as the end of the process does."""

    label: str
    token: TokenInfo
    public_key: PublicKey
    _session: Any = field(repr=False)
    _private: Any = field(repr=False)
    _pin: str | None = field(repr=False)

    @property
    def kind(self) -> str:
        """Always 'pkcs11'."""
        return "pkcs11"

    @property
    def description(self) -> str:
        """Words: 'key "alice" in token "work" (SoftHSM v2, 9f3a61c077be0d12)'."""
        return f'key "{escape(self.label)}" in {self.token.words}'

    def sign(self, message: bytes) -> bytes:
        """Sign with SHA-256: DER ECDSA, or RSASSA-PKCS1-v1_5; checked before it is returned.

        RefusedError for a PIN that the token no longer takes, DeviceError when it went away.
        """
        check_signable(message)
        with speaking(self.token.words):
            signature = self._raw(hashlib.sha256(message).digest())
        try:
            check_signature(self.public_key, message, tpmt_signature(self.public_key, signature))
        except (ParseError, VerificationError):
            raise VerificationError(
                f"{self.description} gave a signature that its own public key does not verify",
                hint="do the private and the public key of that name belong together?",
            ) from None
        return signature

    def _raw(self, digest: bytes) -> bytes:
        import pkcs11
        from cryptography.hazmat.primitives.asymmetric import rsa
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

        if isinstance(self.public_key, rsa.RSAPublicKey):
            mechanism = pkcs11.Mechanism.RSA_PKCS
            return bytes(
                self._private.sign(_SHA256_INFO + digest, mechanism=mechanism, pin=self._pin)
            )
        pair = self._private.sign(digest, mechanism=pkcs11.Mechanism.ECDSA, pin=self._pin)
        half = len(pair) // 2
        return encode_dss_signature(
            int.from_bytes(pair[:half], "big"), int.from_bytes(pair[half:], "big")
        )

    def close(self) -> None:
        """Log out; the identity signs no more. A token that is gone already is no error."""
        with suppress(Exception), speaking(self.token.words):
            self._session.close()


def open_pkcs11(spec: str, passphrase: Passphrase, module: str = "") -> Pkcs11Identity:
    """Open the key that a URI names; `module` is the setting for URIs that name none.

    NotFoundError when no key matches, UsageError when several do, RefusedError for a wrong PIN, or
    a key that an approver must not have; see `cryptoki` for tokens and modules.
    """
    return _open(parse_uri(spec), passphrase, module, make=None)


def make_pkcs11(
    spec: str, name: str, passphrase: Passphrase, algorithm: str = "p256", module: str = ""
) -> tuple[Pkcs11Identity, bool]:
    """Open the key that a URI names, or make it, never to leave the token: `algorithm` is p256,
    rsa2048 or rsa3072.

    A URI without a key means the one that is called `name`. Returns it, and whether it was made.
    """
    uri = parse_uri(spec)
    wanted = uri if uri.names_a_key else replace(uri, label=name)
    made: list[Any] = []

    def make(session: pkcs11.Session) -> Any:
        made.append(_generate(session, wanted, algorithm))
        return made[0]

    return _open(wanted, passphrase, module, make), bool(made)


def _open(
    uri: Pkcs11Uri,
    passphrase: Passphrase,
    setting: str,
    make: Callable[[pkcs11.Session], Any] | None,
) -> Pkcs11Identity:
    token = find_token(load_module(find_module(uri, setting)), uri)
    what = info_of(token).words
    session, pin = log_in(token, _pin_of(uri, passphrase), write=make is not None)
    try:
        with speaking(what):
            private = _find(session, uri, what)
            if private is None and make is not None:
                private = make(session)
            if private is None:
                raise NotFoundError(
                    f"{what} has no private key {_named(uri)}".rstrip(), hint=_present(session)
                )
            return _identity(token, session, private, pin)
    except BaseException:
        with suppress(Exception):
            session.close()
        raise


def _pin_of(uri: Pkcs11Uri, passphrase: Passphrase) -> Pin:
    if not uri.pin_file:
        return passphrase
    from tpmhsm.approval.filekey import read_private

    def from_file(prompt: str) -> bytes:
        data = read_private(Path(uri.pin_file))
        if not (line := data.split(b"\n", 1)[0].rstrip(b"\r")):
            raise UsageError(f"{uri.pin_file} has no PIN in its first line")
        return line

    return from_file


def _identity(token: Any, session: Any, private: Any, pin: str) -> Pkcs11Identity:
    from pkcs11 import Attribute

    label = _read(private, Attribute.LABEL) or (_read(private, Attribute.ID) or b"").hex()
    always = bool(_read(private, Attribute.ALWAYS_AUTHENTICATE))
    info = replace(info_of(token), cautions=tuple(_cautions(token, private)))
    if always and not pin:
        raise RefusedError(
            f'key "{escape(label)}" wants a PIN for every signature, and the PIN pad of '
            f"{info.words} cannot be asked for it here",
            code="pin-pad",
        )
    public = _public_of(session, private, f'key "{escape(label)}" in {info.words}')
    return Pkcs11Identity(label, info, public, session, private, pin if always else None)


def _cautions(token: pkcs11.Token, private: Any) -> Iterator[str]:
    """What there is to say against a key. RefusedError when it can be read out in clear."""
    from pkcs11 import Attribute, SlotFlag

    if _read(private, Attribute.SENSITIVE) is False:
        raise RefusedError(
            f"{info_of(token).words}: the key can be read out of the token in clear "
            "(CKA_SENSITIVE is false)",
            code="key-not-sensitive",
            hint="approver create with another object= makes one that stays inside",
        )
    if _read(private, Attribute.EXTRACTABLE):
        yield "extractable: who knows the PIN can take a copy out of the token"
    elif _read(private, Attribute.NEVER_EXTRACTABLE) is False:
        yield "it could once be taken out of the token: a copy may exist"
    if _read(private, Attribute.LOCAL) is False:
        yield "not made in the token: a copy may exist elsewhere"
    if not token.slot.flags & SlotFlag.HW_SLOT:
        yield "software: its module does not call the token hardware"


def _read(thing: Any, attribute: Any) -> Any:
    """One attribute; None where the token does not tell."""
    try:
        return thing[attribute]
    except _gone():
        raise
    except Exception:  # noqa: BLE001 - what a token cannot tell, or tells wrongly
        return None


def _gone() -> tuple[type[Exception], ...]:
    import pkcs11

    return (pkcs11.DeviceRemoved, pkcs11.TokenNotPresent, pkcs11.SessionHandleInvalid)


# ── keys in a token ──────────────────────────────────────────────────────────


def _find(session: Any, uri: Pkcs11Uri, what: str) -> Any:
    found = list(_privates(session, uri))
    if len(found) < 2:
        return found[0] if found else None
    raise UsageError(
        f"{len(found)} keys in {what} match:\n" + "\n".join(f"  {_as_uri(key)}" for key in found),
        code="several-keys",
        hint="object=… or id=… in the URI names one",
    )


def _privates(session: Any, uri: Pkcs11Uri) -> Iterator[Any]:
    """The private keys that a URI may mean: of the kinds that sign."""
    from pkcs11 import Attribute, KeyType, ObjectClass

    template: dict[Any, Any] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
    if uri.label is not None:
        template[Attribute.LABEL] = uri.label
    if uri.key_id is not None:
        template[Attribute.ID] = uri.key_id
    for key in list(session.get_objects(template)):
        kind, signs = _read(key, Attribute.KEY_TYPE), _read(key, Attribute.SIGN)
        if uri.names_a_key or (kind in (KeyType.EC, KeyType.RSA) and signs is not False):
            yield key


def _present(session: Any) -> str:
    found = [_as_uri(key) for key in _privates(session, Pkcs11Uri({}))]
    there = f"there is {', '.join(found[:8])}; " if found else ""
    return f"{there}tpmhsm approver create NAME -i 'pkcs11:token=…;object=NAME' makes one"


def _named(uri: Pkcs11Uri) -> str:
    label = f'"{escape(uri.label)}"' if uri.label is not None else ""
    return label + (f" with the id {uri.key_id.hex()}" if uri.key_id is not None else "")


def _as_uri(key: Any) -> str:
    """object=alice;id=%01, as a URI would name the key."""
    from urllib.parse import quote

    from pkcs11 import Attribute

    label, key_id = _read(key, Attribute.LABEL), _read(key, Attribute.ID)
    parts = [f"object={quote(label, safe='')}"] if label else []
    parts += ["id=" + "".join(f"%{byte:02x}" for byte in key_id)] if key_id else []
    return ";".join(parts) or "a key without a name"


def _generate(session: Any, uri: Pkcs11Uri, algorithm: str) -> Any:
    """Make a key that stays in the token, and signs, and does nothing else."""
    import os

    from pkcs11 import Attribute, KeyType, MechanismFlag

    key_id = uri.key_id if uri.key_id is not None else os.urandom(8)
    if algorithm == "p256":
        curve = {Attribute.EC_PARAMS: _P256}
        generate = session.create_domain_parameters(KeyType.EC, curve, local=True).generate_keypair
    else:
        generate = partial(
            session.generate_keypair, KeyType.RSA, int(algorithm.removeprefix("rsa"))
        )
    _, private = generate(
        id=key_id,
        label=uri.label or "approver",
        store=True,
        capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
        private_template={
            Attribute.PRIVATE: True,
            Attribute.SENSITIVE: True,
            Attribute.EXTRACTABLE: False,
        },
    )
    return private


def _public_of(session: Any, private: Any, what: str) -> PublicKey:
    """The public half: from the private object, the public one of the same id, or a certificate.

    Whether they belong together, each signature shows.
    """
    from pkcs11 import Attribute, ObjectClass

    key = _bare_key(private)
    for wanted, load in ((ObjectClass.PUBLIC_KEY, _bare_key), (ObjectClass.CERTIFICATE, _in_cert)):
        for name in (Attribute.ID, Attribute.LABEL):
            value = _read(private, name)
            if key is None and value:
                objects = list(session.get_objects({Attribute.CLASS: wanted, name: value}))
                key = next((k for k in map(load, objects) if k is not None), None)
    if key is None:
        raise RefusedError(
            f"{what}: the token has neither its public key nor a certificate, or it is neither "
            "P-256 nor RSA",
            code="wrong-key-kind",
        )
    try:
        return check_key(key)
    except ParseError as error:
        raise RefusedError(f"{what}: {error.message}", code="wrong-key-kind") from None


def _bare_key(thing: Any) -> Any:
    """The public key of a key object, for `cryptography`; None when it does not hold it."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from pkcs11 import Attribute

    modulus = _read(thing, Attribute.MODULUS)
    exponent = _read(thing, Attribute.PUBLIC_EXPONENT)
    try:
        if modulus and exponent:
            numbers = int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")
            return rsa.RSAPublicNumbers(*numbers).public_key()
        point = _read(thing, Attribute.EC_POINT)
        if point and _read(thing, Attribute.EC_PARAMS) == _P256:
            # DER of an OCTET STRING (PKCS #11 v2.40); some tokens leave its header out
            plain = point[2:] if point[:2] == b"\x04\x41" else point
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes(plain))
    except ValueError:
        pass
    return None


def _in_cert(thing: Any) -> Any:
    """The same of a certificate object."""
    from cryptography import x509
    from pkcs11 import Attribute

    try:
        return x509.load_der_x509_certificate(_read(thing, Attribute.VALUE) or b"").public_key()
    except ValueError:
        return None
