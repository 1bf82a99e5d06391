"""Runs the tools that the model asks for within one `respond()`, and records each run.

An error of a tool is an answer, too: the model gets the error's text, the log gets the traceback,
and the loop continues. Only errors that are meant to stop the program stop it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lllm.agents.dialog import Dialog
from lllm.agents.effects import Commit, RunTool, RunTools, Steps
from lllm.agents.repeated_tool_calls import CallKey, EarlierResults, call_key, first_of_each
from lllm.events import codec
from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.errors import ParseError
from lllm.events.model import Content, Error, ToolCall, ToolCalled, ToolFailed, ToolReturned
from lllm.events.recorder import Recorder
from lllm.events.redaction.cut_text import without_secrets
from lllm.events.values.json_values import to_plain
from lllm.sessions.error_details import describe
from lllm.tools.results import result_forms
from lllm.tools.tool import Tool

NO_MORE = "No more tools can be used. Answer now, with what you know."

_logger = logging.getLogger("lllm.agent")


@dataclass(eq=False)
class _Run:
    """One call of a tool, from its event `tool.called` to its end."""

    call: ToolCall
    number: int  # within the session
    message: int  # the number, within the session, of the message with its result
    began: int  # by `time.perf_counter_ns`
    effect: RunTool | None = None  # None if there is no such tool, or its arguments are invalid
    key: CallKey | None = None  # equal for repeated calls; None if a repeated call runs again
    content: Content | None = None  # the message with its result, once it has ended


class ToolCalls:
    """Runs the tools that the model asks for within one agent call.

    Args:
        recorder: The recorder to which events are staged.
        dialog: The dialog to which results are added.
        tools: The tools that the model may call.
        limit: The number of answers that may call tools.
        at_once: The number of sync tools that may run at the same time.
        on_loop: True on an event loop, where all async tools run at the same time.
    """

    def __init__(
        self,
        recorder: Recorder,
        dialog: Dialog,
        tools: Iterable[Tool[..., object]],
        limit: int,
        *,
        at_once: int = 1,
        on_loop: bool = False,
    ) -> None:
        self._recorder = recorder
        self._dialog = dialog
        self._tools = {tool.name: tool for tool in tools}
        self._left = limit
        self._at_once = at_once
        self._on_loop = on_loop
        self._ending = ThreadLock()
        self._open: dict[int, _Run] = {}  # the calls without an end, by number
        self._results = EarlierResults()

    @property
    def forbidden(self) -> bool:
        """True if further answers must not call tools."""
        return self._left <= 0

    def run(self, request: int, calls: Sequence[ToolCall]) -> Steps[None]:
        """Run the tools that an answer calls, in parallel if that is allowed.

        Args:
            request: The number of the answered request within the session.
            calls: The tool calls in the answer.
        """
        self._left -= 1
        known = [self._tools[call.name] for call in calls if call.name in self._tools]
        together = self._at_once > 1 or (self._on_loop and any(tool.is_async for tool in known))
        if together and len(known) > 1:
            yield from self._run_together(
                [self._begin(request, call, index) for index, call in enumerate(calls)]
            )
            return
        for index, call in enumerate(calls):
            yield from self._run_one(self._begin(request, call, index))

    def refuse(self, request: int, calls: Sequence[ToolCall]) -> None:
        """Tell the model, for each tool call, that no more tools can be used.

        Args:
            request: The number of the answered request within the session.
            calls: The tool calls in the answer.
        """
        for index, call in enumerate(calls):
            self._tell(self._begin(request, call, index, refusal=ParseError(NO_MORE)))

    def settle(self, error: BaseException, *, tell: bool = False) -> None:
        """Record an end for each unfinished tool, because its call or session ends.

        Later results of these tools are not recorded.

        Args:
            error: The error to record for each tool.
            tell: True if the dialog continues, so that the model gets the error, too.
        """
        for run in list(self._open.values()):
            self._fail(run, error, time.perf_counter_ns() - run.began)
            if tell:
                self._tell(run)

    def _begin(
        self, request: int, call: ToolCall, index: int, refusal: ParseError | None = None
    ) -> _Run:
        """Stage a tool call; it ends at once if it is refused or can't run."""
        number = self._recorder.ordinal("tool")
        run = _Run(call, number, self._recorder.ordinal("message"), time.perf_counter_ns())
        plain: object = None
        if refusal is None:
            try:
                tool = self._find(call.name)
                arguments = tool.parse_arguments(call.arguments)
            except ParseError as error:
                refusal = error
            else:
                plain = to_plain(arguments)
                run.effect = RunTool(tool, arguments, number, index)
                run.key = None if tool.repeat else call_key(call.name, plain)
        # the recorded arguments are those that were sent; None if they are not JSON
        if refusal is not None:
            plain = to_plain(codec.values(call.arguments.encode("utf-8", "surrogatepass")))
        # Before anything else, because an interrupt in between would leave a recorded call without
        # an end.
        self._open[number] = run
        self._recorder.stage(
            ToolCalled(
                tool=number, request=request, call_id=call.id, name=call.name, arguments=plain
            )
        )
        if refusal is not None:
            self._fail(run, refusal, 0)
        return run

    def _run_one(self, run: _Run) -> Steps[None]:
        if run.effect is None or self._repeats(run):
            self._tell(run)
            return
        began: int | None = None
        try:
            yield Commit(self._recorder)
            began = time.perf_counter_ns()
            value = yield run.effect
        except BaseException as error:
            self._end(run, None, error, 0 if began is None else time.perf_counter_ns() - began)
            if began is None or not isinstance(error, Exception):
                raise
        else:
            self._end(run, value, None, time.perf_counter_ns() - began)
        finally:
            self._tell(run)

    def _run_together(self, runs: Sequence[_Run]) -> Steps[None]:
        waiting = [run for run in runs if run.effect is not None]
        try:
            while waiting:
                waiting = yield from self._batch(waiting)
        except BaseException as error:
            for run in runs:
                self._end(run, None, error, 0)
            raise
        finally:
            # In the order of the calls, not of their ends.
            for run in runs:
                self._tell(run)

    def _batch(self, waiting: Sequence[_Run]) -> Steps[list[_Run]]:
        """Run the tools without a known result; returns those that wait for another's result."""
        unknown = [run for run in waiting if not self._repeats(run)]
        batch, later = first_of_each(unknown, lambda run: run.key)

        def ended(index: int, value: object, error: BaseException | None, elapsed: int) -> None:
            self._end(batch[index], value, error, elapsed)

        if batch:
            yield Commit(self._recorder)
            effects = tuple(run.effect for run in batch if run.effect is not None)
            yield RunTools(effects, self._at_once, ended, self._recorder)
        return later

    def _find(self, name: str) -> Tool[..., object]:
        if name not in self._tools:
            known = ", ".join(self._tools) or "none"
            raise ParseError(f"There is no tool {name!r}; there are: {known}.")
        return self._tools[name]

    def _repeats(self, run: _Run) -> bool:
        """True if the result of an earlier call is used for this one, which then ends."""
        earlier = self._results.find(run.key)
        if earlier is None:
            return False
        self._return(run, earlier.message, None, 0, repeats=earlier.tool)
        return True

    def _end(self, run: _Run, value: object, error: BaseException | None, elapsed: int) -> None:
        """Stage the end of a tool, unless it is staged already."""
        if error is not None:
            self._fail(run, error, elapsed)
            return
        text, plain = result_forms(value)
        if self._return(run, text, plain, elapsed):
            self._results.keep(run.key, run.number, text)

    def _return(
        self, run: _Run, text: str, plain: object, elapsed: int, *, repeats: int | None = None
    ) -> bool:
        event = ToolReturned(
            tool=run.number,
            message=run.message,
            content=_content(run.call, text),
            value=plain,
            repeats=repeats,
            elapsed=elapsed,
        )
        ends = self._stage_end(run, event)
        if ends:
            _logger.debug("tool %s returned in %.1f ms", run.call.name, elapsed / 1_000_000)
        return ends

    def _fail(self, run: _Run, error: BaseException, elapsed: int) -> None:
        details = describe(error)
        event = ToolFailed(
            tool=run.number,
            message=run.message,
            content=_content(run.call, failure_text(error, details)),
            error=details,
            elapsed=elapsed,
        )
        if self._stage_end(run, event):
            message = without_secrets(details.message)
            _logger.warning("tool %s failed: %s: %s", run.call.name, details.type, message)

    def _stage_end(self, run: _Run, event: ToolReturned | ToolFailed) -> bool:
        """Stage the end of a tool; False if it already has one."""
        with self._ending.held():
            if run.number not in self._open:
                return False
            self._recorder.stage(event)
            run.content = event.content
            self._open.pop(run.number, None)
        return True

    def _tell(self, run: _Run) -> None:
        if run.content is not None:
            self._dialog.add(run.message, run.content)


def failure_text(error: BaseException, details: Error) -> str:
    """Make the message that tells the model that a tool failed.

    Args:
        error: The error of the tool.
        details: The error in its recorded form.

    Returns:
        The text of the message.
    """
    if isinstance(error, ParseError):
        return details.message
    return f"The tool failed: {details.type}: {details.message}"


def _content(call: ToolCall, text: str) -> Content:
    return Content("tool", Content.of("tool", text).parts, call_id=call.id)
