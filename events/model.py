"""Every event there is: one frozen Struct each, whose docstring says when it is written.

A payload alone, with the events before it in its stream, says everything that a replay, an
auditor, a bill or a tracing span would ask. Ordinals (message, request, tool, call, dialog) count
from 1 within the session. Durations are nanoseconds of a monotonic clock; money is an integer of
nano-dollars. A field of type `object` holds JSON as it was given.

A text is written once, where it enters: `message.added`, `llm.responded`, `tool.returned` and
`tool.failed` are messages themselves. Since a dialog only grows, later events say what was sent by
the dialog and the ordinal of its last message, so a conversation of n turns costs O(n).

Changing an event means a new `version` and an upcaster in `codec`; a field that was once written
is never given another meaning.

gc=False: a payload is a tree of plain values, so the garbage collector has nothing to find in it,
and does not walk the thousands of payloads that a projection or a long session holds.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

# What SQLite holds, and what no amount of one call comes near: so that sums of them stay exact.
Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Amount = Annotated[int, msgspec.Meta(ge=-(10**15), le=10**15)]

# The parts of a Price that are fees of tools that the provider ran, and no tokens.
TOOLS = ("web_search", "file_search", "social_search", "code_execution")

State = Literal["success", "failure", "running", "interrupted"]


class Part(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One piece of a message. A large binary is a blob beside the log, named by its digest."""

    kind: str  # text | image | audio | file | reasoning | refusal
    text: str | None = None
    data: object = None
    blob: str | None = None
    mime: str | None = None


class ToolCall(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A model's wish to run a tool; `arguments` is the text as sent, parsed or not."""

    id: str
    name: str
    arguments: str = ""


class Content(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one message says. `call_id` names the tool call that a message of role tool answers."""

    role: str  # system | user | assistant | tool
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str | None = None

    @property
    def text(self) -> str:
        """The text parts, joined; images, reasoning and refusals are not text."""
        return "".join(part.text or "" for part in self.parts if part.kind == "text")

    @classmethod
    def of(cls, role: str, text: str) -> Content:
        """The plain case: one part of text, or none for an empty text."""
        return cls(role, (Part("text", text),) if text else ())


class Error(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An exception, as far as it can be written down."""

    type: str
    message: str
    traceback: str | None = None
    code: str | None = None
    status: Number | None = None


class Usage(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Tokens of one attempt. `input` counts every token that went in, cached ones and cache writes
    included; `output` every token that came out, reasoning included."""

    input: Amount = 0
    output: Amount = 0
    cache_read: Amount = 0
    cache_write_5m: Amount = 0
    cache_write_1h: Amount = 0
    reasoning: Amount = 0
    audio_in: Amount = 0
    audio_out: Amount = 0


class Price(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one attempt cost, and who says so.

    nanos: the sum of `parts`; None where the price is unknown, which is never zero.
    parts: nano-dollars of each component (input, cache_read, cache_write, output, audio_in,
        audio_out, image_in, image_out, video_in, video_out, citation, request, and the TOOLS),
        each rounded half-even once.
    rates: US dollars for one token of each component, or for one use of a tool, as decimal text.
    effective: the date from which the rates hold, YYYY-MM-DD, where the source says one.
    reason: why there is no price, why it is nothing, or what its rates take for granted.
    """

    status: Literal["priced", "provider", "free", "unpriced"]
    nanos: Amount | None = None
    parts: dict[str, Amount] = {}
    rates: dict[str, str] = {}
    source: str | None = None
    source_version: str | None = None
    effective: str | None = None
    reason: str | None = None


class CostCell(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A sum of attempts of one day (UTC), model and agent; all that erasure leaves of a bill.

    nanos: what they cost, of which tool_nanos are fees of tools that the provider ran.
    """

    day: str
    model: str
    agent: str
    calls: Number
    unpriced: Number
    nanos: Number
    usage: Usage
    tool_nanos: Number = 0


class Ancestor(msgspec.Struct, frozen=True, gc=False):
    """A session above this one."""

    session_id: str
    tactic_path: str


class Origin(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The session that this one was made from."""

    session: str
    mode: Literal["replay", "fork", "import"]
    at: Number | None = None


class Producer(msgspec.Struct, frozen=True, gc=False):
    """The versions that wrote a session."""

    lllm: str
    python: str


class ToolDefinition(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A tool as the model is told of it; `schema` is the JSON schema of its arguments."""

    name: str
    description: str
    schema: object
    strict: bool | None = None


class Limits(msgspec.Struct, frozen=True, gc=False):
    """How often one respond() may go round for each reason."""

    max_exception_retry: Number
    max_llm_recall: Number
    max_interrupt_steps: Number


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What all events have in common: a type that is never a Python path, and a schema version."""

    type: ClassVar[str]
    version: ClassVar[int] = 1


class SessionStarted(Event, frozen=True, kw_only=True):
    """A tactic call begins. First in its session's stream.

    options: the keyword arguments of the call beside its task.
    ancestors: the sessions above, root first. ordinal: it is the nth child of its parent there.
    owner: the lock that lives as long as the writing process; `host` is where it can be tried.
    budget: nano-dollars that it may spend on models, None where it has no limit of its own.
    salt: 32 random bytes that the commitments of the whole stream are made with.
    """

    type: ClassVar[str] = "session.started"
    tactic_path: str
    name: str
    kind: str = "tactic"  # tactic | session
    partition: str = ""
    task: object = None
    options: object = None
    tags: dict[str, str] = {}
    metadata: object = None
    ancestors: tuple[Ancestor, ...] = ()
    parent_tool: Number | None = None
    ordinal: Number | None = None
    origin: Origin | None = None
    owner: str = ""
    host: str = ""
    pid: Number = 0
    producer: Producer | None = None
    traceparent: str | None = None
    budget: Number | None = None
    salt: bytes


class SessionSucceeded(Event, frozen=True, kw_only=True):
    """A tactic call delivers. Last in its session's stream."""

    type: ClassVar[str] = "session.succeeded"
    delivery: object = None
    elapsed: Number


class SessionFailed(Event, frozen=True, kw_only=True):
    """A tactic call raises, is cancelled or interrupted by Ctrl-C. Last in its session's stream.

    delivery: what it had delivered by then.
    """

    type: ClassVar[str] = "session.failed"
    error: Error
    cancelled: bool = False
    elapsed: Number
    delivery: object = None


class SessionInterrupted(Event, frozen=True, kw_only=True):
    """A session's process was found dead. Not terminal: a later event of the owner wins.

    about: the session. owner: the lock that was found free. last_seq: the session's last event
    when it was found.
    """

    type: ClassVar[str] = "session.interrupted"
    about: str
    owner: str
    last_seq: Number
    salt: bytes


class SessionTagged(Event, frozen=True, kw_only=True):
    """Tags of the session `about` are added, changed or removed after it began."""

    type: ClassVar[str] = "session.tagged"
    about: str
    set: dict[str, str] = {}
    removed: tuple[str, ...] = ()
    by: str | None = None
    salt: bytes


class SessionErased(Event, frozen=True, kw_only=True):
    """A session's payloads were erased on purpose; what stays is enough for its row and its bill.

    events: how many were erased. started, ended: nanoseconds UTC.
    """

    type: ClassVar[str] = "session.erased"
    about: str
    by: str
    reason: str
    events: Number
    tactic_path: str
    state: State
    started: Number
    ended: Number | None = None
    cost: tuple[CostCell, ...] = ()
    salt: bytes


class AgentDefined(Event, frozen=True, kw_only=True):
    """A definition that this log has not seen. Its stream is named by the digest of its content,
    so it is written once for each log, by whoever is first."""

    type: ClassVar[str] = "agent.defined"
    name: str
    system: str
    prompts: tuple[str, ...] = ()
    provider: str | None = None
    model: str
    params: object = None
    tools: tuple[ToolDefinition, ...] = ()
    output_schema: object = None


class AgentStarted(Event, frozen=True, kw_only=True):
    """`agent.respond()` is called. definition: the stream of its AgentDefined."""

    type: ClassVar[str] = "agent.started"
    call: Number
    agent: str
    definition: str
    dialog: Number
    ordinal: Number  # the nth call of this agent in the session
    limits: Limits


class AgentSucceeded(Event, frozen=True, kw_only=True):
    """`agent.respond()` delivers. answer: the ordinal of the message that it delivers."""

    type: ClassVar[str] = "agent.succeeded"
    call: Number
    answer: Number
    parsed: object = None
    elapsed: Number


class AgentFailed(Event, frozen=True, kw_only=True):
    """`agent.respond()` raises."""

    type: ClassVar[str] = "agent.failed"
    call: Number
    error: Error
    cancelled: bool = False
    elapsed: Number


class DialogOpened(Event, frozen=True, kw_only=True):
    """A dialog begins: empty, or as the messages of `parent` up to the ordinal `upto`."""

    type: ClassVar[str] = "dialog.opened"
    dialog: Number
    agent: str
    alias: str
    parent: Number | None = None
    upto: Number | None = None


class MessageAdded(Event, frozen=True, kw_only=True):
    """A message enters a dialog that no other event carries."""

    type: ClassVar[str] = "message.added"
    message: Number
    dialog: Number
    content: Content
    why: str  # system | user | retry | limit
    prompt: str | None = None
    prompt_args: object = None


class LLMRequested(Event, frozen=True, kw_only=True):
    """One attempt to call a model begins.

    step: counts the model's turns within one agent call; attempt: the tries of that turn.
    dialog, upto: what is sent are the messages of this dialog up to this ordinal. digest:
    HMAC-SHA-256 of all that is asked, under the session's salt, as hex.
    definition: says which tools and parameters go with it; `params` overrides its own. region: the
    provider's, where the path of the address names it. service_tier: that is asked for, None for
    the plain one. media: the kinds (audio, image, video) that are sent, or may be.
    """

    type: ClassVar[str] = "llm.requested"
    request: Number
    call: Number | None = None
    step: Number
    attempt: Number
    operation: str = "chat"  # chat | responses | embeddings
    provider: str
    api: str
    host: str | None = None
    port: Number | None = None
    region: str | None = None
    model: str
    dialog: Number | None = None
    upto: Number | None = None
    definition: str | None = None
    params: object = None
    tool_choice: str | None = None
    stream: bool = False
    service_tier: str | None = None
    media: tuple[str, ...] = ()
    digest: str


class LLMResponded(Event, frozen=True, kw_only=True):
    """A model answered.

    asked, agent: the model that was asked and the agent that did, so that a bill needs no other
    event; `model` is the one that answered, by the provider's name for it. usage_raw: the usage as
    the provider sent it. first_token: nanoseconds from the request to the first of a stream.
    """

    type: ClassVar[str] = "llm.responded"
    request: Number
    message: Number
    content: Content
    finish: str  # stop | tool_calls | length | content_filter | other
    finish_raw: str | None = None
    agent: str = ""
    asked: str
    model: str
    response_id: str | None = None
    request_id: str | None = None
    service_tier: str | None = None
    fingerprint: str | None = None
    usage_raw: object = None
    usage: Usage | None = None
    price: Price
    elapsed: Number
    first_token: Number | None = None


class LLMFailed(Event, frozen=True, kw_only=True):
    """One attempt to call a model failed. partial: what had come of its answer. model,
    service_tier: who answered how, where anything of an answer said it. unfinished: whether it was
    cut off, so that `usage` is not the last word."""

    type: ClassVar[str] = "llm.failed"
    request: Number
    agent: str = ""
    asked: str
    error: Error
    cancelled: bool = False
    request_id: str | None = None
    retry_after: Number | None = None
    partial: Content | None = None
    model: str | None = None
    service_tier: str | None = None
    unfinished: bool = False
    usage_raw: object = None
    usage: Usage | None = None
    price: Price | None = None
    elapsed: Number


class LLMRefused(Event, frozen=True, kw_only=True):
    """An answer was thrown away: it did not parse, or asked for tools where none were left. What it
    cost stays in the bill, and counts as wasted. asked, agent: as its LLMResponded says."""

    type: ClassVar[str] = "llm.refused"
    request: Number
    agent: str = ""
    asked: str
    cost: Amount | None = None  # nano-dollars, None where nobody knows
    reason: str


class ToolCalled(Event, frozen=True, kw_only=True):
    """A tool interrupt: the answer to `request` asked for a tool, which is about to run.

    arguments: as parsed; None where the text that the model sent is not valid JSON.
    """

    type: ClassVar[str] = "tool.called"
    tool: Number
    request: Number
    call_id: str
    name: str
    arguments: object = None


class ToolReturned(Event, frozen=True, kw_only=True):
    """A tool returned; `content` is the message that the model gets, `value` what was returned,
    where that is more than its text. repeats: the earlier tool ordinal whose result stands."""

    type: ClassVar[str] = "tool.returned"
    tool: Number
    message: Number
    content: Content
    value: object = None
    repeats: Number | None = None
    elapsed: Number


class ToolFailed(Event, frozen=True, kw_only=True):
    """A tool raised, or its name or arguments were wrong; `content` is what the model is told."""

    type: ClassVar[str] = "tool.failed"
    tool: Number
    message: Number
    content: Content
    error: Error
    elapsed: Number


class RetryScheduled(Event, frozen=True, kw_only=True):
    """The loop goes round again: the answer did not parse or validate (kind exception), or the API
    failed (kind llm_recall). attempt: this is the kth of `limit`. wait: nanoseconds before it."""

    type: ClassVar[str] = "retry.scheduled"
    call: Number
    request: Number
    kind: Literal["exception", "llm_recall"]
    attempt: Number
    limit: Number
    wait: Number = 0
    reason: str


class ErrorRecorded(Event, frozen=True, kw_only=True):
    """A failure outside any session, given to `save_error`."""

    type: ClassVar[str] = "error.recorded"
    error: Error
    context: object = None
    partition: str = ""
    salt: bytes


class LogGap(Event, frozen=True, kw_only=True):
    """Events could not be written and were counted instead. Times are nanoseconds UTC."""

    type: ClassVar[str] = "log.gap"
    lost: Number
    first_time: Number
    last_time: Number
    reason: str
    salt: bytes


class Unknown(Event, frozen=True, kw_only=True):
    """A type or version that this library doesn't know, or a payload that doesn't fit its type.
    Never written; kept, counted and shown. raw: the payload as JSON values, None where it is no
    JSON. reason: why it could not be read as what it says it is."""

    type: ClassVar[str] = "unknown"
    was: str
    was_version: Number
    raw: object = None
    reason: str = ""


EVENTS: dict[str, type[Event]] = {
    kind.type: kind
    for kind in (
        SessionStarted, SessionSucceeded, SessionFailed, SessionInterrupted, SessionTagged,
        SessionErased, AgentDefined, AgentStarted, AgentSucceeded, AgentFailed, DialogOpened,
        MessageAdded, LLMRequested, LLMResponded, LLMFailed, LLMRefused, ToolCalled, ToolReturned,
        ToolFailed, RetryScheduled, ErrorRecorded, LogGap,
    )
}  # fmt: skip
