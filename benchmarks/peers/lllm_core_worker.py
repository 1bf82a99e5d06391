"""lllm-core: its LogStore saves a session when it has ended; until then a crash loses all of it.

Its SQLite connections have synchronous=FULL, which survives the loss of power too; "as it comes"
keeps that, elsewhere they get lllm's NORMAL. A session of its own does not hold what was sent to
the model, so the messages go in beside each answer, every one once. It saves sessions with tool
interrupts and recalls but can't load them (pydantic refuses what was written), so those that are
loaded have neither.
"""

import json
import logging
import sqlite3
import warnings
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from lllm.core.const import FunctionCall, InvokeResult, Roles
from lllm.core.dialog import Message
from lllm.core.prompt import AgentCallSession
from lllm.core.tactic import TacticCallSession
from lllm.logging import LocalFileBackend, LogStore, SQLiteBackend

logging.disable()  # it warns of each recall
warnings.simplefilter("ignore")  # and pydantic of each interrupt


class _AsLllm(SQLiteBackend):
    def _connect(self) -> sqlite3.Connection:
        connection: sqlite3.Connection = super()._connect()
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection


class Worker:
    """Stores that are written to, and stores of many sessions that are read."""

    def __init__(self, folder: Path, work: dict[str, Any]) -> None:
        self._written = {
            "session": _Sessions(_AsLllm(str(folder / "core.db")), work),
            "session, as it comes": _Sessions(SQLiteBackend(str(folder / "core-full.db")), work),
            "session, files": _Sessions(LocalFileBackend(str(folder / "core")), work),
        }
        self.operations: dict[str, Callable[[], Callable[[], object]]] = {}
        for name, sessions in self._written.items():
            self.operations[name] = sessions.prepare
        for name, backend in {
            "": _AsLllm(str(folder / "core-read.db")),
            ", files": LocalFileBackend(str(folder / "core-read")),
        }.items():
            searched = _Searched(_Sessions(backend, work, loadable=True), work)
            self.operations[f"list{name}"] = searched.list
            self.operations[f"cost{name}"] = searched.cost
            self.operations[f"load{name}"] = searched.load

    def stored(self) -> dict[str, tuple[int, int]]:
        return {name: sessions.stored() for name, sessions in self._written.items()}


class _Sessions:
    """A store, and the session that is written to it again and again."""

    def __init__(self, backend: Any, work: dict[str, Any], *, loadable: bool = False) -> None:
        self.store = LogStore(backend)
        self._backend = backend
        self._session = _session(work, loadable=loadable)
        self._tags, self._users = work["tags"], work["users"]
        self._numbers = count()
        self._given = 0

    def prepare(self) -> Callable[[], object]:
        return self.write

    def write(self) -> str:
        """Write it once more; returns its id."""
        self._given += 1
        tags = self._tags | {"user": f"user-{next(self._numbers) % self._users}"}
        session_id: str = self.store.save_session(self._session, tags=tags)
        return session_id

    def stored(self) -> tuple[int, int]:
        return len(self._backend.list_keys("default/sessions")), self._given


class _Searched:
    """A store of many sessions, which is filled before it is first read."""

    def __init__(self, sessions: _Sessions, work: dict[str, Any]) -> None:
        self._sessions = sessions
        self._number = work["sessions"]
        self._tags = {"env": work["tags"]["env"], "user": "user-7"}
        self._matching = len(range(7, self._number, work["users"]))
        self._last = ""

    def _store(self) -> LogStore:
        while not self._last:
            self._last = [self._sessions.write() for _ in range(self._number)][-1]
        return self._sessions.store

    def list(self) -> Callable[[], object]:
        store = self._store()
        found = len(store.list_sessions(tags=self._tags, limit=50))
        if found != self._matching:
            raise RuntimeError(f"{found} sessions were found, not {self._matching}")
        return lambda: store.list_sessions(tags=self._tags, limit=50)

    def cost(self) -> Callable[[], object]:
        return self._store().export_cost_summary

    def load(self) -> Callable[[], object]:
        store = self._store()
        return lambda: store.load_session(self._last)


def _session(work: dict[str, Any], *, loadable: bool) -> TacticCallSession:
    """What its runtime has in memory when the session ends."""
    events = [event for moment in work["session"] for event in moment]
    session = TacticCallSession(tactic_name=events[0]["fields"]["name"], tactic_path=work["tactic"])
    results = {
        event["fields"]["content"]["call_id"]: _text(event["fields"]["content"])
        for event in events
        if event["type"] == "tool.returned"
    }
    for event in events:
        kind, fields = event["type"], event["fields"]
        if kind == "agent.started":
            limits = fields["limits"]
            agent = AgentCallSession(agent_name=fields["agent"], **limits)
            sent: list[dict[str, str]] = []
            step = 0
        elif kind in ("message.added", "tool.returned"):
            if kind == "message.added" and fields["content"]["role"] == "system":
                sent = []
            sent.append({"role": fields["content"]["role"], "content": _text(fields["content"])})
        elif kind == "llm.failed" and not loadable:
            agent.llm_recall(RuntimeError(fields["error"]["message"]), step)
        elif kind == "llm.responded":
            answer = _answer(fields, results)
            raw = {name: fields[name] for name in ("response_id", "finish", "usage_raw", "model")}
            arguments = work["definition"]["params"] | {"messages": sent}
            agent.new_invoke_trace(
                InvokeResult(raw_response=raw, model_args=arguments, message=answer), step
            )
            sent = []
            if answer.function_calls and not loadable:
                agent.interrupt(answer.function_calls, step)
            step += 1
        elif kind == "agent.succeeded":
            agent.success(answer)
            session.record_agent_call(agent.agent_name, agent)
        elif kind == "session.succeeded":
            session.success(fields["delivery"])
    return session


def _answer(fields: dict[str, Any], results: dict[str, str]) -> Message:
    content, price = fields["content"], fields["price"]
    return Message(
        role=Roles.ASSISTANT,
        content=_text(content),
        name=fields["agent"],
        function_calls=[
            FunctionCall(
                id=call["id"],
                name=call["name"],
                arguments=json.loads(call["arguments"]),
                result_str=results[call["id"]],
            )
            for call in content.get("tool_calls", ())
        ],
        model=fields["model"],
        usage=fields["usage_raw"] | {"response_cost": price["nanos"] / 1e9},
    )


def _text(content: dict[str, Any]) -> str:
    return "".join(part["text"] for part in content.get("parts", ()))
