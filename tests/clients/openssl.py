"""OpenSSL: `openssl verify`, strict, and `openssl s_client`."""

from __future__ import annotations

from tests.clients.verdict import GET, Question, Verdict, Visit, needs, run


class OpenSsl:
    def __init__(self) -> None:
        needs("openssl")

    def judge(self, question: Question) -> Verdict:
        chain = question.chain
        words = ["openssl", "verify", "-x509_strict", "-show_chain", "-CAfile", chain.root,
                 "-untrusted", chain.chain, "-purpose", f"ssl{question.purpose}"]  # fmt: skip
        if question.host:
            words += _host(question.host)
        if question.at:
            words += ["-attime", str(int(question.at.timestamp()))]
        if question.crls:
            words += ["-crl_check_all"]
            for crl in question.crls:
                words += ["-CRLfile", crl]
        code, said = run(*words, chain.leaf)
        return Verdict(code == 0, said)

    def visit(self, visit: Visit) -> Verdict:
        words = ["openssl", "s_client", "-connect", f"127.0.0.1:{visit.port}", "-quiet",
                 "-CAfile", visit.root, "-verify_return_error", *_host(visit.host)]  # fmt: skip
        if visit.own:
            own = visit.own
            words += ["-cert", own.leaf, "-key", own.key, "-cert_chain", own.chain]
        code, said = run(*words, stdin=GET)
        return Verdict(code == 0 and visit.answered(said), said)


def _host(host: str) -> tuple[str, str]:
    return ("-verify_ip" if host[0].isdigit() else "-verify_hostname", host)
