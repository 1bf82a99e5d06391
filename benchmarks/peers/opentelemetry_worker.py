"""opentelemetry-sdk: a session as spans, to a file that is flushed after each export.

The simple processor exports a span as it ends; the batch processor keeps spans in memory, where a
crash loses them and a full queue drops them, and exports them in a thread of its own.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExporter,
)

_Processor = Callable[[SpanExporter], SpanProcessor]
_BURST = 500  # sessions, one after another without a pause


class _Spans:
    """A tracer whose spans end in a file of lines, and what it was given."""

    def __init__(self, path: Path, processor: _Processor, work: dict[str, Any]) -> None:
        self._path = path
        self._events = [
            (event["span"], event["type"], _attributes(event["fields"]))
            for moment in work["session"]
            for event in moment
        ]
        self.spans_each = sum(span == "opens" for span, _, _ in self._events)
        exporter = ConsoleSpanExporter(
            out=path.open("a", encoding="utf-8"),
            formatter=lambda span: str(span.to_json(indent=None)) + "\n",
        )
        self._processor = processor(exporter)
        provider = TracerProvider(resource=Resource.get_empty())
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("session")
        self.given = 0

    def session(self) -> None:
        """All spans of one session."""
        self.given += 1
        open_spans: list[trace.Span] = []
        for what, name, attributes in self._events:
            if what == "opens":
                within = trace.set_span_in_context(open_spans[-1]) if open_spans else None
                span = self._tracer.start_span(name, context=within, attributes=attributes)
                open_spans.append(span)
            elif what == "closes":
                span = open_spans.pop()
                span.set_attributes(attributes)
                span.end()
            else:
                open_spans[-1].add_event(name, attributes)

    def flush(self) -> None:
        """Wait until all that was not dropped is in the file."""
        self._processor.force_flush()

    def stored(self) -> tuple[int, int]:
        """Spans in the file, and spans that were ended."""
        self.flush()
        lines = sum(1 for _ in self._path.open(encoding="utf-8"))
        return lines, self.given * self.spans_each


class Worker:
    """Three tracers: each span at once, batches, and batches under a burst."""

    def __init__(self, folder: Path, work: dict[str, Any]) -> None:
        self._simple = _Spans(folder / "simple.jsonl", SimpleSpanProcessor, work)
        self._batch = _Spans(folder / "batch.jsonl", BatchSpanProcessor, work)
        self._burst = _Spans(folder / "burst.jsonl", BatchSpanProcessor, work)
        self.operations = {
            "session": lambda: self._simple.session,
            "session, batch": lambda: self._flushed,
            "session, batch not awaited": self._not_awaited,
            "burst": lambda: self._bursting,
        }

    def _flushed(self) -> None:
        self._batch.session()
        self._batch.flush()

    def _not_awaited(self) -> Callable[[], object]:
        self._batch.flush()  # what the run before left
        return self._batch.session

    def _bursting(self) -> None:
        for _ in range(_BURST):
            self._burst.session()
        self._burst.flush()

    def stored(self) -> dict[str, tuple[int, int]]:
        return {
            "session": self._simple.stored(),
            "session, batch": self._batch.stored(),
            "burst": self._burst.stored(),
        }


def _attributes(fields: dict[str, Any]) -> dict[str, str | int]:
    """Spans hold plain values; what is more goes in as JSON."""
    return {
        name: value if isinstance(value, str | int) else json.dumps(value)
        for name, value in fields.items()
        if value is not None
    }
