"""A store on each database: SQLite always, PostgreSQL when a server can be started here."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tpmhsm.store import Store


class Postgres:
    """A PostgreSQL server of our own on a unix socket; `url()` makes a new empty database."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        self.directory = Path(tempfile.mkdtemp(prefix="tpmhsm-pg-"))
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(self.directory, self.user)
        data = str(self.directory / "data")
        self._run("initdb", "-D", data, "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8")
        options = f"-k {self.directory} -c listen_addresses= -c fsync=off"
        self._run("pg_ctl", "-D", data, "-w", "-l", f"{data}/log", "-o", options, "start")
        self.count = 0

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [self.programs / name, *arguments],
            user=self.user,
            cwd=self.directory,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )

    def url(self) -> str:
        self.count += 1
        name = f"t{self.count}"
        self._run("createdb", "-h", str(self.directory), "-U", "postgres", name)
        return f"postgresql://postgres@/{name}?host={self.directory}"

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.directory / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self.directory)


@pytest.fixture(scope="session")
def postgres():
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs or not (programs[-1] / "initdb").exists():
        pytest.skip("no PostgreSQL server on this machine")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed")
    server = Postgres(programs[-1])
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request, tmp_path):
    """A home without a database, or the URL of an empty PostgreSQL database."""
    if request.param == "sqlite":
        return tmp_path / "home"
    return request.getfixturevalue("postgres").url()


@pytest.fixture
def store(where):
    with Store.create(where) as made:
        yield made


@pytest.fixture
def tx(store):
    with store.transaction() as transaction:
        yield transaction


@pytest.fixture
def home(tmp_path):
    """A home with an SQLite database."""
    Store.create(tmp_path / "home").close()
    return tmp_path / "home"
