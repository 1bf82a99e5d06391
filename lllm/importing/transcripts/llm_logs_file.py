"""Reads the SQLite database in which the tool llm logs its calls: logs.db."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import click

from lllm.events.errors import StoreError
from lllm.importing.transcripts.file_import import ImportedSession, Target, TranscriptFileImport
from lllm.importing.transcripts.llm_logs import (
    NAME,
    PATH,
    LlmConversation,
    LoggedCall,
    LoggedMessage,
    content_of,
    usage_in,
)
from lllm.importing.transcripts.session_events import SessionSource
from lllm.importing.transcripts.sqlite_file import json_in, read_only, state_of
from lllm.importing.transcripts.transcript_json import Line, derived_id, number_in, time_of
from lllm.invokers.dialects.provider_json import items, mapping, text

_FILE = "logs.db"


def folders() -> list[Path]:
    """List the folders in which llm keeps its log on this machine."""
    own = os.environ.get("LLM_USER_PATH")
    home = Path(own) if own else Path(click.get_app_dir("io.datasette.llm"))
    return [home] if home.is_dir() else []


def files_in(folder: Path) -> list[Path]:
    """List the logs in a folder."""
    return [one for one in (folder / _FILE,) if one.is_file()]


class LlmLogsFile(TranscriptFileImport):
    """A log of llm, and how far it is imported; see TranscriptFileImport.

    Args:
        path: The file.
        target: Where its sessions go.
    """

    program = NAME
    has_many = True

    def __init__(self, path: Path, target: Target) -> None:
        super().__init__(path, target)
        self._read = {"turns": 0, "responses": 0}  # by table: the last row that was read
        self._parts: Counter[str] = Counter()
        self._said: set[str] = set()

    def state(self) -> tuple[int, int]:
        """Say how the file is; see `TranscriptFileImport.state`."""
        return state_of(self.path)

    def changed_at(self, session: ImportedSession, changed: int) -> int:  # noqa: ARG002
        """Say when a session was last changed: with its last call."""
        return session.conversation.last_time

    def new_lines(self) -> Iterator[Line]:
        """Read the new calls; see `TranscriptFileImport.new_lines`."""
        try:
            with closing(read_only(self.path)) as connection:
                connection.row_factory = sqlite3.Row
                found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
                tables = {row[0] for row in found}
                known = [one for one in ("responses", "turns") if one in tables]
                if not known or not tables & {"conversations", "threads"}:
                    raise StoreError("it is not a log of llm: it has no table turns or responses")
                self.has_known = True
                for table in known:
                    rows = connection.execute(
                        f"SELECT rowid AS number, * FROM {table} WHERE rowid > ? ORDER BY rowid",
                        (self._read[table],),
                    )
                    for row in rows:
                        self._read[table] = row["number"]
                        yield Line(row["number"], {"table": table, "row": _Row(connection, row)})
        except sqlite3.Error as error:
            self._say(f"{self.path}: the database can't be read: {error}")
        except StoreError as error:
            self._say(f"{self.path}: {error}")

    def _say(self, why: str) -> None:
        if why not in self._said:
            self._said.add(why)
            self.left_out.append(why)

    def name_of(self, line: Line) -> str:
        """Find the conversation of a call; see `TranscriptFileImport.name_of`."""
        row = (line.value or {}).get("row")
        assert isinstance(row, _Row)
        return row.text("thread_id") or row.text("conversation_id") or row.text("id")

    def take(self, line: Line) -> None:
        """Take a row; see `TranscriptFileImport.take`."""
        row = (line.value or {}).get("row")
        assert isinstance(row, _Row)
        began = row.began
        if began is None:
            self._say(f"{self.path}: call {row.text('id')} has no valid time; it is left out")
            return
        is_new = (line.value or {}).get("table") == "turns"
        call = _turn(row, began) if is_new else _response(row, began)
        name = call.conversation
        if self.open_session(name, began) is None:
            self._parts[name] += 1
            one = self.begin_session(
                name,
                SessionSource(
                    derived_id(began, NAME, name, str(self._parts[name])), name, PATH,
                    partition=self.target.partition,
                ),
                began,
            )  # fmt: skip
            one.conversation = LlmConversation(
                one.events, self.target.owners, _title(row, is_new, name), began
            )
        conversation = self._open[name].conversation
        assert isinstance(conversation, LlmConversation)
        conversation.add(call)


class _Row:
    """A row of the log, and the database that has what it refers to."""

    def __init__(self, connection: sqlite3.Connection, row: sqlite3.Row) -> None:
        self.connection = connection
        self._row = row
        self._names = set(row.keys())

    def get(self, name: str) -> object:
        """Read a column; None if this version of the log has none of this name."""
        return self._row[name] if name in self._names else None

    def text(self, name: str) -> str:
        """Read a text; "" for anything else."""
        return text(self.get(name)) or ""

    def all(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """Ask the database; a table that it does not have is empty."""
        try:
            return self.connection.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such" not in str(error):
                raise
            return []

    @property
    def began(self) -> int | None:
        """When the call began, nanoseconds UTC; older versions wrote UTC without saying so."""
        when = self.text("datetime_utc")
        return time_of(when) or time_of(f"{when}+00:00")


def _title(row: _Row, is_new: bool, name: str) -> str:
    table = "threads" if is_new else "conversations"
    found = row.all(f"SELECT name FROM {table} WHERE id = ?", name)
    return str(found[0][0] or "") if found else ""


def _call(
    row: _Row,
    began: int,
    conversation: str,
    sent: Callable[[Callable[[str], bool]], tuple[str, list[LoggedMessage]]],
    answer: list[LoggedMessage],
) -> LoggedCall:
    told = mapping(json_in(row.get("response_json")))
    return LoggedCall(
        id=row.text("id"),
        conversation=conversation or row.text("id"),
        began=began,
        ended=began + number_in(row.get("duration_ms")) * 1_000_000,
        model=row.text("model") or "unknown",
        answered=row.text("resolved_model") or text(told.get("model")) or "",
        response_id=text(told.get("id")),
        params=json_in(row.get("options_json")) or None,
        used=usage_in(
            row.get("input_tokens"), row.get("output_tokens"), json_in(row.get("token_details"))
        ),
        sent=sent,
        answer=answer,
    )


# -- messages that are stored once


def _turn(row: _Row, began: int) -> LoggedCall:
    parent = row.text("parent_message_hash")

    def sent(is_known: Callable[[str], bool]) -> tuple[str, list[LoggedMessage]]:
        return _chain(row, parent, is_known)

    _, answer = _chain(row, row.text("tip_message_hash"), parent.__eq__)
    return _call(row, began, row.text("thread_id"), sent, answer)


def _chain(
    row: _Row, last: str, is_known: Callable[[str], bool]
) -> tuple[str, list[LoggedMessage]]:
    """Read the messages up to one, as far back as one that is known; "" if none is."""
    found: list[LoggedMessage] = []
    name = last
    seen: set[str] = set()
    while name and not is_known(name) and name not in seen:
        seen.add(name)
        rows = row.all("SELECT parent_hash, role FROM messages WHERE hash = ?", name)
        if not rows:
            return "", found[::-1]
        parts = row.all(
            "SELECT type, text, payload FROM parts WHERE message_hash = ? ORDER BY position", name
        )
        message = content_of(str(rows[0]["role"]), [_part(row, one) for one in parts])
        found.append(message._replace(hash=name))
        name = str(rows[0]["parent_hash"] or "")
    return name, found[::-1]


def _part(row: _Row, stored: sqlite3.Row) -> Mapping[str, object]:
    part = dict(mapping(json_in(stored["payload"])))
    reference = part.pop("text_ref", None)
    said = stored["text"]
    if reference is not None:
        said = "".join(_borrowed(row, mapping(one)) for one in items(reference))
    return part | {"type": stored["type"], "text": said}


def _borrowed(row: _Row, piece: Mapping[str, object]) -> str:
    if "literal" in piece:
        return text(piece["literal"]) or ""
    found = row.all("SELECT content FROM fragments WHERE id = ?", piece.get("fragment"))
    return str(found[0][0]) if found else ""


# -- older versions


def _response(row: _Row, began: int) -> LoggedCall:
    name = row.text("id")
    results = row.all("SELECT * FROM tool_results WHERE response_id = ? ORDER BY id", name)
    calls = row.all("SELECT * FROM tool_calls WHERE response_id = ? ORDER BY id", name)
    system = "\n\n".join([*_fragments(row, "system_fragments"), *_some(row.text("system"))])
    prompt = "\n".join([*_fragments(row, "prompt_fragments"), *_some(row.text("prompt"))])
    files = row.all(
        "SELECT a.type, a.path, a.url, a.id FROM attachments a JOIN prompt_attachments p "
        'ON p.attachment_id = a.id WHERE p.response_id = ? ORDER BY p."order"',
        name,
    )
    attached = [
        {"type": "attachment", "attachment": {k: v for k, v in dict(one).items() if v}}
        for one in files
    ]
    said: list[LoggedMessage] = []
    if system:
        said.append(content_of("system", [{"type": "text", "text": system}]))
    if results:
        said.append(content_of("tool", [_old(one, "tool_result") for one in results]))
    if prompt or attached:
        said.append(content_of("user", [*attached, {"type": "text", "text": prompt}]))
    answer = content_of(
        "assistant",
        [
            {"type": "reasoning", "text": row.text("reasoning")},
            {"type": "text", "text": row.text("response")},
            *(_old(one, "tool_call") for one in calls),
        ],
    )
    return _call(row, began, row.text("conversation_id"), lambda _: ("", said), [answer])


def _some(said: str) -> Sequence[str]:
    return [said] if said else []


def _fragments(row: _Row, table: str) -> list[str]:
    found = row.all(
        f"SELECT f.content FROM fragments f JOIN {table} t ON t.fragment_id = f.id "
        'WHERE t.response_id = ? ORDER BY t."order"',
        row.text("id"),
    )
    return [str(one[0]) for one in found]


def _old(stored: sqlite3.Row, kind: str) -> dict[str, object]:
    """Give a call or a result of a tool the form of today."""
    part: dict[str, object] = dict(stored)
    if kind == "tool_call":
        part["arguments"] = json_in(part.get("arguments")) or part.get("arguments")
    return part | {"type": kind}
