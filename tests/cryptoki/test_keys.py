"""Keys in SoftHSM: opened, made, refused; judged by pkcs11-tool and openssl."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.cryptoki.softhsm import MODULE, PIN, SoftHsm

from tpmhsm.approval.cards import create_card, describe_card, parse_card
from tpmhsm.approval.identity import Passphrase, open_identity
from tpmhsm.approval.pkcs11 import Pkcs11Identity, make_pkcs11, open_pkcs11
from tpmhsm.errors import (
    ApprovalRefusedError,
    DeviceError,
    NotFoundError,
    RefusedError,
    TpmHsmError,
    UsageError,
    VerificationError,
)

MESSAGE = bytes(4) + bytes(range(64))


def right(prompt: str) -> bytes:
    return PIN.encode()


def never(prompt: str) -> bytes:
    raise AssertionError("asked for a PIN")


@contextmanager
def opened(spec: str, pin: Passphrase = right) -> Iterator[Pkcs11Identity]:
    found = open_pkcs11(spec, pin, MODULE)
    try:
        yield found
    finally:
        found.close()


def made(uri: str, name: str = "alice", algorithm: str = "p256") -> bytes:
    """Make a key; its card."""
    found, new = make_pkcs11(uri, name, right, algorithm, MODULE)
    try:
        assert new
        return create_card(name, found)
    finally:
        found.close()


def openssl_verifies(found: Pkcs11Identity, folder: Path) -> None:
    (folder / "m").write_bytes(MESSAGE)
    (folder / "s").write_bytes(found.sign(MESSAGE))
    (folder / "p").write_bytes(
        found.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    command = ["openssl", "dgst", "-sha256", "-verify", "p", "-signature", "s", "m"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("algorithm", ["p256", "rsa2048", "rsa3072"])
def test_a_key_is_made_in_the_token_once(hsm: SoftHsm, tmp_path: Path, algorithm: str) -> None:
    uri = hsm.token("work")
    card = parse_card(made(uri, algorithm=algorithm))
    listed = hsm.tool("work", "--list-objects", "--type", "privkey")
    assert "sensitive, always sensitive, never extractable, local" in listed
    assert [line.split(":")[1].strip() for line in listed.splitlines() if "Usage" in line] == [
        "sign"
    ]
    again, new = make_pkcs11(uri, "alice", right, algorithm, MODULE)
    assert not new and again.public_key == card.key
    openssl_verifies(again, tmp_path)
    again.close()
    assert listed == hsm.tool("work", "--list-objects", "--type", "privkey")


@pytest.mark.parametrize("kind", ["EC:prime256v1", "rsa:2048", "rsa:3072"])
def test_keys_of_other_programs_are_used(hsm: SoftHsm, tmp_path: Path, kind: str) -> None:
    uri = hsm.token("work")
    hsm.tool("work", "--keypairgen", "--key-type", kind, "--label", "a", "--id", "01")
    with opened(uri) as found:
        assert found.kind == "pkcs11"
        openssl_verifies(found, tmp_path)
    for part in ("object=a", "id=%01", "object=a;id=%01;type=private"):
        with opened(f"{uri};{part}"):
            pass


def test_a_pin_for_every_signature(hsm: SoftHsm, tmp_path: Path) -> None:
    uri = hsm.token("work")
    hsm.tool("work", "--keypairgen", "--key-type", "EC:prime256v1", "--label", "a", "--id", "01",
             "--always-auth")  # fmt: skip
    asked: list[str] = []

    def once(prompt: str) -> bytes:
        asked.append(prompt)
        return PIN.encode()

    with opened(uri, once) as found:
        openssl_verifies(found, tmp_path)
        openssl_verifies(found, tmp_path)
    assert len(asked) == 1 and asked[0].startswith('PIN of token "work" (SoftHSM v2, ')


def test_what_the_token_says_is_on_the_card_and_not_proven(hsm: SoftHsm) -> None:
    card = parse_card(made(hsm.token("work")))
    assert card.kind == "pkcs11" and card.token is not None
    assert (card.token.label, card.token.manufacturer) == ("work", "SoftHSM project")
    assert card.token.cautions == ("software: its module does not call the token hardware",)
    shown = describe_card(card)
    assert shown["proof"].startswith('not proven: token "work" (SoftHSM v2, ')
    assert shown["proof"].endswith("hardware")


def test_keys_that_were_brought_are_named(hsm: SoftHsm, tmp_path: Path) -> None:
    uri = hsm.token("work")
    key = tmp_path / "k.pem"
    make = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run([*make, "-out", str(key)], check=True, capture_output=True)
    public = ["openssl", "pkey", "-in", str(key), "-pubout", "-out", str(tmp_path / "p.pem")]
    subprocess.run(public, check=True)
    for kind, file in (("privkey", key), ("pubkey", tmp_path / "p.pem")):
        hsm.tool("work", "--write-object", str(file), "--type", kind, "--id", "01", "--label", "a",
                 "--sensitive", "--usage-sign")  # fmt: skip
    with opened(uri) as found:
        assert any("not made in the token" in words for words in found.token.cautions)


def test_a_key_that_can_be_read_out_is_refused(hsm: SoftHsm) -> None:
    uri = hsm.token("work")
    _generate(hsm, sensitive=False, extractable=True)
    with pytest.raises(RefusedError, match="read out") as refused:
        open_pkcs11(uri, right, MODULE)
    assert refused.value.code == "key-not-sensitive"


def test_an_extractable_key_is_told(hsm: SoftHsm) -> None:
    uri = hsm.token("work")
    _generate(hsm, sensitive=True, extractable=True)
    with opened(uri) as found:
        assert any(words.startswith("extractable") for words in found.token.cautions)


def _generate(hsm: SoftHsm, *, sensitive: bool, extractable: bool) -> None:
    import pkcs11

    token = next(iter(pkcs11.lib(MODULE).get_tokens(token_label="work")))
    with token.open(rw=True, user_pin=PIN) as session:
        curve = {pkcs11.Attribute.EC_PARAMS: bytes.fromhex("06082a8648ce3d030107")}
        session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True).generate_keypair(
            store=True,
            label="a",
            id=b"\1",
            private_template={
                pkcs11.Attribute.SENSITIVE: sensitive,
                pkcs11.Attribute.EXTRACTABLE: extractable,
            },
        )
    hsm.again()


@pytest.mark.parametrize("kind", ["EC:secp384r1", "EC:secp521r1", "rsa:1024", "rsa:4096"])
def test_keys_of_other_kinds_are_refused(hsm: SoftHsm, kind: str) -> None:
    uri = hsm.token("work")
    hsm.tool("work", "--keypairgen", "--key-type", kind, "--label", "a", "--id", "01")
    with pytest.raises(RefusedError) as refused:
        open_pkcs11(uri, right, MODULE)
    assert refused.value.code == "wrong-key-kind"


def test_a_public_key_of_another_pair_is_found_out(hsm: SoftHsm) -> None:
    uri = hsm.token("work")
    for label in ("a", "b"):
        hsm.tool("work", "--keypairgen", "--key-type", "EC:prime256v1", "--label", label,
                 "--id", "01" if label == "a" else "02")  # fmt: skip
    hsm.tool("work", "--delete-object", "--type", "pubkey", "--id", "01")
    hsm.tool("work", "--set-id", "01", "--type", "pubkey", "--id", "02")
    with opened(f"{uri};object=a") as found, pytest.raises(VerificationError, match="own public"):
        found.sign(MESSAGE)


def test_a_key_without_its_public_half(hsm: SoftHsm) -> None:
    uri = hsm.token("work")
    hsm.tool("work", "--keypairgen", "--key-type", "EC:prime256v1", "--label", "a", "--id", "01")
    hsm.tool("work", "--delete-object", "--type", "pubkey", "--id", "01")
    with pytest.raises(RefusedError, match="neither its public key nor a certificate"):
        open_pkcs11(uri, right, MODULE)


def test_it_signs_only_what_came_through_a_door(hsm: SoftHsm) -> None:
    uri = hsm.token("work")
    made(uri)
    with opened(uri) as found:
        for message in (b"", b"hello", bytes(67), b"x" * 200):
            with pytest.raises(ApprovalRefusedError):
                found.sign(message)


# ── which token, which key ───────────────────────────────────────────────────


def test_two_tokens_are_listed(hsm: SoftHsm) -> None:
    hsm.token("work")
    hsm.token("home")
    with pytest.raises(UsageError, match="2 tokens match") as refused:
        open_pkcs11("pkcs11:", never, MODULE)
    assert 'token "work"' in refused.value.message and 'token "home"' in refused.value.message
    assert refused.value.code == "several-tokens"
    with pytest.raises(NotFoundError, match=r'token "home".*no private key'):
        open_pkcs11("pkcs11:token=home", right, MODULE)


def test_no_token(hsm: SoftHsm) -> None:
    with pytest.raises(DeviceError, match="no token") as refused:
        open_pkcs11("pkcs11:", never, MODULE)
    assert refused.value.code == "no-token"
    hsm.token("work")
    with pytest.raises(DeviceError, match='there is token "work"'):
        open_pkcs11("pkcs11:token=wrok", never, MODULE)
    for wrong in ("serial=1", "manufacturer=x", "model=x", "slot-id=99", "library-version=0.1"):
        with pytest.raises(DeviceError, match="no token"):
            open_pkcs11(f"pkcs11:token=work;{wrong}", never, MODULE)


def test_two_keys_are_listed_as_the_uri_would_name_them(hsm: SoftHsm) -> None:
    uri = hsm.token("work")
    made(uri, "alice")
    made(uri, "bob of b")
    with pytest.raises(UsageError, match="2 keys in") as refused:
        open_pkcs11(uri, right, MODULE)
    lines = [line.strip() for line in refused.value.message.splitlines()[1:]]
    assert sorted(line.split(";")[0] for line in lines) == ["object=alice", "object=bob%20of%20b"]
    for line in lines:
        with opened(f"{uri};{line}"):
            pass


def test_no_key(hsm: SoftHsm) -> None:
    uri = hsm.token("work")
    made(uri, "alice")
    with pytest.raises(NotFoundError, match='no private key "bob" with the id 01') as refused:
        open_pkcs11(f"{uri};object=bob;id=%01", right, MODULE)
    assert "there is object=alice;id=%" in refused.value.hint


# ── PINs ─────────────────────────────────────────────────────────────────────


def test_a_wrong_pin(hsm: SoftHsm) -> None:
    uri = hsm.token("work")
    made(uri)
    for wrong in (b"000000", b"1", b"\xff\xff", b"x" * 300):
        with pytest.raises(RefusedError, match="PIN") as refused:
            open_pkcs11(uri, lambda prompt, wrong=wrong: wrong, MODULE)
        assert refused.value.code == "wrong-pin"
    assert "counts wrong PINs, and tries are left" in _message(uri, b"000000")
    with opened(uri):
        pass


def _message(uri: str, pin: bytes) -> str:
    with pytest.raises(TpmHsmError) as refused:
        open_pkcs11(uri, lambda prompt: pin, MODULE)
    return refused.value.message


def test_a_token_without_a_user_pin(hsm: SoftHsm) -> None:
    hsm.run("softhsm2-util", "--init-token", "--free", "--label", "bare", "--so-pin", "12345678",
            "--pin", "1234")  # fmt: skip
    hsm.run("pkcs11-tool", "--module", MODULE, "--init-token", "--label", "bare", "--slot-index",
            "0", "--so-pin", "12345678")  # fmt: skip
    hsm.again()
    with pytest.raises(RefusedError, match="no user PIN") as refused:
        open_pkcs11("pkcs11:token=bare", never, MODULE)
    assert refused.value.code == "no-pin"


def test_the_pin_from_a_file(hsm: SoftHsm, tmp_path: Path) -> None:
    uri = hsm.token("work")
    made(uri)
    file = tmp_path / "pin"
    file.write_text(f"{PIN}\n")
    file.chmod(0o600)
    with opened(f"{uri}?pin-source=file:{file}", never):
        pass
    file.chmod(0o644)
    with pytest.raises(RefusedError, match="others on this machine"):
        open_pkcs11(f"{uri}?pin-source=file:{file}", never, MODULE)


# ── modules, and tokens that go away ─────────────────────────────────────────


def test_which_module(hsm: SoftHsm, tmp_path: Path) -> None:
    uri = hsm.token("work")
    made(uri)
    for query in (f"module-path={MODULE}", "module-name=softhsm2", "module-name=libsofthsm2"):
        found = open_identity(f"{uri}?{query}", right)
        assert found.kind == "pkcs11"
        found.close()  # type: ignore[attr-defined]
    with pytest.raises(NotFoundError, match="no PKCS #11 module"):
        open_identity(f"{uri}?module-name=nothing", never)
    with pytest.raises(NotFoundError, match="no PKCS #11 module"):
        open_identity(f"{uri}?module-path={tmp_path}/none.so", never)
    with pytest.raises(NotFoundError, match="no PKCS #11 module"):
        open_pkcs11(uri, never, str(tmp_path))
    text = tmp_path / "text.so"
    text.write_text("no library")
    libc = next(Path("/lib").glob("*-linux-gnu/libc.so.6"))
    for no_module in (text, libc):
        with pytest.raises(UsageError, match="cannot be used as a PKCS #11 module"):
            open_pkcs11(uri, never, str(no_module))


def test_no_module_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tpmhsm.approval.cryptoki.PROXY", "no-such-proxy")
    with pytest.raises(UsageError, match="which PKCS #11 module") as refused:
        open_identity("pkcs11:token=work", never)
    assert refused.value.code == "no-module"
    assert "?module-path=/" in refused.value.hint and "[approver]" in refused.value.hint


def test_the_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pkcs11", None)
    with pytest.raises(UsageError, match="python-pkcs11") as refused:
        open_pkcs11("pkcs11:", never, MODULE or "/bin/sh")
    assert refused.value.hint == "pip install 'tpmhsm[pkcs11]'"


def test_a_token_that_is_gone(hsm: SoftHsm) -> None:
    uri = hsm.token("work")
    made(uri)
    with opened(uri) as found:
        shutil.rmtree(hsm.folder / "tokens")
        with pytest.raises(DeviceError) as refused:
            found.sign(MESSAGE)
    assert refused.value.code in ("token-removed", "token-failed")
    assert 'token "work"' in refused.value.message
