"""Reads the log records of coding agents: Claude Code, Codex and Gemini CLI.

They export logs and not spans, one record for each prompt, answer and run of a tool, with the
tokens but without the texts of answers:
https://docs.claude.com/en/docs/claude-code/monitoring-usage,
https://github.com/openai/codex/blob/main/docs/config.md#otel,
https://github.com/google-gemini/gemini-cli/blob/main/docs/cli/telemetry.md
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from lllm.events.model import Usage
from lllm.importing.otlp.conventions.attribute_values import (
    Attributes,
    json_in,
    number_in,
    text_of,
)
from lllm.importing.otlp.signals import OtlpRecord, text_in
from lllm.importing.transcripts.session_events import CallSite
from lllm.pricing.amounts import nanos_of, number

Kind = Literal["prompt", "answer", "failure", "tool", "other"]
_PREFIXES = {"claude_code.": "claude-code", "codex.": "codex", "gemini_cli.": "gemini-cli"}
_SITES = {
    "claude-code": CallSite("anthropic", "messages"),
    "codex": CallSite("openai", "responses", "responses"),
    "gemini-cli": CallSite("google", "generate_content"),
}


class AgentConversation(NamedTuple):
    """The session of a coding agent that a record is of.

    Attributes:
        program: The agent, "claude-code".
        id: The id that it gave the session.
    """

    program: str
    id: str

    @property
    def site(self) -> CallSite:
        """The API that it calls."""
        return _SITES[self.program]


class LogEntry(msgspec.Struct, gc=False):
    """What a record says.

    Attributes:
        kind: A prompt, an answer, a failed call, a run of a tool, or something else.
        began: When it began, nanoseconds UTC.
        ended: When it ended, nanoseconds UTC.
        text: The prompt, the result or the error; "" if it was not exported.
        model: The model; "" if unknown.
        name: The name of the tool, or of the error.
        call_id: The id of the tool's call; "" if unknown.
        arguments: The arguments of the tool, as JSON; None if they were not exported.
        is_error: True if the tool failed.
        usage: The tokens of an answer; None if unknown.
        billed: The cost that the agent states, in nano-dollars; None if lllm can compute it.
        response_id: The id of the answer; None if unknown.
        request_id: The id of the request; None if unknown.
        status: The HTTP status of a failure; None if unknown.
    """

    kind: Kind
    began: int
    ended: int
    text: str = ""
    model: str = ""
    name: str = ""
    call_id: str = ""
    arguments: object = None
    is_error: bool = False
    usage: Usage | None = None
    billed: int | None = None
    response_id: str | None = None
    request_id: str | None = None
    status: int | None = None


def conversation_of(record: OtlpRecord) -> AgentConversation | None:
    """Find the session of a coding agent that a record is of; None for any other record."""
    name = _full_name(record)
    for prefix, program in _PREFIXES.items():
        if name.startswith(prefix):
            id_ = text_in(record.attributes, "session.id", "conversation.id")
            return AgentConversation(program, id_) if id_ else None
    return None


def _full_name(record: OtlpRecord) -> str:
    """The name of an event; Claude Code has it with its prefix in the body alone."""
    if "." not in record.name and isinstance(record.body, str) and "." in record.body:
        return record.body
    if record.scope == "com.anthropic.claude_code.events" and "." not in record.name:
        return f"claude_code.{record.name}"
    return record.name


def entry_of(record: OtlpRecord) -> LogEntry:
    """Read a record."""
    attributes = record.attributes
    prefix, _, name = _full_name(record).partition(".")
    took = number_in(attributes, "duration_ms") or 0
    entry = LogEntry("other", record.time - took * 10**6, record.time)
    entry.model = text_in(attributes, "model") or ""
    entry.response_id = text_in(attributes, "response.id", "response_id")
    entry.request_id = text_in(attributes, "request_id")
    if name == "user_prompt":
        entry.kind, entry.text = "prompt", text_of(attributes.get("prompt"))
    elif name in ("tool_result", "tool_call"):
        _tool(entry, attributes)
    elif name in ("api_error", "stream_error"):
        _failure(entry, attributes)
    elif prefix == "claude_code" and name == "api_request":
        entry.kind = "answer"
        entry.usage, entry.billed = _claude(attributes)
    elif prefix == "gemini_cli" and name in ("api_response", "api.response"):
        entry.kind, entry.usage = "answer", _gemini(attributes)
    elif prefix == "codex":
        _codex(entry, attributes, name)
    return entry


def _claude(attributes: Attributes) -> tuple[Usage | None, int | None]:
    """Read the tokens of Claude Code; the input stands beside what the cache read and wrote.

    It does not say how long the cache keeps what was written, on which the price depends. Where
    something was written, the cost that it states is taken.
    """
    sent, came_out = number_in(attributes, "input_tokens"), number_in(attributes, "output_tokens")
    if sent is None or came_out is None:
        return None, None
    read = number_in(attributes, "cache_read_tokens") or 0
    written = number_in(attributes, "cache_creation_tokens") or 0
    usage = Usage(
        input=sent + read + written, output=came_out, cache_read=read, cache_write_5m=written
    )
    dollars = number(json_in(attributes.get("cost_usd")))
    billed = None if dollars is None or not written else nanos_of(dollars)
    return (usage if usage.input or usage.output else None), billed


def _gemini(attributes: Attributes) -> Usage | None:
    """Read the tokens of Gemini CLI; thoughts stand beside the output."""
    sent = number_in(attributes, "input_token_count")
    came_out = number_in(attributes, "output_token_count")
    thoughts = number_in(attributes, "thoughts_token_count") or 0
    if sent is None or came_out is None or not (sent or came_out):
        return None
    return Usage(
        input=sent + (number_in(attributes, "tool_token_count") or 0),
        output=came_out + thoughts,
        cache_read=number_in(attributes, "cached_content_token_count") or 0,
        reasoning=thoughts,
    )


def _codex(entry: LogEntry, attributes: Attributes, name: str) -> None:
    """Read a record of Codex: the end of a stream has the tokens, a request only its failure."""
    kind = text_in(attributes, "event.kind") or ""
    status = number_in(attributes, "http.response.status_code")
    if kind == "response.completed":
        entry.kind = "answer"
        sent = number_in(attributes, "input_token_count")
        came_out = number_in(attributes, "output_token_count")
        if sent is not None and came_out is not None and (sent or came_out):
            entry.usage = Usage(
                input=sent,
                output=came_out,
                cache_read=number_in(attributes, "cached_token_count") or 0,
                cache_write_5m=number_in(attributes, "cache_write_token_count") or 0,
                reasoning=number_in(attributes, "reasoning_token_count") or 0,
            )
    elif kind == "response.failed" or (
        name == "api_request" and (text_in(attributes, "error.message") or (status or 0) >= 400)
    ):
        _failure(entry, attributes)


def _failure(entry: LogEntry, attributes: Attributes) -> None:
    entry.kind = "failure"
    entry.text = text_of(
        attributes.get("error.message", attributes.get("error", attributes.get("error_message")))
    )
    entry.name = text_in(attributes, "error.type", "error_type") or "APIError"
    entry.status = number_in(attributes, "http.response.status_code", "status_code")


def _tool(entry: LogEntry, attributes: Attributes) -> None:
    entry.kind = "tool"
    entry.name = text_in(attributes, "tool_name", "function_name") or "tool"
    entry.call_id = text_in(attributes, "call_id", "tool_use_id") or ""
    entry.arguments = json_in(
        attributes.get(
            "arguments", attributes.get("tool_parameters", attributes.get("function_args"))
        )
    )
    entry.is_error = attributes.get("success") in (False, "false")
    said = attributes.get("output", attributes.get("tool_output"))
    entry.text = text_of(attributes.get("error") if entry.is_error and said is None else said)
