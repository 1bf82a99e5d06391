"""Replays a recorded session: inside a `with` block, its calls are answered from the log."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Self

from lllm.agents.fork_edits import TurnEdit
from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.errors import ReplayError
from lllm.events.model import SessionStarted
from lllm.events.recorder import Recorder
from lllm.projections.session.call_session import TacticCallSession
from lllm.replay.active_replay import ReplayElsewhere, active_replay
from lllm.replay.carried_sessions import ReplayState, carry, forget
from lllm.replay.divergence import (
    Divergences,
    OnDivergence,
    ReplayDivergence,
    ReplayInterrupted,
    ReplayPlace,
    as_exception,
    elsewhere,
)
from lllm.replay.ignored_parts import Ignore, Ignored
from lllm.replay.missing import Missing
from lllm.replay.progress import JudgedRequest, Progress
from lllm.replay.recorded_session import RecordedSession
from lllm.replay.replayed_session import ReplayedSession
from lllm.replay.started_processes import processes_closed_off
from lllm.replay.telling_host import TellingHost, write_told
from lllm.replay.verified_shapes import VerifiedShapes
from lllm.sessions.context_values import during
from lllm.sessions.current_session import outside_of_sessions
from lllm.sessions.host import SessionHost
from lllm.sessions.in_memory_host import InMemorySessionHost
from lllm.sessions.threads import closed_off


class Replay(Divergences):
    """Answers a session from the log inside its `with` block; `store.replay` returns it.

    Attributes:
        recording: The recorded session that is replayed.
    """

    def __init__(
        self,
        recording: RecordedSession,
        host: SessionHost,
        *,
        on_divergence: OnDivergence = "raise",
        ignore: Iterable[Ignore] = (),
        live_tools: Collection[str] = (),
    ) -> None:
        super().__init__(on_divergence)
        self.recording = recording
        self._home_host = host
        self._away_host: tuple[int, SessionHost] | None = None  # of this process
        self.ignored = Ignored(ignore)
        self.live_tools = frozenset([live_tools] if isinstance(live_tools, str) else live_tools)
        self.progress = Progress()
        self.missing = Missing(recording, self.progress)
        self.verified: VerifiedShapes | None = None  # asks the live model as well
        self.lock = ThreadLock()
        self.sessions: dict[str, ReplayedSession] = {}  # that go on in other processes, by id
        self._recorder: Recorder | None = None
        self._stack = ExitStack()

    @property
    def requests(self) -> list[JudgedRequest]:
        """Every request that was compared so far, each with its place and its verdict."""
        return self.progress.requests

    @property
    def session_id(self) -> str | None:
        """The id of the session that the replay records; None before that session begins."""
        return None if self._recorder is None else self._recorder.session_id

    def load_session(self) -> TacticCallSession:
        """Load the session of the replay after it has ended, from the store or from memory.

        Raises:
            ReplayError: No tactic was called in the block yet.
        """
        if self._recorder is None:
            raise ReplayError("Nothing was called in this replay yet, so it has no session.")
        return self.host.load_finished(self._recorder)

    # -- other processes

    @property
    def is_closed(self) -> bool:
        """True if no code in the block may ask a model, in whatever thread or process."""
        return not self.bills and self.verified is None

    def elsewhere(self) -> ReplayElsewhere | None:
        """Give what refuses the calls of a started process; see `ReplayBlock.elsewhere`."""
        return (
            ReplayElsewhere(self.recording.session_id, self._folder()) if self.is_closed else None
        )

    def _folder(self) -> str:
        """Make the folder that the processes share. Raises ReplayError if it can't be made."""
        try:
            return self.progress.share().path
        except OSError as error:
            raise ReplayError(
                f"No process can be started in the replay of session {self.recording.session_id}: "
                f"there is no place for what it tells this one ({error})."
            ) from error

    @property
    def host(self) -> SessionHost:
        """The host that writes the log of the sessions of the replay, in this process."""
        home = self._home_host
        if home.spans_processes or not self.progress.is_away:
            return home
        pid = os.getpid()
        if self._away_host is None or self._away_host[0] != pid:
            host = TellingHost(
                self.progress, partition=home.partition, redact=home.redact, prices=home.prices
            )
            self._away_host = (pid, host)
        return self._away_host[1]

    def carried(self, session: ReplayedSession) -> str:
        """Prepare the replay to continue in another process, to which a session is sent.

        Args:
            session: The session that is sent to the other process.

        Returns:
            The path of the folder in which the processes leave notes for each other.

        Raises:
            ReplayError: The replay may ask models, the folder can't be made, or the state of the
                replay can't be pickled.
        """
        if not self.is_closed:
            raise ReplayError(
                f"The replay of session {self.recording.session_id} may ask models, so it runs in "
                "one process, as a fork does: call its sub-tactics in this process or its threads."
            )
        if self.progress.is_away and self.progress.folder is not None:
            return self.progress.folder.path
        with self.lock.held():
            self.sessions[session.recorded_id] = session
        home, folder = self._home_host, self._folder()
        state = ReplayState(
            self.recording, folder, self.progress.done(), self._reports, self.ignored,
            self.live_tools, home if home.spans_processes else None, home.partition, home.redact,
            home.prices,
        )  # fmt: skip
        return carry(self, Replay.joined, state)

    @classmethod
    def joined(cls, state: ReplayState) -> Replay:
        """Continue in this process a replay that another process opened.

        Args:
            state: The recording, the options and the progress of the replay.
        """
        host = state.host or InMemorySessionHost(
            persists=True, partition=state.partition, redact=state.redact, prices=state.prices
        )
        replay = cls(
            state.recording, host, on_divergence="report" if state.reports else "raise",
            live_tools=state.live_tools,
        )  # fmt: skip
        replay.ignored = state.ignored
        replay.progress = Progress.joined(state.folder, state.done)
        replay.missing = Missing(state.recording, replay.progress)
        return replay

    def session_of(self, session_id: str, place: ReplayPlace) -> ReplayedSession:
        """Find the session that continues in another process; see `CarriedReplay.session_of`."""
        with self.lock.held():
            found = self.sessions.get(session_id)
            if found is None:
                recorded = next(
                    one for one in self.recording.family() if one.session_id == session_id
                )
                found = self.sessions[session_id] = ReplayedSession(
                    self, recorded, place, is_carried=True
                )
            return found

    # -- the block

    def __enter__(self) -> Self:
        self._stack.enter_context(outside_of_sessions())
        self._stack.enter_context(during(active_replay, self))
        if self.is_closed:
            self.progress.may_fork()
            self._stack.enter_context(closed_off())
            self._stack.enter_context(processes_closed_off())
        return self

    def __exit__(
        self,
        _: type[BaseException] | None,
        error: BaseException | None,
        __: TracebackType | None,
    ) -> None:
        self._stack.close()
        if self.progress.is_away:
            return  # a forked child walks out of a block that is its parent's
        self._collect()
        if isinstance(error, ReplayError) and self._recorder is None:
            return  # the call can't be made, which is what there is to say
        goes_on = self._reports or not self.divergences
        if self.interrupted is None and goes_on and not self.is_live:
            self._find_missing()
            self._find_end()
        found: list[ReplayDivergence | ReplayInterrupted] = []
        if self.interrupted is not None:
            found.append(self.interrupted)
        if not self._reports:
            found += self.divergences
        if not found or isinstance(error, ReplayDivergence | ReplayInterrupted):
            return
        if error is None:
            raise found[0]
        error.add_note(str(found[0]))

    def _collect(self) -> None:
        """Read the notes of the other processes: what they did, and the differences they found."""
        folder = self.progress.folder
        for found in self.progress.collect(partial(write_told, self.host)):
            self.remember(found)
        if folder is not None:
            forget(folder.path)

    def _find_missing(self) -> None:
        """Remember a divergence if something that was recorded was not done in the replay."""
        missing = self.missing.divergence()
        if missing is not None:
            self.divergences.append(missing)

    def _find_end(self) -> None:
        """Remember that the recording was cut off, if only the code came to an end."""
        recording = self.recording
        if recording.end is None and not self.bills and not self.divergences:
            self.remember(
                ReplayInterrupted(
                    f"The recording of session {recording.session_id} has no end, and all that it "
                    "has was the same. What the code did after that was not recorded: the process "
                    "ended then, or the file is cut off.",
                    place=ReplayPlace(tactic=recording.tactic_path),
                )
            )

    # -- sessions

    def begin(self, started: SessionStarted, recorder: Recorder, /) -> ReplayedSession:
        """Answer the one tactic call that the block is for, from the recorded session."""
        recording, path = self.recording, started.tactic_path
        if self.progress.is_away:
            divergence = elsewhere(repr(path), recording.session_id, path)
            self.remember(divergence)
            raise as_exception(divergence)
        with self.lock.held():
            fits = path == recording.tactic_path
            fits = fits and self.progress.claim("begun", recording.session_id)
            if fits:
                self._recorder = recorder
        if not fits:
            why = "it was called in this block already; open another block for another replay"
            if path != recording.tactic_path:
                why = f"it is a call of {recording.tactic_path!r}"
                if self._recorder is not None and self._recorder.is_open:
                    why += (
                        ". A thread is in no session, unless one is carried there, as by "
                        "store.carry(function) or lllm.Executor"
                    )
            self.differ(
                ReplayDivergence(
                    f"{path!r} is called in a block that replays session {recording.session_id} "
                    f"and nothing else: {why}.",
                    kind="unrecorded",
                    place=ReplayPlace(tactic=path),
                ),
                can_go_on=False,
            )
        place = ReplayPlace(tactic=path, session_id=recording.session_id)
        replayed = ReplayedSession(self, recording, place)
        replayed.compare_task(started)
        return replayed

    def refuse_captured(self, client: str) -> None:
        """Refuse a captured client's call outside of sessions; see `refuse`."""
        self.refuse(client, ReplayPlace(tactic=self.recording.tactic_path))

    def refuse(self, client: str, place: ReplayPlace) -> None:
        """Refuse a call of a captured client that is not recorded.

        Args:
            client: The SDK, HTTP method and URL of the call, for the message of the error.
            place: The place of the call in the replay.

        Raises:
            ReplayDivergence: Always, unless calls go to the real model here.
        """
        if self.is_live or self.went_on:
            return
        self.differ(
            ReplayDivergence(
                f"A captured client calls {client} in a replay. Such calls are not recorded, so "
                "the log has no answer, and nothing is called in a replay.",
                kind="unrecorded",
                place=place,
            ),
            can_go_on=self.may_go_live,
        )
        self.is_live = True

    def changed(self, place: ReplayPlace, tool: int | None) -> TurnEdit | None:  # noqa: ARG002
        """Give the change to make before the model is asked: always None, except in a fork.

        Args:
            place: The place of the turn that begins.
            tool: The number of the last tool whose result a fork changed; None if there is none.
        """
        return None

    def remember(self, found: ReplayDivergence | ReplayInterrupted) -> None:
        """Remember a difference here, and pass it on to the process that opened the replay."""
        super().remember(found)
        self.progress.tell(found)
