"""Describes a store to Datasette, which shows SQLite files in a browser (https://datasette.io).

The SQL views for people are listed and described, with queries that lead from a session to what
belongs to it. The tables of the rows, whose names change when rows are rebuilt, are hidden; SQL can
read them all the same. See https://docs.datasette.io/en/stable/metadata.html.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from lllm.store.sql_database import StoreDatabase

_GENERATION = re.compile(r"(.+)_v(\d+)")
_COMING = 3  # generations after the present one that are hidden in advance
_NEWEST_FIRST = {
    "readable_sessions": "started",
    "readable_calls": "started",
    "readable_events": "position",
    "readable_costs": "day",
    "readable_tag_costs": "cost_nanos",
}
_QUERIES = {
    "calls_of_session": (
        "The model calls of one session",
        "SELECT * FROM readable_calls WHERE session_id = :session_id ORDER BY started",
    ),
    "calls_below_session": (
        "The model calls of a session at the top, and of all below it",
        "SELECT * FROM readable_calls WHERE root_id = :session_id ORDER BY started",
    ),
    "children_of_session": (
        "The sessions that one session called",
        "SELECT * FROM readable_child_sessions WHERE parent_id = :session_id ORDER BY started",
    ),
    "events_of_session": (
        "The events of one session, as they are stored",
        "SELECT * FROM readable_events WHERE session_id = :session_id ORDER BY seq",
    ),
    "failures": (
        "The newest failures",
        "SELECT id, started_at, tactic, task, error_type, error_message, cost_usd "
        "FROM readable_sessions WHERE state = 'failure' ORDER BY started DESC LIMIT 100",
    ),
    "cost_by_model": (
        "What each model cost, by day",
        "SELECT date, model, sum(cost_usd) AS cost_usd, sum(wasted_usd) AS wasted_usd, "
        "sum(calls) AS calls, sum(unpriced_calls) AS unpriced_calls "
        "FROM readable_costs GROUP BY date, model ORDER BY date DESC, cost_usd DESC",
    ),
}


def metadata(database: StoreDatabase) -> str:
    """Write the metadata of a store for Datasette.

    Args:
        database: The database of the store.

    Returns:
        JSON for `datasette FILE -m METADATA`.
    """
    found = database.execute("SELECT name, type FROM sqlite_master").fetchall()
    there = {str(name) for name, kind in found if kind in ("table", "view")}
    tables: dict[str, dict[str, object]] = {}
    for readable in database.readable:
        if readable.name in there:
            said = tables[readable.name] = {
                "description": readable.about,
                "columns": dict(readable.columns),
            }
            if readable.name in _NEWEST_FIRST:
                said["sort_desc"] = _NEWEST_FIRST[readable.name]
    for name, kind in found:
        if kind == "table":
            tables.setdefault(str(name), {"hidden": True})
        elif kind == "view" and name in database.about:
            # Datasette hides a view only if nobody may open its page.
            tables.setdefault(str(name), {"allow": False})
    for name in sorted(there):
        if (match := _GENERATION.fullmatch(name)) and match[1] in database.about:
            for number in range(1, _COMING + 1):
                tables.setdefault(f"{match[1]}_v{int(match[2]) + number}", {"hidden": True})
    described = {
        "description": "What LLM agents did, as recorded by lllm. Times are UTC.",
        "tables": tables,
        "queries": {
            name: {"title": title, "sql": sql}
            for name, (title, sql) in _QUERIES.items()
            if sql.partition("FROM ")[2].split()[0] in there
        },
    }
    return json.dumps({"databases": {_name_of(database): described}}, indent=2)


def _name_of(database: StoreDatabase) -> str:
    """The name by which Datasette knows the file."""
    [path] = [path for _, name, path in database.execute("PRAGMA database_list") if name == "main"]
    return Path(path).stem if path else "memory"
