"""OpenSSL: `openssl verify`, strict."""

from __future__ import annotations

from tests.clients.verdict import Question, Verdict, needs, run


class OpenSsl:
    def __init__(self) -> None:
        needs("openssl")

    def judge(self, question: Question) -> Verdict:
        chain = question.chain
        words = ["openssl", "verify", "-x509_strict", "-show_chain", "-CAfile", chain.root,
                 "-untrusted", chain.chain, "-purpose", f"ssl{question.purpose}"]  # fmt: skip
        if question.host:
            kind = "ip" if question.host[0].isdigit() else "hostname"
            words += [f"-verify_{kind}", question.host]
        if question.at:
            words += ["-attime", str(int(question.at.timestamp()))]
        if question.crls:
            words += ["-crl_check_all"]
            for crl in question.crls:
                words += ["-CRLfile", crl]
        code, said = run(*words, chain.leaf)
        return Verdict(code == 0, said)
