"""Java: CertPathValidator, CertPathBuilder and the trust manager of TLS, in one virtual machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.clients.verdict import Question, Verdict, Visit, needs

PROGRAM = Path(__file__).with_name("Pkix.java")
# A virtual machine that lives for seconds: no second compiler, little memory.
_COMMAND = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", str(PROGRAM))


class Java:
    def __init__(self) -> None:
        needs("java")
        self._process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def judge(self, question: Question) -> Verdict:
        """All three ways; hosts are judged by `connect`."""
        chain = question.chain
        words = {"root": str(chain.root), "chain": str(chain.chain), "purpose": question.purpose}
        if question.at:
            words["at"] = str(int(question.at.timestamp() * 1000))
        if question.crls:
            words["crls"] = ",".join(map(str, question.crls))
        return self.ask("path", **words)

    def visit(self, visit: Visit) -> Verdict:
        words = {"root": str(visit.root), "host": visit.host, "port": visit.port}
        if visit.own:
            words |= {"chain": str(visit.own.chain), "key": str(visit.own.key)}
        found = self.ask("connect", **words)
        return Verdict(found.accepted and visit.answered(found.words), found.words)

    def ask(self, act: str, **words: str) -> Verdict:
        """One line to the program, one line from it."""
        assert self._process.stdin
        assert self._process.stdout
        line = "\t".join(f"{name}={value}" for name, value in {"do": act, **words}.items())
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        said = self._process.stdout.readline()
        if not said:
            self._died()
        assert not said.startswith("disagreed"), said
        return Verdict(said.startswith("accepted"), said)

    def _died(self) -> None:
        said = self._process.communicate()[1]
        if "jdk.compiler" in said:
            pytest.skip("this java has no compiler module")
        raise AssertionError(said)

    def close(self) -> None:
        self._process.communicate(timeout=20)
