"""Event logs: equal to `tpm2_eventlog`, told truly, and harmless however hostile."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attest import logs
from tests.support.shell import Shell

from tpmhsm.attest import event_log
from tpmhsm.attest.event_log import parse_event_log
from tpmhsm.attest.event_words import errors, secure_boot, tell
from tpmhsm.errors import ParseError

Find = Callable[[str], Path]
GIVEN = {
    "crypto_agile_eventlog": (27, False),
    "sb_cert_eventlog": (15, True),
    "ubuntu_2104_shielded_vm_no_secure_boot_eventlog": (106, False),
}


def oracle(path: Path) -> dict[str, dict[int, bytes]] | None:
    """The PCRs that tpm2_eventlog computes; None where it refuses the log."""
    if shutil.which("tpm2_eventlog") is None:
        pytest.skip("tpm2_eventlog is not installed")
    done = subprocess.run(["tpm2_eventlog", path], check=False, capture_output=True, text=True)
    if done.returncode:
        return None
    found: dict[str, dict[int, bytes]] = {}
    bank: dict[int, bytes] = {}
    for line in done.stdout.partition("\npcrs:")[2].splitlines():
        if match := re.fullmatch(r"  (\w+):", line):
            bank = found.setdefault(match[1], {})
        elif match := re.fullmatch(r"    (\d+) *: 0x([0-9a-f]+)", line):
            bank[int(match[1])] = bytes.fromhex(match[2])
    return found


@pytest.mark.parametrize("name", GIVEN)
def test_given_logs_replay_as_tpm2_eventlog_does(test_data: Find, name: str) -> None:
    path = test_data(f"eventlogs/{name}")
    log = parse_event_log(path.read_bytes())
    count, boot = GIVEN[name]
    assert len(log.events) == count
    assert secure_boot(log) is boot
    assert log.agile and not log.remarks and not errors(log)
    assert log.replay() == oracle(path)


def test_a_log_of_one_event_without_a_header(test_data: Find) -> None:
    """tpm2_eventlog refuses it, wanting a header in each EV_NO_ACTION; the profile does not."""
    path = test_data("eventlogs/short_no_action_eventlog")
    log = parse_event_log(path.read_bytes())
    assert oracle(path) is None
    assert not log.agile
    assert log.replay() == {"sha1": {0: bytes(19) + b"\3"}}
    assert tell(log.events[0]).words == "the chip was started from locality 3"


CASES = {
    "one hash": logs.header(0xB) + logs.event(0, 1, b"x") + logs.event(9, 0xD, b"grub_cmd: ls\0"),
    "vendor": logs.header(0xB, vendor=b"abc") + logs.event(0, 1, b"x"),
    "all hashes": logs.header(4, 0xB, 0xC, 0xD) + logs.event(3, 1, b"x", 4, 0xB, 0xC, 0xD),
    "dynamic launch": logs.header(0xB) + logs.event(17, 1, b"x"),
    "sha-1": logs.old(0, 8, b"v1") + logs.old(4, 4, bytes(4)) + logs.old(4, 5, b"go"),
}


@pytest.mark.parametrize("case", CASES)
def test_made_logs_replay_as_tpm2_eventlog_does(tmp_path: Path, case: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(CASES[case])
    assert parse_event_log(CASES[case]).replay() == oracle(path)


def after(first: int, *data: bytes) -> bytes:
    """PCR 0 of SHA-256 that began with `first`, by hand."""
    value = bytes(31) + bytes([first])
    for one in data:
        value = hashlib.sha256(value + hashlib.sha256(one).digest()).digest()
    return value


# tpm2_eventlog 5.4 extends these events, which no firmware does (PFP 10.4.5); 5.6 does not.
STARTS = {
    "locality 3": (logs.event(0, 3, logs.locality(3)) + logs.event(0, 1, b"x"), after(3, b"x")),
    "locality 0": (logs.event(0, 3, logs.locality(0)) + logs.event(0, 1, b"x"), after(0, b"x")),
    "hardware": (
        logs.event(0, 3, logs.locality(4)) + logs.event(0, logs.HCRTM, b"HCRTM"),
        after(4, b"HCRTM"),
    ),
    "hardware, no locality": (
        logs.event(0, logs.HCRTM, b"HCRTM") + logs.event(0, 1, b"x"), after(4, b"HCRTM", b"x")),
    "nothing measured": (logs.event(0, 3, logs.locality(4)), after(4)),
    "told in another PCR": (logs.event(1, 3, logs.locality(4)) + logs.event(0, 1, b"x"),
        after(0, b"x")),
    "reference values": (logs.event(0, 3, b"SP800-155 Event\0") + logs.event(0, 1, b"x"),
        after(0, b"x")),
}  # fmt: skip


@pytest.mark.parametrize("case", STARTS)
def test_who_started_the_chip_stands_in_pcr_0(case: str) -> None:
    events, value = STARTS[case]
    assert parse_event_log(logs.header(0xB) + events).replay()["sha256"][0] == value


def test_a_locality_told_too_late_changes_nothing() -> None:
    log = logs.header(0xB) + logs.event(0, 1, b"x")
    late = log + logs.event(0, 3, logs.locality(3))
    assert parse_event_log(late).replay() == parse_event_log(log).replay()


def test_a_hash_unknown_here_is_kept_and_not_replayed() -> None:
    digest = b"\x77" * 28
    extra = logs.u(0x7777, 2) + digest
    both = logs.u(0) + logs.u(1) + logs.u(2) + logs.u(0xB, 2) + bytes(32) + extra
    raw = logs.header(0xB, 0x7777, sizes={0x7777: 28}) + both + logs.u(1) + b"x"
    log = parse_event_log(raw)
    assert log.events[1].digests["0x7777"] == digest
    assert dict(log.algorithms) == {"sha256": 32, "0x7777": 28}
    assert list(log.replay()) == ["sha256"]


def test_padding_after_the_last_event() -> None:
    for fill in (b"\0", b"\xff"):
        log = parse_event_log(logs.agile() + fill * 1000)
        assert len(log.events) == 6
        assert log.remarks == (f"1000 bytes of {fill.hex()} follow the last event",)


BROKEN = {
    "empty": (b"", "no event log"),
    "zeros": (bytes(4096), "nothing but zeros"),
    "cut off": (logs.agile()[:-7], "cut off: event 5 needs 7 more bytes"),
    "version 1": (logs.header(0xB).replace(b"\0\2\0\2", b"\2\1\0\2"), "version 1.2"),
    "no hashes": (logs.header(), "names 0 hashes"),
    "too many hashes": (
        logs.header(0xB).replace(b"\2\0\2\1\0\0\0", b"\2\0\2\xff\xff\xff\xff"), "hashes"),
    "a wrong length": (logs.header(0xB, sizes={0xB: 20}), "sha256 with 20 octets"),
    "a hash twice": (logs.header(0xB, 0xB), "or twice"),
    "more digests than hashes": (
        logs.header(0xB) + logs.event(0, 1, b"x", 0xB, 4), "has 2 digests; the log names 1"),
    "a digest not named": (logs.header(0xB) + logs.event(0, 1, b"x", 4), "does not name"),
    "one digest twice": (
        logs.header(4, 0xB) + logs.event(0, 1, b"x", 0xB, 0xB), "or two"),
    "no such PCR": (logs.header(0xB) + logs.event(99, 1, b"x"), "PCR 99, which no TPM has"),
    "3 GiB of data": (logs.old(0, 8, b"")[:-4] + logs.u(0xBDBFEF47), "cut off"),
    "too many events": (logs.old(0, 1, b"x", b"\1" * 20) * 20_001, "more than 20,000"),
    "too large": (b"\1" * (event_log.MAX_LOG + 1), "are the most"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_log_is_refused_in_words(case: str) -> None:
    data, words = BROKEN[case]
    with pytest.raises(ParseError, match=re.escape(words)):
        parse_event_log(data)


def test_words_of_events() -> None:
    def words(kind: int, data: bytes, pcr: int = 7) -> str:
        return tell(parse_event_log(logs.header(0xB) + logs.event(pcr, kind, data)).events[1]).words

    assert words(logs.SEPARATOR, b"\1\0\0\0") == "ERROR: the firmware failed before this point"
    assert words(logs.VARIABLE, logs.variable("SetupMode", b"\0")) == "SetupMode: off"
    assert words(logs.BOOT, logs.variable("BootOrder", b"\1\0\3\0")) == "BootOrder: 0001 0003"
    path = (
        b"\x04\x04" + logs.u(4 + 14, 2) + r"\a.efi".encode("utf-16-le") + b"\0\0" + b"\x7f\xff\4\0"
    )
    option = logs.u(1) + logs.u(len(path), 2) + "disk".encode("utf-16-le") + b"\0\0" + path
    assert words(logs.BOOT, logs.variable("Boot0001", option)) == r"Boot0001: disk \a.efi"
    assert words(0x80000003, bytes(32) + path) == r"started \a.efi"
    assert words(0x80000006, b"EFI PART" + bytes(84) + logs.u(2, 8)).endswith("2 partitions")
    assert words(0x80000006, b"x") == "x (no partition table)"
    assert words(0x12345678, b"\xde\xad\xff") == "deadff"


def test_words_that_are_not_what_was_measured() -> None:
    """A host may write into its log what it likes: only what hashes to the digest is proven."""
    on, off = (logs.variable("SecureBoot", value) for value in (b"\1", b"\0"))
    forged = logs.event(7, logs.VARIABLE, on, digests={0xB: hashlib.sha256(off).digest()})
    log = parse_event_log(logs.header(0xB) + forged)
    assert tell(log.events[1]).words == "SecureBoot: on"
    assert tell(log.events[1]).proven is False
    assert secure_boot(log) is None
    elsewhere = parse_event_log(logs.header(0xB) + logs.event(1, logs.VARIABLE, on))
    assert secure_boot(elsewhere) is None, "PCR 7 alone is the firmware's for this"


def test_what_grub_measures_is_proven() -> None:
    command = b"grub_cmd: linux /vmlinuz\0"
    digest = hashlib.sha256(b"linux /vmlinuz").digest()
    log = logs.header(0xB) + logs.event(8, 0xD, command, digests={0xB: digest})
    assert tell(parse_event_log(log).events[1]).proven is True


def harmless(data: bytes) -> None:
    begun = time.monotonic()
    try:
        log = parse_event_log(data)
    except ParseError:
        return
    finally:
        assert time.monotonic() - begun < 1
    log.replay()
    secure_boot(log)
    for event in log.events:
        assert len(tell(event).words) <= 200


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=600))
def test_noise_is_harmless(data: bytes) -> None:
    harmless(data)
    harmless(logs.header(4, 0xB) + data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_logs_are_harmless(data: st.DataObject) -> None:
    log = bytearray(logs.agile())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(log) - 1))
        log[at] = data.draw(st.integers(0, 255))
    harmless(bytes(log[: data.draw(st.integers(0, len(log)))]))


KINDS = sorted(event_log.EVENT_NAMES)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 23), st.binary(max_size=300))
def test_any_data_of_any_event_can_be_told(kind: int, pcr: int, data: bytes) -> None:
    harmless(logs.header(0xB) + logs.event(pcr, kind, data))
    harmless(logs.header(0xB) + logs.event(pcr, kind, logs.variable("db", data)))


def test_the_largest_logs_take_less_than_a_second() -> None:
    small = logs.event(0, 1, b"x", 4, 0xB, 0xC, 0xD)
    log = logs.header(4, 0xB, 0xC, 0xD) + small * 19_000
    begun = time.process_time()
    parse_event_log(log).replay()
    large = logs.header(0xB) + logs.event(0, 1, bytes(event_log.MAX_LOG - 200))
    tell(parse_event_log(large).events[1])
    assert time.process_time() - begun < 1


def test_show_tells_a_log(bare: Shell) -> None:
    (bare.path / "log").write_bytes(logs.agile())
    (bare.path / "old").write_bytes(CASES["sha-1"])
    (bare.path / "cut").write_bytes(logs.agile()[:-3])
    found = bare.json("show", "log")
    assert (found["type"], found["secure_boot"], found["count"]) == ("event-log", True, 6)
    assert found["pcrs"]["sha256"]["7"] == parse_event_log(logs.agile()).replay()["sha256"][7].hex()
    words = bare("show", "log").out
    assert "SecureBoot: on" in words and "a quote over these PCRs proves" in words
    assert "the older form" in bare("show", "old").out
    assert "cut off" in bare("show", "cut", code=2).err
