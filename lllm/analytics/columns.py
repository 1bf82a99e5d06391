"""The tables for analysts: the name, type and meaning of every column.

docs/analytics.md has the same table by table, and a test compares them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Kind = Literal["text", "integer", "boolean", "time", "nanoseconds", "dollars"]
TableName = Literal["sessions", "calls", "attempts", "messages", "tools", "tags", "costs"]


class TableColumn(NamedTuple):
    """A column of a table.

    Attributes:
        name: The name.
        kind: "time" is a timestamp in UTC, "nanoseconds" a duration as an integer, "dollars" a
            decimal number with nine digits behind the point.
        nullable: True if a value may be missing.
        about: What it says.
    """

    name: str
    kind: Kind
    nullable: bool
    about: str


def _column(name: str, kind: Kind, about: str) -> TableColumn:
    return TableColumn(name.removesuffix("?"), kind, name.endswith("?"), about)


_WHERE = (
    _column("session_id", "text", "The session."),
    _column("root_id", "text", "The top-level session that it is part of."),
    _column("tactic_path", "text", "The stable path of the session's tactic."),
)
_ERROR = (
    _column("error_type?", "text", "The class of the exception."),
    _column("error_message?", "text", "The text of the exception."),
)
_SPAN = (
    _column("started", "time", "When it began."),
    _column("ended?", "time", "When it ended."),
    _column("elapsed_ns?", "nanoseconds", "How long it took, by a clock that is never set."),
)
_STATE = _column("state", "text", '"success", "failure", "running" or "interrupted".')
_VERSION = (
    _column("definition?", "text", "The id of the agent's definition: prompt, tools, parameters."),
    _column("prompt_version?", "integer", "Its number among the agent's definitions, from 1."),
)
_TOKENS = (
    _column("prompt_tokens?", "integer", "Input tokens, cached ones included."),
    _column("completion_tokens?", "integer", "Output tokens, reasoning included."),
)
_MORE_TOKENS = (
    _column("cached_prompt_tokens?", "integer", "Input tokens that were read from a cache."),
    _column("cache_write_tokens?", "integer", "Input tokens that were written to a cache."),
    _column("reasoning_tokens?", "integer", "Output tokens that are reasoning."),
    _column("audio_prompt_tokens?", "integer", "Input tokens that are audio."),
    _column("audio_completion_tokens?", "integer", "Output tokens that are audio."),
)
_SUMMED_TOKENS = tuple(column._replace(nullable=False) for column in _TOKENS)

_SESSIONS = (
    _column("session_id", "text", "The session."),
    _column("root_id", "text", "The top-level session that it is part of; its own id for that."),
    _column("parent_id?", "text", "The session that called it; NULL for a top-level session."),
    _column("tactic_path", "text", "The stable path of its tactic."),
    _column("tactic_name", "text", "The short name of its tactic."),
    _column("kind", "text", '"tactic", "session" (`store.session`) or "call" (a captured call).'),
    _column("partition", "text", 'The partition of the store; "" for the default one.'),
    _STATE,
    _column("task?", "text", "The first line of the task."),
    *_SPAN,
    _column("agent_calls", "integer", "Rows of `calls`, without those of child sessions."),
    _column("total_attempts", "integer", "Ended attempts, those of child sessions included."),
    _column("failed_attempts", "integer", "How many of these failed."),
    _column("unpriced_attempts", "integer", "How many of these have no known price."),
    *_SUMMED_TOKENS,
    _column("total_cost?", "dollars", "The cost, child sessions included. NULL if unknown."),
    _column("wasted_cost?", "dollars", "The part of it for answers that were not used."),
    *_ERROR,
    _column("replay_of?", "text", "The session that it replays."),
    _column("fork_of?", "text", "The session that it was forked from."),
    _column("erased?", "time", "When its content was erased."),
    _column("archived?", "time", "When its events left the store for an archive."),
)
_CALLS = (
    *_WHERE,
    _column("call", "integer", "The number of the call within the session."),
    _column("agent", "text", "The agent."),
    *_VERSION,
    _column("dialog", "integer", "The number of the dialog that the agent answers."),
    _STATE,
    *_SPAN,
    _column("attempts", "integer", "How often a model was asked."),
    _column("retries", "integer", "How many of these were retries."),
    _column("tool_calls", "integer", "How many tools were called."),
    _column("cancelled", "boolean", "True if it was cancelled from outside."),
    *_ERROR,
)
_ATTEMPTS = (
    *_WHERE,
    _column("request", "integer", "The number of the attempt within the session."),
    _column("call?", "integer", "The number of the agent's call; NULL outside of agents."),
    _column("agent", "text", 'The agent; "" outside of agents.'),
    _column("step", "integer", "The number of the model's turn within the call, from 1."),
    _column("attempt", "integer", "The number of the try within that turn, from 1."),
    *_VERSION,
    _column("operation", "text", '"chat", "responses", "embeddings", ...'),
    _column("provider", "text", "The provider that bills it."),
    _column("api", "text", "The API whose format the request has."),
    _column("host?", "text", "The host that it was sent to."),
    _column("region?", "text", "The provider's region."),
    _column("asked", "text", "The model that was requested."),
    _column("model?", "text", "The model that answered, by the provider's name for it."),
    _column("streamed", "boolean", "True if the answer was requested as a stream."),
    _column("service_tier?", "text", "The service tier of the answer."),
    _STATE,
    _column("cancelled", "boolean", "True if it was cancelled from outside."),
    _column("finish?", "text", 'Why the model stopped: "stop", "tool_calls", "length", ...'),
    _column("status?", "integer", "The HTTP status of a failed attempt."),
    _column("error_code?", "text", "The provider's error code."),
    *_ERROR,
    *_SPAN,
    _column("first_token_ns?", "nanoseconds", "Until the first piece of a streamed answer."),
    *_TOKENS,
    *_MORE_TOKENS,
    _column("price?", "text", '"priced", "provider", "free" or "unpriced".'),
    _column("price_reason?", "text", "Why it has no price, or what the price assumes."),
    _column("cost?", "dollars", "What it cost. NULL if that is unknown."),
    _column("wasted", "boolean", "True if its answer was not used, or did not arrive whole."),
    _column("response_id?", "text", "The provider's id of the answer."),
    _column("provider_request_id?", "text", "The provider's id of the HTTP request."),
)
_MESSAGES = (
    *_WHERE,
    _column("message", "integer", "The number of the message within the session."),
    _column("dialog?", "integer", "The number of the dialog; NULL outside of dialogs."),
    _column("role", "text", '"system", "user", "assistant" or "tool".'),
    _column("why", "text", '"answer", "tool", or why it was added: "system", "user", "retry", ...'),
    _column("time", "time", "When it was recorded."),
    _column("request?", "integer", "The attempt that it answers, or whose tool it answers."),
    _column("tool?", "integer", "The tool call whose result it is."),
    _column("prompt?", "text", "The path of the prompt that it was made from."),
    _column("text", "text", "The whole text."),
    _column("reasoning?", "text", "The model's reasoning, as far as the provider sent it."),
    _column("tool_calls", "integer", "How many tools it asks for."),
    _column("other_parts", "integer", "Parts that are neither: images, files, refusals, ..."),
)
_TOOLS = (
    *_WHERE,
    _column("tool", "integer", "The number of the tool call within the session."),
    _column("request", "integer", "The attempt whose answer asked for it."),
    _column("call?", "integer", "The number of the agent's call; NULL outside of agents."),
    _column("agent", "text", 'The agent; "" outside of agents.'),
    _column("name", "text", "The tool."),
    _column("call_id", "text", "The provider's id of the tool call."),
    _STATE,
    *_SPAN,
    _column("arguments?", "text", "The arguments as JSON; NULL if the model sent no valid JSON."),
    _column("result?", "text", "The text that the model got."),
    _column("repeats?", "integer", "The earlier tool call whose result was given again."),
    *_ERROR,
)
_TAGS = (
    _column("session_id", "text", "The session."),
    _column("root_id", "text", "The top-level session that it is part of."),
    _column("name", "text", "The name of the tag."),
    _column("value", "text", "Its value."),
    _column("inherited", "boolean", "True if only the top-level session has it."),
)
_COSTS = (
    _column("session_id", "text", "The top-level session, or with --tactic the selected one."),
    _column("quarter_hour", "time", "Begin of the quarter of an hour in which attempts ended."),
    _column("tactic_path", "text", "The tactic that called the model, also of a child session."),
    _column("agent", "text", 'The agent; "" outside of agents.'),
    _column("asked", "text", "The model that was requested."),
    _column("attempts", "integer", "Ended attempts."),
    _column("failed_attempts", "integer", "How many of these failed."),
    _column("unpriced_attempts", "integer", "How many of these have no known price."),
    *_SUMMED_TOKENS,
    *(column._replace(nullable=False) for column in _MORE_TOKENS),
    _column("cost?", "dollars", "What they cost. NULL if that is unknown."),
    _column("wasted_cost?", "dollars", "The part of it for answers that were not used."),
    _column("tool_cost?", "dollars", "The part of it for tools that the provider ran."),
)

TABLES: dict[TableName, tuple[TableColumn, ...]] = {
    "sessions": _SESSIONS,
    "calls": _CALLS,
    "attempts": _ATTEMPTS,
    "messages": _MESSAGES,
    "tools": _TOOLS,
    "tags": _TAGS,
    "costs": _COSTS,
}
FROM_EVENTS: frozenset[TableName] = frozenset(("calls", "attempts", "messages", "tools"))
"""The tables that are read from the log; the others are read from the store's rows."""


def table_named(name: str) -> TableName:
    """Check the name of a table.

    Args:
        name: The name, as the user wrote it.

    Returns:
        The name.

    Raises:
        ValueError: There is no such table.
    """
    for known in get_args(TableName):
        if known == name:
            return known  # type: ignore[no-any-return]
    raise ValueError(f"table is one of {', '.join(TABLES)}; not {name!r}")
