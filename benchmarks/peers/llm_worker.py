"""simonw's llm: each answer, with the messages before it, in the tables of its logs.db.

Its tables have no place for tags, prices and attempts that failed, so it has less to write. Its
database has lllm's settings, WAL and synchronous=NORMAL; its own, a rollback journal and FULL,
survive the loss of power too and take longer.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llm
import sqlite_utils
from llm.logs import LogStore


class _Model(llm.Model):
    """Named beside each answer, and never called."""

    model_id = "gpt-4o-mini"

    def execute(self, *_: Any, **__: Any) -> Iterator[str]:
        raise NotImplementedError


class Worker:
    """A logs.db, and the answers of one session after another."""

    def __init__(self, folder: Path, work: dict[str, Any]) -> None:
        database = sqlite_utils.Database(folder / "logs.db")
        database.enable_wal()
        database.execute("PRAGMA synchronous=NORMAL")
        self._store = LogStore(database)
        self._events = [event for moment in work["session"] for event in moment]
        self._model = _Model()
        self._sessions = 0
        self._answers = 0
        self.operations = {"session": self._session}

    def _session(self) -> Callable[[], object]:
        self._sessions += 1
        responses = list(self._responses())
        self._answers = len(responses)
        return lambda: self._log(responses)

    def _log(self, responses: list[tuple[int, llm.Response]]) -> None:
        threads: dict[int, str] = {}
        for dialog, response in responses:
            if dialog not in threads:
                threads[dialog] = self._store.create_thread(name="main")
            self._store.log(response, thread_id=threads[dialog])

    def _responses(self) -> Iterator[tuple[int, llm.Response]]:
        """The dialog and the answer of each call. A message that is stored already would not be
        stored again, so the questions name their session."""
        dialog = 0
        messages: list[dict[str, Any]] = []
        for event in self._events:
            kind, fields = event["type"], event["fields"]
            if kind == "dialog.opened":
                dialog, messages = fields["dialog"], []
            elif kind in ("message.added", "tool.returned"):
                messages.append(_message(fields["content"], f" (session {self._sessions})"))
            elif kind == "llm.responded":
                answer = _message(fields["content"])
                yield dialog, self._response(fields, messages, answer)
                messages = [*messages, answer]

    def _response(
        self, fields: dict[str, Any], messages: list[dict[str, Any]], answer: dict[str, Any]
    ) -> llm.Response:
        usage = {"input": fields["usage"]["input"], "output": fields["usage"]["output"]}
        data: Any = {
            "model": self._model.model_id,
            "prompt": {"messages": messages},
            "messages": [answer],
            "usage": usage,
        }
        response = llm.Response.from_dict(data, model=self._model)
        response.response_json = {
            name: fields[name] for name in ("response_id", "model", "usage_raw", "finish")
        }
        return response

    def stored(self) -> dict[str, tuple[int, int]]:
        return {"session": (self._store.db["turns"].count // self._answers, self._sessions)}


def _message(content: dict[str, Any], mark: str = "") -> dict[str, Any]:
    text = "".join(part["text"] for part in content.get("parts", ()))
    parts: list[dict[str, Any]] = []
    if content["role"] == "tool":
        call = content["call_id"]
        parts.append(
            {"type": "tool_result", "name": "search", "output": text, "tool_call_id": call}
        )
    elif text:
        marked = text + mark if content["role"] == "user" else text
        parts.append({"type": "text", "text": marked})
    parts += [
        {
            "type": "tool_call",
            "name": call["name"],
            "arguments": json.loads(call["arguments"]),
            "tool_call_id": call["id"],
        }
        for call in content.get("tool_calls", ())
    ]
    return {"role": content["role"], "parts": parts}
