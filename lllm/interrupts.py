"""The tools that run within one `respond()`: each run is an interrupt of the model.

Whatever goes wrong with a tool is an answer too: the model is told, the log gets the traceback, and
the loop goes on. Only what wants to stop the program stops it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from lllm.dialog import Dialog
from lllm.effects import Commit, RunTool, RunTools, Steps
from lllm.events import codec
from lllm.events.errors import ParseError
from lllm.events.known_secrets import without_secrets
from lllm.events.model import Content, ToolCall, ToolCalled, ToolFailed, ToolReturned
from lllm.events.plain import to_plain
from lllm.events.recorder import Recorder
from lllm.session import describe
from lllm.tools import Tool, result_forms

NO_MORE = "No more tools can be used. Answer now, with what you know."

_SAME = "This call was made before, with this result, and is not made again: {}"

_logger = logging.getLogger("lllm.agent")


@dataclass(eq=False)
class _Run:
    """One of several tools that run at once. number, ordinal: of the tool and of its message.
    content: what the model is told, None while it has not ended."""

    call: ToolCall
    tool: Tool[..., object]
    arguments: dict[str, object]
    key: tuple[str, bytes]
    number: int
    ordinal: int
    content: Content | None = None


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
        self._ending = threading.Lock()
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
            self._fail(self._called(request, call, _as_sent(call)), call, ParseError(NO_MORE), 0)

    def _run(self, request: int, call: ToolCall) -> Steps[None]:
        try:
            tool = self._find(call.name)
            arguments = tool.parse_arguments(call.arguments)
        except ParseError as error:
            self._fail(self._called(request, call, _as_sent(call)), call, error, 0)
            return
        plain = to_plain(arguments)
        number = self._called(request, call, plain)
        key = (call.name, codec.encode(plain))
        if key in self._ran and not tool.repeat:
            first, result = self._ran[key]
            self._returned(number, call, _SAME.format(result), None, 0, repeats=first)
            return
        began: int | None = None
        try:
            yield Commit(self._recorder)
            began = time.perf_counter_ns()
            value = yield RunTool(tool, arguments, number)
        except BaseException as error:
            elapsed = 0 if began is None else time.perf_counter_ns() - began
            self._fail(number, call, error, elapsed)
            if began is None or not isinstance(error, Exception):
                raise
        else:
            elapsed = time.perf_counter_ns() - began
            text, plain = result_forms(value)
            self._ran[key] = (number, text)
            self._returned(number, call, text, plain, elapsed)

    def _together(self, calls: Sequence[ToolCall]) -> bool:
        tools = [self._tools[call.name] for call in calls if call.name in self._tools]
        if len(tools) < 2:
            return False
        return self._at_once > 1 or (self._on_loop and any(tool.is_async for tool in tools))

    def _run_together(self, request: int, calls: Sequence[ToolCall]) -> Steps[None]:
        answers: list[_Run | tuple[int, Content]] = []
        waiting: list[_Run] = []
        for call in calls:
            try:
                tool = self._find(call.name)
                arguments = tool.parse_arguments(call.arguments)
            except ParseError as error:
                number = self._called(request, call, _as_sent(call))
                answers.append(self._failed(number, call, self._next(), error, 0))
                continue
            plain = to_plain(arguments)
            number, ordinal = self._called(request, call, plain), self._next()
            key = (call.name, codec.encode(plain))
            waiting.append(_Run(call, tool, arguments, key, number, ordinal))
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
                if not isinstance(answer, _Run):
                    self._dialog.add(*answer)
                elif answer.content is not None:
                    self._dialog.add(answer.ordinal, answer.content)

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
        run.content = self._stage_returned(
            run.number, run.call, run.ordinal, _SAME.format(result), None, 0, repeats=first
        )[1]

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
        with self._ending:
            if run.content is not None:
                return  # a thread that was left has come to its end
            if error is not None:
                ended = self._failed(run.number, run.call, run.ordinal, error, elapsed)
            else:
                self._ran[run.key] = (run.number, text)
                ended = self._stage_returned(
                    run.number, run.call, run.ordinal, text, plain, elapsed
                )
            run.content = ended[1]

    def _next(self) -> int:
        return self._recorder.ordinal("message")

    def _find(self, name: str) -> Tool[..., object]:
        if name not in self._tools:
            known = ", ".join(self._tools) or "none"
            raise ParseError(f"There is no tool {name!r}; there are: {known}.")
        return self._tools[name]

    def _called(self, request: int, call: ToolCall, arguments: object) -> int:
        number = self._recorder.ordinal("tool")
        self._recorder.stage(
            ToolCalled(
                tool=number, request=request, call_id=call.id, name=call.name, arguments=arguments
            )
        )
        return number

    def _returned(
        self,
        number: int,
        call: ToolCall,
        text: str,
        plain: object,
        elapsed: int,
        *,
        repeats: int | None = None,
    ) -> None:
        self._dialog.add(
            *self._stage_returned(number, call, self._next(), text, plain, elapsed, repeats=repeats)
        )

    def _stage_returned(
        self,
        number: int,
        call: ToolCall,
        ordinal: int,
        text: str,
        plain: object,
        elapsed: int,
        *,
        repeats: int | None = None,
    ) -> tuple[int, Content]:
        content = _content(call, text)
        self._recorder.stage(
            ToolReturned(
                tool=number,
                message=ordinal,
                content=content,
                value=plain,
                repeats=repeats,
                elapsed=elapsed,
            )
        )
        _logger.debug("tool %s returned in %.1f ms", call.name, elapsed / 1_000_000)
        return ordinal, content

    def _fail(self, number: int, call: ToolCall, error: BaseException, elapsed: int) -> None:
        self._dialog.add(*self._failed(number, call, self._next(), error, elapsed))

    def _failed(
        self, number: int, call: ToolCall, ordinal: int, error: BaseException, elapsed: int
    ) -> tuple[int, Content]:
        told = describe(error)
        ours = isinstance(error, ParseError)
        content = _content(
            call, told.message if ours else f"The tool failed: {told.type}: {told.message}"
        )
        self._recorder.stage(
            ToolFailed(tool=number, message=ordinal, content=content, error=told, elapsed=elapsed)
        )
        message = without_secrets(told.message)
        _logger.warning("tool %s failed: %s: %s", call.name, told.type, message)
        return ordinal, content


def _content(call: ToolCall, text: str) -> Content:
    return Content("tool", Content.of("tool", text).parts, call_id=call.id)


def _as_sent(call: ToolCall) -> object:
    """The arguments of a call that no tool has parsed; None where they are no JSON."""
    return to_plain(codec.values(call.arguments.encode("utf-8", "surrogatepass")))
