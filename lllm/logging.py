"""Shows lllm's log lines on the terminal, and re-exports `lllm.store.factories`.

lllm logs to `lllm.tactic`, `lllm.agent`, `lllm.invoker` and `lllm.store` of the standard library,
which by default shows nothing below WARNING. `setup_logging` shows them; it configures the logger
`lllm` only, and leaves the root logger and structlog's configuration unchanged. Every line of a
running call names its session and agent; `add_session` and `SessionFilter` add these to your own
log lines. structlog is imported when the first formatter is made.
"""

from __future__ import annotations

import json as json_
import logging
import os
import sys
import textwrap
import traceback
from datetime import datetime
from typing import TYPE_CHECKING, TextIO, cast

from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.values.json_values import to_plain
from lllm.store.factories import local_store, noop_store, sqlite_store
from lllm.terminal_safe import visible
from lllm.times import suffix_of

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence
    from types import TracebackType

    EventDict = MutableMapping[str, object]
    Processor = Callable[[object, str, EventDict], EventDict | str]

__all__ = [
    "ColoredFormatter",
    "SessionFilter",
    "add_session",
    "local_store",
    "noop_store",
    "setup_logging",
    "sqlite_store",
]

LOGGER = "lllm"
# a second setup_logging finds the first one's handler by this name
_HANDLER = "lllm.cli.render.console"
_NONE = "-"  # the value of a SessionFilter outside of a call
_setup = ThreadLock()


def setup_logging(
    level: str | int = "INFO", json: bool = False, stream: TextIO | None = None
) -> None:
    """Show lllm's log lines, coloured or as JSON lines. Calling it again changes the format.

    Handlers of the root logger (files, services, pytest's caplog) get the lines, too, except those
    that write to the terminal, which would show each line twice. Only a terminal gets colours;
    NO_COLOR and TERM=dumb turn them off, FORCE_COLOR turns them on elsewhere (https://no-color.org,
    https://force-color.org).

    Args:
        level: "DEBUG", "INFO", "WARNING", ..., or a number as in `logging`.
        json: True for JSON lines, for programs; False for text, for people.
        stream: The stream to write to; None for sys.stderr.

    Raises:
        ValueError: The level does not exist; the message lists the known ones.
    """
    number = _level_number(level)
    target = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(target)
    handler.set_name(_HANDLER)
    handler.setFormatter(_JSONFormatter() if json else ColoredFormatter(colors=_colors(target)))
    logger = logging.getLogger(LOGGER)
    with _setup.held():
        for other in [item for item in logger.handlers if item.get_name() == _HANDLER]:
            logger.removeHandler(other)
        logger.addHandler(handler)
        logger.addHandler(_ToRoot(target))
        logger.setLevel(number)
        logger.propagate = False  # `_ToRoot` does that instead


class _ToRoot(logging.Handler):
    """Passes records to those handlers of the root logger that don't write to a terminal.

    target: the stream that shows the lines already.
    """

    def __init__(self, target: TextIO) -> None:
        super().__init__()
        self.set_name(_HANDLER)
        self._target = target

    def handle(self, record: logging.LogRecord) -> bool:
        """Pass the record on without taking this handler's lock."""
        for handler in logging.getLogger().handlers:
            if record.levelno >= handler.level and not self._doubles(handler):
                handler.handle(record)
        return True

    def _doubles(self, handler: logging.Handler) -> bool:
        stream = getattr(handler, "stream", None)
        if stream is None:
            return False
        return stream is self._target or stream in (sys.stderr, sys.stdout)


def _level_number(level: str | int) -> int:
    known = logging.getLevelNamesMapping()
    if isinstance(level, str) and level.upper() in known:
        return known[level.upper()]
    if isinstance(level, int) and not isinstance(level, bool):
        return level
    names = ", ".join(sorted(known, key=known.__getitem__))
    raise ValueError(f"There is no log level {level!r}. Known are {names}, and any number.")


def _colors(stream: TextIO) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    if os.environ.get("TERM") == "dumb":
        return False
    isatty = getattr(stream, "isatty", None)
    return bool(callable(isatty) and isatty())


class SessionFilter(logging.Filter):
    """Adds `session` and `agent` to every log record.

    Use it for formats like `"%(session)s %(agent)s %(message)s"`; outside of a call both are "-".
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Set `session` and `agent` on a record that lacks them.

        Args:
            record: The record to complete.

        Returns:
            True, always.
        """
        context = _context()
        for name in ("session", "agent"):
            if not hasattr(record, name):
                setattr(record, name, context.get(name, _NONE))
        return True


def add_session(_logger: object, _method_name: str, event_dict: EventDict) -> EventDict:
    """Add `session` and `agent` to lines logged inside a call; a processor for structlog.

    Args:
        _logger: Required by structlog, not used.
        _method_name: Required by structlog, not used.
        event_dict: The fields of the log line.

    Returns:
        The same dict with the two fields.
    """
    for name, value in _context().items():
        event_dict.setdefault(name, value)
    return event_dict


def _context() -> dict[str, str]:
    from lllm.events.log_context import current_log_context

    return current_log_context()


class ColoredFormatter(logging.Formatter):
    """Formats log lines for people: time, level, event, logger, then `name=value`.

    Tracebacks come below, indented. Warnings are yellow and errors red. Control characters in what
    was logged are shown as escapes: a model's or a user's text can neither colour the terminal nor
    pass for a line of the log.

    Args:
        colors: True to colour the lines.
    """

    def __init__(self, *, colors: bool = True) -> None:
        """colors: True to colour the lines."""
        import structlog

        super().__init__()
        self._formatter = _formatter(
            _add_time,
            _escape_values,
            structlog.dev.ConsoleRenderer(
                colors=colors, exception_formatter=structlog.dev.plain_traceback
            ),
        )

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as text."""
        return self._formatter.format(record)


class _JSONFormatter(logging.Formatter):
    """Formats log lines for machines: one ASCII JSON object each."""

    def __init__(self) -> None:
        import structlog

        super().__init__()
        self._formatter = _formatter(
            structlog.processors.TimeStamper(fmt="iso", utc=True), _to_json
        )

    def format(self, record: logging.LogRecord) -> str:
        return self._formatter.format(record)


def _formatter(*rendering: Processor) -> logging.Formatter:
    from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

    return ProcessorFormatter(
        foreign_pre_chain=[ExtraAdder(), _drop_leftovers],
        processors=cast(
            "Sequence[Callable[..., EventDict]]",
            [
                add_session,
                add_log_level,
                add_logger_name,
                ProcessorFormatter.remove_processors_meta,
                _add_exception,
                *rendering,
            ],
        ),
    )


def _add_time(_logger: object, _method_name: str, event_dict: EventDict) -> EventDict:
    """Add the local time with its offset."""
    local = datetime.now().astimezone()
    return {**event_dict, "timestamp": f"{local:%H:%M:%S}{suffix_of(local, utc='Z')}"}


def _drop_leftovers(_logger: object, _method_name: str, event_dict: EventDict) -> EventDict:
    """Remove attributes that other handlers have set, which look like a user's `extra`."""
    left = {"message", "asctime"} | {
        name for name in ("session", "agent") if event_dict.get(name) == _NONE
    }
    return {name: value for name, value in event_dict.items() if name not in left}


def _add_exception(_logger: object, _method_name: str, event_dict: EventDict) -> EventDict:
    """Add the traceback as plain text, without local variables."""
    found = event_dict.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    if isinstance(found, BaseException):
        found = (type(found), found, found.__traceback__)
    if isinstance(found, tuple) and found[0] is not None:
        info = cast("tuple[type[BaseException], BaseException, TracebackType | None]", found)
        event_dict["exception"] = "".join(traceback.format_exception(*info)).rstrip("\n")
    if "stack_info" in event_dict:
        event_dict["stack"] = event_dict.pop("stack_info")
    return event_dict


def _escape_values(_logger: object, _method_name: str, event_dict: EventDict) -> EventDict:
    """Escape unsafe characters, and indent tracebacks, so that no value looks like a log line."""
    escaped: EventDict = {}
    for name, value in event_dict.items():
        if name in ("exception", "stack"):
            lines = [visible(line) for line in str(value).split("\n")]
            escaped[name] = textwrap.indent("\n".join(lines), "    ")
        else:
            escaped[visible(name)] = _printable(value)
    return escaped


def _printable(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return visible(value)
    try:
        return visible(repr(value))
    except Exception as error:  # a user's __repr__ may raise anything
        return f"<{type(value).__name__}: its repr raised {type(error).__name__}>"


def _to_json(_logger: object, _method_name: str, event_dict: EventDict) -> str:
    return json_.dumps(to_plain(event_dict), ensure_ascii=True)  # every unsafe character escaped
