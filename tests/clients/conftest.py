"""One house and one of each program for a whole run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients.building import build
from tests.clients.curl import Curl
from tests.clients.gnutls import GnuTls
from tests.clients.house import House
from tests.clients.java import Java
from tests.clients.nss import Nss
from tests.clients.openssl import OpenSsl
from tests.clients.revoking import Revoking, revoke_in_turn
from tests.support.machines import governed_template, plain_template
from tests.support.shell import Shell

from tpmhsm.tpm import software

__all__ = ["governed_template", "plain_template"]


@pytest.fixture(scope="session")
def house(governed_template: Shell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Everything that `build` makes; the machine still answers."""
    place = Path(tempfile.mkdtemp(prefix="tpmhsm-"))
    machine = governed_template.copy(place / "m")
    try:
        yield build(machine, tmp_path_factory.mktemp("house"))
        machine.close()
    finally:
        if software.is_manufactured(machine.tpm):
            software.stop(machine.tpm)
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def openssl() -> OpenSsl:
    return OpenSsl()


@pytest.fixture(scope="session")
def curl() -> Curl:
    return Curl()


@pytest.fixture(scope="session")
def gnutls() -> GnuTls:
    return GnuTls()


@pytest.fixture(scope="session")
def nss(tmp_path_factory: pytest.TempPathFactory) -> Nss:
    return Nss(tmp_path_factory.mktemp("nss"))


@pytest.fixture(scope="session")
def java() -> Iterator[Java]:
    program = Java()
    yield program
    program.close()


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Any:
    """The program that a test's parameter names."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def named(request: pytest.FixtureRequest) -> str:
    """The name of the program of this test."""
    name: str = request.node.callspec.params["client"]
    return name


@pytest.fixture(scope="session")
def stories(house: House) -> dict[str, Revoking]:
    return revoke_in_turn(house, ("p256", "rsa2048"))


@pytest.fixture(params=["p256", "rsa2048"])
def revoking(stories: dict[str, Revoking], request: pytest.FixtureRequest) -> Revoking:
    """Holds, releases and revocations, below a root of each algorithm."""
    return stories[request.param]
