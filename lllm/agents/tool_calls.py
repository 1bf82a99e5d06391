"""The tools that run within one `respond()`: each run is an interrupt of the model.

Whatever goes wrong with a tool is an answer too: the model is told, the log gets the traceback, and
the loop goes on. Only what wants to stop the program stops it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from lllm.agents.dialog import Dialog
from lllm.agents.effects import Commit, RunTool, RunTools, Steps
from lllm.events import codec
from lllm.events.concurrency.robust_locks import ThreadLock
from lllm.events.errors import ParseError
from lllm.events.model import Content, ToolCall, ToolCalled, ToolFailed, ToolReturned
from lllm.events.recorder import Recorder
from lllm.events.redaction.known_secrets import without_secrets
from lllm.events.values.json_values import to_plain
from lllm.sessions.error_details import describe
from lllm.tools.tool import Tool, result_forms

NO_MORE = "No more tools can be used. Answer now, with what you know."

_SAME = "This call was made before, with this result, and is not made again: {}"

_logger = logging.getLogger("lllm.agent")


@dataclass(eq=False)
class _Run:
    """One of several tools that run at once. told: what the model is told and the ordinal of the
    message, empty while it has not ended."""

    tool: Tool[..., object]
    arguments: dict[str, object]
    key: tuple[str, bytes]
    number: int
    told: Sequence[tuple[int, Content]] = ()


class _Called(NamedTuple):
    """A tool that is in the log and has no end there. began: of `time.perf_counter_ns`. ordinal: of
    its message."""

    call: ToolCall
    ordinal: int
    began: int


class Interrupts:
    """The tools of one agent call: which there are, what has run, and whether more may.

    limit: how many of the model's turns may be spent on them. at_once: how many plain ones may run
    at the same time. on_loop: whether this is an event loop, where async ones all do.
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
        self._at_once = at_once
        self._on_loop = on_loop
        self._ending = ThreadLock()
        self._open: dict[int, _Called] = {}  # by their numbers; all that have no end yet
        self._recorder = recorder
        self._dialog = dialog
        self._tools = {tool.name: tool for tool in tools}
        self._left = limit
        self._ran: dict[tuple[str, bytes], tuple[int, str]] = {}  # name, arguments: tool, result

    @property
    def forbidden(self) -> bool:
        """Whether no more turns may be spent on tools."""
        return self._left <= 0

    def run(self, request: int, calls: Sequence[ToolCall]) -> Steps[None]:
        """Run the tools that the answer to a request asks for: together where they may, else one
        after the other."""
        self._left -= 1
        if self._together(calls):
            yield from self._run_together(request, calls)
            return
        for call in calls:
            yield from self._run(request, call)

    def refuse(self, request: int, calls: Sequence[ToolCall]) -> None:
        """Tell the model, for each call, that no more tools can be used."""
        for call in calls:
            self._fail(self._called(request, call, _as_sent(call)), ParseError(NO_MORE), 0)

    def settle(self, error: BaseException) -> list[tuple[int, Content]]:
        """Stage the end of each tool that has none: what runs it was left, or its session ends.
        What comes of it later is not recorded.

        Args:
            error: What the tool failed with.

        Returns:
            What the model is to be told of each, with the ordinal of the message.
        """
        told: list[tuple[int, Content]] = []
        for number, called in list(self._open.items()):
            elapsed = time.perf_counter_ns() - called.began
            told += self._failed(number, error, elapsed)
        return told

    def _run(self, request: int, call: ToolCall) -> Steps[None]:
        try:
            tool = self._find(call.name)
            arguments = tool.parse_arguments(call.arguments)
        except ParseError as error:
            self._fail(self._called(request, call, _as_sent(call)), error, 0)
            return
        plain = to_plain(arguments)
        number = self._called(request, call, plain)
        key = (call.name, codec.encode(plain))
        if key in self._ran and not tool.repeat:
            first, result = self._ran[key]
            self._returned(number, _SAME.format(result), None, 0, repeats=first)
            return
        began: int | None = None
        try:
            yield Commit(self._recorder)
            began = time.perf_counter_ns()
            value = yield RunTool(tool, arguments, number)
        except BaseException as error:
            elapsed = 0 if began is None else time.perf_counter_ns() - began
            self._fail(number, error, elapsed)
            if began is None or not isinstance(error, Exception):
                raise
        else:
            elapsed = time.perf_counter_ns() - began
            text, plain = result_forms(value)
            self._ran[key] = (number, text)
            self._returned(number, text, plain, elapsed)

    def _together(self, calls: Sequence[ToolCall]) -> bool:
        tools = [self._tools[call.name] for call in calls if call.name in self._tools]
        if len(tools) < 2:
            return False
        return self._at_once > 1 or (self._on_loop and any(tool.is_async for tool in tools))

    def _run_together(self, request: int, calls: Sequence[ToolCall]) -> Steps[None]:
        answers: list[_Run | list[tuple[int, Content]]] = []
        waiting: list[_Run] = []
        for call in calls:
            try:
                tool = self._find(call.name)
                arguments = tool.parse_arguments(call.arguments)
            except ParseError as error:
                number = self._called(request, call, _as_sent(call))
                answers.append(self._failed(number, error, 0))
                continue
            plain = to_plain(arguments)
            number = self._called(request, call, plain)
            key = (call.name, codec.encode(plain))
            waiting.append(_Run(tool, arguments, key, number))
            answers.append(waiting[-1])
        runs = list(waiting)
        try:
            while waiting:
                waiting = yield from self._batch(waiting)
        except BaseException as error:
            for run in runs:
                self._one_ended([run], 0, None, error, 0)
            raise
        finally:
            # In the order of the calls, whichever ended first.
            for answer in answers:
                for ordinal, content in answer.told if isinstance(answer, _Run) else answer:
                    self._dialog.add(ordinal, content)

    def _batch(self, waiting: Sequence[_Run]) -> Steps[list[_Run]]:
        """Run those that nothing stands for; returns those that wait for another one's result."""
        batch: list[_Run] = []
        later: list[_Run] = []
        keys = set[tuple[str, bytes]]()
        for run in waiting:
            if run.key in self._ran and not run.tool.repeat:
                self._repeated(run)
            elif run.key in keys and not run.tool.repeat:
                later.append(run)
            else:
                batch.append(run)
                keys.add(run.key)
        if batch:
            yield Commit(self._recorder)
            yield RunTools(
                tuple(RunTool(run.tool, run.arguments, run.number) for run in batch),
                self._at_once,
                partial(self._one_ended, batch),
                self._recorder,
            )
        return later

    def _repeated(self, run: _Run) -> None:
        first, result = self._ran[run.key]
        run.told = self._stage_returned(run.number, _SAME.format(result), None, 0, repeats=first)

    def _one_ended(
        self,
        batch: Sequence[_Run],
        index: int,
        value: object,
        error: BaseException | None,
        elapsed: int,
    ) -> None:
        run = batch[index]
        text, plain = ("", None) if error is not None else result_forms(value)
        with self._ending.held():
            if run.number not in self._open:
                return  # a thread that was left has come to its end
            if error is not None:
                run.told = self._failed(run.number, error, elapsed)
            else:
                self._ran[run.key] = (run.number, text)
                run.told = self._stage_returned(run.number, text, plain, elapsed)

    def _find(self, name: str) -> Tool[..., object]:
        if name not in self._tools:
            known = ", ".join(self._tools) or "none"
            raise ParseError(f"There is no tool {name!r}; there are: {known}.")
        return self._tools[name]

    def _called(self, request: int, call: ToolCall, arguments: object) -> int:
        number = self._recorder.ordinal("tool")
        ordinal = self._recorder.ordinal("message")
        # First: an interrupt that comes between would leave what is in the log without an end.
        self._open[number] = _Called(call, ordinal, time.perf_counter_ns())
        self._recorder.stage(
            ToolCalled(
                tool=number, request=request, call_id=call.id, name=call.name, arguments=arguments
            )
        )
        return number

    def _returned(
        self, number: int, text: str, plain: object, elapsed: int, *, repeats: int | None = None
    ) -> None:
        for told in self._stage_returned(number, text, plain, elapsed, repeats=repeats):
            self._dialog.add(*told)

    def _stage_returned(
        self, number: int, text: str, plain: object, elapsed: int, *, repeats: int | None = None
    ) -> list[tuple[int, Content]]:
        with self._ending.held():
            called = self._open.get(number)
            if called is None:
                return []  # it was settled
            content = _content(called.call, text)
            self._recorder.stage(
                ToolReturned(
                    tool=number,
                    message=called.ordinal,
                    content=content,
                    value=plain,
                    repeats=repeats,
                    elapsed=elapsed,
                )
            )
            self._open.pop(number, None)
        _logger.debug("tool %s returned in %.1f ms", called.call.name, elapsed / 1_000_000)
        return [(called.ordinal, content)]

    def _fail(self, number: int, error: BaseException, elapsed: int) -> None:
        for told in self._failed(number, error, elapsed):
            self._dialog.add(*told)

    def _failed(self, number: int, error: BaseException, elapsed: int) -> list[tuple[int, Content]]:
        told = describe(error)
        ours = isinstance(error, ParseError)
        with self._ending.held():
            called = self._open.get(number)
            if called is None:
                return []  # it was settled
            content = _content(
                called.call,
                told.message if ours else f"The tool failed: {told.type}: {told.message}",
            )
            self._recorder.stage(
                ToolFailed(
                    tool=number, message=called.ordinal, content=content, error=told,
                    elapsed=elapsed,
                )
            )  # fmt: skip
            self._open.pop(number, None)
        message = without_secrets(told.message)
        _logger.warning("tool %s failed: %s: %s", called.call.name, told.type, message)
        return [(called.ordinal, content)]


def _content(call: ToolCall, text: str) -> Content:
    return Content("tool", Content.of("tool", text).parts, call_id=call.id)


def _as_sent(call: ToolCall) -> object:
    """The arguments of a call that no tool has parsed; None where they are no JSON."""
    return to_plain(codec.values(call.arguments.encode("utf-8", "surrogatepass")))
