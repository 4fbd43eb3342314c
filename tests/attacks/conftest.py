"""A house with a group, keys and stolen approvals: built once, copied for whoever changes it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import pytest
from tests.approval.doubles import World
from tests.approval.looking import founded
from tests.attacks.auditor import Auditor
from tests.attacks.house import House
from tests.attest.collecting import collect
from tests.tpm.conftest import end, left_behind

from tpmhsm.approval.memory import InMemory
from tpmhsm.cli.app import App
from tpmhsm.tpm import software
from tpmhsm.tpm.lock import is_dirty


class _Home(Protocol):
    @property
    def app(self) -> App: ...


H = TypeVar("H", bound=_Home)


@contextmanager
def checked(house: H) -> Iterator[H]:
    """At the end: nothing left in the chip, everything stopped."""
    directory = software.directory_of(house.app.home)
    try:
        yield house
        if software.running(directory):
            assert left_behind(directory) == []
            assert not is_dirty(directory / "lock")
    finally:
        house.app.close()
        house.app.store.close()
        end(directory)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> House:
    """The original, closed. Alice, bob and carol are officers and custodians, 2 of 3; two of them
    approved a certificate by the key "root" (and by "rsa"), and root has their approvals. "papers"
    is a key of theirs that is no authority's, "open" a key without people.
    """
    if not shutil.which("swtpm_setup"):
        pytest.skip("swtpm and swtpm-tools are not installed")
    house = House.build(tmp_path_factory.mktemp("house") / "original")
    with checked(house):
        house.found()
        house.app.keyring.create("open", "p256", policy="open")
        house.key("papers")
        for label, alg in (("root", "p256"), ("rsa", "rsa2048")):
            house.key(label, alg)
            asked = house.propose(label, f"CN=Example {label},O=Example")
            house.loots[label] = house.steal(asked)
    return house


@pytest.fixture(scope="module")
def still(built: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house in which nothing that lasts may be changed."""
    with checked(built.copy(tmp_path_factory.mktemp("still") / "home")) as house:
        yield house


@pytest.fixture
def house(built: House, tmp_path: Path) -> Iterator[House]:
    """A house of one's own."""
    with checked(built.copy(tmp_path / "home")) as house:
        yield house


@pytest.fixture(scope="module")
def auditor(still: House) -> Auditor:
    """Who judges evidence of that house."""
    return Auditor(still, collect(still))


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def memory(world: World) -> InMemory:
    return founded(world)
