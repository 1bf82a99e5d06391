"""Runs a recorded call of a tactic again: completely from the log, or live from a point on."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from lllm.events.concurrency.thread_starts import to_thread
from lllm.packages.registry import tactic_path
from lllm.store.log_store import session_host

if TYPE_CHECKING:
    from lllm.agents.fork_edits import Edit
    from lllm.replay.divergence import OnDivergence
    from lllm.replay.fork import Fork
    from lllm.replay.fork_point import ForkAt
    from lllm.replay.ignored_parts import Ignore
    from lllm.sessions.budget import OnUnpriced
    from lllm.store.log_store import LogStore

R = TypeVar("R")


class TacticReplays:
    """The replay methods of `Tactic`."""

    if TYPE_CHECKING:
        log_store: LogStore | None
        call: Callable[..., Any]
        acall: Callable[..., Any]

        def __call__(self, task: object, **options: Any) -> Any:
            """Call the tactic; see TacticCalls."""

    def replay(
        self,
        session_id: str | os.PathLike[str],
        *,
        return_session: bool = False,
        on_divergence: OnDivergence = "raise",
        ignore: Iterable[Ignore] = (),
        live_tools: Collection[str] = (),
        record: bool = True,
    ) -> Any:
        """Run the tactic again with a recorded session's input, answered from the log.

        Args:
            session_id: The whole id of a session in the tactic's log store, or the path of a file
                that `lllm export --format jsonl` wrote.
            return_session: True to return the replay's session in place of the result of the call.
            on_divergence: What to do at a difference: "raise", "report" or "live"; see
                `LogStore.replay`.
            ignore: Parts of requests that are not compared: key paths and patterns; see
                `LogStore.replay`.
            live_tools: The names of tools that run; their results are compared with the recorded
                ones.
            record: True to record the replay as a session; False to write nothing.

        Returns:
            The result of the call; with `return_session`, the session.

        Raises:
            ReplayDivergence: The tactic makes another request than the recorded one.
            ReplayInterrupted: The recording ends before the tactic does.
            ReplayError: The session can't be replayed, is of another tactic, or its task can't be
                restored.
            SessionNotFound: There is no such session.
        """
        from lllm.replay.open_replay import call_again, open_replay

        own = None if self.log_store is None else session_host(self.log_store)
        replay = open_replay(
            session_id, own, on_divergence=on_divergence, ignore=ignore, live_tools=live_tools,
            record=record,
        )  # fmt: skip
        return call_again(self, tactic_path(type(self)), replay, return_session=return_session)

    def fork(
        self,
        session_id: str | os.PathLike[str],
        *,
        at: ForkAt = None,
        edit: Edit | None = None,
        return_session: bool = False,
        tags: Mapping[str, str] | None = None,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        on_divergence: OnDivergence = "raise",
        ignore: Iterable[Ignore] = (),
        live_tools: Collection[str] = (),
    ) -> Any:
        """Continue from a point of a recorded session: first from the log, then live.

        Without `at`, a session that failed, or whose process died, continues from where it broke.
        The fork is an ordinary session, which names its origin; only its new calls cost money.

        Args:
            session_id: The whole id of a session in the tactic's log store, or the path of a file
                that `lllm export --format jsonl` wrote.
            at: The point to continue from; see `LogStore.fork`. None for where the session broke.
            edit: A change to an agent at that point; None for no change.
            return_session: True to return the fork's session in place of the result of the call.
            tags: Names and values (both str) that the fork gets in addition to the recorded tags.
            budget_usd: The most that the fork may spend on models, in US dollars, including the
                recorded cost of its past; None for the budget of the recorded call.
            budget_unpriced: What to do under a budget when the cost of a model call is unknown:
                "warn" or "stop"; None for the tactic's own choice.
            on_divergence: What to do if the tactic makes another request before the point: "raise",
                "report" or "live"; see `LogStore.replay`.
            ignore: Parts of requests that are not compared: key paths and patterns; see
                `LogStore.replay`.
            live_tools: The names of tools that run before the point, too.

        Returns:
            The result of the call; with `return_session`, the session.

        Raises:
            ReplayDivergence: The tactic makes another request before the point.
            ReplayError: The session can't be forked, or not at that point; it is of another tactic;
                or its task can't be restored.
            SessionNotFound: There is no such session.
            BaseException: The error that `call` raises.
        """
        fork = self._open_fork(session_id, at, edit, on_divergence, ignore, live_tools)
        call = self._forked_call(
            self.__call__, fork, return_session, tags, budget_usd, budget_unpriced
        )
        with fork:
            return call()

    async def afork(
        self,
        session_id: str | os.PathLike[str],
        *,
        at: ForkAt = None,
        edit: Edit | None = None,
        return_session: bool = False,
        tags: Mapping[str, str] | None = None,
        budget_usd: float | None = None,
        budget_unpriced: OnUnpriced | None = None,
        on_divergence: OnDivergence = "raise",
        ignore: Iterable[Ignore] = (),
        live_tools: Collection[str] = (),
    ) -> Any:
        """Continue from a point of a recorded session on an event loop, as `fork` does.

        Args:
            session_id: The whole id of a session in the tactic's log store, or the path of a file
                that `lllm export --format jsonl` wrote.
            at: The point to continue from; see `LogStore.fork`. None for where the session broke.
            edit: A change to an agent at that point; None for no change.
            return_session: True to return the fork's session in place of the result of the call.
            tags: Names and values (both str) that the fork gets in addition to the recorded tags.
            budget_usd: The most that the fork may spend on models, in US dollars, including the
                recorded cost of its past; None for the budget of the recorded call.
            budget_unpriced: What to do under a budget when the cost of a model call is unknown:
                "warn" or "stop"; None for the tactic's own choice.
            on_divergence: What to do if the tactic makes another request before the point: "raise",
                "report" or "live"; see `LogStore.replay`.
            ignore: Parts of requests that are not compared: key paths and patterns; see
                `LogStore.replay`.
            live_tools: The names of tools that run before the point, too.

        Returns:
            The result of the call; with `return_session`, the session.

        Raises:
            BaseException: The same errors as those of `fork`.
        """
        fork = await to_thread(
            self._open_fork, session_id, at, edit, on_divergence, ignore, live_tools
        )
        call = self._forked_call(
            self.acall, fork, return_session, tags, budget_usd, budget_unpriced
        )
        with fork:
            return await call()

    def _open_fork(
        self,
        session_id: str | os.PathLike[str],
        at: ForkAt,
        edit: Edit | None,
        on_divergence: OnDivergence,
        ignore: Iterable[Ignore],
        live_tools: Collection[str],
    ) -> Fork:
        from lllm.replay.open_replay import open_fork

        own = None if self.log_store is None else session_host(self.log_store)
        return open_fork(
            session_id, own, at=at, edit=edit, on_divergence=on_divergence, ignore=ignore,
            live_tools=live_tools,
        )  # fmt: skip

    def _forked_call(
        self,
        method: Callable[..., R],
        fork: Fork,
        return_session: bool,
        tags: Mapping[str, str] | None,
        budget_usd: float | None,
        budget_unpriced: OnUnpriced | None,
    ) -> Callable[[], R]:
        from lllm.replay.open_replay import recorded_call

        return recorded_call(
            self, tactic_path(type(self)), fork.recording, return_session=return_session,
            method=method, tags=tags, budget_usd=budget_usd, budget_unpriced=budget_unpriced,
        )  # fmt: skip
