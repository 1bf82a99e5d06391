"""What several test files start from: stores on both kinds of file."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import lllm.agents.tactic
from lllm import LocalFileBackend, LogStore, SQLiteBackend
from lllm.events.log import LogBackend
from lllm.packages.registry import default_runtime
from tests.support.browser import browser
from tests.support.leaks import leaks_are_this_tests
from tests.support.loopback import Loopback, text

__all__ = ["browser", "leaks_are_this_tests"]  # pytest finds the fixtures here

# How long an example takes to make says more about what else the machine does than about a test.
# On a busy machine, any example can take long.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples on any day; others are looked for with --hypothesis-profile=random.
settings.register_profile("lllm", _PATIENT, derandomize=True)
settings.register_profile("random", _PATIENT, print_blob=True)
settings.load_profile("lllm")


def pytest_configure() -> None:
    """SIGINT means what it does at a terminal, here and in the processes that tests start. A shell
    starts what runs in the background with SIGINT ignored, which children inherit."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests get more time, but for those that say themselves how much they need."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(600))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test logged or failed with may be no UTF-8, which a worker could not hand on."""
    report = yield
    report.sections = [(title, _utf8(text)) for title, text in report.sections]
    if report.longrepr is not None and _utf8(str(report.longrepr)) != str(report.longrepr):
        report.longrepr = _utf8(str(report.longrepr))
    return report


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


@pytest.fixture(scope="module")
def running() -> Iterator[Loopback]:
    """A provider on this machine, for all tests of a module."""
    with Loopback() as started:
        yield started


@pytest.fixture
def server(running: Loopback) -> Loopback:
    """The same, as if it were new."""
    running.requests.clear()
    running.left.clear()
    running.answers(text("Hello."))
    return running


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """An event loop that stays, for calls that are awaited one by one."""
    with asyncio.Runner() as started:
        yield started


OpenBackend = Callable[[], LogBackend]


@pytest.fixture(params=["sqlite", "jsonl"])
def open_backend(request: pytest.FixtureRequest, tmp_path: Path) -> OpenBackend:
    """Opens the test's own log, again and again the same."""
    if request.param == "sqlite":
        return lambda: SQLiteBackend(tmp_path / "runs.db")
    return lambda: LocalFileBackend(tmp_path / "logs")


@pytest.fixture
def store(open_backend: OpenBackend) -> Iterator[LogStore]:
    """An empty store on each kind of file."""
    with LogStore(open_backend()) as opened:
        yield opened


@pytest.fixture(autouse=True)
def warns_anew() -> None:
    """The warning of a tactic without a store comes once in a process; here, once in a test."""
    lllm.agents.tactic._warned.clear()


@pytest.fixture(autouse=True)
def tactics_as_before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tactics and packages in files that a test made are unknown to the tests behind it."""
    tactics, packages = default_runtime._tactics, default_runtime._packages
    known, loaded = dict(tactics), dict(packages)
    yield
    made = tmp_path_factory.getbasetemp()
    for path, entry in list(tactics.items()):
        if entry is not known.get(path) and entry.file and entry.file.is_relative_to(made):
            tactics.pop(path)
            tactics |= {path: known[path]} if path in known else {}
    for root in packages.keys() - loaded.keys():
        if root.is_relative_to(made):
            packages.pop(root)


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """The logger is left as it was found: pytest captures what a logger that does not propagate
    says, and workers can't hand everything on that a test may log."""
    logger = logging.getLogger("lllm")
    before = (logger.level, logger.propagate, list(logger.handlers))
    yield
    logger.level, logger.propagate, logger.handlers[:] = before
    logger.manager._clear_cache()  # type: ignore[attr-defined]  # typeshed leaves it out
