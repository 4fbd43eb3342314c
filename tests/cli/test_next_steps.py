"""What people need next: found by name, said after an execution, lost chips named as lost."""

import shutil

from tests.support.cli import Home


def test_a_certificate_is_found_by_its_host_and_the_newest_of_several(plain: Home) -> None:
    plain("key", "create", "r")
    plain("ca", "create", "ca", "--key", "r", "--subject", "CN=CA")
    first = plain("ca", "issue", "ca", "--host", "www.example.com").out
    second = plain("ca", "issue", "ca", "--host", "www.example.com").out
    assert first != second
    for name in ("www.example.com", "dns:www.example.com"):
        assert plain("cert", "export", name).out == second


def test_the_deleted_key_of_an_authority_is_no_good_state(plain: Home) -> None:
    plain("key", "create", "gone")
    plain("ca", "create", "orphan", "--key", "gone", "--subject", "CN=Orphan")
    assert plain.json("status")["ok"]
    plain("key", "delete", "gone", "--force")
    found = plain.json("status")
    assert not found["ok"]
    assert any("orphan signs nothing more" in item["what"] for item in found["todo"])


def test_a_short_expect_is_wrong_usage(plain: Home) -> None:
    error = plain.json(
        *("approve", "1", "--as", "alice", "-i", "alice.key", "--expect", "1234"), code=2
    )["error"]
    assert "64 hexadecimal digits" in error["message"]


def test_a_home_that_lost_its_software_tpm_gets_no_other(plain: Home) -> None:
    plain("device", "stop")
    kept = plain.path / "home" / "tpm"
    shutil.move(kept, plain.path / "aside")
    error = plain.json("init", code=4)["error"]
    assert error["code"] == "device-lost"
    shutil.move(plain.path / "aside", kept)
    assert plain.json("init")["new"] is False
