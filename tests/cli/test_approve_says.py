"""What `approve` says was approved, to scripts too."""

from __future__ import annotations

from pathlib import Path

from tests.cli.test_requests import carry, laptop
from tests.support.shell import Shell


def test_the_result_says_what_was_approved(governed: Shell, place: Path) -> None:
    number = governed.ask("csr", "create", "root", "--subject", "CN=x")
    governed("request", "export", str(number))
    alice = laptop(governed, place, "alice")
    carry(number, "req", governed, alice)
    asked = governed.json("request", "show", str(number))
    words = ("approve", f"{number}.req", "--as", "alice", "-i", "alice.key",
             "--passphrase-file", "passphrase", "--expect", asked["digest"])  # fmt: skip
    found = alice.json(*words)
    assert (found["request"], found["kind"], found["digest"]) == (number, "csr", asked["digest"])
    assert found["key"]["label"] == "root" and found["key"]["name"].startswith("000b")
    assert found["group"]["name"] == "officers" and len(found["group"]["id"]) == 64
    assert len(found["fingerprint"].split()) == 8 and found["first_use"] is True
    assert alice.json(*words, "--force")["first_use"] is False


def test_the_fingerprint_is_said_at_first_use_even_quietly(governed: Shell, place: Path) -> None:
    number = governed.ask("csr", "create", "root", "--subject", "CN=x")
    governed("request", "export", str(number))
    bob = laptop(governed, place, "bob")
    carry(number, "req", governed, bob)
    digest = governed.json("request", "show", str(number))["digest"]
    words = ("approve", "-q", f"{number}.req", "--as", "bob", "-i", "bob.key",
             "--passphrase-file", "passphrase", "--expect", digest, "--force")  # fmt: skip
    first, again = bob(*words).err, bob(*words).err
    fingerprint = bob.json(*(w for w in words if w != "-q"))["fingerprint"]
    assert first == f"first use of group officers: {fingerprint}\n" and again == ""
