"""A house with keys in memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ca.doubles import House, SoftSigner

from tpmhsm.store import Store


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with Store.create(tmp_path) as store:
        signer = SoftSigner()
        for label in ("root", "issuing", "leaf"):
            signer.make(store, label)
        signer.make(store, "guarded", guarded=True)
        yield House(tmp_path, store, signer)
        store.check()
