"""Files between two hosts, which whoever carries them may write: a key's backup, copies that other
people than its custodians approved, a home's backup.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.attacks.chips import Pair
from tests.attacks.conftest import checked

from tpmhsm.approval.backup_file import BackupFile, parse_backup
from tpmhsm.approval.ceremony import parse_ceremony, parse_ceremony_approval
from tpmhsm.approval.live import parse_answer
from tpmhsm.approval.minutes import parse_minutes
from tpmhsm.attest.credential import make_challenge, parse_challenge
from tpmhsm.cli.crl_files import certificate_file, crl_file
from tpmhsm.errors import ParseError, UsageError, VerificationError
from tpmhsm.policy import moments
from tpmhsm.requests.joining import parse_export


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pair, BackupFile]]:
    """Both chips hold the group; "root", an authority's key, was approved to be copied."""
    if not shutil.which("swtpm_setup"):
        pytest.skip("swtpm and swtpm-tools are not installed")
    pair = Pair.build(tmp_path_factory.mktemp("couriers") / "original")
    with checked(pair.first), checked(pair.second):
        pair.key("root")
        asked = pair.first.propose("root", "CN=Root,O=Example", "root-ca")
        pair.first.settle(asked)
        pair.join()
        yield pair, pair.backup()


def written(file: BackupFile, **changes: Any) -> bytes:
    """The file, with other words on its authorities."""
    document = json.loads(file.data)
    document["authorities"] = [{**one, **changes} for one in document["authorities"]]
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


NAMES = ["../../elsewhere", "/tmp/elsewhere", "a\x1b]0;x\x07", "ro\u202eot", "", "x" * 65, "-rf"]


def test_names_that_are_paths(built: tuple[Pair, BackupFile]) -> None:
    """Files below `public` are called as an authority is; nothing is written elsewhere."""
    pair, file = built
    assert [one["name"] for one in file.authorities] == ["root-ca"]
    assert parse_backup(written(file)) == file
    for name in NAMES:
        for field in ("name", "profile"):
            with pytest.raises(ParseError):
                parse_backup(written(file, **{field: name}))
        for path in (crl_file, certificate_file):
            with pytest.raises(UsageError):
                path(pair.second.app, name)


def test_a_backup_that_nobody_approved(built: tuple[Pair, BackupFile]) -> None:
    """Anybody can wrap a key of his own for the storage key of the second chip, under the label of
    the true one. That custodians approved this very one, he cannot show.
    """
    pair, file = built
    given = file.request.approvals
    for approvals in ((), given[:1], (given[0], given[0])):
        with pytest.raises(VerificationError) as refused:
            pair.second.app.desk.copies.restore(
                replace(file, request=replace(file.request, approvals=approvals))
            )
        assert refused.value.code == "not-approved"
    with pair.second.app.store.reading() as tx:
        assert tx.keys.find("root") is None


def test_files_that_two_readers_read_differently(built: tuple[Pair, BackupFile]) -> None:
    """A field twice, one more, a number for a text, deep nesting, too much: each kind of file."""
    pair, file = built
    device = pair.second.app.desk.drafts.own_card()
    kept = make_challenge(device.ek_public, device.ak_public, moments.now())
    kinds: list[tuple[Callable[[bytes], object], bytes]] = [
        (parse_backup, file.data),
        (parse_export, pair.first.app.desk.joining.export("officers")),
        (parse_answer, pair.answer("bob")),
        (parse_challenge, kept.challenge.encoded),
        (parse_ceremony, b'{"format":"tpmhsm/ceremony/1","requests":[]}'),
        (parse_ceremony_approval, b'{"approvals":[],"ceremony":"","format":"x"}'),
        (parse_minutes, b'{"format":"tpmhsm/minutes/1"}'),
    ]
    for parse, data in kinds:
        if len(data) > 100:
            parse(data)
        start = data.index(b'"format":')
        for added in (
            data[start : data.index(b'"', start + 9 + 1) + 1],
            b'"more":1',
            b'"\\u0066ormat":"x"',
            b'"more":' + b"[" * 100_000,
            b'"more":"\\ud800"',
            b'"more":NaN',
            b'"more":"' + b"x" * (40 << 20) + b'"',
        ):
            with pytest.raises(ParseError):
                parse(data[:start] + added + b"," + data[start:])
