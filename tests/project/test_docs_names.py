"""Every path, function, command and link that the documents name is there.

The convention, in backticks: `src/tpmhsm/…`, `tests/…` and the like are paths; `src/….py:name` is a
definition in that file; `tpmhsm.room.name` is imported; `name()` is defined somewhere in `src`;
`tpmhsm noun verb` is a command. Anything else in backticks is not a claim.
"""

import ast
import importlib
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from tpmhsm.cli.main import cli

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TREES = ("src", "tests", "docs", "bench", "requirements", ".ci")
FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(rf"(?:{'|'.join(map(re.escape, TREES))})/[\w./*-]*(?::[\w.]+)?")
DOTTED = re.compile(r"tpmhsm(?:\.\w+)+(?:\(\))?")
CALL = re.compile(r"[\w.]+\(\)")
DATA_FILES = (".toml", ".db", ".lock", ".sock")
COMMAND = re.compile(r"tpmhsm((?: [a-z][a-z0-9-]*)+)")


def prose(document: Path) -> str:
    return FENCE.sub("", document.read_text(encoding="utf-8"))


def spans(pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        if document.exists():
            for span in SPAN.findall(prose(document)):
                if pattern.fullmatch(span):
                    yield document.name, span


@cache
def definitions(source: Path) -> frozenset[str]:
    """Names bound in a module, and `Class.name` for what is bound in its classes."""

    def bound(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield prefix + node.name
                if isinstance(node, ast.ClassDef):
                    yield from bound(node.body, f"{prefix}{node.name}.")
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            yield from (prefix + t.id for t in targets if isinstance(t, ast.Name))

    return frozenset(bound(ast.parse(source.read_text(encoding="utf-8")).body))


def resolve(dotted: str) -> object:
    parts = dotted.removesuffix("()").split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError as error:
            if not dotted.startswith(str(error.name)):
                raise
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"nothing to import in {dotted}")


def test_there_are_documents() -> None:
    assert (ROOT / "README.md").stat().st_size > 500


def faults(pattern: re.Pattern[str], check: Callable[[str], str | None]) -> list[str]:
    """What is wrong with each name that the documents write like this, in words."""
    said = ((document, span, check(span)) for document, span in sorted(set(spans(pattern))))
    return [f"{document}: `{span}`: {fault}" for document, span, fault in said if fault]


def path_fault(span: str) -> str | None:
    path, _, name = span.partition(":")
    found = list(ROOT.glob(path)) if "*" in path else [ROOT / path]
    if not found or not all(one.exists() for one in found):
        return "no such path"
    return "no such definition" if name and name not in definitions(ROOT / path) else None


def dotted_fault(span: str) -> str | None:
    if span.endswith(DATA_FILES):
        return None
    try:
        resolve(span)
    except AttributeError as error:
        return str(error)
    return None


def call_fault(span: str) -> str | None:
    name = span.removesuffix("()")
    if DOTTED.fullmatch(span):
        return None
    sources = (definitions(source) for source in (ROOT / "src").rglob("*.py"))
    return None if any(name in names for names in sources) else "defined nowhere in src"


def command_fault(span: str) -> str | None:
    command: click.Command = cli
    context = click.Context(cli, info_name="tpmhsm")
    for word in span.split()[1:]:
        if not isinstance(command, click.Group):
            return None  # the rest are arguments
        found = command.get_command(context, word)
        if found is None:
            return f"no command {word}"
        command = found
    return None


@pytest.mark.parametrize(
    ("pattern", "check"),
    [
        pytest.param(PATH, path_fault, id="paths"),
        pytest.param(DOTTED, dotted_fault, id="dotted names"),
        pytest.param(CALL, call_fault, id="functions"),
        pytest.param(COMMAND, command_fault, id="commands"),
    ],
)
def test_documents_name_what_is_there(
    pattern: re.Pattern[str], check: Callable[[str], str | None]
) -> None:
    assert faults(pattern, check) == []


@pytest.mark.parametrize(
    ("check", "span"),
    [
        (path_fault, "src/tpmhsm/nothing.py"),
        (path_fault, "src/tpmhsm/errors.py:Nothing"),
        (dotted_fault, "tpmhsm.errors.Nothing"),
        (call_fault, "nothing_of_this_name()"),
        (command_fault, "tpmhsm key nothing"),
    ],
)
def test_names_that_are_not_there_are_found(check: Callable[[str], str | None], span: str) -> None:
    assert check(span)


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d.exists()], ids=lambda d: d.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in LINK.findall(prose(document)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = document if not path else document.parent / path
        assert there.exists(), f"{document.name}: {target}"
        if anchor and there.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, f"{document.name}: no heading for {target}"
