"""Opens replays and forks of a recorded session, from a store or from an exported file."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, get_type_hints

import msgspec

from lllm.agents.fork_edits import Edit
from lllm.events.concurrency.decoders import warm_msgspec
from lllm.events.envelope import Recorded
from lllm.events.errors import ConfigError, LogReadOnly, ReplayError
from lllm.events.values.json_values import from_plain, to_plain
from lllm.projections.session.invoke_cost import dollars
from lllm.replay.divergence import OnDivergence
from lllm.replay.fork import Fork
from lllm.replay.fork_point import ForkAt
from lllm.replay.ignored_parts import Ignore
from lllm.replay.recorded_session import RecordedSession
from lllm.replay.recording_file import is_file, read_file
from lllm.replay.recording_reader import read_recording
from lllm.replay.replay import Replay
from lllm.sessions.budget import OnUnpriced
from lllm.sessions.host import SessionHost
from lllm.sessions.in_memory_host import InMemorySessionHost

if TYPE_CHECKING:
    from lllm.store.session_host import StoreSessionHost


R = TypeVar("R")


class ReplayableTactic(Protocol):
    """The parts of a tactic that a replay uses."""

    call: Callable[..., Any]

    def __call__(self, task: object, **options: Any) -> object:
        """Call the tactic with a task and options."""


def open_replay(
    session: str | os.PathLike[str],
    store: StoreSessionHost | None,
    *,
    on_divergence: OnDivergence,
    ignore: Iterable[Ignore],
    live_tools: Collection[str],
    record: bool,
) -> Replay:
    """Open the replay of a session.

    Args:
        session: The id of the session in the store, or the path of an exported jsonl file.
        store: The store that holds the session and receives the replay. None if there is no store;
            `session` is then a file, and the replay is kept in memory.
        on_divergence: What a difference leads to: "raise", "report" or "live", as for
            `LogStore.replay`.
        ignore: Parts of requests that are not compared: key paths and patterns, as for
            `LogStore.replay`.
        live_tools: The names of tools that run instead of being answered from the log.
        record: True to record the replay in the store; False to keep it in memory.

    Raises:
        SessionNotFound: The store has no such session.
        LogDamaged: An event in the log is corrupt.
        ReplayError: The session can't be replayed.
        ConfigError: An option is invalid, or `session` is an id and there is no store.
        LogReadOnly: The store is read-only, and `record` is True.
    """
    recording = read_recording(*read_session(session, store))
    return Replay(
        recording, _host(store, record), on_divergence=on_divergence, ignore=ignore,
        live_tools=live_tools,
    )  # fmt: skip


def open_fork(
    session: str | os.PathLike[str],
    store: StoreSessionHost | None,
    *,
    at: ForkAt,
    edit: Edit | None,
    on_divergence: OnDivergence,
    ignore: Iterable[Ignore],
    live_tools: Collection[str],
) -> Fork:
    """Open a fork of a session.

    Args:
        session: The id of the session in the store, or the path of an exported jsonl file.
        store: The store that holds the session and receives the fork. None if there is no store;
            `session` is then a file, and the fork is kept in memory.
        at: The point to continue from, in one of the forms that `LogStore.fork` lists. None means
            the point where the session broke.
        edit: A change to an agent at that point; None for no change.
        on_divergence: What a difference before the point leads to: "raise", "report" or "live".
        ignore: Parts of requests that are not compared: key paths and patterns, as for
            `LogStore.replay`.
        live_tools: The names of tools that run before the point, too.

    Raises:
        SessionNotFound: The store has no such session.
        LogDamaged: An event in the log is corrupt.
        ReplayError: The session can't be forked, or not at that point.
        ConfigError: An option is invalid, or `session` is an id and there is no store.
        LogReadOnly: The store is read-only.
    """
    return Fork(
        *read_session(session, store), _host(store, True), at=at, edit=edit,
        on_divergence=on_divergence, ignore=ignore, live_tools=live_tools,
    )  # fmt: skip


def read_session(
    session: str | os.PathLike[str], store: StoreSessionHost | None
) -> tuple[list[Recorded], str | None, str]:
    """Read the events of a session and of all sessions below it.

    Args:
        session: The id of the session in the store, or the path of an exported jsonl file.
        store: The store to read an id from; None if there is no store.

    Returns:
        Three items: the events, the id of the session (None for a file), and a name of the source
        for error messages.

    Raises:
        SessionNotFound: The store has no such session.
        LogDamaged: An event in the store is corrupt.
        ReplayError: The file can't be read.
        ConfigError: `session` is an id, and there is no store.
    """
    if is_file(session):
        return read_file(session), None, str(os.fspath(session))
    if store is None:
        raise ConfigError(
            f"Session {session!r} is in no store: give the tactic its log_store, or the path of "
            "an exported .jsonl file instead of an id."
        )
    session_id = str(session)
    return store.reader.recording(session_id), session_id, repr(store.settings.backend)


def _host(store: StoreSessionHost | None, record: bool) -> SessionHost:
    if store is None:
        return InMemorySessionHost(persists=True)
    if record and store.persists:
        if store.read_only:
            raise LogReadOnly(
                f"{store.settings.backend!r} is open to be read only, so no replay or fork can be "
                "recorded in it. replay(..., record=False) writes nothing; a fork of an exported "
                "file is written where its tactic's calls are."
            )
        return store
    return InMemorySessionHost(
        persists=True, partition=store.partition, redact=store.redact, prices=store.prices
    )


def call_again(
    tactic: ReplayableTactic, path: str, replay: Replay, *, return_session: bool
) -> object:
    """Call a tactic as it was called in a recorded session, with its task and options.

    Args:
        tactic: The tactic to call inside the replay.
        path: The stable path of the tactic.
        replay: The replay of the session, whose `with` block is not entered yet.
        return_session: True to return the session of the replay instead of the tactic's result.

    Returns:
        The result of the tactic, or the session of the replay.

    Raises:
        ReplayError: The session is a call of another tactic, or its task can't be restored.
        ReplayDivergence: The tactic does something else than in the recording.
        ReplayInterrupted: The recording ends before the tactic does.
    """
    call: Callable[[], object] = recorded_call(
        tactic, path, replay.recording, return_session=return_session
    )
    with replay:
        return call()


def recorded_call(
    tactic: ReplayableTactic,
    path: str,
    recording: RecordedSession,
    *,
    return_session: bool = False,
    method: Callable[..., R] | None = None,
    tags: Mapping[str, str] | None = None,
    budget_usd: float | None = None,
    budget_unpriced: OnUnpriced | None = None,
) -> Callable[[], R]:
    """Prepare the call of a tactic that a recorded session began with.

    Args:
        tactic: The tactic to call.
        path: The stable path of the tactic.
        recording: The recorded session, which has the task and the options of the call.
        return_session: True to return the session of the new call instead of the tactic's result.
        method: The function that makes the call, such as an async method of the tactic; None to
            call the tactic itself.
        tags: Tags to add to the recorded ones; None for no more tags.
        budget_usd: The budget of the call in US dollars; None for the recorded budget.
        budget_unpriced: What the budget does about calls whose price is unknown; None for the
            default of a call.

    Returns:
        A function that calls the tactic with the recorded task, options, tags and budget.

    Raises:
        ReplayError: The session is a call of another tactic, or its task can't be restored.
    """
    if recording.tactic_path != path:
        raise ReplayError(
            f"Session {recording.session_id} is a call of {recording.tactic_path!r}, not of "
            f"{path!r}."
        )
    started = recording.started
    task = recorded_task(tactic.call, recording)
    options = recorded_options(recording)
    recorded_budget = None if started.budget is None else dollars(started.budget)
    return partial(
        cast("Callable[..., R]", tactic if method is None else method),
        task,
        tags={**started.tags, **(tags or {})},
        metadata=from_plain(started.metadata),
        return_session=return_session,
        budget_usd=recorded_budget if budget_usd is None else budget_usd,
        budget_unpriced=budget_unpriced,
        **(dict(options) if isinstance(options, Mapping) else {}),
    )


def _made(plain: object, recording: RecordedSession, what: str) -> object:
    """Restore a value from its recorded form. Raises ReplayError if only its repr was recorded."""
    value = from_plain(plain)
    if to_plain(value) != plain:
        raise ReplayError(
            f"The {what} of session {recording.session_id} can't be made again: it has no JSON "
            "form, and only its repr was recorded. Call the tactic yourself inside of "
            "`with store.replay(session_id):`, or `store.fork`."
        )
    return value


def recorded_options(recording: RecordedSession) -> object:
    """Restore the options that a session was called with besides its task.

    Args:
        recording: The recorded session.

    Returns:
        The options by name; None if there are none.

    Raises:
        ReplayError: The options can't be restored, since only their repr was recorded.
    """
    return _made(recording.started.options, recording, "options")


def recorded_task(call: Callable[..., object], recording: RecordedSession) -> object:
    """Restore the recorded task, in the type that the called function names for it.

    Args:
        call: The `call` method of a tactic, or a function. The type hint of its first parameter is
            the type of the task.
        recording: The recorded session.

    Returns:
        The task, as the dataclass, msgspec struct or pydantic model of the hint; else as plain
        JSON values.

    Raises:
        ReplayError: The task can't be restored, or no longer fits its type.
    """
    task = _made(recording.started.task, recording, "task")
    if not isinstance(task, dict):
        return task
    kind = _task_type(call)
    try:
        if isinstance(kind, type) and (is_dataclass(kind) or issubclass(kind, msgspec.Struct)):
            return msgspec.convert(task, warm_msgspec(kind))
        validate = getattr(kind, "model_validate", None)
        return validate(task) if callable(validate) else task
    except Exception as error:  # a type of the user's may refuse it in any way
        raise ReplayError(
            f"The task of session {recording.session_id} is no {kind!r} any more: {error}"
        ) from error


def _task_type(call: Callable[..., object]) -> object:
    try:
        first = next(iter(inspect.signature(call).parameters), "")
        return get_type_hints(call).get(first)
    except Exception:  # hints that can't be resolved here
        return None
