"""Somebody who writes sessions step by step, many of them open at once: here, or in a process that
can be killed in the middle of a step."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextvars import Context, copy_context
from multiprocessing.connection import Connection

from lllm.events.model import Content, LLMResponded, Price
from lllm.events.recorder import Recorder
from lllm.sessions.session import SessionScope
from tests.survival.places import Place
from tests.survival.writers import processes, strict

PATIENCE = 60  # seconds after which an answer that never comes is a failure


class Hand:
    """Writes to a store of its own. Each session lives in a context of its own, as in a task or
    thread, so that they need not end in the order in which they began."""

    def __init__(self, place: Place) -> None:
        self.store = place.store()
        self._open: dict[str, tuple[Context, SessionScope, Recorder]] = {}

    def start(self, name: str, tags: Mapping[str, str], parent: str | None) -> str:
        """Begin a session, below another open one of this hand's or at the top."""
        context = Context() if parent is None else self._open[parent][0].run(copy_context)
        scope = context.run(lambda: self.store.session(name, tags=tags))
        recorder = context.run(scope.__enter__)
        self._open[recorder.session_id] = context, scope, recorder
        return recorder.session_id

    def attempt(self, session: str, nanos: int) -> str:
        """Call a model in a session, which costs something."""
        recorder = self._open[session][2]
        recorder.stage(
            LLMResponded(
                request=recorder.ordinal("request"),
                message=recorder.ordinal("message"),
                content=Content.of("assistant", "text"),
                finish="stop",
                agent="a",
                asked="m",
                model="m",
                price=Price("priced", nanos=nanos),
                elapsed=1,
            )
        )
        recorder.commit()
        return session

    def finish(self, session: str, success: bool) -> str:
        """End a session."""
        context, scope, _ = self._open.pop(session)
        error = None if success else ValueError("as asked")
        context.run(scope.__exit__, type(error) if error else None, error, None)
        return session

    def tag(self, session: str, tags: Mapping[str, str], remove: tuple[str, ...]) -> str:
        """Tag any session."""
        self.store.tag(session, tags, remove=remove)
        return session

    def error(self, text: str) -> str:
        """Save an error outside any session."""
        return self.store.save_error(ValueError(text))

    def rebuild(self) -> str:
        """Build all rows anew."""
        self.store.rebuild()
        return ""

    def close(self) -> str:
        """Close the store, whatever is open."""
        self._open.clear()
        self.store.close()
        return ""

    def do(self, step: str, *arguments: object) -> str:
        """One of the above, by name."""
        done = getattr(self, step)(*arguments)
        assert isinstance(done, str)
        return done


class OtherHand:
    """The same in another process."""

    def __init__(self, place: Place) -> None:
        self._pipe, theirs = processes().Pipe()
        self._process = processes().Process(target=_serve, args=(place, theirs))
        self._process.start()
        theirs.close()

    def begin(self, step: str, *arguments: object) -> None:
        """Have it begin a step, and don't wait for the end."""
        self._pipe.send((step, arguments))

    def do(self, step: str, *arguments: object) -> str:
        """Have it do a step. Raises AssertionError where it could not."""
        self.begin(step, *arguments)
        assert self._pipe.poll(PATIENCE), f"{step} takes for ever"
        done = self._pipe.recv()
        assert isinstance(done, str), done
        return done

    def kill(self) -> None:
        """SIGKILL, wherever it is."""
        self._process.kill()
        self._process.join()
        assert self._process.exitcode == -signal.SIGKILL
        self._process.close()
        self._pipe.close()


def _serve(place: Place, pipe: Connection) -> None:
    with strict():
        hand = Hand(place)
        while True:
            step, arguments = pipe.recv()
            try:
                pipe.send(hand.do(step, *arguments))
            except Exception as error:
                pipe.send(error)
