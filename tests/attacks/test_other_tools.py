"""Root with programs that are not ours: tpm2-tools, on the same chip.

What the chip refuses to our own command layer it might refuse because of our own mistakes. These
commands are put together by somebody else, and the codes are the same.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.attacks.house import House

from tpmhsm.policy.steps import NameHash, digest_of
from tpmhsm.policy.tree import window
from tpmhsm.tpm import software

BRIDGE = """
import sys
from pathlib import Path
from tpmhsm.tpm.door import SocketDoor

door = SocketDoor(Path(sys.argv[1]))
while head := sys.stdin.buffer.read(10):
    size = int.from_bytes(head[2:6], "big")
    sys.stdout.buffer.write(door.send(head + sys.stdin.buffer.read(size - 10)))
    sys.stdout.buffer.flush()
"""


class Tools:
    """tpm2-tools at the chip of a house, with files in a folder."""

    def __init__(self, house: House, folder: Path) -> None:
        self.folder = folder
        directory = software.directory_of(house.app.home)
        software.start(directory)
        bridge = folder / "bridge.py"
        bridge.write_text(BRIDGE)
        self._directory, self._lock = directory, software.lock_of(directory)
        self._tcti = f"cmd:{sys.executable} {bridge} {directory / 'swtpm.sock'}"

    def __call__(self, command: str, *arguments: str, rc: int = 0) -> str:
        """Run one tool; it must succeed, or fail with exactly this code of the chip."""
        with self._lock.held(30):
            done = subprocess.run(
                [f"tpm2_{command}", "-T", self._tcti, *arguments],
                cwd=self.folder,
                env={**os.environ, "TSS2_LOG": "all+WARNING"},  # the codes are in the log
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        said = done.stdout + done.stderr
        if not rc:
            assert done.returncode == 0, said
        else:
            assert done.returncode != 0 and re.search(rf"\(0x0*{rc:x}\)", said, re.I), said
        return said

    def clean_up(self) -> None:
        """Flush what the tools left."""
        with self._lock.held(30):
            software.clean_up(self._directory)


@pytest.fixture
def tools(still: House, tmp_path: Path) -> Iterator[Tools]:
    """The tools, in a folder of their own."""
    if not shutil.which("tpm2_nvwrite"):
        pytest.skip("tpm2-tools is not installed")
    made = Tools(still, tmp_path)
    try:
        yield made
    finally:
        made.clean_up()


def test_nv_writes_with_tpm2_tools(still: House, tools: Tools) -> None:
    """The owner writes and increments nothing (0x149), nor does the empty password (0x12f)."""
    group = still.loot.group
    (tools.folder / "roster").write_bytes(bytes(74))
    index, counter = f"0x{group.roster_index:x}", f"0x{group.counter_index:x}"
    tools("nvwrite", index, "-C", "o", "-i", "roster", rc=0x149)
    tools("nvwrite", index, "-C", index, "-i", "roster", rc=0x12F)
    tools("nvincrement", counter, "-C", "o", rc=0x149)
    tools("nvincrement", counter, "-C", counter, rc=0x12F)
    tools("nvread", counter, "-C", "o", "-o", "value")
    value = int.from_bytes((tools.folder / "value").read_bytes(), "big")
    assert value == still.loot.roster.epoch


def load(tools: Tools, house: House, label: str) -> str:
    """Load a key out of the database; gives the name of its context file."""
    row = house.app.keyring.get(label)
    for name, data in (("public", row.public), ("private", row.private)):
        (tools.folder / name).write_bytes(len(data).to_bytes(2, "big") + data)
    tools("load", "-C", "0x81008100", "-u", "public", "-r", "private", "-c", f"{label}.ctx")
    tools("flushcontext", "-t")
    return f"{label}.ctx"


def test_the_key_with_tpm2_tools(still: House, tools: Tools) -> None:
    """Sign, quote, certify and the like with the empty password: 0x12f; the open key obeys."""
    (tools.folder / "digest").write_bytes(still.loot.digest)
    for label, rc in (("root", 0x12F), ("open", 0)):
        key = load(tools, still, label)
        sign = ("-c", key, "-g", "sha256", "-s", "ecdsa", "-d", "digest", "-o", "signature")
        tools("sign", *sign, rc=rc)
        tools("quote", "-c", key, "-l", "sha256:0", "-m", "m", "-s", "s", rc=rc)
        tools("flushcontext", "-t")
        tools("gettime", "-c", key, "-q", "00", rc=rc)
    key = load(tools, still, "root")
    tools("certify", "-c", "0x81008140", "-C", key, "-g", "sha256", "-o", "o", "-s", "s", rc=0x12F)
    tools("flushcontext", "-t")
    tools("changeauth", "-C", "0x81008100", "-c", key, "-r", "new", "pw", rc=0x124)


def test_a_policy_with_tpm2_tools(still: House, tools: Tools) -> None:
    """The command code alone is no policy of the key: 0x99d."""
    key = load(tools, still, "root")
    (tools.folder / "digest").write_bytes(still.loot.digest)
    tools("startauthsession", "-S", "session", "--policy-session")
    tools("policycommandcode", "-S", "session", "TPM2_CC_Sign")
    sign = ("-c", key, "-p", "session:session", "-g", "sha256", "-d", "digest", "-o", "signature")
    tools("sign", *sign, rc=0x99D)
    index = f"0x{still.loot.group.roster_index:x}"
    tools("policyauthorizenv", "-S", "session", "-C", index, index, rc=0x84)
    tools.clean_up()
    with still.root() as root:
        root.honest()


def test_a_window_branch_with_tpm2_tools(still: House, tools: Tools) -> None:
    """The steps that hold officers to one key give the same digest in somebody else's words; and
    PolicyNameHash is no help for another key: 0x99d.
    """
    name = bytes.fromhex(still.app.keyring.get("papers").name)
    step = NameHash.of(name)
    (tools.folder / "names").write_bytes(step.name_hash)
    tools("startauthsession", "-S", "session")
    tools("policycommandcode", "-S", "session", "TPM2_CC_Sign")
    tools("policynamehash", "-S", "session", "-n", "names", "-L", "policy")
    found = (tools.folder / "policy").read_bytes()
    assert found == digest_of(window(name).steps)
    tools.clean_up()
    key = load(tools, still, "root")
    (tools.folder / "digest").write_bytes(still.loot.digest)
    tools("startauthsession", "-S", "session", "--policy-session")
    tools("policynamehash", "-S", "session", "-n", "names")
    sign = ("-c", key, "-p", "session:session", "-g", "sha256", "-d", "digest", "-o", "signature")
    tools("sign", *sign, rc=0x99D)
    tools.clean_up()
    with still.root() as root:
        root.honest()
