"""Files that are not what they should be, given to every command that reads one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from tests.support.shell import PASSPHRASE, Shell

from tpmhsm.store import Store

# Every command that reads a file: the words, with FILE for the file, and whether plain bytes of
# any kind are fine (it signs or verifies them).
READERS: list[tuple[tuple[str, ...], bool]] = [
    (("show", "FILE"), False),
    (("approver", "add", "FILE"), False),
    (("trust", "add", "FILE"), False),
    (("csr", "show", "FILE"), False),
    (("csr", "verify", "FILE"), False),
    (("cert", "import", "FILE"), False),
    (("cert", "show", "FILE"), False),
    (("cert", "verify", "FILE"), False),
    (("cert", "verify", "ca.pem", "--trust", "FILE"), False),
    (("cert", "verify", "ca.pem", "--untrusted", "FILE"), False),
    (("cert", "verify", "ca.pem", "--crl", "FILE"), False),
    (("ca", "sign", "open-ca", "FILE"), False),
    (("ca", "install", "away", "FILE"), False),
    (("request", "show", "FILE"), False),
    (("request", "import", "FILE"), False),
    (("approve", "FILE", "--as", "alice", "-i", "alice.key", "--passphrase-file", "passphrase"),
     False),
    (("deny", "FILE", "--as", "alice", "-i", "alice.key", "--passphrase-file", "passphrase",
      "--reason", "x"), False),
    (("policy", "check", "FILE"), False),
    (("key", "create", "new", "--policy", "FILE"), False),
    (("key", "sign", "web", "FILE"), True),
    (("key", "verify", "web", "FILE", "--signature", "good.sig"), True),
    (("key", "verify", "web", "passphrase", "--signature", "FILE"), False),
]  # fmt: skip
NAMES = [" ".join(words) for words, _ in READERS]


@pytest.fixture(scope="module")
def machine(governed_template: Shell, tmp_path_factory: pytest.TempPathFactory,
            ) -> Iterator[Shell]:  # fmt: skip
    """A governed machine that must be the same after every test of this module."""
    made = governed_template.copy(tmp_path_factory.mktemp("bad") / "m")
    made("cert", "export", "open-ca", "--out", "ca.pem")
    made("cert", "export", "open-ca", "--der", "--out", "ca.der")
    made("key", "sign", "web", "passphrase", "--out", "good.sig")
    made("key", "create", "away")
    made("ca", "create", "away", "--external", "--key", "away", "--subject", "CN=Away")
    made("group", "change", "officers", "--officers", "2:alice,dave,carol", code=3)
    made("request", "export", "3", "--out", "3.req")
    made("device", "export", "--out", "host.card")
    digest = made.json("request", "show", "3")["digest"]
    made("trust", "add", "alice.card", "bob.card", "carol.card", "dave.card")
    made.approve("3.req", "bob", digest)
    yield made
    made.close()


def state(machine: Shell) -> list[tuple[int, str]]:
    """The database's log: what changes anything is in it."""
    with Store.open(machine.home) as store, store.reading() as tx:
        return [(row.seq, row.act) for row in tx.audit.all()]


def refused(
    machine: Shell, words: tuple[str, ...], file: str, codes: tuple[int, ...] = (2,)
) -> str:
    before, files = state(machine), set(os.listdir(machine.path))
    result = machine.attempt("--json", *(file if word == "FILE" else word for word in words))
    assert result.code in codes, (words, file, result.out, result.err)
    error = result.json["error"]
    assert error["message"]
    assert state(machine) == before
    assert set(os.listdir(machine.path)) == files
    return str(error["message"])


GARBAGE = {
    "empty": b"",
    "zeros": bytes(300),
    "noise": bytes(i * 97 % 251 for i in range(2000)),
    "text": "kein Zertifikat, nur Wörter\n".encode(),
    "latin-1": b"\xe4\xf6\xfc\n",
    "nul": b"a\0b",
    "json": b'{"format": "nothing"}\n',
    "json-deep": b"[" * 100_000,
    "json-list": b"[1, 2]\n",
    "pem-empty": b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    "pem-noise": b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
    "der-long": b"\x30\x84\xff\xff\xff\xff",
    "der-nested": b"\x30\x80" * 1000,
}


@pytest.mark.parametrize(("words", "plain_is_fine"), READERS, ids=NAMES)
def test_garbage(machine: Shell, words: tuple[str, ...], plain_is_fine: bool) -> None:
    path = machine.path / "garbage"
    try:
        for name, data in GARBAGE.items():
            path.write_bytes(data)
            if plain_is_fine and words[1] == "sign":
                continue
            message = refused(machine, words, "garbage", (1, 2) if words[0] == "key" else (2,))
            assert "garbage" in message or words[0] in ("key", "policy"), (name, message)
    finally:
        path.unlink()


@pytest.mark.parametrize(("words", "_"), READERS, ids=NAMES)
def test_too_large_missing_and_no_file(machine: Shell, words: tuple[str, ...], _: bool) -> None:
    path = machine.path / "large"
    path.write_bytes(b"-----BEGIN CERTIFICATE-----\n" + b"A" * (1 << 20))
    try:
        said = refused(machine, words, "large")
        large = "larger than 1048576 bytes" in said.replace(",", "")
        assert large or "--crl" in words  # CRLs may be large
    finally:
        path.unlink()
    for file in ("./no/such/file", "."):
        message = refused(machine, words, file)
        assert file in message or words[0] in ("policy", "key")


def kinds(machine: Shell) -> dict[str, str]:
    """One file of each kind, by the kind."""
    return {
        "certificate": "ca.pem",
        "certificate-der": "ca.der",
        "csr": "web.csr",
        "request": "3.req",
        "approval": "3-bob.approval",
        "card": "alice.card",
        "device": "host.card",
        "key": "alice.key",
    }


WRONG = {
    "approver add": {"card"},
    "trust add": {"card", "device"},
    "csr show": {"csr"},
    "csr verify": {"csr"},
    "cert import": {"certificate", "certificate-der"},
    "cert show": {"certificate", "certificate-der"},
    "cert verify": {"certificate", "certificate-der"},
    "ca sign": {"csr"},
    "request show": {"request"},
    "request import": {"approval"},
    "approve FILE": {"request"},
    "deny FILE": {"request"},
    "policy check": set(),
    "key create": set(),
}


@pytest.mark.parametrize(
    "words", [words for words, _ in READERS if " ".join(words[:2]) in WRONG],
    ids=[name for (words, _), name in zip(READERS, NAMES, strict=True)
         if " ".join(words[:2]) in WRONG],
)  # fmt: skip
def test_files_of_another_kind(machine: Shell, words: tuple[str, ...]) -> None:
    right = WRONG[" ".join(words[:2])]
    if "--crl" in words:
        right = set()
    for kind, file in kinds(machine).items():
        if kind not in right:
            refused(machine, words, file)


def test_the_message_says_what_it_is_instead(machine: Shell) -> None:
    assert "a CSR" in refused(machine, ("cert", "show", "FILE"), "web.csr")
    assert "a certificate" in refused(machine, ("csr", "show", "FILE"), "ca.pem")
    assert "encrypted private key" in refused(machine, ("cert", "import", "FILE"), "alice.key")


@pytest.mark.parametrize("kind", ["certificate", "certificate-der", "csr", "request", "approval",
                                  "card", "device"])  # fmt: skip
def test_truncated_files(machine: Shell, kind: str) -> None:
    """Cut anywhere, a file is refused by the command that it is for."""
    reader = {
        "certificate": ("cert", "import", "FILE"),
        "certificate-der": ("cert", "import", "FILE"),
        "csr": ("ca", "sign", "open-ca", "FILE"),
        "request": ("approve", "FILE", "--as", "alice", "-i", "alice.key", "--passphrase-file",
                    "passphrase"),
        "approval": ("request", "import", "FILE"),
        "card": ("approver", "add", "FILE"),
        "device": ("trust", "add", "FILE"),
    }[kind]  # fmt: skip
    whole = (machine.path / kinds(machine)[kind]).read_bytes()
    path = machine.path / "cut"
    try:
        for end in sorted({1, 20, len(whole) // 3, len(whole) // 2, len(whole) - 30}):
            path.write_bytes(whole[:end])
            refused(machine, reader, "cut", (1, 2))
    finally:
        path.unlink()


# ── CSRs ─────────────────────────────────────────────────────────────────────

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "www.example.com")])


def csr(key: object, digest: object, *sans: x509.GeneralName) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(NAME)
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    return builder.sign(key, digest)  # type: ignore[arg-type]


def sign_refused(machine: Shell, data: bytes, codes: tuple[int, ...] = (2,)) -> str:
    path = machine.path / "bad.csr"
    path.write_bytes(data)
    try:
        return refused(machine, ("ca", "sign", "open-ca", "FILE"), "bad.csr", codes)
    finally:
        path.unlink()


def der(request: x509.CertificateSigningRequest) -> bytes:
    return request.public_bytes(serialization.Encoding.DER)


def test_a_csr_whose_signature_fails(machine: Shell) -> None:
    good = der(csr(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256(),
                   x509.DNSName("www.example.com")))  # fmt: skip
    changed = good.replace(b"www.example.com", b"www.example.org")
    assert "signature does not hold" in sign_refused(machine, changed, (1,))
    path = machine.path / "bad.csr"
    path.write_bytes(changed)
    assert "signature" in refused(machine, ("csr", "verify", "FILE"), "bad.csr", (1,))
    path.unlink()


@pytest.mark.parametrize(
    ("key", "digest"),
    [
        (lambda: ec.generate_private_key(ec.SECP256K1()), hashes.SHA256()),
        (lambda: ec.generate_private_key(ec.SECP192R1()), hashes.SHA256()),
        (lambda: rsa.generate_private_key(65537, 1024), hashes.SHA256()),
        (lambda: rsa.generate_private_key(3, 2048), hashes.SHA256()),
    ],
    ids=["secp256k1", "p192", "rsa-1024", "e-3"],
)
def test_a_csr_with_a_key_that_is_not_taken(machine: Shell, key: object, digest: object) -> None:
    san = x509.DNSName("www.example.com")
    assert sign_refused(machine, der(csr(key(), digest, san)), (1, 2))  # type: ignore[operator]


def test_a_csr_with_an_algorithm_nobody_knows(machine: Shell) -> None:
    good = der(csr(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()))
    ecdsa_sha256 = bytes.fromhex("06082a8648ce3d040302")
    assert good.count(ecdsa_sha256) == 1
    sign_refused(machine, good.replace(ecdsa_sha256, bytes.fromhex("06082a8648ce3d04037f")), (1, 2))


@pytest.mark.parametrize(
    "name", ["not a host", "-a.example", "a..example", "a_b.example", "*", "*.*.example.com",
             "x" * 64 + ".example", "example.com/x", "1.2.3.4", ""],
)  # fmt: skip
def test_sans_that_are_no_host_names(machine: Shell, name: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    message = sign_refused(machine, der(csr(key, hashes.SHA256(), x509.DNSName(name))))
    assert repr(name) in message or name in message
    said = machine.attempt("csr", "create", "web", "--san", f"dns:{name}")
    assert said.code == 2, said.out
    assert machine.attempt("ca", "issue", "open-ca", "--host", name or " ").code in (
        (2,) if name != "1.2.3.4" else (0, 2)
    )


@pytest.mark.parametrize(
    "san", ["ip:1.2.3.999", "ip:example.com", "email:nobody", "email:a@b@c", "uri:not a uri",
            "rid:1.2.x", "dirname:nothing", "upn:", "dns", "nothing:x", "othername:1.2;"],
)  # fmt: skip
def test_other_names_that_are_none(machine: Shell, san: str) -> None:
    refused(machine, ("csr", "create", "web", "--san", san), "-")


# ── words on the line ────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "words",
    [
        "key create x --alg ed25519",
        "key create x --alg p521",
        "key create x --hash md5",
        "key create x --use wrap",
        "key create ../x",
        "key create -- -x",
        "key create x --policy nonsense(",
        "key create x --policy quorum(nobody)",
        "key create x --policy pin",
        "key create x --policy all(open,pcr(sha256:0))",
        "key create web",
        "ca create open-ca --key web --subject CN=x",
        "ca create x --key nobody --subject CN=x",
        "ca create x --key web --subject nonsense",
        "ca create x --key web --subject CN=x --profile tls-server",
        "ca create x --key web --subject CN=x --profile nothing",
        "ca create x --key web --subject CN=x --issuer nobody",
        "ca create x --key web --subject CN=x --issuer open-ca --profile root",
        "ca create x --key web --subject CN=x --issuer away",
        "ca create x --key web --subject CN=x --permit nonsense",
        "ca create x --key web --subject CN=x --days 0",
        "ca create x --key web --subject CN=x --days 10 --not-after 2030-01-01",
        "ca create x --key web --subject CN=x --not-after yesterday",
        "ca create x --key web --subject CN=x --not-after 2001-01-01",
        "ca create x --key web --subject CN=x --external --issuer open-ca",
        "ca sign open-ca web.csr --profile root",
        "ca sign open-ca web.csr --profile nothing",
        "ca sign open-ca web.csr --days 40000",
        "ca sign nobody web.csr",
        "ca issue open-ca --host www.example.com --alg ed25519",
        "ca install open-ca ca.pem",
        "csr create nobody --subject CN=x",
        "csr create web",
        "cert show nobody",
        "cert delete open-ca",
        "cert export open-ca --fullchain --der --form nothing",
        "cert verify ca.pem --at whenever",
        "group create x --officers 2:alice",
        "group create x --officers 0:alice",
        "group create x --officers alice,bob",
        "group create x --officers 2:alice,alice",
        "group create x --officers 2:alice,nobody",
        "group create x --officers ²:alice,bob",
        f"group create x --officers {'9' * 5000}:alice,bob",
        "group create officers --officers 2:alice,bob,dave",
        "group create x --officers 2:alice,bob,carol,dave",
        "group create ../x --officers 2:alice,bob,carol",
        "group change officers --officers 4:alice,bob,carol",
        "group change nobody --officers 2:alice,bob,carol",
        "group explain officers --without nobody",
        "request show 99999999999999999999",
        "request execute x",
        "request execute 77",
        "request cancel 1",
        "approve 1 --as alice -i nobody.key --expect 00",
        "approve 77 --as alice -i alice.key",
        "approve 3 3 --as alice -i alice.key --expect 00 --expect 11",
        "approve https://example.com/3 --as alice -i alice.key",
        "approve 3.req --as alice -i alice.key --out 3-bob.approval",
        "approve 3.req 1 --as alice -i alice.key --out x",
        "approver create x -i pkcs11:token=x",
        "approver create a/b -i new.key",
        "approver create x -i no/such/directory/x.key --passphrase-file passphrase",
        "approver create x -i new.key --passphrase-fd 99",
        "trust remove nobody",
        "show www.example.com:0",
        "show www.example.com:99999",
        "policy check nonsense",
        "policy digest budget(officers)",
        "--tpm nonsense init --home x",
    ],
)
def test_wrong_words(machine: Shell, words: str) -> None:
    code = (2, 4) if "--tpm" in words else (2,)
    given = tuple(w.replace("all(open,", "all(open, ") for w in words.split())
    before, files = state(machine), set(os.listdir(machine.path))
    result = machine.attempt("--json", *given)
    assert result.code in code, (result.out, result.err)
    assert result.json["error"]["message"]
    assert state(machine) == before
    assert set(os.listdir(machine.path)) - files <= {"x"}


def test_databases_that_are_none(machine: Shell) -> None:
    for url, code in (("mysql://x/y", 2), ("nonsense", 2), ("sqlite:////no/such/file.db", 5)):
        assert machine.json("--db", url, "key", "list", code=code)["error"]["message"]


# ── key files ────────────────────────────────────────────────────────────────


def approve(machine: Shell, identity: str, code: int) -> str:
    words = ("approve", "FILE", "--as", "alice", "-i", identity, "--passphrase-file", "passphrase")
    return refused(machine, words, "3.req", (code,))


def test_key_files_that_are_not_good_enough(machine: Shell) -> None:
    path, secret = machine.path / "other.key", PASSPHRASE.encode()

    def write(key: object, how: object, mode: int = 0o600) -> None:
        path.write_bytes(
            key.private_bytes(  # type: ignore[attr-defined]
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how
            )
        )
        path.chmod(mode)

    plain = serialization.NoEncryption()
    weak = serialization.BestAvailableEncryption(secret)
    try:
        write(ec.generate_private_key(ec.SECP256R1()), plain)
        assert "encrypted" in approve(machine, "other.key", 1)
        write(ec.generate_private_key(ec.SECP256R1()), weak)
        assert "weak" in approve(machine, "other.key", 1)
        path.write_bytes((machine.path / "alice.key").read_bytes())
        path.chmod(0o644)
        assert "others on this machine" in approve(machine, "other.key", 1)
        path.chmod(0o600)
        (machine.path / "wrong").write_text("wrong\n")
        words = ("approve", "FILE", "--as", "alice", "-i", "other.key", "--passphrase-file")
        assert "wrong passphrase" in refused(machine, (*words, "wrong"), "3.req", (1,))
        (machine.path / "wrong").write_text("")
        assert "empty" in refused(machine, (*words, "wrong"), "3.req", (2,))
    finally:
        path.unlink()
        (machine.path / "wrong").unlink()


def test_somebody_elses_key(machine: Shell) -> None:
    assert "bob's key, not alice's" in approve(machine, "bob.key", 1)
