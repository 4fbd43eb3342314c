"""Root wants a list of revoked certificates that nobody approved, or an older one again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from tests.attacks.house import House
from tests.attacks.root import declined, refused

from tpmhsm.approval.request import Request
from tpmhsm.pki.crl import CrlHead, assemble_tbs
from tpmhsm.pki.crl_entries import Entry, encode_entry
from tpmhsm.pki.names import parse_dn
from tpmhsm.pki.signatures import signature_algorithm

NOW = datetime.now(UTC).replace(microsecond=0)


def tbs(house: House, *serials: int, number: int = 1) -> bytes:
    """A CRL of "root" that revokes these."""
    row = house.app.keyring.get("root")
    head = CrlHead(
        issuer=parse_dn("CN=Example root,O=Example").public_bytes(),
        algorithm=signature_algorithm(house.app.keyring.public_key(row), row.hash),
        ski=sha256(row.spki).digest()[:20],
        number=number,
        this_update=NOW,
        next_update=NOW + timedelta(days=7, seconds=-1),
    )
    return assemble_tbs(head, [encode_entry(Entry(s, NOW, "keyCompromise")) for s in serials])


def draft(house: House, *serials: int, number: int = 1, **claims: object) -> Request:
    return house.draft("crl", tbs(house, *serials, number=number), **claims)


def seen(house: House, request: Request) -> dict[str, str]:
    """What alice's tool makes her look at twice."""
    found = house.machines["alice"].look(request.data)
    return {flag.head: flag.text for flag in (*found.flags, *found.content.flags)}


def test_an_approved_crl_and_other_bytes(house: House) -> None:
    """The approvals of one CRL sign neither another one nor a certificate."""
    request = draft(house, 5, 6)
    approvals = tuple(house.machines[name].approve(request.data) for name in ("alice", "bob"))
    loot = house.loot_of(replace(request, approvals=approvals))
    others = (tbs(house, 5), tbs(house, 5, 6, number=2), house.loot.request.content)
    with house.root() as root:
        for other in others:
            with refused(0x99D, "Sign"):
                root.try_sign(digest=sha256(other).digest(), loot=loot)
        root.honest(loot)


def test_a_crl_whose_number_went_back(house: House) -> None:
    """An old list, in which the stolen certificate is still good."""
    alice = house.machines["alice"]
    alice.approve(draft(house, 5, 6, number=7).data)
    flags = seen(house, draft(house, 5, number=6, texts={"number": "6"}))
    assert flags["NUMBER"] == "6 is not greater than 7, which you approved"
    assert "DROPPED" in flags
    assert "NUMBER" not in seen(house, draft(house, 5, 6, 7, number=8))


def test_a_revocation_taken_back(house: House) -> None:
    """The host says that nothing changed; the list that alice approved says otherwise."""
    house.machines["alice"].approve(draft(house, 5, 6).data)
    claims = {"changes": "0 since number 1 (1 entries)", "entries": "1", "number": "2"}
    flags = seen(house, draft(house, 5, number=2, texts=claims))
    assert flags["DROPPED"].startswith("1 revoked certificate is off the list")


def test_a_crl_under_the_name_of_something_else(still: House) -> None:
    """A CRL as a certificate or CSR, and the other way round."""
    alice, crl = still.machines["alice"], tbs(still, 5)
    for kind, content in (
        ("certificate", crl),
        ("csr", crl),
        ("crl", still.loot.request.content),
        ("crl", crl + b"\0"),
    ):
        with declined("content-refused"):
            alice.look(still.draft(kind, content).data)
    assert alice.look(still.draft("crl", crl).data).acts
