"""Histories of a store: many small sessions, written straight by recorders, and what a reader who
remembers everything would answer."""

from __future__ import annotations

import dataclasses

from lllm import LogStore
from lllm.events.model import (
    Content,
    Error,
    LLMFailed,
    LLMRefused,
    LLMRequested,
    LLMResponded,
    MessageAdded,
    Price,
    SessionFailed,
    SessionStarted,
    SessionSucceeded,
    Usage,
)
from lllm.events.recorder import Recorder
from lllm.store.log_store import session_host


@dataclasses.dataclass
class Attempt:
    """One call of a model.

    nanos: what it cost; None where nobody knows. refused: whether its answer was thrown away. A
    failed one has a price where it used something, or what it cost is known all the same. status,
    code: of a failed one's error. ended: whether its end was written.
    """

    model: str
    agent: str
    nanos: int | None
    failed: bool
    usage: Usage | None
    refused: bool = False
    elapsed: int = 1
    first_token: int | None = None
    status: int | None = None
    code: str | None = None
    ended: bool = True

    @property
    def priced(self) -> bool:
        """Whether anybody says that it used or cost something."""
        return not self.failed or self.usage is not None or bool(self.nanos)

    @property
    def cost(self) -> int:
        """Nano-dollars that are in the sums."""
        return self.nanos or 0 if self.priced else 0

    @property
    def wasted(self) -> int:
        """Those of them that bought nothing."""
        return self.cost if self.failed or self.refused else 0

    @property
    def unpriced(self) -> bool:
        """Whether it cost something, and nobody knows how much."""
        return self.priced and self.nanos is None


@dataclasses.dataclass
class Session:
    """A session as the reader who remembers everything knows it."""

    recorder: Recorder
    tactic: str
    partition: str
    parent: Session | None
    tags: dict[str, str]
    state: str = "running"
    attempts: list[Attempt] = dataclasses.field(default_factory=list)
    children: list[Session] = dataclasses.field(default_factory=list)

    @property
    def id(self) -> str:
        """Its id."""
        return self.recorder.session_id

    @property
    def chain(self) -> list[Session]:
        """This session and those above it."""
        return [self] if self.parent is None else [self, *self.parent.chain]

    @property
    def all_tags(self) -> dict[str, str]:
        """The root's tags, and over them its own."""
        return self.chain[-1].tags | self.tags

    @property
    def outermost(self) -> bool:
        """Whether no session above is a call of the same tactic."""
        return all(above.tactic != self.tactic for above in self.chain[1:])

    def below(self) -> list[Session]:
        """This session and all below it."""
        return [self, *(one for child in self.children for one in child.below())]

    def all_attempts(self) -> list[tuple[Session, Attempt]]:
        """The calls of this session and of those below it."""
        return [(one, attempt) for one in self.below() for attempt in one.attempts]


class History:
    """Writes sessions to a store, and remembers them."""

    def __init__(self, store: LogStore) -> None:
        self.store = store
        self.sessions: list[Session] = []

    def start(
        self, tactic: str, partition: str, tags: dict[str, str], parent: Session | None
    ) -> Session:
        """Begin a session."""
        recorder = Recorder(
            self.store.log,
            tactic,
            ancestors=parent.recorder.lineage if parent else (),
            definitions=session_host(self.store).definitions,
        )
        session = Session(recorder, tactic, partition, parent, dict(tags))
        self.sessions.append(session)
        if parent is not None:
            parent.children.append(session)
        recorder.stage(
            SessionStarted(
                tactic_path=tactic,
                name=tactic,
                partition=partition,
                tags=tags,
                ancestors=recorder.ancestors,
                salt=recorder.salt,
            )
        )
        recorder.commit()
        return session

    def attempt(self, session: Session, attempt: Attempt) -> None:
        """Record one call of a model."""
        session.attempts.append(attempt)
        price = (
            Price("unpriced", reason="nobody knows")
            if attempt.nanos is None
            else Price("priced", nanos=attempt.nanos)
        )
        request = session.recorder.ordinal("request")
        session.recorder.stage(
            LLMRequested(
                request=request,
                step=request,
                attempt=1,
                provider="scripted",
                api="scripted",
                model=attempt.model,
                digest="",
            )
        )
        session.recorder.commit()
        if not attempt.ended:
            return
        if attempt.failed:
            session.recorder.stage(
                LLMFailed(
                    request=request,
                    agent=attempt.agent,
                    asked=attempt.model,
                    error=Error("E", "m", code=attempt.code, status=attempt.status),
                    usage=attempt.usage,
                    price=price if attempt.priced else None,
                    elapsed=attempt.elapsed,
                )
            )
        else:
            session.recorder.stage(
                LLMResponded(
                    request=request,
                    message=session.recorder.ordinal("message"),
                    content=Content.of("assistant", "text"),
                    finish="stop",
                    agent=attempt.agent,
                    asked=attempt.model,
                    model=attempt.model,
                    usage=attempt.usage,
                    price=price,
                    elapsed=attempt.elapsed,
                    first_token=attempt.first_token,
                )
            )
            if attempt.refused:
                session.recorder.stage(
                    LLMRefused(
                        request=request,
                        agent=attempt.agent,
                        asked=attempt.model,
                        cost=attempt.nanos,
                        reason="no JSON",
                    )
                )
        session.recorder.commit()

    def say(self, session: Session, text: str, role: str = "user") -> None:
        """Add a message to a dialog."""
        message = session.recorder.ordinal("message")
        content = Content.of(role, text)
        session.recorder.stage(MessageAdded(message=message, dialog=1, content=content, why=role))
        session.recorder.commit()

    def finish(self, session: Session, success: bool) -> None:
        """End a session."""
        session.state = "success" if success else "failure"
        if success:
            session.recorder.end(SessionSucceeded(elapsed=1))
        else:
            session.recorder.end(SessionFailed(error=Error("E", "m"), elapsed=1))
        session.recorder.commit()

    def tag(self, session: Session, tags: dict[str, str], remove: tuple[str, ...]) -> None:
        """Change tags later."""
        for name in remove:
            session.tags.pop(name, None)
        session.tags |= tags
        self.store.tag(session.id, tags, remove=remove)

    # -- what a reader who remembers everything would answer

    def listed(
        self,
        tags: dict[str, str],
        state: str | None,
        tactic: str | None,
        partition: str | None,
    ) -> list[Session]:
        """What list_sessions selects, in no order."""
        return [
            one
            for one in self.sessions
            if (one.parent is None if tactic is None else one.tactic == tactic and one.outermost)
            and _has(one, tags)
            and (state is None or one.state == state)
            and (partition is None or one.partition == partition)
        ]


def _has(session: Session, tags: dict[str, str]) -> bool:
    """A session is found by its root's tags, and by its own, which come first."""
    return all(session.all_tags.get(name) == value for name, value in tags.items())
