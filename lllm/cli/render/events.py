"""Prints events, one on each line: position, time, type, and a short form of the payload."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from lllm.cli.render import formats
from lllm.events import codec
from lllm.events.digest import commitment_of_erased
from lllm.events.envelope import Recorded
from lllm.terminal_safe import visible
from lllm.tools.results import result_text

SHORT_ID = 12  # characters shown of an id: its time, and a part of its random end
_SHORT = 60  # characters shown of a value
_NAME = 18  # columns of the longest type name

# The fields shown for each type, in this order; for other types, all fields except the salt.
_FIELDS: dict[str, tuple[str, ...]] = {
    "session.started": ("tactic_path", "task", "tags"),
    "session.succeeded": ("elapsed", "delivery"),
    "session.failed": ("elapsed", "error"),
    "session.interrupted": ("about", "last_seq"),
    "session.edited": ("step", "message", "tool", "model", "params", "prompt"),
    "session.tagged": ("about", "set", "removed", "by"),
    "session.annotated": ("about", "step", "name", "value", "comment", "by"),
    "session.held": ("about", "by", "reason"),
    "session.released": ("about", "hold", "by", "reason"),
    "session.erased": ("about", "by", "reason"),
    "agent.defined": ("name", "model"),
    "agent.started": ("agent", "call"),
    "agent.succeeded": ("call", "elapsed", "parsed"),
    "agent.failed": ("call", "elapsed", "error"),
    "dialog.opened": ("agent", "alias", "dialog", "parent"),
    "message.added": ("why", "content"),
    "llm.requested": ("model", "step", "attempt"),
    "llm.responded": ("model", "elapsed", "usage", "price", "finish", "content"),
    "llm.failed": ("asked", "elapsed", "error"),
    "llm.refused": ("asked", "reason"),
    "value.drawn": ("kind", "value"),
    "tool.called": ("name", "arguments"),
    "tool.returned": ("elapsed", "repeats", "content"),
    "tool.failed": ("elapsed", "error"),
    "retry.scheduled": ("kind", "attempt", "limit", "wait", "reason"),
    "error.recorded": ("error", "context"),
    "log.gap": ("lost", "reason"),
}
_COLOURS = {"session": "bold", "agent": "cyan", "llm": "green", "tool": "magenta"}


class EventLines:
    """Prints events, one on each line, with times in a given zone.

    On a terminal, the day and its UTC offset are printed above the first event and whenever they
    change. In a pipe, each line has its offset.

    Args:
        console: The console to print to.
        zone: The time zone of the times shown.
        with_session: True to show the session on each line.
    """

    def __init__(self, console: Console, zone: dt.tzinfo, *, with_session: bool) -> None:
        self._console = console
        self._zone = zone
        self._with_session = with_session
        self._day = ""

    def show(self, event: Recorded) -> None:
        """Print an event; on a terminal it is cut to fit one line.

        Args:
            event: The event to print.
        """
        clock = formats.clock(event.time, self._zone)
        if self._console.is_terminal:
            day = formats.day(event.time, self._zone)
            if day not in ("", self._day):
                self._day = day
                self._console.print(Text(f"-- {day}", "dim"))
        else:
            clock += formats.clock_suffix(event.time, self._zone)
        line = _event_line(event, clock, with_session=self._with_session)
        self._console.print(line, no_wrap=True, overflow="ellipsis", crop=True)


def _event_line(event: Recorded, clock: str, *, with_session: bool) -> Text:
    """Format an event: position, session, seq, time, type and a short payload."""
    payload = codec.values(event.data)
    fields: Mapping[str, object] = payload if isinstance(payload, dict) else {"data": payload}
    line = Text.assemble((f"{event.position:>6} ", "dim"))
    if with_session:
        about = fields.get("about")
        subject = visible((about if isinstance(about, str) else event.stream)[:SHORT_ID])
        line.append(f"{subject:{SHORT_ID}} ", "dim")
    line.append(f"{event.seq:>3} {clock} ")
    style = _COLOURS.get(event.type.partition(".")[0], "")
    if event.type.endswith(".failed") or event.type == "error.recorded":
        style = "red"
    elif event.type in ("llm.refused", "retry.scheduled"):
        style = "yellow"
    line.append(f"{visible(event.type):{_NAME}} ", style)
    if commitment_of_erased(event.data) is not None:
        return line.append("erased", "dim")
    names = _FIELDS.get(event.type) or tuple(name for name in fields if name != "salt")
    texts = [_field_text(name, fields[name]) for name in names if fields.get(name) is not None]
    return line.append(" ".join(texts))


def _field_text(name: str, value: object) -> str:
    if name in ("elapsed", "wait") and isinstance(value, int):
        return f"{name}={formats.nanoseconds(value)}"
    if isinstance(value, dict):
        if name == "error":
            text = f"{result_text(value.get('type'))}: {result_text(value.get('message'))}"
            return formats.shortened(text, _SHORT)
        if name == "content":
            return _content_text(value)
        if name == "usage":
            used = [n if isinstance(n := value.get(way), int) else 0 for way in ("input", "output")]
            return formats.tokens(*used)
        if name == "price":
            nanos = value.get("nanos")
            return formats.nano_dollars(nanos) if isinstance(nanos, int) else "unpriced"
    return f"{visible(name)}={formats.shortened(value, _SHORT)}"


def _content_text(content: Mapping[str, object]) -> str:
    """Format the text of a message, or the tools that it asks for."""
    parts, calls = content.get("parts"), content.get("tool_calls")
    texts = [
        result_text(part.get("text") or f"[{result_text(part.get('kind'))}]")
        for part in (parts if isinstance(parts, list) else ())
        if isinstance(part, dict)
    ]
    asked = [
        f"{result_text(call.get('name'))}({result_text(call.get('arguments', ''))})"
        for call in (calls if isinstance(calls, list) else ())
        if isinstance(call, dict)
    ]
    return formats.shortened(" ".join(texts + asked), _SHORT)
