"""`tpmhsm init --solo`: a CA for a first try, in one command, that says what it is."""

from __future__ import annotations

import shutil

import pytest
from cryptography import x509
from tests.support.shell import Shell

from tpmhsm.ca.authority import Authorities
from tpmhsm.cli import solo

pytestmark = pytest.mark.skipif(
    not shutil.which("swtpm_setup"), reason="swtpm and swtpm-tools are not installed"
)


def load(machine: Shell, name: str) -> x509.Certificate:
    pem = machine("cert", "export", name, "--out", "-").out
    return x509.load_pem_x509_certificate(pem.encode())


def test_one_command_and_another(bare: Shell) -> None:
    """A root for a year, limited in names and length, an issuer below it, and a certificate."""
    done = bare("init", "--solo", "--domain", "example.com", "--name", "Bench")
    assert "anyone who can use this machine's chip" in done.out
    assert "never become a quorum's" in done.out
    assert "tpmhsm ca issue solo --host www.example.com" in done.out
    root, issuer = load(bare, "solo-root"), load(bare, "solo")
    assert root.subject.rfc4514_string() == "CN=Bench root"
    life = root.not_valid_after_utc - root.not_valid_before_utc
    assert 364 < life.days + 1 <= 365
    assert issuer.not_valid_after_utc <= root.not_valid_after_utc
    for one, length in ((root, 1), (issuer, 0)):
        basic = one.extensions.get_extension_for_class(x509.BasicConstraints)
        names = one.extensions.get_extension_for_class(x509.NameConstraints)
        assert basic.critical and basic.value.path_length == length
        assert names.critical and not names.value.excluded_subtrees
        kinds = {type(name) for name in names.value.permitted_subtrees or ()}
        assert kinds == {x509.DNSName, x509.IPAddress, x509.RFC822Name,
                         x509.UniformResourceIdentifier}  # fmt: skip
    bare("ca", "issue", "solo", "--host", "www.example.com", "--chain", "--out", "web.pem")
    bare("cert", "verify", "web.pem", "--trust", root_file(bare), "--untrusted", "web.pem",
         "--purpose", "server", "--host", "www.example.com")  # fmt: skip
    keys = {key["label"]: key["policy"] for key in bare.json("key", "list")["items"]}
    assert keys == {"solo-root": "open", "solo": "open", "www.example.com": "open"}
    for host in ("www.example.org", "10.1.2.3", "example.com.evil.example"):
        error = bare.json("ca", "issue", "solo", "--host", host, code=2)["error"]
        assert error["code"] == "constraint"
    assert len(bare.json("key", "list")["items"]) == 3


def root_file(machine: Shell) -> str:
    machine("cert", "export", "solo-root", "--out", "root.pem")
    return "root.pem"


def test_again_changes_nothing(bare: Shell) -> None:
    first = bare.json("init", "--solo")
    assert first["new"] and first["solo"]["new"] and first["solo"]["policy"] == "open"
    assert first["solo"]["permitted"] == [
        *("email:localhost", "uri:localhost", "dns:localhost", "ip:127.0.0.0/8", "ip:::1/128")
    ]
    root = load(bare, "solo-root").serial_number
    again = bare.json("init", "--solo")
    assert not again["new"] and not again["solo"]["new"]
    assert {**first["solo"], "new": False} == again["solo"]
    assert load(bare, "solo-root").serial_number == root
    assert len(bare.json("ca", "list")["items"]) == 2
    assert "solo" not in bare.json("init")  # without the option nothing is said of it
    error = bare.json("init", "--solo", "--domain", "example.com", code=2)["error"]
    assert error["code"] == "exists" and "never change" in error["hint"]
    assert bare.json("init", "--solo", "--name", "Other", code=2)["error"]["code"] == "exists"
    bare("ca", "issue", "solo", "--host", "localhost", "--out", "l.pem")


@pytest.mark.parametrize("stop", ["first key", "root", "second key", "issuer"])
def test_what_was_interrupted_goes_on(
    bare: Shell, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    """Power fails before any of the steps: the same command makes the rest."""
    steps = iter(["first key", "root", "second key", "issuer"])

    def failing(act):
        def step(*arguments, **options):
            if next(steps) == stop:
                raise KeyboardInterrupt
            return act(*arguments, **options)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(solo, "_open_key", failing(solo._open_key))
        patch.setattr(Authorities, "create", failing(Authorities.create))
        assert bare.attempt("init", "--solo").code == 1
    assert bare.json("init", "--solo")["solo"]["issuer"] == "solo"
    assert sorted(one["name"] for one in bare.json("ca", "list")["items"]) == ["solo", "solo-root"]
    assert len(bare.json("key", "list")["items"]) == 2


def test_a_key_of_another_policy_is_not_taken(bare: Shell) -> None:
    """Nor is an authority of that name whose key is another."""
    bare("init")
    (bare.path / "pin").write_text("482915\n")
    bare("key", "create", "solo-root", "--policy", "pin", "--pin-file", "pin")
    error = bare.json("init", "--solo", code=2)["error"]
    assert "is not open but pin" in error["message"] and "--home" in error["hint"]
    bare("key", "delete", "solo-root", "--yes")
    bare("key", "create", "own")
    bare("ca", "create", "solo-root", "--key", "own", "--subject", "CN=Own root")
    assert "of the key own" in bare.json("init", "--solo", code=2)["error"]["message"]


def test_words_that_do_not_go(bare: Shell) -> None:
    for words in (("--domain", "example.com"), ("--name", "Bench")):
        assert "--solo" in bare("init", *words, code=2).err
    for domain in ("not a host", "10.0.0.1", ""):
        assert bare("init", "--solo", "--domain", domain, code=2).err
    assert not (bare.home / "tpm").exists()  # nothing was set up
    assert "limited-root" in bare("ca", "create", "--help").out


def test_a_root_for_some_names_by_hand(bare: Shell) -> None:
    """The same profile, for whoever wants it; a root of the other kind takes no names."""
    bare("init")
    bare("key", "create", "r")
    name = ("ca", "create", "r", "--key", "r", "--subject", "CN=R root")
    assert "limited-root" in bare(*name, "--permit", "dns:example.com", code=2).err
    assert "--permit" in bare(*name, "--profile", "limited-root", code=2).err
    bare(*name, "--profile", "limited-root", "--permit", "dns:example.com", "--days", "30")
    limits = load(bare, "r").extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.value.permitted_subtrees == [x509.DNSName("example.com")]
