"""The tools that run within one `respond()`: each run is an interrupt of the model.

Whatever goes wrong with a tool is an answer too: the model is told, the log gets the traceback, and
the loop goes on. Only what wants to stop the program stops it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence

from lllm.dialog import Dialog
from lllm.effects import Commit, RunTool, Steps
from lllm.events import codec
from lllm.events.errors import ParseError
from lllm.events.model import Content, ToolCall, ToolCalled, ToolFailed, ToolReturned
from lllm.events.plain import to_plain
from lllm.events.recorder import Recorder
from lllm.events.secret_patterns import without_keys
from lllm.session import describe
from lllm.tools import Tool, result_text

NO_MORE = "No more tools can be used. Answer now, with what you know."

_logger = logging.getLogger("lllm.agent")


class Interrupts:
    """The tools of one agent call: which there are, what has run, and whether more may.

    limit: how many of the model's turns may be spent on them.
    """

    def __init__(
        self, recorder: Recorder, dialog: Dialog, tools: Iterable[Tool[..., object]], limit: int
    ) -> None:
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
        """Run the tools that the answer to a request asks for, one after the other."""
        self._left -= 1
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
            text = f"This call was made before, with this result, and is not made again: {result}"
            self._returned(number, call, text, None, 0, repeats=first)
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
            text = result_text(value)
            self._ran[key] = (number, text)
            self._returned(number, call, text, value, elapsed)

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
        value: object,
        elapsed: int,
        *,
        repeats: int | None = None,
    ) -> None:
        ordinal, content = self._tell(call, text)
        self._recorder.stage(
            ToolReturned(
                tool=number,
                message=ordinal,
                content=content,
                value=None if isinstance(value, str) else to_plain(value),
                repeats=repeats,
                elapsed=elapsed,
            )
        )
        _logger.debug("tool %s returned in %.1f ms", call.name, elapsed / 1_000_000)

    def _fail(self, number: int, call: ToolCall, error: BaseException, elapsed: int) -> None:
        told = describe(error)
        ours = isinstance(error, ParseError)
        ordinal, content = self._tell(
            call, told.message if ours else f"The tool failed: {told.type}: {told.message}"
        )
        self._recorder.stage(
            ToolFailed(tool=number, message=ordinal, content=content, error=told, elapsed=elapsed)
        )
        message = without_keys(told.message)
        _logger.warning("tool %s failed: %s: %s", call.name, told.type, message)

    def _tell(self, call: ToolCall, text: str) -> tuple[int, Content]:
        ordinal = self._recorder.ordinal("message")
        content = Content("tool", Content.of("tool", text).parts, call_id=call.id)
        self._dialog.add(ordinal, content)
        return ordinal, content


def _as_sent(call: ToolCall) -> object:
    """The arguments of a call that no tool has parsed; None where they are no JSON."""
    return to_plain(codec.values(call.arguments.encode("utf-8", "surrogatepass")))
