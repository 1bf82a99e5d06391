"""Builds the HTTP answer that an SDK got for a recorded attempt.

A failure has the recorded status and message. If an SDK would try again, the answer asks it to wait
one millisecond. (0 would not do: OpenAI's SDK ignores a Retry-After of 0, and waits longer.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

import msgspec

from lllm.events.model import Content, LLMFailed, LLMResponded
from lllm.invokers import Answer
from lllm.replay.outcome import answer_of
from lllm.replay.wire import (
    amazon_frames,
    chat_completions,
    completions_and_embeddings,
    generate_content,
    messages,
    responses,
)
from lllm.replay.wire.amazon_frames import frame_of
from lllm.replay.wire.pieces import JSON

_SECOND = 1_000_000_000
_MID_STREAM = "The provider ended its answer with an error"
_CUT_OFF = "The stream was cut off: "
_NO_JSON = "answered with a body that is no JSON."


class WireRequest(msgspec.Struct, frozen=True):
    """The properties of a request that decide the form of its answer.

    Attributes:
        api: The API whose format the request has, such as "messages" or "responses".
        operation: The operation in the form that `llm.requested` events have, such as "compact".
        stream: True if the request asks for a streamed answer.
        body: The JSON body of the HTTP request.
        host: The host that the recorded request was sent to; None if it is unknown.
        bedrock: True for Amazon Bedrock, which streams in binary frames of its own.
    """

    api: str
    operation: str
    stream: bool
    body: Mapping[str, object]
    host: str | None
    bedrock: bool = False


class TransportFailure(msgspec.Struct, frozen=True):
    """An error that the HTTP library is to raise.

    Attributes:
        kind: The name of the error's class, such as "ConnectError".
        message: The message of the error.
    """

    kind: str
    message: str


class HttpAnswer(msgspec.Struct, frozen=True):
    """An HTTP answer as the SDK's HTTP library is to give it.

    Attributes:
        status: The HTTP status code; 0 if there is no answer and the library only raises `broken`.
        headers: The HTTP headers by their name.
        body: A function that gives the pieces of the body; each call starts from the beginning.
        broken: The error that the HTTP library raises after the body; None if it raises none.
    """

    status: int
    headers: dict[str, str]
    body: Callable[[], Iterator[bytes]]
    broken: TransportFailure | None = None


def of_response(end: LLMResponded, asked: WireRequest, *, created: int) -> HttpAnswer:
    """Build the HTTP answer of an attempt that was answered.

    Args:
        end: The event that ended the attempt.
        asked: The properties of the request that decide the form of the answer.
        created: The time of the answer in seconds UTC since 1970.
    """
    answer = answer_of(end)
    headers = _headers(end.request_id, asked)
    if asked.stream:
        return _stream(asked, headers, lambda: _events(answer, asked, created, finished=True))
    return _whole(200, headers, _body(answer, asked, created))


def of_failure(end: LLMFailed, asked: WireRequest, *, created: int, retried: bool) -> HttpAnswer:
    """Build the HTTP answer of an attempt that failed or broke off.

    Args:
        end: The event that ended the attempt.
        asked: The properties of the request that decide the form of the answer.
        created: The time of the failure in seconds UTC since 1970.
        retried: True if the SDK tried again after this attempt.
    """
    error, headers = end.error, _headers(end.request_id, asked)
    message, code = error.message, error.code
    if error.status is not None and message.startswith(f"{asked.host} answered {error.status}"):
        waits = _waits(retried=retried, retry_after=end.retry_after)
        told = _error(_said(message, f"{asked.host} answered {error.status}", code), code, asked)
        return _whole(error.status, headers | waits, told)
    told_by_provider = message.startswith(_MID_STREAM)
    if asked.stream and (end.partial is not None or end.unfinished or end.cancelled):
        return _broken_stream(end, asked, headers, created)
    if told_by_provider:
        said = _said(message, _MID_STREAM, code)
        if asked.stream:
            event = _error_event(said, code, asked)
            return _stream(asked, headers, lambda: iter([event]), end_mark=False)
        if asked.api == "responses":
            failed = responses.failed(said or "", code, created=created, asked=asked.body)
            return _whole(200, headers, failed)
        return _whole(200, headers, _error(said, code, asked))
    if message.endswith(_NO_JSON):
        plain = headers | {"content-type": "text/plain"}
        return HttpAnswer(error.status or 200, plain, lambda: iter([b"(no JSON)"]))
    if error.type.rpartition(".")[2] == "InvokeError":  # the body held no answer
        return _whole(200, headers, {"usage": end.usage_raw})
    if retried:
        waits = _waits(retried=True, retry_after=None)
        return _whole(503, headers | waits, _error(message, None, asked))
    kind = error.type.rpartition(".")[2]
    return HttpAnswer(0, headers, lambda: iter(()), TransportFailure(kind, message))


def _waits(*, retried: bool, retry_after: int | None) -> dict[str, str]:
    waits = {"retry-after-ms": "1"}
    if retry_after is not None:
        waits["retry-after"] = f"{retry_after / _SECOND:g}"
    return waits | ({"x-should-retry": "true"} if retried else {})


def _headers(request_id: str | None, asked: WireRequest) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    if request_id is not None:
        names = ["x-amzn-requestid"] if asked.bedrock else ["x-request-id", "request-id"]
        headers |= dict.fromkeys(names, request_id)
    return headers


def _said(message: str, before: str, code: str | None) -> str | None:
    """Extract the provider's text from the message that `lllm.invokers.http` made of an error."""
    rest = message.removeprefix(before)
    if code is not None:
        rest = rest.removeprefix(f" ({code})")
    return rest.removeprefix(": ") if rest.startswith(": ") else None


def _error(said: str | None, code: str | None, asked: WireRequest) -> JSON:
    if asked.api == "generate_content":
        return generate_content.error(said, code)
    if asked.api == "messages":
        told = {"type": code or "api_error", "message": said or "Error"}
        return {"type": "error", "error": told}
    return {"error": {"message": said or "", "type": code, "param": None, "code": code}}


def _error_event(said: str | None, code: str | None, asked: WireRequest) -> JSON:
    if asked.api == "responses":
        told: JSON = {"type": "error", "code": code, "message": said or "", "param": None}
        return told | {"sequence_number": 0}
    return _error(said, code, asked)


def _broken_stream(
    end: LLMFailed, asked: WireRequest, headers: dict[str, str], created: int
) -> HttpAnswer:
    """Build the part of a stream that had arrived, and the error with which it broke off."""
    message, code = end.error.message, end.error.code
    answer = _partial(end, asked)
    told = None
    if message.startswith(_MID_STREAM):
        told = _error_event(_said(message, _MID_STREAM, code), code, asked)

    def came() -> Iterator[JSON]:
        yield from _events(answer, asked, created, finished=False)
        if told is not None:
            yield told

    broken = None
    if message.startswith(_CUT_OFF):
        kind, _, said = message.removeprefix(_CUT_OFF).partition(": ")
        broken = TransportFailure(kind, said)
    return _stream(asked, headers, came, end_mark=False, broken=broken)


def _partial(end: LLMFailed, asked: WireRequest) -> Answer:
    return Answer(
        content=end.partial or Content("assistant"),
        finish="other",
        model=end.model or end.asked,
        service_tier=end.service_tier,
        usage_raw=end.usage_raw if asked.api in ("messages", "generate_content") else None,
    )


def _body(answer: Answer, asked: WireRequest, created: int) -> JSON:
    if asked.api == "messages":
        return messages.body(answer)
    if asked.api == "generate_content":
        return generate_content.body(answer)
    if asked.api == "responses":
        built = responses.body(answer, created=created, asked=asked.body)
        return built | ({"object": "response.compaction"} if asked.operation == "compact" else {})
    if asked.api == "embeddings":
        return completions_and_embeddings.embeddings(answer)
    if asked.api == "completions":
        return completions_and_embeddings.completion(answer, created=created)
    return chat_completions.body(answer, created=created)


def _events(answer: Answer, asked: WireRequest, created: int, *, finished: bool) -> Iterator[JSON]:
    if asked.api == "messages":
        return messages.events(answer, finished=finished)
    if asked.api == "generate_content":
        return generate_content.events(answer, finished=finished)
    if asked.api == "responses":
        return responses.events(answer, created=created, asked=asked.body, finished=finished)
    if asked.api == "completions":
        return completions_and_embeddings.completion_events(
            answer, created=created, finished=finished
        )
    return chat_completions.events(answer, created=created, finished=finished)


def _whole(status: int, headers: dict[str, str], body: JSON) -> HttpAnswer:
    return HttpAnswer(status, headers, lambda: iter([_json(body)]))


def _stream(
    asked: WireRequest,
    headers: dict[str, str],
    events: Callable[[], Iterator[JSON]],
    *,
    end_mark: bool = True,
    broken: TransportFailure | None = None,
) -> HttpAnswer:
    """Build a streamed answer, as server-sent events or as the binary frames of Bedrock.

    The format is https://html.spec.whatwg.org/multipage/server-sent-events.html.
    """
    if asked.bedrock:

        def frames() -> Iterator[bytes]:
            return (frame_of(event, _json) for event in events())

        kind = {"content-type": amazon_frames.CONTENT_TYPE}
        return HttpAnswer(200, headers | kind, frames, broken)

    def pieces() -> Iterator[bytes]:
        named = True
        for event in events():
            kind = event.get("type")
            named = isinstance(kind, str)
            name = f"event: {kind}\n".encode() if named else b""
            yield b"%sdata: %s\n\n" % (name, _json(event))
        # Chat Completions, whose events have no name, end so; Google's have none either.
        if end_mark and not named and asked.api != "generate_content":
            yield b"data: [DONE]\n\n"

    return HttpAnswer(200, headers | {"content-type": "text/event-stream"}, pieces, broken)


def _json(body: JSON) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON has to escape
        return json.dumps(body).encode()
