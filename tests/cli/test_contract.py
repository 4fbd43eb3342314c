"""The contract of the command line: JSON, exit codes, options anywhere, examples in every help."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click
import pytest
from tests.support.shell import RULE, Shell

from tpmhsm.cli.main import COMMANDS, cli


def commands(
    command: click.Command = cli, words: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Every command that can be typed, as words."""
    yield words
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, (*words, name))


ALL = list(commands())


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_has_help_with_an_example(bare: Shell, words: tuple[str, ...]) -> None:
    said = bare(*words, "--help").out
    assert said.startswith("Usage: tpmhsm")
    assert "Example:" in said
    assert "tpmhsm " + " ".join(words) in said.partition("Example:")[2]
    assert max(map(len, said.splitlines())) <= 100


@pytest.mark.parametrize("words", [w for w in ALL if w], ids=" ".join)
def test_global_options_are_taken_by_every_command(bare: Shell, words: tuple[str, ...]) -> None:
    options = ["--home", "x", "--tpm", "software", "--db", "sqlite:///x", "--json", "-v", "-q"]
    assert bare(*words, *options, "--help").out == bare(*words, "--help").out


def test_a_command_that_is_missing_or_unknown(bare: Shell) -> None:
    assert "Usage:" in bare(code=2).err
    assert "Usage:" in bare("key", code=2).err
    assert bare.json("key", code=2)["error"]["code"] == "usage"
    assert "serve" in bare.json("serve", code=2)["error"]["message"]
    assert bare("key", "list", "--nothing", "--json", code=2).json["error"]["hint"]


def documents(machine: Shell, *words: str, code: int = 0) -> dict[str, object]:
    """The one JSON document that a command prints with --json, wherever that stands."""
    first = machine("--json", *words, code=code).out
    found: dict[str, object] = json.loads(first)  # raises for two documents
    assert first.endswith("}\n")
    return found


READING = [
    ("version",),
    ("status",),
    ("show", "web.csr"),
    ("show", "alice.card"),
    ("show", "alice.key"),
    ("device", "show"),
    ("device", "probe"),
    ("device", "export"),
    ("approver", "show", "alice"),
    ("group", "show", "officers"),
    ("group", "explain", "officers"),
    ("group", "explain", "officers", "--without", "bob"),
    ("group", "fingerprint", "officers"),
    ("key", "show", "web"),
    ("key", "export", "web"),
    ("key", "export", "web", "--tss2"),
    ("key", "sign", "web", "passphrase", "--out", "-"),
    ("policy", "check", "open"),
    ("policy", "explain", "quorum(officers)"),
    ("policy", "digest", "quorum(officers)"),
    ("csr", "create", "web", "--subject", "CN=x"),
    ("csr", "show", "web.csr"),
    ("csr", "verify", "web.csr"),
    ("cert", "show", "root-ca"),
    ("cert", "export", "root-ca"),
    ("cert", "export", "root-ca", "--out", "root.pem"),
    ("ca", "show", "root-ca"),
    ("request", "show", "1"),
    ("request", "execute", "1"),
    ("request", "export", "1", "--out", "-"),
    ("device", "stop"),
]
LISTS = [
    ("approver", "list"),
    ("approver", "add", "alice.card"),
    ("group", "list"),
    ("trust", "list"),
    ("trust", "add", "bob.card"),
    ("key", "list"),
    ("cert", "list"),
    ("cert", "chain"),
    ("cert", "chain", "root-ca"),
    ("ca", "list"),
    ("request", "list"),
    ("request", "list", "--state", "waiting"),
]


def test_one_document_for_each_command(governed: Shell) -> None:
    for words in READING:
        assert isinstance(documents(governed, *words), dict), words
    for words in LISTS:
        assert isinstance(documents(governed, *words)["items"], list), words
    root = governed.json("cert", "show", "root.pem")
    assert governed.json("cert", "import", "root.pem")["items"][0]["sha256"] == root["sha256"]
    assert governed.json("cert", "verify", "root.pem")["chain"]


def test_json_anywhere_is_the_same(plain: Shell) -> None:
    one = plain("--json", "key", "show", "web").out
    assert plain("key", "--json", "show", "web").out == one
    assert plain("key", "show", "--json", "web").out == one
    assert plain("key", "show", "web", "--json").out == one
    home = ["--home", str(plain.home)]
    assert plain("key", *home, "show", "web", "--json").out == one
    assert plain("--home", "/nowhere", "key", "show", "web", "--json", *home).out == one


def test_a_value_that_looks_like_a_global_option_is_a_value(governed: Shell) -> None:
    asked = governed(
        "group", "change", "officers", "--officers", RULE, "--reason", "--json", code=3
    )
    assert asked.out == ""
    number = asked.err.partition("request ")[2].split()[0]
    assert governed.json("request", "show", number)["state"] == "waiting"


def test_errors_are_documents_too(governed: Shell) -> None:
    missing = documents(governed, "key", "show", "nobody", code=2)["error"]
    assert missing["code"] == "not-found"  # type: ignore[index]
    assert set(missing) >= {"code", "message", "hint"}  # type: ignore[arg-type]
    waiting = documents(governed, "group", "change", "officers", "--officers", RULE, code=3)[
        "error"
    ]
    assert waiting["code"] == "waiting"  # type: ignore[index]
    assert set(waiting) >= {"request", "needed", "approvals", "digest", "group"}  # type: ignore[arg-type]
    refused = governed.json("csr", "verify", "broken.csr", code=2)
    assert refused["error"]["message"]


def test_fields_of_a_request(governed: Shell) -> None:
    found = governed.json("request", "show", "2")
    assert list(found)[:8] == [
        *("id", "kind", "state", "key", "group", "needed", "approvals", "denials")
    ]
    assert (found["id"], found["kind"], found["state"]) == (2, "certificate", "executed")
    assert (found["key"], found["group"], found["needed"]) == ("root", "officers", 2)
    assert [a["approver"] for a in found["approvals"]] == ["alice", "bob"]
    assert len(found["digest"]) == 64
    listed = governed.json("request", "list")["items"]
    assert [one["id"] for one in listed] == [1, 2]
    assert listed[1] | {"content": found["content"]} == found


def test_words_for_people_go_nowhere_near_the_document(plain: Shell) -> None:
    said = plain("--json", "key", "create", "new")
    assert said.err == ""
    assert json.loads(said.out)["policy"] == "open"
    plain("-q", "key", "create", "quiet")
    quiet = plain("-q", "key", "create", "quieter")
    assert quiet.out == quiet.err == ""
    loud = plain("key", "create", "loud")
    assert "anyone with this machine" in loud.err
    assert "software TPM" in loud.out


def test_no_colour_in_pipes(governed: Shell) -> None:
    for words in (("status",), ("key", "list"), ("ca", "show", "root-ca"), ("nothing",)):
        result = governed.attempt(*words)
        assert "\x1b" not in result.out + result.err


def test_status_fits_a_small_screen(governed: Shell) -> None:
    assert governed("status").out.startswith("all is well\n")
    for number in range(12):
        governed("key", "create", f"key-{number}")
        governed("ca", "create", f"ca-{number}", "--key", f"key-{number}", "--issuer", "root-ca",
                 "--subject", f"CN={number}", code=3)  # fmt: skip
    said = governed("status").out.splitlines()
    assert len(said) <= 24
    assert max(map(len, said)) <= 80
    assert said[0] == "12 things need you"
    assert any("more (tpmhsm status --json" in line for line in said)
    found = governed.json("status")
    assert len(found["todo"]) == 12
    assert found["ok"] is False
    assert all(item["next"] for item in found["todo"])
    assert found["groups"][0]["spare"] == 1
    assert found["database"]["ok"]
    assert found["keys"]["count"] == 15


def test_the_table_of_commands_is_true() -> None:
    context = click.Context(cli)
    for name, (_, _, words) in COMMANDS.items():
        assert cli.get_command(context, name) is not None
        assert words
