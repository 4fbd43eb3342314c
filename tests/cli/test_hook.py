"""The hook of tpmhsm.toml: told what happens to requests, and never in the way."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.shell import Shell

HOOK = """#!/bin/sh
cat >> "{log}"
echo "$TPMHSM_EVENT|$TPMHSM_REQUESTS|$TPMHSM_HOME|$SECRET_OF_OURS|$*" >> "{log}.words"
"""


def hook(machine: Shell, text: str = HOOK, *words: str, seconds: int = 10) -> Path:
    """Install a hook; the file that it writes."""
    log, script = machine.path / "log", machine.path / "hook"
    script.write_text(text.format(log=log))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    command = json.dumps([str(script), *words])
    (machine.home / "tpmhsm.toml").write_text(
        f"[requests]\nhook = {command}\nhook_seconds = {seconds}\n"
    )
    return log


def told(log: Path) -> list[dict[str, Any]]:
    if not log.exists():
        return []
    lines = log.read_text().splitlines()
    log.unlink()
    return [json.loads(line) for line in lines]


def test_from_birth_to_execution(governed: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    log = hook(governed, HOOK, "a b; touch x", "$HOME")
    monkeypatch.setenv("SECRET_OF_OURS", "hunter2")
    number = governed.ask("ca", "sign", "root-ca", "web.csr", "--reason", "the $(shop)")
    born = told(log)
    assert [one["event"] for one in born] == ["born"]
    facts = born[0]["requests"][0]
    assert (facts["id"], facts["state"], facts["group"]) == (number, "waiting", "officers")
    assert "www.example.com" in facts["title"] and facts["reason"] == "the $(shop)"
    assert facts["digest"] == governed.json("request", "show", str(number))["digest"]
    words = (governed.path / "log.words").read_text().splitlines()
    assert words == [f"born|{number}|{governed.home}||a b; touch x $HOME"]
    governed.approve(str(number), "alice", facts["digest"])
    approved = told(log)
    assert [one["event"] for one in approved] == ["approved"]
    assert approved[0]["requests"][0]["approved_by"] == ["alice"]
    governed.approve(str(number), "bob", facts["digest"])
    assert [one["event"] for one in told(log)] == ["approved", "executed"]
    governed("request", "show", str(number))
    governed("status")
    assert told(log) == []


def test_denied_and_cancelled(governed: Shell) -> None:
    log = hook(governed)
    first = governed.ask("csr", "create", "root", "--subject", "CN=a")
    second = governed.ask("csr", "create", "root", "--subject", "CN=b")
    told(log)
    governed("deny", str(first), "--as", "bob", "-i", "bob.key", "--passphrase-file", "passphrase",
             "--reason", "who asked?")  # fmt: skip
    governed("request", "cancel", str(second))
    denied, cancelled = told(log)
    assert denied["event"] == "denied" and cancelled["event"] == "cancelled"
    assert denied["requests"][0]["denials"] == [{"approver": "bob", "reason": "who asked?"}]


def test_what_expires_soon(governed: Shell) -> None:
    log = hook(governed)
    number = governed.ask("csr", "create", "root", "--subject", "CN=a")
    told(log)
    assert governed.json("request", "remind", "--within", "1h")["items"] == []
    assert told(log) == []
    found = governed.json("request", "remind", "--within", "999h")["items"]
    assert [one["id"] for one in found] == [number]
    assert [one["event"] for one in told(log)] == ["expiring"]
    assert "CN=a" in governed("request", "remind", "--within", "999h").out


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("#!/bin/sh\nexit 3\n", "exit 3"),
        ("#!/bin/sh\nsleep 30 & sleep 30\n", "longer than 1 seconds"),
        ("#!/no/such/shell\n", "No such file"),
    ],
)
def test_a_hook_that_fails_stops_nothing(governed: Shell, text: str, why: str) -> None:
    hook(governed, text, seconds=1)
    began = time.monotonic()
    said = governed("csr", "create", "root", "--subject", "CN=a", code=3)
    assert time.monotonic() - began < 10
    assert f"the hook for requests failed: {why}" in said.err or why in said.err
    assert "nothing else is affected" in said.err
    assert len(governed.json("request", "list", "--state", "waiting")["items"]) == 1


def test_a_hook_that_asks_us_is_not_told_of_it(governed: Shell) -> None:
    """Otherwise a hook that does something with requests would call itself for ever."""
    log = hook(governed)
    os.environ["TPMHSM_EVENT"] = "born"
    try:
        governed.ask("csr", "create", "root", "--subject", "CN=a")
    finally:
        del os.environ["TPMHSM_EVENT"]
    assert told(log) == []


@pytest.mark.parametrize(
    "line",
    [
        'hook = "mail root"',
        'hook = ["mail"]',
        "hook = [1]",
        'hook = ["/bin/true"]\nhook_seconds = 0',
        'hok = ["/bin/true"]',
    ],
)
def test_settings_that_cannot_be(governed: Shell, line: str) -> None:
    (governed.home / "tpmhsm.toml").write_text(f"[requests]\n{line}\n")
    said = governed("csr", "create", "root", "--subject", "CN=a", code=3)
    assert "tpmhsm.toml, [requests]" in said.err
