"""What the tests of the runtime run: small tactics, and logs that tell how they were written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lllm import LogStore, LogUnavailable, SQLiteBackend, Tactic
from lllm.events import codec
from lllm.events.envelope import NewEvent
from lllm.events.model import Event
from lllm.invokers.scripted import Script, ScriptedInvoker
from lllm.projections.session.call_session import TacticCallSession

MODEL = "gpt-4o-mini"


def config(script: Script, *names: str, **agent: object) -> dict[str, object]:
    """A configuration of agents (one, `a`, unless named) that a script answers."""
    return {
        "global": {"model_name": MODEL, "invoker": ScriptedInvoker(script), "recall_wait": 0},
        "agent_configs": [{"name": name, **agent} for name in names or ("a",)],
    }


class Asking(Tactic, register=False):
    """Asks its agent and delivers the answer."""

    name = "asking"

    def call(self, task: object, **_: object) -> object:
        """One question, one answer."""
        agent = self.agents["a"]
        agent.open()
        agent.receive(task)
        return agent.respond().content


class AsyncAsking(Tactic, register=False):
    """The same, written for an event loop."""

    name = "async-asking"

    async def call(self, task: object, **_: object) -> object:
        """One question, one answer."""
        agent = self.agents["a"]
        agent.open()
        agent.receive(task)
        return (await agent.arespond()).content


class Doing(Tactic, register=False):
    """Does what it is given: `call` is a function of the running tactic."""

    name = "doing"

    def __init__(
        self,
        do: Callable[[Doing], object],
        given: dict[str, object] | None = None,
        *,
        log_store: LogStore | None = None,
        **attributes: object,
    ) -> None:
        super().__init__(given, log_store=log_store)
        self.do = do
        vars(self).update(attributes)

    def call(self, task: object, **_: object) -> object:
        """Do it."""
        self.task = task
        return self.do(self)


class WatchedLog(SQLiteBackend):
    """An SQLite log that remembers its appends, and can be told to fail."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.appends: list[list[NewEvent]] = []
        self.error: Exception | None = None

    def _append(self, events: Sequence[NewEvent], *, timeout: float | None) -> Sequence[int] | None:
        if self.error is not None:
            raise self.error
        positions = super()._append(events, timeout=timeout)
        if positions:
            self.appends.append(list(events))
        return positions

    def types(self) -> list[list[str]]:
        """The types of the events of each append."""
        return [[event.type for event in events] for events in self.appends]


def full_disk() -> LogUnavailable:
    """What a log raises that can't be written."""
    return LogUnavailable("runs.db: database or disk is full. Is the disk full?")


def payloads(store: LogStore, session_id: str) -> list[Event]:
    """A session's own events, decoded."""
    return [codec.decode(event) for event in store.events(session_id)]


def types(store: LogStore) -> list[str]:
    """The types of all events in a store's log, in order."""
    return [event.type for event in store.log.read()]


def called(tactic: Tactic, task: object = "task", **options: object) -> TacticCallSession:
    """The session of one call."""
    session = tactic(task, return_session=True, **options)  # type: ignore[arg-type] # tags, metadata
    assert isinstance(session, TacticCallSession)
    return session


def failed(tactic: Tactic, store: LogStore, task: object = "task") -> TacticCallSession:
    """The session of one call that raises, whatever it raises."""
    try:
        tactic(task)
    except BaseException:
        (summary,) = store.list_sessions(state="failure", limit=1)
        return store.load_session(summary.session_id)
    raise AssertionError("the call should have failed")
