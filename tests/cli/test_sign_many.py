"""`ca sign NAME CSR…`"""

from __future__ import annotations

import signal
import subprocess

import pytest
from tests.support.shell import Shell

from tpmhsm.ca.pipeline import Issuer

COUNT = 20


@pytest.fixture
def csrs(plain: Shell) -> list[str]:
    names = [f"host-{number}.csr" for number in range(COUNT)]
    for number, name in enumerate(names):
        plain("csr", "create", "web", "--san", f"dns:h{number}.example.com", "--out", name)
    return names


def test_a_directory_of_certificates(plain: Shell, csrs: list[str]) -> None:
    folder = plain.path / "issued"
    folder.mkdir()
    said = plain("ca", "sign", "open-ca", *csrs, "--out", "issued").err
    assert f"open-ca issued {COUNT} of {COUNT} certificates" in said
    for number in range(COUNT):
        plain(
            *("cert", "verify", f"issued/host-{number}.pem"),
            *("--purpose", "any", "--host", f"h{number}.example.com"),
        )
    plain("ca", "sign", "open-ca", *csrs, "--out", "issued", code=2)  # nothing is overwritten
    plain("ca", "sign", "open-ca", *csrs[:2], "--out", "issued", "--force")
    assert plain.json("doctor", "store")["ok"] is True


def test_to_stdout_in_their_order(plain: Shell, csrs: list[str]) -> None:
    out = plain("ca", "sign", "open-ca", *csrs[:3]).out
    assert out.count("BEGIN CERTIFICATE") == 3
    blocks = out.split("-----END CERTIFICATE-----\n")[:3]
    for number, block in enumerate(blocks):
        text = subprocess.run(
            ["openssl", "x509", "-noout", "-ext", "subjectAltName"],
            input=f"{block}-----END CERTIFICATE-----\n".encode(),
            capture_output=True,
            check=True,
        ).stdout.decode()
        assert f"DNS:h{number}.example.com" in text
    found = plain.json("ca", "sign", "open-ca", *csrs[:3])
    assert [one["csr"] for one in found["items"]] == csrs[:3]


def test_one_that_is_bad_keeps_no_other_from_its_certificate(plain: Shell, csrs: list[str]) -> None:
    (plain.path / "bad.csr").write_text("no CSR")
    before = len(plain.json("cert", "list")["items"])
    said = plain("ca", "sign", "open-ca", csrs[0], "bad.csr", csrs[1], code=2).err
    assert said.count("bad.csr has no CSR") + said.count("bad.csr is neither") == 1
    assert "issued 2 of 3" in said
    assert len(plain.json("cert", "list")["items"]) == before + 2
    error = plain.json("ca", "sign", "open-ca", "bad.csr", csrs[0], code=2)["error"]
    assert [one["csr"] for one in error["failed"]] == ["bad.csr"]
    assert len(error["issued"]) == 1


def test_what_is_issued_at_ctrl_c_is_written(
    plain: Shell, csrs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sign, seen = Issuer.sign, []

    def interrupted(self: Issuer, *arguments: object, **options: object) -> object:
        seen.append(arguments)
        if len(seen) == 3:
            signal.raise_signal(signal.SIGINT)
        return sign(self, *arguments, **options)

    monkeypatch.setattr(Issuer, "sign", interrupted)
    before = signal.getsignal(signal.SIGINT)
    (plain.path / "issued").mkdir()
    error = plain.json("ca", "sign", "open-ca", *csrs, "--out", "issued", code=1)["error"]
    assert error["code"] == "interrupted"
    assert f"last {COUNT - 3} CSRs" in error["hint"]
    assert len(error["issued"]) == 3
    written = sorted(path.name for path in (plain.path / "issued").iterdir())
    assert written == sorted(f"host-{number}.pem" for number in range(3))
    assert signal.getsignal(signal.SIGINT) is before


def test_what_several_cannot_have(governed: Shell) -> None:
    plain, csrs = governed, ["web.csr", "web.csr"]
    assert "no directory" in plain("ca", "sign", "open-ca", *csrs, "--out", "x.pem", code=2).err
    assert "DER holds one" in plain("ca", "sign", "open-ca", *csrs, "--der", code=2).err
    plain("csr", "create", "web", "--san", "dns:other.example.com", "--out", "other.csr")
    both = ("ca", "sign", "root-ca", "web.csr", "other.csr")
    assert "one certificate" in plain(*both, "--wait", code=2).err
    found = plain.json(*both, code=3)
    assert [row["id"] for row in plain.json("request", "list", "--state", "waiting")["items"]] == (
        found["requests"]
    )
    assert len(set(found["requests"])) == 2
    assert plain.json(*both, code=3)["requests"] == found["requests"]  # asked for once
    assert "requests" in plain(*both, code=3).err
