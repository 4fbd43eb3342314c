"""Key files, with openssl as the other side."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tpmhsm.approval.cards import create_card, parse_card
from tpmhsm.approval.filekey import create_file_key, open_file_key
from tpmhsm.approval.identity import open_identity
from tpmhsm.errors import (
    ApprovalRefusedError,
    ExistsError,
    NotFoundError,
    ParseError,
    RefusedError,
    TpmHsmError,
    UsageError,
)
from tpmhsm.policy.approver import spki_of

SECRET = b"correct horse battery staple"


def openssl(*arguments: str, cwd: Path, ok: bool = True) -> str:
    done = subprocess.run(["openssl", *arguments], cwd=cwd, capture_output=True, check=False)
    assert (done.returncode == 0) is ok, done.stderr.decode()
    return done.stdout.decode()


def private_file(path: Path) -> Path:
    path.chmod(0o600)
    return path


def never(prompt: str) -> bytes:
    raise AssertionError("asked for a passphrase")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "alice.key"
    create_file_key(path, SECRET)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of unencrypted keys of several kinds."""
    folder = tmp_path_factory.mktemp("plain")
    for name, options in {
        "p256": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
        "p521": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"),
        "p384": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"),
        "ed25519": ("-algorithm", "ED25519"),
        "rsa1024": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"),
        "rsa2048": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
        "rsa3": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt",
                 "rsa_keygen_pubexp:3"),
    }.items():  # fmt: skip
        openssl("genpkey", *options, "-out", f"{name}.pem", cwd=folder)
        private_file(folder / f"{name}.pem")
    return folder


def wrapped(plain: Path, name: str, *options: str) -> Path:
    out = f"{name}-{abs(hash(options))}.key"
    openssl("pkcs8", "-topk8", *options, "-in", f"{name}.pem", "-out", out,
            "-passout", f"pass:{SECRET.decode()}", cwd=plain)  # fmt: skip
    return private_file(plain / out)


def test_openssl_reads_what_we_write(made: Path) -> None:
    public = openssl("pkey", "-in", made.name, "-passin", f"pass:{SECRET.decode()}", "-pubout",
                     cwd=made.parent)  # fmt: skip
    opened = open_file_key(made, lambda prompt: SECRET)
    assert opened.public_key == load_pem_public_key(public.encode())
    openssl("pkey", "-in", made.name, "-passin", "pass:wrong", "-noout", cwd=made.parent, ok=False)
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in made.read_bytes()
    parsed = openssl("asn1parse", "-in", made.name, cwd=made.parent)
    assert "scrypt" in parsed and "aes-256-cbc" in parsed


def test_openssl_verifies_what_the_key_signs(made: Path, tmp_path: Path) -> None:
    opened = open_file_key(made, lambda prompt: SECRET)
    card = parse_card(create_card("alice", opened))
    assert card.name == "alice" and card.spki == spki_of(opened.public_key)
    message = bytes(4) + bytes(range(64))
    (tmp_path / "m").write_bytes(message)
    (tmp_path / "s").write_bytes(opened.sign(message))
    (tmp_path / "p").write_bytes(
        opened.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    openssl("dgst", "-sha256", "-verify", "p", "-signature", "s", "m", cwd=tmp_path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("p256", ("-scrypt",)),
        ("p256", ("-v2", "aes-256-cbc", "-iter", "600000")),
        ("p256", ("-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA512", "-iter", "700000")),
        ("rsa2048", ("-scrypt",)),
    ],
)
def test_strong_files_of_openssl_are_taken(
    plain: Path, name: str, options: tuple[str, ...]
) -> None:
    opened = open_identity(str(wrapped(plain, name, *options)), lambda prompt: SECRET)
    assert opened.kind == "file"
    assert opened.sign(bytes(68))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((), "2,048 rounds"),
        (("-iter", "599999"), "599,999 rounds"),
        (("-v2prf", "hmacWithSHA1", "-iter", "700000"), "SHA-1"),
        (("-v1", "PBE-SHA1-3DES"), "outdated"),
        (("-v2", "des3", "-iter", "700000"), "AES-CBC"),
        (("-scrypt", "-scrypt_N", "1024"), "N=1024"),
    ],
)
def test_weak_files_are_refused_with_the_command_that_helps(
    plain: Path, options: tuple[str, ...], reason: str
) -> None:
    path = wrapped(plain, "p256", *options)
    with pytest.raises(RefusedError, match=reason) as refused:
        open_file_key(path, never)
    command = refused.value.hint.split()
    assert command[:3] == ["openssl", "pkcs8", "-topk8"]
    passwords = ("-passin", f"pass:{SECRET.decode()}", "-passout", f"pass:{SECRET.decode()}")
    fresh = path.with_suffix(".fresh")
    fresh.unlink(missing_ok=True)
    command[-1] = str(fresh)
    openssl(*command[1:], *passwords, cwd=plain)
    assert open_file_key(private_file(fresh), lambda prompt: SECRET).public_key


@pytest.mark.parametrize("name", ["p384", "p521", "ed25519", "rsa1024", "rsa3"])
def test_other_kinds_of_keys_are_refused(plain: Path, name: str) -> None:
    path = wrapped(plain, name, "-scrypt")
    with pytest.raises(RefusedError, match="approver key") as refused:
        open_file_key(path, lambda prompt: SECRET)
    assert refused.value.code == "wrong-key-kind"


def test_an_unencrypted_key_is_refused_before_anybody_types(plain: Path) -> None:
    with pytest.raises(RefusedError, match="not encrypted") as refused:
        open_file_key(plain / "p256.pem", never)
    assert "openssl pkcs8 -topk8 -scrypt" in refused.value.hint


def test_the_old_format_is_refused(plain: Path) -> None:
    openssl("ec", "-in", "p256.pem", "-aes256", "-passout", "pass:x", "-out", "old.key", cwd=plain)
    with pytest.raises(RefusedError, match="old format"):
        open_file_key(private_file(plain / "old.key"), never)


@pytest.mark.parametrize("secret", [b"", b"wrong", SECRET + b" ", b"\0\xff" * 600])
def test_a_wrong_passphrase_is_one_clear_error(made: Path, secret: bytes) -> None:
    with pytest.raises(RefusedError, match="wrong passphrase") as refused:
        open_file_key(made, lambda prompt: secret)
    assert refused.value.code == "wrong-passphrase"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_files_that_others_may_touch_are_refused(made: Path, tmp_path: Path, mode: int) -> None:
    path = tmp_path / "k"
    path.write_bytes(made.read_bytes())
    path.chmod(mode)
    with pytest.raises(RefusedError, match="others on this machine") as refused:
        open_file_key(path, never)
    assert refused.value.hint == f"chmod 600 {path}"


def test_a_link_to_a_private_file_is_fine(made: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(made)
    assert open_file_key(tmp_path / "link", lambda prompt: SECRET).kind == "file"


def test_files_that_are_no_keys(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        open_file_key(tmp_path / "none", never)
    with pytest.raises(UsageError):
        open_file_key(tmp_path, never)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(UsageError):
        open_file_key(tmp_path / "pipe", never)
    with pytest.raises(UsageError):
        open_file_key(Path("a\0b"), never)
    big = tmp_path / "big"
    big.write_bytes(bytes(1 << 17))
    with pytest.raises(ParseError, match="larger"):
        open_file_key(private_file(big), never)
    os.truncate(big, 50 << 20)
    with pytest.raises(ParseError, match="larger"):
        open_file_key(big, never)
    with pytest.raises(UsageError, match="not a file"):
        open_file_key(Path("/dev/zero"), never)


def test_what_is_there_instead_of_a_key_is_named(plain: Path) -> None:
    subject = ("-x509", "-key", "p256.pem", "-subj", "/CN=alice", "-out", "cert.pem")
    openssl("req", *subject, cwd=plain)
    openssl("pkey", "-in", "p256.pem", "-pubout", "-out", "public.pem", cwd=plain)
    openssl("pkcs12", "-export", "-inkey", "p256.pem", "-in", "cert.pem", "-passout", "pass:x",
            "-out", "both.p12", cwd=plain)  # fmt: skip
    for name, words in (
        ("cert.pem", "this is a certificate"),
        ("public.pem", "this is a public key"),
        ("both.p12", "not an encrypted private key"),
    ):
        with pytest.raises((RefusedError, ParseError), match=words):
            open_file_key(private_file(plain / name), never)


def test_a_new_key_never_replaces_anything(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    path.write_text("mine")
    with pytest.raises(ExistsError):
        create_file_key(path, SECRET)
    assert path.read_text() == "mine"
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ExistsError):
        create_file_key(tmp_path / "dangling", SECRET)
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(UsageError):
        create_file_key(tmp_path / "no" / "folder.key", SECRET)
    with pytest.raises(UsageError):
        create_file_key(tmp_path / "empty.key", b"")
    assert not (tmp_path / "empty.key").exists()


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        create_file_key(tmp_path / "a.key", SECRET)
    assert list(tmp_path.iterdir()) == []


def test_the_umask_does_not_matter(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        create_file_key(tmp_path / "a.key", SECRET)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.key").stat().st_mode) == 0o600


def test_the_key_signs_only_what_came_through_a_door(made: Path) -> None:
    opened = open_file_key(made, lambda prompt: SECRET)
    for message in (
        b"",
        b"hello",
        bytes(67),
        bytes(69),
        bytes(52),
        b"x" * 200,
        b"\xff" * 68,
        b"x" * 84,
    ):
        with pytest.raises(ApprovalRefusedError):
            opened.sign(message)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_files_are_clear_errors(made: Path, tmp_path: Path, data: st.DataObject) -> None:
    raw = bytearray(made.read_bytes())
    choice = data.draw(st.sampled_from(["cut", "flip", "junk", "der"]))
    if choice == "cut":
        raw = raw[: data.draw(st.integers(0, len(raw) - 30))]
    elif choice == "flip":
        place = data.draw(st.integers(0, 120))  # the header and the parameters
        raw[place] ^= data.draw(st.integers(1, 127))
    elif choice == "junk":
        raw = bytearray(data.draw(st.binary(max_size=300)))
    else:
        raw = bytearray(b"\x30\x82") + data.draw(st.binary(max_size=300))
    path = tmp_path / "k"
    path.write_bytes(raw)
    with pytest.raises(TpmHsmError):
        open_file_key(private_file(path), lambda prompt: b"not it")
