"""Chips broken on purpose, and what `tpmhsm doctor` says of them."""

from __future__ import annotations

from tests.cli.test_doctor_setups import doctor, examined
from tests.support.shell import Shell


def test_a_chip_in_lockout(plain: Shell) -> None:
    (plain.path / "pin").write_text("1234\n")
    (plain.path / "wrong").write_text("9999\n")
    plain("key", "create", "box", "--policy", "pin", "--pin-file", "pin")
    sign = ("key", "sign", "box", "passphrase", "--pin-file", "wrong")
    while plain.attempt(*sign).code == 1:
        pass
    found = examined(doctor(plain), "lockout")
    (finding,) = found["lockout"]["findings"]
    assert "takes no PIN: 10 were wrong" in finding["what"]
    assert "tpmhsm device unlock --recovery FILE" in finding["next"]
    assert "1 hour" in finding["next"]
