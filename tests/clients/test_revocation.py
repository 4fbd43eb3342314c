"""Programs that are not ours follow a hold, a release and a revocation by the product's CRLs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from tests.clients.house import House
from tests.clients.nss import Nss
from tests.clients.revoking import Revoking
from tests.clients.verdict import Client, Question, accepts, needs, refuses, run

CLIENTS = ("openssl", "gnutls", "nss", "java")
everywhere = pytest.mark.parametrize("client", CLIENTS, indirect=True)

REVOKED = {
    "openssl": "error 23 at 0 depth lookup: certificate revoked",
    "gnutls": "The certificate chain is revoked|certificate is revoked",
    "nss": "Peer's Certificate has been revoked",
    "java": "CertPathValidatorException REVOKED at 0: Certificate has been revoked",
}
ABOVE = REVOKED | {
    "openssl": "error 23 at 1 depth lookup: certificate revoked",
    "java": "CertPathValidatorException REVOKED at 1: Certificate has been revoked",
}


@everywhere
@pytest.mark.parametrize("state", ["clean", "released"])
@pytest.mark.parametrize("which", ["leaf", "intermediate"])
def test_what_is_not_revoked_is_accepted(
    revoking: Revoking, client: Client, which: str, state: str
) -> None:
    accepts(client, Question(revoking.leaf, crls=revoking.crls(**{which: state})))


@everywhere
@pytest.mark.parametrize("state", ["held", "revoked"])
def test_a_leaf_is_refused(revoking: Revoking, client: Client, named: str, state: str) -> None:
    crls = revoking.crls(leaf=state)
    refuses(client, Question(revoking.leaf, crls=crls), REVOKED[named])
    accepts(client, Question(revoking.other, crls=crls))


@everywhere
@pytest.mark.parametrize("state", ["held", "revoked"])
def test_all_below_an_intermediate_is_refused(
    revoking: Revoking, client: Client, named: str, state: str
) -> None:
    for chain in (revoking.leaf, revoking.other):
        refuses(client, Question(chain, crls=revoking.crls(intermediate=state)), ABOVE[named])


@pytest.mark.parametrize("which", ["leaf", "intermediate"])
def test_our_own_verdicts_are_theirs(revoking: Revoking, house: House, which: str) -> None:
    chain = revoking.leaf
    words = ("cert", "verify", chain.leaf, "--trust", chain.root, "--untrusted", chain.chain)
    for state, code in (("clean", 0), ("held", 1), ("released", 0), ("revoked", 1)):
        crls = (word for crl in revoking.crls(**{which: state}) for word in ("--crl", crl))
        found = house.machine("--json", *words, *crls, code=code).json
        assert code == 0 or "revoked" in found["error"]["message"], found


@pytest.mark.parametrize("client", ["openssl", "java"], indirect=True)
def test_a_missing_crl_is_missed(revoking: Revoking, client: Client, named: str) -> None:
    reasons = {"openssl": "error 3 at 0 depth lookup: unable to get certificate CRL",
               "java": "UNDETERMINED_REVOCATION_STATUS"}  # fmt: skip
    refuses(client, Question(revoking.leaf, crls=revoking.crls()[:1]), reasons[named])


@pytest.mark.parametrize("client", ["openssl", "java"], indirect=True)
def test_a_stale_crl_is_no_news(revoking: Revoking, client: Client, named: str) -> None:
    reasons = {"openssl": "error 12 at 0 depth lookup: CRL has expired",
               "java": "UNDETERMINED_REVOCATION_STATUS"}  # fmt: skip
    crl = x509.load_pem_x509_crl(revoking.issuing["clean"].read_bytes())
    assert crl.next_update_utc
    end, crls = crl.next_update_utc, revoking.crls()
    accepts(client, Question(revoking.leaf, at=end - timedelta(minutes=1), crls=crls))
    late = end + timedelta(minutes=20)  # Java forgives a quarter of an hour
    refuses(client, Question(revoking.leaf, at=late, crls=crls), reasons[named])


def test_nss_replaces_each_crl_by_the_next(revoking: Revoking, nss: Nss) -> None:
    database = nss.database(revoking.leaf, revoking.root["clean"])
    for state, good in (("clean", True), ("held", False), ("released", True), ("revoked", False)):
        nss.take_crl(database, revoking.issuing[state])
        code, said = run("certutil", "-V", "-d", database, "-n", "0", "-u", "V")
        assert (code == 0) is good, f"{state}: {said}"


@pytest.mark.parametrize("program", ["certtool", "openssl"])
def test_each_crl_is_verified(revoking: Revoking, program: str) -> None:
    needs(program)
    issuers = dict.fromkeys(revoking.root.values(), revoking.leaf.root)
    issuers |= dict.fromkeys(revoking.issuing.values(), revoking.leaf.between)
    assert len(issuers) == 8
    for crl, issuer in issuers.items():
        words = {
            "certtool": ["--verify-crl", "--load-ca-certificate", issuer, "--infile", crl],
            "openssl": ["crl", "-noout", "-CAfile", issuer, "-in", crl],
        }
        code, said = run(program, *words[program])
        assert code == 0, said
        assert "Verified." in said or "verify OK" in said
