"""A pytest plugin that runs tests against recorded sessions and reports what now differs.

The plugin is registered as an entry point, so every run of pytest loads it if lllm is installed.
To keep such runs fast, nothing else of lllm is imported before a test has the mark.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lllm.replay.recorded_test import Mode, RecordedTest

_MARK = "lllm_replay"
_OPTIONS = ("ignore", "live_tools", "redact")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options `--lllm-record` and `--lllm-verify` to pytest."""
    group = parser.getgroup("lllm", "replays of sessions that lllm recorded")
    group.addoption(
        "--lllm-record", dest="lllm_record", action="store_true", default=False,
        help="Run tests marked lllm_replay live, and write their recordings anew.",
    )  # fmt: skip
    group.addoption(
        "--lllm-verify", dest="lllm_verify", action="store_true", default=False,
        help="Ask the live model all that recordings of lllm_replay have, and fail where the "
        "answer has another shape.",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark `lllm_replay`, and refuse both options at once."""
    config.addinivalue_line(
        "markers",
        f"{_MARK}(path, *, ignore=(), live_tools=(), redact=None): run the test against the "
        "session in a file that `lllm export ID --format jsonl` or --lllm-record wrote; the path "
        "is relative to the root of the project.",
    )
    if config.getoption("lllm_record") and config.getoption("lllm_verify"):
        raise pytest.UsageError("Either --lllm-record or --lllm-verify; not both.")


@pytest.fixture(scope="session")
def lllm_replay_config() -> dict[str, object]:
    """Options of all marks: ignore, live_tools and redact; for a conftest.py to override."""
    return {}


@pytest.fixture
def lllm_replay(request: pytest.FixtureRequest) -> RecordedTest:
    """The recorded session that the test runs against, as its mark says."""
    mark = request.node.get_closest_marker(_MARK)
    if mark is None:
        pytest.fail(
            f"The fixture lllm_replay needs a mark, as @pytest.mark.{_MARK}"
            '("tests/sessions/x.jsonl").',
            pytrace=False,
        )
    from lllm.replay.recorded_test import RecordedTest

    options: dict[str, Any] = {**request.getfixturevalue("lllm_replay_config"), **mark.kwargs}
    unknown = options.keys() - {*_OPTIONS}
    if unknown or len(mark.args) != 1:
        wrong = f"it has no {', '.join(sorted(unknown))}" if unknown else "it takes one path"
        pytest.fail(
            f"The mark {_MARK} of {request.node.nodeid} can't be: {wrong}. It takes a path and "
            f"{', '.join(_OPTIONS)}.",
            pytrace=False,
        )
    return RecordedTest(request.config.rootpath / mark.args[0], _mode(request.config), **options)


def _mode(config: pytest.Config) -> Mode:
    if config.getoption("lllm_record"):
        return "record"
    return "verify" if config.getoption("lllm_verify") else "replay"


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Set up the fixture of a marked test, even if the test does not name the fixture."""
    if item.get_closest_marker(_MARK) is None:
        return
    is_function = isinstance(item, pytest.Function) and not _of_unittest(item)
    if not is_function:
        pytest.fail(
            f"The mark {_MARK} is for test functions, not for {item.nodeid}.", pytrace=False
        )
    assert isinstance(item, pytest.Function)
    if _MARK not in item.funcargs:
        item.funcargs[_MARK] = item._request.getfixturevalue(_MARK)


def _of_unittest(item: pytest.Function) -> bool:
    return any(base.__module__.startswith("unittest") for base in getattr(item.cls, "__mro__", ()))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Run a marked test inside its replay; an async test stays on its event loop."""
    if item.get_closest_marker(_MARK) is not None and isinstance(item, pytest.Function):
        recorded: Any = item.funcargs[_MARK]
        item.obj = _inside(item.obj, recorded)


def _inside(function: Callable[..., Any], recorded: RecordedTest) -> Callable[..., Any]:
    function = getattr(function, "__lllm_test__", function)  # unwraps a test that is run again
    run: Callable[..., Any]
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            with recorded.block():
                return await function(*args, **kwargs)

        run = awaited
    else:

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with recorded.block():
                return function(*args, **kwargs)

        run = called
    vars(run)["__lllm_test__"] = function
    return run
