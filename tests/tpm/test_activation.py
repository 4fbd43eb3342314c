"""Credentials: made in Python, by tpm2-tools and by the chip; opened by the chip alone."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from tests.support.swtpm import bare_swtpm

from tpmhsm.attest.credential import make_credential
from tpmhsm.errors import RefusedError
from tpmhsm.tpm import evidence, objects
from tpmhsm.tpm.activation import activate
from tpmhsm.tpm.attesting import rsa_attestation_key
from tpmhsm.tpm.ek_templates import TEMPLATES
from tpmhsm.wire.codec import TPM2B, decode, encode
from tpmhsm.wire.commands import MakeCredential
from tpmhsm.wire.public import Public

SECRET = bytes(range(32))
KINDS = [index for index in TEMPLATES if index != 0x01C0001E]  # RSA-4096: a minute


@pytest.mark.parametrize("index", KINDS)
def test_the_chip_opens_what_python_made(chip, index):
    ek = made(chip, index)
    ak = objects.attestation_key(chip)
    sealed = make_credential(ek, ak.name, SECRET)
    assert activate(chip, ek, ak, *sealed) == SECRET
    settle(chip)


def test_commands_of_an_activation(chip):
    """With a persistent EK: all persistent handles, each public area, then four or five."""
    ak = objects.attestation_key(chip)
    ek = decode(Public, evidence.endorsements(chip)[1].public)
    sealed = make_credential(ek, ak.name, SECRET)
    persistent = len(objects.all_persistent(chip))
    before = chip.commands
    assert activate(chip, ek, ak, *sealed) == SECRET
    assert chip.commands - before == 1 + persistent + 4
    assert chip.leaks() == []


def test_an_rsa_attestation_key_too(chip):
    ek = made(chip, 0x01C00014)
    ak = rsa_attestation_key(chip).loaded
    assert activate(chip, ek, ak, *make_credential(ek, ak.name, SECRET)) == SECRET
    settle(chip)


@pytest.mark.parametrize("index", KINDS)
def test_the_chip_opens_what_it_made_itself(chip, index):
    """The same command's other half: nothing here depends on our own making."""
    ek = made(chip, index)
    ak = objects.attestation_key(chip)
    loaded = evidence.load_endorsement(chip, ek)
    sealed = chip.send(MakeCredential(loaded.handle, SECRET, ak.name))
    assert activate(chip, ek, ak, sealed.credential_blob, sealed.secret) == SECRET
    settle(chip)


@pytest.mark.parametrize("index", [0x01C0000A, 0x01C00002, 0x01C00016, 0x01C0001C])
def test_the_chip_opens_what_tpm2_tools_made(chip, tmp_path, index):
    if not shutil.which("tpm2_makecredential"):
        pytest.skip("tpm2-tools are not installed")
    ek = made(chip, index)
    ak = objects.attestation_key(chip)
    (tmp_path / "ek").write_bytes(TPM2B.pack(encode(ek)))
    (tmp_path / "secret").write_bytes(SECRET)
    command = ["tpm2_makecredential", "-T", "none", "-u", "ek", "-s", "secret"]
    subprocess.run([*command, "-n", ak.name.hex(), "-o", "out"], cwd=tmp_path, check=True)
    blob = (tmp_path / "out").read_bytes()[8:]  # magic and version
    size = int.from_bytes(blob[:2], "big")
    credential, secret = blob[2 : 2 + size], blob[4 + size :]
    assert activate(chip, ek, ak, credential, secret) == SECRET
    settle(chip)


@pytest.mark.parametrize("kind", ["rsa", "ecc"])
def test_tpm2_tools_open_what_python_made(tmp_path, kind):
    """With an EK and an AK of theirs, on a chip that we never spoke to."""
    if not shutil.which("tpm2_activatecredential"):
        pytest.skip("tpm2-tools are not installed")

    def run(tool, *arguments):
        command = [f"tpm2_{tool}", "-T", f"swtpm:path={path}", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    with bare_swtpm() as path:
        run("createek", "-c", "ek.ctx", "-G", kind, "-u", "ek.pub")
        run("flushcontext", "-t")
        ak = ("-G", "ecc", "-g", "sha256", "-s", "ecdsa", "-u", "ak.pub", "-n", "ak.name")
        run("createak", "-C", "ek.ctx", "-c", "ak.ctx", *ak)
        run("flushcontext", "-t")
        ek = decode(Public, (tmp_path / "ek.pub").read_bytes()[2:])
        name = (tmp_path / "ak.name").read_bytes()
        credential, secret = map(TPM2B.pack, make_credential(ek, name, SECRET))
        head = bytes.fromhex("badcc0de00000001")
        (tmp_path / "blob").write_bytes(head + credential + secret)
        run("startauthsession", "--policy-session", "-S", "s.ctx")
        run("policysecret", "-S", "s.ctx", "-c", "e")
        given = ("-i", "blob", "-o", "out", "-P", "session:s.ctx")
        run("activatecredential", "-c", "ak.ctx", "-C", "ek.ctx", *given)
    assert (tmp_path / "out").read_bytes() == SECRET


@pytest.mark.parametrize("index", [0x01C0000A, 0x01C00002, 0x01C00016])
@pytest.mark.parametrize("part", [0, 1])
def test_each_part_counts(chip, index, part):
    ek = made(chip, index)
    ak = objects.attestation_key(chip)
    sealed = list(make_credential(ek, ak.name, SECRET))
    changed = bytearray(sealed[part])
    changed[-1] ^= 1
    sealed[part] = bytes(changed)
    with pytest.raises(RefusedError, match="not for this chip") as refused:
        activate(chip, ek, ak, *sealed)
    assert refused.value.code == "other-chip"
    settle(chip)


def made(chip, index) -> Public:
    public = evidence._primary(chip, TEMPLATES[index])
    if public is None:
        pytest.skip(f"this chip makes no key of template 0x{index:08x}")
    return public


def settle(chip) -> None:
    chip.flush_all()
    assert chip.leaks() == []
