"""`pip install .` where there is neither a compiler nor the TPM Software Stack.

Approvers in such environments, each in a home of their own: `test_bare_approver` (--long).
"""

import re

import pytest
from tests.project.bare import (
    ROOT,
    BareHome,
    copy_source,
    make_environment,
    make_programs,
    run,
)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    place = tmp_path_factory.mktemp("b")
    make_programs(place)
    install(place)
    machine = BareHome(place, place)
    yield machine
    machine("device", "stop")


def install(place):
    """The project as a stranger installs it, in the versions of the lock."""
    make_environment(place)
    pins = re.findall(r"^\S+==\S+", (ROOT / "requirements/base.txt").read_text(), re.MULTILINE)
    (place / "pins.txt").write_text("\n".join(pins) + "\n")
    run(place, "pip", "install", "-q", "-c", place / "pins.txt", copy_source(place))


def test_init_approve_and_verify(bare):
    missing = "import importlib.util as u; print(u.find_spec('tpm2_pytss'))"
    assert run(bare.place, bare.place / "venv/bin/python", "-c", missing) == "None\n"
    bare("init")
    found_a_group(bare)
    certify(bare)


def found_a_group(bare):
    people = ("alice", "bob", "carol")
    for name in people:
        bare.person(name)
    cards = [f"{name}.card" for name in people]
    bare("trust", "add", *cards)
    bare("approver", "add", *cards)
    bare("group", "create", "officers", "--officers", "2:alice,bob,carol", code=3)
    digest = bare.json("request", "show", "1")["digest"]
    for name in people[:2]:
        bare.approve("1", name, digest)
    assert bare.json("request", "show", "1")["state"] == "executed"


def certify(bare):
    """An open authority, which signs at once, and a server's certificate by it."""
    bare("key", "create", "root")
    subject = ("--subject", "CN=Root,O=Example")
    bare("ca", "create", "root-ca", "--key", "root", *subject, "--profile", "root")
    bare("key", "create", "web")
    names = ("--subject", "CN=www.example.com", "--san", "dns:www.example.com")
    bare("csr", "create", "web", *names, "--out", "web.csr")
    bare("ca", "sign", "root-ca", "web.csr", "--profile", "tls-server", "--out", "leaf.pem")
    bare("cert", "export", "root-ca", "--out", "root.pem")
    verify = ("cert", "verify", "leaf.pem", "--trust", "root.pem", "--purpose", "server")
    bare(*verify, "--host", "www.example.com")
    bare(*verify, "--host", "www.example.org", code=1)
