"""Answers the model calls and tools of an agent call from the recording of an earlier one.

An agent's logic is a generator of effects (`lllm.agents.effects`). This module answers the effects
that are model calls, tools and waits, and passes all other effects on. So threads, event loops and
streams share it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from functools import partial
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar

import msgspec

from lllm.agents.effects import (
    BeginTurn,
    Effect,
    Invoke,
    RunTool,
    RunTools,
    Steps,
    Wait,
    carried_out,
)
from lllm.agents.fork_edits import TurnEdit
from lllm.agents.tool_calls import failure_text
from lllm.events.model import Error, LLMFailed, ToolFailed, ToolReturned
from lllm.invokers import Request
from lllm.replay.divergence import GoesLive, ReplayPlace
from lllm.replay.outcome import (
    CANCELLED_TASK,
    answer_of,
    failure_of,
    is_stop,
    tool_failure,
)
from lllm.replay.recorded_agents import RecordedAttempt, RecordedCall, RecordedTool
from lllm.sessions.error_details import describe
from lllm.tools.results import RecordedResult, result_forms

if TYPE_CHECKING:
    from lllm.sessions.budget import Budget

T = TypeVar("T")

LEFT = "It was left before its end when the session was recorded, so there is nothing to replay."


class Judge(Protocol):
    """Finds what was recorded, compares it with what is asked, and decides on differences."""

    @property
    def is_live(self) -> bool:
        """True once something differed, so that agent calls that begin later run live."""

    def call(self, agent: str, dialog: str) -> tuple[RecordedCall | None, ReplayPlace]:
        """Find the next recorded `respond()` of an agent in a dialog, and give its place.

        Args:
            agent: The name of the agent.
            dialog: The alias of the dialog.

        Returns:
            The recorded agent call and its place; the call is None if none was recorded.
        """

    def ask(
        self, call: RecordedCall | None, place: ReplayPlace, request: Request
    ) -> RecordedAttempt:
        """Find the recorded attempt at a place, and compare the request with it.

        Args:
            call: The recorded agent call; None if none was recorded.
            place: The place of the attempt, with its step and its number.
            request: The request that the agent makes now.

        Returns:
            The recorded attempt, whose answer is given.

        Raises:
            ReplayDivergence: The request differs, or was never made.
            ReplayInterrupted: The recording ends before this attempt.
            GoesLive: The real model is to be asked.
        """

    def changed(
        self, call: RecordedCall | None, place: ReplayPlace, tool: int | None
    ) -> TurnEdit | None:
        """Give the change that a fork makes before the model is asked at a place.

        Args:
            call: The recorded agent call; None if none was recorded.
            place: The place of the turn that begins.
            tool: The number of the last tool whose result the fork changed; None if there is none.

        Returns:
            The change; None if the fork changes nothing at this place.
        """

    def runs(self, run: RunTool, recorded: RecordedTool) -> bool:
        """True if a recorded tool runs again; the values that it draws are still answered."""

    def compare_tool(self, text: str, recorded: RecordedTool, place: ReplayPlace) -> None:
        """Compare the result of a tool that ran with its recorded one.

        Args:
            text: The text of the result now.
            recorded: The recorded run of the tool.
            place: The place of the tool call.

        Raises:
            ReplayDivergence: The two differ, and the replay does not only report differences.
        """

    def spend(self, recorded: RecordedTool, budget: Budget) -> None:
        """Count the calls within an answered tool as made, and charge their recorded cost.

        Args:
            recorded: The recorded run of the tool.
            budget: The budget of the session, which pays the cost.
        """

    def unrecorded_tool(self, call: RecordedCall | None, place: ReplayPlace) -> NoReturn:
        """Handle a tool that was never recorded.

        Args:
            call: The recorded agent call; None if none was recorded.
            place: The place of the tool call.

        Raises:
            ReplayDivergence: The recorded code did not call the tool.
            ReplayInterrupted: The recording ends before this tool.
            GoesLive: The tool is to run.
        """

    def broke(self, place: ReplayPlace, why: str) -> NoReturn:
        """Handle the end of the recording.

        Args:
            place: The place at which the recording ends.
            why: Why it ends there, for the message of the error.

        Raises:
            ReplayInterrupted: The replay can't go on.
            GoesLive: The model or the tool is to run.
        """


def answered(judge: Judge, steps: Steps[T], agent: str, dialog: str, budget: Budget) -> Steps[T]:
    """Answer the steps of one agent call; see `lllm.replay.active_replay.Replaying.answered`."""
    call, place = judge.call(agent, dialog)
    return (yield from carried_out(steps, _Answers(judge, call, place, budget).carry_out))


class _UntilCancelled:
    """Waits until a call that was cancelled in the recording is cancelled again.

    A timer, or a task that fails, is expected to cancel it.

    Args:
        nanoseconds: The longest time to wait, in nanoseconds. A timer of the session has fired by
            then. If nothing has, the call is cancelled anyway.
        broke: Called where there is no task to cancel; it raises that the recording ends here.
    """

    def __init__(self, nanoseconds: int, broke: Callable[[], NoReturn]) -> None:
        self._nanoseconds = nanoseconds
        self._broke = broke

    def run(self) -> object:
        self._broke()

    async def arun(self) -> object:
        import asyncio

        await asyncio.sleep(self._nanoseconds / 1_000_000_000)
        raise asyncio.CancelledError


class _Answers:
    """Answers the effects of one agent call."""

    def __init__(
        self, judge: Judge, call: RecordedCall | None, place: ReplayPlace, budget: Budget
    ) -> None:
        self._judge = judge
        self._call = call
        self._place = place
        self._budget = budget
        self._last: RecordedAttempt | None = None  # the attempt whose answer was given last
        self._live = judge.is_live  # the model is asked, and tools run
        self._edited_tool: int | None = None  # the number of the tool whose result the fork changed

    def carry_out(self, effect: Effect) -> Steps[object]:
        """Answer an effect from the recording, or pass it on to be carried out."""
        if isinstance(effect, BeginTurn):
            place = msgspec.structs.replace(self._place, step=effect.step, attempt=effect.attempt)
            tool, self._edited_tool = self._edited_tool, None
            return self._judge.changed(self._call, place, tool)
        if self._live:
            return (yield effect)
        if isinstance(effect, Invoke):
            return (yield from self._invoke(effect))
        if isinstance(effect, Wait):
            return None
        if isinstance(effect, RunTool):
            return (yield from self._tool(effect))
        if isinstance(effect, RunTools):
            return (yield from self._tools(effect))
        return (yield effect)

    # -- models

    def _invoke(self, effect: Invoke) -> Steps[object]:
        try:
            return (yield from self._answer(effect, _at(self._place, effect)))
        except GoesLive:
            self._live = True
        return (yield effect)

    def _answer(self, effect: Invoke, place: ReplayPlace) -> Steps[object]:
        attempt = self._judge.ask(self._call, place, effect.request)
        end = attempt.end
        if end is None:
            self._judge.broke(place, "The process ended while the model was asked.")
        self._last = attempt
        if isinstance(end, LLMFailed):
            if effect.on_text is not None and end.partial is not None and end.partial.text:
                effect.on_text(end.partial.text)
            if end.cancelled or is_stop(end.error):
                yield from self._stopped(end.error, attempt.after, place)
            wait = None if attempt.retry is None else attempt.retry.wait
            raise failure_of(end, retried=attempt.retried, wait=wait)
        if effect.on_text is not None and end.content.text:
            effect.on_text(end.content.text)
        return answer_of(end)

    def _stopped(self, error: Error, after: int, place: ReplayPlace) -> Steps[None]:
        broke = partial(self._judge.broke, place, LEFT)
        if error.type == CANCELLED_TASK:
            yield _UntilCancelled(after, broke)
        broke()

    # -- tools

    def _recorded(self, effect: RunTool) -> tuple[RecordedTool, ReplayPlace]:
        last = self._last
        place = _at(self._place, effect, last)
        if last is None or effect.index >= len(last.tools):
            self._judge.unrecorded_tool(self._call, place)
        recorded = last.tools[effect.index]
        if recorded.end is None:
            self._judge.broke(place, "The process ended while the tool ran.")
        return recorded, place

    def _tool(self, effect: RunTool) -> Steps[object]:
        try:
            return (yield from self._answer_tool(effect))
        except GoesLive:
            self._live = True
        return (yield effect)

    def _answer_tool(self, effect: RunTool) -> Steps[object]:
        recorded, place = self._recorded(effect)
        if recorded.is_edited:
            self._edited_tool = effect.ordinal
        elif self._judge.runs(effect, recorded):
            try:
                value = yield effect
            except Exception as error:
                self._compare(None, error, recorded, place)
            else:
                self._compare(value, None, recorded, place)
            return _result(recorded)
        end = recorded.end
        if isinstance(end, ToolFailed) and is_stop(end.error):
            after = 0 if self._last is None else self._last.after + end.elapsed
            yield from self._stopped(end.error, after, place)
        self._judge.spend(recorded, self._budget)
        return _result(recorded)

    def _compare(
        self,
        value: object,
        error: BaseException | None,
        recorded: RecordedTool,
        place: ReplayPlace,
    ) -> None:
        text = result_forms(value)[0] if error is None else failure_text(error, describe(error))
        self._judge.compare_tool(text, recorded, place)

    def _tools(self, effect: RunTools) -> Steps[object]:
        running: list[int] = []
        live: set[int] = set()
        left: list[int] = []
        stopped: tuple[Error, int, ReplayPlace] | None = None
        for index, run in enumerate(effect.runs):
            try:
                recorded, place = self._recorded(run)
            except GoesLive:
                live.add(index)
                running.append(index)
                continue
            if recorded.is_edited:
                self._edited_tool = run.ordinal
            elif self._judge.runs(run, recorded):
                running.append(index)
                continue
            end = recorded.end
            if isinstance(end, ToolFailed) and is_stop(end.error):
                after = 0 if self._last is None else self._last.after + end.elapsed
                stopped = (end.error, after, place)
                left.append(index)
                continue
            self._judge.spend(recorded, self._budget)
            _tell(effect, index, recorded)
        yield from self._run(effect, running, live)
        if stopped is not None:
            try:
                yield from self._stopped(*stopped)
            except GoesLive:
                yield from self._run(effect, left, set(left))
        return None

    def _run(self, effect: RunTools, indexes: Sequence[int], live: Set[int]) -> Steps[None]:
        """Run some of several tools; those that are not live are compared with the recording."""
        if indexes:
            self._live = self._live or bool(live)
            yield RunTools(
                tuple(effect.runs[index] for index in indexes),
                effect.at_once,
                partial(self._ran, effect, indexes, live),
                effect.recorder,
            )

    def _ran(
        self,
        effect: RunTools,
        indexes: Sequence[int],
        live: Set[int],
        ran: int,
        value: object,
        error: BaseException | None,
        elapsed: int,
    ) -> None:
        """Compare the result of one of several tools, once it has ended; see `ToolEnded`."""
        index = indexes[ran]
        if index in live or (error is not None and not isinstance(error, Exception)):
            effect.ended(index, value, error, elapsed)
            return
        recorded, place = self._recorded(effect.runs[index])
        self._compare(value, error, recorded, place)
        _tell(effect, index, recorded)


def _result(recorded: RecordedTool) -> RecordedResult:
    """Give the recorded result of a tool that has ended, or raise its recorded error."""
    end = recorded.end
    if isinstance(end, ToolReturned):
        return RecordedResult(end.content.text, end.value)
    assert end is not None
    raise tool_failure(end.error)


def _tell(effect: RunTools, index: int, recorded: RecordedTool) -> None:
    """Report the recorded end of one of several tools to the agent."""
    try:
        value = _result(recorded)
    except Exception as error:
        effect.ended(index, None, error, 0)
    else:
        effect.ended(index, value, None, 0)


def _at(
    place: ReplayPlace, effect: Invoke | RunTool, attempt: RecordedAttempt | None = None
) -> ReplayPlace:
    if isinstance(effect, Invoke):
        return msgspec.structs.replace(place, step=effect.step, attempt=effect.attempt)
    step = None if attempt is None else attempt.requested.step
    number = None if attempt is None else attempt.requested.attempt
    return msgspec.structs.replace(place, step=step, attempt=number, tool=effect.tool.name)
