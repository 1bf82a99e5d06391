"""Replay, fork and compare recorded sessions."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from lllm.store.methods.store_parts import StoreParts

if TYPE_CHECKING:
    from lllm.agents.fork_edits import Edit
    from lllm.replay.divergence import OnDivergence
    from lllm.replay.fork import Fork
    from lllm.replay.fork_point import ForkAt
    from lllm.replay.ignored_parts import Ignore
    from lllm.replay.replay import Replay
    from lllm.replay.session_diff import SessionDiff


class ReplaysSessions(StoreParts):
    """Replay, fork and compare recorded sessions. See LogStore."""

    def replay(
        self,
        session_id: str | os.PathLike[str],
        *,
        on_divergence: OnDivergence = "raise",
        ignore: Iterable[Ignore] = (),
        live_tools: Collection[str] = (),
        record: bool = True,
    ) -> Replay:
        """Run a recorded session again: `with store.replay(session_id): tactic(task)`.

        Inside the block, agents get their answers from the log. No model is called, no tool runs,
        there are no waits and no costs. Every request is compared with the recorded one.

        Args:
            session_id: The whole id, or the path of a file that `lllm export --format jsonl` wrote.
            on_divergence: "raise" raises ReplayDivergence at the first difference. "report"
                continues with the recorded answer, and the replay's `divergences` lists all
                differences. "live" calls the real model from the first difference on, in that
                dialog and in all that begin later; the session is then a fork, and its new calls
                cost money.
            ignore: Parts of requests that are not compared: key paths, as "params.seed" or
                "messages.*.parts.*.text", and patterns (`re.Pattern`, or those of `redact`).
            live_tools: The names of tools that run; their results are compared with the recorded
                ones.
            record: True to record the replay as a session of its own, whose `origin` names the
                original; False to write nothing.

        Returns:
            The replay, for a `with` statement. Differences are raised at the end of the block at
            the latest.

        Raises:
            SessionNotFound: There is no such session.
            LogDamaged: An event in the log is corrupt.
            ReplayError: The session can't be replayed.
            ConfigError: An option is invalid.
            LogReadOnly: The store is read-only, and `record` is True.
        """
        from lllm.replay.open_replay import open_replay

        return open_replay(
            session_id, self._host, on_divergence=on_divergence, ignore=ignore,
            live_tools=live_tools, record=record,
        )  # fmt: skip

    def fork(
        self,
        session_id: str | os.PathLike[str],
        *,
        at: ForkAt = None,
        edit: Edit | None = None,
        on_divergence: OnDivergence = "raise",
        ignore: Iterable[Ignore] = (),
        live_tools: Collection[str] = (),
    ) -> Fork:
        """Continue from a point of a recorded session: `with store.fork(session_id): tactic(task)`.

        Before that point, agents and captured clients are answered from the log, and no tool runs.
        After it, models are called and tools run, in all threads and tasks. The recorded part is
        not billed again.

        Args:
            session_id: The whole id, or the path of a file that `lllm export --format jsonl` wrote.
            at: The point to continue from. A ReplayPlace names one turn of the model (or, with
                `tool`, one tool), and means the point before it. A position of the log is a number
                that `lllm events` shows (in a file, the number of the line). A datetime, date or
                text is a time; see `lllm.times.parse_time`. None means the point where the session
                broke; in a failed session, that is before the turn that failed.
            edit: A change to an agent at that point; None for no change.
            on_divergence: What to do if the code makes another request before the point: "raise",
                "report" or "live", as for `replay`.
            ignore: Parts of requests that are not compared: key paths and patterns, as for
                `replay`.
            live_tools: The names of tools that run before the point, too.

        Returns:
            The fork, for a `with` statement.

        Raises:
            SessionNotFound: There is no such session.
            LogDamaged: An event in the log is corrupt.
            ReplayError: The session can't be forked, or not at that point.
            ConfigError: An option is invalid.
            TypeError: `at` has another type.
            ValueError: `at` is a text that is not a time.
            LogReadOnly: The store is read-only.
        """
        from lllm.replay.open_replay import open_fork

        return open_fork(
            session_id, self._host, at=at, edit=edit, on_divergence=on_divergence, ignore=ignore,
            live_tools=live_tools,
        )  # fmt: skip

    def diff(self, a: str | os.PathLike[str], b: str | os.PathLike[str]) -> SessionDiff:
        """Compare two recorded sessions: their steps, results and figures.

        Two sessions are the same if their requests, answers and deliveries are the same, in the
        same places; ids, tags, times and costs are ignored.

        Args:
            a: The whole id of a session, or the path of a file that `lllm export --format jsonl`
                wrote.
            b: The id or the path of the other session.

        Returns:
            The first difference, and the figures of both sessions.

        Raises:
            SessionNotFound: There is no such session.
            LogDamaged: An event in the log is corrupt.
            ReplayError: One of them is incomplete, erased, or recorded by a newer lllm.
        """
        from lllm.replay.open_replay import read_session
        from lllm.replay.session_diff import ReadSession, diff_sessions

        return diff_sessions(
            ReadSession(*read_session(a, self._host)), ReadSession(*read_session(b, self._host))
        )
