"""Prints attempts to call a model as CSV: a column for each field of a `CallRecord`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from lllm.cli.render.csv_text import exact_dollars, show_csv
from lllm.events.codec import encode
from lllm.store.call_records import CallRecord


def show_calls_as_csv(records: Iterable[CallRecord]) -> None:
    """Print a line for each attempt.

    Unknown values are empty; timestamps are ISO 8601 in UTC, durations are seconds, costs are US
    dollars, and tags are a JSON object.

    Args:
        records: The attempts to print.
    """
    columns = CallRecord.__struct_fields__
    show_csv(columns, ([_cell(getattr(one, column)) for column in columns] for one in records))


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return exact_dollars(value)
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return encode(value).decode() if isinstance(value, dict) else value
