"""A line of authorities whose certificates are held, released and revoked, with a CRL of each time.

The story runs once, through the command line; what it leaves is a file for each CRL.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.clients.house import Chain, House


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


def revoke_in_turn(house: House, alg: str) -> Revoking:
    """All that can happen to a certificate, to a leaf and to an intermediate."""
    top, below = f"{alg}-crl-root", f"{alg}-crl-issuing"
    house.authority(top, alg)
    house.authority(below, alg, "--issuer", top)
    leaves = [
        house.leaf(f"{alg}-crl-{n}", below, "", (f"dns:{n}.example.com",), alg="p256")
        for n in ("leaf", "other")
    ]
    return Revoking(
        *leaves,
        issuing=_story(house, below, leaves[0].leaf, "keyCompromise"),
        root=_story(house, top, house.path / f"{below}.pem", "cACompromise"),
    )


def _story(house: House, ca: str, certificate: Path, reason: str) -> dict[str, Path]:
    acts = {
        "clean": (),
        "held": ("hold", ca, certificate),
        "released": ("release", ca, certificate),
        "revoked": ("revoke", ca, certificate, "--reason", reason,
                    "--invalidity-date", "2026-01-01T00:00:00Z"),
    }  # fmt: skip
    found = {}
    for state, act in acts.items():
        if act:
            house.machine("ca", *act)
        found[state] = house.path / f"{ca}-{state}.crl"
        house.machine("ca", "crl", ca, "--out", found[state])
    return found
