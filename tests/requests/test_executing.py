"""Many approved requests at a time."""

from __future__ import annotations

import pytest
from tests.support.shell import Shell

from tpmhsm.cli.app import App
from tpmhsm.errors import WaitingError
from tpmhsm.store import Store
from tpmhsm.tpm import software


@pytest.mark.parametrize("workers", [0, 1])
def test_all_are_executed_and_kept(governed: Shell, workers: int) -> None:
    numbers = []
    for name in ("a", "b", "c", "d"):
        governed("csr", "create", "web", "--san", f"dns:{name}.example.com", "--out", name)
        number = governed.ask("ca", "sign", "root-ca", name)
        digest = governed.json("request", "show", str(number))["digest"]
        governed.approve(str(number), "alice", digest)
        # the last approval is kept, and the chip is not there to execute it
        state = governed.tpm / "chip"
        software.stop(governed.tpm)
        state.rename(governed.tpm / "away")
        governed.attempt(
            *("approve", str(number), "--as", "bob", "-i", "bob.key", "--expect", digest),
            *("--passphrase-file", "passphrase"),
        )
        (governed.tpm / "away").rename(state)
        numbers.append(number)
    waiting = governed.ask("ca", "sign", "root-ca", "web.csr")
    app = App(home=governed.home)
    with app.desk.executing(workers) as executing:
        futures = [executing.execute(number) for number in numbers]
        rows = [future.result(60) for future in futures]
        with pytest.raises(WaitingError):
            executing.execute(waiting).result(60)
        assert executing.execute(numbers[0]).result(60).state == "executed"
    app.close()
    assert [row.state for row in rows] == ["executed"] * 4
    with Store.open(governed.home) as store, store.reading() as tx:
        for row in rows:
            assert tx.certificates.find(row.result["sha256"]) is not None
            assert tx.serials.of_request(row.id).state == "issued"
    assert governed.json("doctor", "store")["ok"] is True
