"""What a replay does where the code does something else: it raises, reports, or goes live.

None of what is raised is an Exception: a program that catches every Exception, as agents' programs
do around a call, must not take a difference for one more answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NoReturn

import msgspec

from lllm.events.errors import ConfigError

OnDivergence = Literal["raise", "report", "live"]
# changed: a request differs; unrecorded: one that was never made; missing: a recorded one that was
# not made; task: a session begins with another task; tool: a tool that ran gave something else;
# end: another delivery or error, where many sessions are replayed
Kind = Literal["changed", "unrecorded", "missing", "task", "tool", "end"]


class ReplayPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A place in a session, told by what stands there and not by when it came."""

    tactic: str | None = None
    """The stable path of the tactic; a place without one may be in any."""
    session_id: str | None = None
    """The recorded session; None where none was found."""
    child: int | None = None
    """It is the nth child of its parent; None for the session that is replayed."""
    agent: str | None = None
    """The agent; None where the session as a whole is meant."""
    client: str | None = None
    """What a captured client calls, as "openai.chat"; None where an agent asks."""
    dialog: str | None = None
    """The alias of the agent's dialog, or the conversation of the client."""
    respond: int | None = None
    """Which `respond()` in that dialog, from 1."""
    step: int | None = None
    """Which turn of the model within that, or which call of clients in the session, from 1."""
    attempt: int | None = None
    """Which try of that turn, from 1."""
    tool: str | None = None
    """The tool that the answer there asks for."""

    def __str__(self) -> str:
        told = [] if self.tactic is None else [f"tactic {self.tactic!r}"]
        if self.child is not None:
            told.append(f"child {self.child} of its parent")
        if self.agent is not None:
            told.append(f"agent {self.agent!r}")
            if self.dialog is not None:
                told.append(f"dialog {self.dialog!r}")
        if self.client is not None:
            told.append(f"captured client {self.client!r}")
            if self.dialog is not None:
                told.append(repr(self.dialog))
        for name in ("respond", "step", "attempt"):
            number: int | None = getattr(self, name)
            if number is not None:
                told.append(f"{name} {number}")
        if self.tool is not None:
            told.append(f"tool {self.tool!r}")
        return ", ".join(told) or "outside of the replayed session"


class ReplayDivergence(BaseException):
    """The code does something else than it did when the session was recorded.

    Attributes:
        kind: "changed" for a request that differs, "unrecorded" for one that was never made,
            "missing" for a recorded one that was not made, "task" for a session that begins with
            another task, "tool" for a tool that ran and gave something else, "end" for another
            delivery or error after equal requests.
        place: Where.
        differs: What differs there: messages, tools, params, model, output_schema, tool_choice.
        diff: A unified diff of that; empty where there is nothing to compare.
        recorded_next: What the recording has there, or next.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: Kind,
        place: ReplayPlace,
        differs: tuple[str, ...] = (),
        diff: str = "",
        recorded_next: str = "",
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.place = place
        self.differs = differs
        self.diff = diff
        self.recorded_next = recorded_next

    def __str__(self) -> str:
        told = [str(self.args[0]), f"Where: {self.place}."]
        if self.differs:
            told.append(f"What differs: {', '.join(self.differs)}.")
        if self.diff:
            told.append(self.diff.rstrip())  # its last line may be an empty one of the request
        if self.recorded_next:
            told.append(f"Recorded next: {self.recorded_next}")
        return "\n".join(told)

    def __reduce__(self) -> tuple[Callable[..., ReplayDivergence], tuple[object, ...]]:
        """Pickled by its fields: it must come home from a worker process."""
        fields = (self.kind, self.place, self.differs, self.diff, self.recorded_next)
        return _divergence, (self.args[0], *fields)

    def again(self) -> ReplayDivergence:
        """The same to be raised once more, with a traceback of its own."""
        make, given = self.__reduce__()
        return make(*given)


def _divergence(
    message: str,
    kind: Kind,
    place: ReplayPlace,
    differs: tuple[str, ...],
    diff: str,
    recorded_next: str,
) -> ReplayDivergence:
    return ReplayDivergence(
        message, kind=kind, place=place, differs=differs, diff=diff, recorded_next=recorded_next
    )


class ReplayInterrupted(BaseException):
    """The recording ends here, and everything up to here was the same.

    Its process ended then, or somebody stopped it.

    Attributes:
        place: Where.
    """

    def __init__(self, message: str, *, place: ReplayPlace) -> None:
        super().__init__(message)
        self.place = place

    def __str__(self) -> str:
        return f"{self.args[0]}\nWhere: {self.place}."

    def __reduce__(self) -> tuple[Callable[..., ReplayInterrupted], tuple[str, ReplayPlace]]:
        """Pickled by its fields: it must come home from a worker process."""
        return _interrupted, (str(self.args[0]), self.place)


def _interrupted(message: str, place: ReplayPlace) -> ReplayInterrupted:
    return ReplayInterrupted(message, place=place)


class GoesLive(BaseException):
    """From here on the real model is asked; never leaves a replay."""


class Divergences:
    """The differences of one replay, and what each of them leads to.

    Args:
        on_divergence: "raise", "report", or "live": from the first one on, ask the real model.

    Attributes:
        divergences: Where the code did something else, in the order in which that was found.
        interrupted: Where the recording ended before the code did; None where it did not.
        may_go_live: True for "live".
        is_live: Something differed, and what begins from then on asks its model.
        goes_on: True for a fork: behind the end of the recording, the model is asked.
        went_on: The code came to the end of the recording, and went on behind it.

    Raises:
        ConfigError: `on_divergence` is none of the three.
    """

    def __init__(self, on_divergence: OnDivergence) -> None:
        if on_divergence not in ("raise", "report", "live"):
            raise ConfigError(
                f'on_divergence is "raise", "report" or "live", not {on_divergence!r}.'
            )
        self.divergences: list[ReplayDivergence] = []
        self.interrupted: ReplayInterrupted | None = None
        self._reports = on_divergence != "raise"
        self.may_go_live = on_divergence == "live"
        self.is_live = False
        self.goes_on = False
        self.went_on = False

    @property
    def bills(self) -> bool:
        """True where models may be asked, whose answers cost what they cost."""
        return self.may_go_live or self.goes_on

    def differ(self, divergence: ReplayDivergence, *, can_go_on: bool = True) -> None:
        """Remember a difference.

        Args:
            divergence: It.
            can_go_on: False where the recording has no answer to go on with.

        Raises:
            ReplayDivergence: The replay does not go on with the recorded answer.
        """
        if not self._reports and self.divergences:
            raise self.divergences[0].again()  # a program that swallowed it gets no further
        self.remember(divergence)
        if not (self._reports and can_go_on):
            raise divergence

    def interrupt(self, interrupted: ReplayInterrupted) -> NoReturn:
        """Remember that the recording ended before the code did.

        Args:
            interrupted: Where.

        Raises:
            ReplayInterrupted: Always.
        """
        self.remember(interrupted)
        raise interrupted

    def remember(self, found: ReplayDivergence | ReplayInterrupted) -> None:
        """Remember a difference, or the first end of the recording.

        Args:
            found: It.
        """
        if isinstance(found, ReplayDivergence):
            self.divergences.append(found)
        elif self.interrupted is None:
            self.interrupted = found

    def go_live(self) -> None:
        """Ask the real model from here on, with `on_divergence="live"`.

        Raises:
            GoesLive: The replay does so.
        """
        if self.may_go_live:
            self.is_live = True
            raise GoesLive

    def go_on(self) -> None:
        """Go on behind the end of the recording, in a fork.

        Raises:
            GoesLive: It is a fork.
        """
        if self.goes_on:
            self.went_on = True
            raise GoesLive


class DivergenceElsewhere(ReplayDivergence, Exception):
    """A ReplayDivergence on its way out of another process than the replay's own.

    It is an Exception there, for a worker of `multiprocessing.Pool` that meets anything else is
    gone, and its result is waited for without end. Home comes a ReplayDivergence.
    """


class InterruptedElsewhere(ReplayInterrupted, Exception):
    """A ReplayInterrupted on its way out of another process; see DivergenceElsewhere."""


def as_exception(found: ReplayDivergence | ReplayInterrupted) -> Exception:
    """What is raised in place of a divergence where it leaves another process.

    Args:
        found: The divergence, or the end of the recording.
    """
    if isinstance(found, ReplayInterrupted):
        return InterruptedElsewhere(str(found.args[0]), place=found.place)
    return DivergenceElsewhere(
        str(found.args[0]), kind=found.kind, place=found.place, differs=found.differs,
        diff=found.diff, recorded_next=found.recorded_next,
    )  # fmt: skip


def elsewhere(called: str, session_id: str, tactic: str | None = None) -> ReplayDivergence:
    """What is found where a process that a replay started calls something on its own.

    Args:
        called: What is called, for the message.
        session_id: The recorded session that is replayed.
        tactic: The path of the tactic that is called.
    """
    return ReplayDivergence(
        f"{called} is called in a process that was started in the replay of session {session_id}, "
        "and not by a sub-tactic of it. What a process calls of its own is not recorded there, and "
        "nothing is called in a replay.",
        kind="unrecorded",
        place=ReplayPlace(tactic=tactic),
    )
