"""The screens of the documents, captured from a real terminal of 80 columns and 24 lines (tmux).

    ./dev screens         plays the story, and writes its screens into the documents anew

A fenced block marked `screen NAME` is the screen of that name. Digits of digests, keys, serial
numbers and dates differ each time, and so do the eight words: they are masked before comparing.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from tests.support.shell import PASSPHRASE, PEOPLE, Shell
from tests.support.standing import states
from tests.support.tmux import Screen

from tpmhsm.approval import filekey
from tpmhsm.tpm import software

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```screen (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SIZE, WIDE = (80, 24), (120, 40)
RULE = "2:alice,bob,carol"
NEXT, LAST = "Enter shows the next)", "to sign"

_MASKS = (
    (re.compile(r"^Compare .*?(?=\n +aloud)", re.MULTILINE | re.DOTALL), "Compare   …"),
    (re.compile(r"\b[0-9a-f]{8}\b|\b(?=[0-9a-f]*\d)[0-9a-f]{6,7}\b"), "x" * 8),
    (re.compile(r"\b(?:[0-9a-f]{68}|[0-9a-f]{64}|[0-9a-f]{32})\b"), "x" * 32),
    (re.compile(r"\b[0-9a-f]{16}(?=…)"), "x" * 16),
    (re.compile(r"(?<=Type )[0-9a-f]{4}\b|(?<=times: )[0-9a-f]{4}$", re.MULTILINE), "x" * 4),
    (re.compile(r"\b\d\d\d (?=bytes)"), "999 "),
    (re.compile(r"(?<=/tmp/tpmhsm-)[a-z0-9_]+"), "x" * 8),
    (re.compile(r"\b\d\d\d\d (?=days left)"), "9999 "),
    (re.compile(r"(?<=expires ).*$", re.MULTILINE), "…"),
    (re.compile(r"\d{4}-\d\d-\d\d"), "9999-99-99"),
    (re.compile(r"\d\d:\d\d(:\d\dZ)?"), "99:99"),
)


def masked(screen: str) -> str:
    """A screen without what differs each time."""
    for pattern, instead in _MASKS:
        screen = pattern.sub(instead, screen)
    return screen


def of_documents() -> Iterator[tuple[Path, str, str]]:
    """Document, name and text of each screen in the documents."""
    for document in DOCUMENTS:
        for block in BLOCK.finditer(document.read_text(encoding="utf-8")):
            yield document, block[1], block[2].rstrip("\n")


def approving(
    laptop: Shell, *command: str, size: tuple[int, int] = SIZE, colours: bool = False
) -> list[str]:
    """What Alice sees when she approves: each page, the last one with the question."""
    where = laptop.surroundings()
    environment = {k: v for k, v in where["env"].items() if k != "NO_COLOR" or not colours}
    words = laptop.command("approve", *command, "--as", "alice", "-i", "alice.key")
    found: list[str] = []
    with Screen(words, where["cwd"], environment, size) as screen:
        screen.wait_for("Passphrase for alice.key:")
        screen.type(PASSPHRASE, enter=False)
        while not found or NEXT in found[-1].rpartition("\n")[2]:
            screen.wipe()
            screen.type("")
            screen.wait_for(NEXT, LAST)
            found.append(screen.text(colours=colours).strip("\n"))
    return found


class Story:
    """A CA host and two laptops, whose people exchange files."""

    def __init__(self, place: Path) -> None:
        self.host, self.alice, self.bob = (Shell(place / n) for n in ("host", "alice", "bob"))
        for machine in (self.host, self.alice, self.bob):
            machine.path.mkdir(parents=True)

    def stop(self) -> None:
        """Stop the software TPM."""
        if software.is_manufactured(self.host.tpm):
            software.stop(self.host.tpm)

    def exchange_cards(self) -> None:
        """Each laptop gets the others' cards and the device's from people, the host all."""
        with mock.patch.object(filekey, "SCRYPT_P", 1):
            self.alice.person("alice")
            for name in ("bob", "carol", "dave"):
                self.bob.person(name)
        self.host("init")
        device = self.host.path / "host.card"
        self.host("device", "export", "--out", device)
        mine = self.alice.path / "alice.card"
        others = [self.bob.path / f"{name}.card" for name in ("bob", "carol", "dave")]
        self.alice("trust", "add", device, *others)
        self.bob("trust", "add", device, mine)
        self.host("approver", "add", mine, *others)

    def carry(self, number: int, laptop: Shell, name: str = "") -> str:
        """Take a request to a laptop; the file's name there."""
        file = laptop.path / (name or f"{number}.req")
        self.host("request", "export", str(number), "--out", file, "--force")
        return file.name

    def vote(self, laptop: Shell, who: str, number: int) -> None:
        """Somebody approves by file, as a script does."""
        digest = self.host.json("request", "show", str(number))["digest"]
        laptop.approve(self.carry(number, laptop), who, digest)
        self.host("request", "import", laptop.path / f"{number}-{who}.approval")

    def settle(self, *command: str) -> int:
        """Ask for something, have both approve it, and the chip do it; the request's id."""
        number = self.host.ask(*command)
        for laptop, who in ((self.bob, "bob"), (self.alice, "alice")):
            self.vote(laptop, who, number)
        return number

    def asked(self, name: str, *command: str) -> str:
        """Ask for something that Bob approves; the file for Alice."""
        number = self.host.ask(*command)
        self.vote(self.bob, "bob", number)
        return self.carry(number, self.alice, f"{name}.req")

    def csr(self, name: str, *names: str) -> str:
        """A CSR by a key of the chip's own."""
        self.host("key", "create", name)
        words = [word for one in names for word in ("--san", f"dns:{one}")]
        self.host("csr", "create", name, *words, "--out", f"{name}.csr")
        return f"{name}.csr"


def play(place: Path) -> Iterator[tuple[str, list[str]]]:
    """The story, and each screen with its name: the files that Alice is asked to approve."""
    story = Story(place)
    try:
        yield from _play(story)
    finally:
        story.stop()
    yield from _statuses(Shell(place / "ca"))


def _statuses(machine: Shell) -> Iterator[tuple[str, list[str]]]:
    """What `tpmhsm status` shows in each of five states: `status-fresh`, `status-well` …"""
    machine.path.mkdir()
    try:
        for state in states(machine):
            yield f"status-{state}", [_shown(machine, "status")]
    finally:
        software.stop(machine.tpm)


def _play(story: Story) -> Iterator[tuple[str, list[str]]]:
    host, alice = story.host, story.alice
    story.exchange_cards()
    founding = host.ask("group", "create", "officers", "--officers", RULE)
    yield "founding", approving(alice, story.carry(founding, alice))
    for laptop, who in ((story.bob, "bob"), (alice, "alice")):
        story.vote(laptop, who, founding)
    host("key", "create", "root", "--policy", "quorum(officers)")
    subject = ("--subject", "CN=Example Root,O=Example")
    story.settle("ca", "create", "root-ca", "--key", "root", *subject)
    host("key", "create", "issuing", "--policy", "any(quorum(officers), budget(officers))")
    intermediate = _intermediate(story)
    yield "intermediate", approving(alice, intermediate)
    yield "wide", approving(alice, intermediate, size=WIDE, colours=True)
    grant = ("key", "grant", "issuing", "500", "--reason", "servers of December")
    yield "budget", approving(alice, story.asked("budget", *grant))
    # of different lengths: were all of one size, the table would say so once
    names = ("www1", "www2", "intranet")
    csrs = [story.csr(name, f"{name}.example.com") for name in names]
    batch = [story.asked(csr, "ca", "sign", "root-ca", csr) for csr in csrs]
    yield "batch", approving(alice, *batch, "--together")
    yield "crl", approving(alice, _crl(story))
    story.settle("group", "change", "officers", "--open", "issuing")
    window = story.asked("window", "key", "open", "issuing", "--for", "20m")
    yield "window", approving(alice, window)
    yield "denied", [_denied(story)]
    roster = ("group", "change", "officers", "--officers", "2:alice,bob,dave")
    yield "roster", approving(alice, story.asked("roster", *roster, "--reason", "carol leaves"))
    yield "ceremony", [_sitting(story)]


def _sitting(story: Story) -> str:
    """The first page of a ceremony, which another host begins."""
    host = Shell(story.host.path.parent / "other")
    host.path.mkdir()
    machines = (story.alice, story.bob, story.bob)
    cards = [str(m.path / f"{n}.card") for m, n in zip(machines, PEOPLE, strict=False)]
    names = ("--root", "CN=Example Root,O=Example", "--issuer", "CN=Example Issuing,O=Example")
    try:
        host("ceremony", "--officers", f"2:{','.join(cards)}", *names, "--budget", "1000", code=3)
        shutil.copy(host.path / "officers.ceremony", story.alice.path)
        host("device", "export", "--out", story.alice.path / "other.card")
        return _first_page(story.alice, "officers.ceremony", "--trust", "other.card")
    finally:
        software.stop(host.tpm)


def _first_page(laptop: Shell, *command: str) -> str:
    where = laptop.surroundings()
    words = laptop.command("approve", *command, "--as", "alice", "-i", "alice.key")
    with Screen(words, where["cwd"], where["env"], SIZE) as screen:
        screen.wait_for("Passphrase for alice.key:")
        screen.type(PASSPHRASE, enter=False)
        screen.wipe()
        screen.type("")
        screen.wait_for("first act)")
        return screen.text().strip("\n")


def _intermediate(story: Story) -> str:
    subject = ("--subject", "CN=Example Issuing 2,O=Example")
    create = ("ca", "create", "issuing-ca", "--key", "issuing", "--issuer", "root-ca", *subject)
    return story.asked("intermediate", *create, "--reason", "replace Issuing 1")


def _crl(story: Story) -> str:
    """The second CRL, with a certificate that was revoked since the first."""
    leaf = story.csr("lost", "lost.example.com")
    number = story.settle("ca", "sign", "root-ca", leaf)
    story.settle("ca", "crl", "root-ca")
    sha256 = story.host.json("request", "show", str(number))["result"]["sha256"]
    story.host("cert", "export", sha256[:16], "--out", "lost.pem")
    story.host("ca", "revoke", "root-ca", "lost.pem", "--reason", "keyCompromise")
    return story.asked("crl", "ca", "crl", "root-ca", "--reason", "the key of lost was copied")


def _denied(story: Story) -> str:
    """What the host shows of a request that Bob refused."""
    wild = story.csr("wild", "*.example.com")
    number = story.host.ask("ca", "sign", "root-ca", wild)
    file = story.carry(number, story.bob)
    who = ("--as", "bob", "-i", "bob.key", "--passphrase-file", "passphrase")
    story.bob("deny", file, *who, "--reason", "nobody asked for a wildcard")
    story.host("request", "import", story.bob.path / f"{number}-bob.denial")
    return _shown(story.host, "request", "show", str(number))


def _shown(machine: Shell, *arguments: str) -> str:
    """What a command leaves on the screen."""
    where = machine.surroundings()
    command = machine.command(*arguments)
    shell = ["sh", "-c", f"{shlex.join(command)}; printf '$ '; read answer"]
    with Screen(shell, where["cwd"], where["env"], SIZE) as screen:
        screen.wait_for("$")
        return screen.text().removesuffix("$").rstrip()


def main() -> int:
    """Write the screens into the documents; print those whose names are arguments, or all."""
    wanted = sys.argv[1:]
    place = Path(tempfile.mkdtemp(prefix="tpmhsm-"))
    try:
        screens = {name: "\n".join(pages) for name, pages in play(place)}
    finally:
        shutil.rmtree(place, ignore_errors=True)
    for name in wanted or screens:
        print(f"{name}\n{screens[name]}\n")
    for document in () if wanted else DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        new = BLOCK.sub(
            lambda m: f"```screen {m[1]}\n{screens[m[1]]}\n```" if m[1] in screens else m[0], text
        )
        if masked(new) != masked(text):
            document.write_text(new, encoding="utf-8")
            print(f"wrote {document.relative_to(ROOT)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
