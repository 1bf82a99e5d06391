"""Log lines on the terminal, and the stores of one call."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from io import StringIO
from typing import TYPE_CHECKING

import pytest
import structlog

from lllm.events.log_context import log_context
from lllm.logging import (
    ColoredFormatter,
    SessionFilter,
    add_session,
    local_store,
    noop_store,
    setup_logging,
    sqlite_store,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ESC = "\x1b"


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment asks for nothing."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def inside() -> Iterator[None]:
    """Inside an agent's call."""
    token = log_context.set({"session": "s-1", "agent": "writer"})
    yield
    log_context.reset(token)


def lines(json_: bool = False, stream: StringIO | None = None) -> StringIO:
    stream = StringIO() if stream is None else stream
    setup_logging("DEBUG", json=json_, stream=stream)
    return stream


pytestmark = pytest.mark.usefixtures("logging_as_before")
log = logging.getLogger("lllm.agent")


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_lines_are_shown_from_their_level_on() -> None:
    """A line of the level or above is shown, with its logger and its extra values."""
    stream = StringIO()
    setup_logging(level="info", stream=stream)
    log.debug("too quiet")
    log.info("calling %s", "gpt", extra={"attempt": 2})
    (line,) = stream.getvalue().splitlines()
    assert "info" in line
    assert "calling gpt" in line
    assert "[lllm.agent]" in line
    assert "attempt=2" in line


@pytest.mark.parametrize("level", ["LOUD", "", True, None, 1.5])
def test_a_wrong_level_lists_the_known(level: str) -> None:
    """A level that there isn't is a ValueError that names those that there are."""
    with pytest.raises(ValueError, match=r"no log level .* DEBUG, INFO, WARN.*any number"):
        setup_logging(level)


def test_a_level_may_be_a_number() -> None:
    """A level may be one of logging's numbers."""
    setup_logging(logging.ERROR, stream=StringIO())
    assert logging.getLogger("lllm").level == logging.ERROR


def test_calling_again_changes_how() -> None:
    """A second call changes level, format and stream, and nothing is printed twice."""
    first = lines()
    second = StringIO()
    setup_logging("WARNING", json=True, stream=second)
    log.info("quiet")
    log.warning("loud")
    assert first.getvalue() == ""
    (line,) = second.getvalue().splitlines()
    assert json.loads(line)["event"] == "loud"


@pytest.mark.parametrize("json_", [False, True])
def test_the_root_s_handlers_get_the_lines(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, json_: bool
) -> None:
    """pytest's caplog, and a file of the root logger, see each line once after setup_logging; also
    after a second one."""
    file = logging.FileHandler(tmp_path / "all.log")
    logging.getLogger().addHandler(file)
    try:
        lines(json_=json_)
        stream = lines(json_=json_)
        log.info("hello %s", "there")
    finally:
        logging.getLogger().removeHandler(file)
        file.close()
    assert [record.getMessage() for record in caplog.records] == ["hello there"]
    assert (tmp_path / "all.log").read_text().splitlines() == ["hello there"]
    assert stream.getvalue().count("hello there") == 1


def test_every_line_of_a_call_names_its_session(tmp_path: Path) -> None:
    """The line that a call begins carries its session, as the last one does."""
    stream = lines(json_=True)
    with sqlite_store(tmp_path / "runs.db") as store, store.session("job") as recorder:
        pass
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"].split()[1] for line in found] == ["called", "succeeded"]
    assert {line["session"] for line in found} == {recorder.session_id}


def test_only_our_logger_is_touched() -> None:
    """The root logger, other loggers and structlog's configuration stay as they are, and our lines
    don't reach the root's handlers."""
    code = """
import io, logging, structlog
from lllm.logging import SessionFilter, setup_logging
own = logging.StreamHandler(io.StringIO())
own.addFilter(SessionFilter())
logging.getLogger("lllm").addHandler(own)
logging.basicConfig(level="WARNING", format="root %(message)s")
root = logging.getLogger()
before = (root.level, list(root.handlers))
setup_logging("DEBUG")
assert before == (root.level, list(root.handlers))
assert not structlog.is_configured()
assert own in logging.getLogger("lllm").handlers
logging.getLogger("lllm.store").error("ours")
logging.getLogger("other").error("theirs")
"""
    shown = run(code).stderr
    assert shown.count("ours") == 1
    assert "=" not in shown  # nothing that `own` has set on the record
    assert "root ours" not in shown
    assert "root theirs" in shown


def test_structlog_is_imported_when_it_is_needed() -> None:
    """Importing lllm.logging and making a filter loads neither structlog nor rich."""
    run(
        "import sys, lllm.logging as l\nl.SessionFilter()\n"
        "assert not {'structlog', 'rich'} & set(sys.modules)\n"
        "l.setup_logging()\nassert 'structlog' in sys.modules"
    )


@pytest.mark.parametrize(
    ("terminal", "environment", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
        (False, {"FORCE_COLOR": "1"}, True),
        (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colours_are_for_terminals(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, environment: dict[str, str], coloured: bool
) -> None:
    """Lines are coloured on a terminal, unless the environment says otherwise."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = lines(stream=Terminal() if terminal else StringIO())
    log.warning("careful")
    assert (ESC in stream.getvalue()) is coloured


def test_warnings_and_errors_stand_out() -> None:
    """A warning and an error have colours of their own."""
    formatter = ColoredFormatter()
    levels = ("INFO", "WARNING", "ERROR")
    shown = [
        formatter.format(logging.makeLogRecord({"msg": "x", "levelname": name, "name": "lllm"}))
        for name in levels
    ]
    colours = [
        line.split(name.lower())[0].split("[")[-2:]
        for line, name in zip(shown, levels, strict=True)
    ]
    assert len({str(colour) for colour in colours}) == 3


def test_a_colored_formatter_is_a_formatter() -> None:
    """ColoredFormatter goes on any handler of the standard library."""
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(ColoredFormatter(colors=False))
    logger = logging.getLogger("somebody.else")
    logger.propagate = False
    logger.addHandler(handler)
    logger.error("hello")
    assert "hello" in stream.getvalue()
    assert ESC not in stream.getvalue()


@pytest.mark.usefixtures("inside")
def test_lines_of_a_call_name_session_and_agent() -> None:
    """Every line inside a call carries its session and agent, as text and as JSON."""
    stream = lines()
    log.info("hello")
    assert "agent=writer" in stream.getvalue()
    assert "session=s-1" in stream.getvalue()
    stream = lines(json_=True)
    log.info("hello")
    found = json.loads(stream.getvalue())
    assert (found["session"], found["agent"]) == ("s-1", "writer")


def test_lines_outside_of_a_call_name_none() -> None:
    """Outside of a call there is no session to name."""
    stream = lines(json_=True)
    log.info("hello")
    assert {"session", "agent"} & json.loads(stream.getvalue()).keys() == set()


@pytest.mark.usefixtures("inside")
def test_a_structlog_line_of_ones_own() -> None:
    """add_session gives session and agent to a user's structlog, and keeps what is there."""
    logger = structlog.wrap_logger(
        structlog.ReturnLogger(),
        processors=[add_session, lambda _logger, _name, event_dict: ((event_dict,), {})],
    )
    found = logger.info("mine", agent="me")
    assert found == {"event": "mine", "session": "s-1", "agent": "me"}


@pytest.mark.usefixtures("inside")
def test_a_stdlib_line_of_ones_own() -> None:
    """SessionFilter gives a record session and agent, "-" where there is none."""
    record = logging.makeLogRecord({"msg": "mine"})
    assert SessionFilter().filter(record)
    log_context.set({})
    outside = logging.makeLogRecord({"msg": "mine"})
    assert SessionFilter().filter(outside)
    form = logging.Formatter("%(session)s %(agent)s %(message)s")
    assert form.format(record) == "s-1 writer mine"
    assert form.format(outside) == "- - mine"


class Evil:
    def __repr__(self) -> str:
        return f"{ESC}[2J\nforged"


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError


NASTY = f"a{ESC}[31m\r\n2024 [error] forged \x9b\x7f\u202e\u2028\ud83d"


def test_untrusted_text_can_t_act_on_the_terminal() -> None:
    """Control characters in an event, a value or a repr are shown as escapes, on one line."""
    stream = lines()
    log.info("%s", NASTY, extra={"value": NASTY, f"k{ESC}\n": 1, "thing": Evil(), "rude": Rude()})
    (line,) = stream.getvalue().split("\n")[:-1]
    assert not set(line) & set("\x1b\r\x9b\x7f\u202e\u2028\ud83d")
    assert r"a\x1b[31m\r\n2024 [error] forged \x9b\x7f\u202e\u2028\ud83d" in line
    assert "its repr raised RuntimeError" in line
    line.encode()


def test_untrusted_text_in_a_traceback() -> None:
    """A traceback is shown plainly, escaped, and indented so that none of it looks like a line."""
    stream = lines()
    secret = "sk-123"
    try:
        raise ValueError(f"{ESC}[2J\n2024 [error] forged")
    except ValueError:
        log.exception("failed", extra={"n": len(secret)})
    first, *rest = stream.getvalue().rstrip("\n").split("\n")
    assert "failed" in first
    assert all(line.startswith("    ") for line in rest)
    assert r"ValueError: \x1b[2J" in stream.getvalue()
    assert ESC not in stream.getvalue()
    assert secret not in stream.getvalue()


def test_json_is_one_object_a_line() -> None:
    """json=True prints one ASCII object a line that has every value, whatever it is."""
    stream = lines(json_=True, stream=Terminal())
    try:
        raise ValueError("no\nway")
    except ValueError:
        log.exception("%s", NASTY, extra={"nan": float("nan"), "odd": {(1, 2): b"x", 3: Rude()}})
    (line,) = stream.getvalue().split("\n")[:-1]
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)
    assert (found["event"], found["level"], found["logger"]) == (NASTY, "error", "lllm.agent")
    assert found["exception"].endswith("ValueError: no\nway")
    assert found["timestamp"].endswith("Z")
    assert found["nan"] == {"$lllm": "float", "value": "nan"}


def test_the_stack_is_shown() -> None:
    """stack_info=True shows where the line was logged, indented."""
    stream = lines()
    log.warning("here", stack_info=True)
    assert "\n    Stack (most recent call last):" in stream.getvalue()


def test_the_stores_of_one_call(tmp_path: Path) -> None:
    """Each factory makes a LogStore on its backend."""
    for store in (
        local_store(tmp_path / "logs"),
        sqlite_store(str(tmp_path / "runs.db")),
        noop_store(),
    ):
        assert store.list_sessions() == []
        store.close()
    assert (tmp_path / "logs").is_dir()
    assert (tmp_path / "runs.db").is_file()


def test_nothing_is_printed_unless_asked_for() -> None:
    """Python prints warnings that no handler takes; only those about the log itself are so."""
    done = run("""
import logging
import lllm.agents.agent_loop, lllm.store.log_store
for name in ("tactic", "agent", "invoker", "pricing", "store"):
    logging.getLogger(f"lllm.{name}").warning("said by %s", name)
""")
    assert done.stderr == "said by store\n"


def test_a_line_of_exactly_a_handlers_level(caplog: pytest.LogCaptureFixture) -> None:
    """It is handed on, as `logging` does."""
    setup_logging("DEBUG", stream=io.StringIO())
    try:
        with caplog.at_level("WARNING"):
            caplog.handler.setLevel("WARNING")
            logging.getLogger("lllm.store").warning("of its level")
            logging.getLogger("lllm.store").info("below it")
        assert [record.message for record in caplog.records] == ["of its level"]
    finally:
        caplog.handler.setLevel(0)
