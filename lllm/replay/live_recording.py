"""Records the live sessions of a block in memory, instead of in the store of their tactics."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from lllm.events import codec
from lllm.events.errors import ReplayError
from lllm.events.exported_lines import as_jsonl
from lllm.events.model import SessionStarted
from lllm.events.recorder import Recorder
from lllm.events.redaction.redact import Redact
from lllm.replay.active_replay import active_replay
from lllm.sessions.context_values import during
from lllm.sessions.current_session import outside_of_sessions
from lllm.sessions.host import SessionHost
from lllm.sessions.in_memory_host import InMemorySessionHost


class LiveRecording:
    """Records the sessions of a `with` block in memory.

    Args:
        redact: Filters what is recorded; None to record everything as it is.
    """

    def __init__(self, redact: Redact | None) -> None:
        self.host: SessionHost = InMemorySessionHost(persists=True, redact=redact)
        self._stack = ExitStack()

    @property
    def is_closed(self) -> bool:
        """Always False: the code of the block may ask its models; see `ReplayBlock`."""
        return False

    def elsewhere(self) -> None:
        """Return None: nothing refuses the calls of processes; see `ReplayBlock`."""

    def begin(self, _: SessionStarted, __: Recorder, /) -> None:
        """Return None: every session runs live; see `AnswersSessions`."""

    def refuse_captured(self, client: str) -> None:
        """Refuse nothing: captured clients call their models; see `AnswersSessions`."""

    def __enter__(self) -> Self:
        self._stack.enter_context(outside_of_sessions())
        self._stack.enter_context(during(active_replay, self))
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._stack.close()

    def exported(self) -> str:
        """Export the one session that was recorded, with all sessions below it.

        Returns:
            JSON lines, one for each event.

        Raises:
            ReplayError: The block ran no session, or more than one that has no parent.
        """
        events = list(self.host.log.read())
        started = [codec.decode(event) for event in events if event.type == "session.started"]
        roots = [one for one in started if isinstance(one, SessionStarted) and not one.ancestors]
        if len(roots) != 1:
            paths = ", ".join(repr(one.tactic_path) for one in roots) or "none"
            raise ReplayError(
                f"A recording is of one session, and the test ran {len(roots)}: {paths}. Nothing "
                "was written."
            )
        return as_jsonl(events).rstrip("\n") + "\n"
