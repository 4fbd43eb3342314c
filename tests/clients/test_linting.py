"""pkilint reads everything that the house issued: certificates, pairs of them, CRLs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from tests.clients.house import Chain, House
from tests.clients.revoking import Revoking
from tests.clients.test_chains import SERVERS

pkix = pytest.importorskip("pkilint.bin.lint_pkix_cert", reason="pkilint is not installed")
pair = pytest.importorskip("pkilint.bin.lint_pkix_signer_signee_cert_chain")
crls = pytest.importorskip("pkilint.bin.lint_crl")

# Its programs leave the closing of files to the interpreter.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")

CLIENTS = ("p256-client", "p384-client", "rsa2048-client")
# RFC 5280 has no wildcards; RFC 9525 has them.
WILDCARD = "pkix.invalid_domain_name_syntax"
# Baseline Requirements 4.9.13: certificates of the web's authorities are never suspended.
NO_HOLD = "cabf.crl_prohibited_reason_code"

Lint = Callable[..., set[str]]


@pytest.fixture
def lint(capsys: pytest.CaptureFixture[str]) -> Lint:
    """The codes of all findings, from a warning upwards."""

    def run(main: Callable[[list[str]], int], *words: str | Path) -> set[str]:
        main(["lint", "-s", "WARNING", "-f", "JSON", *map(str, words)])
        results = json.loads(capsys.readouterr().out)["results"]
        return {found["code"] for one in results for found in one["finding_descriptions"]}

    return run


def parts(chains: Iterable[Chain], place: Path) -> list[list[Path]]:
    """The certificates of each chain, one a file, leaf to root."""
    found = []
    for chain in chains:
        blocks = (chain.chain.read_text() + chain.root.read_text()).split("-----BEGIN")[1:]
        files = [place / f"{chain.name}-{number}.pem" for number in range(len(blocks))]
        for file, block in zip(files, blocks, strict=True):
            file.write_text("-----BEGIN" + block)
        found.append(files)
    return found


def test_certificates(house: House, tmp_path: Path, lint: Lint) -> None:
    names = (*SERVERS, *CLIENTS, "expired")
    for leaf, *above in parts([house.chains[name] for name in names], tmp_path):
        assert lint(pkix.main, leaf) == (set() if "client" in leaf.name else {WILDCARD})
        for file in above:
            assert not lint(pkix.main, file), file


def test_neighbours(house: House, tmp_path: Path, lint: Lint) -> None:
    for files in parts([house.chains[name] for name in (*SERVERS, *CLIENTS)], tmp_path):
        for issuer, subject in zip(files[1:], files, strict=False):
            assert not lint(pair.main, issuer, subject)


@pytest.mark.parametrize("profile", ["PKIX", "BR"])
def test_crls(revoking: Revoking, profile: str, lint: Lint) -> None:
    for kind, files in (("ARL", revoking.root), ("CRL", revoking.issuing)):
        for state, file in files.items():
            found = lint(crls.main, "-t", kind, "-p", profile, file)
            assert found == ({NO_HOLD} if (profile, state) == ("BR", "held") else set()), file
