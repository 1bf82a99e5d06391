"""mlflow: a session as a trace in its SQLite store, durable when the trace has ended.

It is told to export at once: by default it exports in another thread, and waiting until all is
durable then takes it a second or so. Its database has lllm's settings, WAL and synchronous=NORMAL;
its own, a rollback journal and FULL, survive the loss of power too and take longer.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "false"  # before it is imported

import mlflow
from mlflow.entities import LiveSpan, SpanEvent
from sqlalchemy import event as engine_event
from sqlalchemy.engine import Engine


@engine_event.listens_for(Engine, "connect")
def _as_lllm(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


class Worker:
    """A tracking store of its own, with one experiment."""

    def __init__(self, folder: Path, work: dict[str, Any]) -> None:
        self._events = [event for moment in work["session"] for event in moment]
        self._tags = work["tags"]
        self._path = folder / "mlflow.db"
        mlflow.set_tracking_uri(f"sqlite:///{self._path}")
        mlflow.set_experiment("sessions")
        self._sessions = 0
        self.operations = {"session": self._session}

    def _session(self) -> Callable[[], object]:
        self._sessions += 1
        return self._trace

    def _trace(self) -> None:
        open_spans: list[LiveSpan] = []
        for event in self._events:
            name, fields = event["type"], event["fields"]
            if event["span"] == "opens":
                span = mlflow.start_span_no_context(
                    name,
                    parent_span=open_spans[-1] if open_spans else None,
                    inputs=fields,
                    tags=None if open_spans else self._tags,
                )
                open_spans.append(span)
            elif event["span"] == "closes":
                open_spans.pop().end(outputs=fields)
            else:
                open_spans[-1].add_event(SpanEvent(name, attributes={"fields": str(fields)}))

    def stored(self) -> dict[str, tuple[int, int]]:
        opened = sum(event["span"] == "opens" for event in self._events)
        with closing(sqlite3.connect(self._path)) as database:
            (spans,) = database.execute("SELECT count(*) FROM spans").fetchone()
        return {"session": (spans // opened, self._sessions)}
