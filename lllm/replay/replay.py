"""A replay: a block in which one recorded session runs again, answered from the log."""

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
    """What `store.replay` gives; inside of its `with`, sessions are answered from the log.

    Attributes:
        recording: The session that is replayed.
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
        """Every request that was compared, with what came of it."""
        return self.progress.requests

    @property
    def session_id(self) -> str | None:
        """The id of the replay's own session; None before it begins."""
        return None if self._recorder is None else self._recorder.session_id

    def load_session(self) -> TacticCallSession:
        """The replay's own session, once it has ended, whether it is kept or not.

        Raises:
            ReplayError: Nothing was called yet.
        """
        if self._recorder is None:
            raise ReplayError("Nothing was called in this replay yet, so it has no session.")
        return self.host.load_finished(self._recorder)

    # -- other processes

    @property
    def is_closed(self) -> bool:
        """See ReplayBlock."""
        return not self.bills and self.verified is None

    def elsewhere(self) -> ReplayElsewhere | None:
        """See ReplayBlock."""
        return (
            ReplayElsewhere(self.recording.session_id, self._folder()) if self.is_closed else None
        )

    def _folder(self) -> str:
        """The folder through which processes tell each other. Raises ReplayError."""
        try:
            return self.progress.share().path
        except OSError as error:
            raise ReplayError(
                f"No process can be started in the replay of session {self.recording.session_id}: "
                f"there is no place for what it tells this one ({error})."
            ) from error

    @property
    def host(self) -> SessionHost:
        """See AnswersSessions."""
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
        """Be ready to go on in another process, for a session that is sent there.

        Args:
            session: The session.

        Returns:
            The folder through which the processes tell each other.

        Raises:
            ReplayError: It can't be sent there.
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
        """Make the replay that another process opened.

        Args:
            state: What it continues with.
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
        """See CarriedReplay."""
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
        """Take what other processes did and found."""
        folder = self.progress.folder
        for found in self.progress.collect(partial(write_told, self.host)):
            self.remember(found)
        if folder is not None:
            forget(folder.path)

    def _find_missing(self) -> None:
        """Find what was recorded and not asked for."""
        missing = self.missing.divergence()
        if missing is not None:
            self.divergences.append(missing)

    def _find_end(self) -> None:
        """Find out that the code came to its end, and the recording has none."""
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
        """See AnswersSessions: what is called in the block is the session that is replayed."""
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
        """See AnswersSessions."""
        self.refuse(client, ReplayPlace(tactic=self.recording.tactic_path))

    def refuse(self, client: str, place: ReplayPlace) -> None:
        """Keep a captured client from a call that is not recorded.

        Args:
            client: What it calls.
            place: Where.

        Raises:
            ReplayDivergence: Always, but where the model itself is asked.
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
        """What is changed before the model is asked at a place; a replay changes nothing.

        Args:
            place: Where.
            tool: The number of the tool that was answered with another result.
        """
        return None

    def remember(self, found: ReplayDivergence | ReplayInterrupted) -> None:
        """See Divergences; the process that opened the replay is told, too."""
        super().remember(found)
        self.progress.tell(found)
