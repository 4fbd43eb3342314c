"""The CA's key under other commands than the approved TPM2_Sign.

Certify, Quote and the like sign structures that begin with TPM_GENERATED, CertifyX509 signs a real
certificate: with any of them the key would sign what no officer saw.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from tpmhsm.cli.attacks.root import Root
from tpmhsm.cli.attacks.scene import Scene
from tpmhsm.cli.attacks.signatures import still_signs
from tpmhsm.policy.steps import CommandCode
from tpmhsm.tpm import objects
from tpmhsm.tpm.sessions import Password
from tpmhsm.wire.commands import (
    Certify,
    CertifyX509,
    Commit,
    ECDH_ZGen,
    GetTime,
    NV_Certify,
    ObjectChangeAuth,
    Quote,
)
from tpmhsm.wire.constants import ALG, CC, RH
from tpmhsm.wire.structures import NULL_SCHEME, EccPoint, pcr_selection

NONCE = b"whatever root likes"
Make = Callable[[Root, int], Any]


def _quote(_: Root, key: int) -> Any:
    return Quote(key, NONCE, NULL_SCHEME, (pcr_selection(ALG.SHA256, (0,)),))


def _certify(root: Root, key: int) -> Any:
    return Certify(objects.attestation_key(root.chip).handle, key, NONCE, NULL_SCHEME)


def _certify_x509(root: Root, key: int) -> Any:
    ak = objects.attestation_key(root.chip).handle
    return CertifyX509(ak, key, b"", NULL_SCHEME, partial_certificate())


def _get_time(_: Root, key: int) -> Any:
    return GetTime(RH.ENDORSEMENT, key, NONCE, NULL_SCHEME)


def _nv_certify(root: Root, key: int) -> Any:
    index = root.group.counter_index
    return NV_Certify(key, index, index, NONCE, NULL_SCHEME, 8, 0)


def _commit(_: Root, key: int) -> Any:
    return Commit(key, EccPoint(bytes(32), bytes(32)), b"", b"")


def _zgen(_: Root, key: int) -> Any:
    return ECDH_ZGen(key, EccPoint(bytes(32), bytes(32)))


def _change_auth(root: Root, key: int) -> Any:
    return ObjectChangeAuth(key, objects.storage_parent(root.chip).handle, b"known to root")


def _attack(make: Make, code: CC, scene: Scene, *, place: int = 1, admin: bool = False) -> None:
    """With satisfied approvals, with a policy session of its own code, with the empty password.
    `place`: where among the command's authorizations the key stands.
    """

    def attempt(root: Root, auth: Callable[[], Any]) -> None:
        loaded = root.load()
        try:
            command = make(root, loaded.handle)
            root.chip.send(command, *[Password()] * (place - 1), auth())
        finally:
            root.chip.flush_all()

    session = {1: 0x900, 2: 0xA00}[place]
    with scene.root() as root:
        scene.refused(
            f"{code.name} by the root's key, with satisfied approvals",
            session | 0xA4,
            lambda: attempt(root, root.session),
        )
        scene.refused(
            f"{code.name} in a policy session that has only this command's code",
            session | 0x9D,
            lambda: attempt(root, lambda: root.session((CommandCode(code),))),
        )
        scene.refused(
            f"{code.name} with the empty password",
            0x124 if admin else 0x12F,
            lambda: attempt(root, Password),
        )
        still_signs(scene, root)


certify = partial(_attack, _certify, CC.Certify, place=2)
certify_x509 = partial(_attack, _certify_x509, CC.CertifyX509, place=2)
quote = partial(_attack, _quote, CC.Quote)
get_time = partial(_attack, _get_time, CC.GetTime, place=2)
nv_certify = partial(_attack, _nv_certify, CC.NV_Certify)
commit = partial(_attack, _commit, CC.Commit)
ecdh_zgen = partial(_attack, _zgen, CC.ECDH_ZGen)
change_auth = partial(_attack, _change_auth, CC.ObjectChangeAuth, admin=True)


def partial_certificate() -> bytes:
    """What TPM2_CertifyX509 wants (Part 3 §18.8): issuer, validity, subject, extensions."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    from tpmhsm.pki import der

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "root's own")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    parts = der.children(der.read_whole(made.tbs_certificate_bytes).content)
    body = b"".join(parts[i].raw for i in (3, 4, 5, 7))
    return b"\x30\x82" + len(body).to_bytes(2, "big") + body
