"""The whole story once, through the command line, judged by programs that are not ours."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support.cli import Home


def openssl(*arguments: str | Path, cwd: Path, ok: bool = True) -> str:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], cwd=cwd, capture_output=True, check=False
    )
    assert (done.returncode == 0) is ok, done.stderr.decode() + done.stdout.decode()
    return done.stdout.decode() + done.stderr.decode()


@pytest.fixture(scope="module")
def governed(tmp_path_factory: pytest.TempPathFactory):
    """A home with a 2-of-3 group, its root and an intermediate."""
    path = tmp_path_factory.mktemp("host")
    host = Home(path)
    host("init")
    for name in ("alice", "bob", "carol"):
        host.person(name)
    host("approver", "add", "alice.card", "bob.card", "carol.card")
    founding = host.json("group", "create", "officers", "--officers", "2:alice,bob,carol", code=3)
    assert founding["error"]["request"] == 1
    settle(host, 1)
    host("key", "create", "root", "--policy", "quorum(officers)")
    host("ca", "create", "root-ca", "--key", "root", "--subject", "CN=Example Root,O=Example",
         "--profile", "root", code=3)  # fmt: skip
    settle(host, 2)
    host("key", "create", "issuing", "--policy", "quorum(officers)")
    host("ca", "create", "issuing-ca", "--key", "issuing", "--issuer", "root-ca", "--subject",
         "CN=Example Issuing,O=Example", "--profile", "intermediate", code=3)  # fmt: skip
    settle(host, 3, ("bob", "carol"))
    yield host
    host("device", "stop")
    shutil.rmtree(path)


def settle(host: Home, number: int, people: tuple[str, ...] = ("alice", "bob")) -> None:
    request = host.json("request", "show", str(number))
    assert request["state"] == "waiting"
    for name in people:
        host.approve(number, name, request["digest"])
    assert host.json("request", "show", str(number))["state"] == "executed"


def test_a_leaf_from_a_chip_key_is_accepted_by_openssl(governed: Home) -> None:
    host = governed
    host("key", "create", "web")
    host("csr", "create", "web", "--subject", "CN=www.example.com", "--san",
         "dns:www.example.com", "--out", "web.csr")  # fmt: skip
    openssl("req", "-in", "web.csr", "-verify", "-noout", cwd=host.path)
    waiting = host.json("ca", "sign", "issuing-ca", "web.csr", "--profile", "tls-server", code=3)
    settle(host, waiting["error"]["request"])
    host("cert", "export", "root-ca", "--out", "root.pem")
    host("cert", "export", "issuing-ca", "--out", "issuing.pem")
    shown = host.json("request", "show", str(waiting["error"]["request"]))
    (host.path / "leaf.pem").write_text(shown["result"]["pem"])
    openssl("verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "issuing.pem",
            "-verify_hostname", "www.example.com", "-purpose", "sslserver", "leaf.pem",
            cwd=host.path)  # fmt: skip
    host("cert", "verify", "leaf.pem", "--trust", "root.pem", "--untrusted", "issuing.pem",
         "--purpose", "server", "--host", "www.example.com")  # fmt: skip
    host("cert", "verify", "leaf.pem", "--trust", "root.pem", "--untrusted", "issuing.pem",
         "--host", "other.example.com", code=1)  # fmt: skip
    (host.path / "hello").write_bytes(b"hello")
    host("key", "sign", "web", "hello", "--out", "hello.sig")
    openssl("x509", "-in", "leaf.pem", "-pubkey", "-noout", "-out", "web.pub", cwd=host.path)
    openssl("dgst", "-sha256", "-verify", "web.pub", "-signature", "hello.sig", "hello",
            cwd=host.path)  # fmt: skip
