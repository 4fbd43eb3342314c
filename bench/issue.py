"""Issuances against the bare chip, on one software TPM in one run.

`open`: a CSR goes in, a durably stored certificate comes out, 32 in flight; against bare TPM2_Sign
with the same key. `quorum`: requests for certificates, approved by two of three beforehand, are
executed, 32 in flight, until the certificates are stored; against the bare sequence of policy
commands, its plan made beforehand. Median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from hashlib import sha256
from itertools import cycle
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support.shell import Shell, govern, new_machine

from bench.rounds import Contestant, Outcome, alternate
from tpmhsm.ca.authority import Authorities
from tpmhsm.ca.pipeline import Certified
from tpmhsm.cli.app import App
from tpmhsm.keys.host import load_host
from tpmhsm.pki.csr import CsrContent, prepare_csr
from tpmhsm.pki.names import parse_dn
from tpmhsm.pki.sans import host_san
from tpmhsm.tpm import objects, software

DIGEST = sha256(b"to be signed").digest()
IN_FLIGHT = 32


@contextmanager
def machine() -> Iterator[Shell]:
    """A home with the open authority `open-ca` and the authority `root-ca` of a 2-of-3 group."""
    path = Path(tempfile.mkdtemp(prefix="tpmhsm-"))
    shell = new_machine(path)
    try:
        govern(shell)
        yield shell
    finally:
        software.stop(shell.tpm)
        shutil.rmtree(path, ignore_errors=True)


def make_csr(number: int) -> bytes:
    """A CSR by a key of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    host = f"host-{number}.example.com"
    content = CsrContent(parse_dn(f"CN={host}"), sans=(host_san(host),))
    unsigned = prepare_csr(key.public_key(), content, "sha256")
    return unsigned.complete(key.sign(unsigned.tbs, ec.ECDSA(hashes.SHA256())))


def bare_open(app: App) -> Contestant:
    """TPM2_Sign, one after another on one connection."""

    @contextmanager
    def open_() -> Iterator[Callable[[], object]]:
        row = app.keyring.get("open-root")
        with app.device.transaction() as chip:
            parent = objects.storage_parent(chip, load_host(app.store).parent_name)
            key = objects.load_key(chip, parent, row.public, row.private)
            yield lambda: objects.sign_digest(chip, key, DIGEST)

    return open_


def issue_open(authorities: Authorities, csrs: Iterator[bytes]) -> Contestant:
    """CSR in, certificate out: an act is one CSR more, and the oldest certificate."""

    @contextmanager
    def open_() -> Iterator[Callable[[], object]]:
        flying: deque[Future[Certified]] = deque()

        def act() -> None:
            while len(flying) < IN_FLIGHT:
                flying.append(issuer.sign("open-ca", next(csrs), profile="tls-server"))
            flying.popleft().result()

        with authorities.issuer() as issuer:
            yield act

    return open_


def report(name: str, outcome: Outcome) -> None:
    print(f"{name}: {outcome.first:.0f} issued/s, {outcome.second:.0f}/s by the bare chip")
    print(f"RESULT issue {name} {outcome.ratio:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench issue", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each round")
    asked = parser.parse_args()
    with machine() as shell:
        app = App(home=shell.home)
        try:
            csrs = cycle([make_csr(n) for n in range(500)])
            contestant = issue_open(app.authorities, csrs)
            report("open", alternate(contestant, bare_open(app), asked.rounds, asked.seconds))
        finally:
            app.close()


if __name__ == "__main__":
    main()
