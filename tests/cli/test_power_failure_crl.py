"""The power fails at any step of a revocation or of a CRL; the same command goes on.

Whatever fails, no CRL number is used twice, and the newest CRL is never replaced by an older one.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography import x509
from tests.cli.test_power_failure import crash, last_approval
from tests.support.shell import Shell

from tpmhsm.store import Store

__all__ = ["crash"]


def numbers(machine: Shell, ca: str) -> dict[int, str]:
    """States of an authority's CRLs by number; each signed one is whole and has its number."""
    with Store.open(machine.home) as store, store.reading() as tx:
        rows = tx.crls.all(ca)
        for row in rows:
            if row.state == "issued":
                crl = x509.load_der_x509_crl(tx.crls.der(row))
                found = crl.extensions.get_extension_for_class(x509.CRLNumber).value
                assert found.crl_number == row.number
    assert len({row.number for row in rows}) == len(rows)
    return {row.number: row.state for row in rows}


def published(machine: Shell, ca: str) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl((machine.home / "public" / "crl" / f"{ca}.crl").read_bytes())


@pytest.mark.parametrize("act", ["revoke", "hold"])
def test_a_revocation(plain: Shell, crash: Callable[..., None], act: str) -> None:
    plain("ca", "sign", "open-ca", "web.csr", "--out", "web.pem")
    words = ("ca", act, "open-ca", "web.pem")

    def recover(machine: Shell) -> None:
        with Store.open(machine.home) as store, store.reading() as tx:
            listed = sum(tx.revocations.count("open-ca").values())
            assert listed == len([e for e in tx.audit.all() if e.act == act])
        assert machine.json(*words)["changed"] is (listed == 0)
        machine("ca", "crl", "open-ca")
        assert len(published(machine, "open-ca")) == 1

    crash(plain, words, recover)


def test_an_open_crl(plain: Shell, crash: Callable[..., None]) -> None:
    plain("ca", "sign", "open-ca", "web.csr", "--out", "web.pem")
    plain("ca", "crl", "open-ca")
    plain("ca", "revoke", "open-ca", "web.pem")
    words = ("ca", "crl", "open-ca")

    def recover(machine: Shell) -> None:
        before = numbers(machine, "open-ca")
        assert len(published(machine, "open-ca")) <= 1  # the old one, or the new one, whole
        if before[max(before)] == "issued" and len(before) > 1:
            machine(*words, "--existing")
            assert len(published(machine, "open-ca")) == 1
        assert machine.json(*words)["number"] == max(before) + 1
        assert len(published(machine, "open-ca")) == 1
        assert not machine.json("status")["todo"]

    crash(plain, words, recover)


def test_asking_for_a_guarded_crl(governed: Shell, crash: Callable[..., None]) -> None:
    words = ("ca", "crl", "root-ca")

    def recover(machine: Shell) -> None:
        number = machine.ask(*words)
        assert machine.ask(*words) == number
        assert numbers(machine, "root-ca") == {1: "reserved"}
        machine.settle(number)
        assert numbers(machine, "root-ca") == {1: "issued"}
        published(machine, "root-ca")

    crash(governed, words, recover)


def test_a_guarded_crl(governed: Shell, crash: Callable[..., None]) -> None:
    words, approved, number = last_approval(governed, "ca", "crl", "root-ca")

    def recover(machine: Shell) -> None:
        approved(machine)
        machine("request", "execute", str(number))  # writes the file that may be missing
        assert numbers(machine, "root-ca") == {1: "issued"}
        published(machine, "root-ca")
        assert not machine.json("status")["todo"]

    crash(governed, words, recover)
