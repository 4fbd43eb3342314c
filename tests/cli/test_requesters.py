"""CSRs as others make them: what of their keys and names is refused, and what is said."""

from __future__ import annotations

import json
import subprocess

from tests.support.shell import Shell


def openssl_csr(machine: Shell, name: str, key: str, *words: str) -> str:
    """A CSR by openssl: `key` is what -newkey takes, or a file."""
    made = ["-key", key] if key.endswith(".pem") else ["-newkey", key, "-nodes", "-keyout", "k.pem"]
    if key == "ec":
        made += ["-pkeyopt", "ec_paramgen_curve:P-256"]
    file = f"{name}.csr"
    command = ["openssl", "req", "-new", *made, "-out", file, "-subj", "/", *words]
    subprocess.run(command, cwd=machine.path, check=True, capture_output=True)
    return file


def host(name: str = "www.example.com") -> list[str]:
    return ["-addext", f"subjectAltName=DNS:{name}"]


KEYS = [
    (["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"], "too short"),
    (["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048",
      "-pkeyopt", "rsa_keygen_pubexp:3"], "exponent is 3"),
    (["genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"], "RSASSA-PSS"),
    (["ecparam", "-name", "secp256k1", "-genkey", "-noout"], "secp256k1"),
    (["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-param_enc", "explicit"],
     "not named"),
]  # fmt: skip


def test_weak_and_strange_keys(plain: Shell) -> None:
    for make, why in KEYS:
        made = ["openssl", *make, "-out", "weak.pem"]
        subprocess.run(made, cwd=plain.path, check=True, capture_output=True)
        file = openssl_csr(plain, "weak", "weak.pem", *host())
        for command in (("ca", "sign", "open-ca", file), ("csr", "verify", file)):
            error = json.loads(plain("--json", *command, code=2).out)["error"]
            assert why in error["message"]
            assert error["code"] == "weak-key" and error["findings"]
        assert why in plain("csr", "show", file).out
        found = plain.json("csr", "show", file)
        assert any(why in one["message"] for one in found["findings"])


def test_a_key_that_fermat_factors(plain: Shell) -> None:
    from tests.pki.weak_keys import close_primes, prime, prime_from

    n, p = close_primes(), prime(1024)
    q = n // p
    assert prime_from(q) == q
    e, d = 65537, pow(65537, -1, (p - 1) * (q - 1))
    numbers = {"version": 0, "n": n, "e": e, "d": d, "p": p, "q": q, "e1": d % (p - 1),
               "e2": d % (q - 1), "c": pow(q, -1, p)}  # fmt: skip
    text = "asn1=SEQUENCE:k\n[k]\n" + "".join(f"{k}=INTEGER:{v:#x}\n" for k, v in numbers.items())
    (plain.path / "k.cnf").write_text(text)
    make = "openssl asn1parse -genconf k.cnf -noout -out k.der"
    subprocess.run(make.split(), cwd=plain.path, check=True, capture_output=True)
    turn = "openssl rsa -inform DER -in k.der -out close.pem"
    subprocess.run(turn.split(), cwd=plain.path, check=True, capture_output=True)
    file = openssl_csr(plain, "close", "close.pem", *host())
    assert "Fermat" in plain("ca", "sign", "open-ca", file, code=2).err


NAMES = [
    ("*.com", "two labels"),
    ("f*o.example.com", "wildcard"),
    ("*.*.example.com", "wildcard"),
    ("a_b.example.com", "underscore"),
    ("www.example.com.", "ends with a dot"),
    ("192.0.2.1", "address"),
    ("xn--0.example.com", "internationalised"),
]


def test_names_that_are_refused(plain: Shell) -> None:
    for name, why in NAMES:
        file = openssl_csr(plain, "names", "ec", *host(name))
        assert why in plain("ca", "sign", "open-ca", file, code=2).err
        assert any(why in problem for problem in plain.json("csr", "show", file)["problems"])


def test_what_is_said_or_refused_by_the_authoritys_rules(plain: Shell) -> None:
    names = "subjectAltName=DNS:printer.local,DNS:xn--pypal-4ve.com,IP:10.1.2.3"
    file = openssl_csr(plain, "said", "ec", "-addext", names)
    said = plain("ca", "sign", "open-ca", file, "--out", "said.pem").err
    for words in ("printer.local is an internal name", "CYRILLIC and LATIN", "reserved address"):
        assert words in said
        assert words in plain("csr", "show", file).out
    staple = openssl_csr(plain, "staple", "ec", *host(), "-addext", "tlsfeature=status_request")
    error = json.loads(plain("--json", "ca", "sign", "open-ca", staple, code=2).out)["error"]
    assert error["code"] == "tls-feature" and error["hint"]
    settings = plain.home / "tpmhsm.toml"
    settings.write_text('[ca.open-ca]\nlint = "tls-br"\nbase_url = "http://pki.example.com"\n')
    for name in ("printer.local", "intranet", "*.co.uk", "www.nosuchtld"):
        file = openssl_csr(plain, "br", "ec", *host(name))
        refused = plain("ca", "sign", "open-ca", file, code=2).err
        assert "internal name" in refused or "public suffix" in refused
    plain("ca", "sign", "open-ca", openssl_csr(plain, "br", "ec", *host()), "--out", "br.pem")


def test_keys_of_cas_and_compromised_ones(plain: Shell) -> None:
    label = plain.json("ca", "show", "open-ca")["key"]
    said = plain("ca", "issue", "open-ca", "--host", "x.example.com", "--key", label, code=2)
    assert "the key of the authority 'open-ca'" in said.err
    file = openssl_csr(plain, "mine", "ec", *host("mine.example.com"))
    found = plain.json("ca", "sign", "open-ca", file, "--out", "mine.pem")
    plain("ca", "revoke", "open-ca", "mine.pem", "--reason", "keyCompromise")
    error = json.loads(plain("--json", "ca", "sign", "open-ca", file, code=2).out)["error"]
    assert error["code"] == "key-known"
    assert found["serial"] in error["message"]
    plain("key", "create", "turned")
    turned = ("ca", "create", "turned", "--key", "turned", "--subject")
    assert "out of order" in plain(*turned, "C=DE,O=Example,CN=Turned").err


def test_people_are_asked_once_for_the_same(governed: Shell) -> None:
    file = openssl_csr(governed, "once", "ec", *host())
    first = governed.json("ca", "sign", "root-ca", file, code=3)["error"]
    again = governed.json("ca", "sign", "root-ca", file, code=3)["error"]
    assert again["request"] == first["request"] and again["repeated"]
    assert "made before" in again["message"]
