"""What holds for every test: outside data, long variants, and an honest closing count."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

DATA = "TPMHSM_TEST_DATA"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="also soak tests, many kills, big fuzz counts"
    )


def pytest_configure() -> None:
    """Whoever starts the tests in the background may have them ignore Ctrl-C; programs that tests
    start would inherit that, and some are interrupted by a test.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in set(long)]


@pytest.fixture(scope="session")
def test_data() -> Callable[[str], Path]:
    """A folder or file of the outside data by its name; skips by that name where it is absent."""

    def find(name: str) -> Path:
        root = os.environ.get(DATA)
        if not root:
            pytest.skip(f"{name}: {DATA} is not set")
        path = Path(root) / name
        if not path.exists():
            pytest.skip(f"{name}: not in {DATA}")
        return path

    return find


def _skip_reason(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what was skipped and why, so that a green run without its data does not look whole."""
    reasons = Counter(map(_skip_reason, terminalreporter.stats.get("skipped", [])))
    if reasons:
        terminalreporter.section(f"{reasons.total()} skipped")
        for reason, count in sorted(reasons.items()):
            terminalreporter.write_line(f"{count:5d}  {reason}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A run in which no test ran has not succeeded."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput"):
        return
    ran = any(reporter.stats.get(word) for word in ("passed", "xfailed"))
    if exitstatus == 0 and not ran and not session.config.option.collectonly:
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
