"""Attempts to call a model as CSV: a column for each field of a `CallRecord`, amounts exact."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Iterable
from decimal import Decimal

from lllm.events.codec import encode
from lllm.projections.session.invoke_cost import nanos
from lllm.store.call_records import CallRecord


def calls_as_csv(records: Iterable[CallRecord]) -> str:
    """A heading, then a line for each attempt.

    What is not known is empty; timestamps are ISO 8601 in UTC, durations seconds, costs US dollars,
    tags a JSON object. Quoting is that of RFC 4180 (https://www.rfc-editor.org/rfc/rfc4180), line
    ends are those of all other output.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = CallRecord.__struct_fields__
    writer.writerow(columns)
    for record in records:
        writer.writerow(_cell(getattr(record, column)) for column in columns)
    return file.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{Decimal(nanos(value)).scaleb(-9):f}"
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return encode(value).decode() if isinstance(value, dict) else value
