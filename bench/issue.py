"""Issuances against the bare chip, on one software TPM in one run.

`open`: a CSR goes in, a durably stored certificate comes out, 32 in flight; against bare TPM2_Sign
with the same P-256 key. `open-ALG`: the same with authorities of other keys, for which the software
TPM takes longer: they tell how fast a chip may be before it is no more the bottleneck.

`quorum`: requests for certificates, approved by two of three beforehand, are executed, 32 in
flight, until the certificates are stored; against the bare sequence of policy commands, its plan
made beforehand. Each the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import new
from itertools import count, cycle
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support.cli import PASSPHRASE
from tests.support.shell import Shell, govern, new_machine

from bench.rounds import Contestant, Outcome, alternate
from tpmhsm.approval.acts import acts_of, rule_of, sign_ahash
from tpmhsm.approval.content import short_facts
from tpmhsm.approval.filekey import FileIdentity, open_file_key
from tpmhsm.approval.request import Request
from tpmhsm.approval.votes import ActSignature, Approval
from tpmhsm.attest.statements import signing_key
from tpmhsm.ca.authority import Authorities
from tpmhsm.ca.pipeline import Certified
from tpmhsm.cli.app import App
from tpmhsm.errors import WaitingError
from tpmhsm.keys.host import load_host
from tpmhsm.pki.csr import CsrContent, prepare_csr
from tpmhsm.pki.names import parse_dn
from tpmhsm.pki.sans import host_san
from tpmhsm.policy import moments
from tpmhsm.policy.approver import key_identity, spki_of
from tpmhsm.policy.people import members_of
from tpmhsm.requests.executing import ready
from tpmhsm.store.requests import ApprovalRow, RequestRow
from tpmhsm.tpm import objects, policies, software

IN_FLIGHT = 32
SLOWER = ("p384", "rsa2048", "rsa3072")
"""Other keys of authorities."""


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


def bare_open(app: App, key: str) -> Contestant:
    """TPM2_Sign with a key, one after another on one connection."""

    @contextmanager
    def open_() -> Iterator[Callable[[], object]]:
        row = app.keyring.get(key)
        with app.device.transaction() as chip:
            parent = objects.storage_parent(chip, load_host(app.store).parent_name)
            loaded = objects.load_key(chip, parent, row.public, row.private)
            digest = new(row.hash, b"to be signed").digest()
            yield lambda: objects.sign_digest(chip, loaded, digest)

    return open_


def issue_open(
    authorities: Authorities, name: str, csrs: Iterator[bytes], tally: Tally
) -> Contestant:
    """CSR in, certificate out: an act is one CSR more, and the oldest certificate."""

    @contextmanager
    def open_() -> Iterator[Callable[[], object]]:
        flying: deque[Future[Certified]] = deque()

        def act() -> None:
            while len(flying) < IN_FLIGHT:
                flying.append(issuer.sign(name, next(csrs), profile="tls-server"))
            flying.popleft().result()
            tally.issued += 1

        with authorities.issuer() as issuer:
            yield act
            for future in flying:
                future.result()
            tally.issued += len(flying)
        tally.commands += issuer.commands

    return open_


# --- a quorum's key -------------------------------------------------------------------------------


class Approved:
    """Requests for certificates that two of three have approved and nobody has executed."""

    def __init__(self, shell: Shell, app: App) -> None:
        self._app = app
        self._csrs = map(make_csr, count())
        self._numbers: deque[int] = deque()
        # no passphrases and screens here: what is measured begins when the approvals are in
        self._people = [
            open_file_key(shell.path / f"{name}.key", lambda _: PASSPHRASE.encode())
            for name in ("alice", "bob")
        ]

    def ready(self, many: int) -> deque[int]:
        """The requests' numbers: what is left, and as many more as are needed."""
        while len(self._numbers) < many:
            self._numbers.append(self._one())
        return self._numbers

    def _one(self) -> int:
        try:
            self._app.authorities.sign("root-ca", next(self._csrs), profile="tls-server")
        except WaitingError as waiting:
            number = waiting.request
        request = self._app.desk.request(number)
        rows = [
            ApprovalRow(number, one.approver, one.key_kind, one.data)
            for one in (approve(request, person) for person in self._people)
        ]
        with self._app.store.transaction() as tx:
            for row in rows:
                tx.requests.approve(row)
        return number


def approve(request: Request, person: FileIdentity) -> Approval:
    """What `tpmhsm approve` signs, without its review."""
    acts = [act for act in acts_of(request) if act.concerns(person.public_key)]
    (member,) = [
        member
        for member in members_of(rule_of(request))
        if key_identity(member.key) == key_identity(person.public_key)
    ]
    assert request.key and request.roster
    return Approval(
        request=request.id,
        kind=request.kind,
        digest=request.digest,
        group=request.group.id,
        epoch=request.roster.epoch,
        key_name=signing_key(request.key.public).name,
        approver=member.name,
        spki=spki_of(person.public_key),
        key_kind=person.kind,
        created=moments.now(),
        facts=short_facts(request),
        signatures=tuple(
            ActSignature(act.cp_hash, act.policy_ref, sign_ahash(person, act)) for act in acts
        ),
    )


def bare_quorum(app: App, number: int) -> Contestant:
    """The policy session of one approved request, over and over on one connection."""

    @contextmanager
    def open_() -> Iterator[Callable[[], object]]:
        request = app.desk.request(number)
        row = app.keyring.get("root")
        documents = tuple(one.document for one in app.desk.approvals(number))
        wanted = ready(request.data, documents, row.hash)
        plan = wanted.plan(row.public)
        with app.device.transaction() as chip:
            parent = objects.storage_parent(chip, load_host(app.store).parent_name)
            key = objects.load_key(chip, parent, row.public, row.private)
            command = objects.sign_command(key, wanted.digest)
            yield lambda: policies.execute(chip, plan, command)

    return open_


def issue_quorum(app: App, approved: Approved, many: int, tally: Tally) -> Contestant:
    """Approvals in, certificate out; `many` requests are approved when a round begins."""

    @contextmanager
    def open_() -> Iterator[Callable[[], object]]:
        flying: deque[Future[RequestRow]] = deque()
        numbers = approved.ready(many)

        def act() -> None:
            while len(flying) < IN_FLIGHT and numbers:
                flying.append(executing.execute(numbers.popleft()))
            if not flying:
                raise SystemExit("too few approved requests: --approved")
            flying.popleft().result()
            tally.issued += 1

        with app.desk.executing() as executing:
            yield act
            for future in flying:
                future.result()
            tally.issued += len(flying)
        tally.commands += executing.commands

    return open_


@dataclass
class Tally:
    """Certificates issued, and commands that the chip was sent for them."""

    issued: int = 0
    commands: int = 0


def report(name: str, outcome: Outcome, tally: Tally) -> None:
    each = tally.commands / tally.issued
    print(f"{name}: {outcome.first:.0f} issued/s, {outcome.second:.0f}/s by the bare chip")
    print(f"{name}: {each:.2f} TPM commands an issuance")
    print(f"RESULT issue {name} {outcome.ratio:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench issue", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each round")
    parser.add_argument(
        "--approved", type=int, default=1200, help="requests made before each round"
    )
    asked = parser.parse_args()
    with machine() as shell:
        keys = [("open", "open-root", "open-ca")]
        for alg in SLOWER:
            shell("key", "create", alg, "--alg", alg)
            shell("ca", "create", f"{alg}-ca", "--key", alg, "--subject", f"CN={alg},O=Example")
            keys.append((f"open-{alg}", alg, f"{alg}-ca"))
        app = App(home=shell.home)
        try:
            csrs = cycle([make_csr(n) for n in range(500)])
            for title, key, ca in keys:
                ours = issue_open(app.authorities, ca, csrs, tally := Tally())
                outcome = alternate(ours, bare_open(app, key), asked.rounds, asked.seconds)
                report(title, outcome, tally)
            approved, tally = Approved(shell, app), Tally()
            pattern = approved.ready(1).popleft()
            ours = issue_quorum(app, approved, asked.approved, tally)
            bare = bare_quorum(app, pattern)
            outcome = alternate(ours, bare, asked.rounds, asked.seconds / 2)
            report("quorum", outcome, tally)
        finally:
            app.close()


if __name__ == "__main__":
    main()
