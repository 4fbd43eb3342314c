"""NSS: `certutil -V` (the classic verifier) and `vfychain -pp` (libpkix)."""

from __future__ import annotations

import re
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.clients.house import Chain
from tests.clients.verdict import Question, Verdict, needs, run

_USAGES = {"server": ("V", "1"), "client": ("C", "0")}


class Nss:
    """`place` is a folder for databases, one for each question."""

    def __init__(self, place: Path) -> None:
        needs("certutil", "vfychain", "crlutil", "tstclnt")
        self._place = place
        self._count = 0

    def judge(self, question: Question) -> Verdict:
        database = self.database(question.chain, *question.crls)
        letter, number = _USAGES[question.purpose]
        classic = ["certutil", "-V", "-d", database, "-n", "0", "-u", letter, "-e"]
        pkix = ["vfychain", "-d", database, "-pp", "-vv", "-u", number]
        if question.at:
            time = question.at.strftime("%y%m%d%H%M%SZ")
            classic += ["-b", time]
            pkix += ["-b", time]
        certutil = run(*classic)
        vfychain = run(*pkix, "-a", question.chain.leaf)
        found = {code == 0 for code, _ in (certutil, vfychain)}
        said = f"certutil: {certutil[1]}\nvfychain: {vfychain[1]}"
        assert len(found) == 1, f"NSS disagrees with itself\n{said}"
        return Verdict(found == {True}, said)

    def database(self, chain: Chain, *crls: Path) -> str:
        """A new database with these certificates, named 0 for the leaf and upwards."""
        self._count += 1
        path = self._place / f"nss{self._count}"
        path.mkdir()
        name = f"sql:{path}"
        _did(run("certutil", "-N", "-d", name, "--empty-password"))
        certificates = [chain.root, *_split(chain, path)]
        for number, file in enumerate(certificates):
            nickname = str(number - 1) if number else "root"
            trust = "CT,C," if file == chain.root else ",,"
            _did(run("certutil", "-A", "-d", name, "-n", nickname, "-t", trust, "-i", file, "-a"))
        for crl in crls:
            der = path / "crl"
            der.write_bytes(x509.load_pem_x509_crl(crl.read_bytes()).public_bytes(Encoding.DER))
            _did(run("crlutil", "-I", "-d", name, "-i", der, "-t", "1"))
        return name


def _split(chain: Chain, path: Path) -> list[Path]:
    pattern = r"-----BEGIN.*?-----END CERTIFICATE-----\n"
    found = []
    for number, block in enumerate(re.findall(pattern, chain.chain.read_text(), re.DOTALL)):
        found.append(path / f"{number}.pem")
        found[-1].write_text(block)
    return found


def _did(result: tuple[int, str]) -> None:
    assert result[0] == 0, result[1]
