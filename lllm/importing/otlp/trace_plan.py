"""Divides the spans of a trace into sessions, calls of models and runs of tools.

The root of a trace becomes a session, and each agent and workflow below it a session of its own.
Libraries that watch the same call each make a span of it; such spans become one call:

- Of nested spans of models, the inner one is the call; the outer one may hold the sum of several.
- Spans with the same id of the answer are one call.
- Nested spans of the same tool, such as those of a client and a server, are one run.

The tokens of all other spans are sums, and are not counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator

import msgspec

from lllm.importing.otlp.conventions.read_span import read_span
from lllm.importing.otlp.conventions.reading import ModelCall, SpanReading
from lllm.importing.otlp.signals import Span

_UNIQUE = 16  # characters of an id that no other call has


class TraceStep(msgspec.Struct, gc=False):
    """A call of a model or a run of a tool, in a session."""

    span: Span
    reading: SpanReading


class PlannedSession(msgspec.Struct, gc=False):
    """A session, and what happened in it.

    Attributes:
        span: The span that it is made from; None if the root of the trace did not come.
        reading: What that span says.
        parent: The session that it was called in; None for the first one of the trace.
        under: The span of the tool in which it began; "" if in none.
        spans: Its spans, with that of the session.
        steps: Its calls and its runs of tools, by their start.
        content: For each span, how the names of the attributes begin whose texts were read.
    """

    span: Span | None
    reading: SpanReading
    parent: PlannedSession | None = None
    under: str = ""
    spans: list[Span] = []
    steps: list[TraceStep] = []
    content: dict[str, tuple[str, ...]] = {}

    @property
    def began(self) -> int:
        """The start of its first span, nanoseconds UTC."""
        return min(span.start for span in self.spans)

    @property
    def ended(self) -> int:
        """The end of its own span, or of the last of its spans, nanoseconds UTC."""
        return self.span.end if self.span is not None else max(span.end for span in self.spans)


def plan(spans: Collection[Span]) -> list[PlannedSession]:
    """Divide the spans of a trace into sessions.

    Args:
        spans: The spans, in any order, each once.

    Returns:
        The sessions, each after the one that it was called in; the first one has no parent.
    """
    tree = _Tree(spans)
    tree.merge_calls()
    tree.merge_tools()
    return tree.sessions()


class _Tree:
    """The spans of a trace, each after its parent, and what they say."""

    def __init__(self, spans: Collection[Span]) -> None:
        by_id = {span.span_id: span for span in spans}
        children: defaultdict[str, list[Span]] = defaultdict(list)
        for span in sorted(by_id.values(), key=_order):
            children[span.parent_id if span.parent_id in by_id else ""].append(span)
        self.tops = children[""]
        self.order = list(_each_below(self.tops, children))
        if len(self.order) < len(by_id):  # some name each other as their parents
            seen = {span.span_id for span in self.order}
            left = [span for span in by_id.values() if span.span_id not in seen]
            self.tops = [*self.tops, *sorted(left, key=_order)]
            self.order += sorted(left, key=_order)
        self.readings = {span.span_id: read_span(span) for span in self.order}
        top_ids = {span.span_id for span in self.tops}
        self.parents = {
            span.span_id: "" if span.span_id in top_ids else span.parent_id for span in self.order
        }

    def merge_calls(self) -> None:
        """Leave one span of each call of a model."""
        inside: defaultdict[str, list[ModelCall]] = defaultdict(list)
        above: dict[str, str] = {}
        for span in self.order:
            parent = self.parents[span.span_id]
            is_model = parent != "" and self.readings[parent].kind == "model"
            above[span.span_id] = parent if is_model else above.get(parent, "")
        for span in reversed(self.order):
            reading = self.readings[span.span_id]
            call = reading.call
            if reading.kind != "model" or call is None:
                continue
            inner = inside.get(span.span_id)
            if inner:
                reading.kind = "other"
                if len(inner) == 1 and _may_be_same(inner[0], call):
                    inner[0].fill_from(call)
                    call = inner[0]
                else:
                    reading.content = ()  # its texts stay in its attributes
            if above[span.span_id]:
                inside[above[span.span_id]].append(call)
        self._merge_answers()

    def _merge_answers(self) -> None:
        known: defaultdict[str, list[tuple[Span, ModelCall]]] = defaultdict(list)
        for span in self.order:
            reading = self.readings[span.span_id]
            call = reading.call
            if reading.kind != "model" or call is None or not call.response_id:
                continue
            same = next(
                (
                    first
                    for other, first in known[call.response_id]
                    if len(call.response_id) >= _UNIQUE or _overlap(other, span)
                ),
                None,
            )
            if same is None:
                known[call.response_id].append((span, call))
            else:
                same.fill_from(call)
                reading.kind = "other"

    def merge_tools(self) -> None:
        """Leave one span of each run of a tool."""
        above: dict[str, str] = {}
        called: dict[tuple[str, str], SpanReading] = {}
        for span in self.order:
            parent = self.parents[span.span_id]
            if parent:
                is_tool = self.readings[parent].kind == "tool"
                above[span.span_id] = parent if is_tool else above.get(parent, "")
            reading = self.readings[span.span_id]
            if reading.kind != "tool" or reading.tool is None:
                continue
            outer = self.readings.get(above.get(span.span_id, ""))
            same = outer if outer and outer.tool and outer.tool.name == reading.tool.name else None
            if reading.tool.call_id:
                key = (reading.tool.call_id, reading.tool.name)
                same = same or called.get(key)
                called.setdefault(key, same or reading)
            if same is not None and same.tool is not None and same is not reading:
                same.tool.fill_from(reading.tool)
                reading.kind = "other"
                above[span.span_id] = above.get(span.span_id, "")

    def sessions(self) -> list[PlannedSession]:
        """Make the sessions."""
        roots = [span for span in self.tops if not span.parent_id]
        first = self.tops[0]
        root = roots[0] if len(roots) == 1 else self.tops[0] if len(self.tops) == 1 else None
        top = PlannedSession(
            root, self.readings[(root or first).span_id], spans=[], steps=[], content={}
        )
        found = [top]
        owner: dict[str, PlannedSession] = {}
        tool: dict[str, str] = {"": ""}
        for span in self.order:
            reading, parent = self.readings[span.span_id], self.parents[span.span_id]
            one = owner.get(parent, top)
            under = tool.get(parent, "")
            if reading.kind == "agent" and span is not root and not self._is_again(span, one):
                one = PlannedSession(span, reading, one, under, spans=[], steps=[], content={})
                found.append(one)
                under = ""
            elif reading.kind == "tool":
                under = span.span_id
            owner[span.span_id], tool[span.span_id] = one, under
            one.spans.append(span)
            one.content[span.span_id] = reading.content
            if reading.kind in ("model", "tool"):
                one.steps.append(TraceStep(span, reading))
        for one in found:
            one.steps.sort(key=lambda step: _order(step.span))
        return [one for one in found if one.spans]

    def _is_again(self, span: Span, one: PlannedSession) -> bool:
        """True for a second span of the same agent, directly inside the first."""
        reading = self.readings[span.span_id]
        if span.parent_id != (one.span and one.span.span_id) or reading.name != one.reading.name:
            return False
        one.reading.task = one.reading.task or reading.task
        one.reading.delivery = one.reading.delivery or reading.delivery
        return True


def _each_below(tops: list[Span], children: dict[str, list[Span]]) -> Iterator[Span]:
    waiting = list(reversed(tops))
    while waiting:
        span = waiting.pop()
        yield span
        waiting.extend(reversed(children.get(span.span_id, ())))


def _order(span: Span) -> tuple[int, str]:
    return span.start, span.span_id


def _overlap(one: Span, other: Span) -> bool:
    return one.start <= other.end and other.start <= one.end


def _may_be_same(one: ModelCall, other: ModelCall) -> bool:
    return not (one.response_id and other.response_id) or one.response_id == other.response_id
