"""What a program that is not ours says about a chain."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import pytest
from tests.clients.house import Chain

GET = b"GET / HTTP/1.0\r\n\r\n"


@dataclass(frozen=True)
class Verdict:
    """Accepted or not, and the program's own words."""

    accepted: bool
    words: str


@dataclass(frozen=True)
class Question:
    """A chain, what it is wanted for (`server`, `client`), the host, when, the CRLs to follow."""

    chain: Chain
    purpose: str = "server"
    host: str | None = None
    at: datetime | None = None
    crls: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Visit:
    """A server on 127.0.0.1, below `root`, wanted as `host`; `own` is the client's chain."""

    port: str
    root: Path
    host: str
    own: Chain | None = None

    def answered(self, said: str) -> bool:
        """Whether the server's answer, `tests.clients.listener.ANSWER`, was received."""
        return "hello" in said


class Client(Protocol):
    """A program that validates chains."""

    def judge(self, question: Question) -> Verdict:
        """Its verdict; where a program has several ways to validate, all of them agreed."""


class Visitor(Protocol):
    """A program that speaks TLS."""

    def visit(self, visit: Visit) -> Verdict:
        """Accepted when the handshake was done and the answer came."""


def accepts(client: Client, question: Question) -> None:
    verdict = client.judge(question)
    assert verdict.accepted, verdict.words


def refuses(client: Client, question: Question, reason: str) -> None:
    """It refuses, for that reason: a regular expression."""
    verdict = client.judge(question)
    assert not verdict.accepted, verdict.words
    assert re.search(reason, verdict.words), verdict.words


def needs(*commands: str) -> None:
    """Skip by name what is not installed."""
    for command in commands:
        if not shutil.which(command):
            pytest.skip(f"{command} is not installed")


def run(*command: str | Path, stdin: bytes = b"") -> tuple[int, str]:
    """Exit code and all output."""
    done = subprocess.run(
        list(map(str, command)), input=stdin, capture_output=True, check=False, timeout=60
    )
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")
