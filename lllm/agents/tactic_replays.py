"""The ways to run a recorded call of a tactic again: all of it from the log, or on from a point."""

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
            """See TacticCalls."""

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
            return_session: Return the replay's own session.
            on_divergence: As for `LogStore.replay`, as are the others.
            ignore: See there.
            live_tools: See there.
            record: See there.

        Returns:
            What the call returns.

        Raises:
            ReplayDivergence: The tactic does something else than it did.
            ReplayInterrupted: The recording ends before the tactic does.
            ReplayError: The session can't be replayed, is of another tactic, or its task can't be
                made again.
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
        """Go on from a point of a recorded session: the past from the log, one change, then live.

        Without `at`, a session that failed, or whose process died, goes on from where it broke.
        The fork is an ordinary session, which names its origin and costs what is asked anew.

        Args:
            session_id: The whole id of a session in the tactic's log store, or the path of a file
                that `lllm export --format jsonl` wrote.
            at: As for `LogStore.fork`.
            edit: See there.
            return_session: Return the fork's own session.
            tags: Tags of the fork, added to the recorded ones.
            budget_usd: US dollars that it may spend on models, the recorded cost of its past among
                them; None for what the recorded call might.
            budget_unpriced: "warn" or "stop", as for a call.
            on_divergence: As for `LogStore.fork`, as are the others.
            ignore: See there.
            live_tools: See there.

        Returns:
            What the call returns.

        Raises:
            ReplayDivergence: The tactic does something else than it did, before the point.
            ReplayError: The session can't be forked, or not there; it is of another tactic, or its
                task can't be made again.
            SessionNotFound: There is no such session.
            BaseException: What `call` raises.
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
        """Do what `fork` does on an event loop.

        Args:
            session_id: As for `fork`, as are the others.
            at: See there.
            edit: See there.
            return_session: See there.
            tags: See there.
            budget_usd: See there.
            budget_unpriced: See there.
            on_divergence: See there.
            ignore: See there.
            live_tools: See there.

        Returns:
            What the call returns.

        Raises:
            BaseException: What `fork` raises.
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
