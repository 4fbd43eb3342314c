"""A second chip, and custodians who ask it themselves before a key is copied there."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from tpmhsm.approval.live import parse_answer
from tpmhsm.approval.second_chips import Means, check_second_chip
from tpmhsm.attest.credential import make_challenge
from tpmhsm.cli.app import App
from tpmhsm.cli.attacks.house import GROUP, House, Person
from tpmhsm.cli.attacks.scene import Scene
from tpmhsm.cli.people import trust_cards
from tpmhsm.policy import moments
from tpmhsm.requests.certifying import answer_challenge
from tpmhsm.requests.joining import parse_export
from tpmhsm.requests.memory import StoredMemory
from tpmhsm.tpm import software


def low_counter(scene: Scene) -> None:
    """The second chip does not hear of a change, and is shown to a custodian."""
    house, carol = scene.house, scene.house.people["carol"]
    with _second(house) as second:
        card = second.desk.drafts.own_card().data
        trust_cards(carol.app, [("second.card", card)])
        _join(house, second)
        scene.honest("carol asks a second chip that has joined the group",
                     lambda: _ask(carol, second))  # fmt: skip
        house.change()
        scene.declined("she asks again, after a change that root kept from it", "counter-behind",
                       lambda: _ask(carol, second))  # fmt: skip
        _join(house, second)
        scene.honest("… and when it has heard of the change", lambda: _ask(carol, second))


@contextmanager
def _second(house: House) -> Iterator[App]:
    """Another host with a software TPM of its own."""
    home = house.stage.directory / f"second-{secrets.token_hex(4)}"
    house.stage.run("init", home=home)
    app = App(home=home, tpm="software")
    try:
        yield app
    finally:
        app.close()
        software.stop(software.directory_of(home))


def _join(house: House, second: App) -> None:
    """As `group export` on the one host and `group join` on the other do."""
    second.desk.joining.join(parse_export(house.app.desk.joining.export(GROUP)))


def _ask(person: Person, second: App) -> None:
    """As `trust challenge`, `group certify --challenge` and `trust check` do."""
    card = second.desk.drafts.own_card()
    kept = make_challenge(card.ek_public, card.ak_public, moments.now())
    with person.app.own_store().transaction() as tx:
        StoredMemory(tx).await_answer(kept.challenge.digest)
    asked = kept.challenge.encoded
    answer = parse_answer(
        answer_challenge(second.store, second.device, second.groups, GROUP, asked)
    )
    with person.app.own_store().transaction() as tx:
        memory = StoredMemory(tx)
        means = Means(kept, moments.now() + timedelta(seconds=1))
        memory.keep(check_second_chip(answer, memory, means))
