"""`cert list`, `show`, `delete` and `import`: what people type, what they are told."""

from __future__ import annotations

import pytest
from tests.support.shell import Shell
from tests.support.terminal import Terminal


def issue(machine: Shell, *hosts: str) -> dict[str, str]:
    named = [word for host in hosts for word in ("--host", host)]
    return machine.json("ca", "issue", "open-ca", *named, "--key", "web")


def ids(machine: Shell, *words: str) -> list[int]:
    return [item["id"] for item in machine.json("cert", "list", *words)["items"]]


def test_a_serial_and_a_host_as_people_write_them(plain: Shell) -> None:
    serial = issue(plain, "Bücher.example.com")["serial"]
    (found,) = ids(plain, "--name", "Bücher.example.com")
    for spelt in (serial, f"0x{serial}", serial.upper()):
        assert ids(plain, "--serial", spelt) == [found]
        assert plain.json("cert", "show", spelt)["id"] == found
    assert plain.json("cert", "list", "--ca", "no-ca", code=2)["error"]["code"] == "not-found"


def test_a_file_is_not_yet_a_stored_certificate(plain: Shell) -> None:
    plain("cert", "export", "open-ca", "--out", "file.pem")
    for verb in ("export", "chain", "delete"):
        assert "tpmhsm cert import file.pem" in plain("cert", verb, "file.pem", code=2).err


def test_of_several_certificates_of_a_name_none_is_deleted(plain: Shell) -> None:
    before = ids(plain)
    first, second = (issue(plain, "twice.example.com")["sha256"] for _ in range(2))
    error = plain.json("cert", "delete", "twice.example.com", code=2)["error"]
    assert (error["code"], len(error["sha256"])) == ("ambiguous", 2)
    plain("cert", "export", second, "--out", "second.pem")
    plain("cert", "delete", second[:16])
    assert len(ids(plain)) == len(before) + 1
    assert plain("cert", "import", "second.pem").out.startswith("stored ")
    assert plain("cert", "import", "second.pem").out.startswith("was here ")
    assert "keeps its name" in plain("cert", "import", "second.pem", "--name", "other").err
    plain("cert", "delete", first[:16])
    plain("cert", "delete", "twice.example.com")


@pytest.mark.parametrize("columns", [60, 200])
def test_a_table_fits_the_terminal(plain: Shell, columns: int) -> None:
    issue(plain, *(f"a-rather-long-name-{number}.example.com" for number in range(3)))
    where = plain.surroundings()
    command = ["env", f"COLUMNS={columns}", *plain.command("cert", "list")]
    code, said = Terminal(command, where["cwd"], where["env"]).end()
    assert code == 0
    assert max(map(len, said.splitlines())) <= columns
    assert ("…" in said) is (columns == 60)
    assert "…" not in plain("cert", "list").out
