"""A line of authorities whose certificates are held, released and revoked, with a CRL of each time.

The story runs once, through the command line; what it leaves is a file for each CRL.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.clients.house import Chain, House

STATES: dict[str, tuple[str, ...]] = {
    "clean": (),
    "held": ("hold",),
    "released": ("release",),
    "revoked": ("revoke", "--reason", "superseded", "--invalidity-date", "2026-01-01T00:00:00Z"),
}


@dataclass(frozen=True)
class Revoking:
    """`leaf` and `other` below one intermediate; CRLs of root and intermediate by state.

    Of the intermediate: `clean`, `held`, `released`, `revoked` (the leaf's); of the root the same
    for the intermediate's certificate.
    """

    leaf: Chain
    other: Chain
    issuing: dict[str, Path]
    root: dict[str, Path]

    def crls(self, *, leaf: str = "clean", intermediate: str = "clean") -> tuple[Path, ...]:
        """The two CRLs that a client has."""
        return self.root[intermediate], self.issuing[leaf]


def revoke_in_turn(house: House, algorithms: tuple[str, ...]) -> dict[str, Revoking]:
    """All that can happen to a leaf and to an intermediate, for each algorithm."""
    chains = {alg: _line(house, alg) for alg in algorithms}
    found: dict[str, dict[str, Path]] = {}
    for state in STATES:  # one after the other for all: two CRLs of an authority take two seconds
        for alg, (leaf, _) in chains.items():
            below = house.path / f"{alg}-crl-issuing.pem"
            for ca, certificate in ((f"{alg}-crl-issuing", leaf.leaf), (f"{alg}-crl-root", below)):
                found.setdefault(ca, {})[state] = _crl(house, ca, certificate, state)
    return {
        alg: Revoking(*chains[alg], found[f"{alg}-crl-issuing"], found[f"{alg}-crl-root"])
        for alg in algorithms
    }


def _line(house: House, alg: str) -> tuple[Chain, Chain]:
    root, issuing = f"{alg}-crl-root", f"{alg}-crl-issuing"
    if alg == "p256":  # certificates that say where CRLs are found, and others that do not
        with (house.machine.home / "tpmhsm.toml").open("a") as settings:
            for ca in (root, issuing):
                settings.write(f'\n[ca.{ca}]\nbase_url = "http://127.0.0.1:9"\n')
    house.authority(root, alg)
    house.authority(issuing, alg, "--issuer", root)
    leaf, other = (
        house.leaf(f"{alg}-crl-{n}", issuing, "", (f"dns:{n}.example.com",), alg="p256")
        for n in ("leaf", "other")
    )
    return leaf, other


def _crl(house: House, ca: str, certificate: Path, state: str) -> Path:
    if act := STATES[state]:
        verb, *options = act
        house.machine("ca", verb, ca, certificate, *options)
    file = house.path / f"{ca}-{state}.crl"
    house.machine("ca", "crl", ca, "--out", file)
    return file
