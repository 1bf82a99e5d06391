"""Records what runs live in a block, wherever its tactics would be recorded otherwise."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from lllm.events import codec
from lllm.events.errors import ReplayError
from lllm.events.model import SessionStarted
from lllm.events.recorder import Recorder
from lllm.events.redaction.redact import Redact
from lllm.replay.active_replay import active_replay
from lllm.sessions.context_values import during
from lllm.sessions.current_session import outside_of_sessions
from lllm.sessions.host import SessionHost
from lllm.sessions.in_memory_host import InMemorySessionHost
from lllm.store.session_export import as_jsonl


class LiveRecording:
    """Takes the sessions of a block into memory; use it in a `with`.

    Args:
        redact: Filters what is recorded.
    """

    def __init__(self, redact: Redact | None) -> None:
        self.host: SessionHost = InMemorySessionHost(persists=True, redact=redact)
        self._stack = ExitStack()

    @property
    def is_closed(self) -> bool:
        """See ReplayBlock."""
        return False

    def elsewhere(self) -> None:
        """See ReplayBlock."""

    def begin(self, _: SessionStarted, __: Recorder, /) -> None:
        """See AnswersSessions: nothing is answered."""

    def refuse_captured(self, client: str) -> None:
        """See AnswersSessions: captured clients call their model, too."""

    def __enter__(self) -> Self:
        self._stack.enter_context(outside_of_sessions())
        self._stack.enter_context(during(active_replay, self))
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._stack.close()

    def exported(self) -> str:
        """The one session that was recorded, with those below it, as it is exported.

        Returns:
            Lines of JSON.

        Raises:
            ReplayError: There is none, or more than one that stands alone.
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
