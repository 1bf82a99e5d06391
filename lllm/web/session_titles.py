"""Names sessions by what was asked, for pages that list something else than sessions."""

from __future__ import annotations

from collections.abc import Iterable

from lllm.projections.database import RowsDatabase
from lllm.projections.queries.sessions import SessionRow, find_session, reading
from lllm.store.erasure_report import archived_text, erased_text
from lllm.store.log_store import LogStore, session_host
from lllm.web.html_text import task_line


def session_titles(store: LogStore, session_ids: Iterable[str]) -> dict[str, str]:
    """Look up what was asked in some sessions.

    Args:
        store: The store with the sessions.
        session_ids: The whole ids.

    Returns:
        A line for each session, by id: its task, else the name of its tactic.
    """

    def read(database: RowsDatabase) -> dict[str, str]:
        with reading(database) as connection:
            rows = (find_session(connection, one) for one in dict.fromkeys(session_ids))
            return {
                row.id: session_title(row.task, row.name, gone=_is_gone(row))
                for row in rows
                if row is not None
            }

    return session_host(store).reader.ask(read)


def _is_gone(row: SessionRow) -> bool:
    return erased_text(row) is not None or archived_text(row) is not None


def session_title(task: str | None, tactic_name: str, *, gone: bool = False) -> str:
    """Name a session in a list.

    Args:
        task: The first line of its task; None without one.
        tactic_name: The name of its tactic.
        gone: True if the session was erased or archived, and its task with it.
    """
    if task:
        return task_line(task)
    return tactic_name if gone else f"{tactic_name}, without a task"
