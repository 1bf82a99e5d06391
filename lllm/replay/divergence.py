"""What a replay does where the code does something else: it raises, reports, or goes live.

`ReplayDivergence` and `ReplayInterrupted` do not derive from Exception. Programs with agents often
catch every Exception around a call, and must not take a difference for one more failed call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NoReturn

import msgspec

from lllm.events.errors import ConfigError

OnDivergence = Literal["raise", "report", "live"]
# changed: a request differs from the recorded one
# unrecorded: a request was never recorded
# missing: a recorded request was not made
# task: a session begins with another task
# tool: a tool that ran gave another result
# end: a session delivered something else or failed otherwise, where many sessions are replayed
Kind = Literal["changed", "unrecorded", "missing", "task", "tool", "end"]


class ReplayPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Names a place in a session by agent, dialog and step, and not by its position in the log."""

    tactic: str | None = None
    """The stable path of the tactic; None for a place that may be in any tactic."""
    session_id: str | None = None
    """The id of the recorded session; None if none was found."""
    child: int | None = None
    """The number of the session among the children of its parent; None for the replayed session."""
    agent: str | None = None
    """The name of the agent; None if the place is a whole session or a captured client's call."""
    client: str | None = None
    """What a captured client calls, such as "openai.chat"; None if an agent asks."""
    dialog: str | None = None
    """The alias of the agent's dialog, or the name of the client's conversation."""
    respond: int | None = None
    """The number of the `respond()` call within the dialog, from 1."""
    step: int | None = None
    """From 1: the model's turn within `respond()`, or the call of clients within the session."""
    attempt: int | None = None
    """The number of the attempt at the step, from 1."""
    tool: str | None = None
    """The tool that the model's answer at this step calls; None if no tool is meant."""

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
    """Raised if the code does something else than it did when the session was recorded.

    Attributes:
        kind: "changed" for a request that differs, "unrecorded" for a request that was never
            recorded, "missing" for a recorded request that was not made, "task" for a session that
            begins with another task, "tool" for a tool that ran and gave another result, "end" for
            another delivery or error after equal requests.
        place: The place in the session at which the code differs.
        differs: The names of the parts of the request that differ, such as "messages", "tools",
            "params", "model", "output_schema" or "tool_choice".
        diff: A unified diff from the recorded parts to the present ones; empty if there is nothing
            to compare.
        recorded_next: A sentence on what the recording has at this place, or next; may be empty.
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
            told.append(self.diff.rstrip())  # a request may end in an empty line
        if self.recorded_next:
            told.append(f"Recorded next: {self.recorded_next}")
        return "\n".join(told)

    def __reduce__(self) -> tuple[Callable[..., ReplayDivergence], tuple[object, ...]]:
        """Pickle the error by its fields, so that a worker process can send it back."""
        fields = (self.kind, self.place, self.differs, self.diff, self.recorded_next)
        return _divergence, (self.args[0], *fields)

    def again(self) -> ReplayDivergence:
        """Copy the error, so that it can be raised once more with a traceback of its own."""
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
    """Raised if the recording ends before the code does, and everything up to there was the same.

    The recorded process ended at that point, or somebody stopped it.

    Attributes:
        place: The place in the session at which the recording ends.
    """

    def __init__(self, message: str, *, place: ReplayPlace) -> None:
        super().__init__(message)
        self.place = place

    def __str__(self) -> str:
        return f"{self.args[0]}\nWhere: {self.place}."

    def __reduce__(self) -> tuple[Callable[..., ReplayInterrupted], tuple[str, ReplayPlace]]:
        """Pickle the error by its fields, so that a worker process can send it back."""
        return _interrupted, (str(self.args[0]), self.place)


def _interrupted(message: str, place: ReplayPlace) -> ReplayInterrupted:
    return ReplayInterrupted(message, place=place)


class GoesLive(BaseException):
    """Raised inside a replay to ask the real model from here on; user code never sees it."""


class Divergences:
    """Collects the differences of one replay, and decides what each of them leads to.

    Args:
        on_divergence: "raise" to raise the first difference; "report" to collect all of them;
            "live" to ask the real model from the first difference on.

    Attributes:
        divergences: The differences, in the order in which they were found.
        interrupted: Says where the recording ended before the code did; None if it did not.
        may_go_live: True if `on_divergence` is "live".
        is_live: True once something differed, so that what begins later asks the real model.
        goes_on: True for a fork, which asks the real model after the end of the recording.
        went_on: True once a fork has run past the end of the recording.

    Raises:
        ConfigError: `on_divergence` is none of the three values.
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
        """True if real models may be asked, so that the replay may cost money."""
        return self.may_go_live or self.goes_on

    def differ(self, divergence: ReplayDivergence, *, can_go_on: bool = True) -> None:
        """Remember a difference, and raise it unless the replay can go on.

        Args:
            divergence: The difference that was found.
            can_go_on: False if the recording has no answer with which the code could go on.

        Raises:
            ReplayDivergence: `on_divergence` is "raise", or `can_go_on` is False. After an earlier
                difference that was raised, that one is raised again.
        """
        if not self._reports and self.divergences:
            raise self.divergences[0].again()  # the program caught it, but must not go on
        self.remember(divergence)
        if not (self._reports and can_go_on):
            raise divergence

    def interrupt(self, interrupted: ReplayInterrupted) -> NoReturn:
        """Remember that the recording ended before the code did, and raise that.

        Args:
            interrupted: The error, with the place at which the recording ended.

        Raises:
            ReplayInterrupted: Always.
        """
        self.remember(interrupted)
        raise interrupted

    def remember(self, found: ReplayDivergence | ReplayInterrupted) -> None:
        """Remember a difference, or the first end of the recording, without raising it.

        Args:
            found: The difference, or the end of the recording.
        """
        if isinstance(found, ReplayDivergence):
            self.divergences.append(found)
        elif self.interrupted is None:
            self.interrupted = found

    def go_live(self) -> None:
        """Ask the real model from here on, if `on_divergence` is "live"; else do nothing.

        Raises:
            GoesLive: `on_divergence` is "live".
        """
        if self.may_go_live:
            self.is_live = True
            raise GoesLive

    def go_on(self) -> None:
        """Go on after the end of the recording, if this is a fork; else do nothing.

        Raises:
            GoesLive: This is a fork.
        """
        if self.goes_on:
            self.went_on = True
            raise GoesLive


class DivergenceElsewhere(ReplayDivergence, Exception):
    """A ReplayDivergence that leaves a process other than the replay's own.

    It is an Exception, because anything else ends a worker of `multiprocessing.Pool`, whose result
    would then be waited for without end. In the replay's own process a plain ReplayDivergence
    arrives.
    """


class InterruptedElsewhere(ReplayInterrupted, Exception):
    """A ReplayInterrupted that leaves another process; see `DivergenceElsewhere`."""


def as_exception(found: ReplayDivergence | ReplayInterrupted) -> Exception:
    """Turn a divergence into an Exception, so that it can leave another process.

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
    """Make the divergence for a call that a process makes on its own, if a replay started it.

    Args:
        called: The name of what is called, for the message.
        session_id: The id of the recorded session that is replayed.
        tactic: The path of the tactic that is called; None if it is unknown.
    """
    return ReplayDivergence(
        f"{called} is called in a process that was started in the replay of session {session_id}, "
        "and not by a sub-tactic of it. What a process calls of its own is not recorded there, and "
        "nothing is called in a replay.",
        kind="unrecorded",
        place=ReplayPlace(tactic=tactic),
    )
