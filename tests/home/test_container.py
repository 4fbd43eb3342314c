"""A backup's file: each byte of it is missed, whichever it is; what others wrote is refused."""

from __future__ import annotations

import io
import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpmhsm.errors import ParseError, RefusedError, UsageError
from tpmhsm.home import container, sealed
from tpmhsm.home.backup import Wanted, check_readable
from tpmhsm.home.container import Manifest, Part, read_backup, write_backup

FACTS = {"made": "2026-11-23T20:00:00Z", "database": {"schema": "0001"}}
FILES = {
    "tpmhsm.db": b"database" * 200,
    "tpmhsm.toml": b"",
    "tpm/chip/state/x.permall": b"\0" * 512,
}


@pytest.fixture(scope="module", autouse=True)
def _less_work() -> Iterator[None]:
    with mock.patch.object(sealed, "_P", 1):
        yield


def written(folder: Path, files: dict[str, bytes] = FILES) -> bytes:
    paths = {}
    for name, data in files.items():
        paths[name] = folder / name.replace("/", "_")
        paths[name].write_bytes(data)
    out = io.BytesIO()
    write_backup(out, FACTS, paths)
    return out.getvalue()


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return written(tmp_path_factory.mktemp("b"))


@pytest.fixture(scope="module")
def encrypted(backup: bytes) -> bytes:
    out = io.BytesIO()
    sealer = sealed.Sealer(out, b"secret", "2026-11-23T20:00:00Z")
    sealer.write(backup)
    sealer.write(bytes(200_000))
    sealer.finish()
    return out.getvalue()


def opened(data: bytes, passphrase: bytes = b"secret") -> bytes:
    source = io.BytesIO(data)
    head = sealed.read_head(source)
    return sealed.Opener(source, head, lambda _: passphrase).read(1 << 30)


def test_what_was_written_is_read(backup: bytes, tmp_path: Path) -> None:
    manifest = read_backup(io.BytesIO(backup), tmp_path / "into")
    assert manifest.facts == FACTS
    for name, data in FILES.items():
        assert (tmp_path / "into" / name).read_bytes() == data
        assert (tmp_path / "into" / name).stat().st_mode & 0o777 == 0o600


def test_tar_and_sha256sum_read_it_too(backup: bytes, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(backup)
    said = subprocess.run(["tar", "xvf", "b"], cwd=tmp_path, capture_output=True, check=True)
    assert said.stdout.decode().split() == ["manifest.json", *FILES, "manifest.sha256"]
    subprocess.run(["sha256sum", "-c", "manifest.sha256"], cwd=tmp_path, check=True)
    assert (tmp_path / "tpmhsm.db").read_bytes() == FILES["tpmhsm.db"]


def test_each_byte_is_missed(backup: bytes) -> None:
    """Every byte of headers, manifest, padding and end, and some of each file."""
    for place in range(len(backup)):
        changed = bytearray(backup)
        changed[place] ^= 1
        with pytest.raises(ParseError):
            read_backup(io.BytesIO(changed))


@given(st.data())
def test_cut_grown_or_mixed(backup: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(backup) - 1))
    changed = data.draw(
        st.sampled_from([backup[:cut], backup + backup[:1], backup[cut:] + backup[:cut]])
    )
    if changed != backup:
        with pytest.raises(ParseError):
            read_backup(io.BytesIO(changed))


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "tpm/chip/../../x", "tpm/chip/.", "x", "chip.journal", "tpm/chip/a b"],
)
def test_no_other_files(name: str, tmp_path: Path) -> None:
    parts = (Part("tpmhsm.db", 0, "0" * 64), Part(name, 0, "0" * 64))
    with pytest.raises(ParseError) as error:
        container.parse_manifest(Manifest(FACTS, parts).encode())
    assert error.value.code == "damaged"


@pytest.mark.parametrize(
    "change",
    [
        {"files": []},
        {"files": [{"name": "tpmhsm.toml", "size": 0, "sha256": "0" * 64}]},
        {"files": [{"name": "tpmhsm.db", "size": -1, "sha256": "0" * 64}]},
        {"files": [{"name": "tpmhsm.db", "size": 1e3, "sha256": "0" * 64}]},
        {"files": [{"name": "tpmhsm.db", "size": 1, "sha256": "0"}]},
        {"files": [{"name": "tpmhsm.db", "size": 1, "sha256": "0" * 64, "mode": 1}]},
        {"files": [{"name": "tpmhsm.db", "size": 1, "sha256": "0" * 64}] * 2},
        {"files": None},
    ],
)
def test_manifests_that_nobody_wrote(change: dict[str, object]) -> None:
    document = {"format": container.FORMAT, **FACTS, **change}
    data = (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()
    with pytest.raises(ParseError):
        container.parse_manifest(data)


@given(st.binary(max_size=2000))
def test_anything_else_is_no_backup(data: bytes) -> None:
    with pytest.raises(ParseError):
        read_backup(io.BytesIO(data))


def test_another_format_is_named() -> None:
    document = {"format": "tpmhsm/home-backup/2", "files": []}
    with pytest.raises(ParseError) as error:
        container.parse_manifest(json.dumps(document).encode())
    assert error.value.code == "other-format"
    line = b'{"format": "tpmhsm/home-backup/2", "encrypted": "otherwise"}\n'
    with pytest.raises(ParseError) as error:
        sealed.read_head(io.BytesIO(line))
    assert error.value.code == "other-format"


def test_a_newer_schema_is_refused_before_anything_is_done() -> None:
    with pytest.raises(RefusedError) as error:
        check_readable(Manifest({"database": {"schema": "9999"}}, ()))
    assert error.value.code == "newer"


# ── encrypted ────────────────────────────────────────────────────────────────


def test_encrypted_and_back(backup: bytes, encrypted: bytes) -> None:
    assert opened(encrypted) == backup + bytes(200_000)
    assert b"database" not in encrypted


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_072])
def test_sizes_around_a_piece(size: int) -> None:
    out = io.BytesIO()
    sealer = sealed.Sealer(out, b"secret", "now")
    sealer.write(bytes(size))
    sealer.finish()
    assert opened(out.getvalue()) == bytes(size)


def test_wrong_passphrase(encrypted: bytes) -> None:
    with pytest.raises(RefusedError) as error:
        opened(encrypted, b"another")
    assert error.value.code == "wrong-passphrase"
    with pytest.raises(UsageError):
        sealed.Sealer(io.BytesIO(), b"", "now")


def test_encrypted_bytes_are_missed(encrypted: bytes) -> None:
    line = encrypted.index(b"\n") + 1
    places = [*range(0, line, 7), *random.sample(range(line, len(encrypted)), 15)]
    for place in [*places, line - 1, line, len(encrypted) - 1]:
        changed = bytearray(encrypted)
        changed[place] ^= 1
        with pytest.raises((ParseError, RefusedError)):
            opened(bytes(changed))


PIECE = 65_536 + 16


@pytest.mark.parametrize("how", ["cut", "cut at a piece", "exchanged", "repeated", "grown"])
def test_pieces_stay_in_their_places(encrypted: bytes, how: str) -> None:
    head = encrypted.index(b"\n") + 1
    line, body = encrypted[:head], encrypted[head:]
    first, second, rest = body[:PIECE], body[PIECE : 2 * PIECE], body[2 * PIECE :]
    changed = {
        "cut": encrypted[:-1],
        "cut at a piece": line + first + second,
        "exchanged": line + second + first + rest,
        "repeated": line + first + first + second + rest,
        "grown": encrypted + bytes(PIECE),
    }[how]
    with pytest.raises((ParseError, RefusedError)):
        opened(changed)


def test_a_chips_state_must_be_encrypted() -> None:
    with pytest.raises(UsageError) as error:
        Wanted(chip=True)
    assert error.value.code == "not-encrypted"
