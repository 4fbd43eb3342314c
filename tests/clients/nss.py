"""NSS: `certutil -V` (the classic verifier) and `vfychain -pp` (libpkix)."""

from __future__ import annotations

import re
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.clients.house import Chain
from tests.clients.verdict import GET, Question, Verdict, Visit, needs, run

_USAGES = {"server": ("V", "1"), "client": ("C", "0")}


class Nss:
    """`place` is a folder for databases, one for each question."""

    def __init__(self, place: Path) -> None:
        needs("certutil", "vfychain", "crlutil", "tstclnt", "pk12util")
        self._place = place
        self._count = 0

    def judge(self, question: Question) -> Verdict:
        database = self.database(question.chain, *question.crls)
        letter, number = _USAGES[question.purpose]
        classic = ["certutil", "-V", "-d", database, "-n", "0", "-u", letter, "-e"]
        pkix = ["vfychain", "-d", database, "-pp", "-u", number]
        if question.crls:  # the classic verifier looks for them unasked
            pkix += ["-g", "leaf", "-m", "crl", "-g", "chain", "-m", "crl"]
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
        name = self.trusting(chain.root)
        path = Path(name.removeprefix("sql:"))
        for number, file in enumerate(_split(chain, path)):
            _did(run("certutil", "-A", "-d", name, "-n", str(number), "-t", ",,", "-i", file, "-a"))
        for crl in crls:
            self.take_crl(name, crl)
        return name

    def take_crl(self, name: str, crl: Path) -> None:
        """Import a CRL (PEM) into a database; an older one of the same issuer is replaced."""
        der = Path(name.removeprefix("sql:")) / "crl"
        der.write_bytes(x509.load_pem_x509_crl(crl.read_bytes()).public_bytes(Encoding.DER))
        _did(run("crlutil", "-I", "-d", name, "-i", der, "-t", "1"))

    def trusting(self, root: Path) -> str:
        """A new database with this root alone."""
        self._count += 1
        path = self._place / f"nss{self._count}"
        path.mkdir()
        name = f"sql:{path}"
        _did(run("certutil", "-N", "-d", name, "--empty-password"))
        trust = ("-n", "root", "-t", "CT,C,", "-i", root, "-a")
        _did(run("certutil", "-A", "-d", name, *trust))
        return name

    def visit(self, visit: Visit) -> Verdict:
        name = self.trusting(visit.root)
        words = ["tstclnt", "-4", "-h", "127.0.0.1", "-p", visit.port, "-a", visit.host, "-d", name]
        request = Path(name.removeprefix("sql:")) / "request"
        request.write_bytes(GET)
        if visit.own:
            self._take_key(name, visit.own)
            words += ["-n", "own"]
        code, said = run(*words, "-v", "-A", request)
        return Verdict(code == 0 and visit.answered(said), said)

    def _take_key(self, name: str, own: Chain) -> None:
        bundle = f"{name.removeprefix('sql:')}/own.p12"
        assert own.key
        files = ("-inkey", own.key, "-in", own.chain, "-out", bundle)
        _did(run("openssl", "pkcs12", "-export", *files, "-passout", "pass:", "-name", "own"))
        _did(run("pk12util", "-i", bundle, "-d", name, "-W", ""))


def _split(chain: Chain, path: Path) -> list[Path]:
    pattern = r"-----BEGIN.*?-----END CERTIFICATE-----\n"
    found = []
    for number, block in enumerate(re.findall(pattern, chain.chain.read_text(), re.DOTALL)):
        found.append(path / f"{number}.pem")
        found[-1].write_text(block)
    return found


def _did(result: tuple[int, str]) -> None:
    assert result[0] == 0, result[1]
