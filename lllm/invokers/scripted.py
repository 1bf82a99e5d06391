"""A model that answers from a script: for tests, demos, and runs without a network.

    ScriptedInvoker(["Hello.", tool_call("lookup", {"key": "a"}), rate_limited(), "Done."])

The same script and the same requests give the same answers, including ids and token counts. Tokens
are estimated at four characters each, OpenAI's rule of thumb for English, unless the reply has its
own usage. The cost of the answers depends on the model's name.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec

from lllm.events.errors import ConfigError, InvokeError
from lllm.events.model import Content, Part, ToolCall, Usage
from lllm.invokers import Answer, Finish, OnText, Request

__all__ = [
    "ScriptedInvoker",
    "ScriptedReply",
    "bad_request",
    "cut_off",
    "rate_limited",
    "reply",
    "server_error",
    "timed_out",
    "tool_call",
    "tool_calls",
]

CHARACTERS_A_TOKEN = 4


class ScriptedReply(msgspec.Struct, frozen=True):
    """One scripted answer, made by `reply`, `tool_call` or `tool_calls`.

    Attributes:
        text: The text of the answer.
        calls: The tool calls in the answer.
        usage: The usage; "estimate" to count characters, None for a provider that sends no usage.
        model: The model that answers; None for the requested one.
        finish: The reason why the model stops; None to derive it from the answer.
    """

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    usage: Usage | Literal["estimate"] | None = "estimate"
    model: str | None = None
    finish: Finish | None = None


Reply: TypeAlias = str | ToolCall | Sequence[ToolCall] | ScriptedReply | Answer | BaseException
Script: TypeAlias = Sequence[Reply] | Mapping[str, Sequence[Reply]] | Callable[[Request], Reply]


def reply(
    text: str = "",
    *,
    calls: Sequence[ToolCall] = (),
    usage: Usage | Literal["estimate"] | None = "estimate",
    model: str | None = None,
    finish: Finish | None = None,
) -> ScriptedReply:
    """Script an answer with a given usage, model or finish reason; see ScriptedReply.

    Args:
        text: The text of the answer.
        calls: The tool calls in the answer.
        usage: The usage; "estimate" to count characters, None for a provider that sends no usage.
        model: The model that answers; None for the requested one.
        finish: The reason why the model stops; None to derive it from the answer.

    Returns:
        The reply for a script.
    """
    return ScriptedReply(text, tuple(calls), usage, model, finish)


def tool_call(
    name: str, arguments: Mapping[str, object] | str = "{}", *, call_id: str = ""
) -> ToolCall:
    """Script a tool call.

    Args:
        name: The name of the tool.
        arguments: The arguments; a text is sent unchanged, even if it is not valid JSON.
        call_id: The id of the call; "" for `call_n` with the number of the call in the
            conversation.

    Returns:
        The tool call, to be a reply or a part of one.
    """
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ToolCall(call_id, name, text)


def tool_calls(*calls: ToolCall, text: str = "") -> ScriptedReply:
    """Script several tool calls in one answer, with text beside them.

    Args:
        *calls: The calls, as `tool_call` makes them.
        text: The text of the answer.

    Returns:
        The reply for a script.
    """
    return ScriptedReply(text, calls)


def rate_limited(retry_after: float | None = None) -> InvokeError:
    """Script a 429, too many requests.

    Args:
        retry_after: Seconds that the provider asks to wait; None if it names no wait.

    Returns:
        The error, to be a reply.
    """
    return InvokeError(
        "Scripted: the provider answered 429, too many requests.",
        retryable=True,
        status=429,
        code="rate_limit_exceeded",
        retry_after=None if retry_after is None else round(retry_after * 1_000_000_000),
    )


def server_error(status: int = 500) -> InvokeError:
    """Script a 5xx status, which may be retried.

    Args:
        status: The HTTP status.

    Returns:
        The error, to be a reply.
    """
    return InvokeError(
        f"Scripted: the provider answered {status}, an error of its own.",
        retryable=True,
        status=status,
        code="server_error",
    )


def timed_out() -> InvokeError:
    """Script a timeout.

    Returns:
        The error, to be a reply.
    """
    return InvokeError("Scripted: the provider did not answer in time.", retryable=True)


def bad_request(message: str = "the request is not valid") -> InvokeError:
    """Script a 400 status, which is not retried.

    Args:
        message: The provider's message.

    Returns:
        The error, to be a reply.
    """
    return InvokeError(
        f"Scripted: the provider answered 400, {message}.",
        retryable=False,
        status=400,
        code="invalid_request_error",
    )


def cut_off(text: str, *, usage: Usage | None = None) -> InvokeError:
    """Script a stream that is interrupted.

    Args:
        text: The text that had arrived.
        usage: The usage that the provider had sent by then; None for none.

    Returns:
        The error, to be a reply.
    """
    return InvokeError(
        "Scripted: the stream was cut off.",
        retryable=True,
        partial=Content.of("assistant", text),
        usage=usage,
    )


class ScriptedInvoker:
    """Answers from a script, inside this process. Threads may share it.

    Args:
        script: A list of replies, returned in order; a dict of such lists by agent name; or a
            function from the Request to a reply. A reply is a text, one tool call or several, an
            exception to raise, or a complete Answer.
        provider: The name of the provider in events.
        delay: Seconds that each answer takes.

    Raises:
        ConfigError: The script has another type.
    """

    api = "scripted"
    host: str | None = None
    port: int | None = None

    def __init__(self, script: Script, *, provider: str = "scripted", delay: float = 0.0) -> None:
        self.provider = provider
        self._delay = delay
        self._choose = script if callable(script) else _Lists(script)

    def __repr__(self) -> str:
        return f"ScriptedInvoker(provider={self.provider!r})"

    def invoke(self, request: Request) -> Answer:
        """Return the next reply of the script as an answer.

        Args:
            request: The request, which a function script gets.

        Returns:
            The next answer.

        Raises:
            InvokeError: The script has no replies left. A scripted exception is raised as it is.
        """
        if self._delay:
            time.sleep(self._delay)
        return _answer(self._choose(request), request)

    async def ainvoke(self, request: Request) -> Answer:
        """Return the next reply on an event loop, as `invoke` does."""
        if self._delay:
            await asyncio.sleep(self._delay)
        return _answer(self._choose(request), request)

    def stream(self, request: Request, on_text: OnText) -> Answer:
        """Return the next reply, passing its text to on_text word by word."""
        began = time.perf_counter_ns()
        try:
            return _as_stream(self.invoke(request), on_text, began)
        except InvokeError as error:
            _hand_on(error.partial, on_text)
            raise

    async def astream(self, request: Request, on_text: OnText) -> Answer:
        """Stream the next reply on an event loop, as `stream` does."""
        began = time.perf_counter_ns()
        try:
            return _as_stream(await self.ainvoke(request), on_text, began)
        except InvokeError as error:
            _hand_on(error.partial, on_text)
            raise


def _as_stream(answer: Answer, on_text: OnText, began: int) -> Answer:
    """Pass the text of an answer to on_text, and note the time of its first piece."""
    first = time.perf_counter_ns() - began
    _hand_on(answer.content, on_text)
    return msgspec.structs.replace(answer, first_token=first) if answer.content.text else answer


def _hand_on(content: Content | None, on_text: OnText) -> None:
    """Pass a text to on_text word by word."""
    for piece in re.findall(r"\s*\S+\s*$|\s*\S+|\s+", content.text if content else ""):
        on_text(piece)


class _Lists:
    """Returns the replies of a list, or of each agent's list, in order."""

    def __init__(self, script: Sequence[Reply] | Mapping[str, Sequence[Reply]]) -> None:
        self._by_agent = isinstance(script, Mapping)
        lists = script if isinstance(script, Mapping) else {"": script}
        self._replies = {agent: _checked(agent, replies) for agent, replies in lists.items()}
        self._given = dict.fromkeys(self._replies, 0)
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._lock = threading.RLock()

    def __call__(self, request: Request) -> Reply:
        agent = request.agent if self._by_agent else ""
        if agent not in self._replies:
            known = ", ".join(repr(name) for name in self._replies) or "none"
            raise _used_up(f"The script has no replies for agent {agent!r}; it has: {known}.")
        replies = self._replies[agent]
        with self._lock:
            number = self._given[agent]
            if number < len(replies):
                self._given[agent] = number + 1
                return replies[number]
        whose = f" for agent {agent!r}" if self._by_agent else ""
        raise _used_up(
            f"The script{whose} is used up, with {len(replies)} replies given. "
            f"Asked for one more: {_request_summary(request)}"
        )


def _checked(agent: str, replies: object) -> tuple[Reply, ...]:
    whose = f" for agent {agent!r}" if agent else ""
    if isinstance(replies, str) or not isinstance(replies, Sequence):
        raise ConfigError(
            f"A script{whose} is a list of replies, a dict of lists, or a function; "
            f"this is {replies!r}."
        )
    for place, item in enumerate(replies):
        if not _is_reply(item):
            raise ConfigError(
                f"Reply {place}{whose} of the script is {item!r}. A reply is a text, a tool call "
                "or a list of them, an exception, reply(...) or an Answer."
            )
    return tuple(replies)


def _is_reply(item: object) -> bool:
    if isinstance(item, (list, tuple)):
        return bool(item) and all(isinstance(call, ToolCall) for call in item)
    return isinstance(item, (str, ToolCall, ScriptedReply, Answer, BaseException))


def _used_up(message: str) -> InvokeError:
    return InvokeError(message, retryable=False, code="script_used_up", unserved=True)


def _request_summary(request: Request) -> str:
    """Describe a request on one line."""
    last = request.messages[-1].text if request.messages else ""
    shown = last if len(last) <= 80 else last[:79] + "…"
    return f"agent {request.agent!r}, model {request.model!r}, last message {shown!r}."


def _answer(given: Reply, request: Request) -> Answer:
    if isinstance(given, BaseException):
        # A script may contain one exception several times; each raise gets a new traceback.
        raise given.with_traceback(None)
    if isinstance(given, Answer):
        return given
    if isinstance(given, str):
        given = ScriptedReply(given)
    elif isinstance(given, ToolCall):
        given = ScriptedReply(calls=(given,))
    elif not isinstance(given, ScriptedReply):
        if not _is_reply(given):
            raise ConfigError(f"The script answered with {given!r}, which is not a reply.")
        given = ScriptedReply(calls=tuple(given))
    calls = _with_ids(given.calls, request)
    parts = (Part("text", given.text),) if given.text else ()
    content = Content("assistant", parts, calls)
    finish = given.finish or ("tool_calls" if calls else "stop")
    return Answer(
        content=content,
        finish=finish,
        finish_raw=finish,
        model=given.model or request.model,
        usage=_estimate(request, content) if given.usage == "estimate" else given.usage,
    )


def _with_ids(calls: tuple[ToolCall, ...], request: Request) -> tuple[ToolCall, ...]:
    first = 1 + sum(len(message.tool_calls) for message in request.messages)
    return tuple(
        call if call.id else ToolCall(f"call_{number}", call.name, call.arguments)
        for number, call in enumerate(calls, first)
    )


def _estimate(request: Request, answer: Content) -> Usage:
    asked = sum(_characters(message) for message in request.messages)
    for tool in request.tools:
        asked += len(tool.name) + len(tool.description) + len(json.dumps(tool.schema, default=str))
    return Usage(input=_tokens(asked), output=_tokens(_characters(answer)))


def _characters(content: Content) -> int:
    parts = sum(len(part.text or "") for part in content.parts)
    return parts + sum(len(call.name) + len(call.arguments) for call in content.tool_calls)


def _tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_A_TOKEN)
