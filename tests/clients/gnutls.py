"""GnuTLS: `certtool --verify` and `gnutls-cli`."""

from __future__ import annotations

from tempfile import NamedTemporaryFile

from tests.clients.verdict import GET, Question, Verdict, Visit, needs, run

_PURPOSES = {"server": "1.3.6.1.5.5.7.3.1", "client": "1.3.6.1.5.5.7.3.2"}


class GnuTls:
    def __init__(self) -> None:
        needs("certtool", "gnutls-cli")

    def judge(self, question: Question) -> Verdict:
        assert not question.at  # it has no option for it
        chain = question.chain
        purpose = ("--verify-purpose", _PURPOSES[question.purpose])
        words = ["certtool", "--verify", "--load-ca-certificate", chain.root,
                 "--infile", chain.chain, *purpose]  # fmt: skip
        if question.host:
            words += ["--verify-hostname", question.host]
        with NamedTemporaryFile() as crls:  # it takes one file
            crls.write(b"".join(crl.read_bytes() for crl in question.crls))
            crls.flush()
            if question.crls:
                words += ["--load-crl", crls.name]
            code, said = run(*words)
        return Verdict(code == 0, said)

    def visit(self, visit: Visit) -> Verdict:
        words = ["gnutls-cli", "--x509cafile", visit.root, "--verify-hostname", visit.host,
                 "--port", visit.port, "127.0.0.1"]  # fmt: skip
        if visit.own:
            words += ["--x509certfile", visit.own.chain, "--x509keyfile", visit.own.key]
        code, said = run(*words, stdin=GET)
        return Verdict(code == 0 and visit.answered(said), said)
