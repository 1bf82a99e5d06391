"""Makes data sets for evaluations: the task, the result and the scores of each session."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence

import msgspec

from lllm.events.dataframe_rows import TableRow
from lllm.events.values.readable import readable
from lllm.projections.session.annotations import Annotation
from lllm.store.session_export import as_recorded
from lllm.store.session_reader import SessionReader
from lllm.store.summaries import SessionSummary


class DatasetRow(msgspec.Struct, TableRow, frozen=True, kw_only=True):
    """A session as one example of a data set for evaluations.

    Attributes:
        session_id: The whole id of the session.
        tactic_path: The stable path of the tactic.
        state: "success", "failure", "running" or "interrupted".
        task: The task of the session, as JSON.
        delivery: The result of the session, as JSON; None if there is none.
        error: "Type: message" of a failed session, else None.
        scores: The value of each annotation of the whole session, by its name; if several people or
            programs gave one, the latest value.
        annotations: All annotations, also those of single attempts.
        tags: The tags of the session.
        timestamp: The time at which the session began, UTC.
        total_cost: The cost of the session and its child sessions, in US dollars.
    """

    session_id: str
    tactic_path: str
    state: str
    task: object
    delivery: object
    error: str | None
    scores: dict[str, object]
    annotations: list[Annotation]
    tags: dict[str, str]
    timestamp: dt.datetime
    total_cost: float


def dataset(reader: SessionReader, sessions: Sequence[SessionSummary]) -> Iterator[DatasetRow]:
    """Make the rows of a data set.

    Args:
        reader: Loads the sessions from the log.
        sessions: The summaries of the sessions to put into the data set.

    Yields:
        A row for each session, in the given order. Erased and archived sessions are left out.

    Raises:
        LogDamaged: An event in the log is corrupt.
    """
    for one in sessions:
        if one.erased is not None or one.archived is not None:
            continue
        _, session = reader.load(one.session_id, as_recorded)
        annotations = reader.annotations(one.session_id, _readable)
        yield DatasetRow(
            session_id=one.session_id,
            tactic_path=one.tactic_path,
            state=one.state,
            task=_readable(session.task),
            delivery=_readable(session.delivery),
            error=one.error,
            scores={
                said.name: said.value
                for said in sorted(annotations, key=lambda said: said.timestamp)
                if said.step is None and said.value is not None
            },
            annotations=annotations,
            tags=one.tags,
            timestamp=one.timestamp,
            total_cost=one.total_cost,
        )


def _readable(value: object) -> object:
    try:
        return readable(value)
    except Exception:  # a mark that we don't know how to read
        return value
