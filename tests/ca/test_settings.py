"""`tpmhsm.toml`: what is misspelt is an error, not a default."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpmhsm.ca.settings import AuthoritySettings, read_settings
from tpmhsm.errors import UsageError


def read(home: Path, text: str) -> object:
    (home / "tpmhsm.toml").write_text(text)
    return read_settings(home)


def test_what_is_read(tmp_path: Path) -> None:
    assert read_settings(tmp_path).of("x") == AuthoritySettings()
    (tmp_path / "tpmhsm.toml").write_text(
        '[ca.x]\nbase_url = "http://pki.example.com/"\nlint = "tls-br"\ncrl_days = 9\n'
        '[keys]\nblocklists = ["list.dat"]\n[server]\ndefault_ca = "x"\n'
    )
    found = read_settings(tmp_path)
    assert found.of("x") == AuthoritySettings("http://pki.example.com", "tls-br", 9)
    assert found.blocklists == (str(tmp_path / "list.dat"),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[ca.x]\nbase-url = "http://pki.example.com"\n', "'base-url' is no setting"),
        ("[ca.x]\nbase_url = 3\n", "base_url is 3"),
        ('[ca.x]\nlint = "br"\n', "lint is 'br'"),
        ("[ca.x]\ncrl_days = 400\n", "crl_days is 400"),
        ('[ca]\nbase_url = "http://pki.example.com"\n', "is no table"),
        ('[keys]\nblocklist = ["list.dat"]\n', "'blocklist' is no setting"),
        ('[keys]\nblocklists = "list.dat"\n', "no list of files"),
        ("[ca.x\n", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="tpmhsm") as caught:
        read(tmp_path, text)
    assert said in caught.value.message
