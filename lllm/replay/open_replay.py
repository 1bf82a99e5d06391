"""Opens replays: of a session in a store, or in an exported file, and of one tactic's call."""

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
    """A tactic, as far as its replay needs it."""

    call: Callable[..., Any]

    def __call__(self, task: object, **options: Any) -> object:
        """Call it."""


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
        session: Its id in the store, or the path of a file that it was exported to as jsonl.
        store: Where it is recorded, and where the replay is; None where there is none.
        on_divergence: See `LogStore.replay`, as for the others.
        ignore: See there.
        live_tools: See there.
        record: See there.

    Raises:
        SessionNotFound: There is no such session.
        LogDamaged: An event is not what was written.
        ReplayError: The session can't be replayed.
        ConfigError: An option can't be.
        LogReadOnly: The store can't be written to, and the replay is to be recorded.
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
        session: Its id in the store, or the path of a file that it was exported to as jsonl.
        store: Where it is recorded, and where the fork is; None where there is none.
        at: See `LogStore.fork`, as for the others.
        edit: See there.
        on_divergence: See there.
        ignore: See there.
        live_tools: See there.

    Raises:
        SessionNotFound: There is no such session.
        LogDamaged: An event is not what was written.
        ReplayError: The session can't be forked, or not there.
        ConfigError: An option can't be.
        LogReadOnly: The store can't be written to.
    """
    return Fork(
        *read_session(session, store), _host(store, True), at=at, edit=edit,
        on_divergence=on_divergence, ignore=ignore, live_tools=live_tools,
    )  # fmt: skip


def read_session(
    session: str | os.PathLike[str], store: StoreSessionHost | None
) -> tuple[list[Recorded], str | None, str]:
    """Read the events of a session, with those below it.

    Args:
        session: Its id in the store, or the path of a file that it was exported to as jsonl.
        store: The store; None where there is none.

    Returns:
        The events, the session's id where that is known, and where they come from.

    Raises:
        SessionNotFound: There is no such session.
        LogDamaged: An event is not what was written.
        ReplayError: The file can't be read.
        ConfigError: It is an id, and there is no store.
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
        tactic: The tactic.
        path: Its stable path.
        replay: Of the session, not entered yet.
        return_session: Return the replay's session, and not what the call returns.

    Returns:
        What the call returns.

    Raises:
        ReplayError: The session is of another tactic, or its task can't be made again.
        ReplayDivergence: The tactic does something else than it did.
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
    """Make the call that a recorded session is of.

    Args:
        tactic: The tactic.
        path: Its stable path.
        recording: The session.
        return_session: Return the call's own session, and not what it returns.
        method: How it is called; None for the tactic itself.
        tags: Added to the recorded ones.
        budget_usd: US dollars that it may spend; None for what it might then.
        budget_unpriced: As for a call.

    Returns:
        A function that calls the tactic with the recorded task, options, tags and budget.

    Raises:
        ReplayError: The session is of another tactic, or its task can't be made again.
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
    """A value of its recorded form. Raises ReplayError where that does not say it all."""
    value = from_plain(plain)
    if to_plain(value) != plain:
        raise ReplayError(
            f"The {what} of session {recording.session_id} can't be made again: it has no JSON "
            "form, and only its repr was recorded. Call the tactic yourself inside of "
            "`with store.replay(session_id):`, or `store.fork`."
        )
    return value


def recorded_options(recording: RecordedSession) -> object:
    """What a session was called with besides its task.

    Args:
        recording: The session.

    Returns:
        The options by name; None where there are none.

    Raises:
        ReplayError: They can't be made again.
    """
    return _made(recording.started.options, recording, "options")


def recorded_task(call: Callable[..., object], recording: RecordedSession) -> object:
    """The recorded task, of the type that a tactic's `call`, or a function, names.

    Args:
        call: What it is for.
        recording: The session.

    Returns:
        The task.

    Raises:
        ReplayError: It can't be made again.
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
