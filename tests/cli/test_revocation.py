"""Revoking, holding, releasing, and the CRLs that say so, through the command line."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from tests.cli.test_requests import carry, expect, laptop
from tests.support.shell import Shell

from tpmhsm.store import Store


def leaf(machine: Shell, ca: str = "open-ca", host: str = "www.example.com") -> str:
    """A certificate of an open authority; its serial. The file is HOST.pem."""
    file = f"{host}.pem"
    found = machine.json("ca", "issue", ca, "--host", host, "--out", file, "--force")
    return str(found["serial"])


def listed(machine: Shell, ca: str = "open-ca") -> dict[int, str]:
    """The published CRL: reasons by serial."""
    crl = published(machine, ca)
    return {entry.serial_number: reason(entry) for entry in crl}


def reason(entry: x509.RevokedCertificate) -> str:
    try:
        found = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        return ""
    return str(found.value)


def published(machine: Shell, ca: str = "open-ca") -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl((machine.home / "public" / "crl" / f"{ca}.crl").read_bytes())


def number_of(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def openssl_says(machine: Shell, file: str, *crls: str) -> str:
    """`good` or what OpenSSL has against a certificate of open-ca."""
    machine("cert", "export", "open-ca", "--out", "open-ca.pem", "--force")
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-crl_check_all", "-CAfile", "open-ca.pem",
         *(word for crl in crls for word in ("-CRLfile", crl)), file],
        cwd=machine.path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 0:
        return "good"
    assert "certificate revoked" in done.stderr, done.stderr
    return "revoked"


# ── one certificate's life ───────────────────────────────────────────────────


def test_openssl_follows_a_hold_a_release_and_a_revocation(plain: Shell) -> None:
    leaf(plain)
    said = []
    for act in ((), ("hold",), ("release",), ("revoke", "--reason", "superseded")):
        if act:
            plain("ca", act[0], "open-ca", "www.example.com.pem", *act[1:])
        plain("ca", "crl", "open-ca", "--out", "crl.pem", "--force")
        said.append(openssl_says(plain, "www.example.com.pem", "crl.pem"))
    assert said == ["good", "revoked", "good", "revoked"]
    assert number_of(published(plain)) == 4


def test_a_serial_is_read_in_every_spelling(plain: Shell) -> None:
    serial = leaf(plain)
    colons = ":".join(serial[i : i + 2] for i in range(0, len(serial), 2))
    for text in (
        serial,
        f"0x{serial}",
        colons.upper(),
        str(int(serial, 16)),
        "www.example.com.pem",
    ):
        held = plain.json("ca", "hold", "open-ca", text)
        assert (held["serial"], held["state"], held["changed"]) == (serial, "held", True)
        assert plain.json("ca", "hold", "open-ca", text)["changed"] is False
        assert plain.json("ca", "release", "open-ca", text)["state"] == "released"


def test_what_is_revoked_stays_revoked(plain: Shell) -> None:
    serial = leaf(plain)
    first = plain.json("ca", "revoke", "open-ca", serial, "--reason", "superseded")
    assert first["changed"] is True
    again = plain.json("ca", "revoke", "open-ca", serial)
    assert (again["changed"], again["reason"]) == (False, "superseded")
    for act in (("hold",), ("release",), ("revoke", "--reason", "privilegeWithdrawn")):
        refused = plain.json("ca", act[0], "open-ca", serial, *act[1:],
                             code=2 if act[0] == "revoke" else 1)["error"]  # fmt: skip
        assert refused["code"] == "revoked-already"
    worse = plain.json("ca", "revoke", "open-ca", serial, "--reason", "key-compromise",
                       "--invalidity-date", "2026-01-02")  # fmt: skip
    assert worse["reason"] == "keyCompromise"
    assert worse["revoked"] == first["revoked"]
    assert worse["invalidity_date"] == "2026-01-02T00:00:00Z"
    plain("ca", "crl", "open-ca")
    assert listed(plain) == {int(serial, 16): "keyCompromise"}


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("revoke", "open-ca", "0x1234"), 2, "not-found"),
        (("revoke", "open-ca", "77"), 2, "not-found"),
        (("revoke", "open-ca", "nothing.pem"), 2, "not-found"),
        (("revoke", "open-ca", "hello there"), 2, "bad-serial"),
        (("revoke", "open-ca", "-1"), 2, "usage"),
        (("revoke", "open-ca", "9" * 60), 2, "bad-serial"),
        (("revoke", "nobody", "0x1234"), 2, "not-found"),
        (("revoke", "open-ca", "open-ca.pem"), 1, "own-root"),
        (("revoke", "open-ca", "other.pem"), 1, "wrong-issuer"),
        (("revoke", "open-ca", "web.csr"), 2, "parse"),
        (("revoke", "open-ca", "www.example.com.pem", "--reason", "boredom"), 2, "bad-reason"),
        (("revoke", "open-ca", "www.example.com.pem", "--reason", "cACompromise"), 2, "bad-reason"),
        (("revoke", "open-ca", "www.example.com.pem", "--reason", "aACompromise"), 2, "bad-reason"),
        (("revoke", "open-ca", "www.example.com.pem", "--reason", "certificateHold"), 2,
         "bad-reason"),
        (("revoke", "open-ca", "www.example.com.pem", "--reason", "removeFromCRL"), 2,
         "bad-reason"),
        (("revoke", "open-ca", "www.example.com.pem", "--invalidity-date", "2999-01-01"), 2,
         "bad-time"),
        (("release", "open-ca", "www.example.com.pem"), 2, "not-held"),
        (("crl", "nobody"), 2, "not-found"),
        (("crl", "open-ca", "--existing"), 2, "no-crl"),
        (("crl", "open-ca", "--days", "11"), 2, "crl-days"),
        (("crl", "open-ca", "--days", "0"), 2, "usage"),
    ],
)  # fmt: skip
def test_refusals(plain: Shell, words: tuple[str, ...], code: int, error: str) -> None:
    leaf(plain)
    plain("key", "create", "other")
    plain("ca", "create", "other-ca", "--key", "other", "--subject", "CN=Open Root,O=Example")
    plain("cert", "export", "open-ca", "--out", "open-ca.pem")
    plain("ca", "sign", "other-ca", "web.csr", "--out", "other.pem")
    refused = plain.json("ca", *words, code=code)["error"]
    assert refused["code"] == error
    with Store.open(plain.home) as store, store.reading() as tx:
        assert tx.revocations.count("open-ca") == {"revoked": 0, "held": 0}


def test_a_certificate_that_a_restored_database_does_not_know(plain: Shell) -> None:
    database = plain.home / "tpmhsm.db"
    backup = database.read_bytes()
    serial = leaf(plain)
    database.write_bytes(backup)
    assert plain.json("ca", "revoke", "open-ca", serial, code=2)["error"]["code"] == "not-found"
    found = plain.json("ca", "revoke", "open-ca", "www.example.com.pem")
    assert found["serial"] == serial
    assert plain.json("ca", "revoke", "open-ca", serial)["changed"] is False  # known from now on
    plain("ca", "crl", "open-ca")
    assert listed(plain) == {int(serial, 16): ""}


# ── the list ─────────────────────────────────────────────────────────────────


def test_numbers_grow_also_after_a_restored_database(plain: Shell) -> None:
    for _ in range(3):
        plain("ca", "crl", "open-ca")
    from tpmhsm.store.revocations import crls

    with Store.open(plain.home) as store, store.transaction() as tx:
        tx._connection.execute(crls.delete().where(crls.c.number > 1))
    assert plain.json("ca", "crl", "open-ca")["number"] == 4


def test_a_published_file_of_somebody_else_decides_nothing(plain: Shell) -> None:
    plain("key", "create", "other")
    plain("ca", "create", "other-ca", "--key", "other", "--subject", "CN=Open Root,O=Example")
    for _ in range(5):
        plain("ca", "crl", "other-ca")
    file = plain.home / "public" / "crl" / "open-ca.crl"
    for found in ((file.parent / "other-ca.crl").read_bytes(), b"", b"nonsense"):
        file.write_bytes(found)
        plain("ca", "crl", "open-ca")
    assert number_of(published(plain)) == 3


def test_the_file_can_be_written_again(plain: Shell) -> None:
    made = plain.json("ca", "crl", "open-ca")
    file = Path(made["file"])
    whole = file.read_bytes()
    file.unlink()
    assert plain.json("ca", "crl", "open-ca", "--existing", "--out", "crl.pem")["number"] == 1
    assert file.read_bytes() == whole
    assert x509.load_pem_x509_crl((plain.path / "crl.pem").read_bytes()).is_signature_valid(
        x509.load_pem_x509_certificate(
            plain("cert", "export", "open-ca", "--out", "-").out.encode()
        ).public_key()
    )
    assert file.stat().st_mode & 0o777 == 0o644


def test_days_come_from_the_line_then_the_settings_then_the_rules(plain: Shell) -> None:
    leaf(plain)

    def lasts(*words: str) -> timedelta:
        found = plain.json("ca", "crl", "open-ca", *words)
        end, start = (datetime.fromisoformat(found[k]) for k in ("next_update", "this_update"))
        return end - start + timedelta(seconds=1)

    assert lasts() == timedelta(days=7)
    (plain.home / "tpmhsm.toml").write_text("[ca.open-ca]\ncrl_days = 3\n")
    assert lasts() == timedelta(days=3)
    assert lasts("--days", "10") == timedelta(days=10)
    (plain.home / "tpmhsm.toml").write_text("[ca.open-ca]\ncrl_days = 30\n")
    assert plain.json("ca", "crl", "open-ca", code=2)["error"]["code"] == "crl-days"


def test_expired_certificates_leave_the_list_after_one_more(plain: Shell) -> None:
    from tpmhsm.store.revocations import revocations

    serial = leaf(plain)
    plain("ca", "revoke", "open-ca", serial)
    plain("ca", "crl", "open-ca")
    long_ago = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for ends, on_it in ((None, True), (long_ago, False)):
        if ends:
            with Store.open(plain.home) as store, store.transaction() as tx:
                tx._connection.execute(revocations.update().values(not_after=ends))
        plain("ca", "crl", "open-ca")
        assert (int(serial, 16) in listed(plain)) is on_it
    # revoked after its end: it still has to be seen once
    with Store.open(plain.home) as store, store.transaction() as tx:
        seq = tx.audit.append("test").seq
        tx._connection.execute(revocations.update().values(changed=seq))
    for on_it in (True, False):
        plain("ca", "crl", "open-ca")
        assert (int(serial, 16) in listed(plain)) is on_it


def test_the_file_stands_where_certificates_say(plain: Shell) -> None:
    (plain.home / "tpmhsm.toml").write_text('[ca.open-ca]\nbase_url = "http://pki.example.com"\n')
    leaf(plain)
    made = x509.load_pem_x509_certificate((plain.path / "www.example.com.pem").read_bytes())
    points = made.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    url = points[0].full_name[0].value
    file = Path(plain.json("ca", "crl", "open-ca")["file"])
    assert url == f"http://pki.example.com/{file.relative_to(plain.home / 'public')}"
    access = made.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    issuer = plain.home / "public" / access[0].access_location.value.split("/", 3)[3]
    made.verify_directly_issued_by(x509.load_der_x509_certificate(issuer.read_bytes()))
    assert plain.json("status")["ok"] is True
    issuer.unlink()
    (missing,) = plain.json("status")["todo"]
    assert missing["next"] == "tpmhsm ca crl open-ca --existing"
    plain("ca", "crl", "open-ca", "--existing")
    assert issuer.exists()


def test_a_clock_that_was_set_back_makes_no_older_crl(plain: Shell) -> None:
    """The last CRL here was made in a future from which the clock came back."""
    plain("ca", "crl", "open-ca")
    later = (datetime.now(UTC) + timedelta(hours=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    with Store.open(plain.home) as store, store.transaction() as tx:
        last = tx.crls.latest("open-ca")
        tx.crls._save(replace(last, this_update=later), "")
    error = plain.json("ca", "crl", "open-ca", code=2)["error"]
    assert error["code"] == "clock-back" and later in error["message"]
    assert "--older" in error["hint"]
    assert plain.json("ca", "crl", "open-ca", "--older")["number"] == last.number + 1
    plain("ca", "crl", "open-ca")


def test_a_hold_is_for_others_than_tls_servers(plain: Shell) -> None:
    """Baseline Requirements 4.9.13: what serves the public web is revoked or good."""
    plain("ca", "sign", "open-ca", "web.csr", "--profile", "tls-client", "--out", "client.pem")
    serial = leaf(plain)
    assert "BR 4.9.13" in plain("ca", "hold", "open-ca", serial).err
    plain("ca", "release", "open-ca", serial)
    assert "4.9.13" not in plain("ca", "hold", "open-ca", "client.pem").err
    plain("ca", "release", "open-ca", "client.pem")
    (plain.home / "tpmhsm.toml").write_text('[ca.open-ca]\nlint = "tls-br"\n')
    error = plain.json("ca", "hold", "open-ca", serial, code=1)["error"]
    assert error["code"] == "no-holds" and "ca revoke" in error["hint"]
    plain("ca", "hold", "open-ca", "client.pem")


def test_rules_of_the_baseline_requirements(plain: Shell) -> None:
    (plain.home / "tpmhsm.toml").write_text(
        '[ca.open-ca]\nlint = "tls-br"\nbase_url = "http://pki.example.com/x"\n'
    )
    serial = leaf(plain)
    assert plain.json("ca", "hold", "open-ca", serial, code=1)["error"]["code"] == "no-holds"
    plain("ca", "revoke", "open-ca", serial, "--reason", "superseded")
    found = plain.json("ca", "revoke", "open-ca", serial, "--reason", "keyCompromise",
                       "--invalidity-date", "2026-01-02")  # fmt: skip
    # backdated, for that is what TLS clients look at, but not to before it was issued
    assert found["invalidity_date"] == "2026-01-02T00:00:00Z"
    assert found["revoked"] == plain.json("cert", "show", "www.example.com.pem")["not_before"]
    plain("key", "create", "sub")
    sub = plain.json("ca", "create", "sub-ca", "--key", "sub", "--issuer", "open-ca",
                     "--subject", "CN=Sub,O=Example,C=DE",
                     "--permit", "dns:example.com")["serial"]  # fmt: skip
    refused = plain.json("ca", "revoke", "open-ca", sub, code=1)["error"]
    assert refused["code"] == "reason-needed"
    plain("ca", "revoke", "open-ca", sub, "--reason", "cACompromise")
    plain("ca", "crl", "open-ca")
    assert listed(plain) == {int(serial, 16): "keyCompromise", int(sub, 16): "cACompromise"}


# ── people ───────────────────────────────────────────────────────────────────


def test_a_crl_that_people_approve(governed: Shell, place: Path) -> None:
    number = governed.ask("ca", "sign", "root-ca", "web.csr")
    governed.settle(number)
    serial = str(governed.json("request", "show", str(number))["result"]["serial"])
    governed("ca", "revoke", "root-ca", serial, "--reason", "keyCompromise")
    number = governed.ask("ca", "crl", "root-ca", "--reason", "stolen laptop")
    assert governed.ask("ca", "crl", "root-ca") == number  # the same wish, the same request
    assert not (governed.home / "public").exists()
    governed("request", "export", str(number))
    for name in ("alice", "bob"):
        machine = laptop(governed, place, name)
        carry(number, "req", governed, machine)
        shown = machine.approve(f"{number}.req", name, expect(governed, number)).err
        assert "certificate revocation list" in shown
        assert "stolen laptop" in shown
        assert "1 added" in shown
        assert "keyCompromise" in shown
        assert serial[:8] in shown
        assert "never approved" not in shown
        carry(number, "approval", machine, governed)
    governed("request", "import", *(f"{number}-{name}.approval" for name in ("alice", "bob")))
    assert listed(governed, "root-ca") == {int(serial, 16): "keyCompromise"}
    assert number_of(published(governed, "root-ca")) == 1
    found = governed.json("request", "show", str(number))
    assert found["kind"] == "crl"
    assert found["result"]["number"] == 1
    later = governed.ask("ca", "crl", "root-ca")
    assert later != number
    governed("request", "cancel", str(later))
    with Store.open(governed.home) as store, store.reading() as tx:
        assert [row.state for row in tx.crls.all("root-ca")] == ["issued", "abandoned"]


def test_a_wait_for_people_publishes(governed: Shell) -> None:
    number = governed.ask("ca", "crl", "root-ca", "--out", "crl.pem")
    governed.settle(number)
    assert number_of(published(governed, "root-ca")) == 1
    governed("ca", "crl", "root-ca", "--existing", "--out", "crl.pem")
    assert (governed.path / "crl.pem").read_bytes().startswith(b"-----BEGIN X509 CRL-----")


def test_settings_for_no_authority_are_told(plain: Shell) -> None:
    (plain.home / "tpmhsm.toml").write_text("[ca.open-caa]\ncrl_days = 3\n")
    assert "[ca.open-caa]" in plain("status").out


# ── cert verify ──────────────────────────────────────────────────────────────


def test_what_is_revoked_here_is_not_called_valid(plain: Shell) -> None:
    leaf(plain)
    plain("cert", "export", "open-ca", "--out", "root.pem")
    verify = ("cert", "verify", "www.example.com.pem")
    plain(*verify)
    plain("ca", "hold", "open-ca", "www.example.com.pem")
    assert "is held by 'open-ca'" in plain(*verify, code=1).err
    plain("ca", "release", "open-ca", "www.example.com.pem")
    plain(*verify)
    plain("ca", "revoke", "open-ca", "www.example.com.pem", "--reason", "keyCompromise")
    error = plain.json(*verify, code=1)["error"]
    assert (error["code"], error["reason"]) == ("verification-failed", "revoked")
    plain(*verify, "--trust", "root.pem")  # as others see it, who know no CRL
    plain("ca", "crl", "open-ca", "--out", "open.crl")
    error = plain.json(*verify, "--trust", "root.pem", code=1)["error"]  # now they do
    assert error["reason"] == "revoked" and "CRL 1 of 'open-ca'" in error["message"]
    plain(*verify, "--trust", "root.pem", "--at", leaf_begins(plain))
    leaf(plain, host="good.example.com")
    good = plain.json("cert", "verify", "good.example.com.pem", "--trust", "root.pem")
    assert good["crl_checked"] == [good["chain"][0]["sha256"]]
    assert ["is not on CRL 1 of 'open-ca'" in note for note in good["notes"]] == [True]
    with Store.open(plain.home) as store, store.transaction() as tx:  # long ago
        last = tx.crls.latest("open-ca")
        times = {"this_update": "2020-01-01T00:00:00Z", "next_update": "2020-01-08T00:00:00Z"}
        tx.crls._save(replace(last, **times), "")
    assert "not checked" in plain(*verify, "--trust", "root.pem").out


def leaf_begins(machine: Shell) -> str:
    return str(machine.json("cert", "show", "www.example.com.pem")["not_before"])


def test_an_answer_names_the_crl_that_is_missing(plain: Shell) -> None:
    plain("key", "create", "sub")
    plain("ca", "create", "sub-ca", "--key", "sub", "--issuer", "open-ca", "--subject", "CN=Sub")
    leaf(plain, ca="sub-ca")
    verify = ("cert", "verify", "www.example.com.pem", "--crl", "sub.crl")
    plain("ca", "crl", "sub-ca", "--out", "sub.crl")
    top = plain.json("ca", "show", "open-ca")["subject"]
    assert f"covers CN=Sub: one of {top} is needed" in plain(*verify, code=1).err
    plain("ca", "revoke", "sub-ca", "www.example.com.pem")
    plain("ca", "crl", "sub-ca", "--out", "sub.crl", "--force")
    assert "was revoked" in plain(*verify, code=1).err  # whatever else is missing
    long_ago = plain(*verify, "--at", "2001-01-01", code=1).err
    assert "too old" not in long_ago


# ── authorities that are revoked themselves ──────────────────────────────────


def test_a_revoked_authority_certifies_nothing_more(plain: Shell) -> None:
    plain("key", "create", "sub")
    plain("key", "create", "below")
    sub = ("ca", "create", "sub-ca", "--key", "sub", "--issuer", "open-ca", "--subject", "CN=Sub")
    serial = plain.json(*sub, "--path-length", "1")["serial"]
    below = ("ca", "create", "below", "--key", "below", "--issuer", "sub-ca", "--subject", "CN=B")
    for act, code in (("hold", 1), ("release", 0), ("revoke", 1)):
        plain("ca", act, "open-ca", f"0x{serial}")
        done = plain.json("ca", "sign", "sub-ca", "web.csr", code=code)
        assert code == 0 or done["error"]["code"] == "ca-revoked"
        state = {"hold": "held", "release": "active", "revoke": "revoked"}[act]
        assert f"sub-ca ({state})" in plain("ca", "show", "sub-ca").out
        assert f"sub-ca   {state}" in plain("ca", "list").out
        assert f"sub-ca ({state}," in plain("status").out
        asked = f"tpmhsm ca release open-ca 0x{serial}" in plain("status").out
        assert asked is (act == "hold")
    assert plain.json(*below, code=1)["error"]["code"] == "ca-revoked"
    plain("ca", "crl", "sub-ca")  # what it had certified can still be revoked
    plain("ca", "crl", "open-ca")
    assert listed(plain) == {int(serial, 16): ""}


# its program leaves the closing of files to the interpreter
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("lint", ["BR", "PKIX"])
def test_pkilint_finds_nothing(plain: Shell, lint: str, capsys: pytest.CaptureFixture[str]) -> None:
    linter = pytest.importorskip("pkilint.bin.lint_crl", reason="pkilint is not installed")
    reasons = ("keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation",
               "privilegeWithdrawn", "unspecified")  # fmt: skip
    for number, one in enumerate(reasons):
        serial = leaf(plain, host=f"h{number}.example.com")
        plain("ca", "revoke", "open-ca", serial, "--reason", one)
    for entries in (6, 0):
        plain("ca", "crl", "open-ca", "--out", "crl.pem", "--force")
        assert len(published(plain)) == entries
        assert linter.main(["lint", "-t", "CRL", "-p", lint, "-s", "WARNING",
                            str(plain.path / "crl.pem")]) == 0, capsys.readouterr().out  # fmt: skip
        _released(plain)


def _released(machine: Shell) -> None:
    from tpmhsm.store.revocations import revocations

    with Store.open(machine.home) as store, store.transaction() as tx:
        tx._connection.execute(revocations.update().values(state="released"))
