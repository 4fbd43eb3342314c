"""curl, with the library of TLS it came with."""

from __future__ import annotations

from tests.clients.verdict import Verdict, Visit, needs, run


class Curl:
    def __init__(self) -> None:
        needs("curl")

    def visit(self, visit: Visit) -> Verdict:
        there = ("--connect-to", f"::127.0.0.1:{visit.port}", "--noproxy", "*")
        words = ["curl", "-sS", "--cacert", visit.root, *there]
        if visit.own:
            words += ["--cert", visit.own.chain, "--key", visit.own.key]
        code, said = run(*words, f"https://{visit.host}:{visit.port}/")
        return Verdict(code == 0 and visit.answered(said), said)
