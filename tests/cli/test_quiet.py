"""-q: no notes and no progress; answers stay, and so do the names of files nobody chose."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support.shell import RULE, Shell

ANSWERS = """
version
status
device show
key list
key show root
group list
group show officers
group explain officers
group fingerprint officers
approver list
trust list
request list
request show 1
policy check quorum(officers)
policy explain quorum(officers)
policy digest quorum(officers)
ca list
ca show root-ca
cert list
cert show root-ca
cert chain
cert verify root.pem --trust root.pem
show root.pem
doctor store
"""


@pytest.mark.parametrize("words", ANSWERS.strip().splitlines())
def test_an_answer_is_given_though_nothing_else_is_said(governed: Shell, words: str) -> None:
    governed("cert", "export", "root-ca", "--out", "root.pem")
    loud = governed(*words.split()).out
    quiet = governed("-q", *words.split())
    assert _timeless(quiet.out) == _timeless(loud) != ""
    assert quiet.err == ""


def _timeless(text: str) -> str:
    """What is counted from this second is another in the next."""
    return re.sub(r"\d+ (days|hours|minutes|seconds)", "", text)


def test_an_act_says_nothing_but_the_names_of_files_that_it_chose(plain: Shell) -> None:
    quiet = _silent(plain)
    assert quiet("key", "create", "k") == ""
    assert quiet("key", "export", "k", "--out", "k.pem") == ""
    (plain.path / "f").write_bytes(b"x")
    assert quiet("key", "sign", "k", "f") == "f.sig\n"
    assert quiet("key", "sign", "k", "f", "--out", "here") == ""
    assert quiet("ca", "create", "c", "--key", "k", "--subject", "CN=C", "--out", "c.pem") == ""
    crl = quiet("ca", "crl", "c").strip()
    assert Path(crl).is_file()
    assert quiet("ca", "crl", "c", "--out", "c.crl") == ""
    assert quiet("cert", "import", "c.pem") == ""
    assert quiet("cert", "export", "c", "--out", "c2.pem") == ""
    assert quiet("cert", "export", "c").startswith("-----BEGIN")
    assert quiet("device", "export", "--out", "host.card") == ""
    assert quiet("trust", "add", "host.card") == ""
    assert quiet("trust", "remove", "host") == ""
    assert quiet("key", "create", "site") == ""
    csr = ("csr", "create", "site", "--subject", "CN=www.example.com")
    assert quiet(*csr, "--san", "dns:www.example.com", "--out", "site.csr") == ""
    assert quiet("ca", "sign", "c", "site.csr").startswith("-----BEGIN")
    assert quiet("ca", "sign", "c", "site.csr", "--out", "site.pem") == ""
    assert quiet("ca", "revoke", "c", "site.pem") == ""
    assert quiet("key", "delete", "site", "--force") == ""


def test_people_are_told_where_their_files_are(plain: Shell) -> None:
    quiet, people = _silent(plain), ("alice", "bob", "carol")
    (plain.path / "alice.card").unlink()
    secret = ("--passphrase-file", plain.path / "passphrase")
    assert quiet("approver", "create", "alice", "-i", "alice.key", *secret) == "alice.card\n"
    assert quiet("approver", "add", *(f"{name}.card" for name in people)) == ""
    plain("group", "create", "officers", "--officers", RULE, code=3)
    assert quiet("request", "export", "1") == "1.req\n"
    assert quiet("request", "export", "1", "--out", "one.req") == ""
    digest = plain.json("request", "show", "1")["digest"]
    vote = ("approve", "1.req", "--as", "alice", "-i", "alice.key", *secret, "--expect", digest)
    done = plain("-q", *map(str, vote))
    assert done.out == "1-alice.approval\n"


def _silent(machine: Shell):
    def quiet(*words: str | Path) -> str:
        done = machine("-q", *words)
        assert done.err == ""
        return done.out

    return quiet
