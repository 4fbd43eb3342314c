"""Keys and PCRs: decryption keys used to sign, PCRs moved, a service that is stopped."""

from __future__ import annotations

from hashlib import sha256

from tpmhsm.cli.attacks.scene import Scene
from tpmhsm.cli.attacks.signatures import OTHER
from tpmhsm.policy.plan import Plan, plan_use
from tpmhsm.tpm import objects, policies, software
from tpmhsm.tpm.chip import Chip
from tpmhsm.tpm.decryption import decrypt_command
from tpmhsm.tpm.sessions import PolicySession, start_policy
from tpmhsm.wire.commands import NV_UndefineSpace, PCR_Extend, RSA_Decrypt, Sign
from tpmhsm.wire.constants import ALG, RH
from tpmhsm.wire.structures import (
    NULL_HASHCHECK,
    Ha,
    RsaDecrypt,
    SchemeHash,
    SigScheme,
)

DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
BOX, BOOT = "box", "boot"
PCR = 7


def _ensure(scene: Scene, label: str, *words: str) -> None:
    if label not in [row.label for row in scene.house.app.keyring.all()]:
        scene.house.stage.run("key", "create", label, *words)


def formatted(bits: int = 2048) -> bytes:
    """EMSA-PKCS1-v1_5 of a digest (RFC 8017 section 9.2): what a signature is the power of."""
    info = DIGEST_INFO + OTHER
    return b"\0\1" + b"\xff" * (bits // 8 - 3 - len(info)) + b"\0" + info


def decrypt_to_sign(scene: Scene) -> None:
    """An open decryption key, so that what is refused is the key's own nature."""
    _ensure(scene, BOX, "--alg", "rsa2048", "--use", "decrypt")
    row = scene.house.row(BOX)
    with scene.chip() as chip:
        key = objects.load_key(chip, objects.storage_parent(chip), row.public, row.private)
        scheme = SigScheme(ALG.RSASSA, SchemeHash(ALG.SHA256))
        scene.refused("TPM2_Sign by it", 0x19C, lambda: chip.send(
            Sign(key.handle, OTHER, scheme, NULL_HASHCHECK)
        ))  # fmt: skip
        for what, padding, rc in (("RSAES", RsaDecrypt(ALG.RSAES), 0x2D2),
                                  ("no padding", RsaDecrypt(ALG.NULL), 0x101)):  # fmt: skip
            scene.refused(
                f"a formatted block decrypted, which is a signature, with {what}", rc,
                lambda p=padding: chip.send(RSA_Decrypt(key.handle, formatted(), p, b"")),  # type: ignore[misc]
            )  # fmt: skip
        closed = _closed(scene)
        scene.honest("what was encrypted for it", lambda: chip.send(decrypt_command(key, closed)))


def _closed(scene: Scene) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = scene.house.app.keyring.public_key(scene.house.row(BOX))
    assert isinstance(key, rsa.RSAPublicKey)  # noqa: S101 - it was made so
    algorithm = hashes.SHA256()
    return key.encrypt(b"noon", padding.OAEP(padding.MGF1(algorithm), algorithm, None))


def extend(chip: Chip, what: bytes) -> None:
    """A measurement, as firmware makes it."""
    chip.send(PCR_Extend(PCR, (Ha(ALG.SHA256, sha256(what).digest()),)))


def pcr_moved(scene: Scene) -> None:
    """A PCR moves after the policy has looked at it."""
    house = scene.house
    _reboot(scene)
    _ensure(scene, BOOT, "--policy", f"pcr(sha256:{PCR})")
    row = house.row(BOOT)
    policy = house.app.keyring.policy(row)
    plan = plan_use(policy, policy.alternatives[0], row.public, OTHER)
    with scene.chip() as chip:
        parent = objects.storage_parent(chip)
        key = objects.load_key(chip, parent, row.public, row.private)
        command = objects.sign_command(key, OTHER)
        scene.honest("sign in the measured state",
                     lambda: policies.execute(chip, plan, command))  # fmt: skip
        session = _primed(chip, plan)
        scene.able("another boot loader measured, behind the policy's back",
                   lambda: extend(chip, b"root's boot loader"))  # fmt: skip
        scene.refused("sign in the session of before", 0x128, lambda: chip.send(command, session))
        chip.flush(session.handle)
        scene.refused("sign anew", 0x1C4, lambda: policies.execute(chip, plan, command))
    _reboot(scene)


def _primed(chip: Chip, plan: Plan) -> PolicySession:
    session = start_policy(chip)
    for step in plan.steps:
        policies.run_step(chip, session, plan, step)
    return session


def _reboot(scene: Scene) -> None:
    """The machine starts anew, and its firmware measures what it always does."""
    device = scene.house.app.device
    software.stop(software.directory_of(scene.house.app.home))
    with device.transaction() as chip:
        extend(chip, b"the boot loader of this machine")


def service_stopped(scene: Scene) -> None:
    """The owner removes the roster index."""
    index = scene.house.group.group.roster_index
    with scene.root() as root:
        scene.granted("the roster index removed: nobody signs any more",
                      lambda: root.chip.send(NV_UndefineSpace(RH.OWNER, index)))  # fmt: skip
        scene.refused("not even with true approvals", 0x18B, root.try_sign)
